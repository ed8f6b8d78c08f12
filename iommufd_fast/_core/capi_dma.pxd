# SPDX-License-Identifier: Apache-2.0
"""iommufd_fast_memory.h for cimport: DMA memory, arenas, caches of mappings, scatter lists."""
from libc.stdint cimport uint32_t, uint64_t, int64_t

from iommufd_fast._core.capi cimport iof_alloc, iof_handle, iof_policy

cdef extern from "iommufd_fast_memory.h" nogil:
    enum iof_dma_page:
        IOF_DMA_PAGE_AUTO
        IOF_DMA_PAGE_4K
        IOF_DMA_PAGE_THP
        IOF_DMA_PAGE_2M
        IOF_DMA_PAGE_1G
    enum:
        IOF_DMA_SHARED
        IOF_DMA_NODE
        IOF_DMA_ARENA_POISON
        IOF_DMA_ARENA_TRACK
        IOF_DMA_ARENA_FIXED_SIZE
        IOF_MAP_CACHE_JOIN
        IOF_MAP_CACHE_WATCH
    struct iof_dma_request:
        size_t size
        uint64_t length
        iof_dma_page page
        uint32_t flags, node
        void *at
    struct iof_dma_memory:
        void *address
        uint64_t length, iova, huge_bytes
        iof_dma_page page, missed
        int why, fd
    int iof_dma_memory_get(const iof_dma_request *rq, iof_dma_memory *out)
    void iof_dma_memory_put(iof_dma_memory *m)

    struct iof_dma_arena:
        pass
    struct iof_dma_arena_config:
        size_t size
        uint32_t ioas_id, flags
        uint64_t region, limit
        iof_dma_request memory
        iof_alloc *alloc
    struct iof_dma_arena_buffer:
        void *address
        uint64_t iova, length
        const void *who
    struct iof_dma_arena_stats_out "iof_dma_arena_stats":
        uint64_t mapped, limit, taken, cached, high, takes, gives, refused, regions, grown, late_writes
        uint64_t live_by_class[48]
        uint64_t high_by_class[48]
    int iof_dma_arena_create(iof_handle *ctx, const iof_dma_arena_config *cfg, iof_dma_arena **out)
    int iof_dma_arena_destroy(iof_dma_arena *a)
    int iof_dma_arena_take(iof_dma_arena *a, uint64_t n, uint64_t align, uint64_t boundary, iof_dma_arena_buffer *out)
    int iof_dma_arena_give(iof_dma_arena *a, void *address)
    size_t iof_dma_arena_taken(iof_dma_arena *a, size_t n, iof_dma_arena_buffer *out)
    void iof_dma_arena_stats(iof_dma_arena *a, iof_dma_arena_stats_out *out)
    void *iof_dma_arena_place(iof_dma_arena *a)
    int iof_dma_arena_add(iof_dma_arena *a, uint64_t iova)
    bint iof_dma_arena_is_valid(iof_dma_arena *a)

    struct iof_map_cache:
        pass
    struct iof_map_entry:
        pass
    struct iof_map_cache_config:
        size_t size
        uint32_t ioas_id, map_flags
        iof_policy policy
        uint32_t flags
        uint64_t max_bytes, max_entries, max_joined
        void (*gone)(void *arg, uint64_t token) noexcept
        void *arg
        iof_alloc *alloc
    struct iof_map_cache_stats_out "iof_map_cache_stats":
        uint64_t hits, misses, joined, evicted, invalidated, refused, entries, bytes, in_use
        uint64_t watched, unwatched, events
    int iof_map_cache_create(iof_handle *ctx, const iof_map_cache_config *cfg, iof_map_cache **out)
    int iof_map_cache_destroy(iof_map_cache *c)
    void iof_map_cache_abandon(iof_map_cache *c)
    int iof_map_cache_get(iof_map_cache *c, const void *address, uint64_t n, uint64_t *iova, iof_map_entry **entry)
    void iof_map_cache_put(iof_map_cache *c, iof_map_entry *entry)
    uint64_t iof_map_cache_own(iof_map_entry *entry, uint64_t token)
    int64_t iof_map_cache_invalidate(iof_map_cache *c, const void *address, uint64_t n)
    uint64_t iof_map_cache_trim(iof_map_cache *c)
    void iof_map_cache_stats(iof_map_cache *c, iof_map_cache_stats_out *out)
    bint iof_map_cache_is_valid(iof_map_cache *c)

    struct iof_map_sg_args "iof_map_sg":
        uint32_t ioas_id, flags
        iof_policy policy
        size_t n
        const uint64_t *addresses
        const uint64_t *lengths
        uint64_t iova
        uint64_t *iovas
        size_t failed
    int iof_map_sg(iof_handle *ctx, iof_map_sg_args *sg)
