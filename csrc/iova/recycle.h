/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recycle: the placement for speed. Sizes are rounded up to size classes (powers of two from `granule`, at least 4096, up to 2^21). A class owns windows: aligned
 * stretches of 2 MiB taken first_fit from the space below, each cut into slots of the class's size with one bit per slot, free or
 * taken. The free bits of a window are its magazine: take clears the lowest one, give sets it again; neither looks at the space.
 *
 * give() refuses what was not taken (-ENOENT) and what is given twice (-EINVAL). Sizes above 2^21 go straight to the space, and
 * so does a class for which no window is to be had any more while a single slot is. Windows whose slots are all free stay
 * for the next take; they go back to the space when it is full (before -ENOSPC) or by trim().
 *
 * What is left of a window with slots taken serves its class alone; once the space's allowed list has left the window, it serves
 * nobody until the last slot is given back. So a take may be -ENOSPC although such a remainder has room.
 *
 * The space may hold areas of the caller's too; the values of recycle's own areas are addresses of its own memory.
 *
 * Not locked. For several threads: magazine.h.
 */
#ifndef IOF_IOVA_RECYCLE_H
#define IOF_IOVA_RECYCLE_H

#include "iova/space.h"

#define IOF_RECYCLE_WINDOW_SHIFT 21u

struct iof_recycle;

/* Over `s`, which stays the caller's; granule: power of two. 0, -EINVAL, -ENOMEM. */
int iof_recycle_create(struct iof_alloc *a, struct iof_space *s, uint64_t granule, struct iof_recycle **out);
void iof_recycle_destroy(struct iof_recycle *r); /* gives everything it took back to the space */

/* 0, -EINVAL (length 0), -EOVERFLOW, -ENOSPC, -ENOMEM. The result is aligned to the size class, at most 2 MiB. */
int iof_recycle_take(struct iof_recycle *r, uint64_t length, uint64_t *iova);

/* 0; -ENOENT: nothing of that class was ever taken there; -EINVAL: it is free already, or length 0. Needs no memory. */
int iof_recycle_give(struct iof_recycle *r, uint64_t iova, uint64_t length);

/* How many bytes take(length) sets aside: the class, or whole granules above it. 0: too long. */
uint64_t iof_recycle_size(const struct iof_recycle *r, uint64_t length);

/* What is in use at `at`: a range that was taken, or an area of the caller's. False: nothing. */
bool iof_recycle_find(const struct iof_recycle *r, uint64_t at, struct iof_range *out);

/* log2 of the slots of the window that `at` lies in; 0: there is none. */
unsigned iof_recycle_slot_shift(const struct iof_recycle *r, uint64_t at);
bool iof_recycle_is_ready(const struct iof_recycle *r, uint64_t length); /* would a take find a slot without opening a window? length > 0 */

/* The lowest such range that intersects `in`. */
bool iof_recycle_first(const struct iof_recycle *r, struct iof_range in, struct iof_range *out);

uint64_t iof_recycle_taken(const struct iof_recycle *r); /* how many are out */
uint64_t iof_recycle_live(const struct iof_recycle *r); /* those, and the caller's areas in the space */
void iof_recycle_trim(struct iof_recycle *r); /* windows with nothing taken go back to the space */

/* The allowed list has changed: nothing more is taken from the windows there are; each goes back with its last slot. */
void iof_recycle_retire(struct iof_recycle *r);
bool iof_recycle_is_valid(const struct iof_recycle *r);

#endif
