/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Map: the largest leaves that alignment and the table's page sizes allow (behaviour.md 10.2).
 *
 * A range is cut into runs of leaves of one size here, a run into the parts that one table holds in walker_fill.h.
 *
 * All or nothing: the first error unmaps what this call has mapped. Tables that it has added stay.
 */

#include "pagetable/walker_fill.h"

/* log2 of the largest page size for the place we are at, or 64: none fits. */
static unsigned best_size(const struct map *m)
{
	uint64_t left = m->last - m->at;
	unsigned limit = iof_ctz(m->at | m->address);
	unsigned by_length = left == UINT64_MAX ? 64 : iof_log2(left + 1);
	uint64_t fitting = m->sizes & iof_low_mask((limit < by_length ? limit : by_length) + 1);

	return fitting ? iof_log2(fitting) : 64;
}

/* How many leaves of the size come in a row: up to where a larger one becomes possible, or to the end. */
static uint64_t run_of(const struct map *m, unsigned size_lg2)
{
	uint64_t larger = m->sizes & ~iof_low_mask(size_lg2 + 1), left = m->last - m->at;
	uint64_t next = larger & -larger;

	if (next && !((m->at ^ m->address) & (next - 1))) {
		uint64_t reach = (next - 1) - (m->at & (next - 1));

		if (reach < left)
			left = reach;
	}
	if (FMT_ADDRESS_SPLIT) {
		uint64_t reach = ~m->address & iof_low_mask(FMT_ADDRESS_SPLIT);

		left = left < reach ? left : reach;
	}
	return (left >> size_lg2) + ((left & iof_low_mask(size_lg2)) == iof_low_mask(size_lg2));
}

/* New tops over the old one until the range and a leaf of the level fit. */
static int grow_top(struct map *m, unsigned level)
{
	const struct iof_pt_config *cfg = &m->pt->cfg;

	if (!FMT_GROWS)
		return 0;
	for (;;) {
		uint64_t root = root_load(m->pt), *table;
		unsigned top = iofi_root_level(root);

		if (m->last >> item_lg2(top) < TABLE_ITEMS && level <= top)
			return 0;
		if (!(cfg->features & IOF_PT_GROWING_TOP) || top >= FMT_LIMITS.level_max)
			return -ERANGE;
		table = spare_table(m);
		if (!table)
			return -ENOMEM;
		memset(table, 0, TABLE_BYTES);
		table[0] = fmt_table_item((uintptr_t)iofi_root_table(root), top + 1);
		if (!__atomic_compare_exchange_n(&m->pt->root, &root, (uintptr_t)table | (top + 1), false,
						 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			iofi_chain_push(&m->spare, table); /* another mapper grew it first */
	}
}

static int map_runs(struct map *m, uint64_t start)
{
	uint64_t end = m->last + 1; /* 0 for the end of all */

	do {
		unsigned size = best_size(m), level;
		uint64_t leaves;
		int err = 0;

		if (size == 64)
			return -FMT_MISALIGNED;
		level = (size - FMT_GRANULE_LG2) / FMT_TABLE_LG2;
		if (m->at == start)
			err = m->outside ? -ERANGE : grow_top(m, level);
		for (leaves = run_of(m, size); !err && leaves;) {
			uint64_t from = m->at;

			err = map_in_table(m, level, size, leaves);
			leaves -= (m->at - from) >> size;
		}
		if (err)
			return err;
	} while (m->at != end);
	return 0;
}

static int map_range(struct iof_pt *pt, struct iof_range r, uint64_t address, uint64_t attrs, uint64_t sizes,
		     struct iof_pt_gather *g)
{
	bool inside = fold_range(pt, r, &r);
	struct map m = { .pt = pt, .g = g, .at = r.start, .address = address, .last = r.last, .attrs = attrs,
			 .sizes = sizes, .outside = !inside };
	int err = map_runs(&m, r.start);

	spare_return(&m);
	if (err && m.at != r.start)
		unmap_range(pt, (struct iof_range){ r.start, m.at - 1 }, g);
	return err;
}

static int pt_map_sizes(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
			uint64_t sizes, struct iof_pt_gather *g)
{
	uint64_t attrs = fmt_attrs(pt, prot), least = pt->page_sizes & -pt->page_sizes;
	struct iof_range r;
	int err;

	if (FMT_BLOCKS) { /* alignment, then the ranges, then the permission (R10.8.6, R10.8.8) */
		if ((iova | address | length) & (least - 1))
			return -EINVAL;
		if (iova > pt->last || address > pt->address_max)
			return -ERANGE;
	}
	if (!(prot & (IOF_PROT_READ | IOF_PROT_WRITE)))
		return -EINVAL;
	if (address > pt->address_max)
		return -ERANGE;
	if (!attrs)
		return -EINVAL;
	err = iof_range_make(iova, length, &r);
	if (err)
		return err;
	if (iof_range_span(r) > pt->address_max - address)
		return -ERANGE;
	return map_range(pt, r, address, attrs, sizes, g);
}

static int pt_map(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
		  struct iof_pt_gather *g)
{
	uint64_t at = fold(pt, iova);

	if (iof_likely(length == GRANULE && !(at & pt->iova_not) && !(address & pt->address_not) && prot < IOFI_PROTS)) {
		uint64_t *slot = warm_slot(pt, at), attrs = pt->attrs[prot];

		if (iof_likely(slot && attrs && !iofi_entry_load(slot))) {
			iofi_entry_store(slot, fmt_leaf_item(address, FMT_GRANULE_LG2, 0, attrs));
			return 0;
		}
	}
	return pt_map_sizes(pt, iova, address, length, prot, pt->page_sizes, g);
}
