# SPDX-License-Identifier: Apache-2.0
"""Address spaces for cimport."""
from iommufd_fast._core.ledger cimport Home

cdef class IoasCore(Home):
    cdef bint probing, pinning
