/* SPDX-License-Identifier: Apache-2.0 */
/* Held regions, as the public API has them. */
#include "iommufd_fast_hold.h"

#include <errno.h>

#include "ioas/machine.h"
#include "pages/region.h"

struct iof_held {
	struct iof_machine *machine; /* one reference */
	struct iof_region region;
};

static int hold(struct iof_held *held, const struct iof_hold *rq)
{
	struct iof_memory *m = &held->machine->memory;
	enum iof_hold_policy policy = rq->policy ? (enum iof_hold_policy)(rq->policy - 1) : m->policy;

	return iof_region_hold(m, rq->address, rq->length, rq->writable, policy, &held->region);
}

int iof_machine_hold(struct iof_machine *m, const struct iof_hold *rq, struct iof_held **out)
{
	struct iof_held *held;
	int rc;

	if (rq->size != sizeof(*rq) || rq->policy > IOF_POLICY_IO_URING)
		return -EINVAL;
	held = iof_mem_zget(m->memory.alloc, sizeof(*held), 16);
	if (!held)
		return -ENOMEM;
	held->machine = m;
	rc = hold(held, rq);
	if (rc) {
		iof_mem_put(m->memory.alloc, held, sizeof(*held));
		return rc;
	}
	iof_machine_ref(m);
	*out = held;
	return 0;
}

void iof_held_release(struct iof_held *held)
{
	struct iof_machine *m = held ? held->machine : NULL;

	if (!m)
		return;
	iof_region_release(&m->memory, &held->region);
	iof_mem_put(m->memory.alloc, held, sizeof(*held));
	iof_machine_unref(m);
}
