/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "ioas/fill.h"
#include "ioas/hwpt.h"
#include "ioas/place.h"

/* May this area go? In transition: -EBUSY; sticking out of the range: -ENOENT (R3.7, in that order). */
static int claim(const struct iof_index_entry *e, struct iof_range r)
{
	struct iof_area *area = iofi_area_of(e);

	if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE)
		return -EBUSY;
	if (!iof_range_contains(r, e->range))
		return -ENOENT;
	iofi_area_set(area, IOF_AREA_REMOVING);
	return 0;
}

/*
 * The IOVA lock is held on entry and on return, and dropped while page tables are cleared; one who may not wait keeps it, because taking it again
 * may be waiting.
 */
static void remove_area(struct iof_ioas *ioas, const struct iof_index_entry *e, bool nowait)
{
	struct iof_area *area = iofi_area_of(e);
	struct iof_record *elsewhere;

	if (area->held) {
		if (!nowait)
			iof_lock_drop(&ioas->records->lock);
		iofi_area_unfill(ioas, area, e->range);
		if (!nowait)
			iof_lock_take(&ioas->records->lock);
	}
	iof_space_remove(ioas->space, e->range.start);
	elsewhere = iof_area_put(ioas->records, area);
	if (iof_unlikely(elsewhere)) {
		iof_lock_drop(&ioas->records->lock);
		iof_record_retire(elsewhere);
		iof_lock_take(&ioas->records->lock);
	}
}

static int unmap_locked(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes)
{
	struct iof_range from = r;
	struct iof_index_entry e;
	int rc;

	while (iof_space_first(ioas->space, from, &e)) {
		rc = claim(&e, r);
		if (iof_unlikely(rc))
			return rc;
		remove_area(ioas, &e, nowait);
		*bytes += iof_range_length(e.range);
		iofi_count(&ioas->count.unmaps, 1);
		iofi_count(&ioas->count.bytes, -iof_range_length(e.range));
		if (e.range.last == r.last)
			break;
		from.start = e.range.last + 1;
	}
	return 0;
}

static bool idle(struct iof_ioas *ioas)
{
	for (uint32_t i = 0; i < ioas->n_domains; i++)
		if (!iof_rsec_idle(&ioas->domains[i]->rsec))
			return false;
	return true;
}

/* Short work only: a small range, and nobody in a read section that would have to be waited for. */
static bool quick(struct iof_ioas *ioas, struct iof_range r)
{
	return iof_range_span(r) < IOF_NOWAIT_BYTES && idle(ioas);
}

int iof_ioas_unmap(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes)
{
	int rc = iofi_begin(ioas, nowait);

	*bytes = 0;
	if (iof_unlikely(rc))
		return rc;
	rc = nowait && !quick(ioas, r) ? -EAGAIN : unmap_locked(ioas, r, nowait, bytes);
	iof_lock_drop(&ioas->records->lock);
	iofi_end(ioas);
	return rc;
}
