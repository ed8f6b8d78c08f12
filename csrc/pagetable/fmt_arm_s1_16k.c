// SPDX-License-Identifier: Apache-2.0
/* ARM LPAE stage 1 with a granule of 16 KiB. */
#define FMT_OPS iofi_pt_arm_s1_16k
#define FMT_LIMITS arm_s1_16k_limits
#define FMT_GRANULE_LG2 14
#define ARM_STAGE 1

#include "pagetable/fmt_arm.h"
