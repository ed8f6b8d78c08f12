/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/device.h"

#include <errno.h>

/* ---- bind, unbind ---- */

static int make_object(struct iof_context *ctx, struct iof_device *dev)
{
	int rc;

	iof_lock_take(&ctx->control);
	rc = iof_object_reserve(&ctx->objects, &dev->object, IOF_OBJECT_DEVICE);
	if (!rc) {
		iof_object_publish(&dev->object);
		iof_object_ref(&dev->object);
	}
	iof_lock_drop(&ctx->control);
	return rc;
}

int iof_device_bind(struct iof_context *ctx, struct iof_mdev *mdev, struct iof_device **out)
{
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_device *dev;
	int rc = iof_group_claim(ctx->machine, mdev, ctx);

	if (rc)
		return rc;
	dev = iof_mem_zget(a, sizeof(*dev), 16);
	if (!dev) {
		rc = -ENOMEM;
		goto no_memory;
	}
	dev->ctx = ctx;
	dev->mdev = mdev;
	rc = make_object(ctx, dev);
	if (rc)
		goto no_id;
	iof_context_ref(ctx);
	*out = dev;
	return 0;
no_id:
	iof_mem_put(a, dev, sizeof(*dev));
no_memory:
	iof_group_release(ctx->machine, mdev);
	return rc;
}

void iof_device_unbind(struct iof_device *dev)
{
	struct iof_context *ctx = dev->ctx;

	iof_lock_take(&ctx->control);
	iofi_detach(dev);
	iof_object_put(&dev->object);
	iof_object_remove_wait(&ctx->objects, &dev->object);
	iof_group_release(ctx->machine, dev->mdev);
	iof_lock_drop(&ctx->control);
	iof_mem_put(ctx->machine->memory.alloc, dev, sizeof(*dev));
	iof_context_unref(ctx);
}

/* ---- HWPT_ALLOC ---- */

int iof_device_alloc_hwpt(struct iof_device *dev, struct iof_ioas *ioas, struct iof_hwpt **out)
{
	int rc = iof_hwpt_create(ioas, dev->mdev->iommu, false, out);

	if (rc)
		return rc;
	rc = iof_hwpt_join(*out);
	if (rc)
		iof_hwpt_abort(*out);
	return rc;
}
