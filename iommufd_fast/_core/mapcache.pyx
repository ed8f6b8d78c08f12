# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Getting a buffer's IOVA from a cache of mappings, and letting it go."""
cimport cython
from libc.stdint cimport uint64_t, uintptr_t

from iommufd_fast._core.cachecore cimport CacheCore
from iommufd_fast._core.capi cimport IOF_MAP_WRITEABLE
from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.held cimport Held, take_hold
from iommufd_fast._core.machines cimport forks

from iommufd_fast.errors import failed, from_errno

cdef extern from "errno.h" nogil:
    enum:
        ENOSPC


cdef class MapCacheCore(CacheCore):
    """The part of `MapCache` that is called for every buffer."""

    def get(self, memory, length=None):
        """The IOVA of a buffer, mapped now if it is not yet.

        Parameters
        ----------
        memory : buffer or int
            As for `Ioas.map`.
        length : int, optional
            Bytes from the beginning. Needed for an address; all of an object by default.

        Returns
        -------
        CachedMapping
            With `.iova`; stays mapped until its `release` (or as a context manager).

        Raises
        ------
        Full
            No room: what would have to go is in use.
        IommufdError
            The provider refused to map it.
        """
        cdef CachedMapping made = CachedMapping.__new__(CachedMapping)
        cdef Held held = take_hold(memory, length, (self.flags & IOF_MAP_WRITEABLE) != 0)
        cdef int err
        self.enter()
        with nogil:
            err = iof_map_cache_get(self.c, <const void *><uintptr_t>held.base, held.size, &made.at, &made.entry)
        if err < 0:
            self.leave()
            raise refused(self, held, err)
        made.cache, made.held = self, held
        if err == 1 and self.keep and held.owner is not None:
            self.own(made.entry, held)
        self.leave()
        return made


cdef refused(CacheCore cache, Held held, int err):
    what = f"cannot map {held.size:#x} bytes at address {held.base:#x} into IOAS {cache.ioas.id} through the cache"
    if err == -ENOSPC:
        return from_errno(err, f"{what}: it is larger than the cache, what would make room is in use, or IOVAs ran out")
    return failed(err, "map", what)


@cython.final
cdef class CachedMapping:
    """A buffer's place in the cache, in use until it is released. A context manager."""

    cdef object __weakref__
    cdef CacheCore cache
    cdef iof_map_entry *entry
    cdef Held held
    cdef uint64_t at

    def __init__(self):
        raise TypeError("a CachedMapping is made by cache.get(buffer)")

    @property
    def iova(self):
        """IOVA of the first byte, while it is in use."""
        if self.entry == NULL or self.cache.c == NULL:
            raise ValueError(f"{self!r}: its IOVA may be another's by now")
        return self.at

    @property
    def length(self):
        """Bytes."""
        return self.held.size

    @property
    def released(self):
        """Whether it is."""
        return self.entry == NULL

    def release(self):
        """The device is done with it. Again is fine."""
        cdef iof_map_entry *entry
        cdef CacheCore cache = self.cache
        with cython.critical_section(self):  # of several calls at once, one
            entry, self.entry = self.entry, NULL
        if entry == NULL or cache.born != forks or not cache.run():
            return
        with nogil:
            iof_map_cache_put(cache.c, entry)
        cache.stop()
        cache.drain()

    def __del__(self):
        if self.cache is not None:
            self.release()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    def __reduce__(self):
        raise TypeError("cannot pickle a CachedMapping: it belongs to its process")

    def __repr__(self):
        state = ", released" if self.entry == NULL else ""
        return f"<CachedMapping {self.held.size:#x} bytes at IOVA {self.at:#x}{state}>"
