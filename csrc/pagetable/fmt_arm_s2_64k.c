// SPDX-License-Identifier: Apache-2.0
/* ARM LPAE stage 2 with a granule of 64 KiB. */
#define FMT_OPS iofi_pt_arm_s2_64k
#define FMT_LIMITS arm_s2_64k_limits
#define FMT_GRANULE_LG2 16
#define ARM_STAGE 2

#include "pagetable/fmt_arm.h"
