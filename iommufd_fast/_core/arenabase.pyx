# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""The regions of an arena for Python: DMA memory, mapped from here, under csrc/memory's arena.

A buffer keeps its arena, and an export of its memory keeps the buffer. The memory itself stays until nothing of both is
left, also after close(), which only unmaps when somebody still looks.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.dmamemory cimport DmaMemory
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.machines cimport fork_count

import threading

from iommufd_fast._core.origins import leaked, origin
from iommufd_fast.errors import forked, from_errno

cdef extern from "errno.h" nogil:
    enum:
        ENOSPC
        EINVAL
        EADDRNOTAVAIL


@cython.no_gc_clear
cdef class ArenaBase:
    """An arena's regions: from the first to the last."""

    def __cinit__(self):
        self.closed = True

    def __init__(self):
        raise TypeError("a DmaArena is made by ioas.arena()")

    def _begin(self, IoasCore ioas not None, uint64_t region, uint64_t limit, str page, numa, bint poison):
        """Second half of construction: 0 or a negative errno."""
        cdef iof_dma_arena_config cfg
        cdef int err
        self.born, self.ioas, self.region, self.limit = fork_count(), ioas, region, limit
        self.page, self.numa, self.regions, self.origins = page, numa, [], {}
        self.growing, self.made, self.closed = threading.Lock(), origin(), True
        cfg = iof_dma_arena_config(sizeof(cfg), ioas.id, IOF_DMA_ARENA_POISON if poison else 0, region, limit,
                               iof_dma_request(0, 0, IOF_DMA_PAGE_AUTO, 0, 0, NULL), NULL)
        err = iof_dma_arena_create(NULL, &cfg, &self.a)
        self.closed = err != 0
        return err

    def __dealloc__(self):
        self.release()

    cdef int release(self) except -1:
        """The memory goes: regions first, they lie in the arena's range."""
        cdef iof_dma_arena *a = self.a
        self.regions, self.a = [], NULL
        if a != NULL:
            iof_dma_arena_destroy(a)
        return 0

    cdef int check(self) except -1:
        if self.born != fork_count():
            forked("a DmaArena")
        if self.closed:
            raise ValueError(f"{self!r} is closed")
        return self.ioas.check()

    def _grown(self, DmaMemory memory):
        """A region was added; subclasses may want to say something about it."""

    def grow(self, have=None):
        """Add a region; with `have`, only if there are not more than so many by now.

        Raises
        ------
        Full
            The limit is reached.
        """
        cdef DmaMemory memory
        cdef uintptr_t at
        with self.growing:
            self.check()
            if have is not None and len(self.regions) != have:
                return
            at = <uintptr_t>iof_dma_arena_place(self.a)
            if not at:
                raise from_errno(ENOSPC, f"{self!r} is full: give buffers back, or make it with a larger limit")
            memory = DmaMemory._get(self.region, self.page, self.numa, False, at)
            memory._map(self.ioas, None, "rw")
            self.add(memory)
        self._grown(memory)

    cdef int add(self, DmaMemory memory) except -1:
        cdef int err = iof_dma_arena_add(self.a, memory.place.at)
        if err:
            memory.place.close()
            what = f"cannot use IOVA {memory.place.at:#x} for a region of {self!r}: it has not the address's alignment"
            raise from_errno(EADDRNOTAVAIL if err == -EINVAL else err, what)
        self.regions.append(memory)
        return 0

    @property
    def memory(self):
        """The regions' memory, as it was mapped."""
        return tuple(self.regions)

    def taken(self):
        """What is taken now: a list of (address, IOVA, bytes, where it was taken or None)."""
        cdef iof_dma_arena_buffer *b
        cdef size_t n, i
        if self.a == NULL or self.born != fork_count():
            return []
        n = iof_dma_arena_taken(self.a, 0, NULL)
        b = <iof_dma_arena_buffer *>malloc((n + 1) * sizeof(iof_dma_arena_buffer))
        if b == NULL:
            raise MemoryError
        try:
            iof_dma_arena_taken(self.a, n, b)
            return [(<uintptr_t>b[i].address, b[i].iova, b[i].length, self.origins.get(<uintptr_t>b[i].address))
                    for i in range(n)]
        finally:
            free(b)

    def close(self):
        """Unmap everything. Again is fine. Buffers that are still taken are told in a ResourceWarning.

        Their memory, and that of views that are still there, stays readable until the last of them is gone.

        Raises
        ------
        Busy
            An access has pinned some of it: nothing else has changed.
        """
        cdef DmaMemory memory
        if self.closed:
            return
        if self.born == fork_count():
            for memory in self.regions:
                memory.place.close()
            lost = self.taken()
            if lost:
                places = "".join(f"\n  {size:#x} bytes at IOVA {iova:#x}, taken at {where or '?'}"
                                 for _, iova, size, where in lost[:20])
                text = f"{len(lost)} buffers ({sum(entry[2] for entry in lost):#x} bytes) of {self!r}{places}"
                self.closed = True
                leaked(text, self.made, self)
        self.closed = True
        if not self.exports:
            self.release()

    def __del__(self):
        if not self.closed and self.born == fork_count():
            leaked(repr(self), self.made, self)
            self.close()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc):
        self.close()

    def __reduce__(self):
        raise TypeError("cannot pickle a DmaArena: it belongs to its process")

    def __repr__(self):
        if self.a == NULL or self.closed:
            return f"<DmaArena of {self.limit:#x} bytes, closed>"
        return f"<DmaArena of {self.limit:#x} bytes, {len(self.regions) * self.region:#x} mapped in IOAS {self.ioas.id}>"
