/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MAP and COPY share: finding the place, and the way of areas from transition to live or back (behaviour.md 3.5).
 */
#ifndef IOF_IOAS_PLACE_H
#define IOF_IOAS_PLACE_H

#include "ioas/ioas.h"

/* Under the IOVA lock: R3.5.1–3. `addr` steers the automatic choice. *r: where it goes. */
int iofi_place(struct iof_ioas *ioas, uint64_t addr, uint64_t length, bool fixed, uint64_t iova, struct iof_range *r);

/* The IOVA lock for work inside r: only lanes that r meets are closed. -EAGAIN with nowait. *waited: set when somebody else had it; may be NULL. */
int iofi_iova_take_for_slow(struct iof_ioas *ioas, struct iof_range r, bool nowait, bool *waited);

static inline int iofi_iova_take_for(struct iof_ioas *ioas, struct iof_range r, bool nowait, bool *waited)
{
	if (iof_likely(!atomic_load_explicit(&ioas->lanes, memory_order_relaxed) && iof_lock_try(&ioas->records->lock))) {
		if (iof_likely(!atomic_load_explicit(&ioas->lanes, memory_order_relaxed)))
			return 0;
		iof_lock_drop(&ioas->records->lock);
	}
	return iofi_iova_take_for_slow(ioas, r, nowait, waited);
}

/* Both locks, the domains lock for reading. Lanes are closed. iofi_end() drops that one, the IOVA lock is dropped before. */
void iofi_begin(struct iof_ioas *ioas);

/* Short work only: a small range, nobody in a read section that would have to be waited for, no accesses; with nowait no system call either. */
bool iofi_quick(struct iof_ioas *ioas, struct iof_range r, bool nowait);

static inline void iofi_end(struct iof_ioas *ioas)
{
	iof_brlock_read_drop(iofi_domains(ioas));
}

/* A map goes into the index, in transition, and is counted. IOVA lock. */
int iofi_map_insert(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct iof_record **out, struct iof_range *r);
void iofi_count_maps(struct iof_ioas *ioas, uint64_t maps, uint64_t bytes);

/* In every page table, and in the address index where there is one. */
int iofi_area_show(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r);

/* It could not be shown: out of the index again, and of the counts. No lock. */
void iofi_withdraw(struct iof_ioas *ioas, struct iof_record *rec, struct iof_range r);

#define IOF_CLAIM_PINNED 1

/* May this area go? In transition or locked: -EBUSY; sticking out of the range: -ENOENT (R3.7, in that order). IOF_CLAIM_PINNED: not yet. IOVA lock. */
int iofi_claim(const struct iof_index_entry *e, struct iof_range r);

static inline void iofi_area_set(struct iof_area *area, enum iof_area_state state)
{
	atomic_store_explicit(&area->state, state, memory_order_release);
}

#endif
