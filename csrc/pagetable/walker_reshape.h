/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing leaves that are in use: cut into smaller ones, merged, other permissions. Nothing here is on the path of
 * an engine.
 *
 * What is translated never changes while leaves are cut or merged: an item is replaced by one store, a table is filled
 * before it is linked, and the items of one leaf each say the whole by themselves.
 */

/* Everything in a leaf's first item but its address and size; dirty when any of its items is. */
static uint64_t leaf_attrs(const uint64_t *slot, unsigned level, unsigned *size_lg2, uint64_t *address)
{
	uint64_t item = iofi_entry_load(slot);
	unsigned count;

	*size_lg2 = fmt_leaf_size(item, level);
	*address = fmt_leaf_address(item, level, *size_lg2);
	count = 1u << (*size_lg2 - item_lg2(level));
	if (count > 1 && !fmt_dirty(item) && contig_dirty(slot, 0, count))
		item ^= FMT_DIRTY;
	return item ^ fmt_leaf_item(*address, *size_lg2, level, 0);
}

static void put_leaves(struct map *m, uint64_t *slot, unsigned level, unsigned size_lg2, unsigned items)
{
	write_leaves(m, slot, level, size_lg2, items >> (size_lg2 - item_lg2(level)));
}

/* A table of this level full of leaves of 2^size_lg2, with all tables below it; NULL: no memory. */
static uint64_t *full_table(struct map *m, unsigned level, unsigned size_lg2)
{
	uint64_t *table = spare_table(m);
	bool lowest = size_lg2 >= item_lg2(level);

	if (!table)
		return NULL;
	if (lowest) {
		put_leaves(m, table, level, size_lg2, TABLE_ITEMS);
		return table;
	}
	memset(table, 0, TABLE_BYTES);
	for (unsigned i = 0; i < TABLE_ITEMS; i++) {
		uint64_t *below = full_table(m, level - 1, size_lg2);

		if (!below) {
			struct iof_pt_gather g = { 0 };

			gather_subtree(&g, table, level);
			iof_pt_release(m->pt, &g);
			return NULL;
		}
		table[i] = fmt_table_item((uintptr_t)below, level);
	}
	return table;
}

static int cut_leaf(struct iof_pt *pt, uint64_t *slot, unsigned level, unsigned size_lg2)
{
	struct map m = { .pt = pt };
	struct iof_pt_gather g = { 0 };
	uint64_t *below[TABLE_ITEMS < 256 ? TABLE_ITEMS : 256]; /* no leaf has more items */
	unsigned was, items, built;

	m.attrs = leaf_attrs(slot, level, &was, &m.address);
	m.last = iof_low_mask(was);
	items = 1u << (was - item_lg2(level));
	if (size_lg2 >= item_lg2(level)) {
		put_leaves(&m, slot, level, size_lg2, items);
		return 0;
	}
	for (built = 0; built < items; built++) {
		below[built] = full_table(&m, level - 1, size_lg2);
		if (!below[built])
			break;
	}
	spare_return(&m);
	for (unsigned i = 0; i < built; i++) {
		if (built == items)
			__atomic_store_n(&slot[i], fmt_table_item((uintptr_t)below[i], level), __ATOMIC_RELEASE);
		else
			gather_subtree(&g, below[i], level - 1);
	}
	iof_pt_release(pt, &g);
	return built == items ? 0 : -ENOMEM;
}

/* The slot of the first item of the leaf at `at`, or NULL. */
static uint64_t *leaf_slot(struct iof_pt *pt, uint64_t at, unsigned *level)
{
	uint64_t item = lookup(pt, at, level), *slot;

	if (!item)
		return NULL;
	slot = (uint64_t *)slot_at(pt, at, *level);
	return slot - (item_index(at, *level) & ((1u << (fmt_leaf_size(item, *level) - item_lg2(*level))) - 1));
}

static int pt_cut(struct iof_pt *pt, struct iof_range r, unsigned size_lg2)
{
	uint64_t fitting = pt->page_sizes & iof_low_mask(size_lg2 + 1);
	struct iof_pt_leaf leaf;
	int err = 0;

	if (!fitting)
		return -EINVAL;
	size_lg2 = iof_log2(fitting);
	while (!err && !pt_next_leaf(pt, r, &leaf)) {
		uint64_t last = leaf.iova + iof_low_mask(leaf.size_lg2);
		unsigned level;

		if (leaf.size_lg2 > size_lg2)
			err = cut_leaf(pt, leaf_slot(pt, fold(pt, leaf.iova), &level), leaf.level, size_lg2);
		if (last >= r.last)
			break;
		r.start = last + 1;
	}
	return err;
}

/* Are `count` items from `slot` leaves that together make one of 2^size_lg2? Then *attrs of it and its *address. */
static bool is_one_leaf(const uint64_t *slot, unsigned level, unsigned count, unsigned size_lg2, uint64_t *attrs,
			uint64_t *address)
{
	uint64_t expected = 0;
	unsigned size;
	bool dirty = false;

	for (unsigned i = 0; i < count; i += 1u << (size - item_lg2(level))) {
		uint64_t item = iofi_entry_load(&slot[i]), at, own;

		if (!fmt_present(item) || (level && fmt_is_table(item, level)))
			return false;
		own = leaf_attrs(&slot[i], level, &size, &at);
		if (!i) {
			*attrs = own;
			*address = expected = at;
		}
		dirty = dirty || fmt_dirty(own);
		if (at != expected || size > size_lg2 ||
		    ((own ^ *attrs) & ~(FMT_TRACKS_DIRTY && fmt_can_be_dirty(item) ? FMT_DIRTY : 0)))
			return false;
		expected += UINT64_C(1) << size;
	}
	if (FMT_TRACKS_DIRTY && dirty && !fmt_dirty(*attrs))
		*attrs ^= FMT_DIRTY;
	return !(*address & iof_low_mask(size_lg2));
}

/* Larger and larger leaves within one table. */
static void merge_items(struct iof_pt *pt, uint64_t *table, unsigned level, size_t items)
{
	uint64_t sizes = pt->page_sizes & iof_low_mask(item_lg2(level + 1)) & ~iof_low_mask(item_lg2(level) + 1);

	for (; sizes; sizes &= sizes - 1) {
		unsigned size = iof_ctz(sizes), count = 1u << (size - item_lg2(level));

		for (size_t i = 0; i + count <= items; i += count) {
			struct map m = { .pt = pt };

			if (fmt_present(table[i]) && is_one_leaf(&table[i], level, count, size, &m.attrs, &m.address))
				put_leaves(&m, &table[i], level, size, count);
		}
	}
}

static void merge_table(struct iof_pt *pt, uint64_t *table, unsigned level, size_t items, struct iof_pt_gather *g)
{
	for (size_t i = 0; level && i < items; i++) {
		uint64_t item = iofi_entry_load(&table[i]), attrs = 0, address = 0;

		if (!fmt_is_table(item, level))
			continue;
		merge_table(pt, table_of(item), level - 1, TABLE_ITEMS, g);
		if (!(pt->page_sizes >> item_lg2(level) & 1) ||
		    !is_one_leaf(table_of(item), level - 1, TABLE_ITEMS, item_lg2(level), &attrs, &address))
			continue;
		iofi_entry_store(&table[i], fmt_leaf_item(address, item_lg2(level), level, attrs));
		iofi_gather_push(g, table_of(item));
	}
	if (FMT_CONTIG)
		merge_items(pt, table, level, items);
}

static void pt_merge(struct iof_pt *pt, struct iof_pt_gather *g)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);

	merge_table(pt, iofi_root_table(root), level, top_items(pt, level), g);
}

/* Gives the items of one leaf other permissions, each in one step; what is dirty stays so. */
static void protect_leaf(struct iof_pt *pt, uint64_t *slot, unsigned level, uint64_t attrs)
{
	struct map m = { .pt = pt, .attrs = attrs };
	unsigned size, items;
	uint64_t old = leaf_attrs(slot, level, &size, &m.address);

	items = 1u << (size - item_lg2(level));
	if (FMT_TRACKS_DIRTY && fmt_dirty(old) != fmt_dirty(attrs) &&
	    fmt_can_be_dirty(fmt_leaf_item(m.address, size, level, attrs)))
		m.attrs ^= FMT_DIRTY;
	put_leaves(&m, slot, level, size, items);
}

static int pt_protect(struct iof_pt *pt, struct iof_range r, unsigned prot)
{
	uint64_t attrs = fmt_attrs(pt, prot);
	struct iof_range at;
	struct iof_pt_leaf leaf;

	if (!attrs || !(prot & (IOF_PROT_READ | IOF_PROT_WRITE)))
		return -EINVAL;
	if (!fold_range(pt, r, &at))
		return -ERANGE;
	for (unsigned change = 0; change < 2; change++) /* all of it is there, and only whole leaves; then all change */
		for (uint64_t k = 0, span = r.last - r.start; k <= span; k += UINT64_C(1) << leaf.size_lg2) {
			unsigned level;

			if (pt_walk(pt, r.start + k, &leaf))
				return -ENOENT;
			if (leaf.iova != r.start + k || iof_low_mask(leaf.size_lg2) > span - k)
				return -EINVAL;
			if (change)
				protect_leaf(pt, leaf_slot(pt, at.start + k, &level), leaf.level, attrs);
			if (iof_low_mask(leaf.size_lg2) == span - k)
				break;
		}
	return 0;
}
