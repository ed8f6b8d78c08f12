/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/fill.h"

#include <sched.h>

#include "ioas/hwpt.h"

static uint64_t first_slot(const struct iof_area *area)
{
	return iof_area_byte(area) >> IOF_PAGE_SHIFT;
}

static uint64_t last_slot(const struct iof_area *area, struct iof_range r)
{
	return (iof_area_byte(area) + iof_range_span(r)) >> IOF_PAGE_SHIFT;
}

static int hold(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	int rc = iof_pages_hold(iof_area_pages(area), ioas->memory, first_slot(area), last_slot(area, r));

	area->held = !rc;
	return rc;
}

static void let_go(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	area->held = false;
	iof_pages_release(iof_area_pages(area), ioas->memory, first_slot(area), last_slot(area, r));
}

/*
 * The same for an area in transition. With one reference its container is nobody else's: copies are made of live areas only, and
 * whoever collected it before has a reference.
 */
static bool alone(const struct iof_area *area)
{
	return atomic_load_explicit(&iof_area_pages(area)->refs, memory_order_acquire) == 1;
}

static int hold_in_transition(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	int rc;

	if (iof_unlikely(!alone(area)))
		return hold(ioas, area, r);
	rc = iof_pages_hold_alone(iof_area_pages(area), ioas->memory, first_slot(area), last_slot(area, r));
	area->held = !rc;
	return rc;
}

static void let_go_in_transition(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	if (iof_unlikely(!alone(area))) {
		let_go(ioas, area, r);
		return;
	}
	area->held = false;
	iof_pages_release_alone(iof_area_pages(area), ioas->memory, first_slot(area), last_slot(area, r));
}

/* The next stretch with consecutive addresses (R4.4.3). */
static uint64_t next_run(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r, uint64_t done, uint64_t *address)
{
	uint64_t byte = iof_area_byte(area) + done, n;

	*address = iof_pages_address(iof_area_pages(area), ioas->memory, byte, iof_range_length(r) - done, &n);
	return n;
}

/* Every run goes into domains[0..n) before the next run is read. *done: bytes that all of them show. */
static int map_runs(struct iof_ioas *ioas, struct iof_hwpt **domains, uint32_t n, struct iof_area *area, struct iof_range r,
		    uint64_t *done)
{
	uint64_t length = iof_range_length(r), run, address;
	int rc;

	for (*done = 0; *done < length; *done += run) {
		run = next_run(ioas, area, r, *done, &address);
		for (uint32_t i = 0; i < n; i++) {
			rc = iofi_hwpt_map(domains[i], r.start + *done, address, run, area->prot);
			if (iof_likely(!rc))
				continue;
			while (i--)
				iofi_hwpt_unmap(domains[i], (struct iof_range){ r.start + *done, r.start + *done + run - 1 });
			return rc;
		}
	}
	return 0;
}

static void unmap_all(struct iof_hwpt **domains, uint32_t n, struct iof_range r)
{
	for (uint32_t i = 0; i < n; i++)
		iofi_hwpt_unmap(domains[i], r);
}

/* An area's length fits 64 bits: a container is at most 2^64-1-PAGE bytes. */
static int show(struct iof_ioas *ioas, struct iof_hwpt **domains, uint32_t n, struct iof_area *area, struct iof_range r)
{
	uint64_t done;
	int rc = map_runs(ioas, domains, n, area, r, &done);

	if (iof_unlikely(rc && done))
		unmap_all(domains, n, (struct iof_range){ r.start, r.start + done - 1 });
	return rc;
}

/* Linux pins, maps, and only then pays (R4.4.1): what no page table takes is refused for that, not for the limit. */
static int refusal(const struct iof_area *area, int rc)
{
	return rc == -ENOMEM && !(area->prot & (IOF_PROT_READ | IOF_PROT_WRITE)) ? -EINVAL : rc;
}

int iofi_area_fill(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	int rc;

	if (!ioas->n_domains || iof_unlikely(iof_pages_is_revoked(iof_area_pages(area))))
		return 0;
	rc = hold_in_transition(ioas, area, r);
	if (iof_unlikely(rc))
		return refusal(area, rc);
	rc = show(ioas, ioas->domains, ioas->n_domains, area, r);
	if (iof_unlikely(rc))
		let_go_in_transition(ioas, area, r);
	return rc;
}

void iofi_area_unfill(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	if (!area->held)
		return;
	unmap_all(ioas->domains, ioas->n_domains, r);
	let_go_in_transition(ioas, area, r);
}

void iofi_areas_unfill(struct iof_ioas *ioas, const struct iof_shown *at, size_t n)
{
	for (uint32_t i = 0; i < ioas->n_domains; i++)
		iofi_hwpt_unmap_many(ioas->domains[i], at, n);
	for (size_t i = 0; i < n; i++)
		if (at[i].area->held)
			let_go_in_transition(ioas, at[i].area, at[i].r);
}

int iofi_area_join(struct iof_ioas *ioas, struct iof_hwpt *hwpt, struct iof_area *area, struct iof_range r)
{
	bool first = !area->held;
	int rc;

	if (iof_unlikely(iof_pages_is_revoked(iof_area_pages(area))))
		return 0;
	rc = first ? hold(ioas, area, r) : 0;
	if (rc)
		return refusal(area, rc);
	rc = show(ioas, &hwpt, 1, area, r);
	if (rc && first)
		let_go(ioas, area, r);
	return rc;
}

void iofi_area_leave(struct iof_ioas *ioas, struct iof_hwpt *hwpt, struct iof_area *area, struct iof_range r, bool last)
{
	if (iof_unlikely(!area->held))
		return; /* revoked */
	iofi_hwpt_unmap(hwpt, r);
	if (last)
		let_go(ioas, area, r);
}

int iofi_area_hold(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	return ioas->n_domains ? hold(ioas, area, r) : 0;
}

void iofi_area_let_go(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	if (area->held)
		let_go(ioas, area, r);
}

/* The tables that showed the old area are free again, and nobody else maps: showing it again finds what it needs. */
static void show_again(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	while (show(ioas, ioas->domains, ioas->n_domains, area, r))
		sched_yield(); /* only a step that is made to fail gets here */
}

int iofi_area_swap(struct iof_ioas *ioas, struct iof_area *before, struct iof_area *now, struct iof_range r)
{
	int rc;

	for (uint32_t i = 0; i < ioas->n_domains; i++)
		iofi_hwpt_shut(ioas->domains[i]);
	if (before->held)
		unmap_all(ioas->domains, ioas->n_domains, r);
	rc = show(ioas, ioas->domains, ioas->n_domains, now, r);
	if (rc && before->held)
		show_again(ioas, before, r);
	for (uint32_t i = 0; i < ioas->n_domains; i++)
		iofi_hwpt_open(ioas->domains[i]);
	return rc;
}
