/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the page table object and the one table of functions that each format fills.
 *
 * A format is one small file: limits and inline accessors named fmt_*, then `#include "pagetable/walker.h"`, which
 * defines the ops below as static functions compiled against them. The indirect call in pagetable.c is the only one.
 *
 * What a format file defines before the include:
 *   FMT_OPS, FMT_LIMITS   the name of its ops and its struct iofi_pt_limits
 *   FMT_GRANULE_LG2       log2 of what a level-0 item translates
 *   FMT_DIRTY             the dirty bit
 *   fmt_present(item)                   anything but empty
 *   fmt_is_table(item, level)           present and a table, at level >= 1
 *   fmt_table_address(item), fmt_table_item(address, level)
 *   fmt_attrs(pt, prot)                 the leaf bits of a permission; 0: cannot be expressed
 *   fmt_leaf_item(address, size_lg2, level, attrs)
 *   fmt_leaf_size(item, level), fmt_leaf_address(item, level, size_lg2), fmt_leaf_prot(item)
 *   fmt_is_sane(item, level, oa_lg2)    a present item that hardware would accept
 *
 * And what it may define; fmt_defaults.h has the rest, 0 unless said otherwise:
 *   FMT_TABLE_LG2         log2 of the items of a table; 9
 *   FMT_CONTIG            several items can make one leaf
 *                         and then fmt_is_single(item): this leaf is one item
 *   FMT_CONTIG_COUNTS     those items hold successive addresses, else they are alike
 *   FMT_PRESENT_FOLD      an item is present with bit 0 or bit 1, else with bit 0
 *   FMT_OWN_TABLE(item)   what is quicker than fmt_table_address() for items that we wrote
 *   FMT_TABLE_PROT(item)  what a table's item grants to all below it; read and write
 *   FMT_GROWS             the top may grow
 *   FMT_CONCAT            the root may be several tables side by side
 *   FMT_SIGNED            IOVAs may be sign-extended
 *   FMT_ADDRESS_SPLIT     address bits from this one up are elsewhere in an item: leaves in a row stop there
 *   FMT_BLOCKS            ARM's family: other errnos, unmap by blocks, large leaves free live tables (walker_blocks.h)
 *   FMT_TRACKS_DIRTY      dirty bits can be marked, read and cleared; 1
 *   FMT_DIRTY_IS_SET      0: dirty is something else than FMT_DIRTY set; then fmt_dirty(item) and
 *                         fmt_can_be_dirty(item) say what, and changing FMT_DIRTY goes from one state to the other
 */
#ifndef IOF_PAGETABLE_INTERNAL_H
#define IOF_PAGETABLE_INTERNAL_H

#include "pagetable/entries.h"
#include "pagetable/foreign.h"
#include "pagetable/pagetable.h"
#include "pagetable/tables.h"

#define IOFI_PROTS 32 /* combinations of enum iof_prot */

struct iof_pt {
	/*
	 * Address of the top table | its level, in one word so that growing publishes both at once. Only the level ever
	 * grows.
	 */
	uint64_t root;
	uint64_t last; /* the highest IOVA */
	uint64_t page_sizes;
	uint64_t middle; /* of a sign-extended table: half of the IOVA space, else 0 */
	uint64_t leaf_bits; /* the format's constant bits of a leaf, from the features */
	uint64_t address_max; /* the highest output address */
	/* of single lowest leaves: bits that no IOVA (folded) and no address of one has, and what permissions become */
	uint64_t iova_not;
	uint64_t address_not;
	uint64_t attrs[IOFI_PROTS]; /* 0: not that way */
	uint8_t vectors; /* enum iof_vectors, of this machine */
	uint8_t kind; /* which table of functions; see pagetable.c */
	uint32_t top_bytes; /* of a top table larger than the others, which is not from the pool; else 0 */
	struct iof_pt_config cfg; /* with defaults filled in; constant */
	_Alignas(IOF_CACHELINE) struct iofi_tables tables;
};

struct iofi_pt_limits {
	uint8_t granule_lg2;
	uint8_t table_lg2; /* log2 of the items of a table */
	uint8_t top_extra_lg2; /* log2 of how many tables the root may be, side by side */
	uint8_t level_min; /* of a top table */
	uint8_t level_max;
	uint8_t va_max_lg2;
	uint8_t oa_max_lg2;
	/* the top level follows from the VA width, and an impossible one is -EOPNOTSUPP, not -EINVAL */
	bool level_from_va;
	bool table_sized_leaf; /* a leaf may be half of all IOVAs and more */
	uint32_t features; /* known ones */
	uint64_t va_widths; /* a mask of the only ones; 0: any */
	uint64_t oa_widths;
	uint64_t (*leaf_bits)(uint32_t features); /* NULL: none */
	uint64_t (*leaf_sizes)(const struct iof_pt_config *c, unsigned level);
	bool (*concatenates)(const struct iof_pt_config *c, unsigned top_level); /* must have its root one level down */
};

struct iofi_foreign {
	uint64_t root;
	unsigned top_level;
	uint64_t last;
	uint64_t middle;
	unsigned oa_lg2;
	struct iof_pt_memory memory;
};

typedef void (*iofi_dirty_fn)(void *ctx, uint64_t start, uint64_t length);
typedef void (*iofi_visit_fn)(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n);

struct iofi_pt_ops {
	const struct iofi_pt_limits *limits;
	uint64_t (*attrs)(const struct iof_pt *pt, unsigned prot);
	int (*map)(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
		   struct iof_pt_gather *g);
	int (*map_sizes)(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
			 uint64_t sizes, struct iof_pt_gather *g);
	uint64_t (*unmap)(struct iof_pt *pt, uint64_t iova, uint64_t length, struct iof_pt_gather *g);
	int (*walk)(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf);
	uint64_t (*translate)(const struct iof_pt *pt, uint64_t iova, unsigned *prot);
	size_t (*translate_many)(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
				 uint8_t *prots);
	int (*next_leaf)(const struct iof_pt *pt, struct iof_range within, struct iof_pt_leaf *leaf);
	int (*set_dirty)(struct iof_pt *pt, uint64_t iova);
	int (*read_dirty)(struct iof_pt *pt, struct iof_range r, bool clear, bool exact, iofi_dirty_fn fn, void *ctx);
	void (*trim)(struct iof_pt *pt, struct iof_pt_gather *g);
	void (*stats)(const struct iof_pt *pt, struct iof_pt_stats *out);
	bool (*is_valid)(const struct iof_pt *pt);
	void (*visit)(const struct iof_pt *pt, iofi_visit_fn fn, void *ctx);
	int (*walk_foreign)(const struct iofi_foreign *f, uint64_t iova, struct iof_pt_leaf *leaf,
			    struct iof_pt_fault *fault);
	int (*next_foreign)(const struct iofi_foreign *f, struct iof_range within, struct iof_pt_leaf *leaf,
			    struct iof_pt_fault *fault);
	int (*decode_foreign)(const struct iofi_foreign *f, uint64_t iova, uint64_t item, unsigned prot,
			      struct iof_pt_leaf *leaf);
	int (*cut)(struct iof_pt *pt, struct iof_range r, unsigned size_lg2);
	void (*merge)(struct iof_pt *pt, struct iof_pt_gather *g);
	int (*protect)(struct iof_pt *pt, struct iof_range r, unsigned prot);
	uint64_t (*image)(const struct iof_pt *pt, uint64_t base, uint64_t *out);
};

/* NULL: no such format, or granule. */
const struct iofi_pt_ops *iofi_pt_ops_of(const struct iof_pt_config *c);

extern const struct iofi_pt_ops iofi_pt_vtdss, iofi_pt_amdv1, iofi_pt_mock, iofi_pt_x86_64, iofi_pt_riscv64,
	iofi_pt_riscv64_x4, iofi_pt_arm_s1_4k, iofi_pt_arm_s1_16k, iofi_pt_arm_s1_64k, iofi_pt_arm_s2_4k,
	iofi_pt_arm_s2_16k, iofi_pt_arm_s2_64k;

#define IOFI_LEVEL_MASK UINT64_C(7)

static inline uint64_t *iofi_root_table(uint64_t root)
{
	return (uint64_t *)(uintptr_t)(root & ~IOFI_LEVEL_MASK);
}

static inline unsigned iofi_root_level(uint64_t root)
{
	return root & IOFI_LEVEL_MASK;
}

#endif
