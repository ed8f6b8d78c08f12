// SPDX-License-Identifier: Apache-2.0
/*
 * The arena: one shared mapping cut into page runs, and page runs cut into small blocks.
 *
 * Layout: the header, the page records (one for every page), then the pages that are given out. The records of a run's
 * first and last page describe the run, so a freed run finds both neighbours in constant time and merges; free pages
 * themselves are never read or written. Free runs hang in bins by the logarithm of their length.
 *
 * A small block belongs to a class (16, 32, 48, 64, 96, 128, 192 ... 65536). Each class carves a chunk, a run that it
 * got from below, in address order; freed blocks go to the class's free list, linked through their first word. Chunks
 * stay with their class. A block of class c is aligned to the largest power of two that divides c, up to a page;
 * whoever wants more gets a page run of his own.
 *
 * Dangerous words: `page` is an index into the records (0 is the first page that can be given out and a real page, so
 * NO_PAGE ends lists); `length` counts pages.
 *
 * One lock covers everything here but the iof_alloc counters, which are atomic. A process that dies with the lock held
 * inside a change of the free runs may leave runs lost or torn; the free lists of small blocks are updated by single
 * stores.
 */
#define _GNU_SOURCE /* memfd_create */
#include "util/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/alloc_priv.h"
#include "util/lock.h"
#include "util/sys.h"

#define ARENA_ROUND (UINT64_C(2) << 20)
#define ARENA_GIVE_BACK 256 /* pages: runs from 1 MiB on do not keep their memory while they are free */
#define CLASS_MAX 65536
#define CLASSES 24 /* 16, 32, then 48 64, 96 128, ..., 49152 65536; no 24, which would break the alignment of 16 */
#define BINS 32
#define NO_PAGE UINT32_MAX

enum page_kind { PAGE_INSIDE = 0, PAGE_FREE, PAGE_LARGE, PAGE_CHUNK };

/* `kind` and `length` hold for a run's first and last page, for every page of a chunk also `first` and `class`. */
struct page {
	uint32_t length;
	uint32_t first;
	uint32_t next, prev; /* in a bin; the first page of a free run only */
	uint8_t kind;
	uint8_t class;
};

struct class {
	void *free;
	char *fresh, *fresh_end;
	uint64_t live;
};

struct iof_arena {
	struct iof_alloc alloc; /* first: an iof_alloc is its arena */
	struct iof_lock lock;
	uint64_t mapped; /* bytes of the whole mapping */
	uint32_t pages; /* that can be given out */
	struct page *page;
	char *base; /* of page 0 */
	uint32_t bin[BINS];
	struct class class[CLASSES];
};

static struct iof_arena *arena_of(struct iof_alloc *a)
{
	return iof_container_of(a, struct iof_arena, alloc);
}

/* ---- classes ---- */

static size_t class_size(unsigned class)
{
	if (class < 2)
		return class ? 32 : 16;
	return class % 2 ? (size_t)64 << (class / 2 - 1) : (size_t)48 << (class / 2 - 1);
}

/* The smallest class for so many bytes: between 2^k and 2^(k+1) stands 3/2 * 2^k. */
static unsigned class_for(size_t size)
{
	unsigned k;

	if (size <= 32)
		return size > 16;
	k = iof_log2(size - 1); /* size is in (2^k, 2^(k+1)] and k >= 5 */
	return 2 * (k - 4) + (size > ((size_t)3 << (k - 1)));
}

static size_t class_align(unsigned class)
{
	size_t size = class_size(class), align = size & -size;

	return align < IOF_PAGE_SIZE ? align : IOF_PAGE_SIZE;
}

static uint32_t class_chunk_pages(unsigned class)
{
	return class_size(class) <= 8192 ? 16 : 64;
}

/* CLASSES when only a page run will do. */
static unsigned class_choose(size_t size, size_t align)
{
	unsigned class;

	if (size > CLASS_MAX || align > IOF_PAGE_SIZE)
		return CLASSES;
	for (class = class_for(size); class < CLASSES && class_align(class) < align; class++)
		;
	return class;
}

/* ---- page runs ---- */

static unsigned bin_for(uint32_t length)
{
	return iof_log2(length);
}

static void run_mark(struct iof_arena *a, uint32_t first, uint32_t length, enum page_kind kind)
{
	uint32_t last = first + length - 1;

	a->page[first].length = a->page[last].length = length;
	a->page[first].first = a->page[last].first = first;
	a->page[first].kind = a->page[last].kind = kind;
}

/* So that an old boundary inside a larger run is not taken for one. */
static void run_unmark(struct iof_arena *a, uint32_t first, uint32_t length)
{
	a->page[first].kind = a->page[first + length - 1].kind = PAGE_INSIDE;
}

static void bin_add(struct iof_arena *a, uint32_t first, uint32_t length)
{
	uint32_t *head = &a->bin[bin_for(length)];

	run_mark(a, first, length, PAGE_FREE);
	a->page[first].prev = NO_PAGE;
	a->page[first].next = *head;
	if (*head != NO_PAGE)
		a->page[*head].prev = first;
	*head = first;
}

static void bin_del(struct iof_arena *a, uint32_t first)
{
	struct page *p = &a->page[first];

	if (p->next != NO_PAGE)
		a->page[p->next].prev = p->prev;
	if (p->prev != NO_PAGE)
		a->page[p->prev].next = p->next;
	else
		a->bin[bin_for(p->length)] = p->next;
	run_unmark(a, first, p->length);
}

/* Where an aligned run of `length` would start in the free run at `first`; NO_PAGE when it does not fit. */
static uint32_t run_fit(const struct iof_arena *a, uint32_t first, uint32_t length, uint64_t align)
{
	uint64_t from = (uintptr_t)a->base + ((uint64_t)first << IOF_PAGE_SHIFT);
	uint64_t at = (from + align - 1) & ~(align - 1);
	uint64_t skip = (at - from) >> IOF_PAGE_SHIFT;

	return skip + length <= a->page[first].length ? first + (uint32_t)skip : NO_PAGE;
}

static uint32_t run_find(const struct iof_arena *a, uint32_t length, uint64_t align, uint32_t *at)
{
	for (unsigned b = bin_for(length); b < BINS; b++)
		for (uint32_t first = a->bin[b]; first != NO_PAGE; first = a->page[first].next) {
			*at = run_fit(a, first, length, align);
			if (*at != NO_PAGE)
				return first;
		}
	return NO_PAGE;
}

static uint32_t run_get(struct iof_arena *a, uint32_t length, uint64_t align, enum page_kind kind)
{
	uint32_t at, first = run_find(a, length, align, &at), whole;

	if (first == NO_PAGE)
		return NO_PAGE;
	whole = a->page[first].length;
	bin_del(a, first);
	if (at > first)
		bin_add(a, first, at - first);
	if (first + whole > at + length)
		bin_add(a, at + length, first + whole - (at + length));
	run_mark(a, at, length, kind);
	return at;
}

static void run_put(struct iof_arena *a, uint32_t first)
{
	uint32_t length = a->page[first].length, after = first + length;

	run_unmark(a, first, length);
	if (length >= ARENA_GIVE_BACK)
		(void)iofi_syscall(SYS_madvise, a->base + ((uint64_t)first << IOF_PAGE_SHIFT),
				   (size_t)length << IOF_PAGE_SHIFT, MADV_REMOVE);
	if (after < a->pages && a->page[after].kind == PAGE_FREE) {
		length += a->page[after].length;
		bin_del(a, after);
	}
	if (first && a->page[first - 1].kind == PAGE_FREE) {
		uint32_t before = a->page[first - 1].first;

		length += first - before;
		bin_del(a, before);
		first = before;
	}
	bin_add(a, first, length);
}

static uint32_t page_of(const struct iof_arena *a, const void *p)
{
	return (uint32_t)((uint64_t)((const char *)p - a->base) >> IOF_PAGE_SHIFT);
}

static void *large_get(struct iof_arena *a, size_t size, size_t align)
{
	uint64_t length = ((uint64_t)size + IOF_PAGE_MASK) >> IOF_PAGE_SHIFT;
	uint32_t first;

	if (size > a->mapped || align > a->mapped)
		return NULL;
	first = run_get(a, length ? (uint32_t)length : 1, align > IOF_PAGE_SIZE ? align : IOF_PAGE_SIZE, PAGE_LARGE);
	return first == NO_PAGE ? NULL : a->base + ((uint64_t)first << IOF_PAGE_SHIFT);
}

/* ---- small blocks ---- */

static bool class_grow(struct iof_arena *a, unsigned class)
{
	uint32_t length = class_chunk_pages(class), first = run_get(a, length, IOF_PAGE_SIZE, PAGE_CHUNK);
	size_t size = class_size(class), room = (size_t)length << IOF_PAGE_SHIFT;
	struct class *c = &a->class[class];

	if (first == NO_PAGE)
		return false;
	for (uint32_t i = first; i < first + length; i++) {
		a->page[i].kind = PAGE_CHUNK;
		a->page[i].first = first;
		a->page[i].class = (uint8_t)class;
	}
	c->fresh = a->base + ((uint64_t)first << IOF_PAGE_SHIFT);
	c->fresh_end = c->fresh + room - room % size;
	return true;
}

static void *small_get(struct iof_arena *a, unsigned class)
{
	struct class *c = &a->class[class];
	void *p = c->free;

	if (p) {
		c->free = *(void **)p;
	} else {
		if (c->fresh == c->fresh_end && !class_grow(a, class))
			return NULL;
		p = c->fresh;
		c->fresh += class_size(class);
	}
	c->live++;
	return p;
}

static void small_put(struct iof_arena *a, unsigned class, void *p)
{
	*(void **)p = a->class[class].free;
	a->class[class].free = p;
	a->class[class].live--;
}

static void *arena_get(struct iof_alloc *alloc, size_t size, size_t align)
{
	struct iof_arena *a = arena_of(alloc);
	unsigned class = class_choose(size, align);
	void *p;

	iof_lock_take(&a->lock);
	p = class < CLASSES ? small_get(a, class) : large_get(a, size, align);
	iof_lock_drop(&a->lock);
	return p;
}

static void arena_put(struct iof_alloc *alloc, void *p, size_t size)
{
	struct iof_arena *a = arena_of(alloc);
	uint32_t page = page_of(a, p);

	(void)size;
	iof_lock_take(&a->lock);
	if (a->page[page].kind == PAGE_CHUNK)
		small_put(a, a->page[page].class, p);
	else
		run_put(a, page);
	iof_lock_drop(&a->lock);
}

/* ---- the whole ---- */

/* The memory object has no name and no descriptor once it is mapped; the seals keep its size. */
static int map_whole(size_t size, void **out)
{
	int fd = memfd_create("iommufd_fast arena", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc = 0;

	if (fd < 0)
		return -ENOMEM;
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -ENOMEM;
	if (!rc) {
		*out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
		rc = *out == MAP_FAILED ? -ENOMEM : 0;
	}
	close(fd);
	return rc;
}

static void lay_out(struct iof_arena *a, uint64_t mapped)
{
	uint64_t header = (sizeof(*a) + IOF_PAGE_MASK) & ~IOF_PAGE_MASK;
	uint64_t all = (mapped - header) >> IOF_PAGE_SHIFT;
	uint64_t records = (all * sizeof(struct page) + IOF_PAGE_MASK) >> IOF_PAGE_SHIFT;

	a->mapped = mapped;
	a->page = (struct page *)((char *)a + header);
	a->base = (char *)a + header + (records << IOF_PAGE_SHIFT);
	a->pages = (uint32_t)(all - records);
	for (unsigned b = 0; b < BINS; b++)
		a->bin[b] = NO_PAGE;
	bin_add(a, 0, a->pages);
}

int iof_arena_create(size_t size, struct iof_arena **out)
{
	int saved = errno, rc;
	uint64_t mapped;
	void *at;

	if (!size)
		return -EINVAL;
	if (!iof_align_up(size, ARENA_ROUND, &mapped) || mapped >> IOF_PAGE_SHIFT >= NO_PAGE)
		return -ENOMEM;
	rc = map_whole(mapped, &at);
	errno = saved;
	if (rc)
		return rc;
	*out = at;
	iofi_alloc_init(&(*out)->alloc, arena_get, arena_put, true);
	iof_lock_init(&(*out)->lock, true);
	lay_out(*out, mapped);
	return 0;
}

void iof_arena_destroy(struct iof_arena *a)
{
	int saved = errno;

	(void)munmap(a, a->mapped);
	errno = saved;
}

struct iof_alloc *iof_arena_alloc(struct iof_arena *a)
{
	return &a->alloc;
}

/* ---- is_valid ---- */

static bool chunk_is_valid(const struct iof_arena *a, uint32_t first)
{
	const struct page *p = &a->page[first];

	if (p->class >= CLASSES || p->length != class_chunk_pages(p->class))
		return false;
	for (uint32_t i = first; i < first + p->length; i++)
		if (a->page[i].kind != PAGE_CHUNK || a->page[i].first != first || a->page[i].class != p->class)
			return false;
	return true;
}

/* Every page is in one run, both ends of a run agree, no two free runs touch. Counts what the lists must account for. */
static bool runs_are_valid(const struct iof_arena *a, uint64_t *free_runs, uint64_t *large, uint64_t carved[CLASSES])
{
	bool was_free = false;

	for (uint32_t first = 0; first < a->pages; first += a->page[first].length) {
		const struct page *p = &a->page[first], *last;

		if (!p->length || p->length > a->pages - first || p->first != first || p->kind == PAGE_INSIDE)
			return false;
		last = p + p->length - 1;
		if (last->kind != p->kind || last->length != p->length || last->first != first)
			return false;
		if (p->kind == PAGE_FREE && was_free)
			return false;
		if (p->kind == PAGE_CHUNK && !chunk_is_valid(a, first))
			return false;
		was_free = p->kind == PAGE_FREE;
		*free_runs += was_free;
		*large += p->kind == PAGE_LARGE;
		if (p->kind == PAGE_CHUNK)
			carved[p->class] += ((size_t)p->length << IOF_PAGE_SHIFT) / class_size(p->class);
	}
	return true;
}

static bool bins_are_valid(const struct iof_arena *a, uint64_t free_runs)
{
	uint64_t seen = 0;

	for (unsigned b = 0; b < BINS; b++) {
		uint32_t prev = NO_PAGE;

		for (uint32_t first = a->bin[b]; first != NO_PAGE; prev = first, first = a->page[first].next) {
			if (first >= a->pages || ++seen > free_runs)
				return false;
			if (a->page[first].kind != PAGE_FREE || a->page[first].first != first ||
			    a->page[first].prev != prev || bin_for(a->page[first].length) != b)
				return false;
		}
	}
	return seen == free_runs;
}

static bool block_is_valid(const struct iof_arena *a, unsigned class, const char *p)
{
	const struct page *page;

	if (p < a->base || page_of(a, p) >= a->pages)
		return false;
	page = &a->page[page_of(a, p)];
	return page->kind == PAGE_CHUNK && page->class == class &&
	       (size_t)(p - (a->base + ((uint64_t)page->first << IOF_PAGE_SHIFT))) % class_size(class) == 0 &&
	       !(p >= a->class[class].fresh && p < a->class[class].fresh_end);
}

static bool class_is_valid(const struct iof_arena *a, unsigned class, uint64_t carved)
{
	const struct class *c = &a->class[class];
	uint64_t free = 0;

	carved -= (size_t)(c->fresh_end - c->fresh) / class_size(class);
	for (const char *p = c->free; p; p = *(const char *const *)p)
		if (++free > carved || !block_is_valid(a, class, p))
			return false;
	return free + c->live == carved;
}

static bool is_valid(const struct iof_arena *a)
{
	uint64_t free_runs = 0, live = 0, carved[CLASSES] = { 0 };

	if (!runs_are_valid(a, &free_runs, &live, carved) || !bins_are_valid(a, free_runs))
		return false;
	for (unsigned i = 0; i < CLASSES; i++) {
		if (!class_is_valid(a, i, carved[i]))
			return false;
		live += a->class[i].live;
	}
	return live == atomic_load(&a->alloc.live_blocks);
}

bool iof_arena_is_valid(struct iof_arena *a)
{
	bool ok;

	iof_lock_take(&a->lock);
	ok = is_valid(a);
	iof_lock_drop(&a->lock);
	return ok;
}
