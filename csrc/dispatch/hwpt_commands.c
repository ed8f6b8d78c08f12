/* SPDX-License-Identifier: Apache-2.0 */
/* The commands on page tables: HWPT_ALLOC, dirty tracking, HWPT_INVALIDATE (behaviour.md 2.10, 2.12–2.14, 5.6–5.8). */
#include <errno.h>

#include "dispatch/call.h"
#include "ioas/dirty.h"
#include "ioas/fault.h"
#include "ioas/viommu.h"

_Static_assert((int)IOF_HWPT_NEST_PARENT == (int)IOF_HWPT_KIND_NEST_PARENT, "flags");
_Static_assert((int)IOF_HWPT_DIRTY_TRACKING == (int)IOF_HWPT_KIND_DIRTY, "flags");
_Static_assert((int)IOF_HWPT_FAULT_ID_VALID == (int)IOF_HWPT_KIND_FAULT, "flags");
_Static_assert((int)IOF_HWPT_PASID == (int)IOF_HWPT_KIND_PASID, "flags");

/* ---- HWPT_ALLOC ---- */

static int alloc_paging(struct iof_ioas *ioas, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	int rc = iof_hwpt_create(ioas, rq, out);

	if (rc)
		return rc;
	rc = iof_hwpt_join(*out);
	if (rc)
		iof_hwpt_abort(*out);
	return rc;
}

static int alloc_on(struct iof_object *pt, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	switch (pt->type) {
	case IOF_OBJECT_IOAS:
		return alloc_paging((struct iof_ioas *)pt, rq, out);
	case IOF_OBJECT_HWPT:
		return iof_hwpt_create_nested((struct iof_hwpt *)pt, rq, out);
	case IOF_OBJECT_VIOMMU:
		if (((struct iof_viommu *)pt)->iommu != rq->dev->iommu)
			return -EINVAL;
		return iof_hwpt_create_on_viommu((struct iof_viommu *)pt, rq, out);
	default:
		return -EINVAL;
	}
}

/* The HWPT keeps the fault object's user for life. */
static int add_fault(struct iof_call *call, const struct iof_cmd_hwpt_alloc *cmd, struct iof_hwpt *hwpt)
{
	if (!(cmd->flags & IOF_HWPT_FAULT_ID_VALID))
		return 0;
	hwpt->fault = (struct iof_fault *)iof_object_get(&call->ctx->objects, cmd->fault_id, IOF_OBJECT_FAULT);
	if (!hwpt->fault)
		return -ENOENT;
	hwpt->kind |= IOF_HWPT_KIND_FAULT;
	return 0;
}

static int hwpt_alloc(struct iof_call *call, struct iof_device *dev, struct iof_cmd_hwpt_alloc *cmd)
{
	struct iof_user_data data = { cmd->data_type, cmd->data_len, cmd->data_uptr };
	struct iof_hwpt_request rq = { .dev = dev->mdev, .flags = cmd->flags, .data = cmd->data_len ? &data : NULL };
	struct iof_object *pt = iof_object_get(&call->ctx->objects, cmd->pt_id, IOF_OBJECT_ANY);
	struct iof_hwpt *hwpt;
	int rc;

	if (!pt)
		return -EINVAL;
	rc = alloc_on(pt, &rq, &hwpt);
	iof_object_put(pt);
	if (rc)
		return rc;
	rc = add_fault(call, cmd, hwpt);
	cmd->out_hwpt_id = hwpt->object.id;
	if (!rc)
		rc = iof_call_respond(call, cmd);
	if (rc)
		iof_hwpt_discard(hwpt);
	else
		iof_object_publish(&hwpt->object);
	return rc;
}

/* The lock comes before the look-up of the device: one who closes it waits for its users while holding that lock. */
int iofi_hwpt_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_hwpt_alloc *cmd = p;
	struct iof_object *dev;
	int rc;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	if (!cmd->data_type != !cmd->data_len)
		return -EINVAL;
	iof_lock_take(&call->ctx->control);
	dev = iof_object_get(&call->ctx->objects, cmd->dev_id, IOF_OBJECT_DEVICE);
	rc = dev ? hwpt_alloc(call, (struct iof_device *)dev, cmd) : -ENOENT;
	if (dev)
		iof_object_put(dev);
	iof_lock_drop(&call->ctx->control);
	return rc;
}

/* ---- dirty tracking ---- */

static struct iof_hwpt *paging(const struct iof_call *call, uint32_t id)
{
	return (struct iof_hwpt *)iof_object_get(&call->ctx->objects, id, IOF_OBJECT_HWPT);
}

int iofi_set_dirty_tracking(struct iof_call *call, void *p)
{
	struct iof_cmd_set_dirty_tracking *cmd = p;
	struct iof_hwpt *hwpt;
	int rc;

	if (cmd->flags & ~1u)
		return -EOPNOTSUPP;
	hwpt = paging(call, cmd->hwpt_id);
	if (!hwpt)
		return -ENOENT;
	rc = iof_hwpt_set_tracking(hwpt, cmd->flags);
	iof_object_put(&hwpt->object);
	return rc;
}

int iofi_get_dirty_bitmap(struct iof_call *call, void *p)
{
	struct iof_cmd_get_dirty_bitmap *cmd = p;
	struct iof_dirty_request rq = { .iova = cmd->iova, .length = cmd->length, .page_size = cmd->page_size,
					.bitmap = cmd->data, .keep = cmd->flags };
	struct iof_hwpt *hwpt;
	int rc;

	if (cmd->flags & ~1u || cmd->reserved)
		return -EOPNOTSUPP;
	hwpt = paging(call, cmd->hwpt_id);
	if (!hwpt)
		return -ENOENT;
	rc = iof_hwpt_get_dirty(hwpt, &rq);
	iof_object_put(&hwpt->object);
	return rc;
}

/* ---- HWPT_INVALIDATE ---- */

#define MAX_ENTRIES (1u << 19)

static int invalidate_object(struct iof_object *o, const struct iof_user_array *a, uint32_t *done)
{
	struct iof_hwpt *hwpt = (struct iof_hwpt *)o;
	struct iof_viommu *v = (struct iof_viommu *)o;
	const struct iof_driver *driver;

	switch (o->type) {
	case IOF_OBJECT_NESTED:
		driver = hwpt->iommu->driver;
		return driver->nested_invalidate ? driver->nested_invalidate(hwpt->iommu->drv, hwpt->priv, a, done) : -EOPNOTSUPP;
	case IOF_OBJECT_VIOMMU:
		driver = v->iommu->driver;
		return driver->viommu_invalidate ? driver->viommu_invalidate(v->iommu->drv, v, a, done) : -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

static int invalidate(struct iof_call *call, const struct iof_cmd_hwpt_invalidate *cmd, uint32_t *done)
{
	struct iof_user_array a = { cmd->data_type, cmd->entry_len, cmd->entry_num, cmd->data_uptr };
	struct iof_object *o;
	int rc;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	if (cmd->entry_num &&
	    (!cmd->data_uptr || !cmd->entry_len || cmd->entry_len > IOF_PAGE_SIZE || cmd->entry_num > MAX_ENTRIES))
		return -EINVAL;
	o = iof_object_get(&call->ctx->objects, cmd->hwpt_id, IOF_OBJECT_ANY);
	if (!o)
		return -ENOENT;
	rc = invalidate_object(o, &a, done);
	iof_object_put(o);
	return rc;
}

/* The answer always goes back, with how many entries were handled; when it cannot, that is the error (5.8). */
int iofi_hwpt_invalidate(struct iof_call *call, void *p)
{
	struct iof_cmd_hwpt_invalidate *cmd = p;
	uint32_t done = 0;
	int rc;

	iof_lock_take(&call->ctx->control);
	rc = invalidate(call, cmd, &done);
	iof_lock_drop(&call->ctx->control);
	cmd->entry_num = done;
	return iof_call_respond(call, cmd) ? -EFAULT : rc;
}
