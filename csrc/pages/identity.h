/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page identity: synthetic device addresses (behaviour.md I4) and pin counts per page (I5).
 *
 * Two virtual pages that are the same page of one memfd, shared anonymous mapping or file get the same synthetic
 * address; private pages get one from (process, address). Sources are looked up in /proc/self/maps. Each (device,
 * inode) or process is an object with windows of the synthetic space (51 bits), so that consecutive pages have
 * consecutive addresses and 2 MiB alignment of source and synthetic address agree. The address of a page stays the same
 * at least while it is pinned. Over the space, a run map of pin counts.
 *
 * Locked inside; one table per machine.
 */
#ifndef IOF_PAGES_IDENTITY_H
#define IOF_PAGES_IDENTITY_H

#include "util/alloc.h"
#include "util/range.h"

struct iof_identities;

struct iof_identity_run {
	uint64_t address; /* synthetic address of the run's first byte */
	uint64_t npages;
};

int iof_identities_create(struct iof_alloc *a, struct iof_identities **out);
void iof_identities_destroy(struct iof_identities *t);

/*
 * Splits the pages [start, start + npages*PAGE) of this process into runs of consecutive synthetic addresses: calls fn
 * for each, ascending. 0; -EFAULT a page is not mapped (or not with the permission `write` wants); -ENOMEM; or what fn
 * returned when not 0.
 */
int iof_identity_runs(struct iof_identities *t, uint64_t start, uint64_t npages, bool write,
		      int (*fn)(void *ctx, struct iof_identity_run run), void *ctx);

/* The process address where a synthetic page can be reached in this process now, or UINT64_MAX: what soft DMA uses. */
uint64_t iof_identity_reach(struct iof_identities *t, uint64_t address);
/* The same for up to *n bytes, cut to what goes on in one piece there; with `write` only where they can be written. */
uint64_t iof_identity_reach_run(struct iof_identities *t, uint64_t address, bool write, uint64_t *n);

/* How many containers have the page at this synthetic address pinned. They count through identity_hold.h. */
uint64_t iof_identity_pins(struct iof_identities *t, uint64_t address);

bool iof_identities_is_valid(struct iof_identities *t);

#endif
