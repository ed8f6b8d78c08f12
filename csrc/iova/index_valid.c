/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Re-derives everything that node.h claims about the tree. A walk in order carries what has been seen so far; each leaf and each
 * parent's slot is compared with it.
 */
#include "iova/node.h"

struct walk {
	const struct iof_index *ix;
	const struct iofi_leaf *before; /* the last leaf walked */
	uint64_t low; /* where the next leaf's share has to begin */
	uint64_t hole; /* one past the last entry's last byte */
	uint64_t entries, leaves, inners;
	bool full; /* an entry has ended at 2^64-1: nothing can follow */
};

static bool leaf_entries_valid(struct walk *w, const struct iofi_leaf *leaf)
{
	for (unsigned i = 0; i < leaf->node.count; i++) {
		if (w->full || leaf->start[i] < w->hole || leaf->tail[i].last < leaf->start[i])
			return false;
		if (w->hole < w->ix->floor.from && leaf->start[i] != w->hole &&
		    iofi_floor_takes(w->ix, w->hole, leaf->start[i] - 1))
			return false;
		w->hole = leaf->tail[i].last + 1;
		w->full = !w->hole;
	}
	for (unsigned i = leaf->node.count; i < IOFI_FAN; i++)
		if (leaf->start[i] != UINT64_MAX)
			return false;
	w->entries += leaf->node.count;
	return true;
}

static bool leaf_valid(struct walk *w, const struct iofi_leaf *leaf)
{
	unsigned n = leaf->node.count;

	if (n > IOFI_FAN || (!n && leaf->node.parent) || leaf->prev != w->before)
		return false;
	if (w->before && w->before->next != leaf)
		return false;
	if (leaf->low != w->low || leaf->high < leaf->low || leaf->hole != w->hole)
		return false;
	if (n && (leaf->start[0] < leaf->low || leaf->start[n - 1] > leaf->high))
		return false;
	w->before = leaf;
	w->low = leaf->high + 1;
	w->leaves++;
	return leaf_entries_valid(w, leaf);
}

/* Are the bounds that the parent stores for child i no smaller than what is below? */
static bool bounds_valid(const struct iofi_inner *in, unsigned i, bool leaf)
{
	int64_t below;

	for (unsigned c = 0; c < IOFI_CLASSES; c++) {
		below = leaf ? iofi_leaf_capacity(iofi_as_leaf(in->child[i]), c) :
			       iofi_inner_bound(iofi_as_inner(in->child[i]), c);
		if (in->bound[c][i] < below)
			return false;
	}
	return true;
}

static bool padding_valid(const struct iofi_inner *in)
{
	for (unsigned i = in->node.count; i < IOFI_FAN; i++) {
		if (in->key[i] != UINT64_MAX)
			return false;
		for (unsigned c = 0; c < IOFI_CLASSES; c++)
			if (in->bound[c][i])
				return false;
	}
	return true;
}

static bool inner_valid(struct walk *w, const struct iofi_inner *in, unsigned height)
{
	bool ok;

	if (!in->node.count || in->node.count > IOFI_FAN || (!in->node.parent && in->node.count < 2))
		return false;
	w->inners++;
	for (unsigned i = 0; i < in->node.count; i++) {
		if (in->child[i]->parent != in || (i && in->key[i] != w->low))
			return false;
		ok = height == 1 ? leaf_valid(w, iofi_as_leaf(in->child[i])) :
				   inner_valid(w, iofi_as_inner(in->child[i]), height - 1);
		if (!ok || !bounds_valid(in, i, height == 1))
			return false;
	}
	return padding_valid(in);
}

bool iof_index_is_valid(const struct iof_index *ix)
{
	struct walk w = { .ix = ix };
	bool ok;

	if (ix->root->parent || ix->height > IOFI_MAX_HEIGHT)
		return false;
	ok = ix->height ? inner_valid(&w, iofi_as_inner(ix->root), ix->height) : leaf_valid(&w, iofi_as_leaf(ix->root));
	if (!ok || w.before != ix->end || ix->end->next || ix->end->high != UINT64_MAX)
		return false;
	for (w.before = ix->end; w.before && w.before != ix->cursor;)
		w.before = w.before->prev;
	return w.before && w.entries == ix->count && w.leaves == ix->leaves.live && w.inners == ix->inners.live;
}
