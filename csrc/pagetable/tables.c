// SPDX-License-Identifier: Apache-2.0
/* The pool of table pages; tables.h has the story. */
#include "pagetable/tables.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_BYTES_MIN 16384u
#define CHUNK_BYTES_MAX (UINT32_C(2) << 20)

static size_t chunk_bytes(const struct iofi_tables *t, uint32_t tables)
{
	return (size_t)tables * t->table_bytes;
}

void iofi_tables_init(struct iofi_tables *t, struct iof_alloc *a, uint32_t table_bytes)
{
	memset(t, 0, sizeof(*t));
	t->alloc = a;
	t->table_bytes = table_bytes;
	iof_lock_init(&t->lock, a->shared);
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		iof_lock_init(&t->shelf[i].lock, a->shared);
}

void iofi_tables_fini(struct iofi_tables *t)
{
	for (uint32_t i = 0; i < t->chunk_count; i++)
		iof_mem_put(t->alloc, t->chunks[i].base, chunk_bytes(t, t->chunks[i].tables));
	iof_mem_put(t->alloc, t->chunks, t->chunk_room * sizeof(*t->chunks));
}

/*
 * A new chunk is at most 1/64 of what there is (1/32 while small): the unused rest of the newest one stays under 2 %.
 */
static uint32_t chunk_tables(const struct iofi_tables *t)
{
	uint64_t share = t->total / (t->total < 1024 ? 32 : 64);
	uint32_t least = t->table_bytes < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN / t->table_bytes : 1;
	uint32_t most = CHUNK_BYTES_MAX / t->table_bytes;

	if (share <= least)
		return least;
	return share >= most ? most : UINT32_C(1) << iof_log2(share);
}

static int reserve_chunk_record(struct iofi_tables *t)
{
	uint32_t room = t->chunk_room ? t->chunk_room * 2 : 4;
	struct iofi_chunk *chunks;

	if (t->chunk_count < t->chunk_room)
		return 0;
	chunks = iof_mem_get(t->alloc, room * sizeof(*chunks), IOF_CACHELINE);
	if (!chunks)
		return -ENOMEM;
	if (t->chunk_count)
		memcpy(chunks, t->chunks, t->chunk_count * sizeof(*chunks));
	iof_mem_put(t->alloc, t->chunks, t->chunk_room * sizeof(*chunks));
	t->chunks = chunks;
	t->chunk_room = room;
	return 0;
}

static void insert_chunk(struct iofi_tables *t, char *base, uint32_t tables)
{
	uint32_t at = t->chunk_count++;

	for (; at && t->chunks[at - 1].base > base; at--)
		t->chunks[at] = t->chunks[at - 1];
	t->chunks[at] = (struct iofi_chunk){ .base = base, .tables = tables };
}

static int add_chunk(struct iofi_tables *t)
{
	uint32_t tables = chunk_tables(t);
	size_t bytes = chunk_bytes(t, tables);
	bool huge = bytes == CHUNK_BYTES_MAX && !t->alloc->shared;
	char *base;

	if (reserve_chunk_record(t))
		return -ENOMEM;
	base = iof_mem_get(t->alloc, bytes, huge ? bytes : t->table_bytes);
	if (!base)
		return -ENOMEM;
	if (huge)
		madvise(base, bytes, MADV_HUGEPAGE); /* a hint: fewer TLB misses on large tables */
	insert_chunk(t, base, tables);
	t->fresh = base;
	t->fresh_count = tables;
	t->total += tables;
	return 0;
}

static void take_fresh(struct iofi_tables *t, size_t want, struct iofi_chain *chain)
{
	for (; want && t->fresh_count; want--, t->fresh_count--) {
		iofi_chain_push(chain, (uint64_t *)(void *)t->fresh);
		t->fresh += t->table_bytes;
	}
}

static struct iofi_shelf *own_shelf(struct iofi_tables *t)
{
	return &t->shelf[iof_stripe()];
}

/* At most `want` tables of a shelf. Locked. */
static void take_shelved(struct iofi_shelf *s, size_t want, struct iofi_chain *chain)
{
	for (; want && s->free; want--, s->free_count--) {
		uint64_t *table = s->free;

		s->free = (uint64_t *)(uintptr_t)table[0];
		iofi_chain_push(chain, table);
	}
}

static void put_on_shelf(struct iofi_shelf *s, uint64_t *head, uint64_t *tail, size_t count)
{
	iof_lock_take(&s->lock);
	tail[0] = (uintptr_t)s->free;
	if (!s->free)
		s->tail = tail;
	s->free = head;
	s->free_count += count;
	iof_lock_drop(&s->lock);
}

/* All that lies on a shelf, in one step. */
static struct iofi_shelf clear_shelf(struct iofi_shelf *s)
{
	struct iofi_shelf all;

	iof_lock_take(&s->lock);
	all = (struct iofi_shelf){ .free = s->free, .tail = s->tail, .free_count = s->free_count };
	s->free = NULL;
	s->free_count = 0;
	iof_lock_drop(&s->lock);
	return all;
}

/* The first shelf with something on it goes to the chain, and what is not wanted to our own shelf. Pool locked. */
static void take_others(struct iofi_tables *t, size_t want, struct iofi_chain *chain)
{
	for (unsigned i = 0; i < IOF_STRIPES && !chain->count; i++) {
		struct iofi_shelf found = clear_shelf(&t->shelf[i]);

		take_shelved(&found, want, chain);
		if (found.free)
			put_on_shelf(own_shelf(t), found.free, found.tail, found.free_count);
	}
}

/* With an own shelf that was empty. */
static int take_elsewhere(struct iofi_tables *t, size_t want, struct iofi_chain *chain)
{
	int err = 0;

	iof_lock_take(&t->lock);
	if (!t->fresh_count)
		take_others(t, want, chain);
	if (!chain->count) {
		err = t->fresh_count ? 0 : add_chunk(t);
		take_fresh(t, want, chain);
	}
	iof_lock_drop(&t->lock);
	return err;
}

int iofi_tables_take(struct iofi_tables *t, size_t want, struct iofi_chain *chain)
{
	struct iofi_shelf *s = own_shelf(t);
	size_t before = chain->count;

	if (iof_alloc_may_fail(t->alloc))
		return -ENOMEM;
	iof_lock_take(&s->lock);
	take_shelved(s, want, chain);
	iof_lock_drop(&s->lock);
	return chain->count == before ? take_elsewhere(t, want, chain) : 0;
}

void iofi_tables_give(struct iofi_tables *t, uint64_t *head, uint64_t *tail, size_t count)
{
	put_on_shelf(own_shelf(t), head, tail, count);
}

uint64_t iofi_tables_recycled(const struct iofi_tables *t)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < IOF_STRIPES; i++)
		n += t->shelf[i].free_count;
	return n;
}

/* The chunk with the greatest base <= p. */
static uint32_t chunk_below(const struct iofi_tables *t, const char *p)
{
	uint32_t low = 0, high = t->chunk_count;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (t->chunks[mid].base <= p)
			low = mid;
		else
			high = mid;
	}
	return low;
}

uint64_t iofi_tables_ordinal(const struct iofi_tables *t, const void *table)
{
	const char *p = table;
	uint64_t before = 0;
	uint32_t i;

	if (!t->chunk_count)
		return UINT64_MAX;
	i = chunk_below(t, p);
	if (p < t->chunks[i].base || (uint64_t)(p - t->chunks[i].base) >= chunk_bytes(t, t->chunks[i].tables) ||
	    (uintptr_t)p % t->table_bytes)
		return UINT64_MAX;
	for (uint32_t k = 0; k < i; k++)
		before += t->chunks[k].tables;
	return before + (uint64_t)(p - t->chunks[i].base) / t->table_bytes;
}

static void count_idle(struct iofi_tables *t, uint64_t *free)
{
	for (uint32_t i = 0; i < t->chunk_count; i++)
		t->chunks[i].idle = 0;
	for (uint64_t *table = free; table; table = (uint64_t *)(uintptr_t)table[0])
		t->chunks[chunk_below(t, (char *)table)].idle++;
}

static bool chunk_is_idle(const struct iofi_chunk *c)
{
	return c->idle == c->tables;
}

/* The list without the tables of idle chunks, the others in order. */
static struct iofi_shelf without_idle(const struct iofi_tables *t, uint64_t *table)
{
	struct iofi_shelf kept = { .free = NULL };

	for (uint64_t *next; table; table = next) {
		next = (uint64_t *)(uintptr_t)table[0];
		if (chunk_is_idle(&t->chunks[chunk_below(t, (char *)table)]))
			continue;
		if (kept.free)
			kept.tail[0] = (uintptr_t)table;
		else
			kept.free = table;
		kept.tail = table;
		kept.free_count++;
	}
	return kept;
}

static void free_idle_chunks(struct iofi_tables *t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->chunk_count; i++) {
		struct iofi_chunk c = t->chunks[i];

		if (chunk_is_idle(&c)) {
			t->total -= c.tables;
			iof_mem_put(t->alloc, c.base, chunk_bytes(t, c.tables));
		} else {
			t->chunks[kept++] = c;
		}
	}
	t->chunk_count = kept;
}

/* All tables that are not in use, each shelf's in order. Pool locked. */
static struct iofi_chain collect_unused(struct iofi_tables *t)
{
	struct iofi_chain unused = { 0 };

	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		struct iofi_shelf all = clear_shelf(&t->shelf[i]);

		if (!all.free)
			continue;
		all.tail[0] = (uintptr_t)unused.head;
		unused = (struct iofi_chain){ all.free, unused.count + all.free_count };
	}
	take_fresh(t, t->fresh_count, &unused);
	return unused;
}

void iofi_tables_trim(struct iofi_tables *t)
{
	struct iofi_shelf kept;
	uint64_t *unused;

	iof_lock_take(&t->lock);
	unused = collect_unused(t).head;
	count_idle(t, unused);
	kept = without_idle(t, unused);
	if (kept.free)
		put_on_shelf(own_shelf(t), kept.free, kept.tail, kept.free_count);
	free_idle_chunks(t);
	iof_lock_drop(&t->lock);
}
