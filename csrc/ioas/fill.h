/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between an area and page tables: hold the pages, map the runs; unmap, wait, release (behaviour.md 4.4, 4.5).
 *
 * DMA is cut off before pages are released: an unfill clears the entries, waits for the domain's readers, invalidates its IOTLB, and only then lets go.
 */
#ifndef IOF_IOAS_FILL_H
#define IOF_IOAS_FILL_H

#include "ioas/ioas.h"

/* Shows an area in transition in every domain, ascending. Nothing without domains. On an error everything is as before. */
int iofi_area_fill(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r);
void iofi_area_unfill(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r);

/* Several areas in transition at once: readers are waited for once in each domain. */
struct iof_shown {
	struct iof_area *area;
	struct iof_range r;
};
void iofi_areas_unfill(struct iof_ioas *ioas, const struct iof_shown *at, size_t n);

/*
 * Shows `now` (held already) in place of `before`, at the same IOVAs, in every domain and in one step for all who read them; domains lock held for writing. On
 * an error everything is as before.
 */
int iofi_area_swap(struct iof_ioas *ioas, struct iof_area *before, struct iof_area *now, struct iof_range r);

/* The two halves of filling, for whoever shows the area by iofi_area_swap(). Nothing without domains. */
int iofi_area_hold(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r);
void iofi_area_let_go(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r);

/* One domain joins or leaves; domains lock held for writing. The first to join holds the pages, the last to leave releases them. */
int iofi_area_join(struct iof_ioas *ioas, struct iof_hwpt *hwpt, struct iof_area *area, struct iof_range r);
void iofi_area_leave(struct iof_ioas *ioas, struct iof_hwpt *hwpt, struct iof_area *area, struct iof_range r, bool last);

#endif
