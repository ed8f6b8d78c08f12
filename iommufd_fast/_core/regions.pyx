# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Memory that a vIOMMU shares with its guest, mapped here by mmap on the context's file.

While it is mapped its vIOMMU cannot be destroyed. Views of it keep the mapping: a context that is closed gives back the
vIOMMU at once and the mapping with the last view.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint64_t

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport pass_in, pass_out

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    int munmap(void *address, size_t length)


cdef class RegionCore:
    """A mapping of a context's file; supports the buffer protocol."""

    cdef void *at
    cdef object __weakref__
    cdef Py_ssize_t exports
    cdef bint counted
    cdef readonly ContextHandle handle
    cdef readonly Py_ssize_t size
    cdef readonly uint64_t offset

    def __init__(self):
        raise TypeError("a Region is made by context.mmap(offset, length)")

    def _begin(self, ContextHandle handle not None, uint64_t offset, size_t length):
        """Second half of construction: 0 or a negative errno."""
        cdef int err
        self.handle, self.offset, self.size = handle, offset, length
        handle.enter()
        with nogil:
            err = iof_mmap(handle.h, length, PROT_READ | PROT_WRITE, MAP_SHARED, offset, &self.at)
        handle.leave()
        if err < 0:
            self.at = NULL
            return err
        self.counted = True
        return 0

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, self.size)

    def __getbuffer__(self, Py_buffer *view, int flags):
        with cython.critical_section(self):
            if not self.counted:
                raise ValueError("the region is closed")
            PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        with cython.critical_section(self):
            self.exports -= 1

    def __len__(self):
        return self.size

    @property
    def closed(self):
        """Whether it was closed, by itself or with its context."""
        return not self.counted

    def _abandon(self):
        """The vIOMMU may go; the memory stays while somebody looks at it."""
        cdef bint counted
        with cython.critical_section(self):
            counted, self.counted = self.counted, False
        self.uncount(counted)

    cdef int uncount(self, bint counted) except -1:
        """The vIOMMU's share of it, if it had one still."""
        if counted and self.handle.born == forks and not self.handle.kernel and pass_in(&self.handle.gate):
            iof_mmap_count(self.handle.h, self.offset, -1)
            pass_out(&self.handle.gate)
        return 0

    def close(self):
        """Unmap. Again is fine.

        Raises
        ------
        BufferError
            Somebody has a view of it still.
        """
        cdef void *at = NULL
        cdef bint counted
        with cython.critical_section(self):
            if self.counted and self.exports:
                raise BufferError(f"{self.exports} views of the region at offset {self.offset:#x} are in use; "
                                  "release them first")
            counted, self.counted = self.counted, False  # nobody gets a view any more
            if not self.exports:
                at, self.at = self.at, NULL
        self.uncount(counted)
        if at != NULL:
            munmap(at, self.size)
