/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read sections: what lets an unmap be quiet.
 *
 * Device DMA, translation and anything else that follows page-table entries without a lock runs between
 * iof_rsec_enter() and iof_rsec_leave(). A writer that has cleared entries calls iof_rsec_sync(): when it returns,
 * every section that might have seen the old entries has ended. Memory behind those entries, and the tables themselves,
 * may be given away then.
 *
 * Counters are striped over cache lines and come in two phases, so that a stream of new readers cannot hold a writer
 * up. Sections may nest in different objects, never block, and are short (a bounded copy). A thread inside a section of
 * an object must not sync that object. Readers may be other processes (shared memory); one that is killed inside a
 * section cannot be told from a slow one, and syncs then wait for ever.
 *
 * Why it is right. Reader: add to a counter, full barrier, read entries. Writer: clear entries, full barrier, read each
 * counter. Of two such barriers one comes first: either the reader saw the cleared entries, or the writer sees the
 * reader's count. Leaving is a release and the writer's load an acquire, so whatever the section did happened before a
 * counter that reads 0. A section stays on the counter it entered by until it leaves; hence it is enough to see each
 * counter at 0 once after the barrier, in any order and at different times, and which phase a reader picked does not
 * matter for safety. The phases only make waiting end: new readers go to the other counter.
 */
#ifndef IOF_UTIL_RSEC_H
#define IOF_UTIL_RSEC_H

#include <stdatomic.h>
#include <stdint.h>

#include "util/bits.h"
#include "util/fence.h"
#include "util/lock.h"
#include "util/stripe.h"

struct iof_rsec {
	struct {
		/* How many are inside by phase: 32 bits each, so that a writer reads one word a stripe. */
		_Alignas(IOF_CACHELINE) _Atomic uint64_t inside;
	} stripe[IOF_STRIPES];
	_Alignas(IOF_CACHELINE) _Atomic uint32_t phase;
	struct iof_lock writer; /* serialises iof_rsec_sync() */
};

void iof_rsec_init(struct iof_rsec *r, bool shared);
void iof_rsec_sync_slow(struct iof_rsec *r);

static inline uint64_t iof_rsec_one(unsigned phase)
{
	return UINT64_C(1) << 32 * phase;
}

/* The token goes to iof_rsec_leave(). */
static inline unsigned iof_rsec_enter(struct iof_rsec *r)
{
	unsigned token = iof_stripe() * 2 + (atomic_load_explicit(&r->phase, memory_order_relaxed) & 1);

	atomic_fetch_add_explicit(&r->stripe[token / 2].inside, iof_rsec_one(token % 2), memory_order_seq_cst);
	iof_fence_reader();
	return token;
}

static inline void iof_rsec_leave(struct iof_rsec *r, unsigned token)
{
	atomic_fetch_sub_explicit(&r->stripe[token / 2].inside, iof_rsec_one(token % 2), memory_order_release);
}

/* Is anybody inside, as it looks? Orders nothing. */
static inline bool iof_rsec_looks_idle(const struct iof_rsec *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < IOF_STRIPES; i++)
		n |= atomic_load_explicit(&r->stripe[i].inside, memory_order_relaxed);
	return !n;
}

/* True when each counter was seen at 0 after the barrier: no section that can see entries cleared before is left. */
static inline bool iof_rsec_idle(struct iof_rsec *r)
{
	uint64_t n = 0;

	iof_fence_writer();
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		n |= atomic_load_explicit(&r->stripe[i].inside, memory_order_acquire);
	return !n;
}

/* Waits until every section entered before the call has ended. */
static inline void iof_rsec_sync(struct iof_rsec *r)
{
	if (iof_unlikely(!iof_rsec_idle(r)))
		iof_rsec_sync_slow(r);
}

#endif
