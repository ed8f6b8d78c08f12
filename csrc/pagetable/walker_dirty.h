/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty bits: hardware sets one in the item it went through; software reads and clears them (behaviour.md R10.3.6-7).
 *
 * Setting and clearing are single atomic bit operations on one item, so a device writing while the bits are read loses
 * nothing: its mark is reported now or the next time.
 */

/* Sets D in one item unless the leaf goes away under us, in which case the item must stay empty. */
static bool mark_item(uint64_t *slot, unsigned level)
{
	uint64_t item = iofi_entry_load(slot);

	while (fmt_can_be_dirty(item) && (!level || !fmt_is_table(item, level)))
		if (fmt_dirty(item) || __atomic_compare_exchange_n(slot, &item, item ^ FMT_DIRTY, false,
								   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

static int pt_set_dirty(struct iof_pt *pt, uint64_t iova)
{
	unsigned level;
	uint64_t *slot;

	if (!FMT_TRACKS_DIRTY)
		return -EOPNOTSUPP;
	iova = fold(pt, iova);
	if (!lookup(pt, iova, &level))
		return -ENOENT;
	slot = (uint64_t *)slot_at(pt, iova, level);
	return slot && mark_item(slot, level) ? 0 : -ENOENT;
}

/* Block formats refuse a range that is not mapped from end to end (behaviour.md R10.8.9). */
static bool has_hole(const struct iof_pt *pt, struct iof_range r)
{
	struct iof_pt_leaf leaf;

	for (uint64_t at = r.start; at <= r.last; at = leaf.iova + (UINT64_C(1) << leaf.size_lg2))
		if (pt_walk(pt, at, &leaf))
			return true;
	return false;
}

struct dirty {
	uint64_t at;
	uint64_t last;
	bool clear;
	bool exact;
	enum iof_vectors vectors;
	iofi_dirty_fn fn;
	void *ctx;
};

/* An item that changes under us is looked at again; one that went away is left alone. */
static void clean_items(uint64_t *slot, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t item = iofi_entry_load(&slot[i]);

		while (fmt_present(item) && fmt_dirty(item))
			if (__atomic_compare_exchange_n(&slot[i], &item, item ^ FMT_DIRTY, false, __ATOMIC_RELAXED,
							__ATOMIC_RELAXED))
				break;
	}
}

/*
 * A dirty leaf of `count` items seen at its item `index` of the table, with the range ending before `end`. Linux
 * reports one item less than up to the end of a leaf of several items, and from the current address even when that is
 * inside an item.
 */
static void report_leaf(const struct dirty *d, unsigned level, unsigned index, unsigned end, unsigned count)
{
	uint64_t item = UINT64_C(1) << item_lg2(level);
	unsigned last = index | (count - 1);

	if (d->exact || FMT_BLOCKS)
		d->fn(d->ctx, d->at & ~(item * count - 1), item * count);
	else if (count == 1)
		d->fn(d->ctx, d->at, item);
	else if ((last < end ? last : end) > index)
		d->fn(d->ctx, d->at, ((last < end ? last : end) - index) * item);
}

/* How many items the leaf at `index` of a lowest table has; a hole counts as one. */
static unsigned leaf_items(const uint64_t *table, unsigned index)
{
	uint64_t item = iofi_entry_load(&table[index]);

	return FMT_CONTIG && fmt_present(item) ? 1u << (fmt_leaf_size(item, 0) - item_lg2(0)) : 1;
}

/* The first dirty item of table[from … end), or `end`. Where dirty is one set bit, whole blocks are passed over. */
static unsigned next_dirty(const struct dirty *d, const uint64_t *table, unsigned from, unsigned end)
{
	for (; from < end && (!FMT_DIRTY_IS_SET || from % IOFI_SCAN_ITEMS); from++)
		if (fmt_dirty(iofi_entry_load(&table[from])))
			return from;
	if (FMT_DIRTY_IS_SET)
		from = iofi_entries_scan(table, from, end, FMT_DIRTY, d->vectors);
	while (from < end && !fmt_dirty(iofi_entry_load(&table[from])))
		from++;
	return from;
}

/*
 * A lowest table, of which most is clean as a rule: only dirty leaves are looked at. A leaf at either end of the range may have its
 * dirty item outside of it.
 */
static void dirty_leaves(struct dirty *d, uint64_t *table)
{
	unsigned index = item_index(d->at, 0), end = end_index(d->at, d->last, 0);
	unsigned i = index & ~(leaf_items(table, index) - 1), to = ((end - 1) | (leaf_items(table, end - 1) - 1)) + 1;
	uint64_t at = d->at, base = at & ~((UINT64_C(1) << item_lg2(1)) - 1);

	for (i = next_dirty(d, table, i, to); i < to; i = next_dirty(d, table, i, to)) {
		unsigned count = leaf_items(table, i), first = i & ~(count - 1);

		d->at = first <= index ? at : base + ((uint64_t)first << item_lg2(0));
		if (fmt_present(iofi_entry_load(&table[i]))) {
			report_leaf(d, 0, first < index ? index : first, end, count);
			if (d->clear)
				clean_items(&table[first], count);
		}
		i = first + count;
	}
}

static void dirty_table(struct dirty *d, uint64_t *table, unsigned level)
{
	unsigned index = item_index(d->at, level), end = end_index(d->at, d->last, level);

	while (index < end) {
		uint64_t item = iofi_entry_load(&table[index]), at = d->at;
		unsigned count = 1;

		if (fmt_is_table(item, level)) {
			if (level > 1)
				dirty_table(d, table_of(item), level - 1);
			else
				dirty_leaves(d, table_of(item));
		} else if (fmt_present(item)) {
			uint64_t *first;

			count = 1u << (fmt_leaf_size(item, level) - item_lg2(level));
			first = &table[index & ~(count - 1)];
			if (contig_dirty(&table[index], index, count)) {
				report_leaf(d, level, index, end, count);
				if (d->clear)
					clean_items(first, count);
			}
		}
		index = (index | (count - 1)) + 1;
		d->at = (at | (((uint64_t)count << item_lg2(level)) - 1)) + 1;
		if (!d->at)
			return; /* past the end of all */
	}
}

static int pt_read_dirty(struct iof_pt *pt, struct iof_range r, bool clear, bool exact, iofi_dirty_fn fn, void *ctx)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);
	struct dirty d = { .at = r.start, .last = r.last, .clear = clear, .exact = exact, .vectors = pt->vectors, .fn = fn, .ctx = ctx };

	if (!FMT_TRACKS_DIRTY)
		return -FMT_NO_DIRTY;
	if (r.last > pt->last || r.start > r.last)
		return -(FMT_BLOCKS ? EINVAL : ERANGE);
	if (FMT_BLOCKS && !exact && has_hole(pt, r))
		return -EINVAL;
	if (beyond_top(r.start, level))
		return 0;
	do
		dirty_table(&d, top_table(root, d.at), level);
	while (FMT_CONCAT && d.at <= d.last);
	return 0;
}

_Static_assert(!(FMT_SIGNED && FMT_TRACKS_DIRTY), "dirty ranges are reported as they are folded");
