/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: how threads that map at IOVAs of their own choosing stay out of each other's way.
 *
 * Two threads that map and unmap in one IOAS hand the IOVA lock, the index's nodes and the free records to each other, and each hand-over costs as much as a mapping. So
 * when a map with a fixed IOVA finds the lock taken, the 2 MiB window around its IOVA gets a *lane*: the areas inside move out of the index into a table of the lane's own,
 * with a lock of its own, and records of its own. From then on maps and unmaps of whole pages in that window touch nothing that other windows touch.
 *
 * Everything else finds lanes closed: iofi_iova_take() moves their areas back into the index, for which each lane has memory set aside. What comes without contention never
 * sees a lane. A lane that was closed before it was of use makes the IOAS wait longer before it opens the next.
 *
 * Invariants
 *  - An area is in the index or in one lane. Inside an open window the index has nothing: no area, no part of one, no reserved range.
 *  - A lane has areas of whole pages with a container of their own, and no access has any of them: lanes are open only while the IOAS has neither accesses nor an address index.
 *  - `window` of struct iof_lanes is written under the IOVA lock and the lane's; either makes it stay.
 *
 * Locks: domains lock, IOVA lock, lane lock. The owner of a lane lock waits for nothing but readers of page tables.
 */
#ifndef IOF_IOAS_LANE_H
#define IOF_IOAS_LANE_H

#include "ioas/ioas.h"

#define IOFI_LANES 8u
#define IOFI_LANE_SHIFT 21u
#define IOFI_LANE_PAGES 512u

struct iof_lane {
	_Alignas(IOF_CACHELINE) struct iof_lock lock; /* covers what follows */
	uint32_t served; /* maps and unmaps since it was opened, as far as it matters */
	uint64_t maps, unmaps, bytes; /* not yet in the IOAS's counters; bytes wraps */
	struct iof_record *records; /* free ones, a chain through their first words */
	struct iof_index_spare spare; /* for moving the areas back; IOVA lock */
	_Alignas(IOF_CACHELINE) uint64_t used[IOFI_LANE_PAGES / 64]; /* by page */
	struct iof_area *at[IOFI_LANE_PAGES]; /* by an area's first page; else undefined */
	uint16_t pages[IOFI_LANE_PAGES]; /* its length; 0 where none begins */
};

struct iof_lanes {
	_Alignas(IOF_CACHELINE) _Atomic uint64_t window[IOFI_LANES]; /* its number plus one; 0: closed */
	/* IOVA lock */
	_Alignas(IOF_CACHELINE) uint32_t open;
	uint32_t next; /* the lane to be closed for another window */
	uint32_t wait; /* so many maps that find the lock taken are not given a lane */
	uint32_t patience; /* what `wait` began with */
	struct iof_lane lane[IOFI_LANES];
};

static inline uint64_t iofi_window_of(uint64_t iova)
{
	return (iova >> IOFI_LANE_SHIFT) + 1;
}

/* ---- lane.c, IOVA lock ---- */

/* A map at `iova` had to wait for the lock: opens a lane for its window, if it can and should. */
void iofi_lane_wanted(struct iof_ioas *ioas, uint64_t iova);
/* Closes the lanes whose windows r meets. */
void iofi_lanes_close_in(struct iof_ioas *ioas, struct iof_range r);
/* More records for the lane of `iova`, if that is still open. Under the bare lock: lanes stay open. */
void iofi_lane_refill(struct iof_ioas *ioas, uint64_t iova);
void iofi_lanes_free(struct iof_ioas *ioas); /* they are closed */
bool iofi_lanes_are_valid(struct iof_ioas *ioas); /* the invariants above, and the tables; without any lock, when nobody is at work */

/* ---- lane_use.c, domains lock for reading ---- */

/*
 * Places and inserts a map with a fixed IOVA, in transition, as insert() does. 0; -EAGAIN with nowait: the lane is busy; -ENOENT: not here, nothing was done, the
 * index has the answer.
 */
int iofi_lane_insert(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **out, struct iof_range *r);
/* Unmaps r if that is one area of a lane, and live. 0; -EAGAIN with nowait: not quick; -ENOENT as above. */
int iofi_lane_unmap(struct iof_ioas *ioas, struct iof_range r, bool nowait);

/* Is no lane open? Asked without a lock. */
static inline bool iofi_lanes_closed(struct iof_ioas *ioas)
{
	struct iof_lanes *lanes = atomic_load_explicit(&ioas->lanes, memory_order_acquire);
	uint64_t any = 0;

	for (unsigned i = 0; lanes && i < IOFI_LANES; i++)
		any |= atomic_load_explicit(&lanes->window[i], memory_order_relaxed);
	return !any;
}

#endif
