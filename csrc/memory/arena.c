/* SPDX-License-Identifier: Apache-2.0 */
/* Making arenas, their regions, and the end of both. */
#include "memory/arena.h"

#include <string.h>

#include "memory/os.h"

#define REGION_MIN (UINT64_C(64) << 10)
#define REGION_MAX (UINT64_C(1) << 30)
#define LIMIT_MAX (UINT64_C(128) << 30)

/* ---- regions ---- */

/* The bookkeeping of a region: sets, states, owners, in one piece behind the struct. */
static struct iofi_region *make_region(struct iof_dma_arena *a)
{
	uint64_t granules = UINT64_C(1) << a->region_order;
	size_t words = 0, bytes;
	struct iofi_region *r;
	uint64_t *at;

	for (unsigned order = 0; order <= a->region_order; order++)
		words += iofi_bitset_words(granules >> order);
	bytes = sizeof(*r) + words * 8 + granules + (a->flags & IOF_DMA_ARENA_TRACK ? granules * sizeof(*r->who) : 0);
	r = iof_mem_zget(a->alloc, bytes, IOF_CACHELINE);
	if (!r)
		return NULL;
	at = r->words = (uint64_t *)(r + 1);
	r->bytes = bytes;
	for (unsigned order = 0; order <= a->region_order; order++)
		at = iofi_bitset_init(&r->free[order], at, granules >> order);
	if (a->flags & IOF_DMA_ARENA_TRACK) {
		r->who = (const void *_Atomic *)at;
		at += granules;
	}
	r->state = (_Atomic uint8_t *)at;
	return r;
}

static bool is_full(const struct iof_dma_arena *a)
{
	return a->n_regions == a->max_regions || (a->flags & IOF_DMA_ARENA_FIXED_SIZE && a->n_regions);
}

static void *place(const struct iof_dma_arena *a)
{
	return is_full(a) ? NULL : a->base + ((uint64_t)a->n_regions << (a->region_order + IOFI_GRANULE_SHIFT));
}

/* The region's memory is there and mapped. */
static void publish(struct iof_dma_arena *a, struct iofi_region *r, uint64_t iova)
{
	r->iova = iova;
	if (a->flags & IOF_DMA_ARENA_POISON)
		memset(place(a), IOFI_POISON, (size_t)1 << (a->region_order + IOFI_GRANULE_SHIFT));
	iof_lock_take(&a->lock);
	atomic_store_explicit(&a->region[a->n_regions], r, memory_order_release);
	iofi_store_add(a, a->n_regions++);
	iof_lock_drop(&a->lock);
}

static bool is_congruent(const struct iof_dma_arena *a, uint64_t iova)
{
	uint64_t region = UINT64_C(1) << (a->region_order + IOFI_GRANULE_SHIFT);

	return !(iova & ((region < IOFI_ALIGN_MAX ? region : IOFI_ALIGN_MAX) - 1));
}

static int add_region(struct iof_dma_arena *a)
{
	struct iofi_region *r;
	int rc;

	if (is_full(a) || !a->ctx)
		return -ENOSPC;
	r = make_region(a);
	if (!r)
		return -ENOMEM;
	a->memory.at = place(a);
	rc = iof_dma_alloc(a->ctx, a->ioas_id, IOF_MAP_READABLE | IOF_MAP_WRITEABLE, &a->memory, &r->memory);
	if (!rc && !is_congruent(a, r->memory.iova)) {
		rc = iof_dma_free(&r->memory);
		rc = rc ? rc : -EADDRNOTAVAIL; /* the provider chooses IOVAs without regard to addresses */
	}
	if (rc)
		iof_mem_put(a->alloc, r, r->bytes);
	else
		publish(a, r, r->memory.iova);
	return rc;
}

int iofi_arena_grow(struct iof_dma_arena *a, uint32_t seen)
{
	int rc = 0;

	iof_lock_take(&a->growing);
	if (a->n_regions == seen)
		rc = add_region(a);
	iof_lock_drop(&a->growing);
	return rc;
}

void *iof_dma_arena_place(struct iof_dma_arena *a)
{
	void *at;

	iof_lock_take(&a->growing);
	at = place(a);
	iof_lock_drop(&a->growing);
	return at;
}

int iof_dma_arena_add(struct iof_dma_arena *a, uint64_t iova)
{
	struct iofi_region *r = NULL;
	int rc = -EINVAL;

	iof_lock_take(&a->growing);
	if (is_full(a))
		rc = -ENOSPC;
	else if (is_congruent(a, iova))
		rc = (r = make_region(a)) ? 0 : -ENOMEM;
	if (!rc)
		publish(a, r, iova);
	iof_lock_drop(&a->growing);
	return rc;
}

/* ---- making one ---- */

static int check(const struct iof_dma_arena_config *cfg, uint64_t *region, uint64_t *limit)
{
	if (cfg->size != sizeof(*cfg) || cfg->flags & ~(IOF_DMA_ARENA_POISON | IOF_DMA_ARENA_TRACK | IOF_DMA_ARENA_FIXED_SIZE))
		return -EINVAL;
	*region = cfg->region ? cfg->region : IOFI_ALIGN_MAX;
	if (!iof_is_pow2(*region) || *region < REGION_MIN || *region > REGION_MAX)
		return -EINVAL;
	*limit = cfg->limit ? cfg->limit : 64 * *region;
	if (*limit % *region || *limit > LIMIT_MAX || *limit / *region > IOFI_REGIONS_MAX)
		return -EINVAL;
	return 0;
}

static void init(struct iof_dma_arena *a, struct iof_handle *ctx, const struct iof_dma_arena_config *cfg, uint64_t region, uint64_t limit)
{
	iof_alloc_init_heap(&a->heap);
	a->alloc = cfg->alloc ? cfg->alloc : &a->heap;
	a->ctx = ctx;
	a->ioas_id = cfg->ioas_id;
	a->flags = cfg->flags;
	a->extent = limit;
	a->max_regions = (uint32_t)(limit / region);
	a->region_order = iof_log2(region) - IOFI_GRANULE_SHIFT;
	a->memory = (struct iof_dma_request){ .size = sizeof(a->memory), .length = region, .page = cfg->memory.page,
					      .flags = cfg->memory.flags, .node = cfg->memory.node };
	iof_lock_init(&a->growing, false);
	iof_lock_init(&a->lock, false);
}

static size_t with_words(const struct iof_dma_arena *a)
{
	return (a->region_order + 1) * iofi_bitset_words(a->max_regions);
}

/* What can fail: the sets, the addresses, the first region. */
static int prepare(struct iof_dma_arena *a)
{
	uint64_t region = UINT64_C(1) << (a->region_order + IOFI_GRANULE_SHIFT), *at;
	int rc;

	a->words = at = iof_mem_zget(a->alloc, with_words(a) * 8, IOF_CACHELINE);
	if (!at)
		return -ENOMEM;
	for (unsigned order = 0; order <= a->region_order; order++)
		at = iofi_bitset_init(&a->with[order], at, a->max_regions);
	a->reserved_length = a->extent + region;
	rc = iofi_reserve(NULL, a->reserved_length, &a->reserved);
	if (rc) {
		a->reserved = NULL;
		return rc;
	}
	a->base = (char *)iof_align_down((uintptr_t)a->reserved + (region - 1), region);
	return a->ctx ? iofi_arena_grow(a, 0) : 0;
}

static void tear_down(struct iof_dma_arena *a)
{
	struct iof_alloc heap, *from = a->alloc;
	struct iofi_region *r;

	for (uint32_t i = 0; i < a->n_regions; i++) {
		r = atomic_load_explicit(&a->region[i], memory_order_relaxed);
		iof_mem_put(a->alloc, r, r->bytes);
	}
	if (a->reserved)
		(void)iofi_os(munmap(a->reserved, a->reserved_length));
	iof_mem_put(a->alloc, a->words, with_words(a) * 8);
	if (from == &a->heap) {
		iof_alloc_init_heap(&heap);
		from = &heap;
	}
	iof_mem_put(from, a, sizeof(*a));
}

int iof_dma_arena_create(struct iof_handle *ctx, const struct iof_dma_arena_config *cfg, struct iof_dma_arena **out)
{
	struct iof_alloc heap;
	struct iof_dma_arena *a;
	uint64_t region, limit;
	int rc = check(cfg, &region, &limit);

	if (rc)
		return rc;
	iof_alloc_init_heap(&heap);
	a = iof_mem_zget(cfg->alloc ? cfg->alloc : &heap, sizeof(*a), IOF_CACHELINE);
	if (!a)
		return -ENOMEM;
	init(a, ctx, cfg, region, limit);
	rc = prepare(a);
	if (rc) {
		tear_down(a);
		return rc;
	}
	*out = a;
	return 0;
}

int iof_dma_arena_destroy(struct iof_dma_arena *a)
{
	struct iofi_region *r;
	int rc;

	for (uint32_t i = 0; i < a->n_regions; i++) {
		r = atomic_load_explicit(&a->region[i], memory_order_relaxed);
		rc = r->memory.address ? iof_dma_free(&r->memory) : 0;
		if (rc)
			return rc;
	}
	tear_down(a);
	return 0;
}
