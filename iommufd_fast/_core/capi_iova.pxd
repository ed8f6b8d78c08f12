# SPDX-License-Identifier: Apache-2.0
"""The IOVA floor (csrc/iova) and what it stands on, as Cython sees them."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "util/alloc.h" nogil:
    struct iof_alloc:
        uint64_t live_bytes
    void iof_alloc_init_heap(iof_alloc *a)

cdef extern from "util/bits.h" nogil:
    bint iof_is_pow2(uint64_t v)
    bint iof_align_up(uint64_t v, uint64_t align, uint64_t *out)

cdef extern from "util/lock.h" nogil:
    struct iof_lock:
        pass
    void iof_lock_init(iof_lock *l, bint shared)
    bint iof_lock_try(iof_lock *l)
    void iof_lock_take(iof_lock *l)
    void iof_lock_drop(iof_lock *l)

cdef extern from "util/range.h" nogil:
    struct iof_range:
        uint64_t start
        uint64_t last
    int iof_range_make(uint64_t start, uint64_t length, iof_range *out)

cdef extern from "iova/index.h" nogil:
    struct iof_index:
        pass
    struct iof_index_entry:
        iof_range range
        uint64_t value
    struct iof_index_stats_t "iof_index_stats":
        uint64_t entries, leaves, inner_nodes, bytes, visited
        uint32_t height
    int iof_index_create(iof_alloc *a, iof_index **out)
    void iof_index_destroy(iof_index *ix)
    int iof_index_insert(iof_index *ix, iof_range r, uint64_t value)
    bint iof_index_remove(iof_index *ix, uint64_t start)
    bint iof_index_set(iof_index *ix, uint64_t start, uint64_t value)
    int iof_index_split(iof_index *ix, uint64_t start, uint64_t left_last, uint64_t value)
    bint iof_index_join(iof_index *ix, uint64_t start)
    bint iof_index_find(const iof_index *ix, uint64_t at, iof_index_entry *out)
    bint iof_index_first(const iof_index *ix, iof_range r, iof_index_entry *out)
    void iof_index_find_many(const iof_index *ix, const uint64_t *at, size_t n, uint64_t missing, uint64_t *values)
    void iof_index_find_entries(const iof_index *ix, const uint64_t *at, size_t n, iof_index_entry *entries)
    uint64_t iof_index_count(const iof_index *ix)
    bint iof_index_hole(iof_index *ix, iof_range window, uint64_t length, uint64_t align, uint64_t or_bits,
                        uint64_t *start)
    bint iof_index_is_valid(const iof_index *ix)

cdef extern from "iova/space.h" nogil:
    struct iof_space:
        pass
    uint64_t IOF_SPACE_CAP
    int iof_space_create(iof_alloc *a, iof_space **out)
    void iof_space_destroy(iof_space *s)
    int iof_space_reserve(iof_space *s, iof_range r, uint64_t owner)
    void iof_space_unreserve(iof_space *s, uint64_t owner)
    int iof_space_allow(iof_space *s, const iof_range *ranges, size_t n)
    size_t iof_space_ranges(const iof_space *s, iof_range *out, size_t n)
    int iof_space_check(const iof_space *s, iof_range r)
    int iof_space_place(iof_space *s, uint64_t addr, uint64_t length, uint64_t alignment, uint64_t *iova)
    int iof_space_insert(iof_space *s, iof_range r, uint64_t value)
    void iof_space_remove(iof_space *s, uint64_t start)
    bint iof_space_find(const iof_space *s, uint64_t at, iof_index_entry *out)
    bint iof_space_first(const iof_space *s, iof_range r, iof_index_entry *out)
    void iof_space_find_entries(const iof_space *s, const uint64_t *at, size_t n, iof_index_entry *entries)
    uint64_t iof_space_areas(const iof_space *s)
    bint iof_space_is_valid(const iof_space *s)
    void iof_space_stats(const iof_space *s, iof_index_stats_t *out)

cdef extern from "iova/recycle.h" nogil:
    struct iof_recycle:
        pass
    int iof_recycle_create(iof_alloc *a, iof_space *s, uint64_t granule, iof_recycle **out)
    void iof_recycle_destroy(iof_recycle *r)
    int iof_recycle_take(iof_recycle *r, uint64_t length, uint64_t *iova)
    int iof_recycle_give(iof_recycle *r, uint64_t iova, uint64_t length)
    uint64_t iof_recycle_size(const iof_recycle *r, uint64_t length)
    bint iof_recycle_find(const iof_recycle *r, uint64_t at, iof_range *out)
    bint iof_recycle_first(const iof_recycle *r, iof_range in_, iof_range *out)
    uint64_t iof_recycle_live(const iof_recycle *r)
    void iof_recycle_trim(iof_recycle *r)
    void iof_recycle_retire(iof_recycle *r)
    bint iof_recycle_is_valid(const iof_recycle *r)

cdef extern from "iova/magazine.h" nogil:
    struct iof_magazines:
        pass
    int iof_magazines_create(iof_alloc *a, iof_recycle *r, iof_lock *lock, iof_magazines **out)
    void iof_magazines_destroy(iof_magazines *m)
    int iof_magazine_take(iof_magazines *m, uint64_t length, uint64_t *iova)
    int iof_magazine_give(iof_magazines *m, uint64_t iova, uint64_t length)
    int iof_magazines_take(iof_magazines *m, uint64_t length, uint64_t *iova)
    int iof_magazines_give(iof_magazines *m, uint64_t iova, uint64_t length)
    bint iof_magazines_find(const iof_magazines *m, uint64_t at, iof_range *out)
    bint iof_magazines_first(const iof_magazines *m, iof_range in_, iof_range *out)
    uint64_t iof_magazines_held(const iof_magazines *m)
    void iof_magazines_trim(iof_magazines *m)
    void iof_magazines_retire(iof_magazines *m)
    void iof_magazines_forked(iof_magazines *m)
    bint iof_magazines_is_valid(const iof_magazines *m)
