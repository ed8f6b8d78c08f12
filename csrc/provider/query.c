/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine tells about itself: endpoints, statistics, mappings, the digest. */
#include <errno.h>
#include <string.h>

#include "ioas/device.h"
#include "ioas/fault.h"
#include "ioas/veventq.h"
#include "ioas/viommu.h"
#include "provider/engine.h"

static struct iof_context *context_of(struct iof_handle *h)
{
	return iofi_engine(h)->file.ctx;
}

static struct iof_ioas *ioas_of(struct iof_context *ctx, uint32_t id)
{
	return (struct iof_ioas *)iof_object_get(&ctx->objects, id, IOF_OBJECT_IOAS);
}

/* ---- endpoints ---- */

static struct iof_endpoint_info endpoint(struct iof_device *dev, uint32_t pasid, struct iof_hwpt *hwpt)
{
	return (struct iof_endpoint_info){
		.dev_id = dev->object.id,
		.pasid = pasid ? pasid : IOF_NO_PASID,
		.hwpt_id = hwpt ? hwpt->object.id : 0,
		.ioas_id = hwpt ? hwpt->ioas->object.id : 0,
		.device = dev->mdev->index,
		.group = dev->mdev->group->index,
	};
}

struct endpoint_list {
	struct iof_endpoint_info *out;
	size_t room;
	int64_t found;
	uint32_t ioas_id;
};

static void list_one(struct endpoint_list *l, struct iof_endpoint_info info)
{
	if (l->ioas_id && l->ioas_id != info.ioas_id)
		return;
	if ((size_t)l->found < l->room)
		l->out[l->found] = info;
	l->found++;
}

/* The endpoint with the smallest PASID above `above`; NULL: none. */
static struct iof_endpoint *next_pasid(struct iof_device *dev, uint32_t above)
{
	struct iof_endpoint *e = atomic_load(&dev->mdev->endpoints), *best = NULL;

	for (; e; e = atomic_load(&e->sibling))
		if (e->pasid > above && (!best || e->pasid < best->pasid))
			best = e;
	return best;
}

/* The requester id is always an endpoint, blocked when it is not attached; then PASIDs, ascending. */
static void list_device(struct endpoint_list *l, struct iof_device *dev)
{
	struct iof_endpoint *e = iof_mdev_endpoint(dev->mdev, 0);

	list_one(l, endpoint(dev, 0, e ? atomic_load(&e->hwpt) : NULL));
	for (uint32_t pasid = 0; (e = next_pasid(dev, pasid)); pasid = e->pasid)
		list_one(l, endpoint(dev, e->pasid, atomic_load(&e->hwpt)));
}

static int64_t list_endpoints(struct iof_context *ctx, uint32_t dev_id, uint32_t ioas_id, size_t n,
			      struct iof_endpoint_info *out)
{
	struct endpoint_list l = { .out = out, .room = n, .ioas_id = ioas_id };
	struct iof_object *o;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1)
		if (o->type == IOF_OBJECT_DEVICE && (!dev_id || dev_id == o->id))
			list_device(&l, (struct iof_device *)o);
	return l.found;
}

int64_t iofi_engine_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n,
			      struct iof_endpoint_info *out)
{
	struct iof_context *ctx = context_of(h);
	int64_t found;

	iof_lock_take(&ctx->control);
	found = list_endpoints(ctx, dev_id, ioas_id, n, out);
	iof_lock_drop(&ctx->control);
	return found;
}

/* ---- statistics ---- */

static void sum_tables(struct iof_ioas *ioas, struct iof_ioas_stats *out)
{
	struct iof_pt_stats pt;

	for (struct iof_hwpt *hwpt = ioas->first_hwpt; hwpt; hwpt = hwpt->next) {
		iof_pt_stats(hwpt->pt, &pt);
		out->table_bytes += pt.table_bytes;
		out->hwpts++;
	}
}

static void sum_areas(struct iof_ioas *ioas, struct iof_ioas_stats *out)
{
	struct iof_index_stats index;

	iof_space_stats(ioas->space, &index);
	out->index_bytes = index.bytes;
	out->record_bytes = iof_records_in_use(ioas->records) * sizeof(struct iof_record) +
			    ioas->records->bare.live * sizeof(struct iof_bare);
	out->mappings = iof_space_areas(ioas->space);
	out->alignment = ioas->alignment;
	out->large_pages = !ioas->small_pages;
	out->pinned_pages = iofi_ioas_pinned(ioas);
}

static void fill_ioas_stats(struct iof_ioas *ioas, struct iof_ioas_stats *out)
{
	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
	out->bytes_mapped = atomic_load(&ioas->records->count.bytes);
	out->maps = atomic_load(&ioas->records->count.maps);
	out->unmaps = atomic_load(&ioas->records->count.unmaps);
	out->copies = atomic_load(&ioas->records->count.copies);
	sum_areas(ioas, out);
	sum_tables(ioas, out);
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
}

int iofi_engine_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out)
{
	struct iof_context *ctx = context_of(h);
	struct iof_ioas *ioas = ioas_of(ctx, ioas_id);

	*out = (struct iof_ioas_stats){ 0 };
	if (!ioas)
		return -ENOENT;
	iof_lock_take(&ctx->control);
	fill_ioas_stats(ioas, out);
	out->endpoints = (uint32_t)list_endpoints(ctx, 0, ioas_id, 0, NULL);
	iof_lock_drop(&ctx->control);
	iof_object_put(&ioas->object);
	return 0;
}

static void fill_hwpt_stats(struct iof_hwpt *hwpt, struct iof_hwpt_stats *out)
{
	struct iof_range aperture = iof_pt_aperture(hwpt->pt);
	struct iof_pt_config cfg;
	struct iof_pt_stats pt;

	iof_pt_config(hwpt->pt, &cfg);
	*out = (struct iof_hwpt_stats){
		.ioas_id = hwpt->ioas->object.id,
		.automatic = hwpt->automatic,
		.endpoints = hwpt->attached,
		.tracking = atomic_load(&hwpt->tracking),
		.format = cfg.format,
		.aperture_start = aperture.start,
		.aperture_last = aperture.last,
		.page_sizes = iof_pt_page_sizes(hwpt->pt),
	};
	iofi_domains_write(hwpt->ioas);
	iof_pt_stats(hwpt->pt, &pt);
	iofi_domains_write_drop(hwpt->ioas);
	memcpy(out->leaves, pt.leaves, sizeof(out->leaves));
	out->tables = pt.tables;
	out->table_bytes = pt.table_bytes;
}

int iofi_engine_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out)
{
	struct iof_context *ctx = context_of(h);
	struct iof_object *o;

	iof_lock_take(&ctx->control);
	o = iof_object_get(&ctx->objects, hwpt_id, IOF_OBJECT_HWPT);
	if (o) {
		fill_hwpt_stats((struct iof_hwpt *)o, out);
		iof_object_put(o);
	}
	iof_lock_drop(&ctx->control);
	return o ? 0 : -ENOENT;
}

/* ---- mappings ---- */

static uint32_t flags_of(const struct iof_area *area)
{
	return (area->prot & IOF_PROT_READ ? IOF_MAP_READABLE : 0) | (area->prot & IOF_PROT_WRITE ? IOF_MAP_WRITEABLE : 0) |
	       (iof_area_pages(area)->kind == IOF_PAGES_USER ? 0 : IOF_MAPPING_FILE);
}

/* Only live areas; one in transition is passed over as if it were not there. */
static int find_mapping(struct iof_ioas *ioas, struct iof_range r, struct iof_mapping_info *out)
{
	struct iof_index_entry e;
	struct iof_area *area;

	while (iof_space_first(ioas->space, r, &e)) {
		area = iofi_area_of(&e);
		if (atomic_load(&area->state) == IOF_AREA_LIVE) {
			*out = (struct iof_mapping_info){ .iova = e.range.start, .last = e.range.last,
							  .address = iof_pages_source(iof_area_pages(area)) + iof_area_byte(area),
							  .flags = flags_of(area) };
			return 0;
		}
		if (e.range.last >= r.last)
			break;
		r.start = e.range.last + 1;
	}
	return -ENOENT;
}

int iofi_engine_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out)
{
	struct iof_ioas *ioas = ioas_of(context_of(h), ioas_id);
	int rc;

	if (!ioas)
		return -ENOENT;
	iofi_iova_take(ioas);
	rc = start <= last ? find_mapping(ioas, (struct iof_range){ start, last }, out) : -ENOENT;
	iofi_iova_drop(ioas);
	iof_object_put(&ioas->object);
	return rc;
}

/* ---- digest: FNV-1a over everything that a caller could tell apart ---- */

static void mix(uint64_t *digest, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++, value >>= 8)
		*digest = (*digest ^ (value & 0xff)) * UINT64_C(0x100000001b3);
}

static void mix_areas(struct iof_ioas *ioas, uint64_t *digest)
{
	struct iof_mapping_info info;
	struct iof_range r = IOF_RANGE_ALL;

	while (!find_mapping(ioas, r, &info)) {
		mix(digest, info.iova);
		mix(digest, info.last);
		mix(digest, info.address);
		mix(digest, info.flags);
		if (info.last == UINT64_MAX)
			break;
		r.start = info.last + 1;
	}
	mix(digest, iofi_ioas_pinned(ioas));
}

static void mix_ranges(struct iof_ioas *ioas, uint64_t *digest)
{
	struct iof_range holes[16];
	size_t n = iof_space_ranges(ioas->space, holes, 16);

	mix(digest, n);
	for (size_t i = 0; i < n && i < 16; i++) {
		mix(digest, holes[i].start);
		mix(digest, holes[i].last);
	}
	n = iof_space_allowed(ioas->space, holes, 16);
	mix(digest, n);
	for (size_t i = 0; i < n && i < 16; i++) {
		mix(digest, holes[i].start);
		mix(digest, holes[i].last);
	}
	mix(digest, ioas->alignment);
	mix(digest, ioas->small_pages);
}

/* Under the domains lock, as a writer: no table is freed under our feet. */
static void mix_leaves(struct iof_hwpt *hwpt, uint64_t *digest)
{
	struct iof_range r = IOF_RANGE_ALL;
	struct iof_pt_leaf leaf;
	uint64_t last;

	while (!iof_pt_next_leaf(hwpt->pt, r, &leaf)) {
		mix(digest, leaf.iova);
		mix(digest, leaf.address);
		mix(digest, (uint64_t)leaf.dirty << 16 | (uint64_t)leaf.size_lg2 << 8 | leaf.prot);
		last = leaf.iova | iof_low_mask(leaf.size_lg2);
		if (last >= r.last)
			break;
		r.start = last + 1;
	}
}

static void mix_endpoints(struct iof_device *dev, uint64_t *digest)
{
	struct iof_endpoint_info info[8];
	struct endpoint_list l = { .out = info, .room = 8 };

	list_device(&l, dev);
	mix(digest, (uint64_t)l.found);
	for (int64_t i = 0; i < l.found && i < 8; i++) {
		mix(digest, info[i].hwpt_id);
		mix(digest, (uint64_t)info[i].device << 32 | info[i].pasid);
	}
}

static void mix_fault(struct iof_fault *f, uint64_t *digest)
{
	struct iof_fault_stats s;

	iof_fault_stats(f, &s);
	mix(digest, s.queued);
	mix(digest, s.records);
	mix(digest, s.outstanding);
	mix(digest, s.partial);
}

static void mix_veventq(struct iof_veventq *q, uint64_t *digest)
{
	struct iof_veventq_stats s;

	iof_veventq_stats(q, &s);
	mix(digest, q->viommu->object.id);
	mix(digest, (uint64_t)q->type << 32 | s.depth);
	mix(digest, (uint64_t)s.stored << 32 | s.sequence);
	mix(digest, s.lost);
}

static void mix_viommu(struct iof_viommu *v, uint64_t *digest)
{
	mix(digest, (uint64_t)v->parent->object.id << 32 | v->type);
	for (struct iof_vdevice *vd = v->vdevices; vd; vd = vd->next) {
		mix(digest, (uint64_t)vd->object.id << 32 | vd->dev->object.id);
		mix(digest, vd->virt_id);
	}
}

static void mix_hw_queue(struct iof_hw_queue *q, uint64_t *digest)
{
	mix(digest, (uint64_t)q->viommu->object.id << 32 | (q->on ? q->on->object.id : 0));
	mix(digest, q->iova);
	mix(digest, q->length);
}

/* A nested table is the driver's: what stands below it is ours. */
static void mix_nested(struct iof_hwpt *hwpt, uint64_t *digest)
{
	mix(digest, (uint64_t)hwpt->parent->object.id << 32 | hwpt->kind);
	mix(digest, hwpt->viommu ? hwpt->viommu->object.id : 0);
	mix(digest, hwpt->fault ? 1 : 0);
}

static void mix_object(struct iof_object *o, uint64_t *digest)
{
	struct iof_ioas *ioas = (struct iof_ioas *)o;
	struct iof_hwpt *hwpt = (struct iof_hwpt *)o;

	mix(digest, (uint64_t)o->id << 32 | o->type);
	mix(digest, iof_object_users(o));
	switch (o->type) {
	case IOF_OBJECT_IOAS:
		iofi_iova_take(ioas);
		mix_ranges(ioas, digest);
		mix_areas(ioas, digest);
		iofi_iova_drop(ioas);
		break;
	case IOF_OBJECT_HWPT:
		mix(digest, (uint64_t)hwpt->ioas->object.id << 32 | hwpt->kind);
		mix(digest, atomic_load(&hwpt->tracking));
		iofi_domains_write(hwpt->ioas);
		mix_leaves(hwpt, digest);
		iofi_domains_write_drop(hwpt->ioas);
		break;
	case IOF_OBJECT_NESTED:
		mix_nested(hwpt, digest);
		break;
	case IOF_OBJECT_VIOMMU:
		mix_viommu((struct iof_viommu *)o, digest);
		break;
	case IOF_OBJECT_HW_QUEUE:
		mix_hw_queue((struct iof_hw_queue *)o, digest);
		break;
	case IOF_OBJECT_FAULT:
		mix_fault((struct iof_fault *)o, digest);
		break;
	case IOF_OBJECT_VEVENTQ:
		mix_veventq((struct iof_veventq *)o, digest);
		break;
	case IOF_OBJECT_DEVICE:
		mix_endpoints((struct iof_device *)o, digest);
		break;
	default:
		break;
	}
}

int iofi_engine_digest(struct iof_handle *h, uint64_t *out)
{
	struct iof_context *ctx = context_of(h);
	struct iof_object *o;

	*out = UINT64_C(0xcbf29ce484222325);
	iof_lock_take(&ctx->control);
	mix(out, atomic_load(&ctx->mm_mode));
	mix(out, atomic_load(&ctx->compat_ioas));
	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1)
		mix_object(o, out);
	iof_lock_drop(&ctx->control);
	return 0;
}
