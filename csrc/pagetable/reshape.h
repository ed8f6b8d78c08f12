/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing leaves that are in use, and copying a page table elsewhere. Engines do not need any of this; dirty tracking
 * with small leaves, partial unmaps and emulators that put tables into a guest's memory do.
 *
 * Each of them is a writer: nobody else maps or unmaps in the range. Lookups may go on; while leaves are cut and
 * merged, they find the same translations all the time.
 */
#ifndef IOF_PAGETABLE_RESHAPE_H
#define IOF_PAGETABLE_RESHAPE_H

#include "pagetable/pagetable.h"

/*
 * Cuts every leaf that intersects `r` and is larger than 2^size_lg2 into leaves of the largest size in use up to that.
 * The pieces of a dirty leaf are dirty. 0; -EINVAL no size in use is that small; -ENOMEM some are cut, and what is
 * translated is the same.
 */
int iof_pt_cut(struct iof_pt *pt, struct iof_range r, unsigned size_lg2);

/*
 * Merges neighbouring leaves, and whole tables of them, into the largest leaves that translate the same. Needs to be
 * alone, as iof_pt_trim() does. Tables that go are gathered.
 */
void iof_pt_merge(struct iof_pt *pt, struct iof_pt_gather *g);

/*
 * Gives all leaves of `r` other permissions: 0, or an error and nothing has changed: -EINVAL a permission that cannot
 * be expressed, or `r` begins or ends inside a leaf (cut it first); -ENOENT a hole; -ERANGE.
 */
int iof_pt_protect(struct iof_pt *pt, struct iof_range r, unsigned prot);

/*
 * Copies all tables into `out` as they would be at address `base`, with table addresses to match; the root is first.
 * Returns the bytes that takes, also when out is NULL. `base` is a multiple of the largest table; `out` is zeroed.
 */
uint64_t iof_pt_image(const struct iof_pt *pt, uint64_t base, uint64_t *out);

#endif
