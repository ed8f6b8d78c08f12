# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Accesses: using an IOAS without an IOMMU. `iommufd_fast.access.Access` is the class with all the rest.

The engine calls back when memory that is pinned shall be unmapped, in the thread that unmaps and with none of its locks
held. The call-back here takes the GIL and calls `self.unmapping(iova, length)`; whatever that raises is reported as an
exception that nobody can catch, since the unmapping thread may be any thread, also one of C.

Calls pass the access's gate; closing shuts it and waits for them, as Handle.close() does. Unpinning goes on until
then. From the time when the engine destroys the access only a call-back, which destroying waits for, may unpin.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport (
    Gate, is_shut, open_gate, pass_in, pass_out, shut_gate, wait_until_empty,
)

from iommufd_fast.errors import forked


cdef extern from *:
    """
    static __thread void *ioft_called_back; /* the access whose call-back this thread is in */
    """
    void *called_back "ioft_called_back"


cdef void call_back(void *data, uint64_t iova, uint64_t length) noexcept nogil:
    global called_back
    cdef void *before = called_back
    called_back = data
    with gil:
        (<AccessCore>data).unmapping(iova, length)
    called_back = before


cdef class AccessCore:
    """An access of an open context."""

    cdef iof_access *a
    cdef object __weakref__
    cdef Gate gate
    cdef Gate unpinning
    cdef readonly ContextHandle handle
    cdef readonly uint32_t id
    cdef readonly bint pins

    def __cinit__(self):
        shut_gate(&self.gate)

    def __init__(self):
        raise TypeError("an Access is made by context.access(ioas)")

    def _begin(self, ContextHandle handle not None, bint pins):
        """Second half of construction: 0 or a negative errno. The engine has a reference until _destroy()."""
        cdef iof_access_config cfg
        cdef int err
        cfg.size, cfg.needs_pin, cfg.unmap, cfg.data = sizeof(cfg), pins, NULL, <void *>self
        if pins:
            cfg.unmap = call_back
        self.handle, self.pins = handle, pins
        handle.enter()
        with nogil:
            err = iof_access_open(handle.h, &cfg, &self.a)
        handle.leave()
        if err < 0:
            self.a = NULL
            return err
        Py_INCREF(self)
        self.id = iof_access_id(self.a)
        open_gate(&self.gate)
        return 0

    cdef int check(self) except -1:
        if self.handle.born != forks:
            forked(f"access {self.id}")
        if is_shut(&self.gate):
            raise ValueError(f"access {self.id} of {self.handle.name} is closed")
        return 0

    cdef int enter(self) except -1:
        self.check()
        if not pass_in(&self.gate):
            raise ValueError(f"access {self.id} of {self.handle.name} is closed")
        return 0

    cdef int leave(self) except -1:
        pass_out(&self.gate)
        return 0

    @property
    def closed(self):
        """Whether it was closed."""
        return is_shut(&self.gate)

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    def unmapping(self, iova, length):
        """Somebody unmaps [iova, iova + length): unpin what intersects it."""
        raise NotImplementedError

    def _destroy(self):
        """Detach and destroy, once calls of other threads are done. In a forked child the engine is not touched."""
        cdef iof_access *a
        if not shut_gate(&self.gate):
            return
        if self.handle.born != forks:
            self.a = NULL
            return
        wait_until_empty(&self.gate)
        shut_gate(&self.unpinning)
        try:
            wait_until_empty(&self.unpinning)
        except BaseException:
            open_gate(&self.gate)
            raise
        a = self.a
        with nogil:
            iof_access_destroy(a)
        self.a = NULL
        Py_DECREF(self)

    def _move(self, uint32_t ioas, bint replace):
        cdef int err
        self.enter()
        with nogil:
            err = iof_access_replace(self.a, ioas) if replace else iof_access_attach(self.a, ioas)
        self.leave()
        return err

    def _leave(self):
        self.enter()
        with nogil:
            iof_access_detach(self.a)
        self.leave()

    def _pin(self, uint64_t iova, uint64_t length, bint write):
        """Addresses of runs of contiguous pages as [(address, pages), …], or a negative errno."""
        cdef uint64_t n, i
        cdef uint64_t *addresses
        cdef int err
        self.check()
        if length >> 52:
            raise ValueError(f"length {length:#x} is more than can be pinned")
        n = ((iova & 4095) + length + 4095) >> 12
        addresses = <uint64_t *>malloc((n + 1) * sizeof(uint64_t))
        if addresses == NULL:
            raise MemoryError
        try:
            self.enter()
        except BaseException:
            free(addresses)
            raise
        try:
            with nogil:
                err = iof_access_pin(self.a, iova, length, write, addresses)
            if err < 0:
                return err
            runs = []
            begin = 0
            for i in range(1, n + 1):
                if i == n or addresses[i] != addresses[i - 1] + 4096:
                    runs.append((addresses[begin], i - begin))
                    begin = i
            return runs
        finally:
            free(addresses)
            self.leave()

    def _unpin(self, uint64_t iova, uint64_t length):
        """0 or a negative errno. Works in the call-back, and while the access is being closed."""
        cdef bint counted = pass_in(&self.unpinning)
        cdef int err = 0
        if self.a != NULL and (counted or called_back == <void *>self):
            with nogil:
                err = iof_access_unpin(self.a, iova, length)
        if counted:
            pass_out(&self.unpinning)
        return err

    def _rw(self, uint64_t iova, buffer, bint write):
        cdef Py_buffer view
        cdef int err
        self.check()
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE if write else PyBUF_WRITABLE)
        try:
            self.enter()
            with nogil:
                err = iof_access_rw(self.a, iova, view.buf, view.len, IOF_ACCESS_WRITE if write else IOF_ACCESS_READ)
            self.leave()
        finally:
            PyBuffer_Release(&view)
        return err


cdef class Window:
    """Memory of this process that is somebody else's, for as long as `keeper` says; counts who looks at it."""

    cdef uint64_t address
    cdef Py_ssize_t size
    cdef bint writable
    cdef readonly Py_ssize_t exports
    cdef bint shut
    cdef object keeper

    def __init__(self, uint64_t address, Py_ssize_t size, bint writable, keeper=None):
        self.address, self.size, self.writable, self.keeper = address, size, writable, keeper

    def __getbuffer__(self, Py_buffer *view, int flags):
        with cython.critical_section(self):
            if self.shut:
                raise ValueError("this memory was given back")
            PyBuffer_FillInfo(view, self, <void *>self.address, self.size, not self.writable, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        with cython.critical_section(self):
            self.exports -= 1

    def shut_down(self):
        """No new exports; False if there are some still."""
        with cython.critical_section(self):
            if self.exports:
                return False
            self.shut = True
            return True
