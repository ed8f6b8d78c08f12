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
	static const char zeros[IOF_HW_INFO_MAX];
	uint32_t n = cmd->data_len < length ? cmd->data_len : length;
	int rc = n ? iof_copy_out(cmd->data_uptr, info, n) : 0;

	for (uint32_t at = n, part; !rc && at < cmd->data_len; at += part) {
		part = cmd->data_len - at < sizeof(zeros) ? cmd->data_len - at : sizeof(zeros);
		rc = iof_copy_out(cmd->data_uptr + at, zeros, part);
	}
	return rc;
}

static void tell_device(struct iof_cmd_get_hw_info *cmd, const struct iof_device_caps *caps)
{
	cmd->out_capabilities = (caps->dirty_tracking ? CAP_DIRTY_TRACKING : 0) | (caps->no_ats ? CAP_ATS_NOT_SUPPORTED : 0);
	cmd->out_max_pasid_log2 = caps->max_pasids ? (uint8_t)iof_log2(caps->max_pasids) : 0;
}

static int hw_info(struct iof_call *call, struct iof_device *dev, struct iof_cmd_get_hw_info *cmd)
{
	const struct iof_iommu *iommu = dev->mdev->iommu;
	char info[IOF_HW_INFO_MAX];
	uint32_t type = cmd->flags ? cmd->data_type : 0, length = 0;
	int rc = 0;

	if (iof_alloc_may_fail(call->ctx->machine->memory.alloc))
		return -ENOMEM;
	if (iommu->driver->hw_info)
		rc = iommu->driver->hw_info(iommu->drv, dev->mdev, &type, info, &length);
	if (!rc)
		rc = copy_info(cmd, info, length);
	if (rc)
		return rc;
	cmd->data_len = length;
	cmd->data_type = type;
	tell_device(cmd, &dev->mdev->caps);
	return iof_call_respond(call, cmd);
}

int iofi_get_hw_info(struct iof_call *call, void *p)
{
	struct iof_cmd_get_hw_info *cmd = p;
	struct iof_device *dev;
	int rc;

	if (cmd->flags & ~1u || cmd->reserved[0] || cmd->reserved[1] || cmd->reserved[2])
		return -EOPNOTSUPP;
	dev = device(call, cmd->dev_id);
	if (!dev)
		return -ENOENT;
	rc = hw_info(call, dev, cmd);
	iof_object_put(&dev->object);
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
