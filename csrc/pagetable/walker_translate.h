/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation: the walk without the leaf's description, one IOVA at a time. Many at once are in walker_batch.h.
 */

/* From an item that was found, or 0. */
static ALWAYS_INLINE uint64_t translate_item(uint64_t iova, uint64_t item, unsigned level, unsigned *prot)
{
	unsigned size;

	if (iof_unlikely(!item)) {
		*prot = 0;
		return UINT64_MAX;
	}
	*prot = fmt_leaf_prot(item);
	if (iof_likely(!level && fmt_is_single(item)))
		return fmt_leaf_address(item, 0, FMT_GRANULE_LG2) | (iova & (GRANULE - 1));
	size = fmt_leaf_size(item, level);
	return fmt_leaf_address(item, level, size) | (iova & iof_low_mask(size));
}

static ALWAYS_INLINE uint64_t translate_from(uint64_t root, uint64_t last, uint64_t middle, uint64_t iova,
					     unsigned *prot)
{
	unsigned level;
	uint64_t item = lookup_from(root, last, middle, iova, &level);

	return translate_item(iova, item, level, prot);
}

static uint64_t pt_translate(const struct iof_pt *pt, uint64_t iova, unsigned *prot)
{
	unsigned ignored;

	return translate_from(root_load(pt), pt->last, pt->middle, iova, prot ? prot : &ignored);
}
