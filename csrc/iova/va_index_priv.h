/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the address index: private to csrc/iova/va_index*.c. */
#ifndef IOF_IOVA_VA_INDEX_PRIV_H
#define IOF_IOVA_VA_INDEX_PRIV_H

#include "iova/va_index.h"
#include "util/lock.h"
#include "util/slab.h"

#define IOFI_VA_TOP 3u /* the level of the largest slots */

/* log2 of a slot's bytes, by level. A table below a slot of level n has slots of level n - 1. */
static const uint8_t iofi_va_shift[IOFI_VA_TOP + 1] = { 12, 21, 30, 48 };

struct iofi_va_node {
	struct iofi_va_node *left, *right;
	struct iof_va_run *run;
};

/* Two runs and more that stand in one slot, or one and a table of smaller slots. */
struct iofi_va_knot {
	struct iofi_va_node *root; /* a treap: by IOVA, heap order by a hash of the run. First word: readers do not look at it */
	struct iof_va_table *child;
	uint64_t best; /* the run that answers for every address of the slot; 0: have a closer look */
};

struct iofi_va_index {
	struct iof_va_index readers;
	uint32_t refs;
	struct iof_lock lock; /* protects everything below; what readers read changes under it too */
	struct iof_alloc *alloc;
	struct iof_va_table *high; /* slots of 2^48 bytes, from address 0 on; NULL until one above the lowest is used */
	struct iof_va_table *roots; /* every table of 1 GiB slots; they stay */
	struct iof_va_table *spare_tables;
	struct iof_va_run *spare_runs; /* chained by `start` */
	struct iof_slab runs, tables, knots, nodes;
	uint64_t n_runs, n_tables;
	void (*end)(void *arg);
	void *arg;
};

static inline struct iofi_va_index *iofi_va(const struct iof_va_index *ix)
{
	return iof_container_of(ix, struct iofi_va_index, readers);
}

static inline size_t iofi_va_table_size(unsigned level)
{
	return sizeof(struct iof_va_table) + (sizeof(uint64_t) << (iofi_va_shift[level] - iofi_va_shift[level - 1]));
}

static inline struct iof_va_run *iofi_va_run_of(uint64_t slot)
{
	return (struct iof_va_run *)(uintptr_t)slot;
}

static inline struct iof_va_table *iofi_va_table_of(uint64_t slot)
{
	return (struct iof_va_table *)(uintptr_t)(slot - IOF_VA_SLOT_TABLE);
}

static inline struct iofi_va_knot *iofi_va_knot_of(uint64_t slot)
{
	return (struct iofi_va_knot *)(uintptr_t)(slot - IOF_VA_SLOT_KNOT);
}

/* Under the lock: the table below a slot; NULL: none. */
static inline struct iof_va_table *iofi_va_child(uint64_t slot)
{
	if (slot & IOF_VA_SLOT_TABLE)
		return iofi_va_table_of(slot);
	return slot & IOF_VA_SLOT_KNOT ? iofi_va_knot_of(slot)->child : NULL;
}

/* Under the lock: the slot of the largest kind for va; NULL: there was never anything. */
static inline uint64_t *iofi_va_top(struct iofi_va_index *ix, uint64_t va)
{
	if (!(va >> iofi_va_shift[IOFI_VA_TOP]))
		return &ix->readers.low;
	return ix->high ? &ix->high->slot[va >> iofi_va_shift[IOFI_VA_TOP]] : NULL;
}

/* Under the lock: the run with exactly these numbers. */
struct iof_va_run *iofi_va_exact(struct iofi_va_index *ix, uint64_t va, uint64_t last, uint64_t iova);

/* va_index_knot.c. By IOVA; runs with the same one by their place in memory. */
void iofi_va_knot_add(struct iofi_va_knot *knot, struct iofi_va_node *node);
struct iofi_va_node *iofi_va_knot_take(struct iofi_va_knot *knot, const struct iof_va_run *run); /* NULL: it is not there */
struct iof_va_run *iofi_va_knot_first(const struct iofi_va_knot *knot); /* the lowest IOVA; NULL: none */
/* The first for which `wanted` says so. */
struct iof_va_run *iofi_va_knot_find(const struct iofi_va_knot *knot, bool (*wanted)(const struct iof_va_run *, const void *),
				     const void *arg);
bool iofi_va_knot_is_valid(const struct iofi_va_knot *knot, uint64_t *count);

#endif
