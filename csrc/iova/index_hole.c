/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holes: the search for one that fits, and the bounds that steer it.
 *
 * Bounds are lazy in one direction only. Whoever makes a hole larger raises them (iofi_bound_raise()), up to the first
 * node where nothing grows. Whoever makes a hole smaller leaves them. A search that was sent into a subtree by a bound and
 * comes back with nothing computes that bound anew. Each such disappointment is paid for by the insertion that caused it, so
 * a search is O(log n) amortised, and holes that are large enough but wrongly aligned are never looked at twice.
 *
 * A removal mostly makes a hole that the next insertion fills, or that the next removal makes larger. So it only notes the hole down as the
 * *late* one, and the bounds are told when the next removal makes another. A search that the late hole would do for asks the bounds for
 * holes below it.
 *
 * Searches come in series that ask for the same. What the last one has passed over need not be looked at again: `floor` says
 * below which address no hole takes such a search. Inserting never makes a hole that did; a removal brings the floor down to the hole it makes.
 * The place of a series is mostly where the cursor is, so a search looks there before it descends.
 */
#include "iova/node.h"

struct query {
	struct iof_range window;
	uint64_t need; /* the least span: length - 1, but at least 1, because a one-byte hole never fits */
	uint64_t align;
	uint64_t or_bits;
	uint64_t from; /* holes that start below it need not be looked at, … */
	uint64_t stop; /* … nor those that start here or above: the late hole will do */
	uint64_t late; /* where the late hole starts, which bounds do not know; IOFI_NO_HOLE */
	int64_t reach; /* need, as far as bounds can tell */
	unsigned class;
	uint64_t visited;
	uint64_t hole; /* out, from here on: where the hole found starts */
	uint64_t start;
	struct iofi_leaf *leaf;
	unsigned pos;
};

enum verdict { GO_ON, FOUND, PAST };

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t capacity(uint64_t start, uint64_t last, unsigned class)
{
	uint64_t align = class ? UINT64_C(1) << (class + IOFI_CLASS_SHIFT) : 1, at;

	if (!iof_align_up(start, align, &at) || at >= last)
		return 0;
	return last - at < INT64_MAX ? (int64_t)(last - at) : INT64_MAX;
}

int64_t iofi_leaf_capacity(const struct iofi_leaf *leaf, unsigned class, uint64_t but)
{
	uint64_t hole = leaf->hole;
	int64_t best = 0;

	for (unsigned i = 0; i < leaf->node.count; i++) {
		if (leaf->start[i] != hole && hole != but)
			best = larger(best, capacity(hole, leaf->start[i] - 1, class));
		hole = leaf->tail[i].last + 1;
	}
	return best;
}

int64_t iofi_inner_bound(const struct iofi_inner *in, unsigned class)
{
	const int64_t *b = in->bound[class];
	int64_t m0 = b[0], m1 = b[1], m2 = b[2], m3 = b[3];

	/* Four chains: one would wait for itself thirty-two times. */
	for (unsigned i = 4; i < IOFI_FAN; i += 4) {
		m0 = larger(m0, b[i]);
		m1 = larger(m1, b[i + 1]);
		m2 = larger(m2, b[i + 2]);
		m3 = larger(m3, b[i + 3]);
	}
	return larger(larger(m0, m1), larger(m2, m3));
}

static int64_t held(const struct iofi_node *n, bool leaf, unsigned class, uint64_t late)
{
	return leaf ? iofi_leaf_capacity(iofi_as_leaf(n), class, late) : iofi_inner_bound(iofi_as_inner(n), class);
}

/* How many classes have a use for the hole, and how large it is for them. Capacity falls with alignment, so they are the first ones. */
static unsigned capacities(uint64_t start, uint64_t last, int64_t *cap)
{
	unsigned n = 0;

	while (n < IOFI_CLASSES && (cap[n] = capacity(start, last, n)))
		n++;
	return n;
}

/* The hole that starts at `but` is left out. */
static void leaf_bounds(const struct iofi_leaf *leaf, uint64_t but, int64_t *best)
{
	int64_t cap[IOFI_CLASSES];
	uint64_t hole = leaf->hole;

	for (unsigned i = 0; i < leaf->node.count; i++) {
		if (leaf->start[i] != hole && hole != but)
			for (unsigned c = capacities(hole, leaf->start[i] - 1, cap); c--;)
				best[c] = larger(best[c], cap[c]);
		hole = leaf->tail[i].last + 1;
	}
}

void iofi_bound_set(const struct iof_index *ix, struct iofi_inner *parent, unsigned i, bool leaf)
{
	bool late = ix->late.owner && parent->child[i] == &ix->late.owner->node;
	int64_t best[IOFI_CLASSES] = { 0 };

	/* The nodes above have not been told of the late hole, and no bound here may be larger than theirs. */
	if (leaf)
		leaf_bounds(iofi_as_leaf(parent->child[i]), late ? ix->late.start : IOFI_NO_HOLE, best);
	for (unsigned c = 0; c < IOFI_CLASSES; c++)
		parent->bound[c][i] = leaf ? best[c] : iofi_inner_bound(iofi_as_inner(parent->child[i]), c);
}

void iofi_bound_raise(const struct iofi_leaf *leaf, uint64_t start, uint64_t last)
{
	int64_t cap[IOFI_CLASSES];
	unsigned n = capacities(start, last, cap), i, grown;

	for (struct iofi_inner *in = leaf->node.parent; in; in = in->node.parent) {
		i = iofi_slot(in, leaf->low);
		grown = 0;
		for (unsigned c = 0; c < n; c++)
			if (in->bound[c][i] < cap[c]) {
				in->bound[c][i] = cap[c];
				grown = 1;
			}
		if (!grown)
			return;
	}
}

void iofi_late_flush(struct iof_index *ix)
{
	if (ix->late.owner)
		iofi_bound_raise(ix->late.owner, ix->late.start, ix->late.last);
	ix->late.owner = NULL;
}

void iofi_late_note(struct iof_index *ix, struct iofi_leaf *leaf, uint64_t start, uint64_t last)
{
	if (ix->late.start < start || ix->late.last > last)
		iofi_late_flush(ix);
	ix->late.owner = leaf;
	ix->late.start = start;
	ix->late.last = last;
}

void iofi_late_take(struct iof_index *ix, struct iof_range r, bool left)
{
	bool before = left && r.start != ix->late.start, behind = r.last != ix->late.last;

	if (before && behind)
		iofi_late_flush(ix); /* with a hole as it was: more than the truth will do */
	else if (before)
		ix->late.last = r.start - 1;
	else if (behind)
		ix->late.start = r.last + 1;
	else
		ix->late.owner = NULL;
}

/* Does [start, last], clipped to the window, take the query? (behaviour.md 3.6bis, step 6) */
static bool fits(struct query *q, uint64_t hole, uint64_t last)
{
	uint64_t start = hole < q->window.start ? q->window.start : hole, at;

	if (last > q->window.last)
		last = q->window.last;
	if (!iof_align_up(start, q->align, &at))
		return false;
	at |= q->or_bits;
	if (at >= last || last - at < q->need)
		return false;
	q->hole = hole;
	q->start = at;
	return true;
}

static enum verdict search_leaf(struct query *q, struct iofi_leaf *leaf, bool edge)
{
	unsigned i = edge ? iofi_leaf_rank(leaf, q->from) : 0;
	uint64_t hole = iofi_hole_start(leaf, i);

	q->visited++;
	for (; i < leaf->node.count; i++) {
		if (leaf->start[i] != hole) {
			if (hole > q->window.last || hole >= q->stop)
				return PAST;
			if (fits(q, hole, leaf->start[i] - 1)) {
				q->leaf = leaf;
				q->pos = i;
				return FOUND;
			}
		}
		hole = leaf->tail[i].last + 1;
	}
	return GO_ON;
}

typedef int64_t pair __attribute__((vector_size(16)));

/* The first child from i on whose bound reaches `need`; the fan when there is none. Eight bounds a branch: b - need is negative. */
static unsigned first_reaching(const int64_t *b, unsigned i, int64_t need)
{
	const pair n = { need, need };

	for (; i % 8; i++)
		if (b[i] >= need)
			return i;
	for (; i < IOFI_FAN; i += 8) {
		const pair *p = (const pair *)&b[i];
		pair below = (p[0] - n) & (p[1] - n) & (p[2] - n) & (p[3] - n);

		if ((below[0] & below[1]) < 0)
			continue;
		while (b[i] < need)
			i++;
		return i;
	}
	return IOFI_FAN;
}

/* `edge`: the search begins inside this node, which may therefore disappoint without its bounds being wrong. */
static enum verdict search_inner(struct query *q, struct iofi_inner *in, unsigned height, bool edge)
{
	int64_t *bound = in->bound[q->class];
	unsigned i = edge ? iofi_slot(in, q->from) : 0;
	enum verdict v;

	q->visited++;
	for (;; i++) {
		unsigned k = first_reaching(bound, i, q->reach);

		if (k == IOFI_FAN)
			return GO_ON;
		if (k > i && in->key[k] >= q->stop)
			return PAST;
		edge = edge && k == i;
		i = k;
		v = height == 1 ? search_leaf(q, iofi_as_leaf(in->child[i]), edge) :
				  search_inner(q, iofi_as_inner(in->child[i]), height - 1, edge);
		if (v != GO_ON)
			return v;
		bound[i] = held(in->child[i], height == 1, q->class, q->late);
		edge = false;
	}
}

/* The hole after the last entry. */
static bool search_tail(struct query *q, const struct iof_index *ix)
{
	struct iofi_leaf *end = ix->end;
	uint64_t start = iofi_hole_start(end, end->node.count);

	if (ix->count && !start)
		return false; /* the last entry ends at 2^64-1 */
	q->leaf = end;
	q->pos = end->node.count;
	return start <= q->window.last && fits(q, start, UINT64_MAX);
}

static unsigned class_of(uint64_t align)
{
	unsigned shift = iof_log2(align);

	if (shift <= IOFI_CLASS_SHIFT)
		return 0;
	shift -= IOFI_CLASS_SHIFT;
	return shift < IOFI_CLASSES ? shift : IOFI_CLASSES - 1;
}

/* The hole that starts at the floor, if the cursor is at it. */
static bool search_cursor(struct query *q, const struct iof_index *ix)
{
	struct iofi_leaf *leaf = ix->cursor;
	unsigned pos = ix->guess;
	uint64_t next;

	if (pos > leaf->node.count || iofi_hole_start(leaf, pos) != q->from || (!q->from && ix->count))
		return false;
	if (pos == leaf->node.count && !leaf->next)
		return search_tail(q, ix);
	next = pos < leaf->node.count ? leaf->start[pos] : leaf->next->start[0];
	if (next == q->from || !fits(q, q->from, next - 1))
		return false;
	q->leaf = leaf;
	q->pos = pos;
	return true;
}

static bool search_all(struct query *q, struct iof_index *ix)
{
	bool late = ix->late.owner && fits(q, ix->late.start, ix->late.last);
	enum verdict v;

	q->late = ix->late.owner ? ix->late.start : IOFI_NO_HOLE;
	q->stop = late ? q->late : IOFI_NO_HOLE;
	v = ix->height ? search_inner(q, iofi_as_inner(ix->root), ix->height, true) :
			 search_leaf(q, iofi_as_leaf(ix->root), true);
	ix->visited += q->visited;
	if (late && v != FOUND) {
		q->leaf = ix->late.owner;
		q->pos = iofi_leaf_pos(q->leaf, q->late);
		return true;
	}
	return v == FOUND || (v != PAST && search_tail(q, ix));
}

/* Bits that are set in a place only make it later, so the floor of searches without holds for those with. */
static uint64_t floor_for(const struct iof_index *ix, const struct query *q)
{
	bool holds = q->align == ix->floor.align && q->need >= ix->floor.need && q->window.start >= ix->floor.window;

	return holds && ix->floor.from > q->window.start ? ix->floor.from : q->window.start;
}

bool iofi_floor_takes(const struct iof_index *ix, uint64_t start, uint64_t last)
{
	struct query q = { .window = { ix->floor.window, UINT64_MAX }, .need = ix->floor.need, .align = ix->floor.align };

	return fits(&q, start, last);
}

/* The cursor goes to where the place is going to be used: behind the last entry of the leaf before, if the hole begins a leaf. */
static void remember_leaf(struct iof_index *ix, const struct query *q)
{
	struct iofi_leaf *leaf = q->leaf;

	ix->guess = q->pos;
	if (!q->pos && leaf->prev && q->start <= leaf->prev->high) {
		leaf = leaf->prev;
		ix->guess = leaf->node.count;
	}
	if (ix->cursor != leaf) {
		ix->cursor = leaf;
		ix->run = IOFI_NOWHERE;
	}
}

static void remember(struct iof_index *ix, const struct query *q)
{
	if (!q->or_bits) {
		ix->floor.from = q->hole;
		ix->floor.window = q->window.start;
		ix->floor.align = q->align;
		ix->floor.need = q->need;
		ix->floor.start = q->start;
	}
	remember_leaf(ix, q);
}

bool iof_index_hole(struct iof_index *ix, struct iof_range window, uint64_t length, uint64_t align, uint64_t or_bits,
		    uint64_t *start)
{
	struct query q = {
		.window = window,
		.need = length > 1 ? length - 1 : 1,
		.align = align,
		.or_bits = or_bits,
	};

	q.from = floor_for(ix, &q);
	q.class = class_of(align);
	q.reach = (int64_t)(q.need < INT64_MAX ? q.need : INT64_MAX);
	if (!search_cursor(&q, ix) && !search_all(&q, ix))
		return false;
	*start = q.start;
	remember(ix, &q);
	return true;
}
