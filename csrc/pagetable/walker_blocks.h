/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unmap as ARM's formats have it (behaviour.md R10.8.7-8), FMT_BLOCKS.
 *
 * The range is cut into blocks as if it were mapped to its own IOVAs. A slot of a block's size goes whole, with all the
 * tables below it, whether they are full or not; nothing else ever frees a table. A hole, or a leaf larger than the
 * block, ends the unmap.
 */

static void gather_subtree(struct iof_pt_gather *g, uint64_t *table, unsigned level)
{
	for (unsigned i = 0; level && i < TABLE_ITEMS; i++) {
		uint64_t item = iofi_entry_load(&table[i]);

		if (fmt_is_table(item, level))
			gather_subtree(g, table_of(item), level - 1);
	}
	iofi_gather_push(g, table);
}

/* log2 of the block at `at` when `bytes` are left, or 64. */
static unsigned block_size(const struct iof_pt *pt, uint64_t at, uint64_t bytes)
{
	unsigned limit = iof_ctz(at), by_length = iof_log2(bytes);
	uint64_t fitting = pt->page_sizes & iof_low_mask((limit < by_length ? limit : by_length) + 1);

	return fitting ? iof_log2(fitting) : 64;
}

/* How many bytes go by blocks of this size: all, or up to where a larger one fits. */
static uint64_t block_run(const struct iof_pt *pt, uint64_t at, uint64_t bytes, unsigned size_lg2)
{
	uint64_t larger = pt->page_sizes & ~iof_low_mask(size_lg2 + 1), next = larger & -larger;
	uint64_t reach = next - (at & (next - 1));

	if (next && reach + next <= bytes)
		bytes = reach;
	return bytes & ~iof_low_mask(size_lg2);
}

static bool clear_leaf(uint64_t *slot, uint64_t item, unsigned level, unsigned size_lg2, unsigned *items)
{
	unsigned leaf = fmt_leaf_size(item, level);

	if (leaf > size_lg2)
		return false;
	*items = 1u << (leaf - item_lg2(level));
	iofi_entries_fill(slot, *items, 0, 0);
	return true;
}

/* The same where a slot is a leaf or nothing: all up to the first hole, at once. */
static unsigned clear_pages(const struct iof_pt *pt, uint64_t *table, unsigned index, unsigned end)
{
	unsigned stop = index;

	if (end - index == TABLE_ITEMS && table_is_full(table, NULL, pt->vectors)) {
		iofi_table_fill(table, TABLE_ITEMS, 0, 0, pt->vectors);
		return end;
	}
	while (stop < end && fmt_present(iofi_entry_load(&table[stop])))
		stop++;
	iofi_entries_fill(&table[index], stop - index, 0, 0);
	return stop;
}

/* Clears slots of one table up to `end`; the index of the first that stays. */
static unsigned clear_blocks(const struct iof_pt *pt, uint64_t *table, unsigned level, unsigned index, unsigned end,
			     unsigned size_lg2, struct iof_pt_gather *g)
{
	unsigned items = 1;

	if (!level && !(pt->cfg.features & IOF_PT_CONTIGUOUS))
		return clear_pages(pt, table, index, end);
	for (; index < end; index += items) {
		uint64_t item = iofi_entry_load(&table[index]);

		items = 1;
		if (!fmt_present(item))
			break;
		if (level && fmt_is_table(item, level)) {
			iofi_entry_store(&table[index], 0);
			gather_subtree(g, table_of(item), level - 1);
		} else if (!clear_leaf(&table[index], item, level, size_lg2, &items)) {
			break;
		}
	}
	return index;
}

/* The part of a run that lies in one table. Returns the bytes removed. */
static uint64_t unmap_run(struct iof_pt *pt, uint64_t at, uint64_t bytes, unsigned size_lg2, struct iof_pt_gather *g)
{
	uint64_t root = root_load(pt), *table = top_table(root, at);
	unsigned level = (size_lg2 - FMT_GRANULE_LG2) / FMT_TABLE_LG2, index;

	for (unsigned l = iofi_root_level(root); l > level; l--) {
		uint64_t item = iofi_entry_load(&table[item_index(at, l)]);

		if (!fmt_is_table(item, l))
			return 0;
		table = table_of(item);
	}
	index = item_index(at, level);
	return (uint64_t)(clear_blocks(pt, table, level, index, end_index(at, at + bytes - 1, level), size_lg2, g) -
			  index) << item_lg2(level);
}

static uint64_t unmap_blocks(struct iof_pt *pt, struct iof_range r, struct iof_pt_gather *g)
{
	uint64_t least = pt->page_sizes & -pt->page_sizes, at = r.start, left = r.last - r.start + 1;

	if ((at | left) & (least - 1))
		return 0;
	while (left) {
		unsigned size = block_size(pt, at, left);
		uint64_t run = block_run(pt, at, left, size), in_table, done;

		in_table = (item_mask((size - FMT_GRANULE_LG2) / FMT_TABLE_LG2 + 1) & ~at) + 1;
		run = run < in_table ? run : in_table;
		done = unmap_run(pt, at, run, size, g);
		at += done;
		left -= done;
		if (done != run)
			break;
	}
	return at - r.start;
}
