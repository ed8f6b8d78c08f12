/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes are opened and closed. */
#include "ioas/lane.h"

#include <errno.h>
#include <string.h>

#define WORTH 256u /* maps and unmaps that pay for opening and closing a lane */
#define PATIENCE_MAX 65536u
#define RECORDS 64u /* that a lane begins with, beside its areas */

static struct iof_lanes *lanes_of(struct iof_ioas *ioas)
{
	return atomic_load_explicit(&ioas->lanes, memory_order_relaxed);
}

static struct iof_range range_of(uint64_t window)
{
	uint64_t start = (window - 1) << IOFI_LANE_SHIFT;

	return (struct iof_range){ start, start | iof_low_mask(IOFI_LANE_SHIFT) };
}

/* ---- closing ---- */

static void put_areas_back(struct iof_ioas *ioas, struct iof_lane *lane, uint64_t start)
{
	struct iof_range r;

	iof_space_spare_put(ioas->space, &lane->spare);
	iof_space_sure(ioas->space, true);
	for (unsigned i = 0; i < IOFI_LANE_PAGES; i++) {
		if (!lane->pages[i])
			continue;
		r.start = start + i * IOF_PAGE_SIZE;
		r.last = r.start + lane->pages[i] * IOF_PAGE_SIZE - 1;
		(void)iof_space_insert(ioas->space, r, (uintptr_t)lane->at[i]);
	}
	iof_space_sure(ioas->space, false);
	memset(lane->used, 0, sizeof(lane->used));
	memset(lane->pages, 0, sizeof(lane->pages));
}

static void put_records_back(struct iof_ioas *ioas, struct iof_lane *lane)
{
	struct iof_record *rec;

	while ((rec = lane->records)) {
		lane->records = *(struct iof_record **)rec;
		iof_records_put(ioas->records, rec);
	}
}

static void tell_counts(struct iof_ioas *ioas, struct iof_lane *lane)
{
	iofi_count(&ioas->records->count.maps, lane->maps);
	iofi_count(&ioas->records->count.unmaps, lane->unmaps);
	iofi_count(&ioas->records->count.bytes, lane->bytes);
	lane->maps = lane->unmaps = lane->bytes = 0;
}

/* A lane that did not pay makes the next one come later. */
static void learn(struct iof_lanes *lanes, const struct iof_lane *lane)
{
	if (lane->served >= WORTH)
		lanes->patience /= 2;
	else
		lanes->patience = lanes->patience < PATIENCE_MAX ? lanes->patience * 2 + 16 : PATIENCE_MAX;
	lanes->wait = lanes->patience;
}

static void close_lane(struct iof_ioas *ioas, unsigned i)
{
	struct iof_lanes *lanes = lanes_of(ioas);
	struct iof_lane *lane = &lanes->lane[i];
	uint64_t window = atomic_load_explicit(&lanes->window[i], memory_order_relaxed);

	iof_lock_take(&lane->lock);
	atomic_store_explicit(&lanes->window[i], 0, memory_order_relaxed);
	put_areas_back(ioas, lane, range_of(window).start);
	put_records_back(ioas, lane);
	tell_counts(ioas, lane);
	learn(lanes, lane);
	lanes->open--;
	iof_lock_drop(&lane->lock);
}

void iofi_lanes_close_in(struct iof_ioas *ioas, struct iof_range r)
{
	struct iof_lanes *lanes = lanes_of(ioas);
	uint64_t window;

	if (iof_likely(!lanes || !lanes->open))
		return;
	for (unsigned i = 0; i < IOFI_LANES; i++) {
		window = atomic_load_explicit(&lanes->window[i], memory_order_relaxed);
		if (window && window >= iofi_window_of(r.start) && window <= iofi_window_of(r.last))
			close_lane(ioas, i);
	}
}

void iofi_lanes_close(struct iof_ioas *ioas)
{
	iofi_lanes_close_in(ioas, IOF_RANGE_ALL);
}

void iofi_lanes_free(struct iof_ioas *ioas)
{
	iof_mem_put(ioas->memory->alloc, lanes_of(ioas), sizeof(struct iof_lanes));
}

/* ---- opening ---- */

static struct iof_lanes *lanes_make(struct iof_ioas *ioas)
{
	struct iof_alloc *a = ioas->memory->alloc;
	struct iof_lanes *lanes = iof_mem_zget(a, sizeof(*lanes), IOF_CACHELINE);

	for (unsigned i = 0; lanes && i < IOFI_LANES; i++)
		iof_lock_init(&lanes->lane[i].lock, a->shared);
	atomic_store_explicit(&ioas->lanes, lanes, memory_order_release);
	return lanes;
}

static bool whole_pages(struct iof_range r)
{
	return !((r.start | (r.last + 1)) & IOF_PAGE_MASK);
}

/*
 * Nothing in the window that a lane cannot have. An area in transition may go there: whoever has to find it again to end its transition takes the IOVA lock, which closes
 * the lane.
 */
static bool suits(struct iof_ioas *ioas, struct iof_range w)
{
	struct iof_range from = w;
	struct iof_index_entry e;
	struct iof_area *area;

	if (ioas->alignment != IOF_PAGE_SIZE || ioas->n_accesses || ioas->va_index || iof_space_is_reserved(ioas->space, w))
		return false;
	while (from.start <= from.last && iof_space_first(ioas->space, from, &e)) {
		area = iofi_area_of(&e);
		if (!iof_range_contains(w, e.range) || !whole_pages(e.range) || area->bare || area->locks || area->accesses)
			return false;
		from.start = e.range.last + 1;
		if (!from.start)
			break;
	}
	return true;
}

static void move_in(struct iof_lane *lane, const struct iof_index_entry *e, uint64_t start)
{
	unsigned page = (unsigned)((e->range.start - start) >> IOF_PAGE_SHIFT);
	unsigned pages = (unsigned)((iof_range_span(e->range) >> IOF_PAGE_SHIFT) + 1);

	lane->at[page] = iofi_area_of(e);
	lane->pages[page] = (uint16_t)pages;
	for (unsigned i = page; i < page + pages; i++)
		lane->used[i / 64] |= UINT64_C(1) << i % 64;
}

static void take_records(struct iof_ioas *ioas, struct iof_lane *lane)
{
	struct iof_record *rec;

	for (unsigned i = 0; i < RECORDS && (rec = iof_records_get(ioas->records)); i++) {
		*(struct iof_record **)rec = lane->records;
		lane->records = rec;
	}
}

static void open_lane(struct iof_ioas *ioas, unsigned i, uint64_t window)
{
	struct iof_lanes *lanes = lanes_of(ioas);
	struct iof_lane *lane = &lanes->lane[i];
	struct iof_range w = range_of(window);
	struct iof_index_entry e;

	if (iof_space_spare_get(ioas->space, IOFI_LANE_PAGES, &lane->spare))
		return;
	iof_lock_take(&lane->lock);
	while (iof_space_first(ioas->space, w, &e)) {
		move_in(lane, &e, w.start);
		iof_space_remove(ioas->space, e.range.start);
	}
	take_records(ioas, lane);
	lane->served = 0;
	lanes->open++;
	atomic_store_explicit(&lanes->window[i], window, memory_order_relaxed);
	iof_lock_drop(&lane->lock);
}

/* A closed lane, or one that is closed for it, in turn. */
static unsigned free_lane(struct iof_ioas *ioas, struct iof_lanes *lanes)
{
	unsigned i;

	for (i = 0; i < IOFI_LANES; i++)
		if (!atomic_load_explicit(&lanes->window[i], memory_order_relaxed))
			return i;
	i = lanes->next++ % IOFI_LANES;
	close_lane(ioas, i);
	return i;
}

/* The lane of the window, if it is open. */
static struct iof_lane *lane_of(struct iof_lanes *lanes, uint64_t window)
{
	for (unsigned i = 0; i < IOFI_LANES; i++)
		if (atomic_load_explicit(&lanes->window[i], memory_order_relaxed) == window)
			return &lanes->lane[i];
	return NULL;
}

void iofi_lane_refill(struct iof_ioas *ioas, uint64_t iova)
{
	struct iof_lane *lane = lane_of(lanes_of(ioas), iofi_window_of(iova));

	if (!lane)
		return;
	iof_lock_take(&lane->lock);
	take_records(ioas, lane);
	iof_lock_drop(&lane->lock);
}

void iofi_lane_wanted(struct iof_ioas *ioas, uint64_t iova)
{
	uint64_t window = iofi_window_of(iova);
	struct iof_lanes *lanes = lanes_of(ioas);

	if (!lanes)
		lanes = lanes_make(ioas);
	if (!lanes || lane_of(lanes, window))
		return;
	if (lanes->wait) {
		lanes->wait--;
		return;
	}
	if (suits(ioas, range_of(window)))
		open_lane(ioas, free_lane(ioas, lanes), window);
}

/* ---- is_valid ---- */

static bool table_is_valid(const struct iof_lane *lane)
{
	uint64_t used[IOFI_LANE_PAGES / 64] = { 0 };

	for (unsigned i = 0; i < IOFI_LANE_PAGES; i++)
		for (unsigned k = i; k < i + lane->pages[i]; k++) {
			if (k >= IOFI_LANE_PAGES || used[k / 64] >> k % 64 & 1)
				return false;
			used[k / 64] |= UINT64_C(1) << k % 64;
		}
	return !memcmp(used, lane->used, sizeof(used));
}

static bool areas_are_valid(const struct iof_lane *lane)
{
	for (unsigned i = 0; i < IOFI_LANE_PAGES; i++)
		if (lane->pages[i] && (lane->at[i]->bare || lane->at[i]->accesses || lane->at[i]->locks))
			return false;
	return true;
}

bool iofi_lanes_are_valid(struct iof_ioas *ioas)
{
	struct iof_lanes *lanes = lanes_of(ioas);
	struct iof_index_entry e;
	unsigned open = 0;
	uint64_t window;

	for (unsigned i = 0; lanes && i < IOFI_LANES; i++) {
		window = atomic_load(&lanes->window[i]);
		open += window != 0;
		if (!table_is_valid(&lanes->lane[i]) || !areas_are_valid(&lanes->lane[i]))
			return false;
		if (window && (ioas->n_accesses || ioas->va_index || iof_space_first(ioas->space, range_of(window), &e)))
			return false;
		if (!window && lanes->lane[i].records)
			return false;
	}
	return !lanes || open == lanes->open;
}
