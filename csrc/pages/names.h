/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's synthetic addresses: which slot has which, as ascending, disjoint records. Private to this folder.
 *
 * Written by building a copy and swapping it in, so that a failure half-way costs nothing. Mostly one record, so an
 * array.
 */
#ifndef IOF_PAGES_NAMES_H
#define IOF_PAGES_NAMES_H

#include "pages/identity.h"
#include "util/alloc.h"
#include "util/range.h"

struct iofi_name {
	uint64_t slot;
	uint64_t npages;
	uint64_t address; /* of the first slot's first byte */
};

struct iofi_names {
	struct iof_alloc *alloc;
	struct iofi_name *v;
	uint64_t n, room;
	uint64_t next; /* the slot iofi_names_add() is at */
};

void iofi_names_init(struct iofi_names *names, struct iof_alloc *a);
void iofi_names_fini(struct iofi_names *names);
int iofi_names_copy(struct iofi_names *to, const struct iofi_names *from); /* to: as after init. -ENOMEM */

/*
 * Runs given to iofi_names_add() name the slots from `slot` on, over whatever they were called before. Its ctx is the
 * list; -ENOMEM.
 */
void iofi_names_begin(struct iofi_names *names, uint64_t slot);
int iofi_names_add(void *ctx, struct iof_identity_run run);

/* Calls fn for the addresses of these slots, all of which have a name. */
void iofi_names_each(const struct iofi_names *names, struct iof_range slots, struct iof_identities *t,
		     void (*fn)(struct iof_identities *t, struct iof_identity_run run));

/* The address of a byte (its slot has a name), and how many of `want` bytes follow contiguously. */
uint64_t iofi_names_address(const struct iofi_names *names, uint64_t byte, uint64_t want, uint64_t *contiguous);

bool iofi_names_cover(const struct iofi_names *names, struct iof_range slots);
bool iofi_names_is_valid(const struct iofi_names *names, uint64_t npages);

#endif
