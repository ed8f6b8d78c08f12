/* SPDX-License-Identifier: Apache-2.0 */
/* The two halves of the soft SMMUv3's nesting: soft_smmu.c (stream table entries, commands), soft_smmu_cd.c (context descriptors). */
#ifndef IOF_IOAS_SOFT_SMMU_H
#define IOF_IOAS_SOFT_SMMU_H

#include "ioas/soft_nested.h"

/* Event records that a guest is told of (SMMUv3 7.3). */
enum iofi_smmu_event {
	IOFI_SMMU_BAD_STE = 0x04,
	IOFI_SMMU_STREAM_DISABLED = 0x06,
	IOFI_SMMU_BAD_SUBSTREAM = 0x08,
	IOFI_SMMU_BAD_CD = 0x0a,
	IOFI_SMMU_TRANSLATION = 0x10,
	IOFI_SMMU_ADDRESS_SIZE = 0x11,
	IOFI_SMMU_ACCESS = 0x12,
	IOFI_SMMU_PERMISSION = 0x13,
};

#define IOFI_SMMU_ITEM_AF (UINT64_C(1) << 10)

/* The words of the stream table entry that a guest gave are n->word[0] and [1], checked. */
int iofi_smmu_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out);

#endif
