/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recycle: the placement for speed. Sizes are rounded up to size classes (powers of two from `granule` up to 2^21 and what `granule` allows);
 * each class keeps magazines of free addresses carved from windows, and a window is a naturally aligned stretch taken first_fit
 * from the space below. Larger sizes go straight to the space. take and give of a class are a pop and a push.
 *
 * give() refuses what was not taken (-ENOENT) and what is given twice (-EINVAL): each window has a bit per slot.
 * A window whose slots are all free goes back to the space when the space would otherwise be full (-ENOSPC path), or by trim().
 *
 * Not locked.
 */
#ifndef IOF_IOVA_RECYCLE_H
#define IOF_IOVA_RECYCLE_H

#include "iova/space.h"

struct iof_recycle;

/* Over `s`, which stays the caller's; granule: power of two. 0, -EINVAL, -ENOMEM. */
int iof_recycle_create(struct iof_alloc *a, struct iof_space *s, uint64_t granule, struct iof_recycle **out);
void iof_recycle_destroy(struct iof_recycle *r); /* gives every window back to the space */

/* 0, -EINVAL (length 0), -EOVERFLOW, -ENOSPC, -ENOMEM. The result is aligned to the size class. */
int iof_recycle_take(struct iof_recycle *r, uint64_t length, uint64_t *iova);
int iof_recycle_give(struct iof_recycle *r, uint64_t iova, uint64_t length);
void iof_recycle_trim(struct iof_recycle *r);
bool iof_recycle_is_valid(const struct iof_recycle *r);

#endif
