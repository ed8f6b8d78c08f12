/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: memory held explicitly, before it is mapped piece by piece (hold.h). What is mapped inside with the same policy, or with
 * `probe`, costs no more than with `trust`. A region may overlap others.
 */
#ifndef IOF_PAGES_REGION_H
#define IOF_PAGES_REGION_H

#include "pages/pages.h"

struct iof_region {
	struct iof_range pages; /* page numbers */
	bool writable;
	enum iof_hold_policy policy;
};

/*
 * Holds the pages in which [va, va+length) lies. -EINVAL length 0; -EOVERFLOW; -EFAULT not there or (`writable`) read-only; -ENOMEM; what
 * iofi_holds_take() says; -EOPNOTSUPP a machine in shared memory.
 */
int iof_region_hold(struct iof_memory *m, uint64_t va, uint64_t length, bool writable, enum iof_hold_policy policy,
		    struct iof_region *out);
void iof_region_release(struct iof_memory *m, struct iof_region *region); /* what is mapped inside stays held by itself */

/* Can memory be held that way here? 0; -EPERM, -EOPNOTSUPP, -ENOMEM. */
int iof_hold_policy_try(struct iof_memory *m, enum iof_hold_policy policy);

#endif
