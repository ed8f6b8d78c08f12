/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach, replace, detach (behaviour.md 6.4–6.10). Everything here runs under the context's control lock.
 *
 * Two dangerous words: a device *enters* a HWPT when its DMA goes through it; the HWPT gains its *user* only after that, because one that is being made for
 * this very device is not published yet.
 */
#include <errno.h>

#include "ioas/device.h"

/* ---- reserved regions ---- */

static void unreserve(struct iof_device *dev, struct iof_ioas *ioas)
{
	iof_lock_take(&ioas->records->lock);
	iof_space_unreserve(ioas->space, (uintptr_t)dev);
	iof_lock_drop(&ioas->records->lock);
}

/* The regions of the device's IOMMU, owned by the device (R6.5). All or none. */
static int reserve(struct iof_device *dev, struct iof_ioas *ioas)
{
	const struct iof_preset_info *preset = dev->mdev->iommu->preset;
	int rc = 0;

	iof_lock_take(&ioas->records->lock);
	for (unsigned i = 0; i < preset->n_reserved && !rc; i++)
		rc = iof_space_reserve(ioas->space, preset->reserved[i], (uintptr_t)dev);
	if (rc)
		iof_space_unreserve(ioas->space, (uintptr_t)dev);
	iof_lock_drop(&ioas->records->lock);
	return rc;
}

/* ---- entering and leaving ---- */

/* Points the device's DMA at a page table (NULL: blocked); when it returns, no DMA runs through the old one. */
static void steer(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	atomic_store_explicit(&dev->mdev->hwpt, hwpt, memory_order_release);
	iof_rsec_sync(&dev->mdev->rsec);
}

/* R6.4, for a device that is not attached. */
static int enter(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	struct iof_group *g = dev->mdev->group;
	int rc;

	if (g->hwpt && g->hwpt != hwpt)
		return -EINVAL;
	rc = reserve(dev, hwpt->ioas);
	if (rc)
		return rc;
	if (hwpt->iommu != dev->mdev->iommu) {
		unreserve(dev, hwpt->ioas);
		return -EINVAL;
	}
	g->hwpt = hwpt;
	dev->next_attached = g->attached;
	g->attached = dev;
	dev->attached = true;
	iof_object_ref(&dev->object);
	steer(dev, hwpt);
	return 0;
}

static struct iof_hwpt *leave(struct iof_device *dev)
{
	struct iof_group *g = dev->mdev->group;
	struct iof_hwpt *hwpt = g->hwpt;
	struct iof_device **at = &g->attached;

	steer(dev, NULL);
	while (*at != dev)
		at = &(*at)->next_attached;
	*at = dev->next_attached;
	if (!g->attached)
		g->hwpt = NULL;
	dev->attached = false;
	unreserve(dev, hwpt->ioas);
	iof_object_put(&dev->object);
	return hwpt;
}

void iofi_detach(struct iof_device *dev)
{
	if (dev->attached)
		iof_hwpt_put_user(leave(dev));
}

void iof_device_detach(struct iof_device *dev)
{
	iof_lock_take(&dev->ctx->control);
	iofi_detach(dev);
	iof_lock_drop(&dev->ctx->control);
}

/* ---- replace ---- */

static int reserve_group(struct iof_group *g, struct iof_ioas *ioas)
{
	int rc;

	for (struct iof_device *d = g->attached; d; d = d->next_attached) {
		rc = reserve(d, ioas);
		if (!rc)
			continue;
		for (struct iof_device *undo = g->attached; undo != d; undo = undo->next_attached)
			unreserve(undo, ioas);
		return rc;
	}
	return 0;
}

static void unreserve_group(struct iof_group *g, struct iof_ioas *ioas)
{
	for (struct iof_device *d = g->attached; d; d = d->next_attached)
		unreserve(d, ioas);
}

/* The references move one by one; the last of the old table's may be what kept it (R6.9 step 6). */
static void move_group(struct iof_group *g, struct iof_hwpt *hwpt)
{
	struct iof_hwpt *old = g->hwpt;

	g->hwpt = hwpt;
	for (struct iof_device *d = g->attached; d; d = d->next_attached) {
		iof_hwpt_get_user(hwpt);
		steer(d, hwpt);
	}
	if (old->ioas != hwpt->ioas)
		unreserve_group(g, old->ioas);
	for (struct iof_device *d = g->attached; d; d = d->next_attached)
		iof_hwpt_put_user(old);
}

/* What can fail of a replace. */
static int prepare(struct iof_group *g, struct iof_hwpt *hwpt)
{
	int rc = 0;

	if (g->hwpt->ioas != hwpt->ioas)
		rc = reserve_group(g, hwpt->ioas);
	if (rc)
		return rc;
	if (hwpt->iommu != g->iommu) {
		/* As the kernel does it, also when the target is the IOAS they are attached to (R6.9.3). */
		unreserve_group(g, hwpt->ioas);
		return -EINVAL;
	}
	return 0;
}

static int replace(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	struct iof_group *g = dev->mdev->group;
	int rc;

	if (g->hwpt == hwpt)
		return 0;
	rc = prepare(g, hwpt);
	if (!rc)
		move_group(g, hwpt);
	return rc;
}

/* ---- by id ---- */

static int attach_hwpt(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	int rc;

	if (dev->attached)
		return replace(dev, hwpt);
	rc = enter(dev, hwpt);
	if (!rc)
		iof_hwpt_get_user(hwpt);
	return rc;
}

/* R5.1 steps 8 and 9 for a first attach: the device enters, then the table joins. On an error the table is gone, here and below. */
static int enter_new(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	int rc = enter(dev, hwpt);

	if (rc)
		goto abort;
	rc = iof_hwpt_join(hwpt);
	if (!rc) {
		iof_object_publish(&hwpt->object);
		iof_hwpt_get_user(hwpt);
		return 0;
	}
	leave(dev);
abort:
	iof_hwpt_abort(hwpt);
	return rc;
}

static int replace_with_new(struct iof_device *dev, struct iof_hwpt *hwpt)
{
	int rc = iof_hwpt_join(hwpt);

	if (rc) {
		iof_hwpt_abort(hwpt);
		return rc;
	}
	rc = prepare(dev->mdev->group, hwpt);
	if (rc) {
		iof_hwpt_discard(hwpt);
		return rc;
	}
	iof_object_publish(&hwpt->object);
	move_group(dev->mdev->group, hwpt);
	return 0;
}

static int attach_new(struct iof_device *dev, struct iof_ioas *ioas, struct iof_hwpt **out)
{
	int rc = iof_hwpt_create(ioas, dev->mdev->iommu, true, out);

	if (rc)
		return rc;
	return dev->attached ? replace_with_new(dev, *out) : enter_new(dev, *out);
}

/* R6.6.1: any automatic table of the IOAS that takes the device, else a new one. */
static int attach_ioas(struct iof_device *dev, struct iof_ioas *ioas, struct iof_hwpt **out)
{
	int rc;

	for (struct iof_hwpt *h = ioas->first_hwpt; h; h = h->next) {
		if (!h->automatic)
			continue;
		rc = attach_hwpt(dev, h);
		if (rc == -EINVAL)
			continue;
		*out = h;
		return rc;
	}
	return attach_new(dev, ioas, out);
}

static int attach_object(struct iof_device *dev, struct iof_object *o, uint32_t *pt_id)
{
	struct iof_hwpt *hwpt;
	int rc;

	switch (o->type) {
	case IOF_OBJECT_HWPT:
		return attach_hwpt(dev, (struct iof_hwpt *)o);
	case IOF_OBJECT_IOAS:
		rc = attach_ioas(dev, (struct iof_ioas *)o, &hwpt);
		if (!rc)
			*pt_id = hwpt->object.id;
		return rc;
	default:
		return -EINVAL;
	}
}

int iof_device_attach(struct iof_device *dev, uint32_t *pt_id)
{
	struct iof_object *o;
	int rc = -ENOENT;

	iof_lock_take(&dev->ctx->control);
	o = iof_object_get(&dev->ctx->objects, *pt_id, IOF_OBJECT_ANY);
	if (o) {
		rc = attach_object(dev, o, pt_id);
		iof_object_put(o);
	}
	iof_lock_drop(&dev->ctx->control);
	return rc;
}
