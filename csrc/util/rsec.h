/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read sections: what lets an unmap be quiet.
 *
 * Device DMA, translation and anything else that follows page-table entries without a lock runs between iof_rsec_enter()
 * and iof_rsec_leave(). A writer that has cleared entries calls iof_rsec_sync(): when it returns, every section that might
 * have seen the old entries has ended. Memory behind those entries, and the tables themselves, may be given away then.
 *
 * Counters are striped over cache lines and come in two phases, so that a stream of new readers cannot hold a writer up.
 * Sections may nest in different objects, never block, and are short (a bounded copy).
 */
#ifndef IOF_UTIL_RSEC_H
#define IOF_UTIL_RSEC_H

#include <stdatomic.h>
#include <stdint.h>

#include "util/bits.h"
#include "util/lock.h"

#define IOF_RSEC_STRIPES 4

struct iof_rsec {
	struct {
		_Alignas(IOF_CACHELINE) _Atomic uint64_t inside[2];
	} stripe[IOF_RSEC_STRIPES];
	_Alignas(IOF_CACHELINE) _Atomic uint32_t phase;
	struct iof_lock writer; /* serialises iof_rsec_sync() */
};

void iof_rsec_init(struct iof_rsec *r, bool shared);
unsigned iof_rsec_stripe(void); /* a stripe for the calling thread */
void iof_rsec_sync_slow(struct iof_rsec *r);

/* The token goes to iof_rsec_leave(). */
static inline unsigned iof_rsec_enter(struct iof_rsec *r)
{
	unsigned token = iof_rsec_stripe() * 2 + (atomic_load_explicit(&r->phase, memory_order_relaxed) & 1);

	atomic_fetch_add_explicit(&r->stripe[token / 2].inside[token % 2], 1, memory_order_seq_cst);
	return token;
}

static inline void iof_rsec_leave(struct iof_rsec *r, unsigned token)
{
	atomic_fetch_sub_explicit(&r->stripe[token / 2].inside[token % 2], 1, memory_order_release);
}

/* True when no reader is inside now; with the fence in front, none that is missed can see entries cleared before. */
static inline bool iof_rsec_idle(struct iof_rsec *r)
{
	uint64_t n = 0;

	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < IOF_RSEC_STRIPES; i++)
		n |= atomic_load_explicit(&r->stripe[i].inside[0], memory_order_acquire) |
		     atomic_load_explicit(&r->stripe[i].inside[1], memory_order_acquire);
	return !n;
}

/* Waits until every section entered before the call has ended. */
static inline void iof_rsec_sync(struct iof_rsec *r)
{
	if (iof_unlikely(!iof_rsec_idle(r)))
		iof_rsec_sync_slow(r);
}

#endif
