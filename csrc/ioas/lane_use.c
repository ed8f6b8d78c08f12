/* SPDX-License-Identifier: Apache-2.0 */
/* Maps and unmaps in an open lane. What is not the plain case is for the index, which then closes the lane. */
#include <errno.h>

#include "ioas/fill.h"
#include "ioas/lane.h"
#include "ioas/place.h"

#define SERVED_MAX (UINT32_C(1) << 16)

/* The pages [first, first + n) of a window. */
struct stretch {
	struct iof_lane *lane;
	unsigned first, n;
};

/* The open lane that r lies in, whole pages; locked. 0, -EAGAIN, -ENOENT. */
static int enter(struct iof_ioas *ioas, struct iof_range r, bool nowait, struct stretch *s)
{
	struct iof_lanes *lanes = atomic_load_explicit(&ioas->lanes, memory_order_acquire);
	uint64_t window = iofi_window_of(r.start);
	unsigned i = 0;

	if ((r.start | (r.last + 1)) & IOF_PAGE_MASK || iofi_window_of(r.last) != window)
		return -ENOENT;
	while (atomic_load_explicit(&lanes->window[i], memory_order_relaxed) != window)
		if (++i == IOFI_LANES)
			return -ENOENT;
	s->lane = &lanes->lane[i];
	if (!iof_lock_try(&s->lane->lock)) {
		if (nowait)
			return -EAGAIN;
		iof_lock_take(&s->lane->lock);
	}
	if (iof_unlikely(atomic_load_explicit(&lanes->window[i], memory_order_relaxed) != window)) {
		iof_lock_drop(&s->lane->lock); /* closed meanwhile */
		return -ENOENT;
	}
	s->first = (unsigned)(r.start >> IOF_PAGE_SHIFT) % IOFI_LANE_PAGES;
	s->n = (unsigned)(iof_range_span(r) >> IOF_PAGE_SHIFT) + 1;
	return 0;
}

static void leave(const struct stretch *s)
{
	iof_lock_drop(&s->lane->lock);
}

/* The bits of `word` that belong to the stretch. */
static uint64_t bits_in(const struct stretch *s, unsigned word)
{
	unsigned from = s->first > word * 64 ? s->first - word * 64 : 0, to = s->first + s->n - word * 64;

	return iof_low_mask(to < 64 ? to : 64) & ~iof_low_mask(from);
}

static unsigned last_word(const struct stretch *s)
{
	return (s->first + s->n - 1) / 64;
}

static bool is_free(const struct stretch *s)
{
	uint64_t used = 0;

	for (unsigned w = s->first / 64; w <= last_word(s); w++)
		used |= s->lane->used[w] & bits_in(s, w);
	return !used;
}

static void flip(const struct stretch *s)
{
	for (unsigned w = s->first / 64; w <= last_word(s); w++)
		s->lane->used[w] ^= bits_in(s, w);
}

static void count(struct iof_lane *lane, uint64_t maps, uint64_t unmaps, uint64_t bytes)
{
	lane->maps += maps;
	lane->unmaps += unmaps;
	lane->bytes += bytes;
	lane->served += lane->served < SERVED_MAX;
}

/* ---- map ---- */

static int init_record(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record *rec)
{
	int rc = iof_pages_init_user(&rec->pages, ioas->memory, rq->user_va, rq->length, rq->prot & IOF_PROT_WRITE, rq->policy, account);

	rec->area = (struct iof_area){ .prot = rq->prot & 7 };
	return rc;
}

static int insert_locked(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, const struct stretch *s)
{
	struct iof_record *rec = s->lane->records, *next;

	if (iof_unlikely(!rec || !is_free(s)))
		return -ENOENT;
	next = *(struct iof_record **)rec;
	if (iof_unlikely(init_record(ioas, rq, account, rec))) {
		*(struct iof_record **)rec = next;
		return -ENOENT;
	}
	s->lane->records = next;
	s->lane->at[s->first] = &rec->area;
	s->lane->pages[s->first] = (uint16_t)s->n;
	flip(s);
	count(s->lane, 1, 0, rq->length);
	return 0;
}

/* More records for a lane that has run out; not worth failing for. */
static void refill(struct iof_ioas *ioas, struct iof_range r)
{
	iof_lock_take(&ioas->records->lock);
	iofi_lane_refill(ioas, r.start);
	iof_lock_drop(&ioas->records->lock);
}

/* Is it a map that a lane could take? Failures that are asked for by tests are the index's. */
static bool plain(struct iof_ioas *ioas, const struct iof_map_request *rq)
{
	return rq->fixed && !rq->file && rq->length && !((rq->length | rq->iova | rq->user_va) & IOF_PAGE_MASK) &&
	       !atomic_load_explicit(&ioas->memory->alloc->fail_countdown, memory_order_relaxed);
}

int iofi_lane_insert(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **out, struct iof_range *r)
{
	struct stretch s;
	int rc;

	if (!plain(ioas, rq) || iof_range_make(rq->iova, rq->length, r))
		return -ENOENT;
	rc = enter(ioas, *r, rq->nowait, &s);
	if (rc)
		return rc;
	if (iof_unlikely(!s.lane->records) && !rq->nowait) {
		leave(&s);
		refill(ioas, *r);
		rc = enter(ioas, *r, false, &s);
		if (rc)
			return rc;
	}
	rc = insert_locked(ioas, rq, account, &s);
	if (!rc)
		*out = iof_container_of(s.lane->at[s.first], struct iof_record, area);
	leave(&s);
	return rc;
}

/* ---- unmap ---- */

/* The area that the stretch is, live; NULL: it is none. */
static struct iof_area *area_at(const struct stretch *s)
{
	struct iof_area *area;

	if (s->lane->pages[s->first] != s->n)
		return NULL;
	area = s->lane->at[s->first];
	return atomic_load_explicit(&area->state, memory_order_acquire) == IOF_AREA_LIVE ? area : NULL;
}

/* Out of the lane; what its container leaves is the lane's again. */
static void take_out(struct iof_ioas *ioas, const struct stretch *s, struct iof_area *area)
{
	struct iof_record *rec = iof_area_end(ioas->records, area);

	s->lane->pages[s->first] = 0;
	flip(s);
	count(s->lane, 0, 1, -((uint64_t)s->n << IOF_PAGE_SHIFT));
	if (iof_unlikely(!rec))
		return;
	*(struct iof_record **)rec = s->lane->records;
	s->lane->records = rec;
}

/* The lane was closed while the area, which nobody else may take away, was cleared. */
static void take_out_of_index(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	iofi_iova_take(ioas);
	iof_space_remove(ioas->space, r.start);
	(void)iof_area_put(ioas->records, area);
	iofi_count(&ioas->records->count.unmaps, 1);
	iofi_count(&ioas->records->count.bytes, -iof_range_length(r));
	iofi_iova_drop(ioas);
}

/* Clearing takes long, or has to wait for readers: without the lane's lock. */
static void clear_slowly(struct iof_ioas *ioas, struct stretch *s, struct iof_area *area, struct iof_range r)
{
	leave(s);
	iofi_area_unfill(ioas, area, r);
	if (enter(ioas, r, false, s)) {
		take_out_of_index(ioas, area, r);
		return;
	}
	take_out(ioas, s, area);
	leave(s);
}

int iofi_lane_unmap(struct iof_ioas *ioas, struct iof_range r, bool nowait)
{
	bool quick = iofi_quick(ioas, r, nowait);
	struct iof_area *area;
	struct stretch s;
	int rc = enter(ioas, r, nowait, &s);

	if (rc)
		return rc;
	area = area_at(&s);
	if (iof_unlikely(!area || (nowait && !quick))) {
		leave(&s);
		return area ? -EAGAIN : -ENOENT;
	}
	iofi_area_set(area, IOF_AREA_REMOVING);
	if (iof_unlikely(!quick)) {
		clear_slowly(ioas, &s, area, r);
		return 0;
	}
	iofi_area_unfill(ioas, area, r);
	take_out(ioas, &s, area);
	leave(&s);
	return 0;
}
