/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty tracking of a paging HWPT (behaviour.md 5.6, 5.7). */
#ifndef IOF_IOAS_DIRTY_H
#define IOF_IOAS_DIRTY_H

#include "ioas/hwpt.h"

/* -EOPNOTSUPP: not made with DIRTY_TRACKING. Enabling clears what is dirty first. */
int iof_hwpt_set_tracking(struct iof_hwpt *hwpt, bool on);

struct iof_dirty_request {
	uint64_t iova, length, page_size;
	uint64_t bitmap; /* the caller's memory; bits are only ever set */
	bool keep; /* NO_CLEAR */
};

/* GET_DIRTY_BITMAP from the HWPT on: errnos in the order of 5.7; the walk's own errors are not told (R5.7.1). */
int iof_hwpt_get_dirty(struct iof_hwpt *hwpt, const struct iof_dirty_request *rq);

/* The same walk for callers in this library: exact leaves, every hole passed over, nothing under-reported. 0, -EOPNOTSUPP, -ERANGE. */
int iof_hwpt_visit_dirty(struct iof_hwpt *hwpt, struct iof_range r, bool clear,
			 void (*fn)(void *ctx, uint64_t start, uint64_t length), void *ctx);

/* Marks the item that translates iova: a device wrote there. 0, -ENOENT, -EINVAL tracking is off. */
int iof_hwpt_mark_dirty(struct iof_hwpt *hwpt, uint64_t iova);

#endif
