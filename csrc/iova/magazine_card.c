/* SPDX-License-Identifier: Apache-2.0 */
/* Cards: what is out of each window (magazine_priv.h). */
#include "iova/magazine_priv.h"

static uint64_t size_of(const struct iofi_table *t)
{
	return UINT64_C(1) << (64 - t->shift);
}

static size_t bytes_of(const struct iofi_table *t)
{
	return sizeof(*t) + size_of(t) * sizeof(t->card[0]);
}

static void put(struct iofi_table *t, struct iofi_card *card)
{
	uint64_t i = (card->window >> IOF_RECYCLE_WINDOW_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> t->shift;

	while (atomic_load_explicit(&t->card[i], memory_order_relaxed))
		i = (i + 1) & (size_of(t) - 1);
	atomic_store_explicit(&t->card[i], card, memory_order_release);
}

int iofi_table_make(struct iof_magazines *m, uint32_t shift)
{
	struct iofi_table *old = atomic_load_explicit(&m->table, memory_order_relaxed);
	struct iofi_table *t = iof_mem_zget(m->alloc, sizeof(*t) + (sizeof(t->card[0]) << (64 - shift)), IOF_CACHELINE);
	struct iofi_card *card;

	if (!t)
		return -ENOMEM;
	t->older = old;
	t->shift = shift;
	for (uint64_t i = 0; old && i < size_of(old); i++) {
		card = atomic_load_explicit(&old->card[i], memory_order_relaxed);
		if (card)
			put(t, card);
	}
	atomic_store_explicit(&m->table, t, memory_order_release);
	return 0;
}

struct iofi_card *iofi_card_get(struct iof_magazines *m, uint64_t at)
{
	struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);
	struct iofi_card *card = iofi_card_of(m, at);

	if (card)
		return card;
	if (m->cards * 2 >= size_of(t) && iofi_table_make(m, t->shift - 1))
		return NULL;
	card = iof_slab_get(&m->slab);
	if (!card)
		return NULL;
	card->window = iof_align_down(at, UINT64_C(1) << IOF_RECYCLE_WINDOW_SHIFT);
	atomic_init(&card->closed, true);
	for (unsigned i = 0; i < IOFI_WINDOW_SLOTS; i++)
		atomic_init(&card->out[i], 0);
	put(atomic_load_explicit(&m->table, memory_order_relaxed), card);
	m->cards++;
	return card;
}

void iofi_cards_close(struct iof_magazines *m)
{
	struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);
	struct iofi_card *card;

	for (uint64_t i = 0; i < size_of(t); i++) {
		card = atomic_load_explicit(&t->card[i], memory_order_relaxed);
		if (card)
			atomic_store_explicit(&card->closed, true, memory_order_relaxed);
	}
}

void iofi_cards_fini(struct iof_magazines *m)
{
	struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_relaxed), *older;

	for (; t; t = older) {
		older = t->older;
		iof_mem_put(m->alloc, t, bytes_of(t));
	}
	iof_slab_fini(&m->slab);
}

/* Slot k of the card's window: is it taken from recycle? *start: where it is. False, too, when there is no window, or no such slot. */
static bool slot_taken(const struct iof_magazines *m, const struct iofi_card *card, unsigned k, unsigned *shift, uint64_t *start)
{
	struct iof_range r;

	*shift = iof_recycle_slot_shift(m->recycle, card->window);
	if (!*shift || k >> (IOF_RECYCLE_WINDOW_SHIFT - *shift))
		return false;
	*start = card->window + ((uint64_t)k << *shift);
	return iof_recycle_find(m->recycle, *start, &r);
}

static void reclaim(struct iof_magazines *m, struct iofi_card *card)
{
	uint64_t start;
	unsigned shift;

	for (unsigned k = 0; k < IOFI_WINDOW_SLOTS; k++)
		if (slot_taken(m, card, k, &shift, &start) && !atomic_load_explicit(&card->out[k], memory_order_relaxed))
			iof_recycle_give(m->recycle, start, UINT64_C(1) << shift);
}

void iofi_cards_reclaim(struct iof_magazines *m)
{
	struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);
	struct iofi_card *card;

	for (uint64_t i = 0; i < size_of(t); i++) {
		card = atomic_load_explicit(&t->card[i], memory_order_relaxed);
		if (card)
			reclaim(m, card);
	}
}

static bool card_valid(const struct iof_magazines *m, const struct iofi_card *card, uint64_t *out, uint64_t *idle)
{
	uint64_t start;
	unsigned shift;

	for (unsigned k = 0; k < IOFI_WINDOW_SLOTS; k++) {
		uint8_t byte = atomic_load_explicit(&card->out[k], memory_order_relaxed);
		bool taken = slot_taken(m, card, k, &shift, &start);

		if (byte && (!taken || byte != shift))
			return false;
		*out += byte != 0;
		*idle += taken && !byte;
	}
	return iofi_card_of(m, card->window) == card;
}

bool iofi_cards_valid(const struct iof_magazines *m, uint64_t *out, uint64_t *idle)
{
	const struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);
	const struct iofi_card *card;
	uint64_t cards = 0;

	for (uint64_t i = 0; i < size_of(t); i++) {
		card = atomic_load_explicit(&t->card[i], memory_order_relaxed);
		if (card && !card_valid(m, card, out, idle))
			return false;
		cards += card != NULL;
	}
	return cards == m->cards && cards * 2 <= size_of(t) && m->slab.live == cards;
}
