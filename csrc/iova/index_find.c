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

/* The value at the entry before the leaf's first, when that one reaches as far as x. */
static uint64_t from_before(const struct iofi_leaf *leaf, uint64_t x, uint64_t missing)
{
	if (!leaf->prev || leaf->hole - 1 < x)
		return missing;
	return leaf->prev->tail[leaf->prev->node.count - 1].value;
}

static void find_lanes(const struct iof_index *ix, const uint64_t *at, unsigned lanes, uint64_t missing, uint64_t *values)
{
	const struct iofi_node *n[LANES];
	unsigned pos[LANES];

	for (unsigned k = 0; k < lanes; k++)
		n[k] = ix->root;
	for (unsigned h = ix->height; h; h--)
		descend(n, at, lanes, h == 1);
	for (unsigned k = 0; k < lanes; k++) {
		pos[k] = iofi_leaf_rank(iofi_as_leaf(n[k]), at[k]);
		__builtin_prefetch(&iofi_as_leaf(n[k])->tail[pos[k]]);
	}
	for (unsigned k = 0; k < lanes; k++) {
		const struct iofi_leaf *leaf = iofi_as_leaf(n[k]);
		const struct iofi_tail *t = &leaf->tail[pos[k]];

		if (leaf->start[pos[k]] > at[k])
			values[k] = from_before(leaf, at[k], missing);
		else
			values[k] = at[k] <= t->last ? t->value : missing;
	}
}

void iof_index_find_many(const struct iof_index *ix, const uint64_t *at, size_t n, uint64_t missing, uint64_t *values)
{
	size_t i = 0;

	if (!ix->count) {
		for (; i < n; i++)
			values[i] = missing;
		return;
	}
	for (; i < n; i += LANES)
		find_lanes(ix, at + i, n - i < LANES ? (unsigned)(n - i) : LANES, missing, values + i);
}
