/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BIND, ATTACH, DETACH and close of a VFIO device, and what the endpoints' ledger learns from them.
 *
 * All run under context.control, so that the ledger changes in the order in which the kernel did. A device that is bound to another context than the
 * one it was opened for is passed on and not listed.
 */
#include <errno.h>

#include "provider/kernel.h"

static int call(struct iofi_kfile *f, unsigned long cmd, void *arg)
{
	return f->ctx->sys.ioctl(f->ctx->sys.data, f->fd, cmd, arg);
}

static uint32_t ident(const struct iofi_kfile *f)
{
	return atomic_load_explicit(&f->dev_id, memory_order_relaxed);
}

/* ---- BIND ---- */

static int list_device(struct iofi_kfile *f, struct iofi_kobject *o, uint32_t id)
{
	int rc;

	o->device = f->device;
	o->group = f->group;
	iof_lock_take(&f->ctx->lock);
	rc = iofi_kobject_add(f->ctx, o, id);
	if (!rc)
		rc = iofi_kend_add(f->ctx, id, IOF_NO_PASID);
	else
		iofi_kobject_drop(f->ctx, o);
	iof_lock_drop(&f->ctx->lock);
	atomic_store_explicit(&f->dev_id, id, memory_order_relaxed);
	return rc;
}

static int bind(struct iofi_kfile *f, void *arg)
{
	struct iofi_kobject *o = iofi_kobject_new(f->ctx, IOFI_KDEVICE);
	struct iof_cmd_bind c;
	int rc;

	if (!o)
		return -ENOMEM;
	rc = call(f, IOF_CMD_DEVICE_BIND_IOMMUFD, arg);
	if (!rc)
		rc = iofi_kpeek(&c, sizeof(c), arg);
	if (!rc && c.iommufd == iof_fileno(&f->ctx->handle))
		return list_device(f, o, c.out_devid);
	iofi_kobject_drop(f->ctx, o);
	return rc;
}

/* ---- ATTACH, DETACH ---- */

static uint32_t pasid_of(uint32_t flags, uint32_t pasid)
{
	return flags & IOF_ATTACH_PASID ? pasid : IOF_NO_PASID;
}

static uint32_t ioas_at(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid)
{
	struct iofi_kend *end = iofi_kend_find(ctx, dev_id, pasid);

	return end && end->hwpt_id ? iofi_kioas_below(ctx, end->hwpt_id) : 0;
}

/* The endpoint's place in the list, made before the call so that nothing can fail after it. *was: the IOAS it is at. */
static int prepare(struct iofi_kfile *f, uint32_t pasid, uint32_t *was)
{
	int rc;

	iof_lock_take(&f->ctx->lock);
	*was = ioas_at(f->ctx, ident(f), pasid);
	rc = iofi_kend_add(f->ctx, ident(f), pasid);
	iof_lock_drop(&f->ctx->lock);
	return rc;
}

/* Nothing has changed; a PASID that was attached nowhere is no endpoint. */
static void back(struct iofi_kfile *f, uint32_t pasid, uint32_t was)
{
	iof_lock_take(&f->ctx->lock);
	if (!was)
		iofi_kend_move(f->ctx, ident(f), pasid, 0);
	iof_lock_drop(&f->ctx->lock);
}

/* The endpoint is at page table hwpt_id now; `o` is for one that nobody has listed. */
static int moved(struct iofi_kfile *f, uint32_t pasid, uint32_t hwpt_id, uint32_t target, struct iofi_kobject *o)
{
	struct iofi_kobject *known;
	int rc = 0;

	iof_lock_take(&f->ctx->lock);
	known = iofi_kobject_find(f->ctx, hwpt_id);
	if (!known || known->kind != IOFI_KHWPT) {
		o->ioas_id = iofi_kioas_below(f->ctx, target);
		o->automatic = target != hwpt_id;
		rc = iofi_kobject_add(f->ctx, o, hwpt_id);
		o = rc ? o : NULL;
	}
	iofi_kend_move(f->ctx, ident(f), pasid, rc ? 0 : hwpt_id);
	iofi_khwpt_sweep(f->ctx);
	iofi_kobject_drop(f->ctx, o);
	iof_lock_drop(&f->ctx->lock);
	return rc;
}

static int attach_with(struct iofi_kfile *f, void *arg, struct iofi_kobject *o)
{
	struct iof_cmd_attach c;
	uint32_t target, pasid, was;
	int rc;

	if (iofi_kpeek(&c, sizeof(c), arg) || !ident(f)) {
		iofi_kobject_drop(f->ctx, o);
		return call(f, IOF_CMD_DEVICE_ATTACH_PT, arg);
	}
	target = c.pt_id;
	pasid = pasid_of(c.flags, c.pasid);
	iofi_klearn(f->ctx, target); /* takes it in if it is an IOAS that we do not know */
	rc = prepare(f, pasid, &was);
	if (!rc) {
		rc = call(f, IOF_CMD_DEVICE_ATTACH_PT, arg);
		if (rc)
			back(f, pasid, was);
	}
	if (rc || (rc = iofi_kpeek(&c, sizeof(c), arg))) {
		iofi_kobject_drop(f->ctx, o);
		return rc;
	}
	rc = moved(f, pasid, c.pt_id, target, o);
	iofi_klearn(f->ctx, target);
	iofi_klearn(f->ctx, was);
	return rc;
}

static int attach(struct iofi_kfile *f, void *arg)
{
	struct iofi_kobject *o = iofi_kobject_new(f->ctx, IOFI_KHWPT);

	return o ? attach_with(f, arg, o) : -ENOMEM;
}

static int detach(struct iofi_kfile *f, void *arg)
{
	struct iof_cmd_detach c;
	uint32_t was, pasid;
	int rc = call(f, IOF_CMD_DEVICE_DETACH_PT, arg);

	if (rc || !ident(f) || iofi_kpeek(&c, sizeof(c), arg))
		return rc;
	pasid = pasid_of(c.flags, c.pasid);
	iof_lock_take(&f->ctx->lock);
	was = ioas_at(f->ctx, ident(f), pasid);
	iofi_kend_move(f->ctx, ident(f), pasid, 0);
	iofi_khwpt_sweep(f->ctx);
	iof_lock_drop(&f->ctx->lock);
	iofi_klearn(f->ctx, was);
	return 0;
}

static int under_control(struct iofi_kfile *f, unsigned long cmd, void *arg)
{
	switch (cmd) {
	case IOF_CMD_DEVICE_BIND_IOMMUFD:
		return bind(f, arg);
	case IOF_CMD_DEVICE_ATTACH_PT:
		return attach(f, arg);
	default:
		return detach(f, arg);
	}
}

int iofi_kdevice_command(struct iofi_kfile *f, unsigned long cmd, void *arg)
{
	int rc;

	if (cmd != IOF_CMD_DEVICE_BIND_IOMMUFD && cmd != IOF_CMD_DEVICE_ATTACH_PT && cmd != IOF_CMD_DEVICE_DETACH_PT)
		return call(f, cmd, arg);
	iof_lock_take(&f->ctx->control);
	rc = under_control(f, cmd, arg);
	iof_lock_drop(&f->ctx->control);
	return rc;
}

/* ---- close ---- */

/* Detached and unbound. The IOAS that its requester id was at may have got more room. */
void iofi_kdevice_close(struct iofi_kfile *f)
{
	uint32_t was = 0;

	iof_lock_take(&f->ctx->control);
	f->ctx->sys.close(f->ctx->sys.data, f->fd);
	if (ident(f)) {
		iof_lock_take(&f->ctx->lock);
		was = ioas_at(f->ctx, ident(f), IOF_NO_PASID);
		iofi_kends_remove(f->ctx, ident(f));
		iofi_kobject_remove(f->ctx, ident(f));
		iofi_khwpt_sweep(f->ctx);
		iof_lock_drop(&f->ctx->lock);
	}
	iofi_klearn(f->ctx, was);
	iof_lock_drop(&f->ctx->control);
}
