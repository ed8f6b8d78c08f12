/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many entries in one step. A leaf takes or loses what it can of a run at once; then the next leaf's turn comes. So memory is taken leaf by
 * leaf, and running out of it leaves a run's first entries in, as single calls would.
 */
#include "iova/node_change.h"

/* How many more entries can come to `pos`. */
static unsigned room(const struct iofi_leaf *leaf, unsigned pos)
{
	return IOFI_FAN - leaf->node.count + (pos && iofi_is_ghost(leaf, pos - 1));
}

/* The last byte of the hole at `pos`, which some address belongs into: so what comes after it does not start at 0. */
static uint64_t hole_last(const struct iofi_leaf *leaf, unsigned pos)
{
	if (pos < leaf->node.count)
		return leaf->start[pos] - 1;
	return leaf->next ? leaf->next->start[0] - 1 : UINT64_MAX;
}

/* How many of them, which come to `pos`, find room in the leaf, in its share of the space and in the hole. */
static unsigned fitting(const struct iofi_leaf *leaf, unsigned pos, const struct iof_index_entry *e, size_t n)
{
	uint64_t last = hole_last(leaf, pos);
	unsigned k = room(leaf, pos);

	k = n < k ? (unsigned)n : k;
	while (k && (e[k - 1].range.last > last || e[k - 1].range.start > leaf->high))
		k--;
	return k;
}

/* The first of them and what goes into the same leaf: how many, or -errno. */
static int insert_part(struct iof_index *ix, const struct iof_index_entry *e, size_t n)
{
	unsigned pos, k;
	struct iofi_leaf *leaf = iofi_place_of(ix, e->range.start, &pos);
	uint64_t hole;
	int rc;

	if (iof_unlikely(e->range.start > e->range.last))
		return -EINVAL;
	if (iofi_meets(leaf, pos, e->range))
		return -EEXIST;
	if (!room(leaf, pos)) {
		if (n > 1) { /* a run it will be */
			ix->cursor = leaf;
			ix->guess = ix->run = pos;
		}
		rc = iofi_split(ix, &leaf, &pos, e->range.start);
		if (rc)
			return rc;
	}
	k = fitting(leaf, pos, e, n);
	hole = iofi_hole_start(leaf, pos);
	pos = iofi_leaf_put_run(leaf, pos, e, k);
	ix->count += k;
	iofi_came(ix, leaf, pos, (struct iof_range){ e->range.start, e[k - 1].range.last }, hole);
	return (int)k;
}

size_t iof_index_insert_run(struct iof_index *ix, const struct iof_index_entry *e, size_t n, int *rc)
{
	size_t done = 0;
	int part;

	for (*rc = 0; done < n; done += (size_t)part) {
		part = insert_part(ix, e + done, n - done);
		if (part < 0) {
			*rc = part;
			break;
		}
	}
	return done;
}

/* How many entries of the leaf, one after the other from `pos` on, start at `starts`. A ghost is none, and ends it. */
static unsigned in_step(const struct iofi_leaf *leaf, unsigned pos, const uint64_t *starts, size_t n)
{
	unsigned most = leaf->node.count - pos, k = 0;

	most = n < most ? (unsigned)n : most;
	while (k < most && leaf->start[pos + k] == starts[k])
		k++;
	for (unsigned i = 0; leaf->ghosts && i < k; i++)
		if (iofi_is_ghost(leaf, pos + i))
			return i;
	return k;
}

size_t iof_index_remove_many(struct iof_index *ix, const uint64_t *starts, size_t n)
{
	struct iofi_leaf *leaf;
	unsigned pos, k;
	uint64_t hole;
	size_t done;

	for (done = 0; done < n && (leaf = iofi_entry_at(ix, starts[done], &pos)); done += k) {
		k = in_step(leaf, pos, starts + done, n - done);
		hole = iofi_hole_start(leaf, pos);
		pos = k == 1 ? iofi_leaf_take(leaf, pos) : iofi_leaf_take_run(leaf, pos, k);
		ix->count -= k;
		iofi_gone(ix, leaf, pos, hole);
	}
	return done;
}

size_t iof_index_match(const struct iof_index *ix, const uint64_t *starts, const uint64_t *lengths, size_t n, uint64_t *values)
{
	const struct iofi_leaf *leaf = NULL;
	unsigned pos, k;
	size_t done;

	for (done = 0; done < n; done += k) {
		leaf = leaf ? leaf->next : NULL;
		pos = 0;
		if (!leaf || leaf->start[0] != starts[done])
			leaf = iofi_entry_at(ix, starts[done], &pos);
		k = leaf ? in_step(leaf, pos, starts + done, n - done) : 0;
		for (unsigned i = 0; i < k; i++) {
			if (!lengths[done + i] || leaf->tail[pos + i].last - starts[done + i] != lengths[done + i] - 1)
				return done + i;
			values[done + i] = leaf->tail[pos + i].value;
		}
		if (!k)
			break;
	}
	return done;
}
