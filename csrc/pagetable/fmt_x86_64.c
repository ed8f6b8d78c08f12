// SPDX-License-Identifier: Apache-2.0
/*
 * The CPU's own four- and five-level paging (Intel SDM volume 3, "4-Level Paging and 5-Level Paging"), which IOMMUs
 * walk as VT-d first stage ("First-Stage Paging Entries") and AMDv2 ("Guest Translations").
 *
 * A leaf is always readable. Dirty bits are set in writable leaves from the start, so that no IOMMU has to write the
 * table; nothing is tracked with them.
 */
#include "pagetable/internal.h"

#define ITEM_P (UINT64_C(1) << 0)
#define ITEM_RW (UINT64_C(1) << 1)
#define ITEM_U (UINT64_C(1) << 2)
#define ITEM_A (UINT64_C(1) << 5)
#define ITEM_D (UINT64_C(1) << 6)
#define ITEM_PS (UINT64_C(1) << 7)
#define ITEM_PAT_LARGE (UINT64_C(1) << 12) /* in a leaf with PS; an address bit elsewhere */
#define ITEM_ADDRESS UINT64_C(0x000ffffffffff000)

/* A table's item has these and its address, nothing else. */
#define TABLE_BITS (ITEM_P | ITEM_RW | ITEM_U | ITEM_A)

#define FMT_OPS iofi_pt_x86_64
#define FMT_LIMITS x86_64_limits
#define FMT_GRANULE_LG2 12
#define FMT_SIGNED 1
#define FMT_DIRTY ITEM_D
#define FMT_TABLE_PROT(item) fmt_leaf_prot(item)
#define FMT_OWN_TABLE(item) ((item) - TABLE_BITS)
#define FMT_TRACKS_DIRTY 0
#define X86_64_LEAF_LEVELS 3u

static uint64_t x86_64_leaf_sizes(const struct iof_pt_config *c, unsigned level)
{
	(void)c;
	return level < X86_64_LEAF_LEVELS ? UINT64_C(1) << (FMT_GRANULE_LG2 + 9 * level) : 0;
}

static const struct iofi_pt_limits x86_64_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.level_min = 3,
	.level_max = 4,
	.va_max_lg2 = 57,
	.oa_max_lg2 = 52,
	.level_from_va = true,
	.features = IOF_PT_SIGN_EXTEND,
	.leaf_sizes = x86_64_leaf_sizes,
};

static inline bool fmt_present(uint64_t item)
{
	return item & ITEM_P;
}

static inline bool fmt_is_table(uint64_t item, unsigned level)
{
	(void)level;
	return (item & (ITEM_P | ITEM_PS)) == ITEM_P;
}

static inline uint64_t fmt_table_address(uint64_t item)
{
	return item & ITEM_ADDRESS;
}

static inline uint64_t fmt_table_item(uint64_t address, unsigned level)
{
	(void)level;
	return address | TABLE_BITS;
}

static inline uint64_t fmt_attrs(const struct iof_pt *pt, unsigned prot)
{
	(void)pt;
	prot &= IOF_PROT_WRITE;
	return ITEM_P | ITEM_U | ITEM_A | prot | (uint64_t)prot << 5; /* RW is the same bit, D five higher */
}

static inline uint64_t fmt_leaf_item(uint64_t address, unsigned size_lg2, unsigned level, uint64_t attrs)
{
	(void)size_lg2;
	return address | attrs | (level ? ITEM_PS : 0);
}

static inline unsigned fmt_leaf_size(uint64_t item, unsigned level)
{
	(void)item;
	return FMT_GRANULE_LG2 + 9 * level;
}

static inline uint64_t fmt_leaf_address(uint64_t item, unsigned level, unsigned size_lg2)
{
	(void)level;
	return item & ITEM_ADDRESS & ~iof_low_mask(size_lg2);
}

static inline unsigned fmt_leaf_prot(uint64_t item)
{
	return IOF_PROT_READ | (item & ITEM_RW);
}

/* Reserved: address bits beyond the output width and, but for PAT, below a leaf's size; PS where no leaf can be. */
static inline bool fmt_is_sane(uint64_t item, unsigned level, unsigned oa_lg2)
{
	uint64_t address = item & ITEM_ADDRESS;

	if (address & ~iof_low_mask(oa_lg2))
		return false;
	if (!level || !(item & ITEM_PS))
		return true;
	return level < X86_64_LEAF_LEVELS && !(address & ~ITEM_PAT_LARGE & iof_low_mask(fmt_leaf_size(item, level)));
}

#include "pagetable/walker.h"
