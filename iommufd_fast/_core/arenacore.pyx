# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Taking buffers from an arena and giving them back: what is called for every buffer."""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint64_t, uintptr_t

from iommufd_fast._core.arenabase cimport ArenaBase
from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.origins cimport tracking
from iommufd_fast._core.threads cimport is_shut, quick_in, quick_out

import numpy as np

from iommufd_fast._core.origins import leaked, origin
from iommufd_fast.errors import from_errno

cdef extern from "errno.h" nogil:
    enum:
        ENOSPC
        EINVAL


cdef class ArenaCore(ArenaBase):
    """The part of `DmaArena` that is called for every buffer."""

    def take(self, length, *, align=0, boundary=0):
        """Take a buffer.

        Parameters
        ----------
        length : int
            Bytes, at least 1 and at most a region. The buffer has the next power of two, at least 64.
        align : int
            IOVA and address are multiples of this power of two, up to 2 MiB (or a region).
        boundary : int
            The buffer crosses no multiple of this power of two. 0: it may.

        Returns
        -------
        DmaBuffer
            To be given back by its `give` (or as a context manager); what it contains is left over from the last user.

        Raises
        ------
        ValueError
            The constraints cannot be met.
        Full
            The limit is reached.
        """
        cdef iof_dma_arena_buffer b
        cdef DmaBuffer made
        cdef uint64_t n = u64(length, "length"), to = u64(align, "align"), edge = u64(boundary, "boundary")
        cdef Py_ssize_t seen
        cdef int err
        while True:
            self.enter()
            seen = len(self.regions)
            err = iof_dma_arena_take(self.a, n, to, edge, &b)
            quick_out(&self.gate)
            if err != -ENOSPC:
                break
            self.grow(seen)
        if err:
            raise ValueError(refusal(self, n, to, edge)) if err == -EINVAL else from_errno(err, f"cannot take {n} bytes")
        made = DmaBuffer.__new__(DmaBuffer)
        made.arena, made.at, made.where, made.room, made.size = self, <char *>b.address, b.iova, b.length, n
        made.taken = True
        if tracking:
            self.origins[<uintptr_t>b.address] = origin()
        return made

    def give(self, DmaBuffer buffer not None, *, bint force=False):
        """Give a buffer back; see `DmaBuffer.give`."""
        if buffer.arena is not self:
            raise ValueError(f"{buffer!r} was taken from another arena")
        buffer.give(force=force)

    def _stats(self):
        cdef iof_dma_arena_stats_out s
        self.enter()
        iof_dma_arena_stats(self.a, &s)
        quick_out(&self.gate)
        return s

    def is_valid(self):
        """Check the whole arena, for tests; no other call may run."""
        self.enter()
        valid = iof_dma_arena_is_valid(self.a)
        quick_out(&self.gate)
        return valid


cdef str refusal(ArenaBase a, uint64_t n, uint64_t align, uint64_t boundary):
    """Which constraint it was."""
    cdef uint64_t most = 1 << 21
    if a.region < most:
        most = a.region
    if not 1 <= n <= a.region:
        return f"length is {n}; it must be between 1 and {a.region}, the size of a region"
    if align and align & (align - 1) or align > most:
        return f"align is {align}; it must be a power of two up to {most}"
    if boundary and (boundary & (boundary - 1) or boundary < n):
        return f"boundary is {boundary}; it must be a power of two and not less than length, {n}"
    return f"length is {n}; buffers with a boundary have at most {1 << 21} bytes"


@cython.final
cdef class DmaBuffer:
    """A piece of an arena, with an IOVA. Supports the buffer protocol and DLPack."""

    cdef object __weakref__
    cdef ArenaBase arena
    cdef char *at
    cdef uint64_t where, room, size
    cdef Py_ssize_t exports
    cdef bint taken

    def __init__(self):
        raise TypeError("a DmaBuffer is made by arena.take(length)")

    cdef int check(self) except -1:
        if not self.taken:
            raise ValueError(f"{self!r} was given back")
        return self.arena.check()

    @property
    def iova(self):
        """IOVA of the first byte."""
        self.check()
        return self.where

    @property
    def address(self):
        """Address of the first byte in this process."""
        self.check()
        return <uintptr_t>self.at

    @property
    def length(self):
        """Bytes that were asked for; what the buffer protocol shows."""
        return self.size

    @property
    def capacity(self):
        """Bytes that it has, a power of two."""
        return self.room

    @property
    def array(self):
        """It as an ndarray of uint8: a view, like any other buffer's."""
        return np.frombuffer(self, np.uint8)

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return 1, 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef ArenaBase arena = self.arena
        self.check()
        with cython.critical_section(self, arena):
            if not self.taken or is_shut(&arena.gate):
                raise ValueError(f"{self!r} was given back, or its arena is closed")
            PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)
            self.exports += 1
            arena.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        cdef ArenaBase arena = self.arena
        cdef bint last
        with cython.critical_section(self, arena):
            self.exports -= 1
            arena.exports -= 1
            last = arena.drained and not arena.exports
        if last and arena.born == forks:
            arena.release()

    def give(self, *, bint force=False):
        """Give it back to the arena.

        Parameters
        ----------
        force : bool
            Although there are views of it, which from now on show somebody else's bytes.

        Raises
        ------
        ValueError
            It was given back already, or the arena is closed.
        BufferError
            Somebody has a view of it (an array, a memoryview).
        """
        cdef int err
        self.check()
        if not quick_in(&self.arena.gate):
            self.arena.refuse()
        try:
            self.hand_in(force)
            if self.arena.origins:
                self.arena.origins.pop(<uintptr_t>self.at, None)
            err = iof_dma_arena_give(self.arena.a, self.at)
        finally:
            quick_out(&self.arena.gate)
        if err:
            raise from_errno(err, f"cannot give {self!r} back: the arena knows nothing of it")

    cdef int hand_in(self, bint force) except -1:
        with cython.critical_section(self):
            if not self.taken:
                self.check()
            if self.exports and not force:
                raise BufferError(f"{self.exports} views of {self!r} are in use; delete them first, or force it")
            self.taken = False
        return 0

    def __del__(self):
        if self.taken and not is_shut(&self.arena.gate) and self.arena.born == forks:
            made = self.arena.origins.get(<uintptr_t>self.at)
            text = repr(self)
            try:
                self.give(force=True)
            except ValueError:  # the arena was closed meanwhile, and has told
                if is_shut(&self.arena.gate):
                    return
                raise
            leaked(text, made, self)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc):
        if self.taken:
            self.give()

    def __reduce__(self):
        raise TypeError("cannot pickle a DmaBuffer: it belongs to its process")

    def __len__(self):
        return self.size

    def __repr__(self):
        state = "" if self.taken else ", given back"
        return f"<DmaBuffer {self.size:#x} bytes at IOVA {self.where:#x}{state}>"
