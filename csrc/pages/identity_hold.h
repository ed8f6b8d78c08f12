/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The half of the identity table that only containers use: looking addresses up and counting pins as one step.
 *
 * A window of the synthetic space may be given to another object once it has no pins, so nothing may come between
 * learning a page's address and pinning it: both happen under the table's lock. Reading /proc, which is slow, happens
 * before.
 */
#ifndef IOF_PAGES_IDENTITY_HOLD_H
#define IOF_PAGES_IDENTITY_HOLD_H

#include "pages/identity.h"
#include "pages/maps.h"

typedef int (*iofi_identity_fn)(void *ctx, struct iof_identity_run run);

void iofi_identity_lock(struct iof_identities *t);
void iofi_identity_unlock(struct iof_identities *t);

/* All of these: with the lock. */

/*
 * iof_identity_runs() over mappings read before; the mappings cover at least [start, start + npages*PAGE) or that is
 * -EFAULT.
 */
int iofi_identity_lookup(struct iof_identities *t, const struct iofi_maps *maps, uint64_t start, uint64_t npages,
			 bool write, iofi_identity_fn fn, void *ctx);

/* The same for pages of a file; whether it has that many is not asked. */
int iofi_identity_lookup_file(struct iof_identities *t, uint32_t device, uint64_t inode, uint64_t offset,
			      uint64_t npages, iofi_identity_fn fn, void *ctx);

/*
 * Pin counts. They need run map nodes (runmap.h): two for each piece of consecutive addresses that a container has
 * pinned, and two more while one is being changed.
 */
int iofi_identity_reserve(struct iof_identities *t, uint64_t nodes); /* -ENOMEM: nothing changed */
void iofi_identity_unreserve(struct iof_identities *t, uint64_t nodes);
void iofi_identity_pin(struct iof_identities *t, struct iof_identity_run run);
void iofi_identity_unpin(struct iof_identities *t, struct iof_identity_run run);

#endif
