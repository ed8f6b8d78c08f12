/* SPDX-License-Identifier: Apache-2.0 */
/* For fmt_arm.h: sizes of leaves, levels, concatenated roots (behaviour.md R10.8.2-4). */

/* The contiguous hint: how many items make one leaf. None at the architecture's level 0, nor 1 with large granules. */
static inline unsigned arm_contig_lg2(unsigned level)
{
	if (level > ARM_LEVEL(FMT_GRANULE_LG2 == 12 ? 1 : 2))
		return 0;
	return FMT_GRANULE_LG2 == 12 ? 4 : FMT_GRANULE_LG2 == 16 ? 5 : level ? 5 : 7;
}

/* Blocks: 2 MiB and 1 GiB; 32 MiB; 512 MiB, and 4 TiB with addresses of more than 48 bits. */
static inline bool arm_has_block(unsigned level, unsigned oa_lg2)
{
	return level <= ARM_LEVEL(FMT_GRANULE_LG2 == 12 || (FMT_GRANULE_LG2 == 16 && oa_lg2 > 48) ? 1 : 2);
}

static uint64_t arm_leaf_sizes(const struct iof_pt_config *c, unsigned level)
{
	uint64_t size = UINT64_C(1) << (FMT_GRANULE_LG2 + FMT_TABLE_LG2 * level);

	if (!arm_has_block(level, c->oa_lg2))
		return 0;
	return size | (c->features & IOF_PT_CONTIGUOUS ? size << arm_contig_lg2(level) : 0);
}

static bool arm_concatenates(const struct iof_pt_config *c, unsigned top_level)
{
	bool zero = top_level == ARM_LEVEL(0), one = top_level == ARM_LEVEL(1);

	if (ARM_STAGE != 2)
		return false;
	if (FMT_GRANULE_LG2 == 12)
		return zero && (c->oa_lg2 == 40 || c->oa_lg2 == 42);
	return FMT_GRANULE_LG2 == 14 && ((zero && (c->oa_lg2 == 48 || c->va_lg2 == 48)) || (one && c->oa_lg2 == 40));
}

#define W(n) (UINT64_C(1) << (n))

static const struct iofi_pt_limits FMT_LIMITS = {
	.granule_lg2 = FMT_GRANULE_LG2,
	.table_lg2 = FMT_TABLE_LG2,
	.top_extra_lg2 = ARM_STAGE == 2 ? 4 : 0,
	.level_min = 0,
	.level_max = ARM_LEVEL(FMT_GRANULE_LG2 == 16 ? 1 : 0),
	.va_max_lg2 = FMT_GRANULE_LG2 == 16 ? 52 : 48,
	.oa_max_lg2 = FMT_GRANULE_LG2 == 16 ? 52 : 48,
	.level_from_va = true,
	.table_sized_leaf = true,
	.oa_widths = W(32) | W(36) | W(40) | W(42) | W(44) | W(48) | W(52),
	.features = IOF_PT_CONTIGUOUS | (ARM_STAGE == 1 ? IOF_PT_HW_DIRTY : IOF_PT_FORCE_WRITE_BACK),
	.leaf_sizes = arm_leaf_sizes,
	.concatenates = arm_concatenates,
};

