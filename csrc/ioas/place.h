/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MAP and COPY share: finding the place, and the way of areas from transition to live or back (behaviour.md 3.5).
 */
#ifndef IOF_IOAS_PLACE_H
#define IOF_IOAS_PLACE_H

#include "ioas/ioas.h"

/* Under the IOVA lock: R3.5.1–3. `addr` steers the automatic choice. *r: where it goes. */
int iofi_place(struct iof_ioas *ioas, uint64_t addr, uint64_t length, bool fixed, uint64_t iova, struct iof_range *r);

/* Both locks, or -EAGAIN with nowait. */
int iofi_begin(struct iof_ioas *ioas, bool nowait);

static inline void iofi_end(struct iof_ioas *ioas)
{
	iof_brlock_read_drop(&ioas->domains_lock);
}

static inline void iofi_area_set(struct iof_area *area, enum iof_area_state state)
{
	atomic_store_explicit(&area->state, state, memory_order_release);
}

#endif
