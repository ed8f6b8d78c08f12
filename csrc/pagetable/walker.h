/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker: looking things up. Included once by each format file (internal.h lists what that file defines first);
 * map, unmap, dirty bits and checks are in walker_*.h, included below; the way down itself is in walker_descend.h.
 *
 * A walk starts at the root word (table and level in one), and goes down while entries are tables. The level falls with
 * each step, so a walk ends whatever the entries say. Nothing is locked: entries are read with acquire, and a table
 * that was unlinked while we are in it stays readable until the caller's read section ends.
 */
#include <errno.h>
#include <string.h>

#include "pagetable/internal.h"
#include "pagetable/fmt_defaults.h"

#define GRANULE (UINT64_C(1) << FMT_GRANULE_LG2)
#define TABLE_ITEMS (1u << FMT_TABLE_LG2)
#define TABLE_BYTES (8u << FMT_TABLE_LG2)

static inline unsigned item_lg2(unsigned level)
{
	return FMT_GRANULE_LG2 + FMT_TABLE_LG2 * level;
}

static inline unsigned item_index(uint64_t iova, unsigned level)
{
	return (iova >> item_lg2(level)) & (TABLE_ITEMS - 1);
}

static inline uint64_t item_mask(unsigned level)
{
	return iof_low_mask(item_lg2(level));
}

static inline uint64_t *table_of(uint64_t item)
{
	return (uint64_t *)(uintptr_t)FMT_OWN_TABLE(item);
}

static inline uint64_t root_load(const struct iof_pt *pt)
{
	return __atomic_load_n(&pt->root, __ATOMIC_ACQUIRE);
}

/* Slots of the top table: fewer than a full table's when the VA ends inside it, more when several lie side by side. */
static inline size_t top_items(const struct iof_pt *pt, unsigned level)
{
	uint64_t last = pt->last >> item_lg2(level);

	return FMT_GROWS && last >= TABLE_ITEMS ? TABLE_ITEMS : last + 1;
}

/* The IOVA lies beyond what the top decodes now. Only a top that grows is ever smaller than the IOVAs. */
static inline bool beyond_top(uint64_t iova, unsigned level)
{
	return FMT_GROWS && iova >> item_lg2(level) >= TABLE_ITEMS;
}

/* The table at the root that decodes the IOVA: there may be several side by side. */
static inline uint64_t *top_table(uint64_t root, uint64_t iova)
{
	unsigned skipped = FMT_CONCAT ? iova >> item_lg2(iofi_root_level(root) + 1) : 0;

	return iofi_root_table(root) + ((size_t)skipped << FMT_TABLE_LG2);
}

/*
 * Sign-extended tables: IOVAs below the middle keep their value, those that end at 2^64 move down to follow them, and
 * the others stay beyond the last. In other tables nothing moves. All but the entry points works on folded IOVAs.
 */
static inline uint64_t fold_by(uint64_t middle, uint64_t iova)
{
	return FMT_SIGNED ? (iova + middle) ^ middle : iova;
}

static inline uint64_t fold(const struct iof_pt *pt, uint64_t iova)
{
	return fold_by(pt->middle, iova);
}

static inline uint64_t unfold(uint64_t middle, uint64_t iova)
{
	return FMT_SIGNED ? (iova ^ middle) - middle : iova;
}

/* Folds a range; false when it is not all inside the table, in one half. *out has the right span then, too. */
static inline bool fold_range(const struct iof_pt *pt, struct iof_range r, struct iof_range *out)
{
	uint64_t start = fold(pt, r.start), last = fold(pt, r.last);

	*out = (struct iof_range){ start, start + (r.last - r.start) };
	return start <= pt->last && last <= pt->last && last == out->last;
}

/* One past the slot of `last` when both lie in one table of this level, else the table's end. */
static inline unsigned end_index(uint64_t at, uint64_t last, unsigned level)
{
	unsigned shift = item_lg2(level);

	if ((last >> shift) - (at >> shift) < TABLE_ITEMS - item_index(at, level))
		return item_index(last, level) + 1;
	return TABLE_ITEMS;
}

#include "pagetable/walker_descend.h"

static inline void leaf_describe(uint64_t iova, uint64_t item, unsigned level, unsigned size, struct iof_pt_leaf *leaf)
{
	leaf->iova = iova & ~iof_low_mask(size);
	leaf->address = fmt_leaf_address(item, level, size);
	leaf->size_lg2 = size;
	leaf->prot = fmt_leaf_prot(item);
	leaf->level = level;
	leaf->dirty = fmt_dirty(item);
	leaf->item = item;
}

static inline void leaf_decode(uint64_t iova, uint64_t item, unsigned level, struct iof_pt_leaf *leaf)
{
	leaf_describe(iova, item, level, fmt_leaf_size(item, level), leaf);
}

#include "pagetable/walker_contig.h"

/* A leaf that is not one lowest item: large, or of several items. */
static __attribute__((noinline)) int walk_large(const struct iof_pt *pt, uint64_t iova, uint64_t item, unsigned level,
						struct iof_pt_leaf *leaf)
{
	leaf_decode(iova, item, level, leaf);
	if (FMT_CONTIG && FMT_TRACKS_DIRTY && !fmt_is_single(item))
		return walk_contig(pt, iova, leaf);
	return 0;
}

static int pt_walk(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf)
{
	unsigned level;
	uint64_t item = lookup_from(root_load(pt), pt->last, pt->middle, iova, &level);

	if (iof_unlikely(!item))
		return fold(pt, iova) > pt->last ? -ERANGE : -ENOENT;
	if (iof_unlikely(level || !fmt_is_single(item)))
		return walk_large(pt, iova, item, level, leaf);
	leaf_describe(iova, item, 0, FMT_GRANULE_LG2, leaf);
	return 0;
}

#include "pagetable/walker_translate.h"
#include "pagetable/walker_batch.h"
#include "pagetable/walker_iterate.h"
#include "pagetable/walker_unmap.h"
#include "pagetable/walker_map.h"
#include "pagetable/walker_dirty.h"
#include "pagetable/walker_check.h"
#include "pagetable/walker_foreign.h"
#include "pagetable/walker_reshape.h"
#include "pagetable/walker_image.h"

const struct iofi_pt_ops FMT_OPS = {
	.limits = &FMT_LIMITS,
	.attrs = fmt_attrs,
	.map = pt_map, .map_sizes = pt_map_sizes,
	.unmap = pt_unmap,
	.walk = pt_walk,
	.translate = pt_translate,
	.translate_many = pt_translate_many,
	.next_leaf = pt_next_leaf,
	.set_dirty = pt_set_dirty,
	.read_dirty = pt_read_dirty,
	.trim = pt_trim,
	.stats = pt_stats,
	.is_valid = pt_is_valid,
	.visit = pt_visit,
	.walk_foreign = pt_walk_foreign,
	.next_foreign = pt_next_foreign,
	.decode_foreign = pt_decode_foreign,
	.cut = pt_cut,
	.merge = pt_merge,
	.protect = pt_protect,
	.image = pt_image,
};
