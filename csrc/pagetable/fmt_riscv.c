// SPDX-License-Identifier: Apache-2.0
/* RISC-V Sv39, Sv48 and Sv57: the CPU's tables, and the IOMMU's first stage. */
#define FMT_OPS iofi_pt_riscv64
#define FMT_LIMITS riscv64_limits
#define FMT_SIGNED 1

#include "pagetable/fmt_riscv.h"

static const struct iofi_pt_limits riscv64_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.level_min = 2,
	.level_max = 4,
	.va_max_lg2 = 57,
	.oa_max_lg2 = 56,
	.level_from_va = true,
	.va_widths = UINT64_C(1) << 39 | UINT64_C(1) << 48 | UINT64_C(1) << 57,
	.features = RISCV_FEATURES | IOF_PT_SIGN_EXTEND,
	.leaf_sizes = riscv_leaf_sizes,
};

#include "pagetable/walker.h"
