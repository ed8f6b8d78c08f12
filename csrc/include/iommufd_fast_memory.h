/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for drivers: DMA memory, arenas, caches of mappings, scatter lists. Everything here stands on handles alone (iommufd_fast.h), so it is
 * the same on every provider.
 *
 * Errors, threads and fork are as there. What is mapped by these functions is theirs: whoever unmaps it by other means may find
 * it unmapped again, when its IOVAs are somebody else's.
 */
#ifndef IOMMUFD_FAST_MEMORY_H
#define IOMMUFD_FAST_MEMORY_H

#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- DMA memory: large pages, a NUMA node, mapped ---------------------------------------------------------------------- */

enum iof_dma_page {
	IOF_DMA_PAGE_AUTO = 0, /* the largest that is to be had and wastes no more than an eighth: 1 GiB, 2 MiB, transparent, 4 KiB */
	IOF_DMA_PAGE_4K = 1,
	IOF_DMA_PAGE_THP = 2, /* transparent huge pages */
	IOF_DMA_PAGE_2M = 3, /* hugetlb */
	IOF_DMA_PAGE_1G = 4,
};

#define IOF_DMA_SHARED 1u /* a memfd, that can be passed on and mapped by IOAS_MAP_FILE; else private and anonymous */
#define IOF_DMA_NODE 2u /* from NUMA node `node` and no other */

struct iof_dma_request {
	size_t size; /* sizeof(struct iof_dma_request) of the caller */
	uint64_t length; /* bytes; rounded up to whole pages of the kind that it becomes */
	enum iof_dma_page page;
	uint32_t flags; /* IOF_DMA_* */
	uint32_t node;
	void *at; /* where, in a range that the caller has reserved (PROT_NONE); NULL: anywhere, with a guard page on both sides */
};

struct iof_dma_memory {
	void *address;
	uint64_t length; /* whole pages */
	uint64_t iova; /* of iof_dma_alloc() */
	uint64_t huge_bytes; /* that are in pages of 2 MiB or more, when it was made */
	enum iof_dma_page page; /* what it became; THP: some of it, see huge_bytes */
	enum iof_dma_page missed; /* the largest that AUTO wanted and did not get; AUTO: none */
	int why; /* -errno of `missed` */
	int fd; /* the memfd, owned; -1: none */
	uint32_t ioas_id;
	struct iof_handle *ctx;
	void *reserved; /* the range around it, or NULL when the caller has it */
	uint64_t reserved_length;
};

/*
 * Memory that is there: every page has been written (zeros). 0; -EINVAL size, length, page, flags, node, a misplaced `at`; -ENOMEM none of
 * that kind (hugetlb: vm.nr_hugepages, THP: /sys/kernel/mm/transparent_hugepage/enabled); -EOVERFLOW; or -errno of the system.
 */
int iof_dma_memory_get(const struct iof_dma_request *rq, struct iof_dma_memory *out);
/* Gives it back; it must not be mapped any more. At `at` a PROT_NONE range stays. A memory of zeros is fine. */
void iof_dma_memory_put(struct iof_dma_memory *m);

/* The same, mapped in an IOAS with `map_flags` (enum iof_map_flag; with FIXED at out->iova). 0, or -errno of either step with nothing left behind. */
int iof_dma_alloc(struct iof_handle *ctx, uint32_t ioas_id, uint32_t map_flags, const struct iof_dma_request *rq,
		  struct iof_dma_memory *out);
/* Unmaps first, then gives back. -errno of IOAS_UNMAP: nothing has changed (-ENOENT, it is not mapped, is no error). */
int iof_dma_free(struct iof_dma_memory *m);

/* ---- arenas: mapped once, carved into buffers -------------------------------------------------------------------------- */

struct iof_dma_arena;

#define IOF_DMA_ARENA_POISON 1u /* fill what is given back, and look whether somebody wrote there when it is taken again */
#define IOF_DMA_ARENA_TRACK 2u /* remember who took each buffer */
#define IOF_DMA_ARENA_FIXED_SIZE 4u /* never more than the first region */

struct iof_dma_arena_config {
	size_t size; /* sizeof(struct iof_dma_arena_config) of the caller */
	uint32_t ioas_id;
	uint32_t flags; /* IOF_DMA_ARENA_* */
	uint64_t region; /* bytes mapped at a time, a power of two from 64 KiB to 1 GiB; 0: 2 MiB. The largest buffer */
	uint64_t limit; /* bytes altogether, a multiple of `region` up to 128 GiB; 0: 64 regions. Only address space is taken for it */
	struct iof_dma_request memory; /* its page, flags and node; the rest is not looked at */
	struct iof_alloc *alloc; /* for bookkeeping, must outlive the arena; NULL: the heap */
};

struct iof_dma_arena_buffer {
	void *address;
	uint64_t iova;
	uint64_t length; /* the size class: at least what was asked for */
	const void *who; /* TRACK: the return address of the caller of iof_dma_arena_take(), or what iof_dma_arena_mark() said */
};

struct iof_dma_arena_stats {
	uint64_t mapped, limit; /* bytes */
	uint64_t taken; /* bytes that somebody has, by size class; exact when no call runs */
	uint64_t cached; /* bytes in magazines: given back, ready for the next */
	uint64_t high; /* high-water mark of taken + cached */
	uint64_t takes, gives, refused;
	uint64_t regions, grown;
	uint64_t late_writes; /* POISON: buffers that were written to after they had been given back */
	uint64_t live_by_class[48]; /* buffers that somebody has, by log2 of their size */
	uint64_t high_by_class[48]; /* high-water marks, magazines included */
};

/* 0; -EINVAL: config; -ENOMEM; -errno of iof_dma_alloc(), for the first region. With ctx NULL there is none yet: see iof_dma_arena_add(). */
int iof_dma_arena_create(struct iof_handle *ctx, const struct iof_dma_arena_config *cfg, struct iof_dma_arena **out);
/*
 * Unmaps and frees everything, buffers that were not given back too (see iof_dma_arena_taken()). No call may run, no device may use it. -errno of the unmap that
 * was refused: the arena is as it was, minus regions that are unmapped already.
 */
int iof_dma_arena_destroy(struct iof_dma_arena *a);

/*
 * A buffer of at least n bytes whose IOVA and address are multiples of `align` (0: of the size class, up to a page) and which crosses no multiple of `boundary` (0: none), both powers of two.
 * Buffers are powers of two from 64 bytes, aligned to their own size up to 2 MiB. 0; -EINVAL: n 0 or more than a region, an alignment above 2 MiB or a region,
 * n above the boundary, or above 2 MiB with one; -ENOSPC: full, and not allowed to grow; -errno of growing.
 */
int iof_dma_arena_take(struct iof_dma_arena *a, uint64_t n, uint64_t align, uint64_t boundary, struct iof_dma_arena_buffer *out);
/* 0; -EALREADY: it is not taken (given twice); -EINVAL: no buffer of this arena begins there. */
int iof_dma_arena_give(struct iof_dma_arena *a, void *address);
/* The IOVA of any byte of the arena: 0, or -EINVAL. */
int iof_dma_arena_iova(const struct iof_dma_arena *a, const void *address, uint64_t *iova);
/* TRACK: from now on `who` has it. */
void iof_dma_arena_mark(struct iof_dma_arena *a, void *address, const void *who);
/* Buffers that somebody has, ascending by address: writes at most n, returns how many there are. No other call may run. */
size_t iof_dma_arena_taken(struct iof_dma_arena *a, size_t n, struct iof_dma_arena_buffer *out);
void iof_dma_arena_stats(struct iof_dma_arena *a, struct iof_dma_arena_stats *out);

/* For callers that map by themselves: where the next region has to be (NULL: the limit is reached), and that it now is there, at `iova`. One thread at a time. */
void *iof_dma_arena_place(struct iof_dma_arena *a);
int iof_dma_arena_add(struct iof_dma_arena *a, uint64_t iova); /* -EINVAL: iova has not the alignment of the region (up to 2 MiB); -ENOSPC; -ENOMEM */
bool iof_dma_arena_is_valid(struct iof_dma_arena *a); /* re-derives everything; for tests. No other call may run */

/* ---- caches of mappings: map on first use ------------------------------------------------------------------------------ */

struct iof_map_cache;
struct iof_map_entry; /* a mapping in the cache */

#define IOF_MAP_CACHE_JOIN 1u /* a buffer next to a cached one that nobody uses: map both as one (those that overlap always are) */
#define IOF_MAP_CACHE_WATCH 2u /* notice by userfaultfd when memory goes; -EPERM, -EINVAL … from create where that is not possible */

struct iof_map_cache_config {
	size_t size; /* sizeof(struct iof_map_cache_config) of the caller */
	uint32_t ioas_id;
	uint32_t map_flags; /* READABLE | WRITEABLE: what devices may do */
	enum iof_policy policy; /* DEFAULT: PROBE */
	uint32_t flags; /* IOF_MAP_CACHE_* */
	uint64_t max_bytes; /* 0: no limit */
	uint64_t max_entries; /* 0: 4096 */
	uint64_t max_joined; /* bytes of a joined entry; 0: 2 MiB. Joining maps all of it anew */
	/*
	 * May be NULL. Memory that `token` (not 0; from iof_map_cache_own()) stands for is mapped no more. Called without locks from any thread that uses the
	 * cache, and with WATCH from one of its own; it must not wait for a thread that may be in munmap().
	 */
	void (*gone)(void *arg, uint64_t token);
	void *arg;
	struct iof_alloc *alloc; /* must outlive the cache; NULL: the heap */
};

struct iof_map_cache_stats {
	uint64_t hits, misses, joined, evicted, invalidated, refused; /* hits: a few may be lost between threads */
	uint64_t entries, bytes; /* mapped now */
	uint64_t in_use; /* entries */
	uint64_t watched, unwatched; /* misses whose memory userfaultfd could watch, or not */
	uint64_t events; /* times that memory went */
};

int iof_map_cache_create(struct iof_handle *ctx, const struct iof_map_cache_config *cfg, struct iof_map_cache **out);
/* Unmaps everything. -EBUSY: entries are in use, nothing has changed. No other call may run. */
int iof_map_cache_destroy(struct iof_map_cache *c);

/*
 * For an IOAS that is gone, or is going with its context: ends the cache without unmapping. Owners are told all the same, except those of entries that were
 * invalidated while in use; what is in use must not be put any more. No other call may run.
 */
void iof_map_cache_abandon(struct iof_map_cache *c);

/*
 * The IOVA of [address, address + n), mapped now if it is not yet, and pinned in the cache until iof_map_cache_put(). 0: *iova and *entry; 1: the same, and it
 * was mapped now; -EINVAL n 0; -EOVERFLOW; -ENOSPC: everything that would have to make room is in use; -errno of IOAS_MAP.
 */
int iof_map_cache_get(struct iof_map_cache *c, const void *address, uint64_t n, uint64_t *iova, struct iof_map_entry **entry);
void iof_map_cache_put(struct iof_map_cache *c, struct iof_map_entry *entry);
/* While it is in use: what `gone` will be told. The previous token, 0 at first. */
uint64_t iof_map_cache_own(struct iof_map_entry *entry, uint64_t token);
/*
 * The memory is about to go: nothing of [address, address + n) is answered any more, and what nobody uses is unmapped when this returns. How many entries
 * are still in use (each is unmapped with its last put), or -EINVAL, -EOVERFLOW.
 */
int64_t iof_map_cache_invalidate(struct iof_map_cache *c, const void *address, uint64_t n);
uint64_t iof_map_cache_trim(struct iof_map_cache *c); /* unmaps what nobody uses; how many bytes */
void iof_map_cache_stats(struct iof_map_cache *c, struct iof_map_cache_stats *out);
bool iof_map_cache_is_valid(struct iof_map_cache *c); /* for tests; no other call may run */

/* ---- scatter lists ----------------------------------------------------------------------------------------------------- */

struct iof_map_sg {
	uint32_t ioas_id;
	uint32_t flags; /* enum iof_map_flag; FIXED: `iova` is where */
	enum iof_policy policy;
	size_t n;
	const uint64_t *addresses, *lengths; /* whole pages; only the first may begin, and the last end, inside one */
	uint64_t iova; /* out (in with FIXED): of the first byte; has its offset in the page */
	uint64_t *iovas; /* out, may be NULL: where each begins */
	size_t failed; /* out: index of the entry that was refused, n: none of them */
};
/* Maps n ranges one behind the other, all or nothing. 0; -EINVAL: n 0, a flag that is none, an entry that is not whole pages; -EOVERFLOW; -ENOSPC; or the errno of entry `failed`. Each stays a mapping of its own. */
int iof_map_sg(struct iof_handle *ctx, struct iof_map_sg *sg);

/* Where a MAP of so many bytes at `address` would go now, of its own choice; nothing is taken. 0; -ENOENT; -ENOSPC; -EOPNOTSUPP: the provider does not tell. */
int iof_iova_place(struct iof_handle *ctx, uint32_t ioas_id, uint64_t address, uint64_t length, uint64_t *iova);

#ifdef __cplusplus
}
#endif

#endif
