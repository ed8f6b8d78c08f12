/* SPDX-License-Identifier: Apache-2.0 */
/* GET_HW_INFO, VIOMMU_ALLOC, VDEVICE_ALLOC, HW_QUEUE_ALLOC (behaviour.md 2.11, 8.2, 8.4, 8.6). */
#include <errno.h>
#include <string.h>

#include "dispatch/call.h"
#include "ioas/viommu.h"

static struct iof_device *device(const struct iof_call *call, uint32_t id)
{
	return (struct iof_device *)iof_object_get(&call->ctx->objects, id, IOF_OBJECT_DEVICE);
}

static struct iof_viommu *viommu(const struct iof_call *call, uint32_t id)
{
	return (struct iof_viommu *)iof_object_get(&call->ctx->objects, id, IOF_OBJECT_VIOMMU);
}

/* Runs a command's body under the control lock. */
static int locked(struct iof_call *call, void *cmd, iof_handler body)
{
	int rc;

	iof_lock_take(&call->ctx->control);
	rc = body(call, cmd);
	iof_lock_drop(&call->ctx->control);
	return rc;
}

/* ---- GET_HW_INFO ---- */

enum { CAP_DIRTY_TRACKING = 1, CAP_ATS_NOT_SUPPORTED = 8 };

static int copy_info(const struct iof_cmd_get_hw_info *cmd, const void *info, uint32_t length)
{
	uint32_t n = cmd->data_len < length ? cmd->data_len : length;
	int rc = iof_copy_out(cmd->data_uptr, info, n);

	return rc ? rc : iof_fill_out(cmd->data_uptr + n, 0, cmd->data_len - n);
}

static void tell_device(struct iof_cmd_get_hw_info *cmd, const struct iof_device_caps *caps)
{
	cmd->out_capabilities = (caps->dirty_tracking ? CAP_DIRTY_TRACKING : 0) | (caps->no_ats ? CAP_ATS_NOT_SUPPORTED : 0);
	cmd->out_max_pasid_log2 = caps->max_pasids ? (uint8_t)iof_log2(caps->max_pasids) : 0;
}

struct info {
	struct iof_device *dev; /* one user: it stays bound while the caller's memory is written */
	uint32_t type, length;
	char bytes[IOF_HW_INFO_MAX];
};

static int ask_driver(struct iof_call *call, struct info *info)
{
	const struct iof_iommu *iommu = info->dev->mdev->iommu;

	if (iof_alloc_may_fail(call->ctx->machine->memory.alloc))
		return -ENOMEM;
	if (iommu->driver->hw_info)
		return iommu->driver->hw_info(iommu->drv, info->dev->mdev, &info->type, info->bytes, &info->length);
	info->type = 0;
	return 0;
}

/* Under the control lock, as every driver is asked. */
static int look_up(struct iof_call *call, const struct iof_cmd_get_hw_info *cmd, struct info *info)
{
	int rc;

	iof_lock_take(&call->ctx->control);
	info->dev = device(call, cmd->dev_id);
	rc = info->dev ? ask_driver(call, info) : -ENOENT;
	iof_lock_drop(&call->ctx->control);
	return rc;
}

static int answer_info(struct iof_call *call, struct iof_cmd_get_hw_info *cmd, const struct info *info)
{
	int rc = copy_info(cmd, info->bytes, info->length);

	if (rc)
		return rc;
	cmd->data_len = info->length;
	cmd->data_type = info->type;
	tell_device(cmd, &info->dev->mdev->caps);
	return iof_call_respond(call, cmd);
}

int iofi_get_hw_info(struct iof_call *call, void *p)
{
	struct iof_cmd_get_hw_info *cmd = p;
	struct info info = { .type = cmd->flags ? cmd->data_type : 0 };
	int rc;

	if (cmd->flags & ~1u || cmd->reserved[0] || cmd->reserved[1] || cmd->reserved[2])
		return -EOPNOTSUPP;
	rc = look_up(call, cmd, &info);
	if (!rc)
		rc = answer_info(call, cmd, &info);
	if (info.dev)
		iof_object_put(&info.dev->object);
	return rc;
}

/* ---- VIOMMU_ALLOC ---- */

static int viommu_on(struct iof_call *call, struct iof_device *dev, struct iof_cmd_viommu_alloc *cmd)
{
	struct iof_user_data data = { cmd->type, cmd->data_len, cmd->data_uptr };
	const struct iof_iommu *iommu = dev->mdev->iommu;
	struct iof_hwpt *parent;
	struct iof_viommu *v;
	int rc = iommu->driver->viommu_supported ? iommu->driver->viommu_supported(iommu->drv, dev->mdev, cmd->type) :
						   -EOPNOTSUPP;

	if (rc)
		return rc;
	parent = (struct iof_hwpt *)iof_object_get(&call->ctx->objects, cmd->hwpt_id, IOF_OBJECT_HWPT);
	if (!parent)
		return -ENOENT;
	rc = parent->kind & IOF_HWPT_KIND_NEST_PARENT ? 0 : -EINVAL;
	if (!rc)
		rc = iof_viommu_create(dev, cmd->type, parent, cmd->data_len ? &data : NULL, &v);
	iof_object_put(&parent->object);
	if (rc)
		return rc;
	cmd->out_viommu_id = v->object.id;
	rc = iof_call_respond(call, cmd);
	if (rc)
		iof_viommu_abort(v);
	else
		iof_object_publish(&v->object);
	return rc;
}

static int viommu_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_viommu_alloc *cmd = p;
	struct iof_device *dev = device(call, cmd->dev_id);
	int rc = dev ? viommu_on(call, dev, cmd) : -ENOENT;

	if (dev)
		iof_object_put(&dev->object);
	return rc;
}

int iofi_viommu_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_viommu_alloc *cmd = p;

	if (cmd->flags || !cmd->type)
		return -EOPNOTSUPP;
	return locked(call, cmd, viommu_alloc);
}

/* ---- VDEVICE_ALLOC ---- */

static int vdevice_on(struct iof_call *call, struct iof_viommu *v, struct iof_cmd_vdevice_alloc *cmd)
{
	struct iof_device *dev = device(call, cmd->dev_id);
	struct iof_vdevice *vd;
	int rc;

	if (!dev)
		return -ENOENT;
	rc = iof_vdevice_create(v, dev, cmd->virt_id, &vd);
	iof_object_put(&dev->object);
	if (rc)
		return rc;
	cmd->out_vdevice_id = vd->object.id;
	rc = iof_call_respond(call, cmd);
	if (rc) {
		iof_object_remove_wait(&call->ctx->objects, &vd->object);
		iof_vdevice_dispose(vd);
	}
	return rc;
}

static int vdevice_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_vdevice_alloc *cmd = p;
	struct iof_viommu *v = viommu(call, cmd->viommu_id);
	int rc = v ? vdevice_on(call, v, cmd) : -ENOENT;

	if (v)
		iof_object_put(&v->object);
	return rc;
}

int iofi_vdevice_alloc(struct iof_call *call, void *cmd)
{
	return locked(call, cmd, vdevice_alloc);
}

/* ---- HW_QUEUE_ALLOC ---- */

static int hw_queue_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_hw_queue_alloc *cmd = p;
	struct iof_viommu *v = viommu(call, cmd->viommu_id);
	struct iof_hw_queue *q;
	int rc;

	if (!v)
		return -ENOENT;
	rc = iof_hw_queue_create(v, cmd->type, cmd->index, cmd->nesting_parent_iova, cmd->length, &q);
	iof_object_put(&v->object);
	if (rc)
		return rc;
	cmd->out_hw_queue_id = q->object.id;
	rc = iof_call_respond(call, cmd);
	if (rc)
		iof_hw_queue_abort(q);
	else
		iof_object_publish(&q->object);
	return rc;
}

int iofi_hw_queue_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_hw_queue_alloc *cmd = p;

	if (cmd->flags || !cmd->type)
		return -EOPNOTSUPP;
	if (!cmd->length)
		return -EINVAL;
	if (cmd->length - 1 > UINT64_MAX - cmd->nesting_parent_iova)
		return -EOVERFLOW;
	return locked(call, cmd, hw_queue_alloc);
}
