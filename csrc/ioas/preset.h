/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presets: what a soft IOMMU is. One record each: page-table format, reserved regions, name. A machine has one IOMMU per preset in use.
 */
#ifndef IOF_IOAS_PRESET_H
#define IOF_IOAS_PRESET_H

#include "pagetable/pagetable.h"
#include "util/range.h"

#define IOF_PRESETS 3 /* index 0 is no preset */

struct iof_preset_info {
	const char *name;
	struct iof_pt_config table;
	const struct iof_range *reserved; /* regions of every device behind it: never mapped, never handed out */
	unsigned n_reserved;
};

/* NULL: no such preset. Numbers are those of the public enum iof_preset. */
const struct iof_preset_info *iof_preset_info(unsigned preset);

#endif
