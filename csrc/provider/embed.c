/* SPDX-License-Identifier: Apache-2.0 */
/* What embedders bring: drivers, devices, ids, faults and events. */
#include "iommufd_fast_embed.h"

#include <errno.h>

#include "ioas/dirty.h"
#include "ioas/fault.h"
#include "ioas/foreign.h"
#include "ioas/msi.h"
#include "ioas/veventq.h"
#include "provider/engine.h"

_Static_assert((int)IOF_ATTACH_MODE_EITHER == (int)IOF_ATTACH_EITHER && (int)IOF_ATTACH_MODE_NEW == (int)IOF_ATTACH_NEW, "modes");

static struct iof_context *context_of(struct iof_handle *h)
{
	return iofi_engine(h)->file.ctx;
}

/* ---- IOMMUs and devices ---- */

int iof_machine_add_driver(struct iof_machine *m, const struct iof_driver *driver, void *drv, struct iof_iommu **out)
{
	return iof_machine_add_iommu(m, driver, drv, out);
}

int iof_machine_plug_device(struct iof_machine *m, struct iof_iommu *iommu, uint32_t group, const struct iof_device_caps *caps,
			    uint32_t *index)
{
	struct iof_mdev *d;
	int rc = iof_machine_add_device(m, iommu, group, caps, &d);

	if (!rc)
		*index = d->index;
	return rc;
}

int iof_machine_unplug(struct iof_machine *m, uint32_t index)
{
	struct iof_mdev *d = iof_machine_mdev(m, index);

	if (!d)
		return -ENODEV;
	if (d->opens)
		return -EBUSY;
	iof_machine_remove_device(m, d);
	return 0;
}

void iof_machine_set_host(struct iof_machine *m, const struct iof_event_host *host)
{
	m->host = host;
}

int iof_engine_bind(struct iof_handle *ctx, uint32_t index, struct iof_handle **dev)
{
	struct iof_context *c = context_of(ctx);
	struct iof_file *f;
	int rc = iof_file_open_unnamed_device(c->machine, index, &f);

	if (rc)
		return rc;
	rc = iof_device_bind(c, f->mdev, &f->dev);
	if (rc)
		iof_file_close(f);
	else
		*dev = iofi_engine_handle(f);
	return rc;
}

/* Runs on a bound device with its file's lock, so that it stays bound. */
static struct iof_device *take_bound(struct iof_handle *h)
{
	struct iof_file *f = &iofi_engine(h)->file;

	iof_lock_take(&f->lock);
	if (!f->dev)
		iof_lock_drop(&f->lock);
	return f->dev;
}

static void drop_bound(struct iof_handle *h)
{
	iof_lock_drop(&iofi_engine(h)->file.lock);
}

int iof_attach(struct iof_handle *dev, uint32_t pasid, enum iof_attach_mode mode, uint32_t *pt_id)
{
	struct iof_device *d = take_bound(dev);
	int rc;

	if (!d)
		return -EINVAL;
	rc = iof_device_attach(d, pasid, (enum iof_attach_how)mode, pt_id);
	drop_bound(dev);
	return rc;
}

int iof_detach(struct iof_handle *dev, uint32_t pasid)
{
	struct iof_device *d = take_bound(dev);

	if (!d)
		return -EINVAL;
	iof_device_detach(d, pasid);
	drop_bound(dev);
	return 0;
}

uint32_t iof_device_id(struct iof_handle *dev)
{
	struct iof_device *d = take_bound(dev);
	uint32_t id = d ? d->object.id : 0;

	if (d)
		drop_bound(dev);
	return id;
}

int iof_msi_address(struct iof_handle *dev, uint64_t doorbell, uint64_t *iova)
{
	struct iof_device *d = take_bound(dev);
	int rc;

	if (!d)
		return -EINVAL;
	rc = iof_device_msi(d, doorbell, iova);
	drop_bound(dev);
	return rc;
}

uint32_t iof_attached_hwpt(struct iof_handle *dev, uint32_t pasid)
{
	struct iof_device *d = take_bound(dev);
	struct iof_endpoint *e;
	uint32_t id;

	if (!d)
		return 0;
	iof_lock_take(&d->ctx->control);
	e = iof_mdev_endpoint(d->mdev, pasid);
	id = e ? e->seat->hwpt->object.id : 0;
	iof_lock_drop(&d->ctx->control);
	drop_bound(dev);
	return id;
}

struct iof_handle *iof_host_handle(void *file, enum iof_handle_kind *kind)
{
	struct iof_file *f = file;

	switch (f->ops->kind) {
	case IOF_FILE_CONTEXT:
		*kind = IOF_KIND_CONTEXT;
		break;
	case IOF_FILE_DEVICE:
		*kind = IOF_KIND_DEVICE;
		break;
	case IOF_FILE_DMABUF:
		*kind = IOF_KIND_MEMORY;
		break;
	default:
		*kind = IOF_KIND_QUEUE;
	}
	return iofi_engine_handle(f);
}

/* ---- ids ---- */

int iof_foreign_new(struct iof_handle *ctx, void (*end)(void *data), void *data, struct iof_foreign **out, uint32_t *id)
{
	int rc = iof_foreign_reserve(context_of(ctx), end, data, out);

	if (!rc)
		*id = (*out)->object.id;
	return rc;
}

void iof_foreign_show(struct iof_foreign *f)
{
	iof_foreign_publish(f);
}

void iof_foreign_drop(struct iof_foreign *f)
{
	iof_foreign_abort(f);
}

void *iof_foreign_data(struct iof_handle *ctx, uint32_t id, void (*end)(void *data))
{
	return iof_foreign_find(context_of(ctx), id, end);
}

/* ---- objects ---- */

/* The object with one user and the control lock held; NULL: rc says why. */
static struct iof_object *take_object(struct iof_context *ctx, uint32_t id, uint32_t types, int *rc)
{
	struct iof_object *o;

	iof_lock_take(&ctx->control);
	o = iof_object_get(&ctx->objects, id, IOF_OBJECT_ANY);
	if (o && types & 1u << o->type)
		return o;
	*rc = o ? -EINVAL : -ENOENT;
	if (o)
		iof_object_put(o);
	iof_lock_drop(&ctx->control);
	return NULL;
}

static void drop_object(struct iof_context *ctx, struct iof_object *o)
{
	iof_object_put(o);
	iof_lock_drop(&ctx->control);
}

int iof_with_hwpt(struct iof_handle *h, uint32_t id, int (*fn)(void *arg, struct iof_hwpt *hwpt), void *arg)
{
	struct iof_context *ctx = context_of(h);
	int rc;
	struct iof_object *o = take_object(ctx, id, 1u << IOF_OBJECT_HWPT | 1u << IOF_OBJECT_NESTED, &rc);

	if (!o)
		return rc;
	rc = fn(arg, (struct iof_hwpt *)o);
	drop_object(ctx, o);
	return rc;
}

int iof_with_device(struct iof_handle *h, uint32_t id, int (*fn)(void *arg, struct iof_mdev *dev), void *arg)
{
	struct iof_context *ctx = context_of(h);
	int rc;
	struct iof_object *o = take_object(ctx, id, 1u << IOF_OBJECT_DEVICE, &rc);

	if (!o)
		return -ENOENT; /* a typed look-up (R1.4.2) */
	rc = fn(arg, ((struct iof_device *)o)->mdev);
	drop_object(ctx, o);
	return rc;
}

const struct iof_driver *iof_hwpt_driver(const struct iof_hwpt *hwpt)
{
	return hwpt->iommu->driver;
}

const struct iof_driver *iof_mdev_driver(const struct iof_mdev *dev)
{
	return dev->iommu->driver;
}

int iof_hwpt_set_dirty(struct iof_hwpt *hwpt, uint64_t iova)
{
	return iof_hwpt_mark_dirty(hwpt, iova);
}

static int write_run(void *ctx, struct iof_identity_run run)
{
	uint64_t **to = ctx;

	for (uint64_t i = 0; i < run.npages; i++)
		*(*to)++ = run.address + (i << IOF_PAGE_SHIFT);
	return 0;
}

int iof_machine_identify_many(struct iof_machine *m, uint64_t va, size_t n, uint64_t *addresses)
{
	if (!m->memory.identities)
		return -EOPNOTSUPP;
	if (iof_unlikely(va >= UINT64_MAX - IOF_PAGE_MASK))
		return -EOVERFLOW;
	return iof_identity_runs(m->memory.identities, iof_align_down(va, IOF_PAGE_SIZE), n, false, write_run, &addresses);
}

int iof_machine_identify(struct iof_machine *m, uint64_t va, uint64_t *address)
{
	return iof_machine_identify_many(m, va, 1, address);
}

int64_t iof_machine_pins_at(struct iof_machine *m, uint64_t address)
{
	return m->memory.identities ? (int64_t)iof_identity_pins(m->memory.identities, address) : -EOPNOTSUPP;
}

/* ---- memory ---- */

int iof_ioas_reserve(struct iof_handle *ctx, uint32_t ioas_id, uint64_t start, uint64_t length)
{
	struct iof_object *o;
	struct iof_ioas *ioas;
	struct iof_range r;
	int rc;

	if (!length)
		return -EINVAL;
	if (iof_range_make(start, length, &r))
		return -EOVERFLOW;
	o = iof_object_get(&context_of(ctx)->objects, ioas_id, IOF_OBJECT_IOAS);
	if (!o)
		return -ENOENT;
	ioas = (struct iof_ioas *)o;
	iofi_iova_take(ioas);
	rc = iof_space_reserve(ioas->space, r, 0);
	iofi_iova_drop(ioas);
	iof_object_put(o);
	return rc;
}

void iof_mmap_count(struct iof_handle *h, uint64_t offset, int by)
{
	iof_context_vma(context_of(h), offset, by);
}

/* ---- faults and events ---- */

/* The endpoint whose page table answers for a request (R8.1.6); NULL: nobody. */
static struct iof_endpoint *handler_of(struct iof_device *dev, const struct iof_page_request *rq)
{
	struct iof_endpoint *rid = iof_mdev_endpoint(dev->mdev, 0), *e = rid;

	if (rq->pasid_valid) {
		e = iof_mdev_endpoint(dev->mdev, rq->pasid);
		if (!e && dev->mdev->caps.user_pasids && rid && iofi_hwpt_nested(rid->seat->hwpt))
			e = rid;
	}
	return e && e->seat->hwpt->fault ? e : NULL;
}

static int report(struct iof_device *dev, const struct iof_page_request *rq)
{
	struct iof_endpoint *e = handler_of(dev, rq);
	struct iof_fault_request fault = {
		.endpoint = e,
		.answer = rq->answer,
		.who = rq->data,
		.dev_id = dev->object.id,
		.flags = (rq->pasid_valid ? IOF_FAULT_PASID_VALID : 0) | (rq->last ? IOF_FAULT_LAST_PAGE : 0),
		.pasid = rq->pasid,
		.grpid = rq->group,
		.perm = rq->perm,
		.addr = rq->addr,
	};

	return e ? iof_fault_report(e->seat->hwpt->fault, &fault) : -EINVAL;
}

int iof_report_page_request(struct iof_handle *h, uint32_t dev_id, const struct iof_page_request *rq)
{
	struct iof_context *ctx = context_of(h);
	int rc;
	struct iof_object *o = take_object(ctx, dev_id, 1u << IOF_OBJECT_DEVICE, &rc);

	if (!o)
		return -ENOENT;
	rc = report((struct iof_device *)o, rq);
	drop_object(ctx, o);
	if (rc && rq->answer && rq->last)
		rq->answer(rq->data, rq->pasid, rq->group, IOF_FAULT_INVALID);
	return rc;
}

int iof_report_event(struct iof_viommu *v, uint32_t type, const void *data, size_t n)
{
	return iof_veventq_report(v, type, data, n);
}
