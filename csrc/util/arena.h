/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena: an allocator over one MAP_SHARED mapping at an address reserved once, so that a parent and its forked
 * children see the same engine at the same pointers.
 *
 * The mapping is reserved whole (PROT_READ|WRITE over a sealed memfd of the full size; pages appear on first use).
 * Small blocks come from size classes (powers of two and their three-quarters up to 64 KiB) with free lists, large ones
 * from a first-fit list of page runs that merges neighbours. One process-shared lock; freed memory is reused, and page
 * runs of 1 MiB and more are given back to the system (MADV_REMOVE). Chunks of a size class stay with their class. When
 * the system runs out of memory, touching a fresh page raises SIGBUS.
 */
#ifndef IOF_UTIL_ARENA_H
#define IOF_UTIL_ARENA_H

#include "util/alloc.h"

struct iof_arena;

/* Reserves `size` bytes (rounded up to 2 MiB), the arena's own header among them. 0, -ENOMEM, -EINVAL (size 0). */
int iof_arena_create(size_t size, struct iof_arena **out);
void iof_arena_destroy(struct iof_arena *a); /* unmaps it in this process; everything in it is gone here */
struct iof_alloc *iof_arena_alloc(struct iof_arena *a);
/* Re-derives free lists and totals; for tests, with no call under way elsewhere. */
bool iof_arena_is_valid(struct iof_arena *a);

#endif
