/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presets: what a soft IOMMU is. One record each: page-table format, what its devices can do, what it says of itself. A machine has one IOMMU per
 * preset in use; softdrv.c is the driver of them all.
 */
#ifndef IOF_IOAS_PRESET_H
#define IOF_IOAS_PRESET_H

#include "ioas/driver.h"

#define IOF_PRESETS 5 /* index 0 is no preset */

struct iof_preset_info {
	const struct iof_driver *driver;
	struct iof_pt_config table;
	struct iof_pt_config parent_table; /* arm: of a nest parent */
	struct iof_device_caps caps; /* of every device behind it; reserved: never mapped, never handed out */
	uint32_t hw_info_type, hw_info_length;
	const void *hw_info;
};

/* NULL: no such preset. Numbers are those of the public enum iof_preset. */
const struct iof_preset_info *iof_preset_info(unsigned preset);

#endif
