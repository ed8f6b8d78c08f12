/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/viommu.h"

#include <errno.h>

#include "ioas/device.h"

/* ---- vIOMMU ---- */

static int init_driver(struct iof_viommu *v, uint32_t type, const struct iof_user_data *data)
{
	struct iof_alloc *a = v->ctx->machine->memory.alloc;

	if (iof_alloc_may_fail(a))
		return -ENOMEM;
	return v->iommu->driver->viommu_init ? v->iommu->driver->viommu_init(v->iommu->drv, v, type, data) : 0;
}

int iof_viommu_create(struct iof_device *dev, uint32_t type, struct iof_hwpt *parent, const struct iof_user_data *data,
		      struct iof_viommu **out)
{
	struct iof_context *ctx = dev->ctx;
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_viommu *v = iof_mem_zget(a, sizeof(*v), 16);
	int rc;

	if (!v)
		return -ENOMEM;
	rc = iof_object_reserve(&ctx->objects, &v->object, IOF_OBJECT_VIOMMU);
	if (rc)
		goto no_id;
	v->ctx = ctx;
	v->iommu = dev->mdev->iommu;
	v->parent = parent;
	v->type = type;
	iof_lock_init(&v->lock, a->shared);
	rc = init_driver(v, type, data);
	if (rc)
		goto no_driver;
	iof_object_ref(&parent->object);
	*out = v;
	return 0;
no_driver:
	iof_viommu_conceal(v);
	iof_object_abort(&ctx->objects, &v->object);
no_id:
	iof_mem_put(a, v, sizeof(*v));
	return rc;
}

void iof_viommu_abort(struct iof_viommu *v)
{
	iof_object_abort(&v->ctx->objects, &v->object);
	iof_viommu_dispose(v);
}

void iof_viommu_dispose(struct iof_viommu *v)
{
	if (v->iommu->driver->viommu_free)
		v->iommu->driver->viommu_free(v->iommu->drv, v);
	iof_viommu_conceal(v);
	iof_object_put(&v->parent->object);
	iof_mem_put(v->ctx->machine->memory.alloc, v, sizeof(*v));
}

void *iof_viommu_priv(const struct iof_viommu *v)
{
	return v->priv;
}

void iof_viommu_set_priv(struct iof_viommu *v, void *priv)
{
	v->priv = priv;
}

struct iof_hwpt *iof_viommu_parent(const struct iof_viommu *v)
{
	return v->parent;
}

/* ---- vDevice ---- */

static struct iof_vdevice *find(const struct iof_viommu *v, uint64_t virt_id)
{
	struct iof_vdevice *vd = v->vdevices;

	while (vd && vd->virt_id != virt_id)
		vd = vd->next;
	return vd;
}

struct iof_mdev *iof_viommu_device(const struct iof_viommu *v, uint64_t virt_id)
{
	struct iof_vdevice *vd = find(v, virt_id);

	return vd ? vd->dev->mdev : NULL;
}

int iof_viommu_virt_id(const struct iof_viommu *v, const struct iof_mdev *dev, uint64_t *virt_id)
{
	for (struct iof_vdevice *vd = v->vdevices; vd; vd = vd->next)
		if (vd->dev->mdev == dev) {
			*virt_id = vd->virt_id;
			return 0;
		}
	return -ENOENT;
}

static int init_vdevice(struct iof_vdevice *vd)
{
	struct iof_iommu *iommu = vd->viommu->iommu;

	if (iof_alloc_may_fail(vd->viommu->ctx->machine->memory.alloc))
		return -ENOMEM;
	return iommu->driver->vdevice_init ? iommu->driver->vdevice_init(iommu->drv, vd) : 0;
}

static void publish_vdevice(struct iof_vdevice *vd)
{
	struct iof_viommu *v = vd->viommu;

	vd->next = v->vdevices;
	v->vdevices = vd;
	vd->dev->vdevice = vd;
	iof_object_ref(&v->object);
	iof_object_ref(&vd->dev->object);
	iof_object_publish(&vd->object);
}

int iof_vdevice_create(struct iof_viommu *v, struct iof_device *dev, uint64_t virt_id, struct iof_vdevice **out)
{
	struct iof_alloc *a = v->ctx->machine->memory.alloc;
	struct iof_vdevice *vd;
	int rc;

	if (dev->mdev->iommu != v->iommu)
		return -EINVAL;
	if (dev->vdevice || find(v, virt_id))
		return -EEXIST;
	vd = iof_mem_zget(a, sizeof(*vd), 16);
	if (!vd)
		return -ENOMEM;
	rc = iof_object_reserve(&v->ctx->objects, &vd->object, IOF_OBJECT_VDEVICE);
	if (rc)
		goto no_id;
	vd->viommu = v;
	vd->dev = dev;
	vd->virt_id = virt_id;
	rc = init_vdevice(vd);
	if (rc)
		goto no_driver;
	publish_vdevice(vd);
	*out = vd;
	return 0;
no_driver:
	iof_object_abort(&v->ctx->objects, &vd->object);
no_id:
	iof_mem_put(a, vd, sizeof(*vd));
	return rc;
}

void iof_vdevice_dispose(struct iof_vdevice *vd)
{
	struct iof_viommu *v = vd->viommu;
	struct iof_vdevice **at = &v->vdevices;

	if (v->iommu->driver->vdevice_free)
		v->iommu->driver->vdevice_free(v->iommu->drv, vd);
	while (*at != vd)
		at = &(*at)->next;
	*at = vd->next;
	vd->dev->vdevice = NULL;
	iof_object_put(&vd->dev->object);
	iof_object_put(&v->object);
	iof_mem_put(v->ctx->machine->memory.alloc, vd, sizeof(*vd));
}

void iof_vdevice_kill(struct iof_vdevice *vd)
{
	iof_object_bury(&vd->viommu->ctx->objects, &vd->object);
	iof_vdevice_dispose(vd);
}

struct iof_viommu *iof_vdevice_viommu(const struct iof_vdevice *vd)
{
	return vd->viommu;
}

struct iof_mdev *iof_vdevice_device(const struct iof_vdevice *vd)
{
	return vd->dev->mdev;
}

uint64_t iof_vdevice_virt_id(const struct iof_vdevice *vd)
{
	return vd->virt_id;
}
