/* SPDX-License-Identifier: Apache-2.0 */
/* get and put: hits without a lock, misses. */
#include "memory/cache.h"

static inline struct iof_map_entry *_Atomic *slot_of(struct iof_map_cache *c, uint64_t address)
{
	return &c->slot[(address >> IOF_PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 52];
}

_Static_assert(IOFI_SLOTS == 1u << (64 - 52), "the hash has as many bits as there are slots");

/* ---- put ---- */

static __attribute__((noinline)) void last_put(struct iof_map_cache *c, struct iof_map_entry *e)
{
	bool mine;

	iof_lock_take(&c->lock);
	mine = iofi_entry_kill(e, IOFI_LOOSE);
	if (mine) {
		c->n_loose--;
		c->n--;
		c->bytes -= iof_range_length(e->pages);
		e->next = NULL;
	}
	iof_lock_drop(&c->lock);
	if (mine)
		iofi_cache_unmap(c, e);
}

void iof_map_cache_put(struct iof_map_cache *c, struct iof_map_entry *e)
{
	uint64_t was = atomic_fetch_sub_explicit(&e->state, 1, memory_order_acq_rel);

	if (iof_unlikely(was == (IOFI_LOOSE | 1)))
		last_put(c, e);
}

uint64_t iof_map_cache_own(struct iof_map_entry *e, uint64_t token)
{
	return atomic_exchange_explicit(&e->token, token, memory_order_acq_rel);
}

/* ---- hits ---- */

static inline bool fits(const struct iof_map_entry *e, struct iof_range r)
{
	return iof_range_contains(e->pages, r);
}

static inline int answer(struct iof_map_entry *e, uint64_t address, uint64_t *iova, struct iof_map_entry **entry)
{
	*iova = e->iova + (address - e->pages.start);
	*entry = e;
	return 0;
}

static inline void mark(struct iof_map_cache *c, struct iof_map_entry *e)
{
	_Atomic uint64_t *hits = &c->stripe[iof_stripe()].hits;

	if (!atomic_load_explicit(&e->used, memory_order_relaxed))
		atomic_store_explicit(&e->used, true, memory_order_relaxed);
	atomic_store_explicit(hits, atomic_load_explicit(hits, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Adds a user to what the table remembers, if that is still it. */
static inline struct iof_map_entry *try_slot(struct iof_map_cache *c, struct iof_range r)
{
	struct iof_map_entry *e = atomic_load_explicit(slot_of(c, r.start), memory_order_acquire);
	uint64_t was;

	if (iof_unlikely(!e))
		return NULL;
	was = atomic_fetch_add_explicit(&e->state, 1, memory_order_acq_rel);
	if (iof_likely(!(was & (IOFI_DEAD | IOFI_LOOSE)) && fits(e, r)))
		return e;
	iof_map_cache_put(c, e);
	return NULL;
}

/* Under the lock. */
static struct iof_map_entry *find(struct iof_map_cache *c, struct iof_range r)
{
	struct iof_index_entry found;
	struct iof_map_entry *e;

	if (!iof_index_find(c->index, r.start, &found))
		return NULL;
	e = (struct iof_map_entry *)(uintptr_t)found.value;
	return fits(e, r) ? e : NULL;
}

/* ---- misses ---- */

struct miss {
	struct iof_range wanted, pages; /* bytes; what is going to be mapped */
	struct iof_map_entry *e, *gone, *absorbed;
	uint64_t generation;
	bool shown; /* it may go into the index */
};

static struct iof_range whole_pages(struct iof_range r)
{
	return (struct iof_range){ iof_align_down(r.start, IOF_PAGE_SIZE), r.last | IOF_PAGE_MASK };
}

/* Under the lock: *r becomes as large as the entry at an address, when nobody uses that and it is not too much. */
static void join(struct iof_map_cache *c, struct iof_range *r, uint64_t address)
{
	struct iof_index_entry found;
	const struct iof_map_entry *e;
	struct iof_range both;

	if (!iof_index_find(c->index, address, &found))
		return;
	e = (const struct iof_map_entry *)(uintptr_t)found.value;
	both = (struct iof_range){ found.range.start < r->start ? found.range.start : r->start,
				   found.range.last > r->last ? found.range.last : r->last };
	if (!(atomic_load_explicit(&e->state, memory_order_relaxed) & IOFI_USERS) && iof_range_span(both) < c->cfg.max_joined)
		*r = both;
}

/* What to map for a buffer: its pages, with what it overlaps, and with neighbours. */
static struct iof_range plan(struct iof_map_cache *c, struct iof_range pages)
{
	struct iof_range r = pages;

	join(c, &r, pages.start);
	join(c, &r, pages.last);
	if (!(c->cfg.flags & IOF_MAP_CACHE_JOIN))
		return r;
	if (r.start)
		join(c, &r, r.start - 1);
	if (r.last != UINT64_MAX)
		join(c, &r, r.last + 1);
	return r;
}

/* Under the lock: one entry that nobody uses becomes dead. False: there is none. */
static bool evict(struct iof_map_cache *c, struct iof_map_entry **gone)
{
	struct iof_map_entry *e = c->list.next;
	bool used;

	for (uint64_t steps = 2 * c->n; steps-- && e != &c->list; e = c->list.next) {
		used = atomic_exchange_explicit(&e->used, false, memory_order_relaxed);
		if (!used && !(atomic_load_explicit(&e->state, memory_order_relaxed) & IOFI_USERS) &&
		    !iofi_cache_take_out(c, e, gone)) {
			c->evicted++;
			return true;
		}
		if (e != c->list.next)
			return true; /* taken out after all, but loose: somebody came in that moment */
		c->list.next = e->next;
		e->next->prev = &c->list;
		e->prev = c->list.prev;
		e->next = &c->list;
		e->prev->next = e;
		c->list.prev = e;
	}
	return false;
}

/* Under the lock: room for the planned pages, and an entry. */
static int reserve(struct iof_map_cache *c, struct miss *m)
{
	uint64_t length = iof_range_length(m->pages);

	while (c->n >= c->cfg.max_entries || (c->cfg.max_bytes && c->bytes > c->cfg.max_bytes - length))
		if (!evict(c, &m->gone))
			return -ENOSPC;
	m->e = c->free;
	if (m->e) {
		c->free = m->e->next;
	} else {
		m->e = iof_slab_get(&c->entries);
		if (!m->e)
			return -ENOMEM;
		atomic_init(&m->e->state, IOFI_DEAD);
	}
	c->n++;
	c->bytes += length;
	return 0;
}

static void unreserve(struct iof_map_cache *c, struct miss *m)
{
	m->e->next = c->free;
	c->free = m->e;
	c->n--;
	c->bytes -= iof_range_length(m->pages);
}

/* Under the lock: what meets the planned pages leaves the index. Absorbed is what lies inside, unless somebody came to use it this moment. */
static void clear(struct iof_map_cache *c, struct miss *m)
{
	struct iof_range alone = whole_pages(m->wanted);
	struct iof_map_entry *dead = NULL, *e;
	uint64_t in_use = iofi_cache_take_range(c, m->pages, &dead);

	if (in_use)
		m->pages = alone;
	while ((e = dead)) {
		struct iof_map_entry **to = iof_range_contains(m->pages, e->pages) ? &m->absorbed : &m->gone;

		dead = e->next;
		e->next = *to;
		*to = e;
	}
}

static int prepare(struct iof_map_cache *c, struct miss *m)
{
	int rc;

	m->generation = c->generation;
	c->misses++;
	if (c->cfg.max_bytes && iof_range_length(whole_pages(m->wanted)) > c->cfg.max_bytes) {
		c->refused++;
		return -ENOSPC;
	}
	m->pages = plan(c, whole_pages(m->wanted));
	clear(c, m);
	rc = reserve(c, m);
	if (rc == -ENOSPC)
		c->refused++;
	return rc;
}

static int map(struct iof_map_cache *c, struct miss *m)
{
	uint64_t address = m->pages.start, length = iof_range_length(m->pages);
	struct iof_map_many one = { .ioas_id = c->cfg.ioas_id, .flags = c->cfg.map_flags, .policy = c->cfg.policy, .n = 1,
				    .addresses = &address, .lengths = &length, .iovas = &m->e->iova };

	if (c->watch)
		atomic_fetch_add_explicit(iofi_watch_range(c, m->pages) ? &c->watched : &c->unwatched, 1, memory_order_relaxed);
	return iof_map_many(c->ctx, &one);
}

static void shrink(struct iof_map_cache *c, struct miss *m)
{
	struct iof_range alone = whole_pages(m->wanted);

	iof_lock_take(&c->lock);
	c->bytes -= iof_range_length(m->pages) - iof_range_length(alone);
	iof_lock_drop(&c->lock);
	m->pages = alone;
	m->absorbed = NULL;
}

/* Neighbours may be stuck, or their memory be gone though nobody said so: then the buffer is mapped alone. */
static int map_or_less(struct iof_map_cache *c, struct miss *m)
{
	int rc;

	if (!iofi_cache_absorb(c, m->absorbed))
		shrink(c, m);
	rc = map(c, m);
	if (!rc || !m->absorbed)
		return rc;
	iofi_cache_tell(c, m->absorbed);
	shrink(c, m);
	return map(c, m);
}

/* Under the lock: the new entry is seen by others, or loose. */
static void publish(struct iof_map_cache *c, struct miss *m)
{
	struct iof_map_entry *e = m->e;

	m->shown = m->generation == c->generation && !iof_index_insert(c->index, m->pages, (uintptr_t)e);
	e->pages = m->pages;
	e->absorbed = iofi_cache_flatten(c, m->absorbed);
	atomic_store_explicit(&e->token, 0, memory_order_relaxed);
	atomic_store_explicit(&e->used, false, memory_order_relaxed);
	/* No longer dead, one user, and whatever users are just passing by. */
	atomic_fetch_add_explicit(&e->state, (m->shown ? 1 : IOFI_LOOSE | 1) - IOFI_DEAD, memory_order_release);
	if (!m->shown) {
		c->n_loose++;
		return;
	}
	c->joined += iof_range_length(m->pages) > iof_range_length(whole_pages(m->wanted));
	e->prev = c->list.prev;
	e->next = &c->list;
	e->prev->next = c->list.prev = e;
	atomic_store_explicit(slot_of(c, m->wanted.start), e, memory_order_release);
}

static __attribute__((noinline)) int get_slowly(struct iof_map_cache *c, struct iof_range r, uint64_t *iova,
						struct iof_map_entry **entry)
{
	struct miss m = { .wanted = r };
	struct iof_map_entry *e;
	int rc;

	iofi_cache_settle(c);
	iof_lock_take(&c->lock);
	e = find(c, r);
	if (e) { /* in the index, so not dead, and that changes under the lock only */
		atomic_fetch_add_explicit(&e->state, 1, memory_order_acq_rel);
		atomic_store_explicit(slot_of(c, r.start), e, memory_order_release);
		iof_lock_drop(&c->lock);
		mark(c, e);
		return answer(e, r.start, iova, entry);
	}
	rc = prepare(c, &m);
	iof_lock_drop(&c->lock);
	iofi_cache_unmap(c, m.gone);
	if (rc) {
		iofi_cache_unmap(c, m.absorbed);
		return rc;
	}
	rc = map_or_less(c, &m);
	iof_lock_take(&c->lock);
	if (rc)
		unreserve(c, &m);
	else
		publish(c, &m);
	iof_lock_drop(&c->lock);
	if (rc)
		return rc;
	answer(m.e, r.start, iova, entry);
	return 1;
}

int iof_map_cache_get(struct iof_map_cache *c, const void *address, uint64_t n, uint64_t *iova, struct iof_map_entry **entry)
{
	struct iof_map_entry *e;
	struct iof_range r;
	int rc = iof_range_make((uintptr_t)address, n, &r);

	if (iof_unlikely(rc))
		return rc;
	if (iof_likely(!atomic_load_explicit(&c->unsettled, memory_order_acquire))) {
		e = try_slot(c, r);
		if (iof_likely(e)) {
			mark(c, e);
			return answer(e, r.start, iova, entry);
		}
	}
	return get_slowly(c, r, iova, entry);
}
