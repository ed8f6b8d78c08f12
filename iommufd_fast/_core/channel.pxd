# SPDX-License-Identifier: Apache-2.0
"""Open files as an extension type: lifetime and the raw door. Commands are built on top (commands.pxd)."""
from iommufd_fast._core.capi cimport iof_handle
from iommufd_fast._core.machines cimport MachineHandle, forks
from iommufd_fast._core.threads cimport Gate, quick_in, quick_out

cdef class Handle:
    cdef iof_handle *h
    cdef unsigned long born
    cdef Gate gate
    cdef readonly str name
    cdef readonly MachineHandle machine
    cdef readonly bint kernel
    cdef int fd
    cdef int check(self) except -1
    cdef int refuse(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int raw(self, unsigned long number, void *arg) except? -1
    cdef int submit(self, unsigned long number, void *arg) except? -1
    cdef int again(self, unsigned long number, void *arg, bint submit) noexcept
    cdef int opened(self, int err, str name) except? -1
    cdef int opened_engine(self, int err, str name) except? -1


# Before and after calls on `h` that keep the GIL.

cdef inline int begin_on(Handle handle) except -1:
    if handle.born != forks or not quick_in(&handle.gate):
        handle.refuse()
    return 0


cdef inline void end_on(Handle handle) noexcept:
    quick_out(&handle.gate)
