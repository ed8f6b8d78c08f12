/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's first stage: what stands in front of the parent's page table for the DMA of one PASID of a nested HWPT.
 *
 * The driver knows what the guest's words mean (a VT-d address, an SMMU's STE and context descriptor, an AMD GCR3 table) and makes a first stage of them; the
 * engine walks it, every fetch through the parent's table, and remembers the result in the IOTLB under the driver's tag. Guests write what they like: a
 * descriptor is read once, checked, and only then believed; tables are walked as foreign ones, which end at any garbage in a fault.
 *
 * Guests' tables are only read: accessed and dirty bits are not set in them.
 *
 * Everything here runs inside the read sections of the device and of the parent's table, by any thread.
 */
#ifndef IOF_IOAS_GUEST_H
#define IOF_IOAS_GUEST_H

#include "ioas/dma.h"
#include "ioas/hwpt.h"
#include "pagetable/foreign.h"

enum iof_first_kind {
	IOF_FIRST_ABORT = 1, /* all DMA is refused, as if not attached */
	IOF_FIRST_BYPASS = 2, /* no first stage: the guest's addresses are the parent's IOVAs */
	IOF_FIRST_TABLE = 3,
};

struct iof_first_stage {
	enum iof_first_kind kind;
	bool silent; /* the guest asked not to be told of faults */
	struct iof_iotlb_key key; /* of what is translated; parent is the parent's domain */
	struct iof_pt_foreign table; /* its memory is the engine's to fill in */
	uint64_t every_item, leaf_item; /* bits that all items on the way, and the last, must have: else denied */
	uint64_t no_table_item; /* bits that no item above the last may have */
};

/* The guest's memory as the IOMMU sees it: through the parent. Where a read failed is in *fault. */
struct iof_guest {
	struct iof_machine *m;
	struct iof_hwpt *parent;
	struct iof_dma_fault *fault;
};

/* 0; -EFAULT, and *fault. For descriptors: n bytes that cross no page. */
int iof_guest_read(const struct iof_guest *g, uint64_t address, void *to, size_t n);

/* Two stages: where `iova` leads. *through: what the second was asked for. 0, or -EFAULT and *fault. */
int iofi_guest_resolve(const struct iof_guest *g, const struct iof_first_stage *first, uint64_t iova, bool write,
		       struct iof_pt_leaf *leaf, uint64_t *through);

#endif
