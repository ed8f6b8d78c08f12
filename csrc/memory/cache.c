/* SPDX-License-Identifier: Apache-2.0 */
/* Making caches, taking entries out, and what a cache tells. */
#include "memory/cache.h"

#include <sched.h>

#define ENTRIES_DEFAULT 4096u
#define JOINED_DEFAULT (UINT64_C(2) << 20)

/* ---- out of the cache ---- */

bool iofi_cache_take_out(struct iof_map_cache *c, struct iof_map_entry *e, struct iof_map_entry **gone)
{
	iof_index_remove(c->index, e->pages.start);
	e->prev->next = e->next;
	e->next->prev = e->prev;
	if (!iofi_entry_kill(e, 0)) {
		atomic_fetch_or_explicit(&e->state, IOFI_LOOSE, memory_order_acq_rel);
		/* The user may have left in between, and did not know that it was the last of a loose one. */
		if (!iofi_entry_kill(e, IOFI_LOOSE)) {
			c->n_loose++;
			return true;
		}
	}
	c->n--;
	c->bytes -= iof_range_length(e->pages);
	e->next = *gone;
	*gone = e;
	return false;
}

uint64_t iofi_cache_take_range(struct iof_map_cache *c, struct iof_range r, struct iof_map_entry **gone)
{
	struct iof_index_entry found;
	uint64_t in_use = 0;

	while (iof_index_first(c->index, r, &found))
		in_use += iofi_cache_take_out(c, (struct iof_map_entry *)(uintptr_t)found.value, gone);
	return in_use;
}

static bool unmap_one(struct iof_map_cache *c, const struct iof_map_entry *e)
{
	struct iof_cmd_ioas_unmap cmd = { .size = sizeof(cmd), .ioas_id = c->cfg.ioas_id, .iova = e->iova,
					  .length = iof_range_length(e->pages) };
	int rc = iof_ioctl(c->ctx, IOF_CMD_IOAS_UNMAP, &cmd);

	return !rc || rc == -ENOENT;
}

void iofi_cache_tell(struct iof_map_cache *c, struct iof_map_entry *e)
{
	struct iof_map_entry *next;
	uint64_t token;

	for (; e; e = next) {
		next = e->next;
		iofi_cache_tell(c, e->absorbed); /* which have absorbed none themselves */
		e->absorbed = NULL;
		token = atomic_exchange_explicit(&e->token, 0, memory_order_acq_rel);
		if (c->cfg.gone && token)
			c->cfg.gone(c->cfg.arg, token);
		iof_lock_take(&c->lock);
		e->next = c->free;
		c->free = e;
		iof_lock_drop(&c->lock);
	}
}

static void stick(struct iof_map_cache *c, struct iof_map_entry *e)
{
	iof_lock_take(&c->lock);
	c->n++;
	c->bytes += iof_range_length(e->pages);
	e->next = c->stuck;
	c->stuck = e;
	iof_lock_drop(&c->lock);
}

void iofi_cache_unmap(struct iof_map_cache *c, struct iof_map_entry *gone)
{
	struct iof_map_entry *e;

	while (gone) {
		e = gone;
		gone = e->next;
		e->next = NULL;
		if (unmap_one(c, e))
			iofi_cache_tell(c, e);
		else
			stick(c, e);
	}
}

/* What an entry has absorbed stands beside it afterwards, so that chains stay flat; entries without an owner are free. */
struct iof_map_entry *iofi_cache_flatten(struct iof_map_cache *c, struct iof_map_entry *e)
{
	struct iof_map_entry *owned = NULL, *next, *inner, **to;

	for (; e; e = next) {
		next = e->next;
		inner = e->absorbed;
		e->absorbed = NULL;
		to = atomic_load_explicit(&e->token, memory_order_relaxed) ? &owned : &c->free;
		e->next = *to;
		*to = e;
		while ((e = inner)) {
			inner = e->next;
			e->next = owned;
			owned = e;
		}
	}
	return owned;
}

bool iofi_cache_absorb(struct iof_map_cache *c, struct iof_map_entry *dead)
{
	for (struct iof_map_entry *e = dead; e; e = e->next)
		if (!unmap_one(c, e)) {
			iofi_cache_unmap(c, dead); /* once more for those that went: not there is fine */
			return false;
		}
	return true;
}

/* What the provider refused to unmap is asked for again. Under the lock. */
static void retry_stuck(struct iof_map_cache *c, struct iof_map_entry **gone)
{
	struct iof_map_entry *e;

	while ((e = c->stuck)) {
		c->stuck = e->next;
		c->n--;
		c->bytes -= iof_range_length(e->pages);
		e->next = *gone;
		*gone = e;
	}
}

int64_t iof_map_cache_invalidate(struct iof_map_cache *c, const void *address, uint64_t n)
{
	struct iof_map_entry *gone = NULL, *e;
	struct iof_range r;
	int64_t in_use;
	int rc = iof_range_make((uintptr_t)address, n, &r);

	if (rc)
		return rc;
	iof_lock_take(&c->lock);
	c->generation++;
	in_use = (int64_t)iofi_cache_take_range(c, r, &gone);
	c->invalidated += (uint64_t)in_use;
	for (e = gone; e; e = e->next)
		c->invalidated++;
	iof_lock_drop(&c->lock);
	iofi_cache_unmap(c, gone);
	return in_use;
}

uint64_t iof_map_cache_trim(struct iof_map_cache *c)
{
	struct iof_map_entry *gone = NULL, *e, *next;
	uint64_t before, after;

	iof_lock_take(&c->lock);
	before = c->bytes;
	for (e = c->list.next; e != &c->list; e = next) {
		next = e->next;
		if (!(atomic_load_explicit(&e->state, memory_order_relaxed) & IOFI_USERS))
			iofi_cache_take_out(c, e, &gone);
	}
	retry_stuck(c, &gone);
	after = c->bytes;
	iof_lock_drop(&c->lock);
	iofi_cache_unmap(c, gone);
	return before - after;
}

void iofi_cache_settle(struct iof_map_cache *c)
{
	struct iof_map_entry *gone = NULL;

	while (c->watch && atomic_load_explicit(&c->unsettled, memory_order_acquire)) {
		iof_lock_take(&c->lock);
		iofi_watch_drain(c, &gone);
		iof_lock_drop(&c->lock);
		iofi_cache_unmap(c, gone);
		gone = NULL;
		if (atomic_load_explicit(&c->unsettled, memory_order_acquire))
			sched_yield(); /* the reader is between two instructions */
	}
}

/* ---- making one ---- */

static int check(const struct iof_map_cache_config *cfg)
{
	const uint32_t prot = IOF_MAP_READABLE | IOF_MAP_WRITEABLE;

	if (cfg->size != sizeof(*cfg) || cfg->flags & ~(IOF_MAP_CACHE_JOIN | IOF_MAP_CACHE_WATCH) ||
	    !(cfg->map_flags & prot) || cfg->map_flags & ~prot)
		return -EINVAL;
	return 0;
}

static void init(struct iof_map_cache *c, struct iof_handle *ctx, const struct iof_map_cache_config *cfg)
{
	iof_alloc_init_heap(&c->heap);
	c->alloc = cfg->alloc ? cfg->alloc : &c->heap;
	c->ctx = ctx;
	c->cfg = *cfg;
	c->cfg.policy = cfg->policy ? cfg->policy : IOF_POLICY_PROBE;
	c->cfg.max_entries = cfg->max_entries ? cfg->max_entries : ENTRIES_DEFAULT;
	c->cfg.max_joined = cfg->max_joined ? cfg->max_joined : JOINED_DEFAULT;
	if (cfg->max_bytes && c->cfg.max_joined > cfg->max_bytes)
		c->cfg.max_joined = cfg->max_bytes;
	c->list.next = c->list.prev = &c->list;
	iof_lock_init(&c->lock, false);
	iof_slab_init(&c->entries, c->alloc, sizeof(struct iof_map_entry), 0);
}

static void tear_down(struct iof_map_cache *c)
{
	struct iof_alloc heap, *from = c->alloc;

	iofi_watch_destroy(c);
	if (c->index)
		iof_index_destroy(c->index);
	iof_slab_fini(&c->entries);
	if (from == &c->heap) {
		iof_alloc_init_heap(&heap);
		from = &heap;
	}
	iof_mem_put(from, c, sizeof(*c));
}

int iof_map_cache_create(struct iof_handle *ctx, const struct iof_map_cache_config *cfg, struct iof_map_cache **out)
{
	struct iof_map_cache *c;
	struct iof_alloc heap;
	int rc = check(cfg);

	if (rc)
		return rc;
	iof_alloc_init_heap(&heap);
	c = iof_mem_zget(cfg->alloc ? cfg->alloc : &heap, sizeof(*c), IOF_CACHELINE);
	if (!c)
		return -ENOMEM;
	init(c, ctx, cfg);
	rc = iof_index_create(c->alloc, &c->index);
	if (!rc && cfg->flags & IOF_MAP_CACHE_WATCH)
		rc = iofi_watch_create(c);
	if (rc) {
		tear_down(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* Under the lock: entries that somebody uses. */
static uint64_t in_use(struct iof_map_cache *c)
{
	uint64_t n = c->n_loose;

	for (struct iof_map_entry *e = c->list.next; e != &c->list; e = e->next)
		n += (atomic_load_explicit(&e->state, memory_order_relaxed) & IOFI_USERS) != 0;
	return n;
}

int iof_map_cache_destroy(struct iof_map_cache *c)
{
	uint64_t users;

	iof_lock_take(&c->lock);
	users = in_use(c);
	iof_lock_drop(&c->lock);
	if (users)
		return -EBUSY;
	iof_map_cache_trim(c);
	if (c->n)
		return -EBUSY; /* the provider refused */
	tear_down(c);
	return 0;
}

/* Everything that still is mapped, in use or not, in one list. Nobody else is in the cache. */
static struct iof_map_entry *all_that_is_left(struct iof_map_cache *c)
{
	struct iof_map_entry *left = c->stuck, *e, *next;

	for (e = c->list.next; e != &c->list; e = next) {
		next = e->next;
		e->next = left;
		left = e;
	}
	c->list.next = c->list.prev = &c->list;
	c->stuck = NULL;
	return left;
}

void iof_map_cache_abandon(struct iof_map_cache *c)
{
	iofi_watch_destroy(c);
	iofi_cache_tell(c, all_that_is_left(c));
	tear_down(c);
}

/* ---- what it tells ---- */

void iof_map_cache_stats(struct iof_map_cache *c, struct iof_map_cache_stats *out)
{
	*out = (struct iof_map_cache_stats){ .watched = atomic_load_explicit(&c->watched, memory_order_relaxed),
					     .unwatched = atomic_load_explicit(&c->unwatched, memory_order_relaxed),
					     .events = atomic_load_explicit(&c->events, memory_order_relaxed) };
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		out->hits += atomic_load_explicit(&c->stripe[i].hits, memory_order_relaxed);
	iof_lock_take(&c->lock);
	out->misses = c->misses;
	out->joined = c->joined;
	out->evicted = c->evicted;
	out->invalidated = c->invalidated;
	out->refused = c->refused;
	out->entries = c->n;
	out->bytes = c->bytes;
	out->in_use = in_use(c);
	iof_lock_drop(&c->lock);
}

/* The mapping behind an entry is there, and is the entry's. */
static bool is_mapped(struct iof_map_cache *c, const struct iof_map_entry *e)
{
	struct iof_mapping_info info;
	uint64_t last = e->iova + iof_range_span(e->pages);

	return !iof_ioas_mapping(c->ctx, c->cfg.ioas_id, e->iova, last, &info) && info.iova == e->iova && info.last == last &&
	       info.address == e->pages.start;
}

bool iof_map_cache_is_valid(struct iof_map_cache *c)
{
	uint64_t n = 0, bytes = 0;
	struct iof_index_entry found;

	for (struct iof_map_entry *e = c->list.next; e != &c->list; e = e->next) {
		if (e->next->prev != e || atomic_load_explicit(&e->state, memory_order_relaxed) & (IOFI_DEAD | IOFI_LOOSE) ||
		    !iof_index_find(c->index, e->pages.start, &found) || found.value != (uintptr_t)e ||
		    found.range.start != e->pages.start || found.range.last != e->pages.last || !is_mapped(c, e))
			return false;
		n++;
		bytes += iof_range_length(e->pages);
	}
	for (struct iof_map_entry *e = c->free; e; e = e->next)
		if (atomic_load_explicit(&e->state, memory_order_relaxed) != IOFI_DEAD)
			return false;
	return iof_index_count(c->index) == n && c->n >= n + c->n_loose && c->bytes >= bytes && iof_index_is_valid(c->index) &&
	       c->n <= c->cfg.max_entries && (!c->cfg.max_bytes || c->bytes <= c->cfg.max_bytes);
}
