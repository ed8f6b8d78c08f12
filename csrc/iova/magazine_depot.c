/* SPDX-License-Identifier: Apache-2.0 */
/* Magazines between threads and recycle: whose they are, where full and empty ones go (magazine_priv.h). */
#include <sched.h>

#include "iova/magazine_priv.h"

#define STRANGERS 64u /* so many calls without a cache, and it is time to ask whether its owner still lives */

static void set_count(struct iofi_magazine *g, uint32_t n)
{
	atomic_store_explicit(&g->n, n, memory_order_relaxed);
}

static uint32_t room_for(unsigned shift)
{
	uint32_t n = 1u << (IOF_RECYCLE_WINDOW_SHIFT - shift);

	return n > IOF_MAGAZINE_MOST ? IOF_MAGAZINE_MOST : n < 4 ? 4 : n;
}

static size_t bytes_of(const struct iofi_magazine *g)
{
	return sizeof(*g) + g->room * sizeof(g->slot[0]);
}

struct iofi_cache *iofi_cache_own(struct iof_magazines *m)
{
	struct iofi_cache *c = &m->cache[iof_stripe()];
	uint32_t self = iof_lock_self_shared(), owner = atomic_load_explicit(&c->owner, memory_order_relaxed);

	if (owner == self)
		return c;
	if (owner && (++c->strangers < STRANGERS || iof_thread_lives(owner))) {
		c->strangers %= STRANGERS;
		return NULL;
	}
	c->strangers = 0;
	(void)atomic_load_explicit(&c->busy, memory_order_acquire); /* what the old owner did last has been done */
	atomic_store_explicit(&c->owner, self, memory_order_relaxed);
	return c;
}

/* ---- the depot ---- */

static struct iofi_magazine *take_first(struct iofi_magazine **list)
{
	struct iofi_magazine *g = *list;

	if (g)
		*list = g->next;
	return g;
}

static void put_first(struct iofi_magazine **list, struct iofi_magazine *g)
{
	g->next = *list;
	*list = g;
}

static struct iofi_magazine *empty_one(struct iof_magazines *m, unsigned shift)
{
	struct iofi_magazine *g = take_first(&m->empty[shift - IOFI_CLASS_LOW]);

	if (g)
		return g;
	g = iof_mem_get(m->alloc, sizeof(*g) + room_for(shift) * sizeof(g->slot[0]), IOF_CACHELINE);
	if (!g)
		return NULL;
	g->room = room_for(shift);
	atomic_init(&g->n, 0);
	return g;
}

/* All that is in it goes back to recycle. */
static void flush(struct iof_magazines *m, struct iofi_magazine *g, unsigned shift)
{
	uint32_t n = iofi_count(g);

	while (n)
		iof_recycle_give(m->recycle, g->slot[--n].iova, UINT64_C(1) << shift);
	if (g->room)
		set_count(g, 0);
}

/* A full one from the depot in place of the loaded one, which is empty. */
static bool fetch_full(struct iof_magazines *m, struct iofi_cache *c, unsigned k)
{
	struct iofi_magazine *g = take_first(&m->full[k]), *loaded = iofi_loaded(c, k);

	if (!g)
		return false;
	m->n_full[k]--;
	if (loaded != &m->none)
		put_first(&m->empty[k], loaded);
	iofi_load(c, k, g, iofi_spare(c, k));
	return true;
}

/* One more slot from recycle. 0, recycle's errno; -EAGAIN: it is none of a window's, or has no card for lack of memory. */
static int add_slot(struct iof_magazines *m, struct iofi_magazine *g, unsigned shift)
{
	uint64_t size = UINT64_C(1) << shift, iova;
	struct iofi_card *card;
	int rc = iof_recycle_take(m->recycle, size, &iova);
	uint32_t n = iofi_count(g);

	if (rc)
		return rc;
	card = iof_recycle_slot_shift(m->recycle, iova) ? iofi_card_get(m, iova) : NULL;
	if (!card) {
		iof_recycle_give(m->recycle, iova, size);
		return -EAGAIN;
	}
	atomic_store_explicit(&card->closed, false, memory_order_relaxed);
	g->slot[n] = (struct iofi_slot){ iova, iofi_byte_of(card, iova, shift) };
	set_count(g, n + 1);
	return 0;
}

/* What came first from recycle is what is taken first. */
static void reverse(struct iofi_magazine *g)
{
	struct iofi_slot t;

	for (uint32_t i = 0, j = iofi_count(g); i + 1 < j; i++) {
		t = g->slot[i];
		g->slot[i] = g->slot[--j];
		g->slot[j] = t;
	}
}

int iofi_refill(struct iof_magazines *m, struct iofi_cache *c, unsigned shift)
{
	unsigned k = shift - IOFI_CLASS_LOW;
	struct iofi_magazine *g = iofi_loaded(c, k);
	int rc = 0;

	if (iofi_count(g) || iofi_count(iofi_spare(c, k)) || fetch_full(m, c, k))
		return 0;
	if (g == &m->none) {
		g = empty_one(m, shift);
		if (!g)
			return -EAGAIN;
		iofi_load(c, k, g, iofi_spare(c, k));
	}
	do /* full, so that a line of a card is one thread's; but no window is opened for more than one slot */
		rc = add_slot(m, g, shift);
	while (!rc && iofi_count(g) < g->room && iof_recycle_is_ready(m->recycle, UINT64_C(1) << shift));
	reverse(g);
	return iofi_count(g) ? 0 : rc;
}

/* The spare one becomes empty: what is in it goes to the depot, or beyond. */
static bool empty_spare(struct iof_magazines *m, struct iofi_cache *c, unsigned shift)
{
	unsigned k = shift - IOFI_CLASS_LOW;
	struct iofi_magazine *spare = iofi_spare(c, k), *g;

	if (spare != &m->none && m->n_full[k] == IOF_MAGAZINE_DEPOT) {
		flush(m, spare, shift);
		return true;
	}
	g = empty_one(m, shift);
	if (!g && spare == &m->none)
		return false;
	if (!g) {
		flush(m, spare, shift);
		return true;
	}
	if (spare != &m->none) {
		put_first(&m->full[k], spare);
		m->n_full[k]++;
	}
	iofi_load(c, k, iofi_loaded(c, k), g);
	return true;
}

bool iofi_make_room(struct iof_magazines *m, struct iofi_cache *c, unsigned shift)
{
	unsigned k = shift - IOFI_CLASS_LOW;

	return iofi_count(iofi_loaded(c, k)) < iofi_loaded(c, k)->room || iofi_count(iofi_spare(c, k)) < iofi_spare(c, k)->room ||
	       empty_spare(m, c, shift);
}

/* ---- everything goes back ---- */

static void flush_cache(struct iof_magazines *m, struct iofi_cache *c)
{
	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++) {
		flush(m, iofi_loaded(c, k), k + IOFI_CLASS_LOW);
		flush(m, iofi_spare(c, k), k + IOFI_CLASS_LOW);
	}
}

/* Keeps the owners out. False: there is no way to tell that they are. */
static bool stop_all(struct iof_magazines *m)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		atomic_store_explicit(&m->cache[i].stop, 1, memory_order_seq_cst);
	if (m->fence && !iof_threads_fence())
		return false; /* the kernel does not do it any more */
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		while (atomic_load_explicit(&m->cache[i].busy, memory_order_seq_cst))
			sched_yield();
	return true;
}

void iof_magazines_drain(struct iof_magazines *m)
{
	bool all = stop_all(m);
	struct iofi_magazine *g;

	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		if (all)
			flush_cache(m, &m->cache[i]);
		atomic_store_explicit(&m->cache[i].stop, 0, memory_order_release);
	}
	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++)
		while ((g = take_first(&m->full[k]))) {
			flush(m, g, k + IOFI_CLASS_LOW);
			put_first(&m->empty[k], g);
			m->n_full[k]--;
		}
}

void iofi_depot_forget(struct iof_magazines *m)
{
	struct iofi_magazine *g;

	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++) {
		for (unsigned i = 0; i < IOF_STRIPES; i++) {
			set_count(iofi_loaded(&m->cache[i], k), 0);
			set_count(iofi_spare(&m->cache[i], k), 0);
		}
		while ((g = take_first(&m->full[k]))) {
			set_count(g, 0);
			put_first(&m->empty[k], g);
		}
		m->n_full[k] = 0;
	}
}

static void free_one(struct iof_magazines *m, struct iofi_magazine *g)
{
	if (g != &m->none)
		iof_mem_put(m->alloc, g, bytes_of(g));
}

void iofi_depot_fini(struct iof_magazines *m)
{
	struct iofi_magazine *g;

	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++) {
		for (unsigned i = 0; i < IOF_STRIPES; i++) {
			free_one(m, iofi_loaded(&m->cache[i], k));
			free_one(m, iofi_spare(&m->cache[i], k));
		}
		while ((g = take_first(&m->empty[k])) || (g = take_first(&m->full[k])))
			free_one(m, g);
	}
}

/* Is every slot in it one of this class's windows, and not out? */
static bool one_valid(const struct iof_magazines *m, const struct iofi_magazine *g, unsigned shift)
{
	if (iofi_count(g) > g->room || (g != &m->none && g->room != room_for(shift)))
		return false;
	for (uint32_t i = 0; i < iofi_count(g); i++) {
		const struct iofi_slot *s = &g->slot[i];
		struct iofi_card *card = iofi_card_of(m, s->iova);

		if (iof_recycle_slot_shift(m->recycle, s->iova) != shift || !card || iofi_byte_of(card, s->iova, shift) != s->out ||
		    atomic_load_explicit(s->out, memory_order_relaxed))
			return false;
	}
	return true;
}

bool iofi_depot_valid(const struct iof_magazines *m)
{
	bool ok = true;

	for (unsigned k = 0; k < IOFI_SLOT_CLASSES; k++) {
		uint32_t n = 0;

		for (unsigned i = 0; i < IOF_STRIPES; i++)
			ok = ok && one_valid(m, iofi_loaded(&m->cache[i], k), k + IOFI_CLASS_LOW) &&
			     one_valid(m, iofi_spare(&m->cache[i], k), k + IOFI_CLASS_LOW);
		for (const struct iofi_magazine *g = m->full[k]; g; g = g->next, n++)
			ok = ok && iofi_count(g) == g->room && one_valid(m, g, k + IOFI_CLASS_LOW);
		for (const struct iofi_magazine *g = m->empty[k]; g; g = g->next)
			ok = ok && !iofi_count(g);
		ok = ok && n == m->n_full[k] && n <= IOF_MAGAZINE_DEPOT;
	}
	return ok;
}
