/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guests' tables are told in: the driver data of HWPT_ALLOC, HWPT_INVALIDATE and event queues, by IOMMU (behaviour.md appendix B). Our own
 * declaration, as uapi.h. The words of SMMUv3 are little-endian, those of AMD and VT-d native.
 */
#ifndef IOF_DISPATCH_UAPI_GUEST_H
#define IOF_DISPATCH_UAPI_GUEST_H

#include <stdint.h>

/* HWPT_ALLOC's data_type. */
enum iof_data_type { IOF_DATA_VTD_S1 = 1, IOF_DATA_ARM_SMMUV3 = 2, IOF_DATA_AMD_GUEST = 3 };
/* HWPT_INVALIDATE's: of a nested HWPT, of a vIOMMU. */
enum iof_invalidate_type { IOF_INVALIDATE_VTD_S1 = 0, IOF_INVALIDATE_ARM_SMMUV3 = 1 };
enum iof_viommu_type { IOF_VIOMMU_ARM_SMMUV3 = 1, IOF_VIOMMU_TEGRA241_CMDQV = 2 };
enum iof_veventq_type { IOF_VEVENTQ_ARM_SMMUV3 = 1, IOF_VEVENTQ_TEGRA241_CMDQV = 2 };

enum iof_vtd_s1_flag { IOF_VTD_S1_SRE = 1, IOF_VTD_S1_EAFE = 2, IOF_VTD_S1_WPE = 4 };

struct iof_vtd_s1 {
	uint64_t flags, pgtbl_addr; /* of the guest's first-stage table: guest-physical */
	uint32_t addr_width, reserved; /* 48, 57 */
};

enum iof_vtd_inv_flag { IOF_VTD_INV_LEAF = 1 };

struct iof_vtd_s1_invalidate {
	uint64_t addr, npages; /* 0, 2^64-1: everything */
	uint32_t flags, reserved;
};

struct iof_arm_smmuv3 {
	uint64_t ste[2]; /* the first words of a stream table entry */
};

struct iof_arm_smmuv3_invalidate {
	uint64_t cmd[2]; /* a command of the queue */
};

struct iof_arm_smmuv3_event {
	uint64_t evt[4]; /* an event record */
};

struct iof_amd_guest {
	uint64_t dte[4]; /* a device table entry */
};

#endif
