/* SPDX-License-Identifier: Apache-2.0 */
/* Nested HWPTs: a guest's table on a paging parent, directly or through a vIOMMU (behaviour.md 5.2–5.5). */
#include <errno.h>

#include "ioas/fault.h"
#include "ioas/hwpt.h"
#include "ioas/viommu.h"

#define NESTED_FLAGS (IOF_HWPT_KIND_FAULT | IOF_HWPT_KIND_PASID)

/* Who keeps the parent: itself, or the vIOMMU that stands on it (R1.4.4). */
static void hold_base(struct iof_hwpt *hwpt)
{
	iof_object_ref(hwpt->viommu ? &hwpt->viommu->object : &hwpt->parent->object);
}

static void drop_base(struct iof_hwpt *hwpt)
{
	iof_object_put(hwpt->viommu ? &hwpt->viommu->object : &hwpt->parent->object);
}

static int create(struct iof_hwpt *parent, struct iof_viommu *v, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	struct iof_iommu *iommu = rq->dev->iommu;
	struct iof_context *ctx = parent->ctx;
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_hwpt *hwpt = iof_mem_zget(a, sizeof(*hwpt), IOF_CACHELINE);
	int rc;

	if (!hwpt)
		return -ENOMEM;
	rc = iof_object_reserve(&ctx->objects, &hwpt->object, IOF_OBJECT_NESTED);
	if (rc)
		goto no_id;
	rc = iof_alloc_may_fail(a) ? -ENOMEM :
	     iommu->driver->nested_alloc(iommu->drv, rq->dev, parent, v, rq->flags & ~(uint32_t)IOF_HWPT_KIND_FAULT, rq->data,
					 &hwpt->priv);
	if (rc)
		goto no_table;
	hwpt->ctx = ctx;
	hwpt->ioas = parent->ioas;
	hwpt->iommu = iommu;
	hwpt->parent = parent;
	hwpt->viommu = v;
	hwpt->kind = rq->flags & IOF_HWPT_KIND_PASID;
	hold_base(hwpt);
	*out = hwpt;
	return 0;
no_table:
	iof_object_abort(&ctx->objects, &hwpt->object);
no_id:
	iof_mem_put(a, hwpt, sizeof(*hwpt));
	return rc;
}

int iof_hwpt_create_nested(struct iof_hwpt *parent, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	const struct iof_driver *driver = rq->dev->iommu->driver;

	if (rq->flags & ~(uint32_t)NESTED_FLAGS || !rq->data || !driver->nested_alloc || driver->nested_needs_viommu)
		return -EOPNOTSUPP;
	if (parent->automatic || !(parent->kind & IOF_HWPT_KIND_NEST_PARENT) || parent->iommu != rq->dev->iommu)
		return -EINVAL;
	return create(parent, NULL, rq, out);
}

int iof_hwpt_create_on_viommu(struct iof_viommu *v, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	if (rq->flags & ~(uint32_t)NESTED_FLAGS || !rq->data || !rq->dev->iommu->driver->nested_alloc)
		return -EOPNOTSUPP;
	return create(v->parent, v, rq, out);
}

void iof_hwpt_dispose_nested(struct iof_hwpt *hwpt)
{
	struct iof_iommu *iommu = hwpt->iommu;

	iommu->driver->nested_free(iommu->drv, hwpt->priv);
	if (hwpt->fault)
		iof_object_put((struct iof_object *)hwpt->fault);
	drop_base(hwpt);
	iof_mem_put(hwpt->ctx->machine->memory.alloc, hwpt, sizeof(*hwpt));
}

/* ---- what a driver may ask of a HWPT ---- */

void *iof_hwpt_priv(const struct iof_hwpt *hwpt)
{
	return hwpt->priv;
}

bool iof_hwpt_is_nested(const struct iof_hwpt *hwpt)
{
	return iofi_hwpt_nested(hwpt);
}

bool iof_hwpt_tracks_dirty(const struct iof_hwpt *hwpt)
{
	return hwpt->kind & IOF_HWPT_KIND_DIRTY;
}

struct iof_viommu *iof_hwpt_viommu(const struct iof_hwpt *hwpt)
{
	return hwpt->viommu;
}

uint64_t iof_hwpt_page_sizes(const struct iof_hwpt *hwpt)
{
	return iof_pt_page_sizes(hwpt->pt);
}

uint64_t iof_hwpt_lookup(const struct iof_hwpt *hwpt, uint64_t iova)
{
	struct iof_hwpt *h = (struct iof_hwpt *)(uintptr_t)hwpt;
	unsigned token = iof_rsec_enter(&h->rsec);
	uint64_t address = iof_pt_translate(hwpt->pt, iova, NULL);

	iof_rsec_leave(&h->rsec, token);
	return address;
}
