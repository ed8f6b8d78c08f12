// SPDX-License-Identifier: Apache-2.0
/*
 * RISC-V Sv39x4, Sv48x4 and Sv57x4: the second stage (Privileged specification, "Two-Stage Address Translation"). Guest
 * addresses are two bits wider than in the first stage: the root is four tables side by side, 16 KiB, and every leaf
 * must be a user's.
 */
#define FMT_OPS iofi_pt_riscv64_x4
#define FMT_LIMITS riscv64_x4_limits
#define FMT_CONCAT 1

#include "pagetable/fmt_riscv.h"

static const struct iofi_pt_limits riscv64_x4_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.top_extra_lg2 = 2,
	.level_min = 2,
	.level_max = 4,
	.va_max_lg2 = 59,
	.oa_max_lg2 = 56,
	.level_from_va = true,
	.va_widths = UINT64_C(1) << 41 | UINT64_C(1) << 50 | UINT64_C(1) << 59,
	.features = RISCV_FEATURES,
	.leaf_sizes = riscv_leaf_sizes,
};

#include "pagetable/walker.h"
