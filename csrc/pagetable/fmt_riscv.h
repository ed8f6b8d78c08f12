/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RISC-V page tables (Privileged specification, "Sv39", "Sv48", "Sv57", "Svnapot", "Svpbmt", and for the second stage
 * "Two-Stage Address Translation"). Included by fmt_riscv.c and fmt_riscv_x4.c, which define FMT_OPS and FMT_LIMITS.
 *
 * An entry with R, W and X clear is a table, at every level above the lowest; leaves are possible at every level. A
 * 64 KiB leaf of Svnapot is sixteen items, all alike: N is set and the lowest four bits of the page number are 1000.
 * Accessed and dirty are set from the start, so that no IOMMU has to write the table.
 */
#include "pagetable/internal.h"

#define ITEM_V (UINT64_C(1) << 0)
#define ITEM_R (UINT64_C(1) << 1)
#define ITEM_W (UINT64_C(1) << 2)
#define ITEM_X (UINT64_C(1) << 3)
#define ITEM_U (UINT64_C(1) << 4)
#define ITEM_A (UINT64_C(1) << 6)
#define ITEM_D (UINT64_C(1) << 7)
#define ITEM_PPN (UINT64_C(0xfffffffffff) << 10)
#define ITEM_RESERVED (UINT64_C(0x7f) << 54)
#define ITEM_PBMT_NC (UINT64_C(1) << 61)
#define ITEM_PBMT_IO (UINT64_C(2) << 61)
#define ITEM_PBMT (UINT64_C(3) << 61)
#define ITEM_N (UINT64_C(1) << 63)
#define NAPOT_LG2 16
#define NAPOT_ONES (UINT64_C(0xf) << 10)
#define NAPOT_64K (UINT64_C(8) << 10)

#define FMT_GRANULE_LG2 12
#define FMT_CONTIG 1
#define FMT_DIRTY ITEM_D
#define FMT_OWN_TABLE(item) ((item) * 4 - ITEM_V * 4) /* nothing but V is set; a product becomes part of a load's address, a shift does not */
#define FMT_TRACKS_DIRTY 0

#define RISCV_FEATURES (IOF_PT_NAPOT | IOF_PT_PBMT)

static uint64_t riscv_leaf_sizes(const struct iof_pt_config *c, unsigned level)
{
	uint64_t napot = !level && (c->features & IOF_PT_NAPOT) ? UINT64_C(1) << NAPOT_LG2 : 0;

	return napot | UINT64_C(1) << (FMT_GRANULE_LG2 + 9 * level);
}

static inline bool fmt_present(uint64_t item)
{
	return item & ITEM_V;
}

static inline bool fmt_is_table(uint64_t item, unsigned level)
{
	(void)level;
	return (item & (ITEM_V | ITEM_R | ITEM_W | ITEM_X)) == ITEM_V;
}

/* The page number stands ten bits up, two bits lower than the address. */
static inline uint64_t fmt_table_address(uint64_t item)
{
	return (item & ITEM_PPN) << 2;
}

static inline uint64_t fmt_table_item(uint64_t address, unsigned level)
{
	(void)level;
	return address >> 2 | ITEM_V;
}

static inline uint64_t fmt_attrs(const struct iof_pt *pt, unsigned prot)
{
	uint64_t attrs = ITEM_V | ITEM_A | ITEM_U;

	attrs |= prot & IOF_PROT_WRITE ? ITEM_R | ITEM_W | ITEM_D : ITEM_R;
	if (!(prot & IOF_PROT_NOEXEC))
		attrs |= ITEM_X;
	if (pt->cfg.features & IOF_PT_PBMT)
		attrs |= prot & IOF_PROT_MMIO ? ITEM_PBMT_IO : prot & IOF_PROT_CACHE ? 0 : ITEM_PBMT_NC;
	return attrs;
}

static inline uint64_t fmt_leaf_item(uint64_t address, unsigned size_lg2, unsigned level, uint64_t attrs)
{
	(void)level;
	return address >> 2 | attrs | (size_lg2 == NAPOT_LG2 ? ITEM_N | NAPOT_64K : 0);
}

static inline bool fmt_is_single(uint64_t item)
{
	return !(item & ITEM_N);
}

static inline unsigned fmt_leaf_size(uint64_t item, unsigned level)
{
	return iof_likely(fmt_is_single(item)) ? FMT_GRANULE_LG2 + 9 * level : NAPOT_LG2;
}

static inline uint64_t fmt_leaf_address(uint64_t item, unsigned level, unsigned size_lg2)
{
	(void)level;
	return (item & ITEM_PPN) << 2 & ~iof_low_mask(size_lg2);
}

static inline unsigned fmt_leaf_prot(uint64_t item)
{
	return item >> 1 & (IOF_PROT_READ | IOF_PROT_WRITE);
}

/*
 * Reserved: bits 60:54; writable but not readable; a fourth memory type; N but in a lowest item that says 64 KiB; in a
 * table entry A, D, U, N and the memory type; page number bits below a large leaf's size.
 */
static inline bool fmt_is_sane(uint64_t item, unsigned level, unsigned oa_lg2)
{
	uint64_t address = (item & ITEM_PPN) << 2;

	if ((item & ITEM_RESERVED) || (address & ~iof_low_mask(oa_lg2)) || (item & ITEM_PBMT) == ITEM_PBMT)
		return false;
	if (fmt_is_table(item, level))
		return level && !(item & (ITEM_A | ITEM_D | ITEM_U | ITEM_N | ITEM_PBMT));
	if ((item & (ITEM_R | ITEM_W)) == ITEM_W)
		return false;
	if (item & ITEM_N)
		return !level && (item & NAPOT_ONES) == NAPOT_64K;
	return !(address & iof_low_mask(FMT_GRANULE_LG2 + 9 * level));
}
