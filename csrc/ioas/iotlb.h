/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IOTLB of a soft IOMMU: remembered leaves, tagged by domain, in 64 sets of 4.
 *
 * It is there to be wrong when it may: a translation stays until it is invalidated or evicted, whatever the page table says meanwhile, as in
 * hardware. Entries are looked up and put in by DMA inside the domain's read section; an unmap clears the page table, waits for the readers,
 * invalidates, and waits once more: a reader may have just hit an entry, be it thrown out now or evicted since.
 *
 * PASIDs share their domain's tag: the tag is of the page table, which is what an endpoint's (device, PASID) selects.
 *
 * A domain knows whether any DMA ever went through it (hwpt.h, `used`): one that nobody used is not looked for here.
 *
 * Locks: one per set; counters are atomic.
 */
#ifndef IOF_IOAS_IOTLB_H
#define IOF_IOAS_IOTLB_H

#include "pagetable/pagetable.h"
#include "util/lock.h"
#include "util/range.h"

#define IOF_IOTLB_SETS 64
#define IOF_IOTLB_WAYS 4

struct iof_iotlb_entry {
	uint32_t domain; /* 0: empty */
	uint32_t age;
	struct iof_pt_leaf leaf;
};

struct iof_iotlb_set {
	_Alignas(IOF_CACHELINE) struct iof_lock lock;
	uint32_t clock;
	struct iof_iotlb_entry way[IOF_IOTLB_WAYS];
};

struct iof_iotlb {
	struct iof_iotlb_set set[IOF_IOTLB_SETS];
	/*
	 * Bit i: set i may hold an entry, or one larger than 4 KiB. Set before the entry is, cleared with it, both under the set's
	 * lock; an invalidation reads them after it has waited for the readers, so it sees the bit of every entry that may be stale.
	 */
	_Atomic uint64_t occupied, large;
	_Atomic uint64_t hits, misses, evictions, invalidations, dropped;
	_Atomic bool drop; /* test hook: a broken IOMMU that ignores invalidations */
};

void iof_iotlb_init(struct iof_iotlb *t, bool shared);

bool iof_iotlb_find(struct iof_iotlb *t, uint32_t domain, uint64_t iova, struct iof_pt_leaf *leaf);
void iof_iotlb_insert(struct iof_iotlb *t, uint32_t domain, uint64_t iova, const struct iof_pt_leaf *leaf);

/* Throws out what a domain has of a range: how many entries. 0 while the drop hook is set. */
unsigned iof_iotlb_invalidate(struct iof_iotlb *t, uint32_t domain, struct iof_range r);
uint32_t iof_iotlb_live(struct iof_iotlb *t);

#endif
