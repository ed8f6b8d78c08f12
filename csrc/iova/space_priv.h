/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of an IOVA space: private to csrc/iova/space*.c.
 *
 * Reserved ranges may overlap, come one by one and go by owner, and going must need no memory. So their union is kept cut at
 * every range's ends: a *stretch* is a part of it that no range begins or ends inside of. Then a range always is a whole number
 * of stretches, and taking it away is counting down and removing those that nobody covers any more. Cuts are made, and paid for,
 * when a range comes; when the last range that ended at a cut has gone, the two stretches beside it join again.
 *
 * Invariants
 *  - `reserved` and `used` hold the same stretches; in `used` their value is IOF_SPACE_RESERVED.
 *  - A stretch's value in `reserved` counts the ranges that cover it, that start at its start, and that end at its last.
 *  - Two adjoining stretches have a range that ends with the first or starts with the second.
 *  - No allowed range meets a stretch.
 */
#ifndef IOF_IOVA_SPACE_PRIV_H
#define IOF_IOVA_SPACE_PRIV_H

#include <string.h>

#include "iova/space.h"

struct iofi_owned {
	struct iof_range range;
	uint64_t owner;
};

struct iof_space {
	struct iof_alloc *alloc;
	struct iof_index *used; /* areas and stretches */
	struct iof_index *reserved; /* stretches with their counts */
	struct iof_index *allowed; /* NULL: everything is */
	struct iofi_owned *owned; /* the reserved ranges themselves, in no order */
	size_t owned_n, owned_room;
};

/* Three counts of 21 bits in a stretch's value. */
#define IOFI_COVER UINT64_C(1)
#define IOFI_STARTS (UINT64_C(1) << 21)
#define IOFI_ENDS (UINT64_C(1) << 42)
#define IOFI_COUNT_MASK (IOFI_STARTS - 1)
#define IOFI_OWNED_MAX (IOFI_STARTS - 1)

static inline uint64_t iofi_cover(uint64_t v)
{
	return v & IOFI_COUNT_MASK;
}

static inline uint64_t iofi_starts(uint64_t v)
{
	return v / IOFI_STARTS & IOFI_COUNT_MASK;
}

static inline uint64_t iofi_ends(uint64_t v)
{
	return v / IOFI_ENDS & IOFI_COUNT_MASK;
}

bool iofi_space_reserved_valid(const struct iof_space *s); /* space_reserve.c */

#endif
