/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ARM LPAE, the VMSAv8-64 tables of CPUs and SMMUv3 (Arm Architecture Reference Manual, "VMSAv8-64 translation table
 * format descriptors"). Included by fmt_arm_*.c, which define FMT_OPS, FMT_LIMITS, ARM_STAGE and FMT_GRANULE_LG2.
 *
 * ARM counts levels down, from 0 or less at the top to 3 at the pages; ours count up. Type 3 is a page at the lowest
 * level and a table above, type 1 a block. A table is as large as the granule. What Linux's ARM code does otherwise
 * than its generic walker (behaviour.md 10.8) is FMT_BLOCKS.
 */
#include "pagetable/internal.h"

#define FMT_TABLE_LG2 (FMT_GRANULE_LG2 - 3)
#define FMT_BLOCKS 1
#define FMT_CONTIG 1
#define FMT_CONTIG_COUNTS 1
#define FMT_CONCAT (ARM_STAGE == 2)
/* nothing but the type is set */
#define FMT_OWN_TABLE(item) (FMT_GRANULE_LG2 != 16 ? (item) - ITEM_TYPE : arm_address(item))
#define FMT_TRACKS_DIRTY (ARM_STAGE == 1)
#define FMT_DIRTY_IS_SET 0
#define FMT_DIRTY ITEM_RDONLY
#define FMT_TABLE_PROT(item) (3 & ~(ARM_STAGE == 1 ? (item) >> 61 & IOF_PROT_WRITE : 0)) /* APTable[1] */

#define ITEM_VALID (UINT64_C(1) << 0)
#define ITEM_TYPE UINT64_C(3)
#define ITEM_SH_OUTER (UINT64_C(2) << 8)
#define ITEM_SH_INNER (UINT64_C(3) << 8)
#define ITEM_AF (UINT64_C(1) << 10)
#define ITEM_CONTIGUOUS (UINT64_C(1) << 52)
#define ITEM_XN (UINT64_C(3) << 53)
/* stage 1 */
#define ITEM_ATTR(n) ((uint64_t)(n) << 2) /* index into MAIR: 0 not cached, 1 cached, 2 device */
#define ITEM_USER (UINT64_C(1) << 6)
#define ITEM_RDONLY (UINT64_C(1) << 7)
#define ITEM_NG (UINT64_C(1) << 11)
#define ITEM_DBM (UINT64_C(1) << 51)
/* stage 2 */
#define ITEM_HAP_SHIFT 6 /* S2AP: read and write, in the order of enum iof_prot */
#define ITEM_MEM_DEVICE (UINT64_C(1) << 2)
#define ITEM_MEM_NC (UINT64_C(5) << 2)
#define ITEM_MEM_WB (UINT64_C(0xf) << 2)

/* Address bits 51:48 stand in 15:12, which only the 64 KiB granule has to spare. */
#define ITEM_LOW (UINT64_C(0x0001000000000000) - (UINT64_C(1) << FMT_GRANULE_LG2))
#define ITEM_HIGH UINT64_C(0xf000)
#define FMT_ADDRESS_SPLIT (FMT_GRANULE_LG2 == 16 ? 48 : 0)
#define ARM_LEVEL(n) (3 - (n)) /* the architecture's level as ours, and back */

#include "pagetable/fmt_arm_shape.h"

static inline bool fmt_present(uint64_t item)
{
	return item & ITEM_VALID;
}

static inline bool fmt_is_table(uint64_t item, unsigned level)
{
	return level && (item & ITEM_TYPE) == 3;
}

static inline uint64_t arm_address(uint64_t item)
{
	if (FMT_GRANULE_LG2 != 16)
		return item & ITEM_LOW;
	return (item & ITEM_LOW) | (item & ITEM_HIGH) << 36;
}

static inline uint64_t arm_field(uint64_t address)
{
	return FMT_GRANULE_LG2 != 16 ? address : (address | address >> 36) & (ITEM_LOW | ITEM_HIGH);
}

static inline uint64_t fmt_table_address(uint64_t item)
{
	return arm_address(item);
}

static inline uint64_t fmt_table_item(uint64_t address, unsigned level)
{
	(void)level;
	return arm_field(address) | 3;
}

/* Device memory is outer shareable like all that is not cached. AF is set: nothing faults on a first access. */
static inline uint64_t fmt_attrs(const struct iof_pt *pt, unsigned prot)
{
	uint64_t attrs = ITEM_AF | (prot & IOF_PROT_CACHE ? ITEM_SH_INNER : ITEM_SH_OUTER);

	attrs |= prot & IOF_PROT_NOEXEC ? ITEM_XN : 0;
	if (ARM_STAGE == 2) {
		uint64_t cached = pt->cfg.features & IOF_PT_FORCE_WRITE_BACK ? UINT64_C(6) << 2 : ITEM_MEM_WB;

		attrs |= (uint64_t)(prot & (IOF_PROT_READ | IOF_PROT_WRITE)) << ITEM_HAP_SHIFT;
		return attrs | (prot & IOF_PROT_MMIO ? ITEM_MEM_DEVICE : prot & IOF_PROT_CACHE ? cached : ITEM_MEM_NC);
	}
	attrs |= ITEM_NG | ITEM_USER | ITEM_ATTR(prot & IOF_PROT_MMIO ? 2 : prot & IOF_PROT_CACHE ? 1 : 0);
	if (!(prot & IOF_PROT_WRITE))
		return attrs | ITEM_RDONLY;
	return attrs | (pt->cfg.features & IOF_PT_HW_DIRTY ? ITEM_DBM : 0);
}

static inline uint64_t fmt_leaf_item(uint64_t address, unsigned size_lg2, unsigned level, uint64_t attrs)
{
	bool contig = size_lg2 != FMT_GRANULE_LG2 + FMT_TABLE_LG2 * level;

	return arm_field(address) | attrs | (level ? 1 : 3) | (contig ? ITEM_CONTIGUOUS : 0);
}

static inline bool fmt_is_single(uint64_t item)
{
	return !(item & ITEM_CONTIGUOUS);
}

static inline unsigned fmt_leaf_size(uint64_t item, unsigned level)
{
	unsigned size = FMT_GRANULE_LG2 + FMT_TABLE_LG2 * level;

	return iof_likely(fmt_is_single(item)) ? size : size + arm_contig_lg2(level);
}

static inline uint64_t fmt_leaf_address(uint64_t item, unsigned level, unsigned size_lg2)
{
	(void)level;
	return arm_address(item) & ~iof_low_mask(size_lg2);
}

/* DBM is in all writable leaves of a table or in none: a branch on it costs nothing. */
static inline bool fmt_dirty(uint64_t item)
{
	return ARM_STAGE == 1 && iof_unlikely(item & ITEM_DBM) && !(item & ITEM_RDONLY);
}

static inline bool fmt_can_be_dirty(uint64_t item)
{
	return fmt_present(item) && (item & ITEM_DBM);
}

/* Clean but writable on demand is writable. */
static inline unsigned fmt_leaf_prot(uint64_t item)
{
	if (ARM_STAGE == 2)
		return item >> ITEM_HAP_SHIFT & (IOF_PROT_READ | IOF_PROT_WRITE);
	if (iof_unlikely(item & ITEM_DBM))
		return IOF_PROT_READ | IOF_PROT_WRITE;
	return (IOF_PROT_READ | IOF_PROT_WRITE) ^ (IOF_PROT_WRITE & item >> 6); /* AP[2] */
}

/* RES0 bits between the attributes and the address are not looked at, as the architecture has it. */
static inline bool fmt_is_sane(uint64_t item, unsigned level, unsigned oa_lg2)
{
	if (arm_address(item) & ~iof_low_mask(oa_lg2))
		return false;
	return (item & ITEM_TYPE) == 3 || (level && arm_has_block(level, oa_lg2));
}

#include "pagetable/walker.h"
