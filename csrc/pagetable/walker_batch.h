/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation of many IOVAs: a pipeline of three steps, so that there are always cache misses under way, nearly all of
 * which are in the two lowest levels.
 *
 * IOVAs go in groups. While one group's answers are read, the lowest slots of the next group are asked for, and the
 * second-lowest of the one after: one of each in turn, because that keeps the memory evenly busy. The upper levels are
 * walked once for all IOVAs of a third-lowest table, or of a second-lowest when a group has only one.
 *
 * Where pages are mapped at a regular distance, all lowest slots of a group may lie in one set of the first cache, which
 * has room for a dozen lines, arriving ones included. Such a group is asked for in the second cache, and its lines go
 * to the first shortly before they are read.
 */

#define GROUP 64
#define SHORTLY 8 /* IOVAs */
#define SET_BITS UINT64_C(0xfc0) /* of an offset: which set of the first cache, on nearly all machines */

/* The third-lowest table of the IOVAs that have these upper bits. */
struct way {
	uint64_t key;
	const uint64_t *table; /* NULL: nothing is known */
};

#define WAYS 4u

/* What all of a batch have in common. */
struct batch {
	uint64_t root;
	uint64_t last;
	uint64_t middle;
	struct way ways[WAYS];
};

struct group {
	const uint64_t *iovas;
	size_t n;
	const uint64_t *near; /* the second-lowest table that all are in, or NULL */
	bool crowded;
	const uint64_t *slots[GROUP]; /* second-lowest, then lowest; NULL: a hole or a large leaf came first */
};

static inline bool is_outside(const struct batch *b, uint64_t iova)
{
	return fold_by(b->middle, iova) > b->last || beyond_top(iova, iofi_root_level(b->root));
}

static __attribute__((noinline)) const uint64_t *find_way(struct batch *b, uint64_t iova, struct way *way)
{
	struct place p = descend(b->root, iova, 2);

	if (!p.slot || p.level != 2)
		return NULL;
	*way = (struct way){ iova >> item_lg2(3), p.slot - item_index(iova, 2) };
	return way->table;
}

/* Where the second-lowest item of `iova` is, or NULL. */
static ALWAYS_INLINE const uint64_t *second_slot(struct batch *b, uint64_t iova)
{
	uint64_t key = item_lg2(3) < 64 ? iova >> item_lg2(3) : 0, item;
	struct way *way = &b->ways[key % WAYS];
	const uint64_t *table = way->table;

	if (iof_unlikely(is_outside(b, iova)))
		return NULL;
	if (iof_unlikely(!table || way->key != key))
		table = find_way(b, iova, way);
	if (iof_unlikely(!table))
		return NULL;
	item = iofi_entry_load(&table[item_index(iova, 2)]);
	return iof_likely(fmt_is_table(item, 2)) ? slot_below(item, iova, 1) : NULL;
}

/* The second-lowest table that decodes `iova`, or NULL. */
static const uint64_t *second_table(const struct batch *b, uint64_t iova)
{
	const uint64_t *slot = is_outside(b, iova) ? NULL : descend(b->root, iova, 1).slot;

	return slot ? slot - item_index(iova, 1) : NULL;
}

/* The group of the next IOVAs, of which there are n. How many it takes. */
static size_t begin_group(const struct batch *b, struct group *g, const uint64_t *iovas, size_t n)
{
	uint64_t differ = 0;

	g->iovas = iovas;
	g->n = n = n < GROUP ? n : GROUP;
	g->near = NULL;
	for (size_t i = 1; i < n; i++)
		differ |= iovas[i] ^ iovas[0];
	if (n && !(differ >> item_lg2(2)))
		g->near = second_table(b, iovas[0]);
	g->crowded = n == GROUP && !g->near && !(slot_offset(differ, 0) & SET_BITS);
	return n;
}

/* ---- the three steps, each for one IOVA of a group ---- */

static ALWAYS_INLINE void ask_second(struct batch *b, struct group *g, size_t i)
{
	uint64_t iova = g->iovas[i];

	g->slots[i] = g->near ? g->near + item_index(iova, 1) : second_slot(b, iova);
	__builtin_prefetch(g->slots[i]);
}

static ALWAYS_INLINE void ask_lowest(struct group *g, size_t i, bool crowded)
{
	uint64_t item = iof_likely(g->slots[i] != NULL) ? iofi_entry_load(g->slots[i]) : 0;

	g->slots[i] = iof_likely(fmt_is_table(item, 1)) ? slot_below(item, g->iovas[i], 0) : NULL;
	if (crowded)
		__builtin_prefetch(g->slots[i], 0, 2);
	else
		__builtin_prefetch(g->slots[i]);
}

static __attribute__((noinline)) uint64_t translate_alone(const struct batch *b, uint64_t iova, unsigned *prot)
{
	return translate_from(b->root, b->last, b->middle, iova, prot);
}

/* From the lowest slot, or by a walk of its own. Returns 1 when there is something. */
static ALWAYS_INLINE size_t answer(const struct batch *b, const struct group *g, size_t i, uint64_t *addresses,
				   uint8_t *prots)
{
	uint64_t item = iof_likely(g->slots[i] != NULL) ? iofi_entry_load(g->slots[i]) : 0;
	unsigned prot;

	addresses[i] = iof_likely(fmt_present(item)) ? translate_item(g->iovas[i], item, 0, &prot) :
						       translate_alone(b, g->iovas[i], &prot);
	if (prots)
		prots[i] = prot;
	return prot != 0;
}

/* ---- the pipeline ---- */

/* All steps of three whole groups, the oldest first. `crowded`, a constant: one of the older two is. */
static ALWAYS_INLINE size_t turn_whole(struct batch *b, struct group *const g[3], uint64_t *addresses, uint8_t *prots,
				       const bool crowded)
{
	struct group *oldest = g[0], *middle = g[1], *newest = g[2];
	size_t found = 0;

	for (size_t i = 0; i < GROUP; i++) {
		ask_second(b, newest, i);
		ask_lowest(middle, i, crowded && middle->crowded);
		if (crowded && oldest->crowded)
			__builtin_prefetch(i + SHORTLY < GROUP ? oldest->slots[i + SHORTLY] :
								 middle->slots[i + SHORTLY - GROUP]);
		found += answer(b, oldest, i, addresses, prots);
	}
	return found;
}

/* The same of groups that may be shorter, or empty. */
static size_t turn_part(struct batch *b, struct group *const g[3], uint64_t *addresses, uint8_t *prots)
{
	size_t found = 0;

	for (size_t i = 0; i < g[2]->n; i++)
		ask_second(b, g[2], i);
	for (size_t i = 0; i < g[1]->n; i++)
		ask_lowest(g[1], i, g[1]->crowded);
	for (size_t i = 0; i < g[0]->n; i++)
		found += answer(b, g[0], i, addresses, prots);
	return found;
}

static size_t pt_translate_many(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
				uint8_t *prots)
{
	struct batch b = { .root = root_load(pt), .last = pt->last, .middle = pt->middle };
	struct group groups[3], *g[3] = { &groups[0], &groups[1], &groups[2] };
	size_t found = 0, begun = 0;

	g[0]->n = g[1]->n = 0;
	for (unsigned turn = 0; turn < 2 || g[0]->n; turn++) {
		struct group *done = g[0];

		begun += begin_group(&b, g[2], iovas + begun, n - begun);
		if (!g[0]->n || g[2]->n < GROUP)
			found += turn_part(&b, g, addresses, prots);
		else if (g[0]->crowded || g[1]->crowded)
			found += turn_whole(&b, g, addresses, prots, true);
		else
			found += turn_whole(&b, g, addresses, prots, false);
		addresses += done->n;
		prots = prots ? prots + done->n : NULL;
		g[0] = g[1], g[1] = g[2], g[2] = done;
	}
	return found;
}
