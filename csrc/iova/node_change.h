/* SPDX-License-Identifier: Apache-2.0 */
/* What every insertion and removal asks of the index first, and tells it last, however many entries it is about: private to csrc/iova/index*.c. */
#ifndef IOF_IOVA_NODE_CHANGE_H
#define IOF_IOVA_NODE_CHANGE_H

#include "iova/node.h"

/* The leaf that x belongs into, and how many of its entries start at or below x. */
static inline struct iofi_leaf *iofi_place_of(const struct iof_index *ix, uint64_t x, unsigned *pos)
{
	struct iofi_leaf *leaf = iofi_leaf_of(ix, x);

	*pos = ix->guess;
	if (leaf != ix->cursor || !iofi_leaf_pos_is(leaf, x, *pos))
		*pos = iofi_leaf_pos(leaf, x);
	return leaf;
}

/* Does r, which goes to `pos`, meet the entry before or the entry after that place? */
static inline bool iofi_meets(const struct iofi_leaf *leaf, unsigned pos, struct iof_range r)
{
	bool any_before = pos || leaf->prev;

	if (any_before && iofi_hole_start(leaf, pos) - 1 >= r.start)
		return true;
	if (pos < leaf->node.count)
		return leaf->start[pos] <= r.last;
	return leaf->next && leaf->next->start[0] <= r.last;
}

/* Entries that cover r without a gap have come into the hole that began at `hole`; the last of them is at `pos`. */
static inline void iofi_came(struct iof_index *ix, struct iofi_leaf *leaf, unsigned pos, struct iof_range r, uint64_t hole)
{
	bool inside = pos + 1 < leaf->node.count;

	ix->cursor = leaf;
	ix->run = pos;
	ix->guess = pos + 1;
	/* Nothing of the search's alignment lies in what is left of the hole before its place. */
	if (r.start == ix->floor.start && hole == ix->floor.from)
		ix->floor.from = r.last + 1;
	if (ix->late.owner && ix->late.start == hole)
		iofi_late_take(ix, r, inside);
	if (inside)
		return;
	/* The hole in front of a leaf's new last entry was owned by the next leaf (or was the tail of the space). */
	if (leaf->next)
		leaf->next->hole = r.last + 1;
	if (hole != r.start)
		iofi_bound_raise(leaf, hole, r.start - 1);
}

/* Entries have gone from before `pos`; the hole there begins at `hole` now. */
static inline void iofi_gone(struct iof_index *ix, struct iofi_leaf *leaf, unsigned pos, uint64_t hole)
{
	struct iofi_leaf *owner = pos < leaf->node.count ? leaf : leaf->next;

	if (hole < ix->floor.from) {
		ix->floor.from = hole;
		ix->floor.start = IOFI_NO_HOLE; /* a place in another hole */
	}
	ix->cursor = leaf;
	ix->run = IOFI_NOWHERE;
	ix->guess = pos;
	if (owner) {
		if (owner != leaf)
			owner->hole = hole;
		iofi_late_note(ix, owner, hole, owner->start[owner == leaf ? pos : 0] - 1);
	} else if (ix->late.start >= hole) {
		ix->late.owner = NULL; /* part of the hole behind the last entry now, which has no bound */
	}
	if (iofi_leaf_live(leaf) < IOFI_LOW)
		iofi_shrink(ix, leaf);
}

#endif
