/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the address index: what the inline walk leaves open, batches, statistics, and the check of everything. */
#include "iova/va_index_priv.h"

#include <errno.h>

/* ---- under the lock ---- */

static bool has(const struct iof_va_run *run, const void *va)
{
	return run->start <= *(const uint64_t *)va && *(const uint64_t *)va <= run->last;
}

static bool equals(const struct iof_va_run *run, const void *other)
{
	const struct iof_va_run *o = other;

	return run->start == o->start && run->last == o->last && run->iova == o->iova;
}

/* Among the runs of a slot, whatever is below it left out: the first that is wanted. */
static struct iof_va_run *in_slot(uint64_t slot, bool (*wanted)(const struct iof_va_run *, const void *), const void *arg)
{
	if (!slot || slot & IOF_VA_SLOT_TABLE)
		return NULL;
	if (slot & IOF_VA_SLOT_KNOT)
		return iofi_va_knot_find(iofi_va_knot_of(slot), wanted, arg);
	return wanted(iofi_va_run_of(slot), arg) ? iofi_va_run_of(slot) : NULL;
}

/* Among all slots that va is in: the wanted run with the lowest IOVA. */
static struct iof_va_run *look(struct iofi_va_index *ix, uint64_t va, bool (*wanted)(const struct iof_va_run *, const void *),
			       const void *arg)
{
	const uint64_t *slot = iofi_va_top(ix, va);
	struct iof_va_run *best = NULL, *run;
	struct iof_va_table *child;

	for (unsigned level = IOFI_VA_TOP; slot; level--) {
		run = in_slot(*slot, wanted, arg);
		if (run && (!best || run->iova < best->iova))
			best = run;
		child = iofi_va_child(*slot);
		if (!child)
			break;
		slot = &child->slot[(va & iof_low_mask(iofi_va_shift[level])) >> iofi_va_shift[level - 1]];
	}
	return best;
}

struct iof_va_run *iofi_va_exact(struct iofi_va_index *ix, uint64_t va, uint64_t last, uint64_t iova)
{
	const struct iof_va_run wanted = { .start = va, .last = last, .iova = iova };

	return look(ix, va, equals, &wanted);
}

/* ---- without ---- */

/* The slot that a walk without the lock ends at; anything but a knot needs no closer look. */
static uint64_t end_of_walk(const struct iof_va_index *ix, uint64_t va)
{
	uint64_t slot = iof_va_load(&ix->low);

	for (unsigned level = IOFI_VA_TOP; level && slot & IOF_VA_SLOT_TABLE; level--)
		slot = iof_va_below(slot, (va & iof_low_mask(iofi_va_shift[level])) >> iofi_va_shift[level - 1]);
	return slot;
}

/* A knot says who answers for its whole slot. One that is used for another slot by now has runs of that one: not va's. */
static bool ask_knot(const struct iof_va_index *ix, uint64_t va, uint64_t *iova, uint64_t *length)
{
	uint64_t slot = va >> iofi_va_shift[IOFI_VA_TOP] ? 0 : end_of_walk(ix, va), best;

	if (!(slot & IOF_VA_SLOT_KNOT))
		return false;
	best = iof_va_load(&iofi_va_knot_of(slot)->best);
	return best && iof_va_run_read(iofi_va_run_of(best), va, iova, length);
}

uint64_t iof_va_index_ask(const struct iof_va_index *index, uint64_t va, uint64_t *length)
{
	struct iofi_va_index *ix = iofi_va(index);
	struct iof_va_run *run;
	uint64_t iova = IOF_NO_IOVA;

	if (ask_knot(index, va, &iova, length))
		return iova;
	*length = 0;
	iova = IOF_NO_IOVA;
	iof_lock_take(&ix->lock);
	run = look(ix, va, has, &va);
	if (run) {
		iova = run->iova + (va - run->start);
		*length = run->last - va + 1;
	}
	iof_lock_drop(&ix->lock);
	return iova;
}

/* ---- batches ---- */

/*
 * Addresses of one batch are often of one mapping (a buffer's pages), often of very many. So batches are answered in blocks,
 * and blocks in one of two ways: by trying the last answer's run first, or by walking for all of them side by side. The first way is tried
 * again now and then; where it fails often it costs a mispredicted branch each time.
 */
#define BLOCK 32u
#define PATIENCE 8u /* blocks of the second kind between tries */

struct batch {
	const struct iof_va_index *ix;
	const uint64_t *vas;
	uint64_t *iovas, *lengths; /* lengths: NULL: not wanted */
	size_t found;
};

static inline void answer(struct batch *b, size_t i, uint64_t iova, uint64_t length)
{
	b->iovas[i] = iova;
	b->found += !!length;
	if (b->lengths)
		b->lengths[i] = length;
}

/*
 * Two levels down: where the slot is that has the answer for va, or a copy of it. What has to come from afar is asked for.
 * Runs are not: the next round reads several at once by itself.
 */
static inline const uint64_t *way_to(uint64_t low, uint64_t va, uint64_t *copy)
{
	const uint64_t *at = copy;

	*copy = 0;
	if (iof_unlikely(va >> iofi_va_shift[IOFI_VA_TOP] || !(low & IOF_VA_SLOT_TABLE)))
		return at;
	*copy = iof_va_below(low, va >> 30);
	if (*copy & IOF_VA_SLOT_TABLE)
		*copy = iof_va_below(*copy, va >> 21 & 511);
	if (*copy & IOF_VA_SLOT_TABLE)
		at = &iofi_va_table_of(*copy)->slot[va >> 12 & 511];
	__builtin_prefetch(at);
	return at;
}

/* A mapping as it was at one moment of the call. */
struct view {
	uint64_t start, span, iova; /* span: its length - 1 */
	bool of_all; /* it answers for all of its addresses */
};

/* With no knot anywhere, no address is mapped twice. */
static uint64_t look_around(struct batch *b, uint64_t va, uint64_t *length, struct view *view)
{
	uint64_t copy, slot = iof_va_load(way_to(iof_va_load(&b->ix->low), va, &copy)), version, iova;
	const struct iof_va_run *run = iofi_va_run_of(slot);

	view->of_all = false;
	if (!slot || slot & IOF_VA_SLOT_TAG)
		return iof_va_index_ask(b->ix, va, length);
	version = iof_va_load(&run->version);
	view->start = iof_va_load(&run->start);
	if (!iof_va_run_read(run, va, &iova, length) || iof_va_load(&run->version) != version)
		return iof_va_index_ask(b->ix, va, length);
	view->iova = iova - (va - view->start);
	view->span = va - view->start + (*length - 1);
	view->of_all = !iof_va_load(&b->ix->knots);
	return iova;
}

/* How often the last mapping was the right one. */
static unsigned alike(struct batch *b, size_t from, size_t to)
{
	struct view view = { .of_all = false };
	uint64_t iova, length, at;
	unsigned hits = 0;

	for (size_t i = from; i < to; i++) {
		at = b->vas[i] - view.start;
		if (view.of_all && at <= view.span) {
			answer(b, i, view.iova + at, view.span - at + 1);
			hits++;
		} else {
			iova = look_around(b, b->vas[i], &length, &view);
			answer(b, i, iova, length);
		}
	}
	return hits;
}

static inline uint64_t arrive(const struct iof_va_index *ix, const uint64_t *at, uint64_t va, uint64_t *length)
{
	uint64_t slot = iof_va_load(at), iova;

	if (iof_likely(slot && !(slot & IOF_VA_SLOT_TAG) && iof_va_run_read(iofi_va_run_of(slot), va, &iova, length)))
		return iova;
	return iof_va_index_ask(ix, va, length);
}

static void mixed(struct batch *b, size_t from, size_t to)
{
	uint64_t copies[BLOCK], low = iof_va_load(&b->ix->low), length, iova;
	const uint64_t *at[BLOCK];

	for (size_t i = from; i < to; i++)
		at[i - from] = way_to(low, b->vas[i], &copies[i - from]);
	for (size_t i = from; i < to; i++) {
		iova = arrive(b->ix, at[i - from], b->vas[i], &length);
		answer(b, i, iova, length);
	}
}

size_t iof_va_to_iova_many(const struct iof_va_index *ix, size_t n, const uint64_t *vas, uint64_t *iovas, uint64_t *lengths)
{
	struct batch b = { ix, vas, iovas, lengths, 0 };
	unsigned patience = 0;

	for (size_t i = 0, to; i < n; i = to) {
		to = n - i < BLOCK ? n : i + BLOCK;
		if (patience) {
			patience--;
			mixed(&b, i, to);
		} else if (alike(&b, i, to) * 4 < (to - i) * 3) {
			patience = PATIENCE;
		}
	}
	return b.found;
}

/* ---- about it ---- */

bool iof_va_index_has(const struct iof_va_index *index, uint64_t va, uint64_t length, uint64_t iova)
{
	struct iofi_va_index *ix = iofi_va(index);
	bool there;

	iof_lock_take(&ix->lock);
	there = iofi_va_exact(ix, va, va + (length - 1), iova);
	iof_lock_drop(&ix->lock);
	return there;
}

static uint64_t slab_bytes(const struct iof_slab *s)
{
	return s->live * s->object_size;
}

void iof_va_index_stats(const struct iof_va_index *index, struct iof_va_stats *out)
{
	struct iofi_va_index *ix = iofi_va(index);

	iof_lock_take(&ix->lock);
	*out = (struct iof_va_stats){ .runs = ix->n_runs, .tables = ix->n_tables, .knots = ix->knots.live };
	out->bytes = sizeof(*ix) + slab_bytes(&ix->runs) + slab_bytes(&ix->tables) + slab_bytes(&ix->knots) + slab_bytes(&ix->nodes);
	for (const struct iof_va_table *t = ix->roots; t; t = t->next)
		out->bytes += iofi_va_table_size(IOFI_VA_TOP);
	iof_lock_drop(&ix->lock);
}

/* ---- for tests ---- */

struct check {
	struct iofi_va_index *ix;
	uint64_t runs; /* counted at their first addresses */
	uint64_t tables, knots;
};

static bool run_is_valid(struct check *c, const struct iof_va_run *run, uint64_t start, unsigned level)
{
	uint64_t last = start + iof_low_mask(iofi_va_shift[level]);

	c->runs += run->start >= start && run->start <= last;
	if (run->start > run->last || run->version & 1)
		return false;
	return level ? run->start <= start && run->last >= last : run->start <= last && run->last >= start;
}

static bool slot_is_valid(struct check *c, uint64_t slot, uint64_t start, unsigned level);

static bool table_is_valid(struct check *c, const struct iof_va_table *t, uint64_t start, unsigned level)
{
	unsigned shift = iofi_va_shift[level];
	uint64_t used = 0;

	c->tables += level + 1 < IOFI_VA_TOP;
	for (uint64_t i = 0; i < UINT64_C(1) << (iofi_va_shift[level + 1] - shift); i++) {
		used += !!t->slot[i];
		if (!slot_is_valid(c, t->slot[i], start + (i << shift), level))
			return false;
	}
	return used == t->used && (used || level + 1 == IOFI_VA_TOP);
}

static bool nodes_are_valid(struct check *c, const struct iofi_va_node *n, uint64_t start, unsigned level)
{
	return !n || (run_is_valid(c, n->run, start, level) && nodes_are_valid(c, n->left, start, level) &&
		      nodes_are_valid(c, n->right, start, level));
}

static bool knot_is_valid(struct check *c, const struct iofi_va_knot *knot, uint64_t start, unsigned level)
{
	struct iof_va_run *first = iofi_va_knot_first(knot);
	uint64_t n = 0, last = start + iof_low_mask(iofi_va_shift[level]);
	bool best = !knot->child && first && first->start <= start && first->last >= last;

	c->knots++;
	if (!iofi_va_knot_is_valid(knot, &n) || n + !!knot->child < 2 || knot->best != (best ? (uintptr_t)first : 0))
		return false;
	return nodes_are_valid(c, knot->root, start, level) &&
	       (!knot->child || table_is_valid(c, knot->child, start, level - 1));
}

static bool slot_is_valid(struct check *c, uint64_t slot, uint64_t start, unsigned level)
{
	if (!slot)
		return true;
	if (slot & IOF_VA_SLOT_TABLE)
		return level && table_is_valid(c, iofi_va_table_of(slot), start, level - 1);
	if (slot & IOF_VA_SLOT_KNOT)
		return knot_is_valid(c, iofi_va_knot_of(slot), start, level);
	return run_is_valid(c, iofi_va_run_of(slot), start, level);
}

bool iof_va_index_is_valid(const struct iof_va_index *index)
{
	struct check c = { .ix = iofi_va(index) };
	bool good = slot_is_valid(&c, index->low, 0, IOFI_VA_TOP);

	for (uint64_t i = 1; good && c.ix->high && i < UINT64_C(1) << (64 - iofi_va_shift[IOFI_VA_TOP]); i++)
		good = slot_is_valid(&c, c.ix->high->slot[i], i << iofi_va_shift[IOFI_VA_TOP], IOFI_VA_TOP);
	return good && c.runs == c.ix->n_runs && c.tables == c.ix->n_tables && c.knots == c.ix->knots.live &&
	       iof_slab_is_valid(&c.ix->knots) && iof_slab_is_valid(&c.ix->nodes);
}
