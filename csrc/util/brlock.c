// SPDX-License-Identifier: Apache-2.0
/*
 * The slow half: the writer, and readers that meet one.
 *
 * The writer sleeps on one counter after the other, readers sleep on `closed`. A counter that was seen at 0 once the lock is closed may go up again for a moment, by a
 * reader that has not looked yet; it does no harm, since that reader goes away untried.
 */
#include "util/brlock.h"

#include "util/sys.h"

#define BRLOCK_SPINS 64

enum { BIT_WRITER = 2, BIT_READERS = 4 };

void iof_brlock_init(struct iof_brlock *l, bool shared)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		atomic_init(&l->stripe[i].readers, 0);
	atomic_init(&l->closed, 0);
	iof_lock_init(&l->writer, shared);
}

void iof_brlock_leave_slow(struct iof_brlock *l, uint32_t left)
{
	if (!left)
		iofi_futex_wake(&l->stripe[iof_stripe()].readers, 1, BIT_WRITER, l->writer.shared);
}

static void await_readers(_Atomic uint32_t *readers, bool shared)
{
	uint32_t n;

	for (unsigned turn = 0; (n = atomic_load_explicit(readers, memory_order_acquire)); turn++) {
		if (turn < BRLOCK_SPINS)
			iofi_relax();
		else
			(void)iofi_futex_wait(readers, n, BIT_WRITER, shared);
	}
}

void iof_brlock_write(struct iof_brlock *l)
{
	iof_lock_take(&l->writer);
	atomic_fetch_or_explicit(&l->closed, IOF_BRLOCK_CLOSED, memory_order_seq_cst);
	iof_fence_writer();
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		await_readers(&l->stripe[i].readers, l->writer.shared);
}

void iof_brlock_write_drop(struct iof_brlock *l)
{
	if (atomic_exchange_explicit(&l->closed, 0, memory_order_release) & IOF_BRLOCK_SLEEPERS)
		iofi_futex_wake(&l->closed, INT_MAX, BIT_READERS, l->writer.shared);
	iof_lock_drop(&l->writer);
}

/* A writer that died inside left readers out for good: becoming the next writer, for a moment, lets them in. */
static void rescue_readers(struct iof_brlock *l)
{
	if (!iof_lock_owner_lives(&l->writer)) {
		iof_brlock_write(l);
		iof_brlock_write_drop(l);
	}
}

void iof_brlock_read_slow(struct iof_brlock *l)
{
	while (!iof_brlock_read_try(l)) {
		uint32_t n = atomic_load_explicit(&l->closed, memory_order_relaxed);

		if (!n)
			continue;
		if (!(n & IOF_BRLOCK_SLEEPERS)) {
			if (!atomic_compare_exchange_strong_explicit(&l->closed, &n, n | IOF_BRLOCK_SLEEPERS,
								     memory_order_relaxed, memory_order_relaxed))
				continue;
			n |= IOF_BRLOCK_SLEEPERS;
		}
		if (iofi_futex_wait(&l->closed, n, BIT_READERS, l->writer.shared) == -ETIMEDOUT)
			rescue_readers(l);
	}
}
