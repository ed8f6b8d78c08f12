/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: a mutex and a reader-writer lock, each one word on a futex.
 *
 * A lock in shared memory (allocator `shared`) stores its owner's thread id, sleeps on a shared futex, and is taken
 * over when the owner is dead (iof_lock_take() then returns with the lock held; what it protects is checked by
 * is_valid() in test builds). A private lock stores 1. Neither is recursive.
 *
 * Limits of the take-over: it comes 50 ms late; all parties must live in one pid namespace; a dead owner whose thread
 * id was given to a new thread counts as alive. Threads are told apart right after fork(); a bare clone(2) without exec
 * is not supported (it skips the fork handlers that renew the cached id).
 *
 * A lock may be freed by whoever takes it last: the wake-up after a drop no longer reads the lock, only names its
 * address.
 *
 * Code that holds Python's GIL only ever calls the _try forms (iof_fast design 3.7).
 */
#ifndef IOF_UTIL_LOCK_H
#define IOF_UTIL_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/bits.h"

#define IOF_LOCK_WAITERS UINT32_C(0x80000000)

struct iof_lock {
	_Atomic uint32_t word; /* 0 free, else the owner (1 or a thread id); IOF_LOCK_WAITERS when someone sleeps */
	uint32_t shared;
};

void iof_lock_init(struct iof_lock *l, bool shared);
uint32_t iof_lock_self_shared(void); /* the calling thread's id, cached, right after fork too */
bool iof_lock_owner_lives(const struct iof_lock *l); /* false when there is none, too */
void iof_lock_take_slow(struct iof_lock *l, uint32_t self);
void iof_lock_wake(_Atomic uint32_t *word, bool shared); /* never reads *word */

static inline uint32_t iof_lock_self(const struct iof_lock *l)
{
	return iof_likely(!l->shared) ? 1 : iof_lock_self_shared();
}

static inline bool iof_lock_try(struct iof_lock *l)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(&l->word, &free, iof_lock_self(l), memory_order_acquire,
						       memory_order_relaxed);
}

static inline void iof_lock_take(struct iof_lock *l)
{
	uint32_t free = 0, self = iof_lock_self(l);

	if (iof_unlikely(!atomic_compare_exchange_strong_explicit(&l->word, &free, self, memory_order_acquire,
								  memory_order_relaxed)))
		iof_lock_take_slow(l, self);
}

static inline void iof_lock_drop(struct iof_lock *l)
{
	bool shared = l->shared;

	if (iof_unlikely(atomic_exchange_explicit(&l->word, 0, memory_order_release) & IOF_LOCK_WAITERS))
		iof_lock_wake(&l->word, shared);
}

/*
 * Many readers or one writer; a waiting writer holds new readers back, and readers do not nest.
 *
 * A writer that dies is noticed like the owner of a lock, by writers and by readers. A reader that dies inside a shared
 * lock is not: readers are only counted, and the next writer waits for ever. Read sections of shared locks must not run
 * code that can be killed half-way on purpose.
 */
#define IOF_RWLOCK_SLEEPERS UINT32_C(0x40000000) /* readers sleep; only with IOF_LOCK_WAITERS */

struct iof_rwlock {
	_Atomic uint32_t readers; /* count of readers inside, | IOF_LOCK_WAITERS while a writer waits or is inside */
	struct iof_lock writer; /* held by the writer from before it waits for the readers until it is done */
};

void iof_rwlock_init(struct iof_rwlock *l, bool shared);
void iof_rwlock_read_slow(struct iof_rwlock *l);
void iof_rwlock_read_wake(_Atomic uint32_t *readers, bool shared); /* never reads *readers */
bool iof_rwlock_write_try(struct iof_rwlock *l);
void iof_rwlock_write(struct iof_rwlock *l);
void iof_rwlock_write_drop(struct iof_rwlock *l);

static inline bool iof_rwlock_read_try(struct iof_rwlock *l)
{
	uint32_t n = atomic_load_explicit(&l->readers, memory_order_relaxed);

	while (!(n & IOF_LOCK_WAITERS))
		if (atomic_compare_exchange_weak_explicit(&l->readers, &n, n + 1, memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

static inline void iof_rwlock_read(struct iof_rwlock *l)
{
	if (iof_unlikely(!iof_rwlock_read_try(l)))
		iof_rwlock_read_slow(l);
}

static inline void iof_rwlock_read_drop(struct iof_rwlock *l)
{
	bool shared = l->writer.shared;
	uint32_t n = atomic_fetch_sub_explicit(&l->readers, 1, memory_order_release);

	if (iof_unlikely((n & ~IOF_RWLOCK_SLEEPERS) == (IOF_LOCK_WAITERS | 1)))
		iof_rwlock_read_wake(&l->readers, shared);
}

#endif
