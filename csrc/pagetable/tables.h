/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of table pages behind one page table.
 *
 * All tables of a pool have one size: 4 KiB, or what ARM's larger granules ask for. They are carved from chunks that
 * grow with the page table (16 KiB or one table at first, 2 MiB at the most): a small page table stays small, and a
 * large one wastes less than 2 %. A table that is not in use lies on a list, linked through its first word; nothing
 * in it is cleared, whoever takes it either overwrites it whole or zeroes it.
 *
 * There is a list for each of a few groups of threads, so that what a thread gives back is what it takes next, still in
 * its cache, and so that two threads that map and unmap do not meet. A thread whose list is empty takes tables never
 * used before, then another group's whole list; the pool grows when there is neither.
 *
 * The link is a multiple of 4096. In every format such an entry is "not present", so a walker that is still inside a
 * table just gathered reads a hole in its first slot and the old leaves in the others, never a wild address.
 */
#ifndef IOF_PAGETABLE_TABLES_H
#define IOF_PAGETABLE_TABLES_H

#include "pagetable/entries.h"
#include "pagetable/pagetable.h"
#include "util/alloc.h"
#include "util/lock.h"
#include "util/stripe.h"

/* Unused tables, linked through their first word. */
struct iofi_chain {
	uint64_t *head;
	size_t count;
};

struct iofi_chunk {
	char *base;
	uint32_t tables;
	uint32_t idle; /* scratch of iofi_tables_trim() */
};

/* Recycled tables, contents arbitrary, of the threads of one iof_stripe(). */
struct iofi_shelf {
	_Alignas(IOF_CACHELINE) struct iof_lock lock; /* taken with the pool's lock held, or alone */
	uint64_t *free;
	uint64_t *tail; /* the last of them, when there are any */
	uint64_t free_count;
};

struct iofi_tables {
	struct iof_alloc *alloc;
	uint32_t table_bytes; /* constant; a power of two */
	struct iof_lock lock; /* everything below but the shelves */
	char *fresh; /* the rest of the newest chunk, never used yet */
	uint32_t fresh_count;
	uint32_t chunk_count;
	uint32_t chunk_room;
	struct iofi_chunk *chunks; /* by ascending base */
	uint64_t total; /* tables in all chunks */
	struct iofi_shelf shelf[IOF_STRIPES];
};

void iofi_tables_init(struct iofi_tables *t, struct iof_alloc *a, uint32_t table_bytes);
void iofi_tables_fini(struct iofi_tables *t); /* frees every table, in use or not */

/* Adds at least one and at most `want` tables to the chain, contents arbitrary. 0 or -ENOMEM. One fallible step. */
int iofi_tables_take(struct iofi_tables *t, size_t want, struct iofi_chain *chain);
void iofi_tables_give(struct iofi_tables *t, uint64_t *head, uint64_t *tail, size_t count);

/* How many tables lie on the shelves: a moment's figure while others take and give. */
uint64_t iofi_tables_recycled(const struct iofi_tables *t);

/* Returns chunks of which no table is in use to the allocator. */
void iofi_tables_trim(struct iofi_tables *t);

/* The ordinal of a table among all of the pool's, or UINT64_MAX for an address that is none. For checks. */
uint64_t iofi_tables_ordinal(const struct iofi_tables *t, const void *table);

static inline uint64_t *iofi_chain_pop(struct iofi_chain *c)
{
	uint64_t *table = c->head;

	c->head = (uint64_t *)(uintptr_t)table[0];
	c->count--;
	return table;
}

static inline void iofi_chain_push(struct iofi_chain *c, uint64_t *table)
{
	table[0] = (uintptr_t)c->head;
	c->head = table;
	c->count++;
}

/* For a table that was unlinked a moment ago: walkers may still read it, so the link is an atomic store. */
static inline void iofi_gather_push(struct iof_pt_gather *g, uint64_t *table)
{
	__atomic_store_n(table, (uint64_t)(uintptr_t)g->tables, __ATOMIC_RELAXED);
	if (!g->tables)
		g->tail = table;
	g->tables = table;
	g->count++;
}

#endif
