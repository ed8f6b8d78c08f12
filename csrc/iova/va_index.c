/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the address index.
 *
 * A run that comes is put into its slots one by one, from the largest kind down; one that goes is taken out of the same slots. Taking out
 * is content with a slot where the run is not, so that a run whose tables found no memory is taken out like any other.
 *
 * A slot that two runs fill becomes a knot, and goes back to being a run or a table when it holds only one thing. `best` spares
 * readers the lock: the run with the lowest IOVA, where it fills the slot and nothing smaller may be lower.
 */
#include "iova/va_index_priv.h"

#include <errno.h>
#include <string.h>

/* ---- memory ---- */

static void write_run(struct iof_va_run *run, uint64_t start, uint64_t last, uint64_t iova)
{
	uint64_t version = run->version;

	/* Each field is released after the odd version: whoever sees one of them sees that the version has changed. */
	__atomic_store_n(&run->version, version + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&run->start, start, __ATOMIC_RELEASE);
	__atomic_store_n(&run->last, last, __ATOMIC_RELEASE);
	__atomic_store_n(&run->iova, iova, __ATOMIC_RELEASE);
	__atomic_store_n(&run->version, version + 2, __ATOMIC_RELEASE);
}

static struct iof_va_run *run_get(struct iofi_va_index *ix)
{
	struct iof_va_run *run = ix->spare_runs;

	if (run) {
		if (iof_alloc_may_fail(ix->alloc))
			return NULL;
		ix->spare_runs = iofi_va_run_of(run->start & ~UINT64_C(1));
		return run;
	}
	run = iof_slab_get(&ix->runs);
	if (run)
		memset(run, 0, sizeof(*run));
	return run;
}

/* Odd and above `last`: matches no address. */
static void run_put(struct iofi_va_index *ix, struct iof_va_run *run)
{
	write_run(run, (uintptr_t)ix->spare_runs | 1, 0, 0);
	ix->spare_runs = run;
}

static struct iof_va_table *root_get(struct iofi_va_index *ix)
{
	struct iof_va_table *t = iof_mem_zget(ix->alloc, iofi_va_table_size(IOFI_VA_TOP), IOF_CACHELINE);

	if (t) {
		t->next = ix->roots;
		ix->roots = t;
	}
	return t;
}

/* Tables come back with every slot 0. */
static struct iof_va_table *table_get(struct iofi_va_index *ix, unsigned level)
{
	struct iof_va_table *t = ix->spare_tables;

	if (level == IOFI_VA_TOP)
		return root_get(ix);
	if (t) {
		if (iof_alloc_may_fail(ix->alloc))
			return NULL;
		ix->spare_tables = t->next;
	} else {
		t = iof_slab_get(&ix->tables);
		if (t)
			memset(t, 0, iofi_va_table_size(level));
	}
	ix->n_tables += !!t;
	return t;
}

static void table_put(struct iofi_va_index *ix, struct iof_va_table *t)
{
	t->next = ix->spare_tables;
	ix->spare_tables = t;
	ix->n_tables--;
}

static void count_knots(struct iofi_va_index *ix)
{
	__atomic_store_n(&ix->readers.knots, ix->knots.live, __ATOMIC_RELEASE);
}

static void knot_put(struct iofi_va_index *ix, struct iofi_va_knot *knot)
{
	iof_slab_put(&ix->knots, knot);
	count_knots(ix);
}

static struct iofi_va_knot *knot_get(struct iofi_va_index *ix)
{
	struct iofi_va_knot *knot = iof_slab_get(&ix->knots);

	if (knot) {
		knot->root = NULL;
		knot->child = NULL;
		__atomic_store_n(&knot->best, 0, __ATOMIC_RELEASE);
		count_knots(ix);
	}
	return knot;
}

/* ---- one slot ---- */

struct place {
	uint64_t *slot;
	struct iof_va_table *in; /* NULL: a slot of the largest kind that is in no table */
	uint64_t start, last; /* addresses of the slot */
	unsigned level;
};

static struct place place_below(const struct place *p, struct iof_va_table *child, uint64_t i)
{
	unsigned shift = iofi_va_shift[p->level - 1];
	uint64_t start = p->start + (i << shift);

	return (struct place){ &child->slot[i], child, start, start + iof_low_mask(shift), p->level - 1 };
}

static void set(const struct place *p, uint64_t slot)
{
	if (p->in)
		p->in->used += (uint64_t)!!slot - (uint64_t)!!*p->slot;
	__atomic_store_n(p->slot, slot, __ATOMIC_RELEASE);
}

static bool fills(const struct iof_va_run *run, const struct place *p)
{
	return run->start <= p->start && run->last >= p->last;
}

/* A knot that holds one thing only is that thing. */
static void settle(struct iofi_va_index *ix, const struct place *p, struct iofi_va_knot *knot)
{
	struct iofi_va_node *root = knot->root;
	struct iof_va_run *first = iofi_va_knot_first(knot);

	if (root && (knot->child || root->left || root->right)) {
		__atomic_store_n(&knot->best, first && !knot->child && fills(first, p) ? (uintptr_t)first : 0, __ATOMIC_RELEASE);
		return;
	}
	if (root) {
		set(p, (uintptr_t)root->run);
		iof_slab_put(&ix->nodes, root);
	} else {
		set(p, knot->child ? (uintptr_t)knot->child | IOF_VA_SLOT_TABLE : 0);
	}
	knot_put(ix, knot);
}

static int tie(struct iofi_va_index *ix, struct iofi_va_knot *knot, struct iof_va_run *run)
{
	struct iofi_va_node *node = iof_slab_get(&ix->nodes);

	if (!node)
		return -ENOMEM;
	node->run = run;
	iofi_va_knot_add(knot, node);
	return 0;
}

/* The slot's knot, made of what it is now; NULL: no memory. Whoever ties nothing to it settles it. */
static struct iofi_va_knot *knot_at(struct iofi_va_index *ix, const struct place *p)
{
	uint64_t slot = *p->slot;
	struct iofi_va_knot *knot;

	if (slot & IOF_VA_SLOT_KNOT)
		return iofi_va_knot_of(slot);
	knot = knot_get(ix);
	if (!knot)
		return NULL;
	if (slot & IOF_VA_SLOT_TABLE) {
		knot->child = iofi_va_table_of(slot);
	} else if (tie(ix, knot, iofi_va_run_of(slot))) {
		knot_put(ix, knot);
		return NULL;
	}
	set(p, (uintptr_t)knot | IOF_VA_SLOT_KNOT);
	return knot;
}

static int add(struct iofi_va_index *ix, const struct place *p, struct iof_va_run *run)
{
	struct iofi_va_knot *knot;
	int rc;

	if (iof_likely(!*p->slot)) {
		set(p, (uintptr_t)run);
		return 0;
	}
	knot = knot_at(ix, p);
	if (!knot)
		return -ENOMEM;
	rc = tie(ix, knot, run);
	settle(ix, p, knot);
	return rc;
}

static void drop(struct iofi_va_index *ix, const struct place *p, struct iof_va_run *run)
{
	struct iofi_va_knot *knot;
	struct iofi_va_node *node;

	if (iof_likely(*p->slot == (uintptr_t)run)) {
		set(p, 0);
		return;
	}
	if (!(*p->slot & IOF_VA_SLOT_KNOT))
		return;
	knot = iofi_va_knot_of(*p->slot);
	node = iofi_va_knot_take(knot, run);
	if (!node)
		return;
	iof_slab_put(&ix->nodes, node);
	settle(ix, p, knot);
}

/* The table below the slot, made if there is none; NULL: no memory. */
static struct iof_va_table *child_at(struct iofi_va_index *ix, const struct place *p)
{
	struct iof_va_table *child = iofi_va_child(*p->slot);
	struct iofi_va_knot *knot;

	if (iof_likely(child))
		return child;
	child = table_get(ix, p->level);
	if (!child)
		return NULL;
	if (!*p->slot) {
		set(p, (uintptr_t)child | IOF_VA_SLOT_TABLE);
		return child;
	}
	knot = knot_at(ix, p);
	if (!knot) {
		if (p->level < IOFI_VA_TOP)
			table_put(ix, child);
		return NULL; /* a root stays on the list of roots */
	}
	knot->child = child;
	settle(ix, p, knot);
	return child;
}

/* ---- runs ---- */

struct part {
	uint64_t first, last; /* numbers of slots below a slot */
};

static struct part part_of(const struct place *p, const struct iof_va_run *run)
{
	unsigned shift = iofi_va_shift[p->level - 1];
	uint64_t start = run->start > p->start ? run->start : p->start, last = run->last < p->last ? run->last : p->last;

	return (struct part){ (start - p->start) >> shift, (last - p->start) >> shift };
}

static int cover(struct iofi_va_index *ix, const struct place *p, struct iof_va_run *run)
{
	struct iof_va_table *child;
	struct part part;
	int rc = 0;

	if (!p->level || fills(run, p))
		return add(ix, p, run);
	child = child_at(ix, p);
	if (!child)
		return -ENOMEM;
	part = part_of(p, run);
	for (uint64_t i = part.first; i <= part.last && !rc; i++) {
		struct place below = place_below(p, child, i);

		rc = cover(ix, &below, run);
	}
	return rc;
}

/* A table that has nothing goes; the roots stay. */
static void prune(struct iofi_va_index *ix, const struct place *p, struct iof_va_table *child)
{
	struct iofi_va_knot *knot;

	if (child->used || p->level == IOFI_VA_TOP)
		return;
	if (*p->slot & IOF_VA_SLOT_TABLE) {
		set(p, 0);
	} else {
		knot = iofi_va_knot_of(*p->slot);
		knot->child = NULL;
		settle(ix, p, knot);
	}
	table_put(ix, child);
}

static void uncover(struct iofi_va_index *ix, const struct place *p, struct iof_va_run *run)
{
	struct iof_va_table *child;
	struct part part;

	if (!p->level || fills(run, p)) {
		drop(ix, p, run);
		return;
	}
	child = iofi_va_child(*p->slot);
	if (!child)
		return;
	part = part_of(p, run);
	for (uint64_t i = part.first; i <= part.last; i++) {
		struct place below = place_below(p, child, i);

		uncover(ix, &below, run);
	}
	prune(ix, p, child);
}

static struct place top_place(struct iofi_va_index *ix, uint64_t i)
{
	unsigned shift = iofi_va_shift[IOFI_VA_TOP];
	uint64_t start = i << shift;

	return (struct place){ iofi_va_top(ix, start), i ? ix->high : NULL, start, start + iof_low_mask(shift), IOFI_VA_TOP };
}

static int high_get(struct iofi_va_index *ix)
{
	size_t size = sizeof(*ix->high) + (sizeof(uint64_t) << (64 - iofi_va_shift[IOFI_VA_TOP]));

	if (!ix->high)
		ix->high = iof_mem_zget(ix->alloc, size, IOF_CACHELINE);
	return ix->high ? 0 : -ENOMEM;
}

static void take_out(struct iofi_va_index *ix, struct iof_va_run *run)
{
	unsigned shift = iofi_va_shift[IOFI_VA_TOP];

	for (uint64_t i = run->start >> shift; i <= run->last >> shift; i++) {
		struct place p = top_place(ix, i);

		if (p.slot)
			uncover(ix, &p, run);
	}
}

static int put_in(struct iofi_va_index *ix, struct iof_va_run *run)
{
	unsigned shift = iofi_va_shift[IOFI_VA_TOP];
	int rc = run->last >> shift ? high_get(ix) : 0;

	for (uint64_t i = run->start >> shift; i <= run->last >> shift && !rc; i++) {
		struct place p = top_place(ix, i);

		rc = cover(ix, &p, run);
	}
	if (rc)
		take_out(ix, run);
	return rc;
}

static int insert(struct iofi_va_index *ix, uint64_t va, uint64_t last, uint64_t iova)
{
	struct iof_va_run *run = run_get(ix);
	int rc;

	if (!run)
		return -ENOMEM;
	write_run(run, va, last, iova);
	rc = put_in(ix, run);
	if (rc)
		run_put(ix, run);
	else
		ix->n_runs++;
	return rc;
}

int iof_va_index_insert(struct iof_va_index *index, uint64_t va, uint64_t length, uint64_t iova)
{
	struct iofi_va_index *ix = iofi_va(index);
	int rc;

	if (!length || length - 1 > UINT64_MAX - va)
		return -EINVAL;
	iof_lock_take(&ix->lock);
	rc = insert(ix, va, va + (length - 1), iova);
	iof_lock_drop(&ix->lock);
	return rc;
}

bool iof_va_index_remove(struct iof_va_index *index, uint64_t va, uint64_t length, uint64_t iova)
{
	struct iofi_va_index *ix = iofi_va(index);
	struct iof_va_run *run;

	iof_lock_take(&ix->lock);
	run = iofi_va_exact(ix, va, va + (length - 1), iova);
	if (run) {
		take_out(ix, run);
		run_put(ix, run);
		ix->n_runs--;
	}
	iof_lock_drop(&ix->lock);
	return run;
}

/* ---- the index ---- */

int iof_va_index_create(struct iof_alloc *a, void (*end)(void *arg), void *arg, struct iof_va_index **out)
{
	struct iofi_va_index *ix = iof_mem_zget(a, sizeof(*ix), IOF_CACHELINE);
	struct iof_va_table *root;

	if (!ix)
		return -ENOMEM;
	ix->alloc = a;
	root = root_get(ix);
	if (!root) {
		iof_mem_put(a, ix, sizeof(*ix));
		return -ENOMEM;
	}
	ix->readers.low = (uintptr_t)root | IOF_VA_SLOT_TABLE;
	ix->refs = 1;
	ix->end = end;
	ix->arg = arg;
	iof_lock_init(&ix->lock, a->shared);
	iof_slab_init(&ix->runs, a, sizeof(struct iof_va_run), 0);
	iof_slab_init(&ix->tables, a, iofi_va_table_size(1), 0);
	iof_slab_init(&ix->knots, a, sizeof(struct iofi_va_knot), 0);
	iof_slab_init(&ix->nodes, a, sizeof(struct iofi_va_node), 0);
	*out = &ix->readers;
	return 0;
}

void iof_va_index_get(struct iof_va_index *index)
{
	__atomic_fetch_add(&iofi_va(index)->refs, 1, __ATOMIC_RELAXED);
}

static void destroy(struct iofi_va_index *ix)
{
	struct iof_va_table *t;

	while ((t = ix->roots)) {
		ix->roots = t->next;
		iof_mem_put(ix->alloc, t, iofi_va_table_size(IOFI_VA_TOP));
	}
	iof_mem_put(ix->alloc, ix->high, sizeof(*t) + (sizeof(uint64_t) << (64 - iofi_va_shift[IOFI_VA_TOP])));
	iof_slab_fini(&ix->runs);
	iof_slab_fini(&ix->tables);
	iof_slab_fini(&ix->knots);
	iof_slab_fini(&ix->nodes);
	iof_mem_put(ix->alloc, ix, sizeof(*ix));
}

void iof_va_index_put(struct iof_va_index *index)
{
	struct iofi_va_index *ix = index ? iofi_va(index) : NULL;
	void (*end)(void *arg);
	void *arg;

	if (!ix || __atomic_sub_fetch(&ix->refs, 1, __ATOMIC_ACQ_REL))
		return;
	end = ix->end;
	arg = ix->arg;
	destroy(ix);
	if (end)
		end(arg);
}
