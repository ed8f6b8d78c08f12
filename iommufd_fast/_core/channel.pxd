# SPDX-License-Identifier: Apache-2.0
"""Open files as an extension type: lifetime and the raw door. Commands are built on top (commands.pxd)."""
from iommufd_fast._core.capi cimport iof_handle
from iommufd_fast._core.machines cimport MachineHandle

cdef class Handle:
    cdef iof_handle *h
    cdef unsigned long born
    cdef Py_ssize_t users
    cdef object drained
    cdef readonly str name
    cdef readonly MachineHandle machine
    cdef readonly bint kernel
    cdef int fd
    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int raw(self, unsigned long number, void *arg) except? -1
    cdef int submit(self, unsigned long number, void *arg) except? -1
    cdef int opened(self, int err, str name) except? -1
