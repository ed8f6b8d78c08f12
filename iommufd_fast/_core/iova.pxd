# SPDX-License-Identifier: Apache-2.0
"""IovaSpace for cimport; the C functions below it come along."""
from iommufd_fast._core.capi_iova cimport *
from iommufd_fast._core.iovacore cimport SpaceCore


cdef class IovaSpace(SpaceCore):
    pass
