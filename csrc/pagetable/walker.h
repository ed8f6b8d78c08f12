/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker: looking things up. Included once by each format file (internal.h lists what that file defines first);
 * map, unmap, dirty bits and checks are in walker_*.h, included below.
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

/* The lowest slot of `iova`, which is within the last, or NULL when some table on the way is missing. */
static inline uint64_t *warm_slot(const struct iof_pt *pt, uint64_t iova)
{
	uint64_t root = root_load(pt), slot;
	uint64_t *table = iofi_root_table(root);
	unsigned level = iofi_root_level(root), shift = item_lg2(level);

	slot = iova >> shift;
	if (FMT_GROWS && iof_unlikely(slot >= TABLE_ITEMS))
		return NULL;
	for (; level; level--) {
		uint64_t item = iofi_entry_load(&table[slot]);

		if (iof_unlikely(!fmt_is_table(item, level)))
			return NULL;
		table = table_of(item);
		shift -= FMT_TABLE_LG2;
		slot = (iova >> shift) & (TABLE_ITEMS - 1);
	}
	return &table[slot];
}

/* The item below a root that decides `iova`, and its level; 0 when there is none. */
static inline uint64_t lookup_from(uint64_t root, uint64_t last, uint64_t iova, unsigned *level)
{
	uint64_t item, slot;
	const uint64_t *table = iofi_root_table(root);
	unsigned l = iofi_root_level(root), shift = item_lg2(l);

	slot = iova >> shift;
	if (iof_unlikely(iova > last || (FMT_GROWS && slot >= TABLE_ITEMS)))
		return 0;
	for (;;) {
		item = iofi_entry_load(&table[slot]);
		if (!l || !fmt_is_table(item, l))
			break;
		table = table_of(item);
		l--;
		shift -= FMT_TABLE_LG2;
		slot = (iova >> shift) & (TABLE_ITEMS - 1);
	}
	*level = l;
	return fmt_present(item) ? item : 0;
}

static inline uint64_t lookup(const struct iof_pt *pt, uint64_t iova, unsigned *level)
{
	return lookup_from(root_load(pt), pt->last, iova, level);
}

static inline void leaf_decode(uint64_t iova, uint64_t item, unsigned level, struct iof_pt_leaf *leaf)
{
	unsigned size = fmt_leaf_size(item, level);

	leaf->iova = iova & ~iof_low_mask(size);
	leaf->address = fmt_leaf_address(item, level, size);
	leaf->size_lg2 = size;
	leaf->prot = fmt_leaf_prot(item);
	leaf->level = level;
	leaf->dirty = fmt_dirty(item);
	leaf->item = item;
}

#include "pagetable/walker_contig.h"

static int pt_walk(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf)
{
	unsigned level;
	uint64_t item;

	iova = fold(pt, iova);
	item = lookup(pt, iova, &level);
	if (iof_unlikely(!item))
		return iova > pt->last ? -ERANGE : -ENOENT;
	leaf_decode(iova, item, level, leaf);
	leaf->iova = unfold(pt->middle, leaf->iova);
	if (FMT_CONTIG && FMT_TRACKS_DIRTY && iof_unlikely(!fmt_is_single(item)))
		return walk_contig(pt, iova, leaf);
	return 0;
}

#include "pagetable/walker_translate.h"
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
