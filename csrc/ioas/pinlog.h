/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an access has pinned: (iova, length) pairs with a count each, in an open-addressed hash table.
 *
 * An unpin has to name exactly what a pin named (behaviour.md R7.7). Here that is checked instead of trusted, and an
 * access that goes with pins left knows what to give back. A slot with count 0 is empty; removing moves later entries
 * of the same chain up, so there are no grave markers.
 *
 * Not locked: the access's lock covers it.
 */
#ifndef IOF_IOAS_PINLOG_H
#define IOF_IOAS_PINLOG_H

#include "util/alloc.h"

struct iof_pin {
	uint64_t iova, length, count;
};

struct iof_pinlog {
	struct iof_pin *at;
	uint32_t used, room; /* room: a power of two, or 0 */
};

/* Makes sure that one more pair fits: -ENOMEM. iofi_pinlog_add() after it cannot fail. */
int iofi_pinlog_reserve(struct iof_pinlog *log, struct iof_alloc *a);
void iofi_pinlog_add(struct iof_pinlog *log, uint64_t iova, uint64_t length);
bool iofi_pinlog_remove(struct iof_pinlog *log, uint64_t iova, uint64_t length); /* false: no such pin */
uint64_t iofi_pinlog_count(const struct iof_pinlog *log, uint64_t iova, uint64_t length);
void iofi_pinlog_fini(struct iof_pinlog *log, struct iof_alloc *a); /* empty and usable again */

#endif
