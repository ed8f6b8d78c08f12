# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Files that commands open: fault queues, event queues, dma-bufs. Reading never waits; waiting is poll's business."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.capi_kernel cimport iof_kernel_file
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.machines cimport MachineHandle

cdef extern from "errno.h" nogil:
    enum:
        EINVAL

cdef enum:
    HEADER = 8
    EVENT_MAX = 65536  # no event is longer


cdef class QueueHandle(Handle):
    """An open file that a command made. Closing it closes its number."""

    def open_number(self, ContextHandle context not None, int number, str name):
        """Take over the file with this number, which a command of the context opened: 0 or a negative errno."""
        cdef int err
        context.check()
        if self.h != NULL:
            raise ValueError(f"{self.name} is open already")
        if context.kernel:
            context.enter()
            err = iof_kernel_file(context.h, number, &self.h)
            context.leave()
            return self.opened(err, name)
        context.machine.enter()
        err = iof_file_handle(context.machine.m, number, &self.h)
        context.machine.leave()
        self.machine = context.machine
        return self.opened_engine(err, name)

    def open_dmabuf(self, MachineHandle machine not None, uint64_t size, str name):
        """Make a dma-buf and take it over: 0 or a negative errno."""
        cdef int err
        if self.h != NULL:
            raise ValueError(f"{self.name} is open already")
        machine.enter()
        err = iof_dmabuf_create(machine.m, size, &self.h)
        machine.leave()
        self.machine = machine
        return self.opened_engine(err, name)

    def poll_fd(self):
        cdef int fd
        self.enter()
        fd = iof_poll_fd(self.h)
        self.leave()
        return fd

    def read_into(self, buffer):
        """Bytes that were read, or a negative errno."""
        cdef Py_buffer view
        cdef int64_t n
        self.check()
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            self.enter()
            with nogil:
                n = iof_read(self.h, view.buf, view.len)
            self.leave()
        finally:
            PyBuffer_Release(&view)
        return n

    def write(self, data):
        """Bytes that were written, or a negative errno."""
        cdef Py_buffer view
        cdef int64_t n
        self.check()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.enter()
            with nogil:
                n = iof_write(self.h, view.buf, view.len)
            self.leave()
        finally:
            PyBuffer_Release(&view)
        return n

    def read_events(self, Py_ssize_t most, size_t size, bint sized):
        """Up to `most` events: [(flags, sequence, data), …], or a negative errno if the first cannot be read.

        The stream does not say how long an event's data is. Unless all have `size` bytes, the room is raised byte by
        byte until the next one fits: what does not fit stays.
        """
        cdef char *buffer = <char *>malloc(HEADER + EVENT_MAX)
        cdef iof_vevent_header *header = <iof_vevent_header *>buffer
        cdef int64_t n = 0
        cdef list found = []
        if buffer == NULL:
            raise MemoryError
        try:
            while len(found) < most:
                self.enter()
                with nogil:
                    n = next_event(self.h, buffer, size, sized)
                self.leave()
                if n <= 0:
                    break
                data = PyBytes_FromStringAndSize(buffer + HEADER, n - HEADER)
                found.append((header.flags, header.sequence, data))
        finally:
            free(buffer)
        if n < 0 and not found:
            return n
        return found

    def revoke(self, bint on):
        cdef int err
        self.enter()
        with nogil:
            err = iof_dmabuf_revoke(self.h, on)
        self.leave()
        return err

    def imports(self):
        self.enter()
        n = iof_dmabuf_import_count(self.h)
        self.leave()
        return n


cdef int64_t next_event(iof_handle *h, char *buffer, size_t size, bint sized) noexcept nogil:
    """One event, or a lost-marker, which has no data: the smaller room is tried first, so that two are never read."""
    cdef size_t room = HEADER
    cdef int64_t n = iof_read(h, buffer, room)
    if n == -EINVAL and sized:
        n = iof_read(h, buffer, room + size)
    while n == -EINVAL and room < <size_t>(HEADER + EVENT_MAX):
        room += 1
        n = iof_read(h, buffer, room)
    return n
