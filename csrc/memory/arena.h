/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DmaArena: memory that is mapped once and carved into buffers many times.
 *
 * Buffers are powers of two, each aligned to its own size, from one granule (64 bytes) to one region. That alone keeps every promise about
 * alignment and boundaries without a search: a buffer of 2^k bytes on a multiple of 2^k crosses no boundary that it fits into. The price
 * is at most half of each buffer.
 *
 * Three tiers.
 *
 *   regions   One size each, side by side in one reserved range of addresses, so that an address is a region and a granule by a subtraction
 *             and a shift. Each is mapped by itself; its IOVA has the address's low bits (up to 2 MiB), so what is aligned here is aligned there.
 *   store     Buddies: for each order a set of free blocks. Under `lock`. A block that comes back joins its buddy.
 *   shards    Magazines of free buffers, by order up to 64 KiB, one shard for some of the threads. A shard is only ever tried: who finds it
 *             busy goes to the next, and after the last to the store. Magazines are bounded, and emptied before the arena grows or says no.
 *
 * What a granule is, stands in its region's `state`: the head of a buffer that somebody has (TAKEN), of one in a magazine (CACHED), with its order; or
 * 0, when it is inside of something or in the store. Giving turns TAKEN into CACHED in one atomic step, which is what finds a
 * second give, also at the same moment. Nothing of ours is kept in the memory itself: a device may write there late.
 *
 * Invariants (iof_dma_arena_is_valid): every granule belongs to exactly one free block, cached buffer or taken buffer; no two buddies are both free;
 * `out` counts what is not in the store.
 *
 * Lock order: growing, a shard, lock. A thread has at most one shard. Nobody waits for a shard with a lock in hand.
 *
 * Two dangerous words: a `granule` number counts from the arena's first byte, a `local` one from its region's; an `order` is log2 of granules, not of bytes.
 */
#ifndef IOF_MEMORY_ARENA_H
#define IOF_MEMORY_ARENA_H

#include <errno.h>
#include <stdatomic.h>

#include "iommufd_fast_memory.h"
#include "memory/bitset.h"
#include "util/alloc.h"
#include "util/lock.h"

#define IOFI_GRANULE_SHIFT 6
#define IOFI_ORDERS 25 /* 64 bytes to 1 GiB */
#define IOFI_CACHED_ORDERS 11 /* to 64 KiB */
#define IOFI_SHARDS 8
#define IOFI_MAGAZINE 32
#define IOFI_MAGAZINE_SHIFT 17 /* and no more than 128 KiB in one */
#define IOFI_REGIONS_MAX 1024
#define IOFI_ALIGN_MAX (UINT64_C(2) << 20)

#define IOFI_TAKEN 0x40u
#define IOFI_CACHED 0x80u
#define IOFI_ORDER_MASK 0x3fu
#define IOFI_POISON 0xa5u

struct iofi_region {
	uint64_t iova; /* of its first byte; never changes */
	_Atomic uint8_t *state; /* by local granule */
	const void *_Atomic *who; /* the same; NULL without TRACK */
	uint64_t *words; /* of the sets, and all after it in one piece */
	struct iofi_bitset free[IOFI_ORDERS]; /* arena.lock: free blocks by their number at that order */
	struct iof_dma_memory memory; /* .ctx NULL: mapped by the caller */
	size_t bytes;
};

struct iofi_magazine {
	uint32_t n;
	uint32_t granule[IOFI_MAGAZINE];
};

struct iofi_shard {
	_Alignas(IOF_CACHELINE) _Atomic uint32_t busy; /* covers the rest */
	uint64_t takes[IOFI_ORDERS], gives[IOFI_ORDERS]; /* calls; who took need not be who gives */
	struct iofi_magazine magazine[IOFI_CACHED_ORDERS];
};

struct iof_dma_arena {
	/* never changes */
	char *base;
	uint64_t extent; /* bytes from base that regions may fill */
	unsigned region_order;
	uint32_t flags;
	struct iof_handle *ctx;
	uint32_t ioas_id, max_regions;
	struct iof_dma_request memory;
	struct iof_alloc *alloc, heap;
	void *reserved;
	uint64_t reserved_length;
	uint64_t *words; /* of `with` */

	_Atomic uint64_t refused, late_writes;
	struct iof_lock growing; /* one region at a time */
	struct iof_lock lock; /* the store: what follows, and the regions' sets */
	uint32_t n_regions;
	struct iofi_bitset with[IOFI_ORDERS]; /* regions that have a free block of the order */
	uint64_t out[IOFI_ORDERS], high_out[IOFI_ORDERS]; /* blocks */
	uint64_t bytes_out, high;
	uint64_t takes[IOFI_ORDERS], gives[IOFI_ORDERS]; /* that went past the shards */

	struct iofi_shard shard[IOFI_SHARDS];
	struct iofi_region *_Atomic region[IOFI_REGIONS_MAX]; /* set once, in order */
};

/* The store, under the lock. take: false when nothing is left of that order or above. */
bool iofi_store_take(struct iof_dma_arena *a, unsigned order, uint32_t *granule);
void iofi_store_put(struct iof_dma_arena *a, uint32_t granule, unsigned order);
void iofi_store_add(struct iof_dma_arena *a, uint32_t region); /* all of a region is free */

/* Puts what the magazines hold into the store: how many. Takes shards and the lock. */
size_t iofi_arena_flush(struct iof_dma_arena *a);
/* One more region, unless there are not `seen` any more. 0, -ENOSPC, -errno. */
int iofi_arena_grow(struct iof_dma_arena *a, uint32_t seen);

static inline uint32_t iofi_magazine_size(unsigned order)
{
	uint32_t n = UINT32_C(1) << (IOFI_MAGAZINE_SHIFT - IOFI_GRANULE_SHIFT) >> order;

	return n < IOFI_MAGAZINE ? n : IOFI_MAGAZINE;
}

static inline uint32_t iofi_local(const struct iof_dma_arena *a, uint32_t granule)
{
	return granule & (uint32_t)iof_low_mask(a->region_order);
}

static inline struct iofi_region *iofi_region_of(const struct iof_dma_arena *a, uint32_t granule)
{
	return atomic_load_explicit(&a->region[granule >> a->region_order], memory_order_acquire);
}

static inline char *iofi_address(const struct iof_dma_arena *a, uint32_t granule)
{
	return a->base + ((uint64_t)granule << IOFI_GRANULE_SHIFT);
}

static inline void iofi_shard_leave(struct iofi_shard *s)
{
	atomic_store_explicit(&s->busy, 0, memory_order_release);
}

static inline bool iofi_shard_try(struct iofi_shard *s)
{
	uint32_t idle = 0;

	return !atomic_load_explicit(&s->busy, memory_order_relaxed) &&
	       atomic_compare_exchange_strong_explicit(&s->busy, &idle, 1, memory_order_acquire, memory_order_relaxed);
}

#endif
