/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of the soft IOMMUs. Its `drv` is the preset's struct iof_preset_info. */
#ifndef IOF_IOAS_SOFTDRV_H
#define IOF_IOAS_SOFTDRV_H

#include "ioas/driver.h"

extern const struct iof_driver iof_soft_intel, iof_soft_amd;

#endif
