/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding many at once. One lookup is a chain of cache misses; a dozen lookups in step, each asking for its next lines before
 * the others take their turn, cost little more than one.
 */
#include "iova/node.h"

#define LANES 16u

static void fetch(const uint64_t *keys)
{
	for (unsigned i = 0; i < IOFI_FAN; i += 8)
		__builtin_prefetch(&keys[i]);
}

/* One level down for every lane. */
static void descend(const struct iofi_node **n, const uint64_t *at, unsigned lanes, bool to_leaf)
{
	for (unsigned k = 0; k < lanes; k++) {
		const struct iofi_inner *in = iofi_as_inner(n[k]);

		n[k] = in->child[iofi_slot(in, at[k])];
		fetch(to_leaf ? iofi_as_leaf(n[k])->start : iofi_as_inner(n[k])->key);
	}
}

struct lane {
	const struct iofi_leaf *leaf;
	unsigned pos;
};

/* The entry that covers x, given the last that starts at or below it; leaf is NULL when there is none. */
static struct lane covering(struct lane l, uint64_t x)
{
	const struct lane none = { NULL, 0 };

	if (iof_likely(l.leaf->start[l.pos] <= x))
		return x <= l.leaf->tail[l.pos].last ? l : none;
	/* The entry before the leaf's first may reach this far. */
	if (!l.leaf->prev || l.leaf->hole - 1 < x)
		return none;
	return (struct lane){ l.leaf->prev, l.leaf->prev->node.count - 1 };
}

static void find_lanes(const struct iof_index *ix, const uint64_t *at, unsigned lanes, struct lane *out)
{
	const struct iofi_node *n[LANES];

	for (unsigned k = 0; k < lanes; k++)
		n[k] = ix->root;
	for (unsigned h = ix->height; h; h--)
		descend(n, at, lanes, h == 1);
	for (unsigned k = 0; k < lanes; k++) {
		out[k] = (struct lane){ iofi_as_leaf(n[k]), iofi_leaf_rank(iofi_as_leaf(n[k]), at[k]) };
		__builtin_prefetch(&out[k].leaf->tail[out[k].pos]);
	}
	for (unsigned k = 0; k < lanes; k++)
		out[k] = ix->count ? covering(out[k], at[k]) : (struct lane){ NULL, 0 };
}

void iof_index_find_many(const struct iof_index *ix, const uint64_t *at, size_t n, uint64_t missing, uint64_t *values)
{
	struct lane l[LANES];
	unsigned lanes;

	for (; n; n -= lanes, at += lanes, values += lanes) {
		lanes = n < LANES ? (unsigned)n : LANES;
		find_lanes(ix, at, lanes, l);
		for (unsigned k = 0; k < lanes; k++)
			values[k] = l[k].leaf ? l[k].leaf->tail[l[k].pos].value : missing;
	}
}

void iof_index_find_entries(const struct iof_index *ix, const uint64_t *at, size_t n, struct iof_index_entry *entries)
{
	struct lane l[LANES];
	unsigned lanes;

	for (; n; n -= lanes, at += lanes, entries += lanes) {
		lanes = n < LANES ? (unsigned)n : LANES;
		find_lanes(ix, at, lanes, l);
		for (unsigned k = 0; k < lanes; k++)
			entries[k] = l[k].leaf ? (struct iof_index_entry){ { l[k].leaf->start[l[k].pos],
									     l[k].leaf->tail[l[k].pos].last },
									   l[k].leaf->tail[l[k].pos].value } :
						 (struct iof_index_entry){ { 1, 0 }, 0 };
	}
}
