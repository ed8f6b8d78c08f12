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

static int insert(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **out,
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

static void count(struct iof_ioas *ioas, uint64_t maps, uint64_t bytes)
{
	iofi_count(&ioas->count.maps, maps);
	iofi_count(&ioas->count.bytes, bytes);
}

/* In every page table, and in the address index where there is one. */
static int show(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	int rc = iofi_area_fill(ioas, area, r);

	if (iof_likely(!ioas->va_index) || rc)
		return rc;
	rc = iofi_va_add(ioas, area, r);
	if (rc)
		iofi_area_unfill(ioas, area, r);
	return rc;
}

static void hide(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	if (iof_unlikely(ioas->va_index))
		iofi_va_remove(ioas, area, r);
	iofi_area_unfill(ioas, area, r);
}

/* The area could not be shown: out of the index again. */
static void withdraw(struct iof_ioas *ioas, struct iof_record *rec, struct iof_range r)
{
	iofi_iova_take(ioas);
	count(ioas, -UINT64_C(1), -iof_range_length(r));
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
	struct iof_range meets = rq->fixed ? (struct iof_range){ rq->iova, rq->iova + rq->length } : IOF_RANGE_ALL;
	bool waited = false;
	int rc = iofi_iova_take_for(ioas, meets.start <= meets.last ? meets : IOF_RANGE_ALL, rq->nowait, &waited);

	if (iof_unlikely(rc))
		return rc;
	rc = insert(ioas, rq, account, rec, r);
	if (iof_likely(!rc))
		count(ioas, 1, rq->length);
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
	rc = show(ioas, &rec->area, r);
	if (iof_unlikely(rc)) {
		withdraw(ioas, rec, r);
		return rc;
	}
	rq->iova = r.start;
	iofi_area_set(&rec->area, IOF_AREA_LIVE);
	return 0;
}

/* ---- batches ---- */

static struct iof_record *record_of(const struct iof_index_entry *e)
{
	return iof_container_of(iofi_area_of(e), struct iof_record, area);
}

/* What is known of a batch before the lock: how many maps from this one on make a run, and the bits that the alignment has to allow. */
struct outlook {
	size_t run; /* 0: not for a run, something may be wrong with it */
	uint64_t bits;
};

/* A map of user memory that nothing but its alignment and a lack of room or memory can refuse, wherever it goes. */
static bool plain(const struct iof_map_request *rq)
{
	return !rq->file && rq->length && rq->length >> 63 == 0 && rq->user_va < UINT64_MAX - rq->length &&
	       (!rq->fixed || rq->iova <= UINT64_MAX - (rq->length - 1));
}

/* Two plain maps that differ in where they are only, and are to be side by side: if b is placed right after a, it will be. */
static bool mates(const struct iof_map_request *a, const struct iof_map_request *b)
{
	return a->length == b->length && a->prot == b->prot && a->policy == b->policy && a->fixed == b->fixed &&
	       iof_space_alike(a->user_va, b->user_va, a->length) && (!a->fixed || a->iova + a->length == b->iova);
}

static void look_out(const struct iof_map_request *rq, size_t n, struct outlook *at)
{
	struct outlook behind = { 0, 0 };

	while (n--) {
		if (!behind.run || !plain(&rq[n]) || !mates(&rq[n], &rq[n + 1]))
			behind = (struct outlook){ 0, 0 };
		behind.run = plain(&rq[n]) ? behind.run + 1 : 0;
		behind.bits |= (rq[n].user_va & IOF_PAGE_MASK) | rq[n].length | (rq[n].fixed ? rq[n].iova : 0);
		at[n] = behind;
	}
}

/* Records for n mates: how many there is memory for. IOVA lock. */
static size_t get_records(struct iof_ioas *ioas, const struct iof_map_request *rq, size_t n, struct iof_account *account,
			  struct iof_index_entry *at)
{
	const struct iof_area area = { .first_byte = rq->user_va & IOF_PAGE_MASK, .prot = rq->prot & 7 };
	struct iof_record *rec[IOF_BATCH];
	size_t got = iof_records_get_many(ioas->records, rec, n);
	struct iof_pages pages;

	iof_pages_init_user(&pages, ioas->memory, rq->user_va, rq->length, rq->prot & IOF_PROT_WRITE, rq->policy, account);
	for (size_t i = 0; i < got; i++) {
		rec[i]->area = area;
		rec[i]->pages = pages;
		rec[i]->pages.base = iof_align_down(rq[i].user_va, IOF_PAGE_SIZE);
		at[i] = (struct iof_index_entry){ { rq[i].iova, rq[i].iova + (rq->length - 1) }, (uintptr_t)&rec[i]->area };
	}
	return got;
}

/* n mates, as far as they go. *rc: why the next one does not; 0: the reason is for insert_one() to find. IOVA lock. */
static size_t insert_run(struct iof_ioas *ioas, const struct iof_map_request *rq, size_t n, struct iof_account *account,
			 struct iof_index_entry *at, int *rc)
{
	size_t ready = get_records(ioas, rq, n, account, at), in;

	if (rq->fixed)
		in = iof_space_insert_run(ioas->space, at, ready, rc);
	else
		in = iof_space_take_run(ioas->space, rq->user_va, rq->length, ioas->alignment, at, ready, rc);
	for (size_t i = in; i < ready; i++)
		iof_records_put(ioas->records, record_of(&at[i]));
	if (iof_unlikely(in == ready && ready < n))
		*rc = -ENOMEM;
	return in;
}

static int insert_one(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_index_entry *at)
{
	struct iof_record *rec;
	int rc = insert(ioas, rq, account, &rec, &at->range);

	if (iof_likely(!rc))
		at->value = (uintptr_t)&rec->area;
	return rc;
}

/* Into the index, in transition: as many as go. *rc: why the next one did not. IOVA lock. */
static size_t insert_batch(struct iof_ioas *ioas, struct iof_map_request *rq, size_t n, const struct outlook *out,
			   struct iof_account *account, struct iof_index_entry *at, int *rc)
{
	uint64_t bytes = 0;
	size_t i = 0, k;

	for (*rc = 0; i < n && !*rc;) {
		if (out[i].run > 1 && !(out[i].bits & (ioas->alignment - 1))) {
			k = insert_run(ioas, rq + i, out[i].run, account, at + i, rc);
		} else {
			*rc = insert_one(ioas, rq + i, account, at + i);
			k = !*rc;
		}
		bytes += k * rq[i].length;
		i += k;
	}
	count(ioas, i, bytes);
	return i;
}

static size_t fill_batch(struct iof_ioas *ioas, struct iof_index_entry *at, size_t n, int *rc)
{
	size_t i;

	for (i = 0, *rc = 0; i < n; i++) {
		*rc = show(ioas, iofi_area_of(&at[i]), at[i].range);
		if (iof_unlikely(*rc))
			break;
	}
	return i;
}

static void undo_batch(struct iof_ioas *ioas, struct iof_index_entry *at, size_t filled, size_t n)
{
	while (n--) {
		if (n < filled)
			hide(ioas, iofi_area_of(&at[n]), at[n].range);
		withdraw(ioas, record_of(&at[n]), at[n].range);
	}
}

int iof_ioas_map_batch(struct iof_ioas *ioas, struct iof_map_request *rq, size_t n, size_t *failed)
{
	struct iof_index_entry at[IOF_BATCH];
	struct outlook out[IOF_BATCH];
	struct iof_account *account;
	size_t in, filled;
	int rc = iof_context_account(ioas->ctx, &account), late;

	*failed = 0;
	if (iof_unlikely(rc))
		return rc;
	look_out(rq, n, out);
	iofi_iova_take(ioas);
	in = insert_batch(ioas, rq, n, out, account, at, &late);
	iofi_iova_drop(ioas);
	filled = fill_batch(ioas, at, in, &rc);
	*failed = filled;
	if (iof_likely(!rc))
		rc = late;
	if (iof_unlikely(rc))
		undo_batch(ioas, at, filled, in);
	for (size_t i = 0; i < in && !rc; i++) {
		rq[i].iova = at[i].range.start;
		iofi_area_set(iofi_area_of(&at[i]), IOF_AREA_LIVE);
	}
	return rc;
}
