/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects and endpoints of a context in the kernel, as far as this side has seen them made. All under context.lock.
 *
 * What the kernel does by group is done by group here: the attached endpoints of a group that have the same PASID share a seat, and an
 * attachment moves them all (behaviour.md R6.9.1). An automatic page table goes with its last endpoint.
 */
#include <errno.h>

#include "provider/kernel.h"

static struct iof_range only(uint32_t id)
{
	return (struct iof_range){ id, id };
}

struct iofi_kobject *iofi_kobject_find(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iof_index_entry e;

	return iof_index_find(ctx->objects, id, &e) ? (struct iofi_kobject *)(uintptr_t)e.value : NULL;
}

struct iofi_kobject *iofi_kobject_new(struct iofi_kcontext *ctx, enum iofi_kkind kind)
{
	struct iofi_kobject *o = (struct iofi_kobject *)iof_mem_zget(ctx->alloc, sizeof(*o), 16);

	if (!o)
		return NULL;
	o->kind = (uint8_t)kind;
	if (kind == IOFI_KIOAS && iofi_kioas_create(ctx->alloc, 0, &o->ioas)) {
		iof_mem_put(ctx->alloc, o, sizeof(*o));
		return NULL;
	}
	return o;
}

void iofi_kobject_drop(struct iofi_kcontext *ctx, struct iofi_kobject *o)
{
	if (!o)
		return;
	if (o->ioas)
		iofi_kioas_put(o->ioas);
	iof_mem_put(ctx->alloc, o, sizeof(*o));
}

int iofi_kobject_add(struct iofi_kcontext *ctx, struct iofi_kobject *o, uint32_t id)
{
	iofi_kobject_remove(ctx, id);
	o->id = id;
	if (o->kind == IOFI_KIOAS)
		o->ioas_id = o->ioas->id = id;
	return iof_index_insert(ctx->objects, only(id), (uintptr_t)o);
}

void iofi_kobject_remove(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iofi_kobject *o = iofi_kobject_find(ctx, id);

	if (!o)
		return;
	iof_index_remove(ctx->objects, id);
	iofi_kobject_drop(ctx, o);
}

void iofi_kobjects_destroy(struct iofi_kcontext *ctx)
{
	struct iof_index_entry e;
	struct iofi_kend *end;

	while (iof_index_first(ctx->objects, IOF_RANGE_ALL, &e))
		iofi_kobject_remove(ctx, (uint32_t)e.range.start);
	while ((end = ctx->ends)) {
		ctx->ends = end->next;
		iof_mem_put(ctx->alloc, end, sizeof(*end));
	}
}

uint32_t iofi_kioas_below(struct iofi_kcontext *ctx, uint32_t pt_id)
{
	struct iofi_kobject *o = iofi_kobject_find(ctx, pt_id);

	return o ? o->ioas_id : 0;
}

uint32_t iofi_kioas_tables(struct iofi_kcontext *ctx, uint32_t ioas_id)
{
	struct iof_range rest = { 0, UINT32_MAX };
	struct iof_index_entry e;
	const struct iofi_kobject *o;
	uint32_t n = 0;

	while (rest.start <= rest.last && iof_index_first(ctx->objects, rest, &e)) {
		o = (const struct iofi_kobject *)(uintptr_t)e.value;
		n += o->kind == IOFI_KHWPT && !o->nested && o->ioas_id == ioas_id;
		rest.start = e.range.last + 1;
	}
	return n;
}

/* ---- endpoints ---- */

/* By PASID, the requester id first. */
static uint64_t order(uint32_t dev_id, uint32_t pasid)
{
	return (uint64_t)dev_id << 32 | (uint32_t)(pasid + 1);
}

static struct iofi_kend **seek(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid)
{
	struct iofi_kend **at = &ctx->ends;

	while (*at && order((*at)->dev_id, (*at)->pasid) < order(dev_id, pasid))
		at = &(*at)->next;
	return at;
}

struct iofi_kend *iofi_kend_find(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid)
{
	struct iofi_kend *end = *seek(ctx, dev_id, pasid);

	return end && end->dev_id == dev_id && end->pasid == pasid ? end : NULL;
}

int iofi_kend_add(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid)
{
	struct iofi_kend **at = seek(ctx, dev_id, pasid), *end;

	if (*at && (*at)->dev_id == dev_id && (*at)->pasid == pasid)
		return 0;
	end = (struct iofi_kend *)iof_mem_zget(ctx->alloc, sizeof(*end), 16);
	if (!end)
		return -ENOMEM;
	*end = (struct iofi_kend){ .next = *at, .dev_id = dev_id, .pasid = pasid };
	*at = end;
	return 0;
}

static void unlink_end(struct iofi_kcontext *ctx, struct iofi_kend **at)
{
	struct iofi_kend *end = *at;

	*at = end->next;
	iof_mem_put(ctx->alloc, end, sizeof(*end));
}

void iofi_kends_remove(struct iofi_kcontext *ctx, uint32_t dev_id)
{
	struct iofi_kend **at = &ctx->ends;

	while (*at)
		if ((*at)->dev_id == dev_id)
			unlink_end(ctx, at);
		else
			at = &(*at)->next;
}

static bool same_seat(struct iofi_kcontext *ctx, const struct iofi_kend *end, const struct iofi_kobject *dev, uint32_t pasid)
{
	const struct iofi_kobject *other = iofi_kobject_find(ctx, end->dev_id);

	return other && dev && other->group == dev->group && end->pasid == pasid && end->hwpt_id;
}

void iofi_kend_move(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid, uint32_t hwpt_id)
{
	struct iofi_kend *own = iofi_kend_find(ctx, dev_id, pasid);
	struct iofi_kobject *dev = iofi_kobject_find(ctx, dev_id);

	if (hwpt_id)
		for (struct iofi_kend *end = ctx->ends; end; end = end->next)
			if (same_seat(ctx, end, dev, pasid))
				end->hwpt_id = hwpt_id;
	if (own)
		own->hwpt_id = hwpt_id;
	if (own && !hwpt_id && pasid != IOF_NO_PASID)
		unlink_end(ctx, seek(ctx, dev_id, pasid));
}

static bool is_used(struct iofi_kcontext *ctx, uint32_t hwpt_id)
{
	for (struct iofi_kend *end = ctx->ends; end; end = end->next)
		if (end->hwpt_id == hwpt_id)
			return true;
	return false;
}

void iofi_khwpt_sweep(struct iofi_kcontext *ctx)
{
	struct iof_range rest = { 0, UINT32_MAX };
	struct iof_index_entry e;
	struct iofi_kobject *o;

	while (rest.start <= rest.last && iof_index_first(ctx->objects, rest, &e)) {
		o = (struct iofi_kobject *)(uintptr_t)e.value;
		rest.start = e.range.last + 1;
		if (o->kind == IOFI_KHWPT && o->automatic && !is_used(ctx, o->id))
			iofi_kobject_remove(ctx, o->id);
	}
}
