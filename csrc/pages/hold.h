/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding pages physically, for all containers of a machine together.
 *
 * A page of this process is held once however many containers show it, and let go with the last. There are two ways:
 *
 * mlock      Locks do not nest, so they are counted here, page by page. A page that the program itself had locked when the first hold
 *            came is marked as *theirs*, and stays locked when the last hold goes. What cannot be known: a lock that the program takes
 *            (or drops) while pages are held; there is only one bit a page, and it is the kernel's. Locked pages stay in memory; the
 *            kernel may still move them.
 * io_uring   Registered buffers, which are long-term pins: the pages cannot even move. Each stretch takes a slot of a ring; a
 *            ring has 16 384, and another ring is made when one is full. A slot is given back when no page of it is held any more, so
 *            neighbours may stay pinned a little longer. Memory must be writable, and must not be of a file on disk.
 *
 * And *regions*: memory that somebody holds explicitly (iof_region_hold), before it is mapped piece by piece. It was looked at
 * then; a container with the policy `probe` inside a region is not looked at again.
 *
 * Numbers are page numbers (address >> 12), ranges closed. One process: a machine in shared memory has no struct iofi_holds.
 *
 * Locks: one, inside a container's; it is held during the system calls.
 */
#ifndef IOF_PAGES_HOLD_H
#define IOF_PAGES_HOLD_H

#include "pages/pages.h"

struct iofi_holds;

int iofi_holds_create(struct iof_alloc *a, struct iofi_holds **out); /* -ENOMEM */
void iofi_holds_destroy(struct iofi_holds *h); /* NULL is fine; whatever is held is let go */

static inline bool iofi_is_physical(unsigned policy)
{
	return policy >= IOF_HOLD_MLOCK;
}

/*
 * For each hold of a container, one reserve before anything is taken and one unreserve after everything is given. -ENOMEM.
 * What a container has taken consists at any time of no more runs than it has holds.
 */
int iofi_holds_reserve(struct iofi_holds *h, unsigned policy);
void iofi_holds_unreserve(struct iofi_holds *h, unsigned policy);

/*
 * Takes pages; they are there and writable. All or nothing: -ENOMEM no memory, or RLIMIT_MEMLOCK; -EPERM, -EOPNOTSUPP: io_uring may
 * not be used here, or cannot pin this kind of memory.
 */
int iofi_holds_take(struct iofi_holds *h, unsigned policy, struct iof_range pages);
/* Pages that were taken, in any pieces. Cannot fail. */
void iofi_holds_give(struct iofi_holds *h, unsigned policy, struct iof_range pages);

/* Is all of it inside regions (that were checked to be writable)? */
bool iofi_holds_covers_slow(struct iofi_holds *h, struct iof_range pages, bool writable);

/* How many containers' holds count for this page; the mark. For tests. */
uint32_t iofi_holds_count(struct iofi_holds *h, unsigned policy, uint64_t page);
bool iofi_holds_is_valid(struct iofi_holds *h);

/* ---- hold_locks.c ---- */

/* Calls fn for every part of the range that the program has locked, ascending, until it returns something else than 0. */
int iofi_locks_scan(struct iof_range pages, int (*fn)(void *ctx, struct iof_range pages), void *ctx);
/* Is none of it locked, for certain? One system call, which changes nothing that matters. */
bool iofi_locks_none(struct iof_range pages);

/* ---- hold_uring.c ---- */

struct iofi_rings {
	struct iof_alloc *alloc;
	struct iofi_ring *first;
	struct iofi_pinned *at; /* what is registered: ascending, disjoint */
	size_t n, room;
};

int iofi_rings_pin(struct iofi_rings *rings, struct iof_range pages); /* none of them is pinned */
/* The first stretch of pages in [*first, *last] that is pinned: true and both set to it. Its slot may reach further. */
bool iofi_rings_find(const struct iofi_rings *rings, uint64_t *first, uint64_t *last);
/* Slots in which `used` finds no page that is still held, among those that meet the range. */
void iofi_rings_unpin(struct iofi_rings *rings, struct iof_range pages, bool (*used)(void *ctx, struct iof_range pages), void *ctx);
void iofi_rings_fini(struct iofi_rings *rings);
/* In order, and each slot with a page that is held. */
bool iofi_rings_is_valid(const struct iofi_rings *rings, bool (*used)(void *ctx, struct iof_range pages), void *ctx);
int iofi_rings_try(struct iofi_rings *rings); /* can it be used at all? 0; -EPERM, -EOPNOTSUPP, -ENOMEM … */

#endif
