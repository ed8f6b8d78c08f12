/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container does about holding its slots physically; nothing where its policy asks for none. Private to this folder; the
 * container is locked.
 */
#ifndef IOF_PAGES_PHYSICAL_H
#define IOF_PAGES_PHYSICAL_H

#include "pages/hold.h"

/* Around every hold of slots: begin before anything is taken, end after everything was given. */
int iofi_physical_begin(struct iof_pages *p, struct iof_memory *m);
void iofi_physical_end(struct iof_pages *p, struct iof_memory *m);

int iofi_physical_take(struct iof_pages *p, struct iof_memory *m, struct iof_range slots);
void iofi_physical_give(struct iof_pages *p, struct iof_memory *m, struct iof_range slots);

/* Inside a region that was looked at already. */
static inline bool iofi_is_in_region(struct iof_pages *p, struct iof_memory *m, struct iof_range bytes)
{
	struct iof_range pages = { bytes.start >> IOF_PAGE_SHIFT, bytes.last >> IOF_PAGE_SHIFT };

	return atomic_load_explicit(&m->regions, memory_order_acquire) && iofi_holds_covers_slow(m->holds, pages, p->writable);
}

#endif
