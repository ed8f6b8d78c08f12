/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves of several items: each item has a dirty bit of its own, so a walk that finds one has to look at the others. */

/* A leaf of several items is dirty when any of them is; `slot` is the one that was found. */
static bool contig_dirty(const uint64_t *slot, unsigned index, unsigned count)
{
	slot -= index & (count - 1);
	if (FMT_DIRTY_IS_SET)
		return iofi_entries_or(slot, count) & FMT_DIRTY;
	for (unsigned i = 0; i < count; i++)
		if (fmt_dirty(iofi_entry_load(&slot[i])))
			return true;
	return false;
}

static const uint64_t *slot_at(const struct iof_pt *pt, uint64_t iova, unsigned level)
{
	uint64_t root = root_load(pt);
	const uint64_t *table = top_table(root, iova);

	for (unsigned l = iofi_root_level(root); l > level; l--) {
		uint64_t item = iofi_entry_load(&table[item_index(iova, l)]);

		if (!fmt_is_table(item, l))
			return NULL; /* unmapped a moment ago */
		table = table_of(item);
	}
	return &table[item_index(iova, level)];
}

/*
 * The end of a walk that found a leaf of several items. Out of line, and called last: anything else would cost every walk
 * registers. `iova` is folded.
 */
static __attribute__((noinline)) int walk_contig(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf)
{
	const uint64_t *slot = slot_at(pt, iova, leaf->level);
	unsigned count = 1u << (leaf->size_lg2 - item_lg2(leaf->level));

	leaf->dirty = slot && contig_dirty(slot, item_index(iova, leaf->level), count);
	return 0;
}
