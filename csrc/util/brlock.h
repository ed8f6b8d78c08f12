/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader-writer lock for readers that come all the time and writers that hardly ever do: readers count on a line of their own each (stripe.h) and only
 * look at the line they have in common, so they do not wait for each other.
 *
 * As iof_rwlock otherwise: a waiting writer holds new readers back, readers do not nest, a writer that dies in shared memory is noticed, a reader that dies
 * is not. Who took it for reading drops it, in the same thread.
 *
 * Why it is right. Reader: add to its counter, full barrier, look whether the lock is closed. Writer: close it, full barrier, look at the
 * counters. Of two such barriers one comes first: the reader sees the lock closed and goes away, or the writer sees the reader. The last reader to leave sees the lock
 * closed, for the same reason, and wakes the writer.
 */
#ifndef IOF_UTIL_BRLOCK_H
#define IOF_UTIL_BRLOCK_H

#include "util/fence.h"
#include "util/lock.h"
#include "util/stripe.h"

#define IOF_BRLOCK_CLOSED 1u
#define IOF_BRLOCK_SLEEPERS 2u /* readers sleep until it is open again */

struct iof_brlock {
	struct {
		_Alignas(IOF_CACHELINE) _Atomic uint32_t readers;
	} stripe[IOF_STRIPES];
	_Alignas(IOF_CACHELINE) _Atomic uint32_t closed;
	struct iof_lock writer; /* held from before the lock is closed until it is open again */
};

void iof_brlock_init(struct iof_brlock *l, bool shared);
void iof_brlock_read_slow(struct iof_brlock *l);
void iof_brlock_leave_slow(struct iof_brlock *l, uint32_t left); /* `left`: what the reader's counter went to */
void iof_brlock_write(struct iof_brlock *l);
void iof_brlock_write_drop(struct iof_brlock *l);

static inline void iof_brlock_read_drop(struct iof_brlock *l)
{
	uint32_t left = atomic_fetch_sub_explicit(&l->stripe[iof_stripe()].readers, 1, memory_order_seq_cst) - 1;

	iof_fence_reader();
	if (iof_unlikely(atomic_load_explicit(&l->closed, memory_order_relaxed)))
		iof_brlock_leave_slow(l, left);
}

static inline bool iof_brlock_read_try(struct iof_brlock *l)
{
	atomic_fetch_add_explicit(&l->stripe[iof_stripe()].readers, 1, memory_order_seq_cst);
	iof_fence_reader();
	if (iof_likely(!atomic_load_explicit(&l->closed, memory_order_acquire)))
		return true;
	iof_brlock_read_drop(l);
	return false;
}

/* Is anybody inside? Exact, as far as it can be, behind iof_fence_writer() by one who has told readers that come now to go away. */
static inline bool iof_brlock_is_read(struct iof_brlock *l)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < IOF_STRIPES; i++)
		n |= atomic_load_explicit(&l->stripe[i].readers, memory_order_acquire);
	return n;
}

static inline void iof_brlock_read(struct iof_brlock *l)
{
	if (iof_unlikely(!iof_brlock_read_try(l)))
		iof_brlock_read_slow(l);
}

#endif
