# SPDX-License-Identifier: Apache-2.0
"""Table: a C page table with the locks that make it thread-safe.

Writers take the object's lock, lookups none: they run in a read section, and a table that an unmap unlinks is reused
only after every section that could be inside it has ended. With the GIL held the lock is only tried; on contention the
GIL goes first.
"""
from libc.stdlib cimport free
from libc.string cimport memset

from iommufd_fast._core._fail import fail
from iommufd_fast._core.ptargs import FEATURES

cdef extern from "stdlib.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)


cdef class Table:
    """The life, the locks and the geometry of a page table; PageTable has the rest."""

    def __cinit__(self):
        self.state = <TableState *>aligned_alloc(64, sizeof(TableState))
        if self.state == NULL:
            raise MemoryError()
        memset(self.state, 0, sizeof(TableState))
        iof_alloc_init_heap(&self.state.alloc)
        iof_lock_init(&self.state.writer, False)
        iof_rsec_init(&self.state.readers, False)

    def __init__(self, format="vtdss", *, va_bits=None, oa_bits=None, top_level=None, page_sizes=None,
                 granule=None, **features):
        cdef iof_pt_config cfg
        cdef int err
        if iofp_peek(&self.state.pt) != NULL:
            raise TypeError("a page table is initialised once")
        pt_config(&cfg, format, va_bits, oa_bits, top_level, granule, features)
        cfg.page_sizes = pt_sizes(page_sizes)
        err = iof_pt_create(&cfg, &self.state.alloc, &self.state.pt)
        if err:
            fail(err, f"no {format} table has this shape: va_bits={va_bits}, oa_bits={oa_bits}, top_level={top_level}, "
                      f"page_sizes={page_sizes}, granule={granule}, features: {', '.join(features) or 'none'}")
        self.format = format

    def __dealloc__(self):
        if self.state != NULL:
            if self.state.pt != NULL:
                iof_pt_destroy(self.state.pt)
            free(self.state)

    def close(self):
        """Free every table. Waits for lookups that are under way; closing twice is nothing."""
        cdef iof_pt *pt
        with nogil:
            iof_lock_take(&self.state.writer)
            pt = iofp_take(&self.state.pt)
            if pt != NULL:
                iof_rsec_sync(&self.state.readers)
                iof_pt_destroy(pt)
            iof_lock_drop(&self.state.writer)

    @property
    def closed(self):
        """bool: whether close() was called."""
        return iofp_peek(&self.state.pt) == NULL

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    cdef iof_pt *enter(self, unsigned int *token) except NULL:
        cdef iof_pt *pt
        token[0] = iof_rsec_enter(&self.state.readers)
        pt = iofp_peek(&self.state.pt)
        if pt == NULL:
            iof_rsec_leave(&self.state.readers, token[0])
            raise ValueError("the page table is closed")
        return pt

    cdef void leave(self, unsigned int token) noexcept nogil:
        iof_rsec_leave(&self.state.readers, token)

    cdef iof_pt *lock(self) except NULL:
        if not iof_lock_try(&self.state.writer):
            with nogil:
                iof_lock_take(&self.state.writer)
        if self.state.pt == NULL:
            iof_lock_drop(&self.state.writer)
            raise ValueError("the page table is closed")
        return self.state.pt

    cdef void unlock(self, iof_pt_gather *g) noexcept:
        if g.count:
            if not iof_rsec_idle(&self.state.readers):
                with nogil:
                    iof_rsec_sync(&self.state.readers)
            iof_pt_release(self.state.pt, g)
        iof_lock_drop(&self.state.writer)

    cdef int c_map(self, uint64_t iova, uint64_t address, uint64_t length, unsigned int prot) except? -1:
        cdef iof_pt_gather g
        cdef int err
        memset(&g, 0, sizeof(g))
        err = iof_pt_map(self.lock(), iova, address, length, prot, &g)
        self.unlock(&g)
        return err

    cdef uint64_t c_unmap(self, uint64_t iova, uint64_t length) except? 1:
        cdef iof_pt_gather g
        cdef uint64_t removed
        memset(&g, 0, sizeof(g))
        removed = iof_pt_unmap(self.lock(), iova, length, &g)
        self.unlock(&g)
        return removed

    cdef uint64_t c_translate(self, uint64_t iova, unsigned int *prot) except? 1:
        cdef unsigned int token
        cdef uint64_t address = iof_pt_translate(self.enter(&token), iova, prot)
        self.leave(token)
        return address

    cdef object geometry(self, str what):
        cdef unsigned int token, level
        cdef iof_pt_config cfg
        cdef iof_pt *pt = self.enter(&token)
        cdef iof_range aperture = iof_pt_aperture(pt)
        cdef uint64_t root = iof_pt_root(pt, &level)
        iof_pt_config_get(pt, &cfg)
        self.leave(token)
        return {"aperture": (aperture.start, aperture.last), "root": root, "top_level": level, "oa_bits": cfg.oa_lg2,
                "va_bits": cfg.va_lg2, "sizes": cfg.page_sizes, "granule": 1 << cfg.granule_lg2,
                "features": cfg.features}[what]

    @property
    def aperture(self):
        """(int, int): first and last IOVA that the table can map; the full potential where the top grows."""
        return self.geometry("aperture")

    @property
    def root(self):
        """int: address of the top table."""
        return self.geometry("root")

    @property
    def top_level(self):
        """int: level of the top table; the lowest tables are at 0."""
        return self.geometry("top_level")

    @property
    def va_bits(self):
        """int: width of an IOVA."""
        return self.geometry("va_bits")

    @property
    def oa_bits(self):
        """int: width of an address."""
        return self.geometry("oa_bits")

    @property
    def page_sizes(self):
        """tuple of int: the sizes a leaf may have, in bytes, ascending."""
        sizes = self.geometry("sizes")
        return tuple(1 << n for n in range(64) if sizes >> n & 1)

    @property
    def granule(self):
        """int: bytes that one lowest entry translates."""
        return self.geometry("granule")

    @property
    def features(self):
        """tuple of str: the features that are on."""
        bits = self.geometry("features")
        return tuple(name for name, bit in FEATURES.items() if bits & bit)

    def __repr__(self):
        if self.closed:
            return f"<{type(self).__name__} {self.format} closed>"
        return (f"<{type(self).__name__} {self.format} {self.va_bits} bits, top level {self.top_level} "
                f"at {self.root:#x}>")
