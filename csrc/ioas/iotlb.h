/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IOTLB of a soft IOMMU: remembered leaves, tagged by domain, in 64 sets of 4.
 *
 * It is there to be wrong when it may: a translation stays until it is invalidated or evicted, whatever the page table says meanwhile, as in
 * hardware. Entries are looked up and put in by DMA inside the domain's read section; an unmap clears the page table, waits for the readers,
 * invalidates, and waits once more: a reader may have just hit an entry, be it thrown out now or evicted since.
 *
 * PASIDs share their domain's tag: the tag is of the page table, which is what an endpoint's (device, PASID) selects. What two stages translate is
 * tagged by the guest's own word as well (an ASID, a PASID), and knows its parent: the second stage, whose unmaps throw out all that went through it, as
 * no IOMMU can tell which guest addresses led there.
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
	uint32_t tag; /* of two stages: the guest's; 0: one stage */
	uint32_t parent; /* of two stages: the second's domain; 0: one stage */
	uint64_t through; /* of two stages: what the second was asked for, for the leaf's first byte */
	struct iof_pt_leaf leaf;
};

/* Whose translations: a page table's, or of two stages those of one guest tag. */
struct iof_iotlb_key {
	uint32_t domain, tag, parent;
};

#define IOF_IOTLB_ANY_TAG UINT32_MAX
#define IOF_IOTLB_OF_PARENT(which) ((struct iof_iotlb_key){ .tag = IOF_IOTLB_ANY_TAG, .parent = (which) })

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

/* The same for two stages. */
bool iof_iotlb_find_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, uint64_t iova, struct iof_pt_leaf *leaf,
			   uint64_t *through);
void iof_iotlb_insert_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, uint64_t iova, const struct iof_pt_leaf *leaf,
			     uint64_t through);

/* Throws out what a domain has of a range: how many entries. 0 while the drop hook is set. */
unsigned iof_iotlb_invalidate(struct iof_iotlb *t, uint32_t domain, struct iof_range r);
/* Of two stages: a field of the key that is 0 (the tag: IOF_IOTLB_ANY_TAG) is any. */
unsigned iof_iotlb_invalidate_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, struct iof_range r);
uint32_t iof_iotlb_live(struct iof_iotlb *t);

#endif
