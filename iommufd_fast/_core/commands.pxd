# SPDX-License-Identifier: Apache-2.0
"""Contexts and devices as open files with typed commands."""
from iommufd_fast._core.channel cimport Handle

cdef class ContextHandle(Handle):
    pass

cdef class DeviceHandle(Handle):
    pass
