# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Open files: what a C handle needs before Python may hold it.

Three things can happen to a C handle that Python must survive:

- *fork*: the child has a copy of the engine that nobody may touch (another thread may have held its locks). Every
handle
  remembers how many forks this process had behind it when it was made; the count is raised in the child by
  pthread_atfork, so checking costs a comparison and no system call.
- *close while another thread is inside a call*: each call passes the handle's gate; close() shuts it and waits for the
  last call, so that after it nothing of ours runs on the handle.
- *use after close*: the gate is shut then, and check() says so.

`h` and the names are written before the gate is opened, and `h` after it was shut and empty.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport UINT32_MAX, uint32_t
from libc.string cimport memcpy

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.machines cimport MachineHandle, forks
from iommufd_fast._core.threads cimport (
    is_shut, open_gate, pass_in, pass_in_anyway, pass_out, shut_gate, wait_until_empty,
)

cdef extern from "unistd.h" nogil:
    int close_fd "close"(int fd)

from iommufd_fast._core.machines import as_u64
from iommufd_fast.errors import forked


cdef class Handle:
    """An open file of a provider: a context or a device. Subclasses give it commands; `open_on` opens it."""

    def __cinit__(self):
        self.born = forks
        self.fd = -1
        shut_gate(&self.gate)

    def __dealloc__(self):
        if self.h != NULL and self.born == forks:
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
        if self.h != NULL:
            raise ValueError(f"{self.name} is open already")
        machine.enter()
        err = iof_engine_open(machine.m, &self.h) if device is None else iof_engine_open_device(
            machine.m, index, &self.h)
        machine.leave()
        self.machine = machine
        return self.opened_engine(err, name if device is not None else f"{name} {iof_fileno(self.h) if err >= 0 else 0}")

    cdef int opened_engine(self, int err, str name) except? -1:
        """After opening a file of the engine into `h`."""
        if err < 0:
            self.h = NULL
            return err
        self.name = name
        open_gate(&self.gate)
        return 0

    cdef int opened(self, int err, str name) except? -1:
        """After opening a file of the kernel into `h`: its descriptor is the process's, and a forked child has a copy."""
        if err < 0:
            self.h = NULL
            return err
        self.kernel, self.fd = True, iof_fileno(self.h)
        self.name = f"{name}{self.fd}" if name.endswith(" ") else name
        open_gate(&self.gate)
        return 0

    cdef int check(self) except -1:
        if self.born != forks or is_shut(&self.gate):
            self.refuse()
        return 0

    cdef int refuse(self) except -1:
        """Raise what a call on a handle that cannot be used raises."""
        if self.born != forks:
            forked(self.name)
        raise ValueError(f"{self.name} is closed")

    cdef int enter(self) except -1:
        """Before the GIL is released around a call on `h`."""
        if self.born != forks or not pass_in(&self.gate):
            self.refuse()
        return 0

    cdef int leave(self) except -1:
        pass_out(&self.gate)
        return 0

    @property
    def closed(self):
        return is_shut(&self.gate)

    @property
    def forked(self):
        """Whether this handle came here by fork()."""
        return self.born != forks

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    def fileno(self):
        cdef int number
        self.enter()
        number = iof_fileno(self.h)
        self.leave()
        return number

    def close(self):
        """Close once calls of other threads are done. Idempotent; in a forked child the engine is not touched.

        Returns
        -------
        bool
            Whether it was this call that closed it; False may mean that another thread is about to.
        """
        cdef iof_handle *h
        if not shut_gate(&self.gate):
            return False
        if self.born != forks:
            drop_inherited(self)
            self.h = NULL
            return True
        wait_until_empty(&self.gate)
        h, self.h = self.h, NULL
        with nogil:
            iof_close(h)
        return True

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

    cdef int again(self, unsigned long number, void *arg, bint submit) noexcept:
        """raw() or submit() for who is inside already, by begin_on()."""
        cdef int result
        pass_in_anyway(&self.gate)  # begin_on() need not have counted
        with nogil:
            result = iof_submit(self.h, number, arg) if submit else iof_ioctl(self.h, number, arg)
        pass_out(&self.gate)
        return result


cdef void drop_inherited(Handle self) noexcept:
    """In a forked child: its copy of a kernel file's descriptor, without which the parent's close would close nothing."""
    if self.fd >= 0:
        close_fd(self.fd)
    self.fd = -1
