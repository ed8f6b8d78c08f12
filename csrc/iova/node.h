/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of the range index: private to csrc/iova/index*.c.
 *
 * A leaf holds up to IOFI_FAN entries: the starts packed in four cache lines, so that a search touches nothing else, and
 * beside them one {last, value} pair per entry. An inner node holds, for each child, the key it begins at, the pointer and one
 * bound per alignment class; bounds of one class lie side by side because a search for a hole reads one class only.
 *
 * Invariants
 *  - Unused starts and keys are UINT64_MAX, unused bounds are 0: searches look at whole arrays, not at counts.
 *  - Leaves partition the 64-bit space: leaf->low .. leaf->high are the starts that belong into it, used or not.
 *  - inner->key[i], i >= 1, is the `low` of the leftmost leaf below child i. key[0] is never looked at.
 *  - An entry that was removed from between two others stays as a *ghost* of no length, last = start - 1, right behind the entry before
 *    it: nothing has to move, nor when the place is used again. Two ghosts never adjoin, a leaf's first and last entry are none.
 *  - Only a root leaf may be empty; a root inner node has at least two children.
 *  - leaf->hole is one past the last byte of the entry before the leaf's first (0 when there is none).
 *  - bound[c][i] is at least the largest capacity, for class c, of any hole below child i but the late one, and at least every bound
 *    stored below child i. The second half lets a raise stop at the first node where nothing grows.
 *
 * The capacity of a hole for a class is last - round_up(start, align): a span, that is the length minus one. 0 stands for "no use":
 * a one-byte hole never takes anything, by the placement rule. Bounds stop at INT64_MAX, "at least so much", so that two of them
 * can be compared by subtraction, which every vector unit has.
 */
#ifndef IOF_IOVA_NODE_H
#define IOF_IOVA_NODE_H

#include <string.h>

#include "iova/index.h"
#include "util/slab.h"

#define IOFI_FAN 32u
#define IOFI_CLASSES 12u
#define IOFI_CLASS_SHIFT 10u /* class c > 0 stands for alignment 2^(c + 10) */
#define IOFI_MAX_HEIGHT 16u /* inner levels; 2^64 entries do not need more */
#define IOFI_LOW 12u /* a node with fewer members looks for a neighbour to merge with … */
#define IOFI_MERGED 24u /* … when both together hold no more than this */

struct iofi_inner;

struct iofi_node {
	struct iofi_inner *parent;
	uint32_t count;
};

struct iofi_tail {
	uint64_t last;
	uint64_t value;
};

struct iofi_leaf {
	_Alignas(IOF_CACHELINE) struct iofi_node node; /* its count includes ghosts */
	uint64_t ghosts;
	struct iofi_leaf *prev, *next;
	uint64_t hole;
	uint64_t low, high;
	_Alignas(IOF_CACHELINE) uint64_t start[IOFI_FAN];
	struct iofi_tail tail[IOFI_FAN];
};

struct iofi_inner {
	_Alignas(IOF_CACHELINE) struct iofi_node node;
	_Alignas(IOF_CACHELINE) uint64_t key[IOFI_FAN];
	struct iofi_node *child[IOFI_FAN];
	int64_t bound[IOFI_CLASSES][IOFI_FAN];
};

_Static_assert(sizeof(struct iofi_leaf) == 13 * IOF_CACHELINE, "a leaf is thirteen lines");
_Static_assert(sizeof(struct iofi_inner) == 57 * IOF_CACHELINE, "an inner node is fifty-seven lines");

struct iof_index {
	struct iof_alloc *alloc;
	struct iofi_node *root;
	uint64_t count;
	uint64_t visited; /* nodes that searches for holes have looked into */
	uint32_t height; /* inner levels above the leaves */
	bool sure; /* iof_index_sure() */
	struct iofi_leaf *end; /* the rightmost leaf */
	struct iofi_leaf *cursor; /* the leaf of the last change or of the last hole found; never NULL */
	uint32_t guess; /* where in `cursor` the next insertion may well go */
	uint32_t run; /* where the last insertion went in `cursor`; IOFI_NOWHERE after a removal */
	struct {
		uint64_t from; /* no hole that starts below it takes … */
		uint64_t window; /* … a search in a window that begins here or later, … */
		uint64_t align, need; /* … with this alignment, for this span or more */
		uint64_t start; /* where the last such search found a place, in the hole that starts at `from` */
	} floor; /* index_hole.c */
	struct {
		struct iofi_leaf *owner; /* of the entry behind it; NULL: there is none */
		uint64_t start, last;
	} late; /* index_hole.c: the hole that the last removal made, while bounds need not know of it */
	struct iof_slab leaves;
	struct iof_slab inners;
};

#define IOFI_NOWHERE (UINT32_MAX - 1)
#define IOFI_NO_HOLE UINT64_MAX

/*
 * The last i with k[i] <= x, or 0. Three rounds of independent compares instead of five dependent ones. k[0] is not read.
 * For x = UINT64_MAX the padding counts too: callers that allow it go through iofi_slot() or iofi_leaf_rank().
 */
static inline unsigned iofi_rank(const uint64_t *k, uint64_t x)
{
	unsigned i = 8u * ((unsigned)(k[8] <= x) + (unsigned)(k[16] <= x) + (unsigned)(k[24] <= x));

	i += 2u * ((unsigned)(k[i + 2] <= x) + (unsigned)(k[i + 4] <= x) + (unsigned)(k[i + 6] <= x));
	return i + (k[i + 1] <= x);
}

static inline unsigned iofi_slot(const struct iofi_inner *in, uint64_t x)
{
	if (iof_unlikely(x == UINT64_MAX))
		return in->node.count - 1;
	return iofi_rank(in->key, x);
}

/* The last entry of the leaf that starts at or below x, or 0. */
static inline unsigned iofi_leaf_rank(const struct iofi_leaf *leaf, uint64_t x)
{
	if (iof_unlikely(x == UINT64_MAX))
		return leaf->node.count ? leaf->node.count - 1 : 0;
	return iofi_rank(leaf->start, x);
}

/* How many entries of the leaf start at or below x: where x goes. */
static inline unsigned iofi_leaf_pos(const struct iofi_leaf *leaf, uint64_t x)
{
	unsigned i = iofi_leaf_rank(leaf, x);

	return leaf->node.count ? i + (leaf->start[i] <= x) : 0;
}

/* Is i that number? */
static inline bool iofi_leaf_pos_is(const struct iofi_leaf *leaf, uint64_t x, unsigned i)
{
	return i <= leaf->node.count && (i == leaf->node.count || leaf->start[i] > x) &&
	       (!i || leaf->start[i - 1] <= x);
}

static inline struct iofi_leaf *iofi_as_leaf(const struct iofi_node *n)
{
	return (struct iofi_leaf *)iof_container_of(n, struct iofi_leaf, node);
}

static inline struct iofi_inner *iofi_as_inner(const struct iofi_node *n)
{
	return (struct iofi_inner *)iof_container_of(n, struct iofi_inner, node);
}

/* The leaf that x belongs into. */
static inline struct iofi_leaf *iofi_leaf_of(const struct iof_index *ix, uint64_t x)
{
	const struct iofi_node *n = ix->root;

	if (ix->cursor->low <= x && x <= ix->cursor->high)
		return ix->cursor;
	for (unsigned h = ix->height; h; h--)
		n = iofi_as_inner(n)->child[iofi_slot(iofi_as_inner(n), x)];
	return iofi_as_leaf(n);
}

/* Asks for a whole leaf: a change shifts entries and looks for holes, and would otherwise wait for one line after the other. */
static inline void iofi_leaf_prefetch(const struct iofi_leaf *leaf)
{
	for (unsigned i = 0; i < sizeof(*leaf); i += IOF_CACHELINE)
		__builtin_prefetch((const char *)leaf + i);
}

/* No entry ends before it starts, and none of the others can begin at 0: something is before a ghost. */
static inline bool iofi_is_ghost(const struct iofi_leaf *leaf, unsigned i)
{
	return leaf->tail[i].last < leaf->start[i];
}

/* How many entries it has. */
static inline unsigned iofi_leaf_live(const struct iofi_leaf *leaf)
{
	return leaf->node.count - (unsigned)leaf->ghosts;
}

/* Where the hole before entry i begins (it may be empty). i = count: the hole after the leaf's last entry. */
static inline uint64_t iofi_hole_start(const struct iofi_leaf *leaf, unsigned i)
{
	return i ? leaf->tail[i - 1].last + 1 : leaf->hole;
}

/* Moves n entries; from and to may be one leaf. */
static inline void iofi_leaf_move(struct iofi_leaf *to, unsigned at, const struct iofi_leaf *from, unsigned i, unsigned n)
{
	memmove(&to->start[at], &from->start[i], n * sizeof(to->start[0]));
	memmove(&to->tail[at], &from->tail[i], n * sizeof(to->tail[0]));
}

static inline void iofi_leaf_pad(struct iofi_leaf *leaf)
{
	for (unsigned i = leaf->node.count; i < IOFI_FAN; i++)
		leaf->start[i] = UINT64_MAX;
}

/* index.c */
/* The leaf and position of the entry that starts at `start`; NULL when there is none. */
struct iofi_leaf *iofi_entry_at(const struct iof_index *ix, uint64_t start, unsigned *pos);

/* index_leaf.c */
void iofi_leaf_clear(struct iofi_leaf *leaf); /* ghosts go, and entries move together */
/* The entry at i, which is none, goes. Returns the position of what comes next, count when nothing does. */
unsigned iofi_leaf_take(struct iofi_leaf *leaf, unsigned i);
/* An entry comes before position i, into a leaf with room or with a ghost there. Returns where it is. */
unsigned iofi_leaf_put(struct iofi_leaf *leaf, unsigned i, struct iof_range r, uint64_t value);
/* The same for n from i on, no ghost among them; and for n that come together: there is room, a ghost before i counted in. Returns where the last is. */
unsigned iofi_leaf_take_run(struct iofi_leaf *leaf, unsigned i, unsigned n);
unsigned iofi_leaf_put_run(struct iofi_leaf *leaf, unsigned i, const struct iof_index_entry *e, unsigned n);

/* index_hole.c */
/* The largest capacity of a leaf's holes, but for the one that starts at `but`; IOFI_NO_HOLE: of all. */
int64_t iofi_leaf_capacity(const struct iofi_leaf *leaf, unsigned class, uint64_t but);
int64_t iofi_inner_bound(const struct iofi_inner *in, unsigned class);
/* Would the search that the floor speaks of find a place in this hole? */
bool iofi_floor_takes(const struct iof_index *ix, uint64_t start, uint64_t last);
/* Sets the parent's bounds for child i to what the child holds; `leaf` says which kind of node the child is. */
void iofi_bound_set(const struct iof_index *ix, struct iofi_inner *parent, unsigned i, bool leaf);
/* A hole [start, last] is now owned by an entry of the leaf. */
void iofi_bound_raise(const struct iofi_leaf *leaf, uint64_t start, uint64_t last);
/* The same, told to the bounds when there is another. Whoever moves a late hole's owner says so. */
void iofi_late_note(struct iof_index *ix, struct iofi_leaf *leaf, uint64_t start, uint64_t last);
void iofi_late_flush(struct iof_index *ix);
/* r has been put into the late hole; what is before it there is the owner's if `left`, else somebody else has told of it. */
void iofi_late_take(struct iof_index *ix, struct iof_range r, bool left);

/* index_grow.c */
/* Makes room for x, whose position is *pos in *leaf; both may move. 0, -ENOMEM. */
int iofi_split(struct iof_index *ix, struct iofi_leaf **leaf, unsigned *pos, uint64_t x);

/* index_shrink.c */
/* The leaf has become small: drops it, merges it or leaves it. */
void iofi_shrink(struct iof_index *ix, struct iofi_leaf *leaf);

#endif
