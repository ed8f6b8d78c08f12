// SPDX-License-Identifier: Apache-2.0
/*
 * The slow half of slabs: taking blocks and giving them back.
 *
 * A block is one header line, then objects. Objects are carved from the newest block in address order as they are
 * needed, so a block's pages are touched only when used; an object that comes back goes to the free list and never to
 * its block.
 */
#include "util/slab.h"

#include "util/alloc_priv.h"

#define SLAB_BLOCK_DEFAULT (64 * 1024)

struct iof_slab_block {
	_Alignas(IOF_CACHELINE) struct iof_slab_block *next;
};

void iof_slab_init(struct iof_slab *s, struct iof_alloc *a, size_t object_size, size_t block_size)
{
	size_t size = object_size ? (object_size + 15) & ~(size_t)15 : 16;

	if (!block_size)
		block_size = SLAB_BLOCK_DEFAULT;
	if (block_size < size + sizeof(struct iof_slab_block))
		block_size = size + sizeof(struct iof_slab_block);
	*s = (struct iof_slab){ .alloc = a, .object_size = (uint32_t)size, .block_size = (uint32_t)block_size };
}

void iof_slab_fini(struct iof_slab *s)
{
	struct iof_slab_block *b = s->blocks;

	while (b) {
		struct iof_slab_block *next = b->next;

		iof_mem_put(s->alloc, b, s->block_size);
		b = next;
	}
	s->free = NULL;
	s->fresh = s->fresh_end = NULL;
	s->blocks = NULL;
	s->live = 0;
}

static bool add_block(struct iof_slab *s)
{
	struct iof_slab_block *b = iofi_mem_get_sure(s->alloc, s->block_size, IOF_CACHELINE);
	size_t room = s->block_size - sizeof(*b);

	if (!b)
		return false;
	b->next = s->blocks;
	s->blocks = b;
	s->fresh = (char *)(b + 1);
	s->fresh_end = s->fresh + room - room % s->object_size;
	return true;
}

void *iof_slab_get_slow(struct iof_slab *s)
{
	void *p;

	if (s->fresh == s->fresh_end && !add_block(s))
		return NULL;
	p = s->fresh;
	s->fresh += s->object_size;
	s->live++;
	return p;
}

static bool in_a_block(const struct iof_slab *s, const void *p)
{
	uintptr_t at = (uintptr_t)p;

	for (const struct iof_slab_block *b = s->blocks; b; b = b->next) {
		uintptr_t first = (uintptr_t)(b + 1), end = (uintptr_t)b + s->block_size;

		if (at >= first && at + s->object_size <= end)
			return (at - first) % s->object_size == 0;
	}
	return false;
}

bool iof_slab_is_valid(const struct iof_slab *s)
{
	uint64_t per_block = (s->block_size - sizeof(struct iof_slab_block)) / s->object_size, carved = 0, free = 0;

	for (const struct iof_slab_block *b = s->blocks; b; b = b->next)
		carved += per_block;
	carved -= (uint64_t)(s->fresh_end - s->fresh) / s->object_size;
	for (const void *p = s->free; p; p = *(void *const *)p)
		if (++free > carved || !in_a_block(s, p))
			return false;
	return s->live + free == carved;
}
