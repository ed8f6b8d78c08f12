/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation: the walk without the leaf's description, one IOVA at a time or many.
 *
 * Many go in groups, each in three passes: down to the second-lowest tables, to the lowest, then the items there. The
 * cache misses of a group overlap, and nearly all of them are in the two lowest levels. The last pass comes after the
 * next group's first two, so that there are always misses under way. A group within one second-lowest table shares the
 * way to it.
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

#define GROUP 32

/* What all of a batch have in common. */
struct batch {
	uint64_t root;
	uint64_t last;
	uint64_t middle;
};

/* Where the second-lowest item of `iova` is, asked for but not yet read; NULL when a hole or a large leaf comes first. */
static inline const uint64_t *second_slot(const struct batch *b, uint64_t iova)
{
	unsigned top = iofi_root_level(b->root);
	uint64_t *slot;

	if (iof_unlikely(fold_by(b->middle, iova) > b->last || beyond_top(iova, top)))
		return NULL;
	slot = descend(b->root, iova, 1).slot;
	if (iof_unlikely(!slot))
		return NULL;
	__builtin_prefetch(slot);
	return slot;
}

/* And from there the lowest. */
static inline const uint64_t *lowest_slot(const uint64_t *second, uint64_t iova)
{
	uint64_t item = second ? iofi_entry_load(second) : 0;
	const uint64_t *slot;

	if (iof_unlikely(!fmt_is_table(item, 1)))
		return NULL;
	slot = slot_below(item, iova, 0);
	__builtin_prefetch(slot);
	return slot;
}

static __attribute__((noinline)) uint64_t translate_alone(const struct batch *b, uint64_t iova, unsigned *prot)
{
	return translate_from(b->root, b->last, b->middle, iova, prot);
}

/* One of a group: from its lowest slot, or by a walk of its own. */
static inline uint64_t translate_slot(const struct batch *b, uint64_t iova, const uint64_t *slot, unsigned *prot)
{
	uint64_t item = slot ? iofi_entry_load(slot) : 0;

	if (iof_unlikely(!fmt_present(item)))
		return translate_alone(b, iova, prot);
	return translate_item(iova, item, 0, prot);
}

/* All of a group are in one second-lowest table. */
static bool is_near(const uint64_t *iovas, size_t n)
{
	uint64_t differ = 0;

	for (size_t i = 1; i < n; i++)
		differ |= iovas[i] ^ iovas[0];
	return !(differ >> item_lg2(2));
}

static void ask_near(const struct batch *b, const uint64_t *iovas, size_t n, const uint64_t **slots)
{
	const uint64_t *first = second_slot(b, iovas[0]), *table = first ? first - item_index(iovas[0], 1) : NULL;

	for (size_t i = 0; i < n; i++) {
		slots[i] = table ? table + item_index(iovas[i], 1) : NULL;
		__builtin_prefetch(slots[i]);
	}
}

/* The first two passes. */
static void ask_group(const struct batch *b, const uint64_t *iovas, size_t n, const uint64_t **slots)
{
	if (n && is_near(iovas, n))
		ask_near(b, iovas, n, slots);
	else
		for (size_t i = 0; i < n; i++)
			slots[i] = second_slot(b, iovas[i]);
	for (size_t i = 0; i < n; i++)
		slots[i] = lowest_slot(slots[i], iovas[i]);
}

/* The last pass. */
static size_t finish_group(const struct batch *b, const uint64_t *iovas, size_t n, const uint64_t *const *slots,
			   uint64_t *addresses, uint8_t *prots)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned prot;

		addresses[i] = translate_slot(b, iovas[i], slots[i], &prot);
		if (prots)
			prots[i] = prot;
		found += prot != 0;
	}
	return found;
}

static size_t pt_translate_many(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
				uint8_t *prots)
{
	const struct batch b = { root_load(pt), pt->last, pt->middle };
	const uint64_t *slots[2][GROUP];
	size_t found = 0, asked = n < GROUP ? n : GROUP;

	ask_group(&b, iovas, asked, slots[0]);
	for (unsigned turn = 0; n; turn ^= 1) {
		size_t now = asked;

		n -= now;
		asked = n < GROUP ? n : GROUP;
		ask_group(&b, iovas + now, asked, slots[!turn]);
		found += finish_group(&b, iovas, now, slots[turn], addresses, prots);
		iovas += now;
		addresses += now;
		prots = prots ? prots + now : NULL;
	}
	return found;
}
