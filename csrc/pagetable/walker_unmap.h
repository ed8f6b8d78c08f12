/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unmap: removes whole leaves from the start of the range to its end or to the first gap (behaviour.md R10.3.1-3).
 *
 * A table whose whole span lies in the range is unlinked once everything below it is gone, and gathered. The lowest
 * tables, of which a large unmap has hundreds, are not cleared at all: one scan proves that each slot is taken, then
 * the table goes as it is.
 */

struct unmap {
	struct iof_pt_gather *g;
	enum iof_vectors vectors;
	uint64_t at; /* everything of the range before this is removed */
	uint64_t last; /* of the range */
	uint64_t removed;
};

/*
 * Every slot of a lowest table holds a leaf. Leaves never cross a table, so these are whole. `next` is the one that comes
 * after it, or NULL.
 */
static inline bool table_is_full(const uint64_t *table, const uint64_t *next, enum iof_vectors vectors)
{
	uint64_t all = iofi_table_and(table, next, TABLE_ITEMS, vectors);

	if (!FMT_PRESENT_FOLD)
		return all & 1;
	/*
	 * Nearly always every leaf can be read, or every one written. Only where the two are mixed do single ones
	 * matter.
	 */
	if (iof_likely(all & 3))
		return true;
	for (unsigned i = 0; i < TABLE_ITEMS; i++)
		if (!fmt_present(iofi_entry_load(&table[i])))
			return false;
	return true;
}

/* Clears the leaf at slot; false when `at` is in its middle. */
static inline bool unmap_leaf(struct unmap *u, uint64_t *slot, uint64_t item, unsigned level)
{
	unsigned size = fmt_leaf_size(item, level), count = 1u << (size - item_lg2(level));

	if (iof_unlikely(u->at & iof_low_mask(size)))
		return false;
	for (unsigned i = 0; i < count; i++)
		iofi_entry_store(&slot[i], 0);
	u->at += UINT64_C(1) << size;
	u->removed += UINT64_C(1) << size;
	return true;
}

static bool unmap_lowest(struct unmap *u, uint64_t *table)
{
	unsigned index = item_index(u->at, 0), end = end_index(u->at, u->last, 0);
	uint64_t before = u->removed;

	while (index < end) {
		uint64_t item = iofi_entry_load(&table[index]);

		if (!fmt_present(item) || !unmap_leaf(u, &table[index], item, 0))
			return false;
		index += (u->removed - before) >> FMT_GRANULE_LG2;
		before = u->removed;
	}
	return true;
}

static bool unmap_table(struct unmap *u, uint64_t *table, unsigned level);

/* The lowest table in the slot behind this one, or NULL. */
static inline const uint64_t *next_lowest(const uint64_t *slot)
{
	uint64_t item = iofi_entry_load(&slot[1]);

	return fmt_is_table(item, 1) ? table_of(item) : NULL;
}

/* What is below one table slot, and the table itself when the range covers all of it. `more`: the next slot is due too. */
static inline bool unmap_below(struct unmap *u, uint64_t *slot, uint64_t *child, unsigned level, bool more)
{
	uint64_t span = item_mask(level);
	bool whole = !(u->at & span) && u->last - u->at >= span;

	if (level == 1 && whole && table_is_full(child, more ? next_lowest(slot) : NULL, u->vectors)) {
		u->at += span + 1;
		u->removed += span + 1;
	} else if (!(level == 1 ? unmap_lowest(u, child) : unmap_table(u, child, level - 1))) {
		return false;
	}
	if (whole) {
		iofi_entry_store(slot, 0);
		iofi_gather_push(u->g, child);
	}
	return true;
}

/* False at the first gap, which ends the unmap. */
static bool unmap_table(struct unmap *u, uint64_t *table, unsigned level)
{
	unsigned index = item_index(u->at, level), end = end_index(u->at, u->last, level);

	while (index < end) {
		uint64_t item = iofi_entry_load(&table[index]), before = u->removed;

		if (!fmt_present(item))
			return false;
		if (fmt_is_table(item, level)) {
			if (!unmap_below(u, &table[index], table_of(item), level, index + 1 < end))
				return false;
			index++;
		} else {
			if (!unmap_leaf(u, &table[index], item, level))
				return false;
			index += (u->removed - before) >> item_lg2(level);
		}
	}
	return true;
}

#include "pagetable/walker_blocks.h"

/* `r` is folded. */
static uint64_t unmap_range(struct iof_pt *pt, struct iof_range r, struct iof_pt_gather *g)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);
	struct unmap u = { .g = g, .vectors = pt->vectors, .at = r.start, .last = r.last };

	if (FMT_BLOCKS)
		return unmap_blocks(pt, r, g);
	if (beyond_top(r.start, level))
		return 0;
	while (unmap_table(&u, top_table(root, u.at), level) && FMT_CONCAT && u.at <= u.last)
		;
	return u.removed;
}

static uint64_t pt_unmap(struct iof_pt *pt, uint64_t iova, uint64_t length, struct iof_pt_gather *g)
{
	uint64_t at = fold(pt, iova);
	struct iof_range r;

	if (iof_likely(length == GRANULE && !(at & pt->iova_not))) {
		uint64_t *slot = warm_slot(pt, at);
		uint64_t item = slot ? iofi_entry_load(slot) : 0;

		if (iof_likely(fmt_present(item) && fmt_is_single(item))) {
			iofi_entry_store(slot, 0);
			return GRANULE;
		}
	}
	return !iof_range_make(iova, length, &r) && fold_range(pt, r, &r) ? unmap_range(pt, r, g) : 0;
}
