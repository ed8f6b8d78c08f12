/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts of what is held. A run map for each way says how many containers want a page. Taking touches the pages whose count is 0;
 * giving, those where it gets to be 0 again.
 */
#include "pages/hold.h"

#include <string.h>
#include <sys/mman.h>

#include "pages/os.h"
#include "pages/region.h"
#include "pages/runmap.h"
#include "util/guard.h"

#define WAYS 2u /* mlock, io_uring */

struct way {
	struct iofi_runmap map;
	uint64_t holds; /* reserved for */
};

struct iofi_holds {
	struct iof_alloc *alloc;
	struct iof_lock lock; /* protects everything but the regions */
	struct way way[WAYS];
	struct iofi_runmap theirs; /* of the mlock way: locked by the program */
	uint64_t their_parts; /* reserved for beyond the holds */
	struct iofi_rings rings;
	struct iof_rwlock region_lock;
	struct iofi_runmap regions[2]; /* region_lock: looked at for reading; for writing */
};

static unsigned way_of(unsigned policy)
{
	return policy - IOF_HOLD_MLOCK;
}

int iofi_holds_create(struct iof_alloc *a, struct iofi_holds **out)
{
	struct iofi_holds *h = iof_mem_zget(a, sizeof(*h), IOF_CACHELINE);

	if (!h)
		return -ENOMEM;
	h->alloc = a;
	iof_lock_init(&h->lock, false);
	iof_rwlock_init(&h->region_lock, false);
	for (unsigned i = 0; i < WAYS; i++) {
		iofi_runmap_init(&h->way[i].map, a);
		iofi_runmap_init(&h->regions[i], a);
	}
	iofi_runmap_init(&h->theirs, a);
	h->rings = (struct iofi_rings){ .alloc = a };
	*out = h;
	return 0;
}

void iofi_holds_destroy(struct iofi_holds *h)
{
	if (!h)
		return;
	iofi_rings_fini(&h->rings);
	for (unsigned i = 0; i < WAYS; i++) {
		iofi_runmap_fini(&h->way[i].map);
		iofi_runmap_fini(&h->regions[i]);
	}
	iofi_runmap_fini(&h->theirs);
	iof_mem_put(h->alloc, h, sizeof(*h));
}

/* ---- room in the maps ---- */

static int reserve(struct iofi_holds *h, unsigned way)
{
	int rc = iofi_runmap_reserve(&h->way[way].map, 2);

	if (rc)
		return rc;
	rc = iofi_runmap_reserve(&h->theirs, 2);
	if (rc)
		iofi_runmap_unreserve(&h->way[way].map, 2);
	else
		h->way[way].holds++;
	return rc;
}

int iofi_holds_reserve(struct iofi_holds *h, unsigned policy)
{
	int rc;

	if (!h)
		return -EOPNOTSUPP;
	iof_lock_take(&h->lock);
	rc = reserve(h, way_of(policy));
	iof_lock_drop(&h->lock);
	return rc;
}

/* With the last hold nothing is marked any more, and what the marks had reserved goes too. */
void iofi_holds_unreserve(struct iofi_holds *h, unsigned policy)
{
	unsigned way = way_of(policy);

	iof_lock_take(&h->lock);
	iofi_runmap_unreserve(&h->way[way].map, 2);
	iofi_runmap_unreserve(&h->theirs, 2);
	h->way[way].holds--;
	if (!h->way[0].holds && h->their_parts) {
		iofi_runmap_unreserve(&h->theirs, 2 * h->their_parts);
		h->their_parts = 0;
	}
	iof_lock_drop(&h->lock);
}

/* ---- mlock ---- */

static uint64_t address(uint64_t page)
{
	return page << IOF_PAGE_SHIFT;
}

static int lock_pages(struct iof_range pages)
{
	int rc = (int)iofi_os(SYS_mlock, address(pages.start), address(iof_range_length(pages)));

	if (rc)
		(void)iofi_os(SYS_munlock, address(pages.start), address(iof_range_length(pages)));
	/* The memory was touched just now. So it is the limit, in one of the kernel's words for it, or there is no memory. */
	return rc ? -ENOMEM : 0;
}

/* Where a part of it is not mapped any more, the kernel stops there; the rest has to be unlocked all the same. */
static void unlock_pages(struct iof_range pages)
{
	uint64_t half = pages.start + iof_range_span(pages) / 2;

	if (!iofi_os(SYS_munlock, address(pages.start), address(iof_range_length(pages))) || pages.start == pages.last)
		return;
	unlock_pages((struct iof_range){ pages.start, half });
	unlock_pages((struct iof_range){ half + 1, pages.last });
}

struct marking {
	struct iofi_holds *h;
	uint64_t at; /* the first page not looked at */
};

/* The program has locked this part. */
static int mark(void *ctx, struct iof_range part)
{
	struct marking *m = ctx;
	int rc = iofi_runmap_reserve(&m->h->theirs, 2);

	if (rc)
		return rc;
	m->h->their_parts++;
	iofi_runmap_add(&m->h->theirs, part.start, part.last);
	return 0;
}

/* Runs of `count` in a map, one after the other; *at starts as the first page to look at. */
static bool next_run(const struct iofi_runmap *map, uint32_t count, uint64_t *at, uint64_t last, struct iof_range *run)
{
	uint64_t from = *at, to = last;

	if (from > last || !iofi_runmap_find(map, count, &from, &to))
		return false;
	*run = (struct iof_range){ from, to };
	*at = to + 1;
	return true;
}

static void unmark(struct iofi_holds *h, struct iof_range pages)
{
	struct iof_range run;

	for (uint64_t at = pages.start; next_run(&h->theirs, 1, &at, pages.last, &run);)
		iofi_runmap_remove(&h->theirs, run.start, run.last);
}

/* Pages that nobody holds any more: those that are not theirs are unlocked. */
static void unlock_run(struct iofi_holds *h, struct iof_range pages)
{
	struct iof_range run;

	for (uint64_t at = pages.start; next_run(&h->theirs, 0, &at, pages.last, &run);)
		unlock_pages(run);
	unmark(h, pages);
}

/* Pages that nobody holds yet. */
static int lock_run(struct iofi_holds *h, struct iof_range pages)
{
	struct marking m = { h, pages.start };
	struct iof_range run;
	int rc = iofi_locks_none(pages) ? 0 : iofi_locks_scan(pages, mark, &m);

	for (uint64_t at = pages.start; !rc && next_run(&h->theirs, 0, &at, pages.last, &run);) {
		rc = lock_pages(run);
		if (rc && run.start > pages.start)
			unlock_run(h, (struct iof_range){ pages.start, run.start - 1 });
	}
	if (rc)
		unmark(h, pages);
	return rc;
}

/* ---- io_uring ---- */

/* Parts of it may be pinned still, because neighbours are held. */
static int pin_run(struct iofi_holds *h, struct iof_range pages)
{
	uint64_t at = pages.start, first, last;
	int rc = 0;

	while (!rc && at <= pages.last) {
		first = at;
		last = pages.last;
		if (!iofi_rings_find(&h->rings, &first, &last))
			first = last + 1;
		if (first > at)
			rc = iofi_rings_pin(&h->rings, (struct iof_range){ at, first - 1 });
		at = first > pages.last ? first : last + 1;
	}
	return rc;
}

static bool is_wanted(void *ctx, struct iof_range pages)
{
	const struct iofi_holds *h = ctx;
	struct iofi_span s = iofi_runmap_span(&h->way[1].map, pages.start, pages.last);

	return s.count || s.last < pages.last;
}

/* ---- both ---- */

static int take_run(struct iofi_holds *h, unsigned way, struct iof_range run)
{
	int rc = way ? pin_run(h, run) : lock_run(h, run);

	if (rc && way)
		iofi_rings_unpin(&h->rings, run, is_wanted, h);
	return rc;
}

static void give_run(struct iofi_holds *h, unsigned way, struct iof_range run)
{
	if (!way)
		unlock_run(h, run);
	else
		iofi_rings_unpin(&h->rings, run, is_wanted, h);
}

/* What nobody wants of it. */
static void give_runs(struct iofi_holds *h, unsigned way, struct iof_range pages)
{
	struct iof_range run;

	for (uint64_t at = pages.start; next_run(&h->way[way].map, 0, &at, pages.last, &run);)
		give_run(h, way, run);
}

static int take(struct iofi_holds *h, unsigned way, struct iof_range pages)
{
	const struct iofi_runmap *map = &h->way[way].map;
	struct iof_range run;
	int rc = 0;

	for (uint64_t at = pages.start; !rc && next_run(map, 0, &at, pages.last, &run);) {
		rc = take_run(h, way, run);
		if (rc && run.start > pages.start)
			give_runs(h, way, (struct iof_range){ pages.start, run.start - 1 });
	}
	if (!rc)
		iofi_runmap_add(&h->way[way].map, pages.start, pages.last);
	return rc;
}

int iofi_holds_take(struct iofi_holds *h, unsigned policy, struct iof_range pages)
{
	int rc;

	iof_lock_take(&h->lock);
	rc = take(h, way_of(policy), pages);
	iof_lock_drop(&h->lock);
	return rc;
}

void iofi_holds_give(struct iofi_holds *h, unsigned policy, struct iof_range pages)
{
	unsigned way = way_of(policy);

	iof_lock_take(&h->lock);
	iofi_runmap_remove(&h->way[way].map, pages.start, pages.last);
	give_runs(h, way, pages);
	iof_lock_drop(&h->lock);
}

uint32_t iofi_holds_count(struct iofi_holds *h, unsigned policy, uint64_t page)
{
	uint32_t n;

	iof_lock_take(&h->lock);
	n = iofi_runmap_span(&h->way[way_of(policy)].map, page, page).count;
	iof_lock_drop(&h->lock);
	return n;
}

static bool maps_are_valid(const struct iofi_holds *h)
{
	return iofi_runmap_is_valid(&h->way[0].map) && iofi_runmap_is_valid(&h->way[1].map) && iofi_runmap_is_valid(&h->theirs) &&
	       h->theirs.reserved == 2 * (h->way[0].holds + h->way[1].holds + h->their_parts) &&
	       h->way[0].map.reserved == 2 * h->way[0].holds && h->way[1].map.reserved == 2 * h->way[1].holds;
}

bool iofi_holds_is_valid(struct iofi_holds *h)
{
	bool ok;

	iof_lock_take(&h->lock);
	ok = maps_are_valid(h) && iofi_rings_is_valid(&h->rings, is_wanted, h);
	iof_lock_drop(&h->lock);
	return ok;
}

/* ---- regions ---- */

bool iofi_holds_covers_slow(struct iofi_holds *h, struct iof_range pages, bool writable)
{
	uint64_t first = pages.start, last = pages.last;
	bool gap;

	iof_rwlock_read(&h->region_lock);
	gap = iofi_runmap_find(&h->regions[writable], 0, &first, &last);
	iof_rwlock_read_drop(&h->region_lock);
	return !gap;
}

static int add_region(struct iofi_holds *h, struct iof_range pages, bool writable)
{
	int rc = iofi_runmap_reserve(&h->regions[0], 2);

	if (rc)
		return rc;
	rc = writable ? iofi_runmap_reserve(&h->regions[1], 2) : 0;
	if (rc) {
		iofi_runmap_unreserve(&h->regions[0], 2);
		return rc;
	}
	iofi_runmap_add(&h->regions[0], pages.start, pages.last);
	if (writable)
		iofi_runmap_add(&h->regions[1], pages.start, pages.last);
	return 0;
}

static void drop_region(struct iofi_holds *h, struct iof_range pages, bool writable)
{
	for (unsigned i = 0; i <= writable; i++) {
		iofi_runmap_remove(&h->regions[i], pages.start, pages.last);
		iofi_runmap_unreserve(&h->regions[i], 2);
	}
}

static int hold_physically(struct iof_memory *m, struct iof_region *r)
{
	int rc = iofi_holds_reserve(m->holds, r->policy);

	if (rc)
		return rc;
	rc = iofi_holds_take(m->holds, r->policy, r->pages);
	if (rc)
		iofi_holds_unreserve(m->holds, r->policy);
	else
		atomic_fetch_add_explicit(&m->physical, 1, memory_order_relaxed);
	return rc;
}

static void release_physically(struct iof_memory *m, struct iof_region *r)
{
	iofi_holds_give(m->holds, r->policy, r->pages);
	iofi_holds_unreserve(m->holds, r->policy);
	atomic_fetch_sub_explicit(&m->physical, 1, memory_order_relaxed);
}

int iof_region_hold(struct iof_memory *m, uint64_t va, uint64_t length, bool writable, enum iof_hold_policy policy,
		    struct iof_region *out)
{
	struct iofi_holds *h = m->holds;
	struct iof_range r;
	int rc = iof_range_make(va, length, &r);

	if (rc)
		return rc;
	if (!h)
		return -EOPNOTSUPP;
	*out = (struct iof_region){ { r.start >> IOF_PAGE_SHIFT, r.last >> IOF_PAGE_SHIFT }, writable, policy };
	if (policy != IOF_HOLD_TRUST && iof_touch(r.start, r.last, writable, NULL))
		return -EFAULT;
	rc = iofi_is_physical(policy) ? hold_physically(m, out) : 0;
	if (rc)
		return rc;
	iof_rwlock_write(&h->region_lock);
	rc = add_region(h, out->pages, writable);
	if (!rc)
		atomic_fetch_add_explicit(&m->regions, 1, memory_order_relaxed);
	iof_rwlock_write_drop(&h->region_lock);
	if (rc && iofi_is_physical(policy))
		release_physically(m, out);
	return rc;
}

void iof_region_release(struct iof_memory *m, struct iof_region *region)
{
	struct iofi_holds *h = m->holds;

	iof_rwlock_write(&h->region_lock);
	drop_region(h, region->pages, region->writable);
	atomic_fetch_sub_explicit(&m->regions, 1, memory_order_relaxed);
	iof_rwlock_write_drop(&h->region_lock);
	if (iofi_is_physical(region->policy))
		release_physically(m, region);
}

int iof_hold_policy_try(struct iof_memory *m, enum iof_hold_policy policy)
{
	int rc;

	if (!iofi_is_physical(policy))
		return 0;
	if (!m->holds)
		return -EOPNOTSUPP;
	iof_lock_take(&m->holds->lock);
	rc = policy == IOF_HOLD_IO_URING ? iofi_rings_try(&m->holds->rings) : 0;
	iof_lock_drop(&m->holds->lock);
	return rc;
}
