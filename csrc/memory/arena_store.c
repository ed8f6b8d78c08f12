/* SPDX-License-Identifier: Apache-2.0 */
/* The arena's store: buddies. Everything here is under the arena's lock. */
#include "memory/arena.h"

static void add_free(struct iof_dma_arena *a, uint32_t region, unsigned order, uint32_t local)
{
	struct iofi_region *r = atomic_load_explicit(&a->region[region], memory_order_relaxed);

	iofi_bitset_add(&r->free[order], local >> order);
	iofi_bitset_add(&a->with[order], region);
}

static void remove_free(struct iof_dma_arena *a, uint32_t region, unsigned order, uint32_t local)
{
	struct iofi_region *r = atomic_load_explicit(&a->region[region], memory_order_relaxed);

	iofi_bitset_remove(&r->free[order], local >> order);
	if (iofi_bitset_empty(&r->free[order]))
		iofi_bitset_remove(&a->with[order], region);
}

static void count_out(struct iof_dma_arena *a, unsigned order)
{
	a->bytes_out += UINT64_C(1) << (order + IOFI_GRANULE_SHIFT);
	if (a->bytes_out > a->high)
		a->high = a->bytes_out;
	if (++a->out[order] > a->high_out[order])
		a->high_out[order] = a->out[order];
}

bool iofi_store_take(struct iof_dma_arena *a, unsigned order, uint32_t *granule)
{
	unsigned from = order;
	uint32_t region, local;

	while (iofi_bitset_empty(&a->with[from]))
		if (++from > a->region_order)
			return false;
	region = (uint32_t)iofi_bitset_first(&a->with[from]);
	local = (uint32_t)iofi_bitset_first(&atomic_load_explicit(&a->region[region], memory_order_relaxed)->free[from]) << from;
	remove_free(a, region, from, local);
	while (from > order) {
		from--;
		add_free(a, region, from, local + (UINT32_C(1) << from));
	}
	count_out(a, order);
	*granule = (region << a->region_order) + local;
	return true;
}

void iofi_store_put(struct iof_dma_arena *a, uint32_t granule, unsigned order)
{
	uint32_t region = granule >> a->region_order, local = iofi_local(a, granule), buddy;
	struct iofi_region *r = atomic_load_explicit(&a->region[region], memory_order_relaxed);

	atomic_store_explicit(&r->state[local], 0, memory_order_relaxed);
	a->out[order]--;
	a->bytes_out -= UINT64_C(1) << (order + IOFI_GRANULE_SHIFT);
	for (; order < a->region_order; order++) {
		buddy = local ^ UINT32_C(1) << order;
		if (!iofi_bitset_has(&r->free[order], buddy >> order))
			break;
		remove_free(a, region, order, buddy);
		local &= ~(UINT32_C(1) << order);
	}
	add_free(a, region, order, local);
}

void iofi_store_add(struct iof_dma_arena *a, uint32_t region)
{
	add_free(a, region, a->region_order, 0);
}
