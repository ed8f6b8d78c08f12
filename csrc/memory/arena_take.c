/* SPDX-License-Identifier: Apache-2.0 */
/* take and give: the short way through a magazine, and the long one. */
#include <sched.h>
#include <string.h>

#include "memory/arena.h"

/* ---- shards ---- */

/* A shard that nobody is in, this thread's own first; NULL: all are busy. */
static inline struct iofi_shard *enter(struct iof_dma_arena *a)
{
	uint32_t mine = iof_lock_self_shared();

	for (uint32_t i = 0; i < IOFI_SHARDS; i++) {
		struct iofi_shard *s = &a->shard[(mine + i) % IOFI_SHARDS];

		if (iof_likely(iofi_shard_try(s)))
			return s;
	}
	return NULL;
}

static void set_state(struct iof_dma_arena *a, uint32_t granule, uint8_t state)
{
	atomic_store_explicit(&iofi_region_of(a, granule)->state[iofi_local(a, granule)], state, memory_order_relaxed);
}

/* Half a magazine from the store, or what there is. */
static bool refill(struct iof_dma_arena *a, struct iofi_magazine *m, unsigned order)
{
	uint32_t want = (iofi_magazine_size(order) + 1) / 2;

	iof_lock_take(&a->lock);
	while (m->n < want && iofi_store_take(a, order, &m->granule[m->n]))
		set_state(a, m->granule[m->n++], (uint8_t)(IOFI_CACHED | order));
	iof_lock_drop(&a->lock);
	return m->n;
}

static void spill(struct iof_dma_arena *a, struct iofi_magazine *m, unsigned order, uint32_t left)
{
	iof_lock_take(&a->lock);
	while (m->n > left)
		iofi_store_put(a, m->granule[--m->n], order);
	iof_lock_drop(&a->lock);
}

size_t iofi_arena_flush(struct iof_dma_arena *a)
{
	size_t flushed = 0;

	for (unsigned i = 0; i < IOFI_SHARDS; i++) {
		while (!iofi_shard_try(&a->shard[i]))
			sched_yield();
		for (unsigned order = 0; order < IOFI_CACHED_ORDERS; order++) {
			flushed += a->shard[i].magazine[order].n;
			spill(a, &a->shard[i].magazine[order], order, 0);
		}
		iofi_shard_leave(&a->shard[i]);
	}
	return flushed;
}

/* ---- poison ---- */

static void poison(struct iof_dma_arena *a, uint32_t granule, unsigned order)
{
	memset(iofi_address(a, granule), IOFI_POISON, (size_t)1 << (order + IOFI_GRANULE_SHIFT));
}

static void look_for_late_writes(struct iof_dma_arena *a, uint32_t granule, unsigned order)
{
	const uint8_t *p = (const uint8_t *)iofi_address(a, granule);
	size_t n = (size_t)1 << (order + IOFI_GRANULE_SHIFT);

	if (p[0] != IOFI_POISON || memcmp(p, p + 1, n - 1))
		atomic_fetch_add_explicit(&a->late_writes, 1, memory_order_relaxed);
}

/* ---- take ---- */

/* The order of buffers that do, or -EINVAL. */
static inline int order_of(const struct iof_dma_arena *a, uint64_t n, uint64_t align, uint64_t boundary)
{
	uint64_t region = UINT64_C(1) << (a->region_order + IOFI_GRANULE_SHIFT);
	uint64_t size = n > align ? n : align;

	if (iof_unlikely(!n || n > region || (align && !iof_is_pow2(align)) || align > IOFI_ALIGN_MAX || align > region))
		return -EINVAL;
	if (iof_unlikely(boundary && (!iof_is_pow2(boundary) || n > boundary || n > IOFI_ALIGN_MAX)))
		return -EINVAL;
	return size <= UINT64_C(1) << IOFI_GRANULE_SHIFT ? 0 : (int)iof_log2(size - 1) + 1 - IOFI_GRANULE_SHIFT;
}

static bool from_store(struct iof_dma_arena *a, unsigned order, uint32_t *granule, uint32_t *seen)
{
	bool found;

	iof_lock_take(&a->lock);
	found = iofi_store_take(a, order, granule);
	a->takes[order] += found;
	*seen = a->n_regions;
	iof_lock_drop(&a->lock);
	return found;
}

/* No magazine had one. Those of others are looked through before the arena grows. */
static __attribute__((noinline)) int take_slowly(struct iof_dma_arena *a, unsigned order, uint32_t *granule)
{
	uint32_t seen;
	int rc;

	for (;;) {
		if (from_store(a, order, granule, &seen))
			return 0;
		if (iofi_arena_flush(a) && from_store(a, order, granule, &seen))
			return 0;
		rc = iofi_arena_grow(a, seen);
		if (rc) {
			atomic_fetch_add_explicit(&a->refused, 1, memory_order_relaxed);
			return rc;
		}
	}
}

static inline bool from_magazine(struct iof_dma_arena *a, unsigned order, uint32_t *granule)
{
	struct iofi_shard *s = enter(a);
	struct iofi_magazine *m;
	bool found;

	if (iof_unlikely(!s))
		return false;
	m = &s->magazine[order];
	found = iof_likely(m->n) || refill(a, m, order);
	if (found) {
		*granule = m->granule[--m->n];
		s->takes[order]++;
	}
	iofi_shard_leave(s);
	return found;
}

int iof_dma_arena_take(struct iof_dma_arena *a, uint64_t n, uint64_t align, uint64_t boundary, struct iof_dma_arena_buffer *out)
{
	int order = order_of(a, n, align, boundary), rc;
	struct iofi_region *r;
	uint32_t granule, local;

	if (iof_unlikely(order < 0))
		return order;
	if (iof_unlikely(order >= IOFI_CACHED_ORDERS || !from_magazine(a, (unsigned)order, &granule))) {
		rc = take_slowly(a, (unsigned)order, &granule);
		if (rc)
			return rc;
	}
	r = iofi_region_of(a, granule);
	local = iofi_local(a, granule);
	atomic_store_explicit(&r->state[local], (uint8_t)(IOFI_TAKEN | order), memory_order_relaxed);
	out->address = iofi_address(a, granule);
	out->iova = r->iova + ((uint64_t)local << IOFI_GRANULE_SHIFT);
	out->length = UINT64_C(1) << (order + IOFI_GRANULE_SHIFT);
	out->who = __builtin_return_address(0);
	if (iof_unlikely(a->flags & IOF_DMA_ARENA_POISON))
		look_for_late_writes(a, granule, (unsigned)order);
	if (iof_unlikely(r->who))
		atomic_store_explicit(&r->who[local], out->who, memory_order_relaxed);
	return 0;
}

/* ---- give ---- */

/* Which granule an address is, and that it is in a region. */
static inline bool find(const struct iof_dma_arena *a, const void *address, uint32_t *granule)
{
	uint64_t offset = (uint64_t)((uintptr_t)address - (uintptr_t)a->base);

	if (iof_unlikely(offset >= a->extent))
		return false;
	*granule = (uint32_t)(offset >> IOFI_GRANULE_SHIFT);
	return iof_likely(iofi_region_of(a, *granule));
}

/* Is a granule in the middle of a buffer that somebody has? A buffer's head is a multiple of its size. */
static bool inside_taken(struct iofi_region *r, uint32_t local)
{
	uint8_t state;

	for (unsigned order = 0; order < IOFI_ORDERS; order++) {
		state = atomic_load_explicit(&r->state[local & ~(uint32_t)iof_low_mask(order)], memory_order_relaxed);
		if (state & IOFI_TAKEN && (state & IOFI_ORDER_MASK) >= order)
			return true;
	}
	return false;
}

/* TAKEN becomes CACHED, for one caller only. The order, or -errno. */
static inline int claim(const struct iof_dma_arena *a, const void *address, uint32_t *granule)
{
	struct iofi_region *r;
	uint32_t local;
	uint8_t state;

	if (iof_unlikely(!find(a, address, granule)))
		return -EINVAL;
	r = iofi_region_of(a, *granule);
	local = iofi_local(a, *granule);
	state = atomic_load_explicit(&r->state[local], memory_order_relaxed);
	if (iof_unlikely((uintptr_t)address & iof_low_mask(IOFI_GRANULE_SHIFT) ||
			 (!(state & IOFI_TAKEN) && inside_taken(r, local))))
		return -EINVAL;
	if (iof_unlikely(!(state & IOFI_TAKEN) ||
			 !atomic_compare_exchange_strong_explicit(&r->state[local], &state, state ^ (IOFI_TAKEN | IOFI_CACHED),
								  memory_order_acq_rel, memory_order_relaxed)))
		return -EALREADY;
	return state & IOFI_ORDER_MASK;
}

static void to_store(struct iof_dma_arena *a, uint32_t granule, unsigned order)
{
	iof_lock_take(&a->lock);
	iofi_store_put(a, granule, order);
	a->gives[order]++;
	iof_lock_drop(&a->lock);
}

static inline bool to_magazine(struct iof_dma_arena *a, uint32_t granule, unsigned order)
{
	struct iofi_shard *s = enter(a);
	struct iofi_magazine *m;

	if (iof_unlikely(!s))
		return false;
	m = &s->magazine[order];
	if (iof_unlikely(m->n == iofi_magazine_size(order)))
		spill(a, m, order, m->n / 2);
	m->granule[m->n++] = granule;
	s->gives[order]++;
	iofi_shard_leave(s);
	return true;
}

int iof_dma_arena_give(struct iof_dma_arena *a, void *address)
{
	uint32_t granule;
	int order = claim(a, address, &granule);

	if (iof_unlikely(order < 0))
		return order;
	if (iof_unlikely(a->flags & IOF_DMA_ARENA_POISON))
		poison(a, granule, (unsigned)order);
	if (iof_unlikely(order >= IOFI_CACHED_ORDERS) || !to_magazine(a, granule, (unsigned)order))
		to_store(a, granule, (unsigned)order);
	return 0;
}

/* ---- questions ---- */

int iof_dma_arena_iova(const struct iof_dma_arena *a, const void *address, uint64_t *iova)
{
	uint32_t granule;
	uint64_t in_region;

	if (!find(a, address, &granule))
		return -EINVAL;
	in_region = ((uintptr_t)address - (uintptr_t)a->base) & iof_low_mask(a->region_order + IOFI_GRANULE_SHIFT);
	*iova = iofi_region_of(a, granule)->iova + in_region;
	return 0;
}

void iof_dma_arena_mark(struct iof_dma_arena *a, void *address, const void *who)
{
	struct iofi_region *r;
	uint32_t granule;

	if (!find(a, address, &granule))
		return;
	r = iofi_region_of(a, granule);
	if (r->who)
		atomic_store_explicit(&r->who[iofi_local(a, granule)], who, memory_order_relaxed);
}
