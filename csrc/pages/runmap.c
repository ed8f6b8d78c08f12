/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run map's edges in a treap: ordered by slot, heap-ordered by a priority drawn when the node goes in. Both changes
 * are a walk down one path (cut a subtree in two, join two subtrees), without recursion and without parent links.
 *
 * Invariant: an edge's count differs from the count before it (0 before the first), and the last edge's count is 0.
 */
#include "pages/runmap.h"

#include <errno.h>

struct iofi_edge {
	uint64_t at; /* first slot with this count */
	uint32_t count;
	uint32_t priority; /* no child has a higher one */
	struct iofi_edge *left, *right; /* left also links the spare list */
};

void iofi_runmap_init(struct iofi_runmap *map, struct iof_alloc *alloc)
{
	*map = (struct iofi_runmap){ .alloc = alloc, .seed = 0x9e3779b9 };
}

/* The edge of `at` itself or the nearest below it; NULL in front of the first edge. */
static struct iofi_edge *edge_floor(const struct iofi_runmap *map, uint64_t at)
{
	struct iofi_edge *found = NULL;

	for (struct iofi_edge *e = map->root; e;) {
		if (e->at <= at)
			found = e;
		e = e->at <= at ? e->right : e->left;
	}
	return found;
}

/* The nearest edge above `at`. */
static struct iofi_edge *edge_above(const struct iofi_runmap *map, uint64_t at)
{
	struct iofi_edge *found = NULL;

	for (struct iofi_edge *e = map->root; e;) {
		if (e->at > at)
			found = e;
		e = e->at > at ? e->left : e->right;
	}
	return found;
}

static void tree_insert(struct iofi_runmap *map, struct iofi_edge *add)
{
	struct iofi_edge **link = &map->root, **below = &add->left, **above = &add->right, *e;

	while ((e = *link) && e->priority >= add->priority)
		link = add->at < e->at ? &e->left : &e->right;
	*link = add;
	while (e) { /* deal the subtree that was here out to both sides */
		if (e->at < add->at) {
			*below = e;
			below = &e->right;
			e = e->right;
		} else {
			*above = e;
			above = &e->left;
			e = e->left;
		}
	}
	*below = *above = NULL;
}

static void tree_remove(struct iofi_runmap *map, struct iofi_edge *gone)
{
	struct iofi_edge **link = &map->root, *low = gone->left, *high = gone->right;

	while (*link != gone)
		link = gone->at < (*link)->at ? &(*link)->left : &(*link)->right;
	while (low && high) {
		struct iofi_edge **top = low->priority >= high->priority ? &low : &high;

		*link = *top;
		link = top == &low ? &low->right : &high->left;
		*top = *link;
	}
	*link = low ? low : high;
}

static void spare_push(struct iofi_runmap *map, struct iofi_edge *e)
{
	e->left = map->spare;
	map->spare = e;
}

static struct iofi_edge *spare_pop(struct iofi_runmap *map)
{
	struct iofi_edge *e = map->spare;

	map->spare = e->left;
	return e;
}

int iofi_runmap_reserve(struct iofi_runmap *map, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		struct iofi_edge *e = iof_mem_get(map->alloc, sizeof(*e), 16);

		if (!e) {
			iofi_runmap_unreserve(map, i);
			return -ENOMEM;
		}
		spare_push(map, e);
		map->reserved++;
	}
	return 0;
}

void iofi_runmap_unreserve(struct iofi_runmap *map, uint64_t n)
{
	map->reserved -= n;
	while (n--)
		iof_mem_put(map->alloc, spare_pop(map), sizeof(struct iofi_edge));
}

void iofi_runmap_fini(struct iofi_runmap *map)
{
	struct iofi_edge *e;

	while ((e = map->root)) {
		tree_remove(map, e);
		spare_push(map, e);
	}
	iofi_runmap_unreserve(map, map->reserved);
	map->used = 0;
}

static uint32_t draw(struct iofi_runmap *map)
{
	map->seed ^= map->seed << 13;
	map->seed ^= map->seed >> 17;
	map->seed ^= map->seed << 5;
	return map->seed;
}

/* Makes sure that a run starts at `at`. */
static void edge_make(struct iofi_runmap *map, uint64_t at)
{
	struct iofi_edge *before = edge_floor(map, at), *e;

	if (before && before->at == at)
		return;
	e = spare_pop(map);
	*e = (struct iofi_edge){ .at = at, .count = before ? before->count : 0, .priority = draw(map) };
	tree_insert(map, e);
	map->used++;
}

/* Joins the run that starts at `at` to the one before when their counts are equal. */
static void edge_heal(struct iofi_runmap *map, uint64_t at)
{
	struct iofi_edge *e = edge_floor(map, at), *before = at ? edge_floor(map, at - 1) : NULL;

	if (e->count != (before ? before->count : 0))
		return;
	tree_remove(map, e);
	map->used--;
	spare_push(map, e);
}

static void shift(struct iofi_runmap *map, uint64_t first, uint64_t last, uint32_t by)
{
	edge_make(map, first);
	edge_make(map, last + 1);
	for (struct iofi_edge *e = edge_floor(map, first); e->at <= last; e = edge_above(map, e->at))
		e->count += by;
	edge_heal(map, first);
	edge_heal(map, last + 1);
}

void iofi_runmap_add(struct iofi_runmap *map, uint64_t first, uint64_t last)
{
	shift(map, first, last, 1);
}

void iofi_runmap_remove(struct iofi_runmap *map, uint64_t first, uint64_t last)
{
	shift(map, first, last, UINT32_MAX);
}

struct iofi_span iofi_runmap_span(const struct iofi_runmap *map, uint64_t at, uint64_t last)
{
	struct iofi_edge *here = edge_floor(map, at), *next = edge_above(map, at);

	return (struct iofi_span){ next && next->at <= last ? next->at - 1 : last, here ? here->count : 0 };
}

bool iofi_runmap_find(const struct iofi_runmap *map, uint32_t count, uint64_t *first, uint64_t *last)
{
	for (uint64_t at = *first;;) {
		struct iofi_span s = iofi_runmap_span(map, at, *last);

		if (s.count == count) {
			*first = at;
			*last = s.last;
			return true;
		}
		if (s.last == *last)
			return false;
		at = s.last + 1;
	}
}

/*
 * A subtree's node count, or UINT64_MAX when it breaks order or heap order. The depth is logarithmic, so recursion is
 * fine.
 */
static uint64_t subtree_size(const struct iofi_edge *e, const struct iofi_edge *low, const struct iofi_edge *high)
{
	uint64_t left, right;

	if (!e)
		return 0;
	if ((low && e->at <= low->at) || (high && e->at >= high->at))
		return UINT64_MAX;
	if ((e->left && e->left->priority > e->priority) || (e->right && e->right->priority > e->priority))
		return UINT64_MAX;
	left = subtree_size(e->left, low, e);
	right = subtree_size(e->right, e, high);
	return left == UINT64_MAX || right == UINT64_MAX ? UINT64_MAX : left + right + 1;
}

bool iofi_runmap_is_valid(const struct iofi_runmap *map)
{
	const struct iofi_edge *e = edge_floor(map, 0);
	uint64_t spare = 0;
	uint32_t count = 0;

	if (subtree_size(map->root, NULL, NULL) != map->used)
		return false;
	for (e = e ? e : edge_above(map, 0); e; e = edge_above(map, e->at)) {
		if (e->count == count)
			return false;
		count = e->count;
	}
	for (e = map->spare; e; e = e->left)
		spare++;
	return count == 0 && map->used + spare == map->reserved;
}
