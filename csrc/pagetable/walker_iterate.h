/* SPDX-License-Identifier: Apache-2.0 */
/* Going through a table in ascending order: leaf by leaf, to be stopped and taken up again, and table by table. */

/* Depth first from `at`: the first leaf of this table that does not end before `at`. */
static bool next_in_table(const uint64_t *table, unsigned level, uint64_t at, uint64_t last, struct iof_pt_leaf *leaf)
{
	unsigned index = item_index(at, level), end = end_index(at, last, level);

	for (; index < end; index++, at = (at | item_mask(level)) + 1) {
		uint64_t item = iofi_entry_load(&table[index]);

		if (!fmt_present(item))
			continue;
		if (!level || !fmt_is_table(item, level)) {
			leaf_decode(at, item, level, leaf);
			if (FMT_CONTIG && leaf->size_lg2 > item_lg2(level))
				leaf->dirty = contig_dirty(&table[index], index,
							   1u << (leaf->size_lg2 - item_lg2(level)));
			return true;
		}
		if (next_in_table(table_of(item), level - 1, at, last, leaf))
			return true;
	}
	return false;
}

/* The first leaf of [at, last], which are folded, in each of the tables at the root. */
static bool next_in_top(const struct iof_pt *pt, uint64_t at, uint64_t last, struct iof_pt_leaf *leaf)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);

	last = last < pt->last ? last : pt->last;
	while (at <= last && !beyond_top(at, level)) {
		if (next_in_table(top_table(root, at), level, at, last, leaf)) {
			leaf->iova = unfold(pt->middle, leaf->iova);
			return true;
		}
		if (!FMT_CONCAT)
			return false;
		at = (at | item_mask(level + 1)) + 1;
	}
	return false;
}

static int pt_next_leaf(const struct iof_pt *pt, struct iof_range within, struct iof_pt_leaf *leaf)
{
	uint64_t low = pt->middle - 1, high = -pt->middle; /* ends of the hole between the halves */

	if (!FMT_SIGNED || !pt->middle)
		return next_in_top(pt, within.start, within.last, leaf) ? 0 : -ENOENT;
	if (within.start <= low && next_in_top(pt, within.start, within.last < low ? within.last : low, leaf))
		return 0;
	if (within.last < high)
		return -ENOENT;
	return next_in_top(pt, fold(pt, within.start > high ? within.start : high), fold(pt, within.last), leaf) ?
		       0 : -ENOENT;
}

static void visit_table(const uint64_t *table, unsigned level, size_t n, iofi_visit_fn fn, void *ctx)
{
	fn(ctx, (uintptr_t)table, level, table, n);
	for (size_t i = 0; level && i < n; i++) {
		uint64_t item = iofi_entry_load(&table[i]);

		if (fmt_is_table(item, level))
			visit_table(table_of(item), level - 1, TABLE_ITEMS, fn, ctx);
	}
}

static void pt_visit(const struct iof_pt *pt, iofi_visit_fn fn, void *ctx)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);

	visit_table(iofi_root_table(root), level, top_items(pt, level), fn, ctx);
}
