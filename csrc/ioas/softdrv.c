/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/softdrv.h"

#include <errno.h>
#include <string.h>

#include "ioas/preset.h"
#include "ioas/soft_smmu.h"

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

/*
 * SMMUv3: the first stage's tables, or the second's for a nest parent; what Linux's driver does not combine is refused.
 */
static int smmu_paging_alloc(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data,
			     struct iof_paging_plan *plan)
{
	const struct iof_preset_info *preset = drv;

	(void)dev;
	if (flags & ~(uint32_t)(NEST_PARENT | DIRTY_TRACKING | PASID) || (flags & NEST_PARENT && flags != NEST_PARENT) || data)
		return -EOPNOTSUPP;
	plan->table = flags & NEST_PARENT ? preset->parent_table : preset->table;
	if (flags & DIRTY_TRACKING)
		plan->table.features |= IOF_PT_HW_DIRTY;
	plan->dirty = flags & DIRTY_TRACKING;
	return 0;
}

/* Its driver in Linux knows no flags, no data and no information. */
static int riscv_paging_alloc(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data,
			      struct iof_paging_plan *plan)
{
	const struct iof_preset_info *preset = drv;

	(void)dev;
	if (flags || data)
		return -EOPNOTSUPP;
	plan->table = preset->table;
	return 0;
}

const struct iof_driver iof_soft_intel = {
	.name = "intel",
	.paging_flags = true,
	.paging_alloc = paging_alloc,
	.hw_info = hw_info,
	.attach = iofi_vtd_attach,
	.nested_alloc = iofi_vtd_nested_alloc,
	.nested_free = iofi_vtd_nested_free,
	.nested_invalidate = iofi_vtd_invalidate,
	.first_stage = iofi_vtd_first_stage,
};

const struct iof_driver iof_soft_amd = {
	.name = "amd",
	.paging_flags = true,
	.paging_alloc = paging_alloc,
	.hw_info = hw_info,
	.attach = iofi_amd_attach,
	.nested_alloc = iofi_amd_nested_alloc,
	.nested_free = iofi_amd_nested_free,
	.nested_needs_viommu = true,
	.first_stage = iofi_amd_first_stage,
	.viommu_supported = iofi_amd_viommu_supported,
	.viommu_init = iofi_soft_viommu_init,
	.viommu_free = iofi_soft_viommu_free,
};

const struct iof_driver iof_soft_arm = {
	.name = "arm",
	.paging_flags = true,
	.paging_alloc = smmu_paging_alloc,
	.hw_info = hw_info,
	.attach = iofi_smmu_attach,
	.nested_alloc = iofi_smmu_nested_alloc,
	.nested_free = iofi_smmu_nested_free,
	.nested_needs_viommu = true,
	.first_stage = iofi_smmu_first_stage,
	.dma_faulted = iofi_smmu_dma_faulted,
	.viommu_supported = iofi_smmu_viommu_supported,
	.viommu_init = iofi_soft_viommu_init,
	.viommu_free = iofi_soft_viommu_free,
	.viommu_invalidate = iofi_smmu_invalidate,
};

const struct iof_driver iof_soft_riscv = { .name = "riscv", .paging_alloc = riscv_paging_alloc };
