/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MapCache: buffers are mapped when they are first used and stay mapped while there is room.
 *
 * An entry is a mapping of whole pages. Those that can be found stand in an ordered index by address (they do not overlap), and in a list, the
 * longest unused first, by second chance: a hit only marks the entry, and who looks for a victim sends marked ones to the back.
 *
 * A hit takes no lock: a table remembers for an address's page which entry it was in, and a user is added to that entry before it is looked at. Entries
 * are never freed before the cache is, so that adding is always safe; `state` then tells whether it counts.
 *
 *   found     users: how many. In the index. With no users it may become dead at any moment.
 *   LOOSE     in no index any more, but somebody uses it; the last put makes it dead.
 *   DEAD      being unmapped, or free. A user that comes by in between sees DEAD and takes itself back.
 *
 * Who turns a state into DEAD, which is possible only from no users and in one step, unmaps; nobody else. start, last and iova change only while DEAD.
 *
 * A buffer that overlaps an entry that nobody uses (or, with JOIN, touches one) is mapped together with it. The old entry is unmapped, but its owner is not
 * told yet: it is *absorbed*, because the new entry needs that memory too, and its token stands for it.
 *
 * A miss maps without the lock. `generation` counts invalidations: when there was one meanwhile, or somebody else has put an overlapping entry into
 * the index, the new entry is loose from the start: right for its user, and gone afterwards.
 *
 * Memory that goes (WATCH, cache_watch.c) is a queue of ranges; `unsettled` is not 0 while there is something in it or about to be, and then no get answers
 * before it has worked it off.
 *
 * Dangerous: nothing that holds `lock` may wait for the reader thread, and that thread waits for nothing.
 */
#ifndef IOF_MEMORY_CACHE_H
#define IOF_MEMORY_CACHE_H

#include <errno.h>
#include <stdatomic.h>

#include "iommufd_fast_memory.h"
#include "iova/index.h"
#include "util/alloc.h"
#include "util/lock.h"
#include "util/range.h"
#include "util/slab.h"

#define IOFI_DEAD (UINT64_C(1) << 63)
#define IOFI_LOOSE (UINT64_C(1) << 62)
#define IOFI_USERS (IOFI_LOOSE - 1)
#define IOFI_SLOTS 4096u

struct iof_map_entry {
	_Atomic uint64_t state;
	struct iof_range pages; /* addresses */
	uint64_t iova; /* of pages.start */
	_Atomic uint64_t token;
	_Atomic bool used; /* since a victim was looked for */
	struct iof_map_entry *prev, *next; /* lock: the list; or next free, next to be unmapped, next absorbed */
	struct iof_map_entry *absorbed; /* entries whose tokens are told when this one is unmapped */
};

struct iofi_watch; /* cache_watch.c */

struct iof_map_cache {
	/* never changes */
	struct iof_handle *ctx;
	struct iof_map_cache_config cfg; /* defaults filled in */
	struct iof_alloc *alloc, heap;
	struct iofi_watch *watch; /* NULL: nobody watches */

	_Atomic uint64_t unsettled;
	_Atomic uint64_t watched, unwatched, events;
	struct {
		_Alignas(IOF_CACHELINE) _Atomic uint64_t hits; /* by thread; two threads of one stripe may lose some */
	} stripe[IOF_STRIPES];

	struct iof_lock lock; /* all that follows; writes of `slot` too */
	struct iof_index *index; /* addresses to entries */
	struct iof_map_entry list; /* its ring: .next is the first victim */
	struct iof_map_entry *free, *stuck; /* stuck: dead, but the provider refused to unmap it */
	struct iof_slab entries;
	uint64_t generation, n, n_loose, bytes; /* n, bytes: mapped, or about to be */
	uint64_t misses, joined, evicted, invalidated, refused;
	struct iof_map_entry *_Atomic slot[IOFI_SLOTS];
};

/* Under the lock. Takes an entry out of index and list; when nobody uses it, it becomes dead and goes in front of *gone. True: it is still in use. */
bool iofi_cache_take_out(struct iof_map_cache *c, struct iof_map_entry *e, struct iof_map_entry **gone);
/* The same for all that meet a range; how many are still in use. */
uint64_t iofi_cache_take_range(struct iof_map_cache *c, struct iof_range r, struct iof_map_entry **gone);
/* Under no lock: unmaps a list of dead entries and tells their owners. */
void iofi_cache_unmap(struct iof_map_cache *c, struct iof_map_entry *gone);
/* Under no lock: unmaps dead entries and leaves their owners for later. False: the provider refused one; then all are done with, by iofi_cache_unmap(). */
bool iofi_cache_absorb(struct iof_map_cache *c, struct iof_map_entry *dead);
/* Under the lock: dead entries that have an owner, and what they have absorbed, in one list. */
struct iof_map_entry *iofi_cache_flatten(struct iof_map_cache *c, struct iof_map_entry *e);
/* Under no lock: tells the owners of unmapped entries, and keeps the entries for others. */
void iofi_cache_tell(struct iof_map_cache *c, struct iof_map_entry *unmapped);

/* Works off what the watch has seen; when it returns, all that was seen when it began is. */
void iofi_cache_settle(struct iof_map_cache *c);

int iofi_watch_create(struct iof_map_cache *c); /* 0, -errno of userfaultfd or of threads; sets c->watch */
void iofi_watch_destroy(struct iof_map_cache *c); /* c->watch NULL is fine */
bool iofi_watch_range(struct iof_map_cache *c, struct iof_range r); /* from now on; false: this memory cannot be watched */
/* Under the lock: works the queue off. */
void iofi_watch_drain(struct iof_map_cache *c, struct iof_map_entry **gone);

/* Would it be dead if nobody used it: dead now? */
static inline bool iofi_entry_kill(struct iof_map_entry *e, uint64_t from)
{
	return atomic_compare_exchange_strong_explicit(&e->state, &from, IOFI_DEAD, memory_order_acq_rel, memory_order_relaxed);
}

#endif
