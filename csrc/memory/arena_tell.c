/* SPDX-License-Identifier: Apache-2.0 */
/* What an arena tells about itself, and whether it is as it should be. */
#include <sched.h>

#include "memory/arena.h"

#define GRANULE(order) (UINT64_C(1) << ((order) + IOFI_GRANULE_SHIFT))

/* ---- statistics ---- */

static void count(struct iof_dma_arena_stats *s, const uint64_t *takes, const uint64_t *gives)
{
	for (unsigned order = 0; order < IOFI_ORDERS; order++) {
		s->takes += takes[order];
		s->gives += gives[order];
		s->live_by_class[order + IOFI_GRANULE_SHIFT] += takes[order] - gives[order];
		s->taken += (takes[order] - gives[order]) * GRANULE(order);
	}
}

static void count_shards(struct iof_dma_arena *a, struct iof_dma_arena_stats *s)
{
	for (unsigned i = 0; i < IOFI_SHARDS; i++) {
		while (!iofi_shard_try(&a->shard[i]))
			sched_yield();
		count(s, a->shard[i].takes, a->shard[i].gives);
		for (unsigned order = 0; order < IOFI_CACHED_ORDERS; order++)
			s->cached += a->shard[i].magazine[order].n * GRANULE(order);
		iofi_shard_leave(&a->shard[i]);
	}
}

void iof_dma_arena_stats(struct iof_dma_arena *a, struct iof_dma_arena_stats *out)
{
	*out = (struct iof_dma_arena_stats){ .limit = a->extent };
	count_shards(a, out);
	iof_lock_take(&a->lock);
	count(out, a->takes, a->gives);
	for (unsigned order = 0; order < IOFI_ORDERS; order++)
		out->high_by_class[order + IOFI_GRANULE_SHIFT] = a->high_out[order];
	out->high = a->high;
	out->regions = a->n_regions;
	iof_lock_drop(&a->lock);
	out->grown = out->regions ? out->regions - 1 : 0;
	out->mapped = out->regions << (a->region_order + IOFI_GRANULE_SHIFT);
	out->refused = atomic_load_explicit(&a->refused, memory_order_relaxed);
	out->late_writes = atomic_load_explicit(&a->late_writes, memory_order_relaxed);
}

/* ---- who has what ---- */

size_t iof_dma_arena_taken(struct iof_dma_arena *a, size_t n, struct iof_dma_arena_buffer *out)
{
	uint32_t end = a->n_regions << a->region_order;
	struct iofi_region *r;
	size_t found = 0;
	uint8_t state;

	for (uint32_t g = 0, local; g < end; g++) {
		r = iofi_region_of(a, g);
		local = iofi_local(a, g);
		state = atomic_load_explicit(&r->state[local], memory_order_relaxed);
		if (!(state & IOFI_TAKEN))
			continue;
		if (found < n)
			out[found] = (struct iof_dma_arena_buffer){
				.address = iofi_address(a, g),
				.iova = r->iova + ((uint64_t)local << IOFI_GRANULE_SHIFT),
				.length = GRANULE(state & IOFI_ORDER_MASK),
				.who = r->who ? atomic_load_explicit(&r->who[local], memory_order_relaxed) : NULL,
			};
		found++;
	}
	return found;
}

/* ---- is it valid? ---- */

struct tally {
	uint64_t taken[IOFI_ORDERS], cached[IOFI_ORDERS];
};

/* The order of the free block that begins at a granule, or -1; more than one is invalid: IOFI_ORDERS. */
static int free_order(const struct iof_dma_arena *a, const struct iofi_region *r, uint32_t local)
{
	int found = -1;

	for (unsigned order = 0; order <= a->region_order && !(local & iof_low_mask(order)); order++)
		if (iofi_bitset_has(&r->free[order], local >> order))
			found = found < 0 ? (int)order : IOFI_ORDERS;
	return found;
}

static bool buddy_is_free(const struct iof_dma_arena *a, const struct iofi_region *r, uint32_t local, unsigned order)
{
	return order < a->region_order && iofi_bitset_has(&r->free[order], (local ^ UINT32_C(1) << order) >> order);
}

/* One stretch, free or not: how many granules it is, 0 when something is wrong. */
static uint32_t stretch(const struct iof_dma_arena *a, const struct iofi_region *r, uint32_t local, struct tally *t)
{
	uint8_t state = atomic_load_explicit(&r->state[local], memory_order_relaxed);
	unsigned order = state & IOFI_ORDER_MASK;
	int is_free = free_order(a, r, local);

	if (is_free >= 0) {
		if (state || is_free == IOFI_ORDERS || buddy_is_free(a, r, local, (unsigned)is_free))
			return 0;
		return UINT32_C(1) << is_free;
	}
	if (!(state & (IOFI_TAKEN | IOFI_CACHED)) || order > a->region_order || local & iof_low_mask(order))
		return 0;
	(state & IOFI_TAKEN ? t->taken : t->cached)[order]++;
	return UINT32_C(1) << order;
}

static bool region_is_valid(struct iof_dma_arena *a, uint32_t index, struct tally *t)
{
	struct iofi_region *r = atomic_load_explicit(&a->region[index], memory_order_relaxed);
	uint32_t n;

	for (uint64_t local = 0; local < UINT64_C(1) << a->region_order; local += n) {
		n = stretch(a, r, (uint32_t)local, t);
		if (!n)
			return false;
		for (uint64_t inner = local + 1; inner < local + n; inner++)
			if (atomic_load_explicit(&r->state[inner], memory_order_relaxed) || free_order(a, r, (uint32_t)inner) >= 0)
				return false;
	}
	for (unsigned order = 0; order <= a->region_order; order++)
		if (iofi_bitset_has(&a->with[order], index) == iofi_bitset_empty(&r->free[order]))
			return false;
	return true;
}

static bool counts_are_valid(struct iof_dma_arena *a, const struct tally *t)
{
	uint64_t cached, live;

	for (unsigned order = 0; order < IOFI_ORDERS; order++) {
		cached = 0;
		live = a->takes[order] - a->gives[order];
		for (unsigned i = 0; i < IOFI_SHARDS; i++) {
			cached += order < IOFI_CACHED_ORDERS ? a->shard[i].magazine[order].n : 0;
			live += a->shard[i].takes[order] - a->shard[i].gives[order];
		}
		if (cached != t->cached[order] || live != t->taken[order] || a->out[order] != cached + live ||
		    a->high_out[order] < a->out[order])
			return false;
	}
	return true;
}

bool iof_dma_arena_is_valid(struct iof_dma_arena *a)
{
	struct tally t = { 0 };

	for (uint32_t i = 0; i < a->max_regions; i++) {
		if (i >= a->n_regions ? atomic_load_explicit(&a->region[i], memory_order_relaxed) != NULL : !region_is_valid(a, i, &t))
			return false;
	}
	return counts_are_valid(a, &t);
}
