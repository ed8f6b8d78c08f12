/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/hwpt.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "ioas/fill.h"

/* ---- page table ---- */

/* What guests' tables were walked through is not known by the parent's IOVAs: all of it goes. */
static void forget_nested(struct iof_hwpt *hwpt)
{
	if (iof_unlikely(atomic_load_explicit(&hwpt->used_nested, memory_order_relaxed)))
		iof_iotlb_invalidate_nested(&hwpt->iommu->iotlb, &IOF_IOTLB_OF_PARENT(hwpt->domain), IOF_RANGE_ALL);
}

/* Also when the invalidation threw nothing out: a reader may be at work with an entry that somebody else's miss has evicted since. */
void iofi_hwpt_quiesce(struct iof_hwpt *hwpt, struct iof_range r)
{
	iof_rsec_sync(&hwpt->rsec);
	if (iof_likely(!atomic_load_explicit(&hwpt->used, memory_order_relaxed)))
		return;
	iof_iotlb_invalidate(&hwpt->iommu->iotlb, hwpt->domain, r);
	forget_nested(hwpt);
	iof_rsec_sync(&hwpt->rsec);
}

/* A map that fails half-way has shown its first half for a moment: some DMA may have been through it, and the IOTLB may remember. */
int iofi_hwpt_map(struct iof_hwpt *hwpt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot)
{
	struct iof_pt_gather g = { 0 };
	int rc;

	prot |= IOF_PROT_CACHE;
	if (iof_unlikely(hwpt->ioas->small_pages && length > IOF_PAGE_SIZE))
		rc = iof_pt_map_small(hwpt->pt, iova, address, length, prot, IOF_PAGE_SHIFT, &g);
	else
		rc = iof_pt_map(hwpt->pt, iova, address, length, prot, &g);
	if (iof_unlikely(rc))
		iofi_hwpt_quiesce(hwpt, (struct iof_range){ iova, iova + (length - 1) });
	else if (iof_unlikely(g.count))
		iof_rsec_sync(&hwpt->rsec);
	if (iof_unlikely(g.count))
		iof_pt_release(hwpt->pt, &g);
	return rc;
}

void iofi_hwpt_unmap(struct iof_hwpt *hwpt, struct iof_range r)
{
	struct iof_pt_gather g = { 0 };

	/* The table's walk stops at a gap; an area has none, but the page table counts in 64 bits. */
	iof_pt_unmap(hwpt->pt, r.start, iof_range_length(r), &g);
	iofi_hwpt_quiesce(hwpt, r);
	if (g.count)
		iof_pt_release(hwpt->pt, &g);
}

void iofi_hwpt_unmap_many(struct iof_hwpt *hwpt, const struct iof_shown *at, size_t n)
{
	struct iof_pt_gather g = { 0 };

	for (size_t i = 0; i < n; i++)
		if (iof_likely(at[i].area->held))
			iof_pt_unmap(hwpt->pt, at[i].r.start, iof_range_length(at[i].r), &g);
	iof_rsec_sync(&hwpt->rsec);
	if (iof_unlikely(atomic_load_explicit(&hwpt->used, memory_order_relaxed))) {
		for (size_t i = 0; i < n; i++)
			iof_iotlb_invalidate(&hwpt->iommu->iotlb, hwpt->domain, at[i].r);
		forget_nested(hwpt);
		iof_rsec_sync(&hwpt->rsec);
	}
	if (g.count)
		iof_pt_release(hwpt->pt, &g);
}

/* ---- the gate ---- */

unsigned iofi_hwpt_enter_slow(struct iof_hwpt *hwpt, unsigned token)
{
	do {
		iof_rsec_leave(&hwpt->rsec, token);
		while (atomic_load_explicit(&hwpt->gate, memory_order_acquire))
			sched_yield();
		token = iof_rsec_enter(&hwpt->rsec);
	} while (atomic_load_explicit(&hwpt->gate, memory_order_acquire));
	return token;
}

void iofi_hwpt_shut(struct iof_hwpt *hwpt)
{
	atomic_store_explicit(&hwpt->gate, true, memory_order_seq_cst);
	iof_rsec_sync(&hwpt->rsec);
}

void iofi_hwpt_open(struct iof_hwpt *hwpt)
{
	atomic_store_explicit(&hwpt->gate, false, memory_order_release);
}

/* ---- joining and leaving the IOAS ---- */

static int make_room(struct iof_ioas *ioas)
{
	uint32_t room = ioas->room ? ioas->room * 2 : 4;
	struct iof_hwpt **at;

	if (ioas->n_domains < ioas->room)
		return 0;
	at = iof_mem_get(ioas->memory->alloc, room * sizeof(struct iof_hwpt *), 16);
	if (!at)
		return -ENOMEM;
	if (ioas->n_domains)
		memcpy(at, ioas->domains, ioas->n_domains * sizeof(*at));
	iof_mem_put(ioas->memory->alloc, ioas->domains, ioas->room * sizeof(*at));
	ioas->domains = at;
	ioas->room = room;
	return 0;
}

/* What the aperture leaves out at either end is reserved for as long as the table is here (R3.2.3). */
static int reserve_outside(struct iof_hwpt *hwpt, struct iof_range aperture)
{
	struct iof_space *space = hwpt->ioas->space;
	uint64_t owner = (uintptr_t)hwpt;
	int rc = 0;

	if (aperture.start)
		rc = iof_space_reserve(space, (struct iof_range){ 0, aperture.start - 1 }, owner);
	if (!rc && aperture.last != UINT64_MAX)
		rc = iof_space_reserve(space, (struct iof_range){ aperture.last + 1, UINT64_MAX }, owner);
	if (rc)
		iof_space_unreserve(space, owner);
	return rc;
}

static bool next_area(struct iof_ioas *ioas, struct iof_range *from, struct iof_index_entry *e)
{
	if (from->start > from->last || !iof_space_first(ioas->space, *from, e))
		return false;
	*from = e->range.last == from->last ? (struct iof_range){ 1, 0 } : (struct iof_range){ e->range.last + 1, from->last };
	return true;
}

/* Takes the table out of the areas below `end`; all of them with end 2^64-1. */
static void empty_below(struct iof_hwpt *hwpt, uint64_t end, bool last)
{
	struct iof_range from = { 0, end };
	struct iof_index_entry e;

	while (next_area(hwpt->ioas, &from, &e))
		iofi_area_leave(hwpt->ioas, hwpt, iofi_area_of(&e), e.range, last);
}

static int replay(struct iof_hwpt *hwpt)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	int rc;

	while (next_area(hwpt->ioas, &from, &e)) {
		rc = iofi_area_join(hwpt->ioas, hwpt, iofi_area_of(&e), e.range);
		if (!rc)
			continue;
		if (e.range.start)
			empty_below(hwpt, e.range.start - 1, !hwpt->ioas->n_domains);
		return rc;
	}
	return 0;
}

static int join_locked(struct iof_hwpt *hwpt)
{
	struct iof_ioas *ioas = hwpt->ioas;
	uint64_t smallest = UINT64_C(1) << iof_ctz(iof_pt_page_sizes(hwpt->pt));
	uint64_t alignment = smallest > ioas->alignment ? smallest : ioas->alignment;
	int rc = make_room(ioas);

	if (rc)
		return rc;
	if (alignment > IOF_PAGE_SIZE)
		return -EINVAL;
	if (alignment != ioas->alignment)
		rc = iofi_ioas_check_alignment(ioas, alignment);
	if (!rc)
		rc = reserve_outside(hwpt, hwpt->aperture);
	if (rc)
		return rc;
	rc = replay(hwpt);
	if (rc) {
		iof_space_unreserve(ioas->space, (uintptr_t)hwpt);
		return rc;
	}
	ioas->alignment = alignment;
	hwpt->index = ioas->n_domains;
	ioas->domains[ioas->n_domains++] = hwpt;
	return 0;
}

static void leave_locked(struct iof_hwpt *hwpt)
{
	struct iof_ioas *ioas = hwpt->ioas;
	struct iof_hwpt *moved = ioas->domains[--ioas->n_domains];

	moved->index = hwpt->index;
	ioas->domains[hwpt->index] = moved;
	empty_below(hwpt, UINT64_MAX, !ioas->n_domains);
	iof_space_unreserve(ioas->space, (uintptr_t)hwpt);
	ioas->alignment = iofi_ioas_alignment(ioas);
}

static void lock_all(struct iof_ioas *ioas)
{
	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
}

static void unlock_all(struct iof_ioas *ioas)
{
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
}

int iof_hwpt_join(struct iof_hwpt *hwpt)
{
	struct iof_ioas *ioas = hwpt->ioas;
	int rc;

	lock_all(ioas);
	rc = join_locked(hwpt);
	unlock_all(ioas);
	if (rc)
		return rc;
	if (ioas->last_hwpt)
		ioas->last_hwpt->next = hwpt;
	else
		ioas->first_hwpt = hwpt;
	ioas->last_hwpt = hwpt;
	return 0;
}

static void unlink_hwpt(struct iof_ioas *ioas, struct iof_hwpt *hwpt)
{
	struct iof_hwpt **at = &ioas->first_hwpt, *before = NULL;

	for (; *at != hwpt; at = &before->next)
		before = *at;
	*at = hwpt->next;
	if (ioas->last_hwpt == hwpt)
		ioas->last_hwpt = before;
}

/* ---- life ---- */

static void hwpt_free(struct iof_hwpt *hwpt)
{
	struct iof_alloc *a = hwpt->ioas->memory->alloc;

	if (hwpt->fault)
		iof_object_put((struct iof_object *)hwpt->fault);
	iof_pt_destroy(hwpt->pt);
	iof_object_put(&hwpt->ioas->object);
	iof_mem_put(a, hwpt, sizeof(*hwpt));
}

/* 5.1 steps 1 to 4. */
static int check_request(const struct iof_hwpt_request *rq)
{
	const struct iof_driver *driver = rq->dev->iommu->driver;

	if ((rq->flags || rq->data) && !driver->paging_flags)
		return -EOPNOTSUPP;
	if (rq->flags & ~(uint32_t)(IOF_HWPT_KIND_NEST_PARENT | IOF_HWPT_KIND_DIRTY | IOF_HWPT_KIND_FAULT | IOF_HWPT_KIND_PASID))
		return -EOPNOTSUPP;
	if (rq->flags & IOF_HWPT_KIND_DIRTY && !rq->dev->caps.dirty_tracking)
		return -EOPNOTSUPP;
	if (rq->flags & IOF_HWPT_KIND_FAULT && rq->flags & IOF_HWPT_KIND_NEST_PARENT)
		return -EOPNOTSUPP;
	return driver->paging_alloc ? 0 : -EOPNOTSUPP;
}

/* The driver's choice of a table, and the table. */
static int make_table(struct iof_hwpt *hwpt, struct iof_alloc *a, const struct iof_hwpt_request *rq)
{
	struct iof_iommu *iommu = rq->dev->iommu;
	struct iof_paging_plan plan = { 0 };
	int rc = iof_alloc_may_fail(a) ? -ENOMEM :
		 iommu->driver->paging_alloc(iommu->drv, rq->dev, rq->flags & ~(uint32_t)IOF_HWPT_KIND_FAULT, rq->data, &plan);

	if (!rc)
		rc = iof_pt_create(&plan.table, a, &hwpt->pt);
	if (rc)
		return rc;
	hwpt->kind = rq->flags & ~(uint32_t)(IOF_HWPT_KIND_DIRTY | IOF_HWPT_KIND_FAULT);
	hwpt->kind |= plan.dirty ? IOF_HWPT_KIND_DIRTY : 0;
	hwpt->aperture = plan.aperture.last ? plan.aperture : iof_pt_aperture(hwpt->pt);
	return 0;
}

int iof_hwpt_create(struct iof_ioas *ioas, const struct iof_hwpt_request *rq, struct iof_hwpt **out)
{
	struct iof_context *ctx = ioas->ctx;
	struct iof_alloc *a = ioas->memory->alloc;
	struct iof_hwpt *hwpt;
	int rc = check_request(rq);

	if (rc)
		return rc;
	hwpt = iof_mem_zget(a, sizeof(*hwpt), IOF_CACHELINE);
	if (!hwpt)
		return -ENOMEM;
	rc = iof_object_reserve(&ctx->objects, &hwpt->object, IOF_OBJECT_HWPT);
	if (rc)
		goto no_id;
	rc = make_table(hwpt, a, rq);
	if (rc)
		goto no_table;
	hwpt->ctx = ctx;
	hwpt->ioas = ioas;
	hwpt->iommu = rq->dev->iommu;
	hwpt->automatic = rq->automatic;
	hwpt->domain = atomic_fetch_add(&ctx->machine->next_domain, 1) + 1;
	iof_rsec_init(&hwpt->rsec, a->shared);
	iof_object_ref(&ioas->object);
	*out = hwpt;
	return 0;
no_table:
	iof_object_abort(&ctx->objects, &hwpt->object);
no_id:
	iof_mem_put(a, hwpt, sizeof(*hwpt));
	return rc;
}

void iof_hwpt_abort(struct iof_hwpt *hwpt)
{
	iof_object_abort(&hwpt->ioas->ctx->objects, &hwpt->object);
	hwpt_free(hwpt);
}

/* No device is attached and no call uses it: its IOTLB entries go once and for all, not area by area. */
void iof_hwpt_dispose(struct iof_hwpt *hwpt)
{
	struct iof_ioas *ioas = hwpt->ioas;

	iofi_hwpt_quiesce(hwpt, IOF_RANGE_ALL);
	atomic_store_explicit(&hwpt->used, false, memory_order_relaxed);
	atomic_store_explicit(&hwpt->used_nested, false, memory_order_relaxed);
	lock_all(ioas);
	leave_locked(hwpt);
	unlock_all(ioas);
	unlink_hwpt(ioas, hwpt);
	hwpt_free(hwpt);
}

void iof_hwpt_discard(struct iof_hwpt *hwpt)
{
	iof_object_abort(&hwpt->ctx->objects, &hwpt->object);
	if (iofi_hwpt_nested(hwpt))
		iof_hwpt_dispose_nested(hwpt);
	else
		iof_hwpt_dispose(hwpt);
}

void iof_hwpt_get_user(struct iof_hwpt *hwpt)
{
	hwpt->attached++;
	iof_object_ref(&hwpt->object);
}

void iof_hwpt_put_user(struct iof_hwpt *hwpt)
{
	iof_object_put(&hwpt->object);
	if (--hwpt->attached || !hwpt->automatic)
		return;
	iof_object_remove_wait(&hwpt->ctx->objects, &hwpt->object);
	iof_hwpt_dispose(hwpt);
}
