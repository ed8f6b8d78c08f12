/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What looks at a table from outside the map path: trimming, statistics, and the checker that re-derives everything.
 */

static bool table_is_empty(const uint64_t *table)
{
	return !iofi_entries_or(table, TABLE_ITEMS);
}

/* Unlinks every empty table below `table`, from the leaves up. */
static void trim_table(uint64_t *table, unsigned level, size_t items, struct iof_pt_gather *g)
{
	for (size_t i = 0; level && i < items; i++) {
		uint64_t item = iofi_entry_load(&table[i]);

		if (!fmt_is_table(item, level))
			continue;
		trim_table(table_of(item), level - 1, TABLE_ITEMS, g);
		if (!table_is_empty(table_of(item)))
			continue;
		iofi_entry_store(&table[i], 0);
		iofi_gather_push(g, table_of(item));
	}
}

static void pt_trim(struct iof_pt *pt, struct iof_pt_gather *g)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);

	trim_table(iofi_root_table(root), level, top_items(pt, level), g);
}

static void count_table(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	struct iof_pt_stats *out = ctx;
	bool empty = true;

	(void)address;
	out->tables++;
	for (size_t i = 0; i < n;) {
		uint64_t item = iofi_entry_load(&entries[i]);
		unsigned size = fmt_leaf_size(item, level);

		empty = empty && !fmt_present(item);
		if (!fmt_present(item) || (level && fmt_is_table(item, level))) {
			i++;
			continue;
		}
		out->leaves[size]++;
		i += (size_t)1 << (size - item_lg2(level));
	}
	out->empty_tables += empty;
}

static void pt_stats(const struct iof_pt *pt, struct iof_pt_stats *out)
{
	pt_visit(pt, count_table, out);
}

/* A bit per table of the pool: each is linked once or free once, never both. */
struct census {
	const struct iof_pt *pt;
	uint8_t *seen;
	uint64_t linked;
};

static bool census_add(struct census *c, const uint64_t *table)
{
	uint64_t k = iofi_tables_ordinal(&c->pt->tables, table);

	if (c->pt->top_bytes && table == iofi_root_table(c->pt->root))
		return true; /* memory of its own */
	if (k == UINT64_MAX || (c->seen[k / 8] >> k % 8 & 1))
		return false;
	c->seen[k / 8] |= 1u << k % 8;
	return true;
}

/*
 * The items of one leaf are all alike but for the dirty bit, or their addresses count up; they start at a multiple of
 * their number and have a size in use.
 */
static bool leaf_is_valid(const struct iof_pt *pt, const uint64_t *table, unsigned level, unsigned index,
			  unsigned *count)
{
	unsigned size = fmt_leaf_size(table[index], level);

	if (!(pt->page_sizes >> size & 1) || size < item_lg2(level) || size >= item_lg2(level + 1))
		return false;
	*count = 1u << (size - item_lg2(level));
	if (index % *count)
		return false;
	for (unsigned i = 1; i < *count; i++) {
		uint64_t by = FMT_CONTIG_COUNTS ? (uint64_t)i << item_lg2(level) : 0;

		if ((table[index + i] ^ (table[index] + by)) & ~FMT_DIRTY)
			return false;
	}
	return true;
}

static bool table_is_valid(struct census *c, const uint64_t *table, unsigned level, size_t items)
{
	unsigned step;

	if (!census_add(c, table))
		return false;
	c->linked += !(c->pt->top_bytes && table == iofi_root_table(c->pt->root));
	for (size_t i = 0; i < items || i < TABLE_ITEMS; i += step) {
		uint64_t item = table[i];
		bool below = level && fmt_is_table(item, level);

		step = 1;
		if (!item)
			continue;
		/* Where our tables lie is not bound to the width of output addresses. */
		if (i >= items || !fmt_present(item) ||
		    !fmt_is_sane(item, level, below ? FMT_LIMITS.oa_max_lg2 : c->pt->cfg.oa_lg2))
			return false;
		if (!(below ?
			      table_is_valid(c, table_of(item), level - 1, TABLE_ITEMS) :
			      leaf_is_valid(c->pt, table, level, i, &step)))
			return false;
	}
	return true;
}

static bool shelf_is_valid(struct census *c, const struct iofi_shelf *s)
{
	const uint64_t *last = NULL;
	uint64_t n = 0;

	for (const uint64_t *table = s->free; table; table = (const uint64_t *)(uintptr_t)table[0], n++) {
		if (!census_add(c, table))
			return false;
		last = table;
	}
	return n == s->free_count && (!n || last == s->tail);
}

static bool pool_is_valid(struct census *c)
{
	const struct iofi_tables *t = &c->pt->tables;

	for (unsigned i = 0; i < IOF_STRIPES; i++)
		if (!shelf_is_valid(c, &t->shelf[i]))
			return false;
	return c->linked + iofi_tables_recycled(t) + t->fresh_count <= t->total;
}

static bool pt_is_valid(const struct iof_pt *pt)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);
	struct iof_alloc *a = pt->tables.alloc;
	size_t bytes = pt->tables.total / 8 + 1;
	struct census c = { .pt = pt };
	bool valid;

	if (level < pt->cfg.top_level || level > FMT_LIMITS.level_max)
		return false;
	c.seen = a->get(a, bytes, 16); /* not a step that injection may fail */
	if (!c.seen)
		return false;
	memset(c.seen, 0, bytes);
	valid = table_is_valid(&c, iofi_root_table(root), level, top_items(pt, level)) && pool_is_valid(&c);
	a->put(a, c.seen, bytes);
	return valid;
}
