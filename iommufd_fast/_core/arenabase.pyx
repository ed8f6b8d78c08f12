# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The regions of an arena for Python: DMA memory, mapped from here, under csrc/memory's arena.

A buffer keeps its arena, and an export of its memory keeps the buffer. The memory itself stays until nothing of both is
left, also after close(), which only unmaps when somebody still looks.

Calls of the C arena pass the gate; close() shuts it, unmaps, and destroys the arena when there are no exports. The
arena's critical section guards the count of those.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.dmamemory cimport DmaMemory
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport (
    is_shut, open_gate, quick_in, quick_out, shut_gate, wait_until_empty,
)

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
        self.regions = []
        shut_gate(&self.gate)

    def __init__(self):
        raise TypeError("a DmaArena is made by ioas.arena()")

    def _begin(self, IoasCore ioas not None, uint64_t region, uint64_t limit, str page, numa, bint poison):
        """Second half of construction: 0 or a negative errno."""
        cdef iof_dma_arena_config cfg
        cdef int err
        self.born, self.ioas, self.region, self.limit = forks, ioas, region, limit
        self.page, self.numa, self.origins = page, numa, {}
        self.growing, self.made = threading.Lock(), origin()
        cfg = iof_dma_arena_config(sizeof(cfg), ioas.id, IOF_DMA_ARENA_POISON if poison else 0, region, limit,
                               iof_dma_request(0, 0, IOF_DMA_PAGE_AUTO, 0, 0, NULL), NULL)
        err = iof_dma_arena_create(NULL, &cfg, &self.a)
        if err == 0:
            open_gate(&self.gate)
        return err

    def __dealloc__(self):
        self.release()

    cdef int release(self) except -1:
        """The memory goes: regions first, they lie in the arena's range. After the gate was shut and is empty."""
        cdef iof_dma_arena *a
        with cython.critical_section(self):
            a, self.a = self.a, NULL
        if a != NULL:
            self.regions.clear()
            iof_dma_arena_destroy(a)
        return 0

    @property
    def closed(self):
        """Whether it was closed."""
        return is_shut(&self.gate)

    cdef int check(self) except -1:
        if self.born != forks or is_shut(&self.gate):
            self.refuse()
        return self.ioas.check()

    cdef int enter(self) except -1:
        """Before a call of the C arena that keeps the GIL; quick_out() of the gate after it."""
        self.check()
        if not quick_in(&self.gate):
            self.refuse()
        return 0

    cdef int refuse(self) except -1:
        if self.born != forks:
            forked("a DmaArena")
        raise ValueError(f"{self!r} is closed")

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
            if not quick_in(&self.gate):
                self.refuse()
            at = <uintptr_t>iof_dma_arena_place(self.a)
            quick_out(&self.gate)
            if not at:
                raise from_errno(ENOSPC, f"{self!r} is full: give buffers back, or make it with a larger limit")
            memory = DmaMemory._get(self.region, self.page, self.numa, False, at)
            memory._map(self.ioas, None, "rw")
            self.add(memory)
        self._grown(memory)

    cdef int add(self, DmaMemory memory) except -1:
        cdef int err
        if not quick_in(&self.gate):
            memory.place.close()
            self.refuse()
        err = iof_dma_arena_add(self.a, memory.place.at)
        if err == 0:
            self.regions.append(memory)  # before close() can look for what to unmap
        quick_out(&self.gate)
        if err:
            memory.place.close()
            what = f"cannot use IOVA {memory.place.at:#x} for a region of {self!r}: it has not the address's alignment"
            raise from_errno(EADDRNOTAVAIL if err == -EINVAL else err, what)
        return 0

    @property
    def memory(self):
        """The regions' memory, as it was mapped."""
        return tuple(self.regions)

    def taken(self):
        """What is taken now: a list of (address, IOVA, bytes, where it was taken or None)."""
        if self.born != forks or not quick_in(&self.gate):
            return []
        try:
            return self.found()
        finally:
            quick_out(&self.gate)

    cdef list found(self):
        """The same without a look at the gate; empty when there is no arena any more."""
        cdef iof_dma_arena_buffer *b
        cdef size_t n, i, room
        if self.a == NULL:
            return []
        room = iof_dma_arena_taken(self.a, 0, NULL)
        b = <iof_dma_arena_buffer *>malloc((room + 1) * sizeof(iof_dma_arena_buffer))
        if b == NULL:
            raise MemoryError
        try:
            n = min(iof_dma_arena_taken(self.a, room, b), room)
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
        if not shut_gate(&self.gate):
            return
        text = self.text()
        try:
            lost = self.unmap() if self.born == forks else []
        except BaseException:
            open_gate(&self.gate)
            raise
        try:
            if lost:
                places = "".join(f"\n  {size:#x} bytes at IOVA {iova:#x}, taken at {where or '?'}"
                                 for _, iova, size, where in lost[:20])
                total = sum(entry[2] for entry in lost)
                leaked(f"{len(lost)} buffers ({total:#x} bytes) of {text}{places}", self.made, self)
        finally:
            self.shut_down()

    cdef list unmap(self):
        """After shutting: wait for the last call, and unmap. What is still taken."""
        cdef DmaMemory memory
        wait_until_empty(&self.gate)
        for memory in self.regions:
            memory.place.close()
        return self.found()

    cdef int shut_down(self) except -1:
        """It is closed: destroy it now, or with the last view."""
        cdef bint last
        with cython.critical_section(self):
            self.drained = True
            last = self.exports == 0
        return self.release() if last else 0

    def __del__(self):
        if not self.closed and self.born == forks:
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
        if self.closed:
            return f"<DmaArena of {self.limit:#x} bytes, closed>"
        return self.text()

    cdef str text(self):
        return f"<DmaArena of {self.limit:#x} bytes, {len(self.regions) * self.region:#x} mapped in IOAS {self.ioas.id}>"
