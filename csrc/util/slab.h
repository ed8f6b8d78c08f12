/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed-size objects carved from blocks of an allocator: one free list, no header per object.
 *
 * Threads in turn: a slab of iof_slab_init_known() keeps a free list for each of a few groups of threads, so that what a thread puts back is
 * what it gets next, still in its cache.
 *
 * Not locked: the owner's lock covers it. Objects are aligned as their size allows: to 64, 16 or 8. Blocks go back to the allocator only in iof_slab_fini(); iof_slab_put() never fails and never needs memory.
 */
#ifndef IOF_UTIL_SLAB_H
#define IOF_UTIL_SLAB_H

#include "util/alloc.h"
#include "util/stripe.h"

struct iof_slab_block; /* a header line, then objects */

#define IOF_SLAB_LISTS 4u

struct iof_slab {
	struct iof_alloc *alloc;
	void *free[IOF_SLAB_LISTS]; /* singly linked through the objects' first word; [0] only, unless `known` */
	char *fresh; /* the next never-used object of the newest block */
	char *fresh_end;
	struct iof_slab_block *blocks;
	uint32_t object_size;
	uint32_t block_size; /* of a part of a block; blocks have one, but for those of iof_slab_init_known() */
	uint32_t block_align; /* what parts are aligned to */
	uint32_t parts_left; /* of the newest block: not yet begun */
	bool known; /* iof_slab_init_known() */
	bool grows; /* iof_slab_init_growing() */
	uint64_t bytes; /* of all blocks */
	uint64_t live;
};

/* object_size is rounded up to 8; block_size (bytes) 0 asks for the default of 64 KiB. */
void iof_slab_init(struct iof_slab *s, struct iof_alloc *a, size_t object_size, size_t block_size);

/* One for objects that are visited at random: large blocks, once there are many, which may become huge pages. */
void iof_slab_init_growing(struct iof_slab *s, struct iof_alloc *a, size_t object_size, size_t block_size);

/* One whose objects know it: see iof_slab_of(). It must not move. object_size: at most 4096. */
void iof_slab_init_known(struct iof_slab *s, struct iof_alloc *a, size_t object_size);
struct iof_slab *iof_slab_of(const void *p); /* the slab of iof_slab_init_known() that p came from */
void iof_slab_fini(struct iof_slab *s); /* every object is gone after this, put or not */
void *iof_slab_get_slow(struct iof_slab *s);
bool iof_slab_is_valid(const struct iof_slab *s); /* re-derives the free list and the counts; for tests */

static inline void **iof_slab_list(struct iof_slab *s)
{
	return &s->free[s->known ? iof_stripe() % IOF_SLAB_LISTS : 0];
}

/* Contents undefined. NULL: no memory or an injected failure (every get is one fallible step, hit or miss). */
static inline void *iof_slab_get(struct iof_slab *s)
{
	void **list = iof_slab_list(s), *p = *list;

	if (iof_unlikely(iof_alloc_may_fail(s->alloc)))
		return NULL;
	if (iof_unlikely(!p))
		return iof_slab_get_slow(s);
	*list = *(void **)p;
	s->live++;
	return p;
}

/* n at once: as many gets. How many there was memory for. */
static inline size_t iof_slab_get_many(struct iof_slab *s, void **out, size_t n)
{
	void **list = iof_slab_list(s), *p = *list;
	size_t i;

	for (i = 0; i < n && p && !iof_unlikely(iof_alloc_may_fail(s->alloc)); i++) {
		out[i] = p;
		p = *(void **)p;
	}
	*list = p;
	s->live += i;
	if (iof_unlikely(i < n && p))
		return i; /* that one had to fail */
	for (; i < n && (out[i] = iof_slab_get(s)); i++)
		;
	return i;
}

static inline void iof_slab_put(struct iof_slab *s, void *p)
{
	void **list = iof_slab_list(s);

	*(void **)p = *list;
	*list = p;
	s->live--;
}

#endif
