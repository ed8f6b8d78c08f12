/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "ioas/fill.h"
#include "ioas/lane.h"
#include "ioas/place.h"
#include "ioas/va.h"

int iofi_iova_take_for_slow(struct iof_ioas *ioas, struct iof_range r, bool nowait, bool *waited)
{
	if (iof_unlikely(nowait && !iofi_lanes_closed(ioas)))
		return -EAGAIN;
	if (iof_unlikely(!iof_lock_try(&ioas->records->lock))) {
		if (nowait)
			return -EAGAIN;
		iof_lock_take(&ioas->records->lock);
		if (waited)
			*waited = true;
	}
	iofi_lanes_close_in(ioas, r);
	return 0;
}

void iofi_begin(struct iof_ioas *ioas)
{
	iof_brlock_read(iofi_domains(ioas));
	iofi_iova_take(ioas);
}

int iofi_place(struct iof_ioas *ioas, uint64_t addr, uint64_t length, bool fixed, uint64_t iova, struct iof_range *r)
{
	int rc;

	if (!length || length & (ioas->alignment - 1))
		return -EINVAL;
	if (!fixed) {
		rc = iof_space_place(ioas->space, addr, length, ioas->alignment, &iova);
		if (iof_unlikely(rc))
			return rc;
		*r = (struct iof_range){ iova, iova + (length - 1) };
		return 0;
	}
	if (iova & (ioas->alignment - 1))
		return -EINVAL;
	rc = iof_range_make(iova, length, r);
	return rc ? rc : iof_space_check(ioas->space, *r);
}

/* The record's container is ready: finds the place and puts the area there, in transition. */
static int place_record(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_record *rec, struct iof_range *r)
{
	int rc = iofi_place(ioas, rq->user_va, rq->length, rq->fixed, rq->iova, r);

	if (iof_unlikely(rc))
		return rc;
	rec->area.first_byte = rq->user_va & IOF_PAGE_MASK;
	rec->area.prot = rq->prot & 7;
	if (iof_unlikely(rec->area.first_byte & (ioas->alignment - 1)))
		return -EINVAL;
	if (iof_unlikely(rq->length >> 63) && rq->length > UINT64_MAX - IOF_PAGE_MASK - rec->area.first_byte)
		return -EOVERFLOW; /* its pages cannot be counted */
	return iof_space_insert(ioas->space, *r, (uintptr_t)&rec->area);
}

static int init_pages(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_pages *p)
{
	bool writable = rq->prot & IOF_PROT_WRITE;

	if (iof_unlikely(rq->file))
		return iof_pages_init_file(p, ioas->memory, rq->fd, rq->user_va, rq->length, writable, rq->policy, account);
	return iof_pages_init_user(p, ioas->memory, rq->user_va, rq->length, writable, rq->policy, account);
}

int iofi_map_insert(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **out,
		    struct iof_range *r)
{
	struct iof_record *rec = iof_records_get(ioas->records);
	int rc;

	if (iof_unlikely(!rec))
		return -ENOMEM;
	rc = init_pages(ioas, rq, account, &rec->pages);
	if (iof_likely(!rc)) {
		rc = place_record(ioas, rq, rec, r);
		if (iof_likely(!rc)) {
			*out = rec;
			return 0;
		}
		iof_pages_fini(&rec->pages, ioas->memory);
	}
	iof_records_put(ioas->records, rec);
	return rc;
}

void iofi_count_maps(struct iof_ioas *ioas, uint64_t maps, uint64_t bytes)
{
	iofi_count(&ioas->records->count.maps, maps);
	iofi_count(&ioas->records->count.bytes, bytes);
}

int iofi_area_show(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	int rc = iofi_area_fill(ioas, area, r);

	if (iof_likely(!ioas->va_index) || rc)
		return rc;
	rc = iofi_va_add(ioas, area, r);
	if (rc)
		iofi_area_unfill(ioas, area, r);
	return rc;
}

void iofi_withdraw(struct iof_ioas *ioas, struct iof_record *rec, struct iof_range r)
{
	iofi_iova_take(ioas);
	iofi_count_maps(ioas, -UINT64_C(1), -iof_range_length(r));
	iof_space_remove(ioas->space, r.start);
	iof_area_put(ioas->records, &rec->area);
	iofi_iova_drop(ioas);
}

/* More than bookkeeping: memory is touched (a page fault may wait for anything), or looked up, or somebody pays for it. */
static bool may_wait(const struct iof_ioas *ioas, const struct iof_map_request *rq)
{
	return rq->policy != IOF_HOLD_TRUST || ioas->memory->address_mode != IOF_ADDRESS_VA || ioas->ctx->machine->accounting;
}

/* Places and inserts by the index, under the IOVA lock. Others in the way of a fixed map: its window may get a lane. */
static int insert_in_index(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **rec, struct iof_range *r)
{
	struct iof_range meets = IOF_RANGE_ALL;
	bool waited = false;
	int rc;

	if (rq->fixed && iof_range_make(rq->iova, rq->length, &meets))
		meets = IOF_RANGE_ALL; /* the answer is an error */
	rc = iofi_iova_take_for(ioas, meets, rq->nowait, &waited);
	if (iof_unlikely(rc))
		return rc;
	rc = iofi_map_insert(ioas, rq, account, rec, r);
	if (iof_likely(!rc))
		iofi_count_maps(ioas, 1, rq->length);
	if (iof_unlikely(waited && rq->fixed && !rc))
		iofi_lane_wanted(ioas, r->start);
	iofi_iova_drop(ioas);
	return rc;
}

static int place(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **rec, struct iof_range *r)
{
	int rc = iofi_lanes_closed(ioas) ? -ENOENT : iofi_lane_insert(ioas, rq, account, rec, r);

	return iof_likely(rc == -ENOENT) ? insert_in_index(ioas, rq, account, rec, r) : rc;
}

int iof_ioas_map(struct iof_ioas *ioas, struct iof_map_request *rq)
{
	struct iof_account *account;
	struct iof_record *rec;
	struct iof_range r;
	int rc;

	if (iof_unlikely(rq->nowait && may_wait(ioas, rq)))
		return -EAGAIN;
	rc = iof_context_account(ioas->ctx, &account);
	if (iof_unlikely(rc))
		return rc;
	rc = place(ioas, rq, account, &rec, &r);
	if (iof_unlikely(rc))
		return rc;
	rc = iofi_area_show(ioas, &rec->area, r);
	if (iof_unlikely(rc)) {
		iofi_withdraw(ioas, rec, r);
		return rc;
	}
	rq->iova = r.start;
	iofi_area_set(&rec->area, IOF_AREA_LIVE);
	return 0;
}
