/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run map: slot -> count, kept as runs of equal count. Private to this folder.
 *
 * Only the edges are stored: one node wherever the count differs from the slot before, with the count from there on. n
 * intervals have at most 2n ends, so 2n nodes are always enough, and every intermediate step of a change needs no more:
 * both ends of the interval being added or taken away belong to those n. Hence the rule that makes removal infallible:
 * whoever adds an interval first reserves two nodes, and gives two back after it has been removed.
 *
 * Intervals may be removed in other pieces than they were added in, as long as the reservation covers the edges that
 * result, and two more during the change.
 *
 * Not locked. The edges form a treap: expected O(log runs) for a lookup and for each run a change touches.
 */
#ifndef IOF_PAGES_RUNMAP_H
#define IOF_PAGES_RUNMAP_H

#include "util/alloc.h"

struct iofi_edge; /* 32 bytes */

struct iofi_runmap {
	struct iof_alloc *alloc;
	struct iofi_edge *root;
	struct iofi_edge *spare; /* reserved and not in the tree */
	uint64_t used; /* nodes in the tree */
	uint64_t reserved; /* nodes owned: in the tree and spare */
	uint32_t seed; /* of the tree's priorities */
};

/* What a lookup says: from the slot asked for up to `last` every slot has this count. */
struct iofi_span {
	uint64_t last;
	uint32_t count;
};

void iofi_runmap_init(struct iofi_runmap *map, struct iof_alloc *alloc);
void iofi_runmap_fini(struct iofi_runmap *map); /* frees all nodes, whatever the counts */

/* n more nodes. -ENOMEM: nothing changed. */
int iofi_runmap_reserve(struct iofi_runmap *map, uint64_t n);
void iofi_runmap_unreserve(struct iofi_runmap *map, uint64_t n); /* n of those not in the tree */

/* Count + 1 or - 1 on [first, last]; last < 2^64-1. Needs what the reservation provides and cannot fail. */
void iofi_runmap_add(struct iofi_runmap *map, uint64_t first, uint64_t last);
void iofi_runmap_remove(struct iofi_runmap *map, uint64_t first, uint64_t last);

/* The run at slot `at`, cut off at `last`; a count of 0 is a run too. */
struct iofi_span iofi_runmap_span(const struct iofi_runmap *map, uint64_t at, uint64_t last);

/*
 * The first run of exactly `count` within [*first, *last]: true and both set to it, or false. To go on, ask again from
 * behind the run that was found.
 */
bool iofi_runmap_find(const struct iofi_runmap *map, uint32_t count, uint64_t *first, uint64_t *last);

/* Order, priorities, no edge between equal counts, the last run empty, node totals. */
bool iofi_runmap_is_valid(const struct iofi_runmap *map);

#endif
