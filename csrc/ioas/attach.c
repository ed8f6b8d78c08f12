/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach, replace, detach (behaviour.md 6.4–6.10). Everything here runs under the context's control lock.
 *
 * Two dangerous words: an endpoint *enters* a HWPT when its DMA goes through it; the HWPT gains its *user* only after that, because one that is being made for
 * this very device is not published yet.
 */
#include <errno.h>

#include "ioas/device.h"
#include "ioas/fault.h"
#include "ioas/msi.h"

/* ---- reserved regions: requester ids only ---- */

static void unreserve(struct iof_device *dev, struct iof_ioas *ioas)
{
	iofi_iova_take(ioas);
	iof_space_unreserve(ioas->space, (uintptr_t)dev);
	iofi_iova_drop(ioas);
}

/* The device's regions, owned by the device (R6.5). All or none. */
static int reserve(struct iof_device *dev, struct iof_ioas *ioas)
{
	const struct iof_device_caps *caps = &dev->mdev->caps;
	int rc = iof_alloc_may_fail(ioas->memory->alloc) ? -EINVAL : iofi_msi_check(caps); /* chapter 12's injection point */

	iofi_iova_take(ioas);
	for (unsigned i = 0; i < caps->n_reserved && !rc; i++)
		rc = iof_space_reserve(ioas->space, caps->reserved[i], (uintptr_t)dev);
	if (!rc && caps->sw_msi.last)
		rc = iof_space_reserve(ioas->space, caps->sw_msi, (uintptr_t)dev);
	if (rc)
		iof_space_unreserve(ioas->space, (uintptr_t)dev);
	iofi_iova_drop(ioas);
	return rc;
}

/* ---- seats and endpoints ---- */

static struct iof_seat *seat_of(struct iof_group *g, uint32_t pasid)
{
	for (struct iof_seat *s = g->seats; s; s = s->next)
		if (s->pasid == pasid)
			return s;
	return NULL;
}

struct iof_endpoint *iof_mdev_endpoint(struct iof_mdev *mdev, uint32_t pasid)
{
	struct iof_endpoint *e = atomic_load_explicit(&mdev->endpoints, memory_order_acquire);

	while (e && e->pasid != pasid)
		e = atomic_load_explicit(&e->sibling, memory_order_acquire);
	return e;
}

static void seat_drop(struct iof_alloc *a, struct iof_group *g, struct iof_seat *seat)
{
	struct iof_seat **at = &g->seats;

	if (seat->endpoints)
		return;
	while (*at != seat)
		at = &(*at)->next;
	*at = seat->next;
	iof_mem_put(a, seat, sizeof(*seat));
}

/* The seat for a PASID, made with its HWPT when the group has none yet. */
static struct iof_seat *seat_get(struct iof_alloc *a, struct iof_group *g, uint32_t pasid, struct iof_hwpt *hwpt)
{
	struct iof_seat *seat = seat_of(g, pasid);

	if (seat)
		return seat;
	seat = iof_mem_zget(a, sizeof(*seat), 16);
	if (!seat)
		return NULL;
	*seat = (struct iof_seat){ .pasid = pasid, .hwpt = hwpt, .next = g->seats };
	g->seats = seat;
	return seat;
}

static struct iof_endpoint *endpoint_add(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt)
{
	struct iof_alloc *a = dev->ctx->machine->memory.alloc;
	struct iof_endpoint *e = iof_mem_zget(a, sizeof(*e), 16);
	struct iof_seat *seat = e ? seat_get(a, dev->mdev->group, pasid, hwpt) : NULL;

	if (!seat) {
		iof_mem_put(a, e, sizeof(*e));
		return NULL;
	}
	e->dev = dev;
	e->pasid = pasid;
	e->seat = seat;
	e->next = seat->endpoints;
	seat->endpoints = e;
	atomic_store(&e->sibling, atomic_load(&dev->mdev->endpoints));
	atomic_store(&e->hwpt, hwpt);
	atomic_store_explicit(&dev->mdev->endpoints, e, memory_order_release);
	iof_rsec_sync(&dev->mdev->rsec);
	return e;
}

/* When it returns, no DMA of this endpoint runs any more. */
static void endpoint_drop(struct iof_endpoint *e)
{
	struct iof_device *dev = e->dev;
	struct iof_alloc *a = dev->ctx->machine->memory.alloc;
	struct iof_endpoint *_Atomic *at = &dev->mdev->endpoints;
	struct iof_endpoint **seated = &e->seat->endpoints;

	while (atomic_load(at) != e)
		at = &atomic_load(at)->sibling;
	atomic_store(at, atomic_load(&e->sibling));
	iof_rsec_sync(&dev->mdev->rsec);
	while (*seated != e)
		seated = &(*seated)->next;
	*seated = e->next;
	seat_drop(a, dev->mdev->group, e->seat);
	iof_mem_put(a, e, sizeof(*e));
}

static void steer(struct iof_endpoint *e, struct iof_hwpt *hwpt)
{
	atomic_store_explicit(&e->hwpt, hwpt, memory_order_release);
	iof_rsec_sync(&e->dev->mdev->rsec);
}

/* ---- may it go there? ---- */

static bool any_pasid(const struct iof_group *g)
{
	for (struct iof_seat *s = g->seats; s; s = s->next)
		if (s->pasid)
			return true;
	return false;
}

/* R6.7. */
static int check_pasid_rules(const struct iof_group *g, uint32_t pasid, const struct iof_hwpt *hwpt)
{
	struct iof_seat *rid = seat_of((struct iof_group *)(uintptr_t)g, 0);

	if (!pasid)
		return !(hwpt->kind & IOF_HWPT_KIND_PASID) && any_pasid(g) ? -EINVAL : 0;
	if (!(hwpt->kind & IOF_HWPT_KIND_PASID))
		return -EINVAL;
	return rid && !(rid->hwpt->kind & IOF_HWPT_KIND_PASID) ? -EINVAL : 0;
}

/* R6.4.1. PASIDs: every device of the group that has any must have this one. */
static int check_core(struct iof_device *dev, uint32_t pasid, const struct iof_hwpt *hwpt)
{
	if (pasid && !dev->mdev->caps.pasids)
		return -EOPNOTSUPP;
	if (hwpt->iommu != dev->mdev->iommu)
		return -EINVAL;
	return pasid && pasid >= iof_group_max_pasids(dev->ctx->machine, dev->mdev->group) ? -EINVAL : 0;
}

/* Does this device follow when its group goes somewhere? PASIDs pass by those that know none. */
static bool follows(const struct iof_mdev *d, const struct iof_group *g, uint32_t pasid)
{
	return d && d->group == g && (!pasid || d->caps.max_pasids);
}

/* Devices below `end` of the group that have gone to `hwpt` come back. */
static void drive_back(struct iof_device *dev, uint32_t end, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct iof_iommu *iommu = dev->mdev->iommu;
	const struct iof_table *devices = &dev->ctx->machine->devices;

	for (uint32_t i = 0; i < end; i++)
		if (follows(devices->at[i], dev->mdev->group, pasid))
			iommu->driver->attach(iommu->drv, devices->at[i], pasid, old, hwpt);
}

static int drive_group(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct iof_iommu *iommu = dev->mdev->iommu;
	const struct iof_table *devices = &dev->ctx->machine->devices;
	int rc = 0;

	for (uint32_t i = 0; i < devices->n; i++) {
		if (!follows(devices->at[i], dev->mdev->group, pasid))
			continue;
		rc = iommu->driver->attach(iommu->drv, devices->at[i], pasid, hwpt, old);
		if (rc) {
			drive_back(dev, i, pasid, hwpt, old);
			break;
		}
	}
	return rc;
}

/* The hardware moves a whole group, whichever of its devices asks. */
static int drive(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	int rc;

	if (!dev->mdev->iommu->driver->attach)
		return 0;
	iof_lock_take(&dev->ctx->machine->lock);
	rc = drive_group(dev, pasid, hwpt, old);
	iof_lock_drop(&dev->ctx->machine->lock);
	return rc;
}

/* Compatibility, then the hardware. */
static int check(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	int rc = check_pasid_rules(dev->mdev->group, pasid, hwpt);

	if (!rc)
		rc = check_core(dev, pasid, hwpt);
	return rc ? rc : drive(dev, pasid, hwpt, old);
}

/* ---- attach, detach ---- */

static int seat_device(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt)
{
	bool first = !seat_of(dev->mdev->group, pasid);
	int rc = first ? check(dev, pasid, hwpt, NULL) : 0;

	if (rc)
		return rc;
	if (!endpoint_add(dev, pasid, hwpt)) {
		if (first)
			drive(dev, pasid, NULL, hwpt);
		return -ENOMEM;
	}
	iof_object_ref(&dev->object);
	return 0;
}

/* R6.4, all but the HWPT's user. */
static int enter(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt)
{
	struct iof_seat *seat = seat_of(dev->mdev->group, pasid);
	int rc = 0;

	if (iof_mdev_endpoint(dev->mdev, pasid))
		return -EBUSY;
	if (seat && seat->hwpt != hwpt)
		return -EINVAL;
	if (!pasid)
		rc = reserve(dev, hwpt->ioas);
	if (rc)
		return rc;
	if (!pasid && !seat)
		rc = iofi_msi_install(dev->ctx, dev->mdev->group, hwpt);
	if (!rc)
		rc = seat_device(dev, pasid, hwpt);
	if (rc && !pasid)
		unreserve(dev, hwpt->ioas);
	return rc;
}

static struct iof_hwpt *leave(struct iof_endpoint *e)
{
	struct iof_device *dev = e->dev;
	struct iof_hwpt *hwpt = e->seat->hwpt;
	uint32_t pasid = e->pasid;
	bool last = !e->seat->endpoints->next;

	endpoint_drop(e);
	if (hwpt->fault) /* now that no DMA of it can raise more; `e` is but a name by now */
		iof_fault_drop(hwpt->fault, e);
	if (last)
		drive(dev, pasid, NULL, hwpt);
	if (!pasid)
		unreserve(dev, hwpt->ioas);
	iof_object_put(&dev->object);
	return hwpt;
}

void iofi_detach(struct iof_device *dev, uint32_t pasid)
{
	struct iof_endpoint *e = iof_mdev_endpoint(dev->mdev, pasid);

	if (e)
		iof_hwpt_put_user(leave(e));
}

void iof_device_detach(struct iof_device *dev, uint32_t pasid)
{
	iof_lock_take(&dev->ctx->control);
	iofi_detach(dev, pasid);
	iof_lock_drop(&dev->ctx->control);
}

/* ---- replace ---- */

static int reserve_seat(struct iof_seat *seat, struct iof_ioas *ioas)
{
	int rc;

	for (struct iof_endpoint *e = seat->endpoints; e; e = e->next) {
		rc = reserve(e->dev, ioas);
		if (!rc)
			continue;
		for (struct iof_endpoint *undo = seat->endpoints; undo != e; undo = undo->next)
			unreserve(undo->dev, ioas);
		return rc;
	}
	return 0;
}

static void unreserve_seat(struct iof_seat *seat, struct iof_ioas *ioas)
{
	for (struct iof_endpoint *e = seat->endpoints; e; e = e->next)
		unreserve(e->dev, ioas);
}

/* The references move one by one; the last of the old table's may be what kept it (R6.9 step 6). */
static void move_seat(struct iof_seat *seat, struct iof_hwpt *hwpt)
{
	struct iof_hwpt *old = seat->hwpt;

	for (struct iof_endpoint *e = seat->endpoints; e; e = e->next) {
		iof_hwpt_get_user(hwpt);
		steer(e, hwpt);
		if (old->fault)
			iof_fault_drop(old->fault, e);
	}
	seat->hwpt = hwpt;
	if (!seat->pasid && old->ioas != hwpt->ioas)
		unreserve_seat(seat, old->ioas);
	for (struct iof_endpoint *e = seat->endpoints; e; e = e->next)
		iof_hwpt_put_user(old);
}

/* What can fail of a replace. */
static int prepare(struct iof_device *dev, struct iof_seat *seat, struct iof_hwpt *hwpt)
{
	int rc = 0;

	if (!seat->pasid && seat->hwpt->ioas != hwpt->ioas)
		rc = reserve_seat(seat, hwpt->ioas);
	if (rc)
		return rc;
	if (!seat->pasid)
		rc = iofi_msi_install(dev->ctx, dev->mdev->group, hwpt);
	if (!rc)
		rc = check(dev, seat->pasid, hwpt, seat->hwpt);
	if (rc && !seat->pasid)
		/* As the kernel does it, also when the target is the IOAS they are attached to (R6.9.3). */
		unreserve_seat(seat, hwpt->ioas);
	return rc;
}

static int replace(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt)
{
	struct iof_endpoint *e = iof_mdev_endpoint(dev->mdev, pasid);
	int rc;

	if (!e)
		return -EINVAL;
	if (e->seat->hwpt == hwpt)
		return 0;
	rc = prepare(dev, e->seat, hwpt);
	if (!rc)
		move_seat(e->seat, hwpt);
	return rc;
}

/* ---- by id ---- */

struct target {
	struct iof_device *dev;
	uint32_t pasid;
	bool replace;
};

static int attach_hwpt(const struct target *t, struct iof_hwpt *hwpt)
{
	int rc;

	if (t->replace)
		return replace(t->dev, t->pasid, hwpt);
	rc = enter(t->dev, t->pasid, hwpt);
	if (!rc)
		iof_hwpt_get_user(hwpt);
	return rc;
}

/* R5.1 steps 8 and 9 for a first attach: the device enters, then the table joins. On an error the table is gone, here and below. */
static int enter_new(const struct target *t, struct iof_hwpt *hwpt)
{
	int rc = enter(t->dev, t->pasid, hwpt);

	if (rc)
		goto abort;
	rc = iof_hwpt_join(hwpt);
	if (!rc) {
		iof_object_publish(&hwpt->object);
		iof_hwpt_get_user(hwpt);
		return 0;
	}
	leave(iof_mdev_endpoint(t->dev->mdev, t->pasid));
abort:
	iof_hwpt_abort(hwpt);
	return rc;
}

static int replace_with_new(const struct target *t, struct iof_hwpt *hwpt)
{
	struct iof_endpoint *e = iof_mdev_endpoint(t->dev->mdev, t->pasid);
	int rc = e ? iof_hwpt_join(hwpt) : -EINVAL;

	if (rc) {
		iof_hwpt_abort(hwpt);
		return rc;
	}
	rc = prepare(t->dev, e->seat, hwpt);
	if (rc) {
		iof_hwpt_discard(hwpt);
		return rc;
	}
	iof_object_publish(&hwpt->object);
	move_seat(e->seat, hwpt);
	return 0;
}

static int attach_new(const struct target *t, struct iof_ioas *ioas, struct iof_hwpt **out)
{
	struct iof_hwpt_request rq = { .dev = t->dev->mdev, .automatic = true };
	int rc = iof_hwpt_create(ioas, &rq, out);

	if (rc)
		return rc;
	return t->replace ? replace_with_new(t, *out) : enter_new(t, *out);
}

/* R6.6.1: any automatic table of the IOAS that takes the device, else a new one. */
static int attach_ioas(const struct target *t, struct iof_ioas *ioas, struct iof_hwpt **out)
{
	int rc;

	for (struct iof_hwpt *h = ioas->first_hwpt; h; h = h->next) {
		if (!h->automatic)
			continue;
		rc = attach_hwpt(t, h);
		if (rc == -EINVAL)
			continue;
		*out = h;
		return rc;
	}
	return attach_new(t, ioas, out);
}

static int attach_object(const struct target *t, struct iof_object *o, uint32_t *pt_id)
{
	struct iof_hwpt *hwpt;
	int rc;

	switch (o->type) {
	case IOF_OBJECT_HWPT:
	case IOF_OBJECT_NESTED:
		return attach_hwpt(t, (struct iof_hwpt *)o);
	case IOF_OBJECT_IOAS:
		rc = attach_ioas(t, (struct iof_ioas *)o, &hwpt);
		if (!rc)
			*pt_id = hwpt->object.id;
		return rc;
	default:
		return -EINVAL;
	}
}

int iof_device_attach(struct iof_device *dev, uint32_t pasid, enum iof_attach_how how, uint32_t *pt_id)
{
	struct target t = { .dev = dev, .pasid = pasid, .replace = how == IOF_ATTACH_REPLACE };
	struct iof_object *o;
	int rc = -ENOENT;

	iof_lock_take(&dev->ctx->control);
	if (how == IOF_ATTACH_EITHER)
		t.replace = iof_mdev_endpoint(dev->mdev, pasid);
	o = iof_object_get(&dev->ctx->objects, *pt_id, IOF_OBJECT_ANY);
	if (o) {
		rc = attach_object(&t, o, pt_id);
		iof_object_put(o);
	}
	iof_lock_drop(&dev->ctx->control);
	return rc;
}
