/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "ioas/access.h"
#include "ioas/fill.h"
#include "ioas/hwpt.h"
#include "ioas/lane.h"
#include "ioas/place.h"
#include "ioas/va.h"

#define PINNED 1

/* May this area go? In transition or locked: -EBUSY; sticking out of the range: -ENOENT (R3.7, in that order). PINNED: not yet. */
static int claim(const struct iof_index_entry *e, struct iof_range r)
{
	struct iof_area *area = iofi_area_of(e);

	if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE || area->locks)
		return -EBUSY;
	if (!iof_range_contains(r, e->range))
		return -ENOENT;
	if (iof_unlikely(area->accesses)) {
		area->prevent = 1;
		return PINNED;
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
		rc = claim(&e, r);
		if (iof_unlikely(rc == PINNED)) {
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
		iofi_count(&ioas->count.unmaps, 1);
		iofi_count(&ioas->count.bytes, -iof_range_length(e.range));
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

/* ---- batches ---- */

/* The first of at[0..n) that may go with no more ado, up to one that is not one area or may not: they are claimed. How many. IOVA lock. */
static size_t claim_batch(struct iof_ioas *ioas, const uint64_t *starts, const uint64_t *lengths, size_t n, struct iof_shown *at)
{
	uint64_t areas[IOF_BATCH];
	struct iof_index_entry e;
	size_t found = iof_space_match(ioas->space, starts, lengths, n, areas), i;

	for (i = 0; i < found; i++) {
		e = (struct iof_index_entry){ { starts[i], starts[i] + (lengths[i] - 1) }, areas[i] };
		if (iofi_area_of(&e)->accesses || claim(&e, e.range))
			break;
		at[i] = (struct iof_shown){ iofi_area_of(&e), e.range };
		if (iof_unlikely(ioas->va_index))
			iofi_va_remove(ioas, at[i].area, e.range);
	}
	return i;
}

/* Out of the index. Records whose container belongs to another IOAS remain to be retired; how many. IOVA lock. */
static size_t remove_batch(struct iof_ioas *ioas, const uint64_t *starts, const struct iof_shown *at, size_t n,
			   struct iof_record **elsewhere)
{
	uint64_t bytes = 0;
	size_t left = 0;

	iof_space_remove_many(ioas->space, starts, n);
	for (size_t i = 0; i < n; i++) {
		elsewhere[left] = iof_area_put(ioas->records, at[i].area);
		left += elsewhere[left] != NULL;
		bytes += iof_range_length(at[i].r);
	}
	iofi_count(&ioas->count.bytes, -bytes);
	iofi_count(&ioas->count.unmaps, n);
	return left;
}

size_t iof_ioas_unmap_batch(struct iof_ioas *ioas, const uint64_t *iovas, const uint64_t *lengths, size_t n)
{
	uint64_t starts[IOF_BATCH], sizes[IOF_BATCH]; /* the caller's may change meanwhile */
	struct iof_record *elsewhere[IOF_BATCH];
	struct iof_shown at[IOF_BATCH];
	size_t done = 0, left = 0;

	memcpy(starts, iovas, n * sizeof(*starts));
	memcpy(sizes, lengths, n * sizeof(*sizes));
	iofi_iova_take(ioas);
	if (iof_likely(!ioas->n_accesses))
		done = claim_batch(ioas, starts, sizes, n, at);
	if (done) {
		iofi_iova_drop(ioas);
		iofi_areas_unfill(ioas, at, done);
		iofi_iova_take(ioas);
		left = remove_batch(ioas, starts, at, done, elsewhere);
	}
	iofi_iova_drop(ioas);
	while (left)
		iof_record_retire(elsewhere[--left]);
	return done;
}
