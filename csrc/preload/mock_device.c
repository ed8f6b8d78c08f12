/* SPDX-License-Identifier: Apache-2.0 */
/* Mock devices: made, attached, moved and taken away by the test program, which also makes them raise faults and events (R9.3.2–4, 13–15). */
#include <errno.h>

#include "preload/mock_priv.h"

/* ---- life ---- */

static void forget(struct mock_device *dev)
{
	iof_close(dev->handle);
	(void)iof_machine_unplug(dev->mock->machine, dev->index);
	iof_mem_put(dev->mock->alloc, dev, sizeof(*dev));
}

/* The SELFTEST object ends, by DESTROY or with its context. */
static void end_device(void *data)
{
	struct mock_device *dev = data;
	struct mock *m = dev->mock;

	iof_lock_take(&m->lock);
	forget(dev);
	iof_lock_drop(&m->lock);
}

static int plug(struct mock_device *dev)
{
	bool pasid = dev->flags & MOCK_DEVICE_PASID;
	struct iof_device_caps caps = {
		.max_pasids = pasid ? 1u << MOCK_PASID_WIDTH : 1,
		.pasids = true,
		.dirty_tracking = !(dev->flags & MOCK_DEVICE_NO_DIRTY),
		.no_ats = true,
		.user_pasids = true,
		.weak = true,
		.priv = dev,
	};

	for (unsigned i = 0; i < MOCK_WORDS; i++)
		dev->cache[i] = MOCK_CACHE_DEFAULT;
	return iof_machine_plug_device(dev->mock->machine, dev->mock->iommu, UINT32_MAX, &caps, &dev->index);
}

/* Plugged, bound and attached; *pt_id becomes the HWPT's. */
static int bring_up(struct mock_device *dev, struct iof_handle *ctx, uint32_t *pt_id)
{
	int rc = plug(dev);

	if (rc)
		return rc;
	rc = iof_engine_bind(ctx, dev->index, &dev->handle);
	if (!rc) {
		rc = iof_attach(dev->handle, 0, IOF_ATTACH_MODE_NEW, pt_id);
		if (rc)
			iof_close(dev->handle);
	}
	if (rc)
		(void)iof_machine_unplug(dev->mock->machine, dev->index);
	return rc;
}

static int make_device(struct mock_call *call, struct mock_cmd *cmd, struct mock_device *dev)
{
	uint32_t pt_id = cmd->id, id;
	int rc = iof_foreign_new(call->ctx, end_device, dev, &dev->foreign, &id);

	if (rc)
		goto no_id;
	rc = bring_up(dev, call->ctx, &pt_id);
	if (rc)
		goto no_device;
	cmd->domain.out_stdev = id;
	cmd->domain.out_hwpt = pt_id;
	cmd->domain.out_dev = iof_device_id(dev->handle);
	rc = mock_respond(call, cmd);
	if (rc)
		goto no_answer;
	iof_foreign_show(dev->foreign);
	return 0;
no_answer:
	iof_foreign_drop(dev->foreign);
	forget(dev);
	return rc;
no_device:
	iof_foreign_drop(dev->foreign);
no_id:
	iof_mem_put(call->mock->alloc, dev, sizeof(*dev));
	return rc;
}

static int new_device(struct mock_call *call, struct mock_cmd *cmd, uint32_t flags)
{
	struct mock *m = call->mock;
	struct mock_device *dev;
	int rc;

	if (flags & ~(uint32_t)(MOCK_DEVICE_NO_DIRTY | MOCK_DEVICE_PASID))
		return -EINVAL;
	dev = iof_mem_zget(m->alloc, sizeof(*dev), 16);
	if (!dev)
		return -ENOMEM;
	dev->mock = m;
	dev->flags = flags;
	iof_lock_take(&m->lock);
	rc = make_device(call, cmd, dev);
	iof_lock_drop(&m->lock);
	return rc;
}

int mock_domain(struct mock_call *call, struct mock_cmd *cmd)
{
	return new_device(call, cmd, 0);
}

int mock_domain_flags(struct mock_call *call, struct mock_cmd *cmd)
{
	return new_device(call, cmd, cmd->domain.flags);
}

/* ---- attachments ---- */

/* By the SELFTEST id; the mock's lock is held then, and keeps it. NULL: there is none, no lock. */
static struct mock_device *take_device(struct mock_call *call, uint32_t id)
{
	struct mock_device *dev;

	iof_lock_take(&call->mock->lock);
	dev = iof_foreign_data(call->ctx, id, end_device);
	if (!dev)
		iof_lock_drop(&call->mock->lock);
	return dev;
}

static int attach(struct mock_call *call, uint32_t id, uint32_t pasid, enum iof_attach_mode mode, uint32_t *pt_id)
{
	struct mock_device *dev = take_device(call, id);
	int rc;

	if (!dev)
		return -ENOENT;
	rc = iof_attach(dev->handle, pasid, mode, pt_id);
	iof_lock_drop(&call->mock->lock);
	return rc;
}

int mock_domain_replace(struct mock_call *call, struct mock_cmd *cmd)
{
	int rc = attach(call, cmd->id, 0, IOF_ATTACH_MODE_REPLACE, &cmd->replace.pt_id);

	return rc ? rc : mock_respond(call, cmd);
}

/* An attach whose answer does not arrive is undone; a replace stays. */
int mock_pasid_attach(struct mock_call *call, struct mock_cmd *cmd)
{
	struct mock_device *dev = take_device(call, cmd->id);
	int rc;

	if (!dev)
		return -ENOENT;
	rc = iof_attach(dev->handle, cmd->pasid.pasid, IOF_ATTACH_MODE_NEW, &cmd->pasid.pt_id);
	if (!rc) {
		rc = mock_respond(call, cmd);
		if (rc)
			(void)iof_detach(dev->handle, cmd->pasid.pasid);
	}
	iof_lock_drop(&call->mock->lock);
	return rc;
}

int mock_pasid_replace(struct mock_call *call, struct mock_cmd *cmd)
{
	int rc = attach(call, cmd->id, cmd->pasid.pasid, IOF_ATTACH_MODE_REPLACE, &cmd->pasid.pt_id);

	return rc ? rc : mock_respond(call, cmd);
}

int mock_pasid_detach(struct mock_call *call, struct mock_cmd *cmd)
{
	struct mock_device *dev = take_device(call, cmd->id);

	if (!dev)
		return -ENOENT;
	(void)iof_detach(dev->handle, cmd->pasid.pasid);
	iof_lock_drop(&call->mock->lock);
	return 0;
}

static int any_hwpt(void *arg, struct iof_hwpt *hwpt)
{
	(void)arg, (void)hwpt;
	return 0;
}

int mock_pasid_check(struct mock_call *call, struct mock_cmd *cmd)
{
	struct mock_device *dev = take_device(call, cmd->id);
	uint32_t want = cmd->pasid.pt_id;
	int rc;

	if (!dev)
		return -ENOENT;
	rc = want ? iof_with_hwpt(call->ctx, want, any_hwpt, NULL) : 0;
	if (!rc && iof_attached_hwpt(dev->handle, cmd->pasid.pasid) != want)
		rc = -EINVAL;
	iof_lock_drop(&call->mock->lock);
	return rc;
}

/* ---- what a device raises ---- */

/* That nobody handles the fault is the device's trouble, not the caller's. */
int mock_trigger_fault(struct mock_call *call, struct mock_cmd *cmd)
{
	struct iof_page_request rq = {
		.pasid = cmd->fault.pasid,
		.pasid_valid = cmd->fault.pasid,
		.last = true,
		.group = cmd->fault.group,
		.perm = cmd->fault.perm,
		.addr = cmd->fault.addr,
	};
	int rc = iof_report_page_request(call->ctx, cmd->fault.dev, &rq);

	return rc == -ENOENT ? rc : 0;
}

static int raise_event(void *arg, struct iof_mdev *mdev)
{
	struct mock_device *dev = iof_mdev_driver(mdev) == &mock_driver ? iof_mdev_priv(mdev) : NULL;
	uint32_t virt_id;

	(void)arg;
	if (!dev)
		return -EINVAL;
	if (!dev->viommu || !dev->virt_id)
		return -ENOENT;
	virt_id = (uint32_t)dev->virt_id;
	return iof_report_event(dev->viommu, MOCK_EVENTS, &virt_id, sizeof(virt_id));
}

int mock_trigger_event(struct mock_call *call, struct mock_cmd *cmd)
{
	return iof_with_device(call->ctx, cmd->event.dev, raise_event, NULL);
}
