/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/msi.h"

#include <errno.h>

int iofi_msi_check(const struct iof_device_caps *caps)
{
	return caps->sw_msi.last && caps->hw_msi ? -EINVAL : 0;
}

/* The page of the table for a doorbell, made when it is new: its place, or -EOVERFLOW. */
static int find_page(struct iof_msi_table *t, struct iof_range window, uint64_t doorbell)
{
	uint32_t index = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		if (t->page[i].window != window.start)
			continue;
		if (t->page[i].doorbell == doorbell)
			return (int)i;
		if (t->page[i].index >= index)
			index = t->page[i].index + 1;
	}
	if (t->n == IOF_MSI_PAGES || index > iof_range_span(window) >> IOF_PAGE_SHIFT)
		return -EOVERFLOW;
	t->page[t->n] = (struct iof_msi_page){ .window = window.start, .doorbell = doorbell, .index = index };
	return (int)t->n++;
}

static uint64_t iova_of(const struct iof_msi_page *p)
{
	return p->window + ((uint64_t)p->index << IOF_PAGE_SHIFT);
}

/* The window is reserved in the IOAS, so no area is in the way; page tables are changed by who holds the domains lock. */
static int show(struct iof_hwpt *paging, const struct iof_msi_page *p)
{
	int rc;

	iof_brlock_read(iofi_domains(paging->ioas));
	rc = iofi_hwpt_map(paging, iova_of(p), p->doorbell, IOF_PAGE_SIZE, IOF_PROT_READ | IOF_PROT_WRITE | IOF_PROT_MMIO);
	iof_brlock_read_drop(iofi_domains(paging->ioas));
	return rc;
}

int iofi_msi_install(struct iof_context *ctx, const struct iof_group *g, struct iof_hwpt *hwpt)
{
	struct iof_hwpt *paging = iofi_hwpt_nested(hwpt) ? hwpt->parent : hwpt;
	int rc;

	for (uint64_t todo = g->msi_needed & ~paging->msi_shown; todo; todo &= todo - 1) {
		unsigned i = iof_ctz(todo);

		rc = show(paging, &ctx->msi->page[i]);
		if (rc)
			return rc;
		paging->msi_shown |= UINT64_C(1) << i;
	}
	return 0;
}

static int need_page(struct iof_device *dev, struct iof_endpoint *rid, uint64_t doorbell, uint64_t *iova)
{
	struct iof_context *ctx = dev->ctx;
	struct iof_group *g = dev->mdev->group;
	uint64_t before = g->msi_needed;
	int i, rc;

	if (!ctx->msi)
		ctx->msi = iof_mem_zget(ctx->machine->memory.alloc, sizeof(*ctx->msi), 16);
	if (!ctx->msi)
		return -ENOMEM;
	i = find_page(ctx->msi, dev->mdev->caps.sw_msi, doorbell & ~IOF_PAGE_MASK);
	if (i < 0)
		return i;
	g->msi_needed |= UINT64_C(1) << i;
	rc = iofi_msi_install(ctx, g, rid->seat->hwpt);
	if (rc)
		g->msi_needed = before;
	*iova = iova_of(&ctx->msi->page[i]) + (doorbell & IOF_PAGE_MASK);
	return rc;
}

int iof_device_msi(struct iof_device *dev, uint64_t doorbell, uint64_t *iova)
{
	struct iof_endpoint *rid;
	int rc = 0;

	iof_lock_take(&dev->ctx->control);
	rid = iof_mdev_endpoint(dev->mdev, 0);
	if (!rid)
		rc = -EINVAL;
	else if (dev->mdev->caps.sw_msi.last)
		rc = need_page(dev, rid, doorbell, iova);
	else
		*iova = doorbell;
	iof_lock_drop(&dev->ctx->control);
	return rc;
}
