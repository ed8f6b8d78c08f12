// SPDX-License-Identifier: Apache-2.0
/*
 * The slow half of slabs: taking blocks and giving them back.
 *
 * A block is one header line, then objects. Objects are carved from the newest block in address order as they are
 * needed, so a block's pages are touched only when used; an object that comes back goes to the free list and never to
 * its block. Where objects have to know their slab, blocks consist of aligned parts, each with a header, so that one is found from any
 * place inside. Such blocks grow, because aligned ones leave gaps; the last part is a line short, for the C library's own use.
 *
 * A growing slab goes over to blocks of 2 MiB once it holds 4 MiB: those may become huge pages. Where objects are visited at random, a small page
 * costs a walk through page tables beside the cache miss; in a virtual machine that is the larger half.
 */
#include "util/slab.h"

#include <string.h>
#include <sys/mman.h>

#include "util/alloc_priv.h"

#define SLAB_BLOCK_DEFAULT (64 * 1024)
#define SLAB_KNOWN_ALIGN (64 * 1024)
#define SLAB_KNOWN_PARTS 16u /* at most */
#define SLAB_HUGE ((size_t)2 << 20)
#define SLAB_COLLAPSE 25 /* MADV_COLLAPSE, Linux 6.1; the C library's headers may be older */
#define SLAB_HUGE_FROM ((uint64_t)4 << 20) /* bytes in blocks */

/* In front of each part; all but `slab` is the first one's. */
struct iof_slab_block {
	_Alignas(IOF_CACHELINE) struct iof_slab_block *next;
	struct iof_slab *slab;
	size_t bytes;
	uint32_t parts;
};

void iof_slab_init(struct iof_slab *s, struct iof_alloc *a, size_t object_size, size_t block_size)
{
	size_t size = object_size ? (object_size + 7) & ~(size_t)7 : 8;

	if (!block_size)
		block_size = SLAB_BLOCK_DEFAULT;
	if (block_size < size + sizeof(struct iof_slab_block))
		block_size = size + sizeof(struct iof_slab_block);
	*s = (struct iof_slab){ .alloc = a, .block_align = IOF_CACHELINE, .object_size = (uint32_t)size,
				.block_size = (uint32_t)block_size };
}

void iof_slab_init_growing(struct iof_slab *s, struct iof_alloc *a, size_t object_size, size_t block_size)
{
	iof_slab_init(s, a, object_size, block_size);
	s->grows = !a->shared && s->block_size % IOF_CACHELINE == 0;
}

void iof_slab_init_known(struct iof_slab *s, struct iof_alloc *a, size_t object_size)
{
	iof_slab_init(s, a, object_size, SLAB_KNOWN_ALIGN);
	s->block_align = SLAB_KNOWN_ALIGN;
	s->known = true;
}

struct iof_slab *iof_slab_of(const void *p)
{
	return ((const struct iof_slab_block *)((uintptr_t)p & ~(uintptr_t)(SLAB_KNOWN_ALIGN - 1)))->slab;
}

static size_t spare(const struct iof_slab *s)
{
	return s->known ? IOF_CACHELINE : 0;
}

static uint64_t objects_in(const struct iof_slab *s, bool last)
{
	return (s->block_size - (last ? spare(s) : 0) - sizeof(struct iof_slab_block)) / s->object_size;
}

void iof_slab_fini(struct iof_slab *s)
{
	struct iof_slab_block *b = s->blocks;

	while (b) {
		struct iof_slab_block *next = b->next;

		iof_mem_put(s->alloc, b, b->bytes);
		b = next;
	}
	s->parts_left = 0;
	s->bytes = 0;
	memset(s->free, 0, sizeof(s->free));
	s->fresh = s->fresh_end = NULL;
	s->blocks = NULL;
	s->live = 0;
}

static void begin_part(struct iof_slab *s)
{
	struct iof_slab_block *first = s->blocks;
	struct iof_slab_block *b = (void *)((char *)first + (size_t)(first->parts - s->parts_left) * s->block_size);

	s->parts_left--;
	b->slab = s;
	s->fresh = (char *)(b + 1);
	s->fresh_end = s->fresh + objects_in(s, !s->parts_left) * s->object_size;
}

/* How many parts the next block has, and how many bytes. */
static uint32_t next_parts(const struct iof_slab *s, size_t *bytes)
{
	uint32_t parts = 1;

	if (s->grows && s->bytes >= SLAB_HUGE_FROM && s->block_size <= SLAB_HUGE) {
		*bytes = SLAB_HUGE;
		return (uint32_t)(SLAB_HUGE / s->block_size);
	}
	if (s->known && s->blocks)
		parts = s->blocks->parts * 2 < SLAB_KNOWN_PARTS ? s->blocks->parts * 2 : SLAB_KNOWN_PARTS;
	*bytes = (size_t)s->block_size * parts - spare(s);
	return parts;
}

/*
 * The newest block is full. Only now it becomes a huge page: asked for at first, that would take 2 MiB for whatever is used of it. An older kernel cannot
 * do it at once, and may do it later.
 */
static void make_huge(struct iof_slab_block *b)
{
	if (madvise(b, b->bytes, SLAB_COLLAPSE))
		(void)madvise(b, b->bytes, MADV_HUGEPAGE);
}

static bool add_block(struct iof_slab *s)
{
	size_t bytes;
	uint32_t parts = next_parts(s, &bytes);
	bool huge = s->grows && bytes == SLAB_HUGE;
	struct iof_slab_block *b = iofi_mem_get_sure(s->alloc, bytes, huge ? bytes : s->block_align);

	if (!b)
		return false;
	if (huge && s->blocks->bytes == bytes)
		make_huge(s->blocks);
	b->next = s->blocks;
	b->bytes = bytes;
	b->parts = s->parts_left = parts;
	s->blocks = b;
	s->bytes += bytes;
	return true;
}

/* What another group of threads has put back. */
static void *get_anywhere(struct iof_slab *s)
{
	void *p = NULL;

	for (unsigned i = 0; i < IOF_SLAB_LISTS && !p; i++) {
		p = s->free[i];
		if (p)
			s->free[i] = *(void **)p;
	}
	return p;
}

void *iof_slab_get_slow(struct iof_slab *s)
{
	void *p = get_anywhere(s);

	s->live += p != NULL;
	if (p)
		return p;
	if (s->fresh == s->fresh_end) {
		if (!s->parts_left && !add_block(s))
			return NULL;
		begin_part(s);
	}
	p = s->fresh;
	s->fresh += s->object_size;
	s->live++;
	return p;
}

static bool in_a_block(const struct iof_slab *s, const void *p)
{
	uintptr_t at = (uintptr_t)p;

	for (const struct iof_slab_block *b = s->blocks; b; b = b->next) {
		uintptr_t part = (at - (uintptr_t)b) / s->block_size, in = (at - (uintptr_t)b) % s->block_size - sizeof(*b);

		if (at >= (uintptr_t)b && part < b->parts)
			return in % s->object_size == 0 && in / s->object_size < objects_in(s, part == b->parts - 1);
	}
	return false;
}

bool iof_slab_is_valid(const struct iof_slab *s)
{
	uint64_t carved = 0, free = 0;

	for (const struct iof_slab_block *b = s->blocks; b; b = b->next)
		carved += objects_in(s, true) + (b->parts - 1) * objects_in(s, false);
	if (s->parts_left)
		carved -= objects_in(s, true) + (s->parts_left - 1) * objects_in(s, false);
	carved -= (uint64_t)(s->fresh_end - s->fresh) / s->object_size;
	for (unsigned i = 0; i < IOF_SLAB_LISTS; i++)
		for (const void *p = s->free[i]; p; p = *(void *const *)p)
			if (++free > carved || !in_a_block(s, p))
				return false;
	return s->live + free == carved;
}
