/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of magazines: private to csrc/iova/magazine*.c.
 *
 * A *card* belongs to 2 MiB of addresses where there is, or was, a window. Its bytes say which slots are out: the class's shift, or 0. Cards are found
 * by a hash table and stay until the end, so a thread finds one without a lock. A table that has become too small stays too, because somebody may be
 * looking through it; all those before the last are no larger than the last.
 *
 * A cache is used by its owner, named by its thread id: without the lock between `busy` = 1 and 0 while `stop` is 0; or with the lock. Whoever else
 * has the lock sets `stop`, makes sure that the owner sees it (threads.h), and waits until it is not busy. Only a cache of a thread that has ended gets another owner: it cannot
 * be on its way in.
 *
 * Invariants, while no thread is busy
 *  - A slot in a magazine is taken from recycle and its byte is 0; every slot that is taken and whose byte is 0 is in one magazine.
 *  - `loaded` and `spare` change places like what is in them: under the lock or while busy. Others come in their place under the lock only.
 *  - A card is closed while its window is retired, or when there is none since.
 */
#ifndef IOF_IOVA_MAGAZINE_PRIV_H
#define IOF_IOVA_MAGAZINE_PRIV_H

#include <stdatomic.h>

#include "iova/magazine.h"
#include "util/slab.h"
#include "util/stripe.h"
#include "util/threads.h"

#define IOFI_CLASS_LOW 12u /* shift of the smallest class there can be */
#define IOFI_SLOT_CLASSES (IOF_RECYCLE_WINDOW_SHIFT - IOFI_CLASS_LOW + 1)
#define IOFI_WINDOW_SLOTS (1u << (IOF_RECYCLE_WINDOW_SHIFT - IOFI_CLASS_LOW))

struct iofi_card {
	uint64_t window; /* its first address; never changed */
	_Atomic bool closed; /* gives go to recycle */
	_Alignas(IOF_CACHELINE) _Atomic uint8_t out[IOFI_WINDOW_SLOTS];
};

struct iofi_table {
	struct iofi_table *older;
	uint32_t shift; /* 64 - log2(size) */
	_Atomic(struct iofi_card *) card[];
};

struct iofi_slot {
	uint64_t iova;
	_Atomic uint8_t *out; /* on its card */
};

struct iofi_magazine {
	struct iofi_magazine *next; /* at the depot, full or empty */
	uint32_t room;
	_Atomic uint32_t n; /* written by whoever may use it */
	struct iofi_slot slot[];
};

struct iofi_cache {
	_Alignas(IOF_CACHELINE) _Atomic uint32_t owner; /* 0: nobody's */
	_Atomic uint32_t busy, stop;
	uint32_t strangers; /* calls of threads that would have liked to have it */
	_Atomic(struct iofi_magazine *) loaded[IOFI_SLOT_CLASSES], spare[IOFI_SLOT_CLASSES];
};

struct iof_magazines {
	struct iof_alloc *alloc;
	struct iof_recycle *recycle;
	struct iof_lock *lock;
	uint32_t low_shift; /* of the recycle's smallest class */
	bool fence; /* iof_threads_fence() works */
	_Atomic(struct iofi_table *) table;
	uint64_t cards, direct; /* direct: taken, but no slots */
	struct iof_slab slab; /* of cards */
	struct iofi_magazine *full[IOFI_SLOT_CLASSES], *empty[IOFI_SLOT_CLASSES]; /* the depot */
	uint32_t n_full[IOFI_SLOT_CLASSES];
	struct iofi_magazine none; /* has no room and nothing in it: stands for one that is not there */
	struct iofi_cache cache[IOF_STRIPES];
};

static inline struct iofi_magazine *iofi_loaded(const struct iofi_cache *c, unsigned k)
{
	return atomic_load_explicit(&c->loaded[k], memory_order_relaxed);
}

static inline struct iofi_magazine *iofi_spare(const struct iofi_cache *c, unsigned k)
{
	return atomic_load_explicit(&c->spare[k], memory_order_relaxed);
}

static inline void iofi_load(struct iofi_cache *c, unsigned k, struct iofi_magazine *loaded, struct iofi_magazine *spare)
{
	atomic_store_explicit(&c->loaded[k], loaded, memory_order_relaxed);
	atomic_store_explicit(&c->spare[k], spare, memory_order_relaxed);
}

static inline uint32_t iofi_count(const struct iofi_magazine *g)
{
	return atomic_load_explicit(&g->n, memory_order_relaxed);
}

static inline unsigned iofi_shift_of(const struct iof_magazines *m, uint64_t length)
{
	unsigned shift = length > 1 ? 64 - (unsigned)__builtin_clzll(length - 1) : 0;

	return shift > m->low_shift ? shift : m->low_shift;
}

/* NULL: there never was a window. Any thread, no lock. */
static inline struct iofi_card *iofi_card_of(const struct iof_magazines *m, uint64_t at)
{
	const struct iofi_table *t = atomic_load_explicit(&m->table, memory_order_acquire);
	uint64_t window = iof_align_down(at, UINT64_C(1) << IOF_RECYCLE_WINDOW_SHIFT);
	uint64_t i = (window >> IOF_RECYCLE_WINDOW_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> t->shift;
	struct iofi_card *card;

	while ((card = atomic_load_explicit(&t->card[i], memory_order_acquire)) && card->window != window)
		i = (i + 1) & iof_low_mask(64 - t->shift);
	return card;
}

/* The byte of a slot of this shift that starts at iova; NULL when none can. */
static inline _Atomic uint8_t *iofi_byte_of(struct iofi_card *card, uint64_t iova, unsigned shift)
{
	uint64_t offset = iova - card->window;

	return offset & iof_low_mask(shift) ? NULL : &card->out[offset >> shift];
}

/* magazine_card.c */
int iofi_table_make(struct iof_magazines *m, uint32_t shift); /* 0, -ENOMEM */
struct iofi_card *iofi_card_get(struct iof_magazines *m, uint64_t at); /* the card, made if need be. NULL: no memory */
void iofi_cards_close(struct iof_magazines *m); /* all of them */
void iofi_cards_fini(struct iof_magazines *m);
void iofi_cards_reclaim(struct iof_magazines *m); /* what is taken from recycle and not out goes back to it */
/* Do the bytes agree with recycle? How many slots are out, and how many taken but idle. */
bool iofi_cards_valid(const struct iof_magazines *m, uint64_t *out, uint64_t *idle);

/* magazine_depot.c: with the lock held. */
struct iofi_cache *iofi_cache_own(struct iof_magazines *m); /* the calling thread's. NULL: it has none */
/* Makes c->loaded have something: 0, or recycle's errno; -EAGAIN: without a magazine, for lack of memory. */
int iofi_refill(struct iof_magazines *m, struct iofi_cache *c, unsigned shift);
bool iofi_make_room(struct iof_magazines *m, struct iofi_cache *c, unsigned shift); /* false: no memory */
void iofi_depot_forget(struct iof_magazines *m); /* nothing is in any magazine, whatever was */
void iofi_depot_fini(struct iof_magazines *m);
bool iofi_depot_valid(const struct iof_magazines *m);

#endif
