/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers of the soft IOMMUs. Their `drv` is the preset's struct iof_preset_info. */
#ifndef IOF_IOAS_SOFTDRV_H
#define IOF_IOAS_SOFTDRV_H

#include "ioas/driver.h"

extern const struct iof_driver iof_soft_intel, iof_soft_amd, iof_soft_arm, iof_soft_riscv;

/* Their nested tables and vIOMMUs: soft_vtd.c, soft_amd.c, soft_smmu.c. */
int iofi_vtd_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			  const struct iof_user_data *data, void **priv);
void iofi_vtd_nested_free(void *drv, void *priv);
int iofi_vtd_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old);
int iofi_vtd_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out);
int iofi_vtd_invalidate(void *drv, void *priv, const struct iof_user_array *a, uint32_t *done);

int iofi_amd_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			  const struct iof_user_data *data, void **priv);
void iofi_amd_nested_free(void *drv, void *priv);
int iofi_amd_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old);
int iofi_amd_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out);
int iofi_amd_viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type);

int iofi_smmu_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			   const struct iof_user_data *data, void **priv);
void iofi_smmu_nested_free(void *drv, void *priv);
int iofi_smmu_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old);
int iofi_smmu_viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type);
int iofi_smmu_invalidate(void *drv, struct iof_viommu *v, const struct iof_user_array *a, uint32_t *done);
void iofi_smmu_dma_faulted(void *drv, void *priv, struct iof_mdev *dev, uint32_t pasid, const struct iof_dma_fault *fault);

#endif
