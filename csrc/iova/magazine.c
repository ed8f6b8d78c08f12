/* SPDX-License-Identifier: Apache-2.0 */
/* Magazines: the short ways, and the same with the lock. magazine_priv.h says why the short ones need none. */
#include "iova/magazine_priv.h"

static uint64_t class_size(unsigned shift)
{
	return UINT64_C(1) << shift;
}

static bool is_class(uint64_t length, unsigned shift)
{
	return length && shift <= IOF_RECYCLE_WINDOW_SHIFT;
}

/* ---- the short ways ---- */

/* The calling thread's cache, and nobody else touches it until leave(). NULL: it has none, or is kept out. */
static inline struct iofi_cache *enter(struct iof_magazines *m)
{
	struct iofi_cache *c = &m->cache[iof_stripe()];

	if (iof_unlikely(atomic_load_explicit(&c->owner, memory_order_relaxed) != iof_lock_self_shared()))
		return NULL;
	if (iof_likely(m->fence)) {
		atomic_store_explicit(&c->busy, 1, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
	} else {
		atomic_exchange_explicit(&c->busy, 1, memory_order_seq_cst);
	}
	if (iof_likely(!atomic_load_explicit(&c->stop, memory_order_seq_cst)))
		return c;
	atomic_store_explicit(&c->busy, 0, memory_order_release);
	return NULL;
}

static inline void leave(struct iofi_cache *c)
{
	atomic_store_explicit(&c->busy, 0, memory_order_release);
}

/* The other magazine becomes the loaded one. */
static struct iofi_magazine *swap(struct iofi_cache *c, unsigned k)
{
	struct iofi_magazine *g = iofi_spare(c, k);

	iofi_load(c, k, g, iofi_loaded(c, k));
	return g;
}

static inline bool pop(struct iofi_cache *c, unsigned shift, uint64_t *iova)
{
	unsigned k = shift - IOFI_CLASS_LOW;
	struct iofi_magazine *g = iofi_loaded(c, k);
	uint32_t n = iofi_count(g);

	if (iof_unlikely(!n)) {
		if (!iofi_count(iofi_spare(c, k)))
			return false;
		g = swap(c, k);
		n = iofi_count(g);
	}
	atomic_store_explicit(&g->n, --n, memory_order_relaxed);
	atomic_store_explicit(g->slot[n].out, (uint8_t)shift, memory_order_relaxed);
	*iova = g->slot[n].iova;
	return true;
}

/* Whoever finds the byte set and clears it has the slot: of two who give it, one. False: no room, or it is not out. */
static inline bool push(struct iofi_cache *c, struct iofi_slot slot, unsigned shift)
{
	unsigned k = shift - IOFI_CLASS_LOW;
	struct iofi_magazine *g = iofi_loaded(c, k);
	uint32_t n = iofi_count(g);
	uint8_t own = (uint8_t)shift;

	if (iof_unlikely(n == g->room)) {
		if (iofi_count(iofi_spare(c, k)) == iofi_spare(c, k)->room)
			return false;
		g = swap(c, k);
		n = iofi_count(g);
	}
	if (iof_unlikely(!atomic_compare_exchange_strong_explicit(slot.out, &own, 0, memory_order_relaxed, memory_order_relaxed)))
		return false;
	g->slot[n] = slot;
	atomic_store_explicit(&g->n, n + 1, memory_order_relaxed);
	return true;
}

int iof_magazine_take(struct iof_magazines *m, uint64_t length, uint64_t *iova)
{
	unsigned shift = iofi_shift_of(m, length);
	struct iofi_cache *c;
	bool done;
	int rc;

	if (iof_likely(is_class(length, shift) && (c = enter(m)))) {
		done = pop(c, shift, iova);
		leave(c);
		if (iof_likely(done))
			return 0;
	}
	iof_lock_take(m->lock);
	rc = iof_magazines_take(m, length, iova);
	iof_lock_drop(m->lock);
	return rc;
}

int iof_magazine_give(struct iof_magazines *m, uint64_t iova, uint64_t length)
{
	unsigned shift = iofi_shift_of(m, length);
	struct iofi_card *card = is_class(length, shift) ? iofi_card_of(m, iova) : NULL;
	_Atomic uint8_t *out = card ? iofi_byte_of(card, iova, shift) : NULL;
	struct iofi_cache *c;
	bool done;
	int rc;

	if (iof_likely(out && (c = enter(m)))) {
		done = !atomic_load_explicit(&card->closed, memory_order_relaxed) &&
		       push(c, (struct iofi_slot){ iova, out }, shift);
		leave(c);
		if (iof_likely(done))
			return 0;
	}
	iof_lock_take(m->lock);
	rc = iof_magazines_give(m, iova, length);
	iof_lock_drop(m->lock);
	return rc;
}

/* ---- with the lock ---- */

/* Straight from recycle. What is no slot of a window's has no card, and is a direct one. */
static int take_straight(struct iof_magazines *m, uint64_t length, uint64_t *iova)
{
	struct iofi_card *card;
	unsigned shift;
	int rc = iof_recycle_take(m->recycle, length, iova);

	if (rc)
		return rc;
	shift = iof_recycle_slot_shift(m->recycle, *iova);
	if (!shift) {
		m->direct++;
		return 0;
	}
	card = iofi_card_get(m, *iova);
	if (!card) {
		iof_recycle_give(m->recycle, *iova, length);
		return -ENOMEM;
	}
	atomic_store_explicit(&card->closed, false, memory_order_relaxed);
	atomic_store_explicit(iofi_byte_of(card, *iova, shift), (uint8_t)shift, memory_order_relaxed);
	return 0;
}

static int take_once(struct iof_magazines *m, uint64_t length, uint64_t *iova)
{
	unsigned shift = iofi_shift_of(m, length);
	struct iofi_cache *c = is_class(length, shift) ? iofi_cache_own(m) : NULL;
	int rc = c ? iofi_refill(m, c, shift) : -EAGAIN;

	if (rc == -EAGAIN)
		return take_straight(m, length, iova);
	if (!rc)
		pop(c, shift, iova);
	return rc;
}

int iof_magazines_take(struct iof_magazines *m, uint64_t length, uint64_t *iova)
{
	int rc = take_once(m, length, iova);

	if (iof_likely(rc != -ENOSPC))
		return rc;
	iof_magazines_drain(m);
	return take_once(m, length, iova);
}

static int give_straight(struct iof_magazines *m, uint64_t iova, uint64_t length)
{
	int rc = iof_recycle_give(m->recycle, iova, length);

	m->direct -= !rc;
	return rc;
}

int iof_magazines_give(struct iof_magazines *m, uint64_t iova, uint64_t length)
{
	unsigned shift = iofi_shift_of(m, length), slot_shift = iof_recycle_slot_shift(m->recycle, iova);
	struct iofi_card *card;
	_Atomic uint8_t *out;
	struct iofi_cache *c;
	uint8_t own = (uint8_t)shift;

	if (!length || !slot_shift)
		return give_straight(m, iova, length);
	card = shift == slot_shift ? iofi_card_of(m, iova) : NULL;
	out = card ? iofi_byte_of(card, iova, shift) : NULL;
	if (!out)
		return shift == slot_shift && !(iova & (class_size(shift) - 1)) ? -EINVAL : -ENOENT;
	c = atomic_load_explicit(&card->closed, memory_order_relaxed) ? NULL : iofi_cache_own(m);
	if (c && iofi_make_room(m, c, shift))
		return push(c, (struct iofi_slot){ iova, out }, shift) ? 0 : -EINVAL;
	if (!atomic_compare_exchange_strong_explicit(out, &own, 0, memory_order_relaxed, memory_order_relaxed))
		return -EINVAL;
	return iof_recycle_give(m->recycle, iova, length);
}

/* Does this slot, or area, which is taken from recycle, lie in a magazine? */
static bool is_held(const struct iof_magazines *m, uint64_t start)
{
	unsigned shift = iof_recycle_slot_shift(m->recycle, start);
	struct iofi_card *card = shift ? iofi_card_of(m, start) : NULL;

	return shift && (!card || !atomic_load_explicit(iofi_byte_of(card, start, shift), memory_order_relaxed));
}

bool iof_magazines_find(const struct iof_magazines *m, uint64_t at, struct iof_range *out)
{
	return iof_recycle_find(m->recycle, at, out) && !is_held(m, out->start);
}

bool iof_magazines_first(const struct iof_magazines *m, struct iof_range in, struct iof_range *out)
{
	while (iof_recycle_first(m->recycle, in, out)) {
		if (!is_held(m, out->start))
			return true;
		if (out->last >= in.last)
			return false;
		in.start = out->last + 1;
	}
	return false;
}

uint64_t iof_magazines_held(const struct iof_magazines *m)
{
	uint64_t n = 0;

	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++) {
		for (unsigned i = 0; i < IOF_STRIPES; i++)
			n += iofi_count(iofi_loaded(&m->cache[i], k)) + iofi_count(iofi_spare(&m->cache[i], k));
		for (const struct iofi_magazine *g = m->full[k]; g; g = g->next)
			n += iofi_count(g);
	}
	return n;
}

void iof_magazines_trim(struct iof_magazines *m)
{
	iof_magazines_drain(m);
	iof_recycle_trim(m->recycle);
}

/* First the cards: what is given after the magazines were emptied does not go into one. */
void iof_magazines_retire(struct iof_magazines *m)
{
	iofi_cards_close(m);
	iof_magazines_drain(m);
	iof_recycle_retire(m->recycle);
}

/* ---- from first to last ---- */

int iof_magazines_create(struct iof_alloc *a, struct iof_recycle *r, struct iof_lock *lock, struct iof_magazines **out)
{
	struct iof_magazines *m = iof_mem_zget(a, sizeof(*m), IOF_CACHELINE);

	if (!m)
		return -ENOMEM;
	m->alloc = a;
	m->recycle = r;
	m->lock = lock;
	m->low_shift = iof_log2(iof_recycle_size(r, 1));
	m->fence = iof_threads_fence_prepare();
	iof_slab_init(&m->slab, a, sizeof(struct iofi_card), 32 * 1024);
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++)
			iofi_load(&m->cache[i], k, &m->none, &m->none);
	if (iofi_table_make(m, 64 - 6)) {
		iof_mem_put(a, m, sizeof(*m));
		return -ENOMEM;
	}
	*out = m;
	return 0;
}

void iof_magazines_destroy(struct iof_magazines *m)
{
	if (!m)
		return;
	iof_magazines_drain(m);
	iofi_depot_fini(m);
	iofi_cards_fini(m);
	iof_mem_put(m->alloc, m, sizeof(*m));
}

/* A thread that was in the midst of something has left a slot in two places or in none: what is taken, and not out, goes back, and nothing is in a magazine. */
void iof_magazines_forked(struct iof_magazines *m)
{
	m->fence = iof_threads_fence_prepare();
	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		atomic_store_explicit(&m->cache[i].owner, 0, memory_order_relaxed);
		atomic_store_explicit(&m->cache[i].busy, 0, memory_order_relaxed);
		atomic_store_explicit(&m->cache[i].stop, 0, memory_order_relaxed);
	}
	iofi_depot_forget(m);
	iofi_cards_reclaim(m);
}

bool iof_magazines_is_valid(const struct iof_magazines *m)
{
	uint64_t held = iof_magazines_held(m), idle = 0, out = 0;

	return iofi_cards_valid(m, &out, &idle) && iofi_depot_valid(m) && idle == held &&
	       iof_recycle_taken(m->recycle) == out + held + m->direct && iof_recycle_is_valid(m->recycle);
}
