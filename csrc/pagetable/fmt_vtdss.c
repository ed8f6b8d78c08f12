// SPDX-License-Identifier: Apache-2.0
/*
 * VT-d second stage (Intel VT-d specification, "Second-Stage Paging Entries").
 *
 * No present bit: an entry with neither R nor W is empty. Leaves are single items of 4 KiB, 2 MiB and 1 GiB; PS marks
 * the larger ones. A table entry carries R and W, so that the leaf alone decides.
 */
#include "pagetable/internal.h"

#define ITEM_R (UINT64_C(1) << 0)
#define ITEM_W (UINT64_C(1) << 1)
#define ITEM_PS (UINT64_C(1) << 7)
#define ITEM_D (UINT64_C(1) << 9)
#define ITEM_SNP (UINT64_C(1) << 11)
#define ITEM_ADDRESS UINT64_C(0x000ffffffffff000)

/* A table's item has these and its address, nothing else. */
#define TABLE_BITS (ITEM_R | ITEM_W)

#define FMT_OPS iofi_pt_vtdss
#define FMT_LIMITS vtdss_limits
#define FMT_GRANULE_LG2 12
#define FMT_PRESENT_FOLD 1
#define FMT_DIRTY ITEM_D
#define FMT_TABLE_PROT(item) fmt_leaf_prot(item)
#define FMT_OWN_TABLE(item) ((item) - TABLE_BITS)
#define VTDSS_LEAF_LEVELS 3u

/*
 * The features live in leaf_bits: SNP as it stands in a leaf, and bit 0 for "a read-only map is refused", which no leaf
 * shows.
 */
#define BITS_FORCE_WRITEABLE UINT64_C(1)

static uint64_t vtdss_leaf_bits(uint32_t features)
{
	return (features & IOF_PT_FORCE_COHERENT ? ITEM_SNP : 0) |
	       (features & IOF_PT_FORCE_WRITEABLE ? BITS_FORCE_WRITEABLE : 0);
}

static uint64_t vtdss_leaf_sizes(const struct iof_pt_config *c, unsigned level)
{
	(void)c;
	return level < VTDSS_LEAF_LEVELS ? UINT64_C(1) << (FMT_GRANULE_LG2 + 9 * level) : 0;
}

static const struct iofi_pt_limits vtdss_limits = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = 9,
	.level_min = 2,
	.level_max = 4,
	.va_max_lg2 = 57,
	.oa_max_lg2 = 52,
	.level_from_va = true,
	.features = IOF_PT_FORCE_COHERENT | IOF_PT_FORCE_WRITEABLE,
	.leaf_bits = vtdss_leaf_bits,
	.leaf_sizes = vtdss_leaf_sizes,
};

static inline bool fmt_present(uint64_t item)
{
	return item & (ITEM_R | ITEM_W);
}

static inline bool fmt_is_table(uint64_t item, unsigned level)
{
	(void)level;
	return fmt_present(item) && !(item & ITEM_PS);
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
	uint64_t rw = prot & (IOF_PROT_READ | IOF_PROT_WRITE);

	if (iof_unlikely((pt->leaf_bits & BITS_FORCE_WRITEABLE) && !(rw & IOF_PROT_WRITE)))
		return 0;
	return rw | (pt->leaf_bits & ITEM_SNP);
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
	return item & (ITEM_R | ITEM_W);
}

/* Address bits beyond the output width, and below a large leaf's size, are reserved; so is PS where no leaf can be. */
static inline bool fmt_is_sane(uint64_t item, unsigned level, unsigned oa_lg2)
{
	uint64_t address = item & ITEM_ADDRESS;

	if (address & ~iof_low_mask(oa_lg2))
		return false;
	if (!level || !(item & ITEM_PS))
		return true;
	return level < VTDSS_LEAF_LEVELS && !(address & iof_low_mask(fmt_leaf_size(item, level)));
}

#include "pagetable/walker.h"
