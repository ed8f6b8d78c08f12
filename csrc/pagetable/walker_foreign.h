/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables in memory that is not ours (foreign.h). Nothing that is read is trusted: the level falls with every step and
 * each item is checked before it is followed, so garbage ends in a fault, never in a loop.
 *
 * A permission is what all levels grant. A leaf of several items is taken from the one item that was read.
 */

static int foreign_fault(struct iof_pt_fault *fault, int err, enum iof_pt_reason reason, unsigned level)
{
	fault->reason = reason;
	fault->level = level;
	return err;
}

/* Reads one item of a table and says what it is: 0 a table or a leaf, else a fault. */
static int foreign_item(const struct iofi_foreign *f, uint64_t table, uint64_t slot, unsigned level, uint64_t *item,
			struct iof_pt_fault *fault)
{
	int err;

	fault->table = table;
	fault->entry = table + slot * sizeof(*item);
	fault->item = 0;
	err = f->memory.read(f->memory.ctx, fault->entry, item);
	if (err)
		return foreign_fault(fault, err, IOF_PT_NO_MEMORY, level);
	fault->item = *item;
	if (!fmt_present(*item))
		return foreign_fault(fault, -ENOENT, IOF_PT_HOLE, level);
	if (!fmt_is_sane(*item, level, f->oa_lg2))
		return foreign_fault(fault, -EINVAL, IOF_PT_RESERVED, level);
	return 0;
}

static void foreign_leaf(const struct iofi_foreign *f, uint64_t iova, uint64_t item, unsigned level, unsigned prot,
			 struct iof_pt_leaf *leaf)
{
	leaf_decode(iova, item, level, leaf);
	leaf->iova = unfold(f->middle, leaf->iova);
	leaf->prot &= prot;
}

static int pt_walk_foreign(const struct iofi_foreign *f, uint64_t iova, struct iof_pt_leaf *leaf,
			   struct iof_pt_fault *fault)
{
	unsigned level = f->top_level, prot = IOF_PROT_READ | IOF_PROT_WRITE;
	uint64_t table = f->root, item, at = fold_by(f->middle, iova), slot = at >> item_lg2(level);

	*fault = (struct iof_pt_fault){ .iova = iova, .last = iova };
	if (at > f->last)
		return foreign_fault(fault, -ERANGE, IOF_PT_OUTSIDE, level);
	if (slot >= (uint64_t)TABLE_ITEMS << FMT_LIMITS.top_extra_lg2)
		return foreign_fault(fault, -ENOENT, IOF_PT_OUTSIDE, level);
	for (;; slot = item_index(at, level)) {
		int err = foreign_item(f, table, slot, level, &item, fault);

		if (err)
			return err;
		if (!level || !fmt_is_table(item, level))
			break;
		prot &= FMT_TABLE_PROT(item);
		table = fmt_table_address(item);
		level--;
	}
	fault->granted = prot;
	fault->level = level;
	foreign_leaf(f, at, item, level, prot, leaf);
	return 0;
}

/*
 * What an iteration is doing: the tables on the way down, to notice one that is its own ancestor, and some of those that
 * had nothing in them. Tables that point to one another from every entry make 512^levels entries out of a few pages: what
 * is known to be barren is not looked at twice, and one step reads no more entries than honest tables of 32 MiB have.
 */
#define FOREIGN_ENTRIES_MAX (UINT32_C(1) << 22)
#define FOREIGN_BARREN_LG2 6

struct foreign_next {
	const struct iofi_foreign *f;
	struct iof_pt_leaf *leaf;
	struct iof_pt_fault *fault;
	uint64_t last;
	uint32_t left; /* entries that may still be read */
	uint64_t path[8];
	uint64_t barren[1 << FOREIGN_BARREN_LG2]; /* address | level + 1 */
};

static uint64_t *foreign_barren(struct foreign_next *n, uint64_t table, unsigned level)
{
	return &n->barren[((table | level) * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - FOREIGN_BARREN_LG2)];
}

static bool foreign_loops(const struct foreign_next *n, uint64_t table, unsigned level)
{
	for (unsigned l = level; l <= n->f->top_level; l++)
		if (n->path[l] == table)
			return true;
	return false;
}

/* `at` is the first IOVA that a fault concerns, and what is behind `last` can still be looked at. */
static int foreign_span(const struct foreign_next *n, uint64_t at, uint64_t last, int err)
{
	n->fault->iova = unfold(n->f->middle, at);
	n->fault->last = unfold(n->f->middle, last < n->last ? last : n->last);
	return err;
}

static int next_foreign(struct foreign_next *n, uint64_t table, unsigned level, uint64_t at, uint64_t end,
			unsigned prot);

/* What is below an entry that points to a table. */
static int next_foreign_below(struct foreign_next *n, uint64_t item, unsigned level, uint64_t at, unsigned prot)
{
	uint64_t table = fmt_table_address(item), *barren = foreign_barren(n, table, level);
	bool whole = !(at & item_mask(level)) && (at | item_mask(level)) <= n->last;
	int err;

	if (foreign_loops(n, table, level)) {
		foreign_fault(n->fault, -ELOOP, IOF_PT_LOOP, level);
		return foreign_span(n, at, at | item_mask(level), -ELOOP);
	}
	if (*barren == (table | (level + 1)))
		return -ENOENT;
	err = next_foreign(n, table, level - 1, at, TABLE_ITEMS, prot & FMT_TABLE_PROT(item));
	if (err == -ENOENT && whole)
		*barren = table | (level + 1);
	return err;
}

/* The first leaf or fault at `at` or behind it in one table of `end` slots; -ENOENT: neither. */
static int next_foreign(struct foreign_next *n, uint64_t table, unsigned level, uint64_t at, uint64_t end,
			unsigned prot)
{
	uint64_t slot = level == n->f->top_level ? at >> item_lg2(level) : item_index(at, level), item;

	n->path[level] = table;
	for (; slot < end && at <= n->last; slot++, at = (at | item_mask(level)) + 1) {
		int err = foreign_item(n->f, table, slot, level, &item, n->fault);
		uint64_t behind = at | item_mask(level);

		if (!n->left--) {
			foreign_fault(n->fault, -ELOOP, IOF_PT_ENDLESS, level);
			return foreign_span(n, at, n->last, -ELOOP);
		}
		if (err == -ENOENT && n->fault->reason == IOF_PT_HOLE) {
			if (behind == UINT64_MAX)
				break;
			continue;
		}
		if (err && n->fault->reason == IOF_PT_NO_MEMORY) /* the rest of the table will not be there either */
			behind = at + ((end - slot) << item_lg2(level)) - 1 - (at & item_mask(level));
		if (err)
			return foreign_span(n, at, behind, err);
		if (!level || !fmt_is_table(item, level)) {
			foreign_leaf(n->f, at, item, level, prot, n->leaf);
			return 0;
		}
		err = next_foreign_below(n, item, level, at, prot);
		if (err != -ENOENT)
			return err;
		if (behind == UINT64_MAX)
			break;
	}
	return -ENOENT;
}

/* [at, last] is folded. */
static int next_foreign_half(const struct iofi_foreign *f, uint64_t at, uint64_t last, struct iof_pt_leaf *leaf,
			     struct iof_pt_fault *fault)
{
	struct foreign_next n = { .f = f, .leaf = leaf, .fault = fault, .last = last < f->last ? last : f->last,
				  .left = FOREIGN_ENTRIES_MAX };
	uint64_t end = (uint64_t)TABLE_ITEMS << FMT_LIMITS.top_extra_lg2;

	if (at > n.last || at >> item_lg2(f->top_level) >= end)
		return -ENOENT;
	return next_foreign(&n, f->root, f->top_level, at, end, IOF_PROT_READ | IOF_PROT_WRITE);
}

static int pt_next_foreign(const struct iofi_foreign *f, struct iof_range within, struct iof_pt_leaf *leaf,
			   struct iof_pt_fault *fault)
{
	uint64_t low = f->middle - 1, high = -f->middle;
	int err = -ENOENT;

	if (!FMT_SIGNED || !f->middle)
		return next_foreign_half(f, within.start, within.last, leaf, fault);
	if (within.start <= low)
		err = next_foreign_half(f, within.start, within.last < low ? within.last : low, leaf, fault);
	if (err != -ENOENT || within.last < high)
		return err;
	return next_foreign_half(f, fold_by(f->middle, within.start > high ? within.start : high),
				 fold_by(f->middle, within.last), leaf, fault);
}

/* A lowest item that somebody else has read. */
static int pt_decode_foreign(const struct iofi_foreign *f, uint64_t iova, uint64_t item, unsigned prot,
			     struct iof_pt_leaf *leaf)
{
	if (!fmt_present(item))
		return -ENOENT;
	if (!fmt_is_sane(item, 0, f->oa_lg2))
		return -EINVAL;
	foreign_leaf(f, fold_by(f->middle, iova), item, 0, prot, leaf);
	return 0;
}
