/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting smaller. An empty leaf leaves the tree at once; a leaf or inner node that has become small joins a neighbour under the
 * same parent if the two leave room to grow again. Nothing is ever moved to even out fills, so a removal costs at most
 * one merge a level. None of this needs memory.
 */
#include "iova/node.h"

static void child_take(struct iofi_inner *in, unsigned i)
{
	unsigned n = --in->node.count - i;

	memmove(&in->key[i], &in->key[i + 1], n * sizeof(in->key[0]));
	memmove(&in->child[i], &in->child[i + 1], n * sizeof(in->child[0]));
	in->key[in->node.count] = UINT64_MAX;
	for (unsigned c = 0; c < IOFI_CLASSES; c++) {
		memmove(&in->bound[c][i], &in->bound[c][i + 1], n * sizeof(in->bound[c][0]));
		in->bound[c][in->node.count] = 0;
	}
}

static unsigned slot_of(const struct iofi_node *child)
{
	unsigned i = 0;

	while (child->parent->child[i] != child)
		i++;
	return i;
}

/* The members of slot i + 1 have gone to slot i: so do its bounds, and the slot itself goes. */
static void slot_absorb(struct iofi_inner *in, unsigned i)
{
	for (unsigned c = 0; c < IOFI_CLASSES; c++)
		if (in->bound[c][i] < in->bound[c][i + 1])
			in->bound[c][i] = in->bound[c][i + 1];
	child_take(in, i + 1);
}

static void leaf_unlink(struct iof_index *ix, struct iofi_leaf *leaf)
{
	if (leaf->prev)
		leaf->prev->next = leaf->next;
	if (leaf->next)
		leaf->next->prev = leaf->prev;
	else
		ix->end = leaf->prev;
	ix->cursor = leaf->prev ? leaf->prev : leaf->next;
	iof_slab_put(&ix->leaves, leaf);
}

static void merge_leaves(struct iof_index *ix, struct iofi_leaf *left, struct iofi_leaf *right)
{
	iofi_leaf_clear(left);
	iofi_leaf_clear(right);
	iofi_leaf_move(left, left->node.count, right, 0, right->node.count);
	left->node.count += right->node.count;
	left->high = right->high;
	if (ix->late.owner == right)
		ix->late.owner = left;
	leaf_unlink(ix, right);
}

static void merge_inners(struct iof_index *ix, struct iofi_inner *left, struct iofi_inner *right, uint64_t key)
{
	unsigned at = left->node.count, n = right->node.count;

	right->key[0] = key;
	memcpy(&left->key[at], right->key, n * sizeof(left->key[0]));
	memcpy(&left->child[at], right->child, n * sizeof(left->child[0]));
	for (unsigned c = 0; c < IOFI_CLASSES; c++)
		memcpy(&left->bound[c][at], right->bound[c], n * sizeof(left->bound[c][0]));
	for (unsigned i = 0; i < n; i++)
		right->child[i]->parent = left;
	left->node.count += n;
	iof_slab_put(&ix->inners, right);
}

static bool fit_together(const struct iofi_leaf *left, const struct iofi_leaf *right)
{
	return left && right && left->node.parent == right->node.parent &&
	       iofi_leaf_live(left) + iofi_leaf_live(right) <= IOFI_MERGED;
}

/* Joins slots i and i + 1 if that leaves room. */
static bool try_merge(struct iof_index *ix, struct iofi_inner *in, unsigned i, bool leaf)
{
	struct iofi_node *left, *right;

	if (i + 1 >= in->node.count)
		return false;
	left = in->child[i];
	right = in->child[i + 1];
	if (leaf ? !fit_together(iofi_as_leaf(left), iofi_as_leaf(right)) : left->count + right->count > IOFI_MERGED)
		return false;
	if (leaf)
		merge_leaves(ix, iofi_as_leaf(left), iofi_as_leaf(right));
	else
		merge_inners(ix, iofi_as_inner(left), iofi_as_inner(right), in->key[i + 1]);
	slot_absorb(in, i);
	return true;
}

static void lower_root(struct iof_index *ix)
{
	while (ix->height && ix->root->count == 1) {
		struct iofi_inner *old = iofi_as_inner(ix->root);

		ix->root = old->child[0];
		ix->root->parent = NULL;
		ix->height--;
		iof_slab_put(&ix->inners, old);
	}
}

/* A child of `in` has gone: the inner nodes from here up may be small now. */
static void shrink_up(struct iof_index *ix, struct iofi_inner *in)
{
	struct iofi_inner *up;
	unsigned i;

	for (; (up = in->node.parent) && in->node.count < IOFI_LOW; in = up) {
		i = slot_of(&in->node);
		if (!try_merge(ix, up, i, false) && !(i && try_merge(ix, up, i - 1, false)))
			break;
	}
	lower_root(ix);
}

/* Takes an empty leaf out, which owns no hole. Its share of the space goes to the leaf before it, or after it, under the first common ancestor. */
static void drop(struct iof_index *ix, struct iofi_leaf *leaf)
{
	struct iofi_inner *in = leaf->node.parent, *up;
	unsigned i = slot_of(&leaf->node);

	for (; in->node.count == 1; in = up) {
		up = in->node.parent;
		i = slot_of(&in->node);
		iof_slab_put(&ix->inners, in);
	}
	if (i)
		leaf->prev->high = leaf->high;
	else
		leaf->next->low = leaf->low;
	child_take(in, i);
	leaf_unlink(ix, leaf);
	shrink_up(ix, in);
}

void iofi_shrink(struct iof_index *ix, struct iofi_leaf *leaf)
{
	struct iofi_inner *in = leaf->node.parent;
	unsigned i;

	if (!in || (leaf->node.count && !fit_together(leaf, leaf->next) && !fit_together(leaf->prev, leaf)))
		return;
	if (!leaf->node.count) {
		drop(ix, leaf);
		return;
	}
	i = iofi_slot(in, leaf->low);
	if (try_merge(ix, in, i, true) || (i && try_merge(ix, in, i - 1, true)))
		shrink_up(ix, in);
}
