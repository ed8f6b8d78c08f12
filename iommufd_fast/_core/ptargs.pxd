# SPDX-License-Identifier: Apache-2.0
"""Page tables in C as Cython sees them, and arguments checked at the surface."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "util/alloc.h" nogil:
    struct iof_alloc:
        pass
    void iof_alloc_init_heap(iof_alloc *a)

cdef extern from "util/lock.h" nogil:
    struct iof_lock:
        pass
    void iof_lock_init(iof_lock *l, bint shared)
    bint iof_lock_try(iof_lock *l)
    void iof_lock_take(iof_lock *l)
    void iof_lock_drop(iof_lock *l)

cdef extern from "util/rsec.h" nogil:
    struct iof_rsec:
        pass
    void iof_rsec_init(iof_rsec *r, bint shared)
    unsigned int iof_rsec_enter(iof_rsec *r)
    void iof_rsec_leave(iof_rsec *r, unsigned int token)
    bint iof_rsec_idle(iof_rsec *r)
    void iof_rsec_sync(iof_rsec *r)

cdef extern from "util/range.h" nogil:
    struct iof_range:
        uint64_t start, last

cdef extern from "pagetable/pagetable.h" nogil:
    ctypedef enum iof_pt_format "enum iof_pt_format":
        IOF_PT_VTDSS
        IOF_PT_AMDV1
        IOF_PT_MOCK
        IOF_PT_X86_64
        IOF_PT_RISCV64
        IOF_PT_RISCV64_X4
        IOF_PT_ARM_S1
        IOF_PT_ARM_S2
    enum: IOF_PROT_READ
    enum: IOF_PROT_WRITE
    enum: IOF_PT_GROWING_TOP
    enum: IOF_PT_FORCE_COHERENT
    enum: IOF_PT_FORCE_WRITEABLE
    enum: IOF_PT_SIGN_EXTEND
    enum: IOF_PT_NAPOT
    enum: IOF_PT_PBMT
    enum: IOF_PT_HW_DIRTY
    enum: IOF_PT_CONTIGUOUS
    enum: IOF_PT_FORCE_WRITE_BACK
    struct iof_pt:
        pass
    struct iof_pt_config:
        iof_pt_format format
        uint8_t va_lg2, oa_lg2, top_level, granule_lg2
        uint32_t features
        uint64_t page_sizes
    struct iof_pt_gather:
        uint64_t count
    struct iof_pt_leaf:
        uint64_t iova, address
        uint8_t size_lg2, prot, level
        bint dirty
        uint64_t item
    struct iof_pt_stats:
        uint64_t leaves[64]
        uint64_t tables, empty_tables, recycled_tables, table_bytes
    ctypedef void (*iof_pt_dirty_fn)(void *ctx, uint64_t start, uint64_t length) noexcept nogil
    ctypedef void (*iof_pt_visit_fn)(void *ctx, uint64_t address, unsigned int level, const uint64_t *entries,
                                     size_t n) noexcept nogil
    int iof_pt_shape(const iof_pt_config *cfg, iof_pt_config *out)
    int iof_pt_create(const iof_pt_config *cfg, iof_alloc *a, iof_pt **out)
    void iof_pt_destroy(iof_pt *pt)
    iof_range iof_pt_aperture(const iof_pt *pt)
    void iof_pt_config_get "iof_pt_config"(const iof_pt *pt, iof_pt_config *out)
    uint64_t iof_pt_root(const iof_pt *pt, unsigned int *top_level)
    int iof_pt_map(iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned int prot, iof_pt_gather *g)
    uint64_t iof_pt_unmap(iof_pt *pt, uint64_t iova, uint64_t length, iof_pt_gather *g)
    void iof_pt_release(iof_pt *pt, iof_pt_gather *g)
    int iof_pt_walk(const iof_pt *pt, uint64_t iova, iof_pt_leaf *leaf)
    uint64_t iof_pt_translate(const iof_pt *pt, uint64_t iova, unsigned int *prot)
    size_t iof_pt_translate_many(const iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses, uint8_t *prots)
    int iof_pt_next_leaf(const iof_pt *pt, iof_range within, iof_pt_leaf *leaf)
    int iof_pt_set_dirty(iof_pt *pt, uint64_t iova)
    int iof_pt_read_dirty(iof_pt *pt, iof_range r, bint clear, bint exact, iof_pt_dirty_fn fn, void *ctx)
    void iof_pt_trim(iof_pt *pt, iof_pt_gather *g)
    void iof_pt_stats_get "iof_pt_stats"(const iof_pt *pt, iof_pt_stats *out)
    bint iof_pt_is_valid(const iof_pt *pt)
    void iof_pt_visit(const iof_pt *pt, iof_pt_visit_fn fn, void *ctx)

cdef extern from "pagetable/reshape.h" nogil:
    int iof_pt_cut(iof_pt *pt, iof_range r, unsigned int size_lg2)
    void iof_pt_merge(iof_pt *pt, iof_pt_gather *g)
    int iof_pt_protect(iof_pt *pt, iof_range r, unsigned int prot)
    uint64_t iof_pt_image(const iof_pt *pt, uint64_t base, uint64_t *out)

cdef extern from "pagetable/foreign.h" nogil:
    enum: IOF_PT_OUTSIDE
    enum: IOF_PT_NO_FETCH
    struct iof_pt_memory:
        int (*read)(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil
        const uint64_t *(*at)(void *ctx, uint64_t address, uint64_t bytes) noexcept nogil
        void *ctx
    struct iof_pt_foreign:
        iof_pt_config cfg
        uint64_t root
        uint8_t top_level
        iof_pt_memory memory
    struct iof_pt_fault:
        uint8_t reason, level
        uint64_t table, entry, item, iova, last
    struct iof_pt_nested:
        iof_pt_foreign first
        const iof_pt *second
        iof_pt_foreign second_foreign
    struct iof_pt_nested_fault:
        uint8_t stage, fetch_level
        uint64_t iova
        iof_pt_fault fault
    int iof_pt_foreign_check(const iof_pt_foreign *f)
    int iof_pt_walk_foreign(const iof_pt_foreign *f, uint64_t iova, iof_pt_leaf *leaf, iof_pt_fault *fault)
    int iof_pt_next_foreign(const iof_pt_foreign *f, iof_range within, iof_pt_leaf *leaf, iof_pt_fault *fault)
    int iof_pt_walk_nested(const iof_pt_nested *n, uint64_t iova, iof_pt_leaf *leaf, iof_pt_nested_fault *fault)
    size_t iof_pt_translate_nested(const iof_pt_nested *n, const uint64_t *iovas, size_t count, uint64_t *addresses,
                                   uint8_t *prots)

cdef uint64_t pt_u64(object value, str name) except? 1
cdef unsigned int pt_prot(object prot) except? 1
cdef int pt_config(iof_pt_config *cfg, object format, object va_bits, object oa_bits, object top_level,
                   object granule, object features) except -1
cdef uint64_t pt_sizes(object sizes) except? 1
cdef object pt_leaf(const iof_pt_leaf *leaf)
cdef object pt_fault(const iof_pt_fault *fault, int stage, object fetch_level)
cdef object pt_array(object values, str name, Py_ssize_t n)
cdef uint64_t *pt_data(object array) noexcept
