/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries come and go in a leaf. An entry that goes from the midst leaves a ghost (node.h), so that the usual pair, a removal and
 * then an insertion into the hole it made, moves nothing and touches two cache lines of the leaf instead of a dozen. The price is that a leaf may have to
 * be cleared of ghosts before it is split, or joined with another.
 */
#include "iova/node.h"

/* Closes up over n entries from i on. */
static void cut_out(struct iofi_leaf *leaf, unsigned i, unsigned n)
{
	leaf->node.count -= n;
	iofi_leaf_move(leaf, i, leaf, i + n, leaf->node.count - i);
	for (unsigned k = 0; k < n; k++)
		leaf->start[leaf->node.count + k] = UINT64_MAX;
}

void iofi_leaf_clear(struct iofi_leaf *leaf)
{
	unsigned n = 0;

	if (!leaf->ghosts)
		return;
	for (unsigned i = 0; i < leaf->node.count; i++) {
		if (iofi_is_ghost(leaf, i))
			continue;
		leaf->start[n] = leaf->start[i];
		leaf->tail[n++] = leaf->tail[i];
	}
	leaf->node.count = n;
	leaf->ghosts = 0;
	iofi_leaf_pad(leaf);
}

unsigned iofi_leaf_take(struct iofi_leaf *leaf, unsigned i)
{
	unsigned last = leaf->node.count - 1;
	bool before = i && iofi_is_ghost(leaf, i - 1), behind = i < last && iofi_is_ghost(leaf, i + 1);
	uint64_t hole = iofi_hole_start(leaf, i);

	leaf->ghosts -= behind;
	if (before && i == last) { /* it would be the last */
		leaf->ghosts--;
		cut_out(leaf, i - 1, 2);
		return i - 1;
	}
	if (!i || i == last || before) {
		cut_out(leaf, i, 1u + behind);
		return i;
	}
	leaf->start[i] = hole;
	leaf->tail[i].last = hole - 1;
	leaf->ghosts++;
	if (behind)
		cut_out(leaf, i + 1, 1);
	return i + 1;
}

unsigned iofi_leaf_put(struct iofi_leaf *leaf, unsigned i, struct iof_range r, uint64_t value)
{
	if (i && iofi_is_ghost(leaf, i - 1)) {
		leaf->ghosts--;
		i--;
	} else {
		iofi_leaf_move(leaf, i + 1, leaf, i, leaf->node.count - i);
		leaf->node.count++;
	}
	leaf->start[i] = r.start;
	leaf->tail[i] = (struct iofi_tail){ r.last, value };
	return i;
}

/* Nothing stays behind but a ghost that was there before: everything moves anyway. */
unsigned iofi_leaf_take_run(struct iofi_leaf *leaf, unsigned i, unsigned n)
{
	bool behind = i + n < leaf->node.count && iofi_is_ghost(leaf, i + n);
	bool before = i && i + n == leaf->node.count && iofi_is_ghost(leaf, i - 1); /* it would be the last */

	leaf->ghosts -= (unsigned)behind + before;
	cut_out(leaf, i - before, n + behind + before);
	return i - before;
}

unsigned iofi_leaf_put_run(struct iofi_leaf *leaf, unsigned i, const struct iof_index_entry *e, unsigned n)
{
	bool ghost = i && iofi_is_ghost(leaf, i - 1);
	unsigned at = i - ghost;

	leaf->ghosts -= ghost;
	if (i < leaf->node.count)
		iofi_leaf_move(leaf, at + n, leaf, i, leaf->node.count - i);
	leaf->node.count += n - ghost;
	for (unsigned k = 0; k < n; k++) {
		leaf->start[at + k] = e[k].range.start;
		leaf->tail[at + k] = (struct iofi_tail){ e[k].range.last, e[k].value };
	}
	return at + n - 1;
}
