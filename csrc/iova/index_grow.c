/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Splitting full nodes. All nodes that a split can need are taken before anything changes, so that running out of memory leaves
 * the tree as it was.
 *
 * Where a node splits decides how full the tree stays. In the middle is right for insertions all over the place; but
 * mappings mostly come in runs, and behind a run nothing will be inserted any more. So a leaf in the midst of a run is
 * split at the insertion point, which leaves everything before it (or after it, for a descending run) in one full leaf.
 */
#include "iova/node.h"

struct spare {
	struct iofi_leaf *leaf;
	struct iofi_inner *inner[IOFI_MAX_HEIGHT + 1];
	unsigned n; /* inner nodes taken and not yet used */
};

static void spare_put(struct iof_index *ix, struct spare *sp)
{
	while (sp->n)
		iof_slab_put(&ix->inners, sp->inner[--sp->n]);
	if (sp->leaf)
		iof_slab_put(&ix->leaves, sp->leaf);
}

/* The slow way is never told to fail. */
static void *node_get(const struct iof_index *ix, struct iof_slab *s)
{
	return iof_likely(!ix->sure) ? iof_slab_get(s) : iof_slab_get_slow(s);
}

/* One leaf, an inner node for each full ancestor, and a root when there is no ancestor with room. */
static int spare_get(struct iof_index *ix, const struct iofi_leaf *leaf, struct spare *sp)
{
	const struct iofi_inner *in = leaf->node.parent;
	unsigned want = 0;

	for (; in && in->node.count == IOFI_FAN; in = in->node.parent)
		want++;
	want += !in;
	sp->n = 0;
	sp->leaf = node_get(ix, &ix->leaves);
	while (sp->leaf && sp->n < want && (sp->inner[sp->n] = node_get(ix, &ix->inners)))
		sp->n++;
	if (sp->leaf && sp->n == want)
		return 0;
	spare_put(ix, sp);
	return -ENOMEM;
}

static struct iofi_inner *spare_inner(struct spare *sp)
{
	struct iofi_inner *in = sp->inner[--sp->n];

	in->node = (struct iofi_node){ NULL, 0 };
	memset(in->key, 0xff, sizeof(in->key));
	memset(in->bound, 0, sizeof(in->bound));
	return in;
}

/* Opens slot i of a node with room for a child that begins at `key`. Its bounds are the caller's to set. */
static void child_put(struct iofi_inner *in, unsigned i, struct iofi_node *child, uint64_t key)
{
	unsigned n = in->node.count++ - i;

	if (n) {
		memmove(&in->key[i + 1], &in->key[i], n * sizeof(in->key[0]));
		memmove(&in->child[i + 1], &in->child[i], n * sizeof(in->child[0]));
		for (unsigned c = 0; c < IOFI_CLASSES; c++)
			memmove(&in->bound[c][i + 1], &in->bound[c][i], n * sizeof(in->bound[c][0]));
	}
	in->key[i] = key;
	in->child[i] = child;
	child->parent = in;
}

/* Moves the children from `at` on into the empty node `to`. */
static void inner_halve(struct iofi_inner *in, unsigned at, struct iofi_inner *to)
{
	unsigned n = in->node.count - at;

	memcpy(to->key, &in->key[at], n * sizeof(to->key[0]));
	memcpy(to->child, &in->child[at], n * sizeof(to->child[0]));
	memset(&in->key[at], 0xff, n * sizeof(in->key[0]));
	for (unsigned c = 0; c < IOFI_CLASSES; c++) {
		memcpy(to->bound[c], &in->bound[c][at], n * sizeof(to->bound[c][0]));
		memset(&in->bound[c][at], 0, n * sizeof(in->bound[c][0]));
	}
	for (unsigned i = 0; i < n; i++)
		to->child[i]->parent = to;
	to->node.count = n;
	in->node.count = at;
}

static unsigned slot_of(const struct iofi_inner *in, const struct iofi_node *child)
{
	unsigned i = 0;

	while (in->child[i] != child)
		i++;
	return i;
}

static struct iofi_inner *root_over(struct iof_index *ix, struct spare *sp)
{
	struct iofi_inner *in = spare_inner(sp);

	child_put(in, 0, ix->root, 0);
	ix->root = &in->node;
	ix->height++;
	return in;
}

/*
 * Puts `right`, which begins at `key`, behind `left` in in; in may be full. Returns the node that in had to be split into, or NULL;
 * *key is then where that one begins.
 */
static struct iofi_inner *add_right(struct iof_index *ix, struct iofi_inner *in, struct spare *sp, struct iofi_node *left,
				    struct iofi_node *right, bool leaf, uint64_t *key)
{
	unsigned i = slot_of(in, left) + 1, at;
	struct iofi_inner *more = NULL, *to = in;
	uint64_t own = *key;
	bool known = in->node.count > 1 && !right->count; /* left is what it was, and so are its bounds */

	if (in->node.count == IOFI_FAN) {
		more = spare_inner(sp);
		at = i + 1 >= IOFI_FAN ? i : IOFI_FAN / 2;
		*key = at < IOFI_FAN ? in->key[at] : own;
		inner_halve(in, at, more);
		if (i > at || at == IOFI_FAN) {
			to = more;
			i -= at;
		}
	}
	child_put(to, i, right, own);
	iofi_bound_set(ix, to, i, leaf);
	in = left->parent;
	if (!known)
		iofi_bound_set(ix, in, slot_of(in, left), leaf);
	return more;
}

/* Hangs a new right neighbour of `left` into the tree, splitting upwards as far as needed. */
static void graft(struct iof_index *ix, struct spare *sp, struct iofi_node *left, struct iofi_node *right, uint64_t key)
{
	struct iofi_inner *in, *more;
	bool leaf = true;

	while (right) {
		in = left->parent ? left->parent : root_over(ix, sp);
		more = add_right(ix, in, sp, left, right, leaf, &key);
		left = &in->node;
		right = more ? &more->node : NULL;
		leaf = false;
	}
}

/* Moves the entries from `at` on into the new leaf `right` and gives it its share of the space. */
static void leaf_halve(struct iof_index *ix, struct iofi_leaf *leaf, unsigned at, struct iofi_leaf *right, uint64_t x)
{
	unsigned n = IOFI_FAN - at;

	right->node = (struct iofi_node){ NULL, n };
	right->ghosts = 0;
	iofi_leaf_move(right, 0, leaf, at, n);
	right->hole = iofi_hole_start(leaf, at);
	leaf->node.count = at;
	iofi_leaf_pad(leaf);
	iofi_leaf_pad(right);
	right->low = n ? right->start[0] : x;
	right->high = leaf->high;
	leaf->high = right->low - 1;
	right->prev = leaf;
	right->next = leaf->next;
	leaf->next = right;
	if (right->next)
		right->next->prev = right;
	else
		ix->end = right;
}

int iofi_split(struct iof_index *ix, struct iofi_leaf **leaf, unsigned *pos, uint64_t x)
{
	bool run = ix->cursor == *leaf && *pos - ix->run <= 1;
	unsigned at = run ? *pos : IOFI_FAN / 2;
	struct iofi_leaf *left = *leaf;
	struct spare sp;
	int rc;

	if (left->ghosts) { /* that is room */
		iofi_leaf_clear(left);
		*pos = iofi_leaf_pos(left, x);
		return 0;
	}
	rc = spare_get(ix, left, &sp);
	if (rc)
		return rc;
	leaf_halve(ix, left, at, sp.leaf, x);
	if (ix->late.owner == left && ix->late.start >= sp.leaf->hole)
		ix->late.owner = sp.leaf;
	graft(ix, &sp, &left->node, &sp.leaf->node, sp.leaf->low);
	if (*pos > at || at == IOFI_FAN) {
		*leaf = sp.leaf;
		*pos -= at;
	}
	return 0;
}
