# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The cache of mappings for Python: what csrc/memory's cache maps, and what keeps the memory behind it.

With `keep`, the buffer that an entry was mapped for is held (a reference or a buffer export) until no entry needs its memory any more. C
code tells so by a token, which is the address of a node made beforehand; it puts the node into a list, from any thread and
without the GIL, and whoever is in Python next takes the list and drops what the nodes stood for.

A call that is `running` keeps the C cache; who takes `c` away to destroy it sees to it that none is. The dict of what is
kept belongs to whoever is in the object's critical section.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.held cimport Held, take_hold
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport drop, pause, take
from iommufd_fast._core.told cimport iofc_node, iofc_push, iofc_take_all

from iommufd_fast._core.origins import leaked, origin
from iommufd_fast.errors import forked, from_errno

cdef extern from "errno.h" nogil:
    enum:
        EBUSY


@cython.no_gc_clear
cdef class CacheCore:
    """A cache's life, and what is not asked for every buffer."""

    def __init__(self):
        raise TypeError("a MapCache is made by ioas.map_cache()")

    def _begin(self, IoasCore ioas not None, uint32_t map_flags, uint64_t max_bytes, uint64_t max_entries,
               uint64_t max_joined, bint join, bint watch, bint keep):
        """Second half of construction: 0 or a negative errno."""
        cdef iof_map_cache_config cfg
        cdef uint32_t flags = (IOF_MAP_CACHE_JOIN if join else 0) | (IOF_MAP_CACHE_WATCH if watch else 0)
        cdef int err
        self.born, self.ioas, self.handle = forks, ioas, ioas.handle
        self.flags, self.keep, self.kept, self.made = map_flags, keep, {}, origin()
        cfg = iof_map_cache_config(sizeof(cfg), ioas.id, map_flags, IOF_POLICY_DEFAULT, flags, max_bytes, max_entries,
                                   max_joined, iofc_push, &self.told, NULL)
        ioas.check()
        self.handle.enter()
        with nogil:
            err = iof_map_cache_create(self.handle.h, &cfg, &self.c)
        self.handle.leave()
        if err:
            self.c = NULL
        return err

    cdef int check(self) except -1:
        if self.born != forks:
            forked("a MapCache")
        if self.c == NULL or self.ending:
            raise ValueError("the MapCache is closed")
        return self.ioas.check()

    cdef int enter(self) except -1:
        """Before the GIL is released: neither the handle nor the cache goes while it is."""
        self.check()
        self.handle.enter()
        if not self.run():
            self.handle.leave()
            raise ValueError("the MapCache is closed")
        return 0

    cdef int leave(self) except -1:
        self.stop()
        self.handle.leave()
        return self.drain()

    cdef bint run(self) noexcept:
        """Keep the C cache until stop(); false when it is there no more."""
        cdef bint there
        take(&self.guard)
        there = self.c != NULL
        self.running += there
        drop(&self.guard)
        return there

    cdef void stop(self) noexcept:
        take(&self.guard)
        self.running -= 1
        drop(&self.guard)

    cdef int drain(self) except -1:
        """Let go of what no entry needs any more. May run any Python code."""
        cdef iofc_node *node
        cdef iofc_node *next
        dropped = []
        with cython.critical_section(self):
            node = iofc_take_all(&self.told)
            while node != NULL:
                next = node.next
                dropped.append(self.kept.pop(<uintptr_t>node, None))
                free(node)
                node = next
        return 0

    cdef int own(self, iof_map_entry *entry, Held held) except -1:
        """The entry's memory is this object's."""
        cdef iofc_node *node = <iofc_node *>malloc(sizeof(iofc_node))
        if node == NULL:
            iof_map_cache_put(self.c, entry)
            raise MemoryError
        with cython.critical_section(self):
            self.kept[<uintptr_t>node] = held
        iof_map_cache_own(entry, <uintptr_t>node)
        return 0

    def invalidate(self, memory, length=None):
        """Forget a buffer whose memory is about to go, or to be something else. What nobody uses is unmapped at once.

        Returns
        -------
        int
            How many mappings of it are still in use; each is unmapped when it is released. While that is not 0 devices
            may still reach the memory.
        """
        cdef Held held = take_hold(memory, length, False)
        cdef int64_t left
        self.enter()
        with nogil:
            left = iof_map_cache_invalidate(self.c, <const void *><uintptr_t>held.base, held.size)
        self.leave()
        return left

    def trim(self):
        """Unmap everything that nobody uses; returns how many bytes."""
        cdef uint64_t size
        self.enter()
        with nogil:
            size = iof_map_cache_trim(self.c)
        self.leave()
        return size

    def _stats(self):
        cdef iof_map_cache_stats_out s
        self.enter()
        iof_map_cache_stats(self.c, &s)
        self.leave()
        return s

    def is_valid(self):
        """Check the whole cache, for tests; no other call may run."""
        self.enter()
        valid = iof_map_cache_is_valid(self.c)
        self.leave()
        return valid

    @property
    def closed(self):
        """Whether it was closed, by itself or with its IOAS."""
        return self.c == NULL

    def close(self):
        """Unmap everything. Again is fine.

        Raises
        ------
        Busy
            Mappings are in use; nothing has changed.
        """
        cdef iof_map_cache *c
        cdef int err
        if self.born != forks:
            self.c = NULL
        if self.c == NULL:
            return
        self.handle.enter()
        c = self.take_idle()
        err = -EBUSY if c == NULL and self.c != NULL else 0
        if c != NULL:
            with nogil:
                err = iof_map_cache_destroy(c)
            if err:
                self.c = c
        self.handle.leave()
        if err and c == NULL:
            raise from_errno(EBUSY, "cannot close the MapCache: another thread is in a call")
        if err:
            raise from_errno(err, "cannot close the MapCache: mappings are in use; release them first")
        self.drain()

    def _end(self):
        """Its IOAS goes, or has gone: unmap what can be, and forget the rest."""
        cdef iof_map_cache *c
        if self.c == NULL or self.born != forks:
            return
        self.ending = True
        while self.running:  # another thread is in a call
            pause(50)
        try:
            self.close()
        except OSError:
            while self.c != NULL:
                c = self.take_idle()
                if c == NULL:
                    pause(50)
                    continue
                with nogil:
                    iof_map_cache_abandon(c)
                self.drain()
                self.forget()

    cdef iof_map_cache *take_idle(self) noexcept:
        """Take the C cache away. NULL: a call is running, or somebody else has taken it."""
        cdef iof_map_cache *c = NULL
        take(&self.guard)
        if not self.running:
            c, self.c = self.c, NULL
        drop(&self.guard)
        return c

    cdef int forget(self) except -1:
        """Nothing is mapped any more."""
        with cython.critical_section(self):
            kept, self.kept = self.kept, {}
            for node in kept:
                free(<void *><uintptr_t>node)
        return 0

    def __del__(self):
        if self.c != NULL and self.born == forks:
            leaked(repr(self), self.made, self)
            self._end()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, *exc):
        self.close()

    def __reduce__(self):
        raise TypeError("cannot pickle a MapCache: it belongs to its process")

    def __repr__(self):
        return f"<MapCache in IOAS {self.ioas.id}{', closed' if self.c == NULL else ''}>"
