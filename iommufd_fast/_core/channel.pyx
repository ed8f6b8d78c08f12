# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""Open files: what a C handle needs before Python may hold it.

Three things can happen to a C handle that Python must survive:

- *fork*: the child has a copy of the engine that nobody may touch (another thread may have held its locks). Every
handle
  remembers how many forks this process had behind it when it was made; the count is raised in the child by
  pthread_atfork, so checking costs a comparison and no system call.
- *close while another thread is inside a call*: each call that gives up the GIL is counted in `users`; close()
waits for
  the last of them, so that after it nothing of ours runs on the handle.
- *use after close*: `h` is NULL then, and check() says so.

The GIL guards all fields here.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport UINT32_MAX, uint32_t
from libc.string cimport memcpy

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.machines cimport MachineHandle, fork_count

cdef extern from "unistd.h" nogil:
    int close_fd "close"(int fd)

import threading

from iommufd_fast._core.machines import as_u64
from iommufd_fast.errors import forked


cdef class Handle:
    """An open file of a provider: a context or a device. Subclasses give it commands; `open_on` opens it."""

    def __cinit__(self):
        self.born = fork_count()
        self.fd = -1

    def __dealloc__(self):
        if self.h != NULL and self.born == fork_count():
            iof_close(self.h)
        elif self.h != NULL:
            drop_inherited(self)
        self.h = NULL

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self.name}: it belongs to its process; open one there")

    def open_on(self, MachineHandle machine not None, device, str name):
        """Open the iommufd (device None) or a device's file on a machine: 0 or a negative errno."""
        cdef int err
        cdef uint32_t index = 0 if device is None else <uint32_t>as_u64(device, "device", UINT32_MAX - 1)
        machine.check()
        if self.h != NULL:
            raise ValueError(f"{self.name} is open already")
        self.machine = machine
        err = iof_engine_open(machine.m, &self.h) if device is None else iof_engine_open_device(
            machine.m, index, &self.h)
        if err < 0:
            self.h = NULL
            return err
        self.name = name if device is not None else f"{name} {iof_fileno(self.h)}"
        return 0

    cdef int opened(self, int err, str name) except? -1:
        """After opening a file of the kernel into `h`: its descriptor is the process's, and a forked child has a copy."""
        if err < 0:
            self.h = NULL
            return err
        self.kernel, self.fd = True, iof_fileno(self.h)
        self.name = f"{name}{self.fd}" if name.endswith(" ") else name
        return 0

    cdef int check(self) except -1:
        if self.born != fork_count():
            forked(self.name)
        if self.h == NULL or self.drained is not None:
            raise ValueError(f"{self.name} is closed")
        return 0

    cdef int enter(self) except -1:
        """Before the GIL is released around a call on `h`."""
        self.check()
        self.users += 1
        return 0

    cdef int leave(self) except -1:
        self.users -= 1
        if self.users == 0 and self.drained is not None:
            self.drained.set()
        return 0

    @property
    def closed(self):
        return self.h == NULL or self.drained is not None

    @property
    def forked(self):
        """Whether this handle came here by fork()."""
        return self.born != fork_count()

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    def fileno(self):
        self.check()
        return iof_fileno(self.h)

    def close(self):
        """Close once calls of other threads are done. Idempotent; in a forked child the engine is not touched."""
        cdef iof_handle *h
        if self.h == NULL or self.drained is not None:
            return
        if self.born != fork_count():
            drop_inherited(self)
            self.h = NULL
            return
        if self.users:
            self.drained = threading.Event()
            self.drained.wait()
        h, self.h = self.h, NULL
        with nogil:
            iof_close(h)

    def ioctl(self, cmd, buffer=None):
        """The raw door: a command number and a writable buffer that holds its struct.

        The size that the struct's first word claims must lie inside the buffer: the engine would read on beyond it.
        """
        cdef unsigned long number = u64(cmd, "cmd")
        cdef Py_buffer view
        cdef uint32_t claimed = 0
        self.check()
        if buffer is None:
            return self.raw(number, NULL)
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if view.len < 4:
                raise ValueError(f"the buffer has {view.len} bytes; a command's struct begins with its 32-bit size")
            memcpy(&claimed, view.buf, 4)
            if claimed > <size_t>view.len:
                raise ValueError(f"the struct says {claimed} bytes, but the buffer has {view.len}")
            return self.raw(number, view.buf)
        finally:
            PyBuffer_Release(&view)

    cdef int raw(self, unsigned long number, void *arg) except? -1:
        cdef int result
        self.enter()
        with nogil:
            result = iof_ioctl(self.h, number, arg)
        self.leave()
        return result

    cdef int submit(self, unsigned long number, void *arg) except? -1:
        """As raw(), and the provider may choose the IOVA that a command leaves open."""
        cdef int result
        self.enter()
        with nogil:
            result = iof_submit(self.h, number, arg)
        self.leave()
        return result


cdef void drop_inherited(Handle self) noexcept:
    """In a forked child: its copy of a kernel file's descriptor, without which the parent's close would close nothing."""
    if self.fd >= 0:
        close_fd(self.fd)
    self.fd = -1
