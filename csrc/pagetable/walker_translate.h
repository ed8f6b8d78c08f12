/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation: the walk without the leaf's description, one IOVA at a time or many.
 *
 * Many go in groups, each in three passes: down to the second-lowest tables, to the lowest, then the items there. The
 * cache misses of a group overlap, and nearly all of them are in the two lowest levels.
 */

static inline uint64_t translate_from(uint64_t root, uint64_t last, uint64_t iova, unsigned *prot)
{
	unsigned level, size;
	uint64_t item = lookup_from(root, last, iova, &level);

	if (iof_unlikely(!item)) {
		*prot = 0;
		return UINT64_MAX;
	}
	size = fmt_leaf_size(item, level);
	*prot = fmt_leaf_prot(item);
	return fmt_leaf_address(item, level, size) | (iova & iof_low_mask(size));
}

static uint64_t pt_translate(const struct iof_pt *pt, uint64_t iova, unsigned *prot)
{
	unsigned ignored;

	return translate_from(root_load(pt), pt->last, fold(pt, iova), prot ? prot : &ignored);
}

#define GROUP 32

/* Where the second-lowest item of `iova` is, asked for but not yet read; NULL when a hole or a large leaf comes first. */
static inline const uint64_t *second_slot(uint64_t root, uint64_t last, uint64_t iova)
{
	const uint64_t *table = iofi_root_table(root);
	unsigned l = iofi_root_level(root), shift = item_lg2(l);
	uint64_t slot = iova >> shift;

	if (iof_unlikely(!l || iova > last || (FMT_GROWS && slot >= TABLE_ITEMS)))
		return NULL;
	for (; l > 1; l--) {
		uint64_t item = iofi_entry_load(&table[slot]);

		if (iof_unlikely(!fmt_is_table(item, l)))
			return NULL;
		table = table_of(item);
		shift -= FMT_TABLE_LG2;
		slot = (iova >> shift) & (TABLE_ITEMS - 1);
	}
	__builtin_prefetch(&table[slot]);
	return &table[slot];
}

/* And from there the lowest. */
static inline const uint64_t *lowest_slot(const uint64_t *second, uint64_t iova)
{
	uint64_t item = second ? iofi_entry_load(second) : 0;
	const uint64_t *slot;

	if (iof_unlikely(!fmt_is_table(item, 1)))
		return NULL;
	slot = &table_of(item)[item_index(iova, 0)];
	__builtin_prefetch(slot);
	return slot;
}

/* One of a group: from its lowest slot, or by a walk of its own. */
static inline uint64_t translate_slot(uint64_t root, uint64_t last, uint64_t iova, const uint64_t *slot, unsigned *prot)
{
	uint64_t item = slot ? iofi_entry_load(slot) : 0;
	unsigned size;

	if (iof_unlikely(!fmt_present(item)))
		return translate_from(root, last, iova, prot);
	*prot = fmt_leaf_prot(item);
	if (iof_likely(fmt_is_single(item)))
		return fmt_leaf_address(item, 0, FMT_GRANULE_LG2) | (iova & (GRANULE - 1));
	size = fmt_leaf_size(item, 0);
	return fmt_leaf_address(item, 0, size) | (iova & iof_low_mask(size));
}

static size_t translate_group(uint64_t root, uint64_t last, uint64_t middle, const uint64_t *iovas, size_t n,
			      uint64_t *addresses, uint8_t *prots)
{
	const uint64_t *slots[GROUP];
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		slots[i] = second_slot(root, last, fold_by(middle, iovas[i]));
	for (size_t i = 0; i < n; i++)
		slots[i] = lowest_slot(slots[i], fold_by(middle, iovas[i]));
	for (size_t i = 0; i < n; i++) {
		unsigned prot;

		addresses[i] = translate_slot(root, last, fold_by(middle, iovas[i]), slots[i], &prot);
		if (prots)
			prots[i] = prot;
		found += prot != 0;
	}
	return found;
}

static size_t pt_translate_many(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
				uint8_t *prots)
{
	uint64_t root = root_load(pt), last = pt->last, middle = pt->middle;
	size_t found = 0;

	for (size_t i = 0; i < n; i += GROUP)
		found += translate_group(root, last, middle, iovas + i, n - i < GROUP ? n - i : GROUP, addresses + i,
					 prots ? prots + i : NULL);
	return found;
}
