/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the nested tables of the soft IOMMUs have in common (soft_vtd.c, soft_amd.c, soft_smmu.c).
 *
 * Each holds the guest's words as they were given, checked by its driver. Where a PASID's table is found through descriptors in guest memory, what was found is
 * remembered in a few *contexts*, as hardware does: a guest that changes a descriptor says so, or attaches anew. Guest words are read and translated inside the
 * parent's read section; whatever forgets something waits for those sections before and after, so that nobody goes on with what was read earlier.
 */
#ifndef IOF_IOAS_SOFT_NESTED_H
#define IOF_IOAS_SOFT_NESTED_H

#include "ioas/guest.h"
#include "ioas/viommu.h"

#define IOF_SOFT_CONTEXTS 8
#define IOF_SOFT_WORDS 4

struct iof_soft_context {
	bool known;
	uint32_t pasid;
	struct iof_first_stage first;
};

struct iof_soft_nested {
	struct iof_hwpt *parent; /* kept alive by the HWPT */
	struct iof_viommu *viommu; /* likewise; NULL: directly on the parent */
	struct iof_soft_nested *next; /* control lock: of the vIOMMU */
	uint32_t domain; /* IOTLB tag */
	uint64_t word[IOF_SOFT_WORDS]; /* the driver's reading of the guest's data */
	struct iof_lock lock; /* of the contexts */
	struct iof_soft_context context[IOF_SOFT_CONTEXTS];
};

/* On `viommu` (NULL: directly); domain is new. Control lock, as for all but contexts. */
int iofi_soft_nested_make(struct iof_hwpt *parent, struct iof_viommu *v, struct iof_soft_nested **out);
void iofi_soft_nested_free(struct iof_soft_nested *n);

/* Forgets contexts of one PASID, or all with IOF_IOTLB_ANY_TAG. Afterwards nobody uses them any more. */
void iofi_soft_forget(struct iof_soft_nested *n, uint32_t pasid);
/* The same for translations: `key` as iof_iotlb_invalidate_nested() takes it. */
void iofi_soft_invalidate(struct iof_hwpt *parent, const struct iof_iotlb_key *key, struct iof_range r);

bool iofi_soft_context_find(struct iof_soft_nested *n, uint32_t pasid, struct iof_first_stage *first);
void iofi_soft_context_keep(struct iof_soft_nested *n, uint32_t pasid, const struct iof_first_stage *first);

/* A descriptor at a guest address is refused: -EFAULT, and the guest's fault. */
int iofi_soft_refuse(const struct iof_guest *g, enum iof_dma_fault_reason reason, uint8_t code, uint64_t address, uint64_t item);

/* A vIOMMU that lists its nested tables. -EINVAL the parent belongs to another IOMMU; -ENOMEM. */
int iofi_soft_viommu_init(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data);
void iofi_soft_viommu_free(void *drv, struct iof_viommu *v);
struct iof_soft_nested *iofi_soft_viommu_first(const struct iof_viommu *v);

#endif
