/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/physical.h"

#include <errno.h>

#include "pages/backing.h"

/* The memory of a device's is held by its exporter. */
static bool applies(const struct iof_pages *p)
{
	return iof_unlikely(iofi_is_physical(p->policy)) && p->kind != IOF_PAGES_DMABUF;
}

int iofi_physical_begin(struct iof_pages *p, struct iof_memory *m)
{
	int rc = applies(p) ? iofi_holds_reserve(m->holds, p->policy) : 0;

	if (!rc && applies(p))
		atomic_fetch_add_explicit(&m->physical, 1, memory_order_relaxed);
	return rc;
}

void iofi_physical_end(struct iof_pages *p, struct iof_memory *m)
{
	if (!applies(p))
		return;
	iofi_holds_unreserve(m->holds, p->policy);
	atomic_fetch_sub_explicit(&m->physical, 1, memory_order_relaxed);
}

/* Where slot 0 is in this process; 0: nowhere, a file that is too long to be mapped. */
static uint64_t address(const struct iof_pages *p)
{
	if (iofi_is_user(p))
		return p->base;
	return p->backing->window ? iofi_window_address(p->backing->window, p->backing->offset) : 0;
}

static struct iof_range pages_of(uint64_t base, struct iof_range slots)
{
	return (struct iof_range){ (base >> IOF_PAGE_SHIFT) + slots.start, (base >> IOF_PAGE_SHIFT) + slots.last };
}

int iofi_physical_take(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	uint64_t base;

	if (!applies(p))
		return 0;
	base = address(p);
	if (!base && !iofi_is_user(p))
		return -EOPNOTSUPP;
	return iofi_holds_take(m->holds, p->policy, pages_of(base, slots));
}

void iofi_physical_give(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	if (applies(p))
		iofi_holds_give(m->holds, p->policy, pages_of(address(p), slots));
}
