/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The range index: making, finding, inserting, removing. node.h draws the nodes; index_grow.c splits them, index_shrink.c
 * merges them, index_run.c does many entries in one step, index_hole.c looks for holes and keeps the bounds, index_find.c finds in batches, index_valid.c
 * checks it all.
 *
 * Every change leaves the cursor on the leaf it touched, and every operation tries the cursor before it descends: runs of
 * neighbouring mappings cost no descent. Readers only read the cursor, so they may run side by side under a shared lock.
 */
#include "iova/node_change.h"

#define LEAF_BLOCK (IOF_CACHELINE + 19 * sizeof(struct iofi_leaf))
#define INNER_BLOCK (IOF_CACHELINE + 8 * sizeof(struct iofi_inner))

static void plant(struct iof_index *ix, struct iofi_leaf *leaf)
{
	leaf->node = (struct iofi_node){ NULL, 0 };
	leaf->prev = leaf->next = NULL;
	leaf->ghosts = 0;
	leaf->hole = leaf->low = 0;
	leaf->high = UINT64_MAX;
	iofi_leaf_pad(leaf);
	ix->root = &leaf->node;
	ix->cursor = ix->end = leaf;
	ix->run = IOFI_NOWHERE;
}

int iof_index_create(struct iof_alloc *a, struct iof_index **out)
{
	struct iof_index *ix = iof_mem_zget(a, sizeof(*ix), IOF_CACHELINE);
	struct iofi_leaf *leaf;

	if (!ix)
		return -ENOMEM;
	ix->alloc = a;
	iof_slab_init_growing(&ix->leaves, a, sizeof(struct iofi_leaf), LEAF_BLOCK);
	iof_slab_init_growing(&ix->inners, a, sizeof(struct iofi_inner), INNER_BLOCK);
	leaf = iof_slab_get(&ix->leaves);
	if (!leaf) {
		iof_index_destroy(ix);
		return -ENOMEM;
	}
	plant(ix, leaf);
	*out = ix;
	return 0;
}

void iof_index_destroy(struct iof_index *ix)
{
	if (!ix)
		return;
	iof_slab_fini(&ix->leaves);
	iof_slab_fini(&ix->inners);
	iof_mem_put(ix->alloc, ix, sizeof(*ix));
}

int iof_index_insert(struct iof_index *ix, struct iof_range r, uint64_t value)
{
	unsigned pos;
	struct iofi_leaf *leaf = iofi_place_of(ix, r.start, &pos);
	uint64_t hole;
	int rc;

	if (iof_unlikely(r.start > r.last))
		return -EINVAL;
	if (iofi_meets(leaf, pos, r))
		return -EEXIST;
	if (iof_unlikely(leaf->node.count == IOFI_FAN && !iofi_is_ghost(leaf, pos - (pos > 0)))) {
		rc = iofi_split(ix, &leaf, &pos, r.start);
		if (rc)
			return rc;
	}
	hole = iofi_hole_start(leaf, pos);
	pos = iofi_leaf_put(leaf, pos, r, value);
	ix->count++;
	iofi_came(ix, leaf, pos, r, hole);
	return 0;
}

struct iofi_leaf *iofi_entry_at(const struct iof_index *ix, uint64_t start, unsigned *pos)
{
	struct iofi_leaf *leaf = iofi_leaf_of(ix, start);

	*pos = ix->guess;
	if (leaf != ix->cursor || *pos >= leaf->node.count || leaf->start[*pos] != start)
		*pos = iofi_leaf_rank(leaf, start);
	return *pos < leaf->node.count && leaf->start[*pos] == start && !iofi_is_ghost(leaf, *pos) ? leaf : NULL;
}

bool iof_index_remove(struct iof_index *ix, uint64_t start)
{
	unsigned pos;
	struct iofi_leaf *leaf = iofi_entry_at(ix, start, &pos);
	uint64_t hole;

	if (!leaf)
		return false;
	hole = iofi_hole_start(leaf, pos);
	pos = iofi_leaf_take(leaf, pos);
	ix->count--;
	iofi_gone(ix, leaf, pos, hole);
	return true;
}

bool iof_index_set(struct iof_index *ix, uint64_t start, uint64_t value)
{
	unsigned pos;
	struct iofi_leaf *leaf = iofi_entry_at(ix, start, &pos);

	if (leaf)
		leaf->tail[pos].value = value;
	return leaf != NULL;
}

/* Moves the end of an entry to `last`, which the caller knows to be free or given up. */
static void stretch(struct iofi_leaf *leaf, unsigned pos, uint64_t last)
{
	leaf->tail[pos].last = last;
	if (pos + 1 == leaf->node.count && leaf->next)
		leaf->next->hole = last + 1;
}

int iof_index_split(struct iof_index *ix, uint64_t start, uint64_t left_last, uint64_t value)
{
	unsigned pos;
	struct iofi_leaf *leaf = iofi_entry_at(ix, start, &pos);
	uint64_t last;
	int rc;

	if (!leaf)
		return -ENOENT;
	last = leaf->tail[pos].last;
	if (left_last < start || left_last >= last)
		return -EINVAL;
	stretch(leaf, pos, left_last);
	rc = iof_index_insert(ix, (struct iof_range){ left_last + 1, last }, value);
	if (rc)
		stretch(leaf, pos, last);
	return rc;
}

bool iof_index_join(struct iof_index *ix, uint64_t start)
{
	unsigned pos, left_pos;
	struct iofi_leaf *leaf = iofi_entry_at(ix, start, &pos), *left;
	uint64_t last;

	if (!leaf || !start || (!pos && !leaf->prev) || iofi_hole_start(leaf, pos) != start)
		return false;
	last = leaf->tail[pos].last;
	iof_index_remove(ix, start);
	iofi_late_flush(ix);
	left = iofi_leaf_of(ix, start);
	iofi_leaf_clear(left);
	if (iofi_leaf_pos(left, start) == 0)
		left = left->prev;
	left_pos = iofi_leaf_rank(left, start);
	stretch(left, left_pos, last);
	return true;
}

static void copy_out(const struct iofi_leaf *leaf, unsigned i, struct iof_index_entry *out)
{
	*out = (struct iof_index_entry){ { leaf->start[i], leaf->tail[i].last }, leaf->tail[i].value };
}

bool iof_index_find(const struct iof_index *ix, uint64_t at, struct iof_index_entry *out)
{
	const struct iofi_leaf *leaf = iofi_leaf_of(ix, at);
	unsigned i = ix->guess;

	__builtin_prefetch(&leaf->start[0]);
	if (leaf != ix->cursor || i >= leaf->node.count || leaf->start[i] != at)
		i = iofi_leaf_rank(leaf, at);
	if (leaf->start[i] <= at && (at != UINT64_MAX || leaf->node.count) && at <= leaf->tail[i].last) {
		copy_out(leaf, i, out);
		return true;
	}
	/* An entry may reach into the next leaf's share of the space. */
	if (leaf->start[i] <= at || !leaf->prev || leaf->hole - 1 < at)
		return false;
	copy_out(leaf->prev, leaf->prev->node.count - 1, out);
	return true;
}

bool iof_index_first(const struct iof_index *ix, struct iof_range r, struct iof_index_entry *out)
{
	const struct iofi_leaf *leaf;
	unsigned pos;

	if (iof_index_find(ix, r.start, out))
		return true;
	leaf = iofi_leaf_of(ix, r.start);
	pos = iofi_leaf_pos(leaf, r.start);
	if (pos == leaf->node.count) {
		leaf = leaf->next;
		pos = 0;
	} else if (iofi_is_ghost(leaf, pos)) {
		pos++; /* which is none, nor the end */
	}
	if (!leaf || leaf->start[pos] > r.last)
		return false;
	copy_out(leaf, pos, out);
	return true;
}

uint64_t iof_index_count(const struct iof_index *ix)
{
	return ix->count;
}

void iof_index_stats(const struct iof_index *ix, struct iof_index_stats *out)
{
	*out = (struct iof_index_stats){
		.entries = ix->count,
		.leaves = ix->leaves.live,
		.inner_nodes = ix->inners.live,
		.bytes = sizeof(*ix) + ix->leaves.live * sizeof(struct iofi_leaf) +
			 ix->inners.live * sizeof(struct iofi_inner),
		.visited = ix->visited,
		.height = ix->height + 1,
	};
}
