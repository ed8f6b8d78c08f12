/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting mappings, and how few there could be: fed with one mapping after the other by ascending IOVA, whoever keeps them.
 */
#ifndef IOF_PROVIDER_ENTRIES_H
#define IOF_PROVIDER_ENTRIES_H

#include <stdbool.h>

#include "iommufd_fast_reshape.h"
#include "util/range.h"

struct iofi_stretch {
	struct iof_range at;
	uint64_t address;
	uint32_t prot;
	bool joins; /* with memory that goes on behind it: it is memory by address */
};

struct iofi_count {
	struct iof_ioas_entries *out;
	uint64_t sizes; /* of pages that a table could have, as bits */
	struct iofi_stretch last; /* neighbours as one; not counted yet */
	bool any;
};

#define IOFI_USUAL_SIZES UINT64_C(0x40201000) /* 4 KiB, 2 MiB, 1 GiB: where there is no page table to ask */

void iofi_count_add(struct iofi_count *c, const struct iofi_stretch *next);
void iofi_count_end(struct iofi_count *c);

#endif
