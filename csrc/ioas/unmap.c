/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "ioas/access.h"
#include "ioas/fill.h"
#include "ioas/hwpt.h"
#include "ioas/lane.h"
#include "ioas/place.h"
#include "ioas/va.h"

int iofi_claim(const struct iof_index_entry *e, struct iof_range r)
{
	struct iof_area *area = iofi_area_of(e);

	if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE || area->locks)
		return -EBUSY;
	if (!iof_range_contains(r, e->range))
		return -ENOENT;
	if (iof_unlikely(area->accesses)) {
		area->prevent = 1;
		return IOF_CLAIM_PINNED;
	}
	iofi_area_set(area, IOF_AREA_REMOVING);
	return 0;
}

/* Waits for the accesses that are at work in the IOAS now. Not under the IOVA lock. */
static void wait_for_uses(struct iof_ioas *ioas)
{
	iof_rwlock_write(&ioas->use_lock);
	iof_rwlock_write_drop(&ioas->use_lock);
}

/*
 * Somebody has pinned the area: asks everybody to let go of it (R3.7 step 4). Both locks are dropped meanwhile. No pin is half-way when the question is
 * put: either its pages are there to be given back, or it was refused.
 */
static void ask(struct iof_ioas *ioas, struct iof_range area)
{
	iofi_iova_drop(ioas);
	iof_object_ref(&ioas->object);
	iofi_end(ioas);
	wait_for_uses(ioas);
	iofi_access_notify(ioas, area);
	iofi_begin(ioas);
	iof_object_put(&ioas->object);
}

static bool idle(struct iof_ioas *ioas)
{
	for (uint32_t i = 0; i < ioas->n_domains; i++)
		if (!iof_rsec_looks_idle(&ioas->domains[i]->rsec))
			return false;
	return true;
}

bool iofi_quick(struct iof_ioas *ioas, struct iof_range r, bool nowait)
{
	return iof_range_span(r) < IOF_NOWAIT_BYTES && !ioas->n_accesses && idle(ioas) &&
	       !(nowait && atomic_load_explicit(&ioas->memory->physical, memory_order_relaxed));
}

/* The way out of the page tables, without the IOVA lock unless `keep`. */
static void cut_off(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r, bool keep)
{
	bool used = ioas->n_accesses;

	if (!keep)
		iofi_iova_drop(ioas);
	if (iof_unlikely(used))
		wait_for_uses(ioas);
	iofi_area_unfill(ioas, area, r);
	if (!keep)
		iofi_iova_take(ioas);
}

/*
 * The IOVA lock is held on entry and on return, and dropped while page tables are cleared and accesses finish. It is kept for work that is shorter
 * than handing the lock over; and by one who may not wait, because taking it again may be waiting.
 */
static void remove_area(struct iof_ioas *ioas, const struct iof_index_entry *e, bool nowait)
{
	struct iof_area *area = iofi_area_of(e);
	struct iof_record *elsewhere;

	if (iof_unlikely(ioas->va_index))
		iofi_va_remove(ioas, area, e->range);
	if (area->held || ioas->n_accesses)
		cut_off(ioas, area, e->range, nowait || iofi_quick(ioas, e->range, false));
	iof_space_remove(ioas->space, e->range.start);
	elsewhere = iof_area_put(ioas->records, area);
	if (iof_unlikely(elsewhere)) {
		iofi_iova_drop(ioas);
		iof_record_retire(elsewhere);
		iofi_iova_take(ioas);
	}
}

static int unmap_locked(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes)
{
	struct iof_range from = r;
	struct iof_index_entry e;
	unsigned rounds = 0;
	int rc;

	while (iof_space_first(ioas->space, from, &e)) {
		if (e.range.start != from.start)
			rounds = 0;
		rc = iofi_claim(&e, r);
		if (iof_unlikely(rc == IOF_CLAIM_PINNED)) {
			from.start = e.range.start;
			ask(ioas, e.range);
			if (++rounds > IOF_ACCESS_ROUNDS)
				return -EDEADLOCK;
			continue;
		}
		if (iof_unlikely(rc))
			return rc;
		remove_area(ioas, &e, nowait);
		*bytes += iof_range_length(e.range);
		iofi_count(&ioas->records->count.unmaps, 1);
		iofi_count(&ioas->records->count.bytes, -iof_range_length(e.range));
		if (e.range.last == r.last)
			break;
		from.start = e.range.last + 1;
		rounds = 0;
	}
	return 0;
}

static int unmap_in_index(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes)
{
	int rc = iofi_iova_take_for(ioas, r, nowait, NULL);

	if (iof_unlikely(rc))
		return rc;
	rc = nowait && !iofi_quick(ioas, r, true) ? -EAGAIN : unmap_locked(ioas, r, nowait, bytes);
	iofi_iova_drop(ioas);
	return rc;
}

int iof_ioas_unmap(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes)
{
	int rc = iofi_lanes_closed(ioas) ? -ENOENT : iofi_lane_unmap(ioas, r, nowait);

	*bytes = 0;
	if (iof_likely(rc == -ENOENT))
		return unmap_in_index(ioas, r, nowait, bytes);
	if (!rc)
		*bytes = iof_range_length(r);
	return rc;
}
