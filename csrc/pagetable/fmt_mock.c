// SPDX-License-Identifier: Apache-2.0
/*
 * The mock device's table: the AMD host table with half a CPU page as its granule. It keeps everything above honest
 * about granules that are not 4 KiB, and every 4 KiB leaf here is already two items.
 */
#define FMT_OPS iofi_pt_mock
#define FMT_LIMITS mock_limits
#define FMT_GRANULE_LG2 11
#define AMDV1_LEVEL_MAX 4

#include "pagetable/fmt_amdv1.h"

static const struct iofi_pt_limits mock_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.level_min = 1,
	.level_max = AMDV1_LEVEL_MAX,
	.va_max_lg2 = 56,
	.oa_max_lg2 = 51,
	.features = 0,
	.leaf_bits = amdv1_leaf_bits,
	.leaf_sizes = amdv1_leaf_sizes,
};

#include "pagetable/walker.h"
