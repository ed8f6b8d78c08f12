// SPDX-License-Identifier: Apache-2.0
/* The AMD host table as hardware has it: 4 KiB granule, up to six levels, a top that may grow. */
#define FMT_OPS iofi_pt_amdv1
#define FMT_LIMITS amdv1_limits
#define FMT_GRANULE_LG2 12
#define AMDV1_LEVEL_MAX 5

#include "pagetable/fmt_amdv1.h"

static const struct iofi_pt_limits amdv1_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.level_min = 1,
	.level_max = AMDV1_LEVEL_MAX,
	.va_max_lg2 = 64,
	.oa_max_lg2 = 52,
	.features = IOF_PT_GROWING_TOP | IOF_PT_FORCE_COHERENT,
	.leaf_bits = amdv1_leaf_bits,
	.leaf_sizes = amdv1_leaf_sizes,
};

#include "pagetable/walker.h"
