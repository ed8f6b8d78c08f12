/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/softdrv.h"

#include <errno.h>
#include <string.h>

#include "ioas/preset.h"

/* HWPT_ALLOC's flags (behaviour.md 2.10). */
enum { NEST_PARENT = 1, DIRTY_TRACKING = 2, PASID = 8 };

static int paging_alloc(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data,
			struct iof_paging_plan *plan)
{
	const struct iof_preset_info *preset = drv;

	(void)dev;
	if (flags & ~(uint32_t)(NEST_PARENT | DIRTY_TRACKING | PASID) || data)
		return -EOPNOTSUPP;
	plan->table = preset->table;
	plan->dirty = flags & DIRTY_TRACKING;
	return 0;
}

static int hw_info(void *drv, struct iof_mdev *dev, uint32_t *type, void *to, uint32_t *length)
{
	const struct iof_preset_info *preset = drv;

	(void)dev;
	if (*type && *type != preset->hw_info_type)
		return -EOPNOTSUPP;
	*type = preset->hw_info_type;
	*length = preset->hw_info_length;
	memcpy(to, preset->hw_info, preset->hw_info_length);
	return 0;
}

/* Nested tables and vIOMMUs need a first stage that can be walked: not built, so the hardware does not have them. */
#define SOFT_DRIVER(what) { .name = what, .paging_flags = true, .paging_alloc = paging_alloc, .hw_info = hw_info }

const struct iof_driver iof_soft_intel = SOFT_DRIVER("intel");
const struct iof_driver iof_soft_amd = SOFT_DRIVER("amd");
