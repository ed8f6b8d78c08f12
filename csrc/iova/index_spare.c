/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory set aside for insertions that have to succeed.
 *
 * n entries that go side by side into one hole, in ascending order, split a leaf at most once for every 16 of them, and once more at either end. An inner level
 * is split at most once, and once more for every 16 splits below it.
 */
#include "iova/node.h"

static uint64_t leaves_for(uint64_t n)
{
	return n / (IOFI_FAN / 2) + 3;
}

static uint64_t inners_for(uint64_t n)
{
	uint64_t splits = leaves_for(n), inners = 1; /* a new root */

	for (unsigned h = 0; h < IOFI_MAX_HEIGHT; h++) {
		splits = splits / (IOFI_FAN / 2) + 1;
		inners += splits;
	}
	return inners;
}

/* Pushes up to n objects of the slab onto a chain through their first words; how many. */
static uint64_t push(struct iof_slab *s, uint64_t n, void **chain)
{
	uint64_t i;
	void *p;

	for (i = 0; i < n && (p = iof_slab_get(s)); i++) {
		*(void **)p = *chain;
		*chain = p;
	}
	return i;
}

static void pop_all(struct iof_slab *s, void **chain)
{
	void *p;

	while ((p = *chain)) {
		*chain = *(void **)p;
		iof_slab_put(s, p);
	}
}

int iof_index_spare_get(struct iof_index *ix, uint64_t n, struct iof_index_spare *spare)
{
	*spare = (struct iof_index_spare){ NULL, NULL };
	if (push(&ix->leaves, leaves_for(n), &spare->leaves) == leaves_for(n) &&
	    push(&ix->inners, inners_for(n), &spare->inners) == inners_for(n))
		return 0;
	iof_index_spare_put(ix, spare);
	return -ENOMEM;
}

void iof_index_spare_put(struct iof_index *ix, struct iof_index_spare *spare)
{
	pop_all(&ix->leaves, &spare->leaves);
	pop_all(&ix->inners, &spare->inners);
}

void iof_index_sure(struct iof_index *ix, bool sure)
{
	ix->sure = sure;
}
