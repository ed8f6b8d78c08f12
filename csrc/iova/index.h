/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered range index: which IOVAs are used, by what, and where the holes are.
 *
 * A B+-tree of disjoint closed ranges, each with one 64-bit value. Nodes are whole cache lines. Every child pointer of an inner node
 * carries, for each alignment class that the placement rule can ask for (1, 2^11 … 2^21), an upper bound of the largest
 * aligned hole below it. A removal raises the bounds exactly; an insertion leaves them alone; a search that is let down by a bound
 * recomputes it on its way back. So a search is O(log n) amortised whatever the holes look like, and insertion stays cheap.
 *
 * The hole that belongs to an entry is the one *before* it; the hole after the last entry ends at 2^64-1.
 *
 * Two dangerous words: `hole` is never used space inside a window given by the caller; `last` is inside.
 *
 * Not locked: the caller's lock covers reads and writes alike.
 */
#ifndef IOF_IOVA_INDEX_H
#define IOF_IOVA_INDEX_H

#include "util/alloc.h"
#include "util/range.h"

struct iof_index; /* opaque; made by iof_index_create() */

struct iof_index_entry {
	struct iof_range range;
	uint64_t value;
};

struct iof_index_stats {
	uint64_t entries, leaves, inner_nodes, bytes;
	uint64_t visited; /* nodes that searches for holes have looked into, ever: what tests of growth count */
	uint32_t height; /* levels, the leaves included */
};

int iof_index_create(struct iof_alloc *a, struct iof_index **out); /* 0, -ENOMEM */
void iof_index_destroy(struct iof_index *ix); /* values are not looked at */

/* 0; -EEXIST: intersects an entry; -ENOMEM: nothing changed; -EINVAL: start > last. */
int iof_index_insert(struct iof_index *ix, struct iof_range r, uint64_t value);

/*
 * Memory for n insertions that have to succeed later on: of entries side by side, into one hole, in ascending order, whatever else was inserted meanwhile. Giving it back,
 * turning `sure` on and inserting is one step under the caller's lock; `sure` turns injected failures off, and nothing else. 0, -ENOMEM.
 */
struct iof_index_spare {
	void *leaves, *inners; /* chains */
};
int iof_index_spare_get(struct iof_index *ix, uint64_t n, struct iof_index_spare *spare);
void iof_index_spare_put(struct iof_index *ix, struct iof_index_spare *spare);
void iof_index_sure(struct iof_index *ix, bool sure);

/* Removes the entry that starts at `start`. False when there is none. Needs no memory. */
bool iof_index_remove(struct iof_index *ix, uint64_t start);

/*
 * Several at once (index_run.c): the state that as many single calls would leave behind, in a descent and a move or two for each leaf.
 *
 * insert_run: n entries side by side, each begins right behind the one before. Returns how many went in; *rc: 0, or what kept the next one out.
 * remove_many: by their starts. Returns how many went: it stops at the first that is not there. Needs no memory.
 * match: values[i] of the entry that is exactly `lengths[i]` bytes from starts[i]. Returns how many there are before the first that is none.
 *
 * The last two are quick where what stands side by side in the arguments does so in the index; any order is right.
 */
size_t iof_index_insert_run(struct iof_index *ix, const struct iof_index_entry *e, size_t n, int *rc);
size_t iof_index_remove_many(struct iof_index *ix, const uint64_t *starts, size_t n);
size_t iof_index_match(const struct iof_index *ix, const uint64_t *starts, const uint64_t *lengths, size_t n, uint64_t *values);

/* Gives the entry that starts at `start` another value. False when there is none. */
bool iof_index_set(struct iof_index *ix, uint64_t start, uint64_t value);

/* Cuts an entry in two: [start, left_last] keeps its value, the rest gets `value`. -ENOENT, -EINVAL: no such cut; -ENOMEM: nothing changed. */
int iof_index_split(struct iof_index *ix, uint64_t start, uint64_t left_last, uint64_t value);

/* The entry that starts at `start` becomes part of the one that ends just before it. False when there are not two such. Needs no memory. */
bool iof_index_join(struct iof_index *ix, uint64_t start);

/* The entry that covers `at`. Reading functions write nothing: they may run side by side. */
bool iof_index_find(const struct iof_index *ix, uint64_t at, struct iof_index_entry *out);

/* The lowest entry that intersects r. */
bool iof_index_first(const struct iof_index *ix, struct iof_range r, struct iof_index_entry *out);

/* Batch of iof_index_find(): values[i] of the entry covering at[i], or `missing`. Interleaved for throughput. */
void iof_index_find_many(const struct iof_index *ix, const uint64_t *at, size_t n, uint64_t missing, uint64_t *values);

/* The same with whole entries; where there is none, start is 1 and last 0. */
void iof_index_find_entries(const struct iof_index *ix, const uint64_t *at, size_t n, struct iof_index_entry *entries);

uint64_t iof_index_count(const struct iof_index *ix);

/*
 * The lowest start s inside `window` where s = round_up(hole start, align) | or_bits and [s, s + length - 1] is unused, by the rule of the kernel's
 * automatic IOVA choice (behaviour.md 3.6bis, step 6: rounding overflow, s >= last and last - s < length - 1 are all "no fit";
 * the window itself is clipped hole by hole, its own start is not rounded again). align: a power of two up to 2^21; or_bits < 4096.
 * False: no hole fits. The index may tighten its bounds, so this is a write for the caller's lock.
 */
bool iof_index_hole(struct iof_index *ix, struct iof_range window, uint64_t length, uint64_t align, uint64_t or_bits,
		    uint64_t *start);

/* Is everything inside as it should be: order, fill, links, bounds (never below the truth)? For tests. */
bool iof_index_is_valid(const struct iof_index *ix);
void iof_index_stats(const struct iof_index *ix, struct iof_index_stats *out);

#endif
