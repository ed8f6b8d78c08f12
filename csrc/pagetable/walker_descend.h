/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going down, unrolled: the one path that every lookup of a single IOVA takes.
 *
 * Each level is written out, so that its shift is a constant and a walk that reaches the lowest tables knows the size
 * of what it finds there. IOVAs are taken as they come, folded or not: the two differ in bits that no slot is made of.
 */

#define ALWAYS_INLINE inline __attribute__((always_inline))

static inline uint64_t slot_offset(uint64_t iova, unsigned level)
{
	unsigned shift = item_lg2(level) - 3;

	return shift < 64 ? iova >> shift & (TABLE_BYTES - 8) : 0; /* no such level where it is not */
}

static inline uint64_t *slot_below(uint64_t item, uint64_t iova, unsigned level)
{
	return (uint64_t *)(void *)((char *)table_of(item) + slot_offset(iova, level));
}

/* The slot in the top, which may be several tables side by side. It is there when the IOVA is not beyond the top. */
static inline uint64_t *top_slot(uint64_t root, uint64_t iova)
{
	uint64_t slot = iova >> item_lg2(iofi_root_level(root));

	return iofi_root_table(root) + (FMT_SIGNED ? slot & (TABLE_ITEMS - 1) : slot);
}

/* Where a walk has come to: the level, what it has read there and, when it was to stop unread, the slot. */
struct place {
	unsigned level;
	uint64_t item;
	uint64_t *slot;
};

static inline struct place place_at_top(uint64_t root, uint64_t iova)
{
	return (struct place){ .level = iofi_root_level(root), .slot = top_slot(root, iova) };
}

/* From level l, which has been read, to the next. A slot's address is made where it is used: it becomes the load's own. */
#define DESCEND(l)                                                                                                     \
	if (stop != STOP_NEVER && stop >= (l))                                                                         \
		return place_at_top(root, iova);                                                                       \
	if (iof_unlikely(!fmt_is_table(p.item, l))) {                                                                  \
		p.level = l;                                                                                           \
		return p;                                                                                              \
	}                                                                                                              \
	if (stop == (l) - 1) {                                                                                         \
		p.level = stop;                                                                                        \
		p.slot = slot_below(p.item, iova, (l) - 1);                                                            \
		return p;                                                                                              \
	}                                                                                                              \
	p.item = iofi_entry_load(slot_below(p.item, iova, (l) - 1));

#define STOP_NEVER UINT32_MAX

/*
 * Goes down from the top, by at most five levels: no format has more. Ends where an item is no table, or at level `stop`,
 * a constant, without reading it; at the top when that is lower.
 */
static ALWAYS_INLINE struct place descend(uint64_t root, uint64_t iova, const unsigned stop)
{
	struct place p = { .item = iofi_entry_load(top_slot(root, iova)) };

	switch (iofi_root_level(root)) {
	case 5:
		DESCEND(5)
		/* fall through */
	case 4:
		DESCEND(4)
		/* fall through */
	case 3:
		DESCEND(3)
		/* fall through */
	case 2:
		DESCEND(2)
		/* fall through */
	case 1:
		DESCEND(1)
		/* fall through */
	default:
		return stop == STOP_NEVER ? p : place_at_top(root, iova);
	}
}

/* The lowest slot of `iova`, which is within the last, or NULL when some table on the way is missing. */
static ALWAYS_INLINE uint64_t *warm_slot(const struct iof_pt *pt, uint64_t iova)
{
	uint64_t root = root_load(pt);

	return iof_unlikely(beyond_top(iova, iofi_root_level(root))) ? NULL : descend(root, iova, 0).slot;
}

/* The item below a root that decides `iova`, and its level; 0 when there is none. `middle` is 0 for a folded IOVA. */
static ALWAYS_INLINE uint64_t lookup_from(uint64_t root, uint64_t last, uint64_t middle, uint64_t iova,
					  unsigned *level)
{
	struct place p;

	if (iof_unlikely(fold_by(middle, iova) > last || beyond_top(iova, iofi_root_level(root))))
		return 0;
	p = descend(root, iova, STOP_NEVER);
	*level = p.level;
	return fmt_present(p.item) ? p.item : 0;
}

/* `iova` is folded. */
static uint64_t lookup(const struct iof_pt *pt, uint64_t iova, unsigned *level)
{
	return lookup_from(root_load(pt), pt->last, 0, iova, level);
}
