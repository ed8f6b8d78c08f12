/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/valid.h"

#include "ioas/access.h"
#include "ioas/device.h"
#include "ioas/fault.h"
#include "ioas/lane.h"
#include "ioas/va.h"
#include "ioas/veventq.h"
#include "ioas/viommu.h"

/* ---- IOAS ---- */

/* Does the table show the area's bytes at both ends, with its permissions? */
static bool shows(struct iof_hwpt *hwpt, const struct iof_area *area, struct iof_range r, uint64_t at)
{
	uint64_t byte = iof_area_byte(area) + (at - r.start), n, want;
	unsigned prot;

	want = iof_pages_address(iof_area_pages(area), hwpt->ioas->memory, byte, 1, &n);
	if (iof_pt_translate(hwpt->pt, at, &prot) != want)
		return false;
	return !(area->prot & ~prot);
}

static bool area_is_valid(struct iof_ioas *ioas, const struct iof_index_entry *e)
{
	struct iof_area *area = iofi_area_of(e);

	bool hidden = iof_pages_is_revoked(iof_area_pages(area));

	if (atomic_load(&area->state) != IOF_AREA_LIVE || area->held != (ioas->n_domains && !hidden))
		return false;
	if (!iof_pages_is_valid(iof_area_pages(area), ioas->memory))
		return false;
	for (uint32_t i = 0; !hidden && i < ioas->n_domains; i++)
		if (!shows(ioas->domains[i], area, e->range, e->range.start) ||
		    !shows(ioas->domains[i], area, e->range, e->range.last))
			return false;
	return true;
}

static bool areas_are_valid(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint64_t bytes = 0;

	while (from.start <= from.last && iof_space_first(ioas->space, from, &e)) {
		if (!area_is_valid(ioas, &e))
			return false;
		bytes += iof_range_length(e.range);
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return bytes == atomic_load(&ioas->records->count.bytes);
}

/* What a page table shows, all of it, is what the areas say: no leaf beyond them. */
static uint64_t shown_bytes(const struct iof_hwpt *hwpt)
{
	struct iof_pt_stats stats;
	uint64_t bytes = 0;

	iof_pt_stats(hwpt->pt, &stats);
	for (unsigned i = 0; i < 64; i++)
		bytes += stats.leaves[i] << i;
	/* Doorbell pages are nobody's area. */
	return bytes - (uint64_t)__builtin_popcountll(hwpt->msi_shown) * IOF_PAGE_SIZE;
}

/* What page tables have to show: all areas that are held, which are all but revoked ones. */
static uint64_t held_bytes(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint64_t bytes = 0;

	while (from.start <= from.last && iof_space_first(ioas->space, from, &e)) {
		bytes += iofi_area_of(&e)->held ? iof_range_length(e.range) : 0;
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return bytes;
}

static bool hwpts_are_valid(struct iof_ioas *ioas)
{
	uint64_t bytes = held_bytes(ioas);
	uint32_t n = 0;

	for (struct iof_hwpt *h = ioas->first_hwpt; h; h = h->next, n++) {
		if (h->ioas != ioas || h->index >= ioas->n_domains || ioas->domains[h->index] != h)
			return false;
		if (!iof_pt_is_valid(h->pt) || shown_bytes(h) != bytes)
			return false;
		if (!h->next && ioas->last_hwpt != h)
			return false;
	}
	return n == ioas->n_domains && iof_object_users(&ioas->object) == 1 + n + ioas->n_accesses;
}

/* The list of accesses agrees with its counts, and what they have pinned with the areas'. */
static bool accesses_are_valid(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint32_t n = 0, pinning = 0;
	uint64_t pieces = 0;

	for (uint32_t i = 0; i < ioas->access_room; i++) {
		n += ioas->accesses[i] != NULL;
		pinning += ioas->accesses[i] && ioas->accesses[i]->needs_pin;
	}
	while (from.start <= from.last && iof_space_first(ioas->space, from, &e)) {
		pieces += iofi_area_of(&e)->accesses;
		if (iofi_area_of(&e)->locks > iofi_area_of(&e)->accesses)
			return false;
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return n == ioas->n_accesses && pinning == ioas->n_pinning && pieces == ioas->pieces;
}

static bool ioas_is_valid(struct iof_ioas *ioas)
{
	if (!iofi_lanes_are_valid(ioas))
		return false;
	iofi_iova_take(ioas); /* closes the lanes: what is in them is looked at with the rest */
	iofi_iova_drop(ioas);
	return iof_space_is_valid(ioas->space) && ioas->alignment == iofi_ioas_alignment(ioas) && areas_are_valid(ioas) &&
	       iofi_va_is_valid(ioas) && hwpts_are_valid(ioas) && accesses_are_valid(ioas);
}

/* ---- devices and groups ---- */

static bool endpoint_is_valid(struct iof_device *dev, struct iof_endpoint *e)
{
	struct iof_hwpt *hwpt = atomic_load(&e->hwpt);
	bool seated = false;

	for (struct iof_endpoint *s = e->seat->endpoints; s; s = s->next)
		seated |= s == e;
	return e->dev == dev && seated && e->seat->hwpt == hwpt && e->seat->pasid == e->pasid && hwpt->iommu == dev->mdev->iommu;
}

static bool device_is_valid(struct iof_device *dev)
{
	struct iof_endpoint *e = atomic_load(&dev->mdev->endpoints);
	uint32_t n = 0;

	for (; e; e = atomic_load(&e->sibling), n++)
		if (!endpoint_is_valid(dev, e))
			return false;
	return dev->mdev->group->owner == dev->ctx && dev->mdev->bound &&
	       iof_object_users(&dev->object) == 2 + n + (dev->vdevice != NULL);
}

static uint32_t attachments(struct iof_machine *m, const struct iof_hwpt *hwpt)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->devices.n; i++) {
		struct iof_mdev *d = m->devices.at[i];
		struct iof_endpoint *e = d ? atomic_load(&d->endpoints) : NULL;

		for (; e; e = atomic_load(&e->sibling))
			n += atomic_load(&e->hwpt) == hwpt;
	}
	return n;
}

/* Nested tables and vIOMMUs that stand directly on an object. */
static uint32_t standing_on(struct iof_context *ctx, const struct iof_object *base)
{
	struct iof_object *o;
	uint32_t n = 0;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1) {
		struct iof_hwpt *h = (struct iof_hwpt *)o;
		struct iof_viommu *v = (struct iof_viommu *)o;

		if (o->type == IOF_OBJECT_NESTED)
			n += (h->viommu ? &h->viommu->object : &h->parent->object) == base;
		if (o->type == IOF_OBJECT_VIOMMU)
			n += &v->parent->object == base;
		if (o->type == IOF_OBJECT_VEVENTQ)
			n += &((struct iof_veventq *)o)->viommu->object == base;
		if (o->type == IOF_OBJECT_VDEVICE)
			n += &((struct iof_vdevice *)o)->viommu->object == base;
		if (o->type == IOF_OBJECT_HW_QUEUE)
			n += &((struct iof_hw_queue *)o)->viommu->object == base;
	}
	return n;
}

static bool hwpt_is_valid(struct iof_context *ctx, struct iof_hwpt *hwpt)
{
	uint32_t n = attachments(ctx->machine, hwpt) + standing_on(ctx, &hwpt->object);

	return hwpt->ctx == ctx && iof_object_users(&hwpt->object) == 1 + n && hwpt->attached == attachments(ctx->machine, hwpt) &&
	       (n || !hwpt->automatic);
}

/* Its file and the page tables it serves are what keeps a fault queue. */
static bool fault_is_valid(struct iof_context *ctx, struct iof_fault *f)
{
	uint32_t n = 1 + (f->bell.fd >= 0);
	struct iof_object *o;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1)
		n += (o->type == IOF_OBJECT_HWPT || o->type == IOF_OBJECT_NESTED) && ((struct iof_hwpt *)o)->fault == f;
	return iof_object_users(&f->object) == n && iof_fault_is_valid(f);
}

static bool veventq_is_valid(struct iof_veventq *q)
{
	return iof_object_users(&q->object) == 1u + (q->bell.fd >= 0) && iof_veventq_is_valid(q);
}

/* Its vDevices are in the table of ids, and know it and their device; its users are what stands on it, and mmaps. */
static bool viommu_is_valid(struct iof_context *ctx, struct iof_viommu *v)
{
	uint32_t mapped = 0;

	for (struct iof_vdevice *vd = v->vdevices; vd; vd = vd->next)
		if (vd->viommu != v || vd->dev->vdevice != vd || vd->dev->mdev->iommu != v->iommu || iof_object_users(&vd->object) != 1)
			return false;
	for (struct iof_exposed *e = ctx->exposed; e; e = e->next)
		mapped += e->viommu == v ? e->mapped : 0;
	return v->parent->kind & IOF_HWPT_KIND_NEST_PARENT &&
	       iof_object_users(&v->object) == 1 + mapped + standing_on(ctx, &v->object);
}

/* It is a user of the queue it depends on, which only others are. */
static bool hw_queue_is_valid(struct iof_context *ctx, const struct iof_hw_queue *q)
{
	uint32_t n = 1;
	struct iof_object *o;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1)
		n += o->type == IOF_OBJECT_HW_QUEUE && ((struct iof_hw_queue *)o)->on == q;
	return iof_object_users(&q->object) == n;
}

/* Regions ascend without meeting. */
static bool exposed_is_valid(const struct iof_context *ctx)
{
	for (const struct iof_exposed *e = ctx->exposed; e && e->next; e = e->next)
		if (e->offset + e->length > e->next->offset)
			return false;
	return true;
}

static bool object_is_valid(struct iof_context *ctx, struct iof_object *o)
{
	switch (o->type) {
	case IOF_OBJECT_IOAS:
		return ioas_is_valid((struct iof_ioas *)o);
	case IOF_OBJECT_FAULT:
		return fault_is_valid(ctx, (struct iof_fault *)o);
	case IOF_OBJECT_VEVENTQ:
		return veventq_is_valid((struct iof_veventq *)o);
	case IOF_OBJECT_DEVICE:
		return device_is_valid((struct iof_device *)o);
	case IOF_OBJECT_HWPT:
	case IOF_OBJECT_NESTED:
		return hwpt_is_valid(ctx, (struct iof_hwpt *)o);
	case IOF_OBJECT_VIOMMU:
		return viommu_is_valid(ctx, (struct iof_viommu *)o);
	case IOF_OBJECT_HW_QUEUE:
		return hw_queue_is_valid(ctx, (struct iof_hw_queue *)o);
	case IOF_OBJECT_ACCESS:
		return iofi_access_is_valid((struct iof_access *)o);
	default:
		return iof_object_users(o) >= 1;
	}
}

static bool context_is_valid(struct iof_context *ctx)
{
	struct iof_object *o;
	uint32_t n = 0;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1, n++)
		if (!object_is_valid(ctx, o))
			return false;
	return n + ctx->objects.tombstones == ctx->objects.taken && exposed_is_valid(ctx);
}

static bool group_is_valid(struct iof_machine *m, const struct iof_group *g)
{
	uint32_t bound = 0, members = 0;

	for (uint32_t i = 0; i < m->devices.n; i++) {
		struct iof_mdev *d = m->devices.at[i];

		members += d && d->group == g;
		bound += d && d->group == g && d->bound;
	}
	for (struct iof_seat *s = g->seats; s; s = s->next)
		if (!s->endpoints)
			return false;
	return members == g->n_devices && bound == g->bound && !g->owner == !bound;
}

bool iofi_machine_is_valid(struct iof_machine *m)
{
	for (struct iof_context *ctx = m->contexts; ctx; ctx = ctx->next)
		if (!context_is_valid(ctx))
			return false;
	for (uint32_t i = 0; i < m->groups.n; i++)
		if (m->groups.at[i] && !group_is_valid(m, m->groups.at[i]))
			return false;
	return iof_memory_is_valid(&m->memory);
}
