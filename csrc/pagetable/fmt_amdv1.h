/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AMD host table (AMD IOMMU specification, "I/O Page Tables for Host Translations"), for any granule. Included by
 * fmt_amdv1.c and fmt_mock.c, which define FMT_OPS, FMT_LIMITS, FMT_GRANULE_LG2 and AMDV1_LEVEL_MAX first.
 *
 * Each entry says what is below it: next level 0 a leaf of the item's own size, 7 a leaf of an encoded size, else the
 * level of the table it points to (hardware counts from 1, so that is our own level). A leaf of 2^s bytes fills 2^(s -
 * item) items, all alike; the low bits of their address field hold a run of ones, as long as s says, and then a zero.
 *
 * The address field counts granules from bit 12 up: for a 2 KiB granule it holds the address shifted left by one.
 */
#include "pagetable/internal.h"

#define ITEM_PR (UINT64_C(1) << 0)
#define ITEM_D (UINT64_C(1) << 6)
#define ITEM_NEXT_SHIFT 9
#define ITEM_NEXT (UINT64_C(7) << ITEM_NEXT_SHIFT)
#define ITEM_FIELD UINT64_C(0x000ffffffffff000)
#define ITEM_RESERVED (UINT64_C(0x7f) << 52)
#define ITEM_FC (UINT64_C(1) << 60)
#define ITEM_RW_SHIFT 61 /* IR and IW, in the order of enum iof_prot */
#define ITEM_RW (UINT64_C(3) << ITEM_RW_SHIFT)
#define FIELD_SHIFT (12 - FMT_GRANULE_LG2)

#define FMT_CONTIG 1
#define FMT_GROWS 1
#define FMT_DIRTY ITEM_D
#define FMT_TABLE_PROT(item) fmt_leaf_prot(item)

/* Every power of two that the level's items can make, up to 2^51; no 512 GiB: hardware gets that one wrong. */
static uint64_t amdv1_leaf_sizes(const struct iof_pt_config *c, unsigned level)
{
	unsigned item = FMT_GRANULE_LG2 + 9 * level, top = item + 8 < 51 ? item + 8 : 51;

	(void)c;
	if (level >= AMDV1_LEVEL_MAX)
		return 0;
	return iof_low_mask(top + 1) & ~iof_low_mask(item) & ~(UINT64_C(1) << 39);
}

static uint64_t amdv1_leaf_bits(uint32_t features)
{
	return ITEM_PR | (features & IOF_PT_FORCE_COHERENT ? ITEM_FC : 0);
}

static inline bool fmt_present(uint64_t item)
{
	return item & ITEM_PR;
}

/* Next level is neither 0 nor 7: adding one leaves something above its lowest bit. An empty item has next level 0. */
static inline bool fmt_is_table(uint64_t item, unsigned level)
{
	(void)level;
	return (item + (UINT64_C(1) << ITEM_NEXT_SHIFT)) & (UINT64_C(6) << ITEM_NEXT_SHIFT);
}

static inline uint64_t fmt_table_address(uint64_t item)
{
	return (item & ITEM_FIELD) >> FIELD_SHIFT;
}

static inline uint64_t fmt_table_item(uint64_t address, unsigned level)
{
	return address << FIELD_SHIFT | (uint64_t)level << ITEM_NEXT_SHIFT | ITEM_PR | ITEM_RW;
}

static inline uint64_t fmt_attrs(const struct iof_pt *pt, unsigned prot)
{
	return (uint64_t)(prot & (IOF_PROT_READ | IOF_PROT_WRITE)) << ITEM_RW_SHIFT | pt->leaf_bits;
}

/* A size of 2^s sets s - granule - 1 ones: the field's bits of the address from the granule up to s - 2. */
static inline uint64_t fmt_leaf_item(uint64_t address, unsigned size_lg2, unsigned level, uint64_t attrs)
{
	uint64_t item = address << FIELD_SHIFT | attrs;

	if (size_lg2 == FMT_GRANULE_LG2 + 9 * level)
		return item;
	return item | ITEM_NEXT | (iof_low_mask(size_lg2 - 1) & ~iof_low_mask(FMT_GRANULE_LG2)) << FIELD_SHIFT;
}

static inline bool fmt_is_single(uint64_t item)
{
	return (item & ITEM_NEXT) != ITEM_NEXT;
}

static inline unsigned fmt_leaf_size(uint64_t item, unsigned level)
{
	if (iof_likely(fmt_is_single(item)))
		return FMT_GRANULE_LG2 + 9 * level;
	return FMT_GRANULE_LG2 + 1 + iof_ctz(~((item & ITEM_FIELD) >> 12));
}

static inline uint64_t fmt_leaf_address(uint64_t item, unsigned level, unsigned size_lg2)
{
	(void)level;
	return (item & ITEM_FIELD) >> FIELD_SHIFT & ~iof_low_mask(size_lg2);
}

static inline unsigned fmt_leaf_prot(uint64_t item)
{
	return item >> ITEM_RW_SHIFT & 3;
}

static inline bool fmt_is_sane(uint64_t item, unsigned level, unsigned oa_lg2)
{
	unsigned next = (item & ITEM_NEXT) >> ITEM_NEXT_SHIFT, base = FMT_GRANULE_LG2 + 9 * level, size;
	uint64_t address = (item & ITEM_FIELD) >> FIELD_SHIFT;

	if (item & ITEM_RESERVED)
		return false;
	if (next && next != 7)
		return level && next == level && !(address & ~iof_low_mask(oa_lg2)) && !(address & 0xfff);
	if (level >= AMDV1_LEVEL_MAX)
		return false;
	size = fmt_leaf_size(item, level);
	if (next == 7 && (size <= base || size > base + 8))
		return false;
	if (!next && (address & iof_low_mask(size)))
		return false;
	return !(fmt_leaf_address(item, level, size) & ~iof_low_mask(oa_lg2));
}
