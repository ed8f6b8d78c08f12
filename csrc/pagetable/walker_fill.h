/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lower half of map: putting the leaves of one size into one table, with the tables on the way to it.
 *
 * A lowest table that a run covers whole is filled before it is linked: no zeroing, no checking of slots. Everywhere
 * else the slots are checked first; only a large leaf over an empty subtree makes that more than one scan.
 */

struct map {
	struct iof_pt *pt;
	struct iof_pt_gather *g;
	uint64_t at; /* everything of the range before this is mapped */
	uint64_t address; /* of at */
	uint64_t last;
	uint64_t attrs;
	uint64_t sizes; /* of leaves: the table's, or fewer of them */
	bool outside; /* the range is not in the table */
	struct iofi_chain spare; /* tables taken ahead */
};

#define SPARE_MAX 64

/* Contents arbitrary. Takes ahead what the rest of the range may need, so that the pool is locked once for many. */
static uint64_t *spare_table(struct map *m)
{
	uint64_t want = ((m->last - m->at) >> item_lg2(1)) + 1;

	if (m->spare.count) {
		if (iof_alloc_may_fail(m->pt->tables.alloc))
			return NULL;
	} else if (iofi_tables_take(&m->pt->tables, want < SPARE_MAX ? want : SPARE_MAX, &m->spare)) {
		return NULL;
	}
	return iofi_chain_pop(&m->spare);
}

static void spare_return(struct map *m)
{
	uint64_t *tail = m->spare.head;

	if (!tail)
		return;
	while (tail[0])
		tail = (uint64_t *)(uintptr_t)tail[0];
	iofi_tables_give(&m->pt->tables, m->spare.head, tail, m->spare.count);
}

/* The table that hangs in an empty slot now: ours, or another mapper's that came first. NULL: no memory. */
static uint64_t *link_table(struct map *m, uint64_t *slot, unsigned level)
{
	uint64_t *table = spare_table(m);

	if (!table)
		return NULL;
	memset(table, 0, TABLE_BYTES);
	if (iofi_entry_install(slot, fmt_table_item((uintptr_t)table, level)))
		return table;
	iofi_chain_push(&m->spare, table);
	return table_of(iofi_entry_load(slot));
}

static bool subtree_is_empty(const uint64_t *table, unsigned level)
{
	for (unsigned i = 0; i < TABLE_ITEMS; i++) {
		uint64_t item = iofi_entry_load(&table[i]);

		if (!fmt_present(item))
			continue;
		if (!level || !fmt_is_table(item, level) || !subtree_is_empty(table_of(item), level - 1))
			return false;
	}
	return true;
}

/*
 * Makes slots free for one leaf: empty tables in them go, a leaf in the way is an error. Block formats free a table
 * with all its leaves.
 */
static int clear_slots(struct map *m, uint64_t *slot, unsigned count, unsigned level)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t item = iofi_entry_load(&slot[i]);

		if (!fmt_present(item))
			continue;
		if (!level || !fmt_is_table(item, level))
			return -FMT_OVERLAP;
		if (!FMT_BLOCKS && !subtree_is_empty(table_of(item), level - 1))
			return -FMT_OVERLAP;
		iofi_entry_store(&slot[i], 0);
		gather_subtree(m->g, table_of(item), level - 1);
	}
	return 0;
}

/* Writes `leaves` leaves into slots that are free, and moves on behind them. */
static inline void write_leaves(struct map *m, uint64_t *slot, unsigned level, unsigned size_lg2, unsigned leaves)
{
	uint64_t size = UINT64_C(1) << size_lg2, bytes = leaves * size;
	uint64_t item = fmt_leaf_item(m->address, size_lg2, level, m->attrs);
	unsigned per = 1u << (size_lg2 - item_lg2(level));

	if (!FMT_CONTIG || FMT_CONTIG_COUNTS || per == 1) {
		uint64_t one = UINT64_C(1) << item_lg2(level);
		uint64_t step = fmt_leaf_item(one, size_lg2, level, 0) - fmt_leaf_item(0, size_lg2, level, 0);

		if (leaves * per == TABLE_ITEMS)
			iofi_table_fill(slot, TABLE_ITEMS, item, step, m->pt->vectors);
		else
			iofi_entries_fill(slot, leaves * per, item, step);
	} else {
		for (uint64_t done = 0; done < bytes; done += size, slot += per)
			iofi_entries_fill(slot, per, fmt_leaf_item(m->address + done, size_lg2, level, m->attrs), 0);
	}
	m->at += bytes;
	m->address += bytes;
}

static int fill_slots(struct map *m, uint64_t *slot, unsigned level, unsigned size_lg2, unsigned leaves)
{
	unsigned per = 1u << (size_lg2 - item_lg2(level));

	if (iof_likely(!iofi_entries_or(slot, (size_t)leaves * per))) {
		write_leaves(m, slot, level, size_lg2, leaves);
		return 0;
	}
	for (; leaves; leaves--, slot += per) {
		int err = clear_slots(m, slot, per, level);

		if (err)
			return err;
		write_leaves(m, slot, level, size_lg2, 1);
	}
	return 0;
}

/* Fills a table that nobody sees yet, then links it. */
static int link_full_table(struct map *m, uint64_t *slot, unsigned level, unsigned size_lg2)
{
	uint64_t *table = spare_table(m), at = m->at, address = m->address;

	if (!table)
		return -ENOMEM;
	write_leaves(m, table, level, size_lg2, 1u << (item_lg2(level + 1) - size_lg2));
	if (iof_likely(iofi_entry_install(slot, fmt_table_item((uintptr_t)table, level + 1))))
		return 0;
	/* somebody linked a table here meanwhile: the caller goes through that one */
	iofi_chain_push(&m->spare, table);
	m->at = at;
	m->address = address;
	return 0;
}

/* Maps the part of a run of `leaves` leaves that lies in one table. */
static int map_in_table(struct map *m, unsigned level, unsigned size_lg2, uint64_t leaves)
{
	uint64_t root = root_load(m->pt), room = (UINT64_C(1) << (item_lg2(level + 1) - size_lg2));
	uint64_t *table = top_table(root, m->at), *slot;
	unsigned l = iofi_root_level(root);

	room -= item_index(m->at, level) >> (size_lg2 - item_lg2(level));
	for (;; l--) {
		uint64_t item;

		slot = &table[item_index(m->at, l)];
		if (l == level)
			return fill_slots(m, slot, level, size_lg2, leaves < room ? leaves : room);
		item = iofi_entry_load(slot);
		if (fmt_is_table(item, l)) {
			table = table_of(item);
			continue;
		}
		if (fmt_present(item))
			return -FMT_OVERLAP;
		if (l == level + 1 && !(m->at & item_mask(l)) && leaves >= room)
			return link_full_table(m, slot, level, size_lg2);
		table = link_table(m, slot, l);
		if (!table)
			return -ENOMEM;
	}
}
