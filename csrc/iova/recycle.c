/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recycle: windows of equal slots. recycle.h says what for.
 *
 * A window is found from an address by a hash table of window numbers (address / 2 MiB), half empty at most, linear probing.
 * Each class has a list of its windows that have a free slot; the head is where the next take goes, and a window that was full joins
 * at the head, so that what was freed last is used next.
 *
 * Invariants
 *  - A window is in the table exactly once, and in its class's list exactly while it has a free slot and is not retired.
 *  - A retired window has a taken slot; it goes back to the space with the last of them.
 *  - Bit k of `words` is set when free[k] has a set bit; bits past the window's slots are never set.
 *  - A window's area in the space carries the window's address as its value; a direct area carries the recycle's.
 */
#include "iova/recycle.h"

#include <string.h>

#include "util/slab.h"

#define SHIFT IOF_RECYCLE_WINDOW_SHIFT
#define WINDOW (UINT64_C(1) << SHIFT)
#define WORDS 8u
#define MAX_SLOTS (WORDS * 64u)

struct window {
	uint64_t start;
	struct window *prev, *next; /* among those of the class with a free slot */
	uint32_t words;
	uint32_t free_slots;
	uint8_t shift; /* log2 of the slot's size */
	bool retired;
	_Alignas(IOF_CACHELINE) uint64_t free[WORDS];
};

struct iof_recycle {
	struct iof_alloc *alloc;
	struct iof_space *space;
	uint64_t granule;
	uint64_t taken; /* slots and direct areas that are out */
	uint64_t direct;
	uint32_t low_shift; /* of the smallest class */
	struct window **table;
	uint32_t table_shift; /* 64 - log2(size of the table) */
	uint64_t windows;
	struct iof_slab slab;
	struct window *open[SHIFT + 1]; /* by shift: windows with a free slot */
};

static uint64_t table_size(const struct iof_recycle *r)
{
	return UINT64_C(1) << (64 - r->table_shift);
}

static uint64_t home(const struct iof_recycle *r, uint64_t start)
{
	return (start >> SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> r->table_shift;
}

static struct window *window_of(const struct iof_recycle *r, uint64_t at)
{
	uint64_t mask = table_size(r) - 1, start = iof_align_down(at, WINDOW), i = home(r, at);
	struct window *w;

	while ((w = r->table[i]) && w->start != start)
		i = (i + 1) & mask;
	return w;
}

static void table_put(struct iof_recycle *r, struct window *w)
{
	uint64_t mask = table_size(r) - 1, i = home(r, w->start);

	while (r->table[i])
		i = (i + 1) & mask;
	r->table[i] = w;
}

/* Takes a window out and closes the gap, so that no probe ends too early. */
static void table_take(struct iof_recycle *r, const struct window *w)
{
	uint64_t mask = table_size(r) - 1, i = home(r, w->start), k;

	while (r->table[i] != w)
		i = (i + 1) & mask;
	for (k = (i + 1) & mask; r->table[k]; k = (k + 1) & mask)
		if (((k - home(r, r->table[k]->start)) & mask) >= ((k - i) & mask)) {
			r->table[i] = r->table[k];
			i = k;
		}
	r->table[i] = NULL;
}

static int table_make(struct iof_recycle *r, uint32_t shift)
{
	uint64_t old_size = r->table ? table_size(r) : 0, size = UINT64_C(1) << (64 - shift);
	struct window **old = r->table, **more = iof_mem_zget(r->alloc, size * sizeof(*more), IOF_CACHELINE);

	if (!more)
		return -ENOMEM;
	r->table = more;
	r->table_shift = shift;
	for (uint64_t i = 0; i < old_size; i++)
		if (old[i])
			table_put(r, old[i]);
	iof_mem_put(r->alloc, old, old_size * sizeof(*old));
	return 0;
}

int iof_recycle_create(struct iof_alloc *a, struct iof_space *s, uint64_t granule, struct iof_recycle **out)
{
	struct iof_recycle *r;

	if (!iof_is_pow2(granule))
		return -EINVAL;
	r = iof_mem_zget(a, sizeof(*r), IOF_CACHELINE);
	if (!r)
		return -ENOMEM;
	r->alloc = a;
	r->space = s;
	r->granule = granule;
	/* A window has at most MAX_SLOTS slots: below that the smallest class is larger than the granule. */
	r->low_shift = iof_log2(granule > WINDOW / MAX_SLOTS ? granule : WINDOW / MAX_SLOTS);
	iof_slab_init(&r->slab, a, sizeof(struct window), 16 * 1024);
	if (table_make(r, 64 - 6)) {
		iof_mem_put(a, r, sizeof(*r));
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

static void open_link(struct iof_recycle *r, struct window *w)
{
	struct window **head = &r->open[w->shift];

	w->prev = NULL;
	w->next = *head;
	if (w->next)
		w->next->prev = w;
	*head = w;
}

static void open_unlink(struct iof_recycle *r, struct window *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		r->open[w->shift] = w->next;
	if (w->next)
		w->next->prev = w->prev;
}

static uint32_t slots_of(const struct window *w)
{
	return 1u << (SHIFT - w->shift);
}

/* A window that nothing is taken from, and that is in no list, goes back to the space. */
static void window_close(struct iof_recycle *r, struct window *w)
{
	table_take(r, w);
	iof_space_remove(r->space, w->start);
	iof_slab_put(&r->slab, w);
	r->windows--;
}

static void window_init(struct window *w, uint64_t start, unsigned shift)
{
	uint32_t slots;

	w->start = start;
	w->shift = (uint8_t)shift;
	w->retired = false;
	w->free_slots = slots = slots_of(w);
	for (unsigned i = 0; i < WORDS; i++)
		w->free[i] = iof_low_mask(slots > i * 64 ? slots - i * 64 : 0);
	w->words = (uint32_t)iof_low_mask((slots + 63) / 64);
}

/* Places and inserts an area of recycle's own. */
static int area_take(struct iof_recycle *r, uint64_t length, uint64_t value, uint64_t *iova)
{
	int rc = iof_space_place(r->space, 0, length, 1, iova);

	if (rc)
		return rc;
	return iof_space_insert(r->space, (struct iof_range){ *iova, *iova + (length - 1) }, value);
}

/* The same; if the space is full, idle windows go back to it first. */
static int area_take_hard(struct iof_recycle *r, uint64_t length, uint64_t value, uint64_t *iova)
{
	int rc = area_take(r, length, value, iova);

	if (rc != -ENOSPC)
		return rc;
	iof_recycle_trim(r);
	return area_take(r, length, value, iova);
}

static int window_open(struct iof_recycle *r, unsigned shift)
{
	struct window *w;
	uint64_t start;
	int rc = 0;

	if (r->windows * 2 >= table_size(r))
		rc = table_make(r, r->table_shift - 1);
	if (rc)
		return rc;
	w = iof_slab_get(&r->slab);
	if (!w)
		return -ENOMEM;
	rc = area_take_hard(r, WINDOW, (uint64_t)(uintptr_t)w, &start);
	if (rc) {
		iof_slab_put(&r->slab, w);
		return rc;
	}
	window_init(w, start, shift);
	table_put(r, w);
	open_link(r, w);
	r->windows++;
	return 0;
}

static unsigned class_of(const struct iof_recycle *r, uint64_t length)
{
	unsigned shift = length > 1 ? 64 - (unsigned)__builtin_clzll(length - 1) : 0;

	return shift > r->low_shift ? shift : r->low_shift;
}

uint64_t iof_recycle_size(const struct iof_recycle *r, uint64_t length)
{
	uint64_t size;

	if (length <= WINDOW && class_of(r, length) <= SHIFT)
		return UINT64_C(1) << class_of(r, length);
	return iof_align_up(length, r->granule, &size) ? size : 0;
}

static int take_direct(struct iof_recycle *r, uint64_t length, uint64_t *iova)
{
	uint64_t size = iof_recycle_size(r, length);
	int rc = size ? area_take_hard(r, size, (uint64_t)(uintptr_t)r, iova) : -EOVERFLOW;

	if (rc)
		return rc;
	r->direct++;
	r->taken++;
	return 0;
}

static uint64_t slot_take(struct iof_recycle *r, struct window *w)
{
	unsigned word = iof_ctz(w->words), bit = iof_ctz(w->free[word]);

	w->free[word] &= w->free[word] - 1;
	w->free_slots--;
	r->taken++;
	if (iof_unlikely(!w->free[word])) {
		w->words &= w->words - 1;
		if (!w->words)
			open_unlink(r, w);
	}
	return w->start + ((uint64_t)(word * 64 + bit) << w->shift);
}

static int take_slow(struct iof_recycle *r, uint64_t length, unsigned shift, uint64_t *iova)
{
	int rc;

	if (!length)
		return -EINVAL;
	rc = shift <= SHIFT ? window_open(r, shift) : -ENOSPC;
	if (rc == -ENOSPC)
		return take_direct(r, length, iova);
	if (!rc)
		*iova = slot_take(r, r->open[shift]);
	return rc;
}

int iof_recycle_take(struct iof_recycle *r, uint64_t length, uint64_t *iova)
{
	unsigned shift = class_of(r, length);
	struct window *w;

	if (iof_unlikely(shift > SHIFT || !length || !(w = r->open[shift])))
		return take_slow(r, length, shift, iova);
	*iova = slot_take(r, w);
	return 0;
}

/* The area of a direct take that starts at iova. */
static bool is_direct(const struct iof_recycle *r, uint64_t at, struct iof_index_entry *e)
{
	return iof_space_find(r->space, at, e) && e->value == (uint64_t)(uintptr_t)r;
}

static int give_direct(struct iof_recycle *r, uint64_t iova, uint64_t length)
{
	struct iof_index_entry e;

	if (!length)
		return -EINVAL;
	if (!is_direct(r, iova, &e) || e.range.start != iova ||
	    iof_range_length(e.range) != iof_recycle_size(r, length))
		return -ENOENT;
	iof_space_remove(r->space, iova);
	r->direct--;
	r->taken--;
	return 0;
}

int iof_recycle_give(struct iof_recycle *r, uint64_t iova, uint64_t length)
{
	struct window *w = window_of(r, iova);
	uint64_t offset, bit;
	unsigned slot;

	if (iof_unlikely(!w || !length))
		return give_direct(r, iova, length);
	offset = iova - w->start;
	if (iof_unlikely(class_of(r, length) != w->shift || offset & iof_low_mask(w->shift)))
		return -ENOENT;
	slot = (unsigned)(offset >> w->shift);
	bit = UINT64_C(1) << slot % 64;
	if (iof_unlikely(w->free[slot / 64] & bit))
		return -EINVAL;
	if (iof_unlikely(!w->words && !w->retired))
		open_link(r, w);
	w->free[slot / 64] |= bit;
	w->words |= 1u << slot / 64;
	w->free_slots++;
	r->taken--;
	if (iof_unlikely(w->retired && w->free_slots == slots_of(w)))
		window_close(r, w);
	return 0;
}

static struct iof_range slot_range(const struct window *w, unsigned slot)
{
	uint64_t start = w->start + ((uint64_t)slot << w->shift);

	return (struct iof_range){ start, start + iof_low_mask(w->shift) };
}

static bool slot_is_free(const struct window *w, unsigned slot)
{
	return w->free[slot / 64] >> slot % 64 & 1;
}

bool iof_recycle_find(const struct iof_recycle *r, uint64_t at, struct iof_range *out)
{
	const struct window *w = window_of(r, at);
	struct iof_index_entry e;
	unsigned slot;

	if (!w) {
		if (!iof_space_find(r->space, at, &e))
			return false;
		*out = e.range;
		return true;
	}
	slot = (unsigned)((at - w->start) >> w->shift);
	*out = slot_range(w, slot);
	return !slot_is_free(w, slot);
}

unsigned iof_recycle_slot_shift(const struct iof_recycle *r, uint64_t at)
{
	const struct window *w = window_of(r, at);

	return w ? w->shift : 0;
}

bool iof_recycle_is_ready(const struct iof_recycle *r, uint64_t length)
{
	unsigned shift = class_of(r, length);

	return shift <= SHIFT && r->open[shift];
}

/* The first slot at or after `at` that is taken. */
static bool window_first(const struct window *w, uint64_t at, struct iof_range *out)
{
	unsigned slot = at > w->start ? (unsigned)((at - w->start) >> w->shift) : 0;

	while (slot < slots_of(w) && slot_is_free(w, slot))
		slot++;
	*out = slot_range(w, slot);
	return slot < slots_of(w);
}

bool iof_recycle_first(const struct iof_recycle *r, struct iof_range in, struct iof_range *out)
{
	const struct window *w;
	struct iof_index_entry e;

	while (iof_space_first(r->space, in, &e)) {
		w = window_of(r, e.range.start);
		if (!w || w->start != e.range.start) {
			*out = e.range;
			return true;
		}
		if (window_first(w, in.start, out))
			return out->start <= in.last;
		if (e.range.last >= in.last)
			return false;
		in.start = e.range.last + 1;
	}
	return false;
}

uint64_t iof_recycle_taken(const struct iof_recycle *r)
{
	return r->taken;
}

uint64_t iof_recycle_live(const struct iof_recycle *r)
{
	return iof_space_areas(r->space) - r->windows - r->direct + r->taken;
}

void iof_recycle_trim(struct iof_recycle *r)
{
	for (unsigned shift = 0; shift <= SHIFT; shift++)
		for (struct window *w = r->open[shift], *next; w; w = next) {
			next = w->next;
			if (w->free_slots == slots_of(w)) {
				open_unlink(r, w);
				window_close(r, w);
			}
		}
}

void iof_recycle_retire(struct iof_recycle *r)
{
	iof_recycle_trim(r);
	memset(r->open, 0, sizeof(r->open));
	for (uint64_t i = 0; i < table_size(r); i++)
		if (r->table[i])
			r->table[i]->retired = true;
}

/* Takes the areas with the recycle's own value out of the space. */
static void remove_direct(struct iof_recycle *r)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry e;

	while (r->direct && iof_space_first(r->space, rest, &e)) {
		if (e.value == (uint64_t)(uintptr_t)r) {
			iof_space_remove(r->space, e.range.start);
			r->direct--;
		}
		if (e.range.last == UINT64_MAX)
			return;
		rest.start = e.range.last + 1;
	}
}

void iof_recycle_destroy(struct iof_recycle *r)
{
	if (!r)
		return;
	remove_direct(r);
	for (uint64_t i = 0; i < table_size(r); i++)
		if (r->table[i])
			iof_space_remove(r->space, r->table[i]->start);
	iof_slab_fini(&r->slab);
	iof_mem_put(r->alloc, r->table, table_size(r) * sizeof(*r->table));
	iof_mem_put(r->alloc, r, sizeof(*r));
}

static bool window_valid(const struct iof_recycle *r, const struct window *w)
{
	uint32_t n = 0, words = 0, slots = slots_of(w);
	struct iof_index_entry e;
	bool listed = false;

	if (w->shift < r->low_shift || w->shift > SHIFT || window_of(r, w->start) != w)
		return false;
	for (unsigned i = 0; i < WORDS; i++) {
		if (w->free[i] & ~iof_low_mask(slots > i * 64 ? slots - i * 64 : 0))
			return false;
		n += (uint32_t)__builtin_popcountll(w->free[i]);
		words |= w->free[i] ? 1u << i : 0;
	}
	for (const struct window *o = r->open[w->shift]; o && !listed; o = o->next)
		listed = o == w;
	return n == w->free_slots && words == w->words && listed == (n && !w->retired) && (!w->retired || n < slots) &&
	       iof_space_find(r->space, w->start, &e) && e.range.start == w->start &&
	       iof_range_span(e.range) == WINDOW - 1 && e.value == (uint64_t)(uintptr_t)w;
}

bool iof_recycle_is_valid(const struct iof_recycle *r)
{
	uint64_t windows = 0, taken = r->direct;

	for (uint64_t i = 0; i < table_size(r); i++) {
		const struct window *w = r->table[i];

		if (!w)
			continue;
		if (!window_valid(r, w))
			return false;
		windows++;
		taken += slots_of(w) - w->free_slots;
	}
	return windows == r->windows && windows * 2 <= table_size(r) && taken == r->taken && r->slab.live == windows;
}
