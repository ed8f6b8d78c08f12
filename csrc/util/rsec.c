// SPDX-License-Identifier: Apache-2.0
/*
 * Waiting for readers.
 *
 * iof_rsec_sync_slow() has to see each of the counters at 0 once. New readers go to the counters of the current phase,
 * so it first waits for the other ones (only late readers of an earlier phase can be there), turns the phase, and waits
 * for those that were current. The lock keeps a second writer from turning the phase back meanwhile, which would let a
 * stream of readers refill the counter that the first writer waits for.
 *
 * Readers never wake anybody: leaving is one subtraction. A writer spins for as long as a short copy takes, gives up
 * the CPU a few times, then sleeps for growing moments.
 */
#include "util/rsec.h"

#include "util/sys.h"

#define RSEC_SPINS 64
#define RSEC_YIELDS 16
#define RSEC_NAP_NS 20000L
#define RSEC_NAP_MAX_NS 1000000L

void iof_rsec_init(struct iof_rsec *r, bool shared)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		atomic_init(&r->stripe[i].inside, 0);
	atomic_init(&r->phase, 0);
	iof_lock_init(&r->writer, shared);
}

static void nap(unsigned turn)
{
	long ns = RSEC_NAP_NS << (turn < 6 ? turn : 6);

	(void)iofi_syscall(SYS_nanosleep, &(struct timespec){ 0, ns < RSEC_NAP_MAX_NS ? ns : RSEC_NAP_MAX_NS }, NULL);
}

static bool anybody(_Atomic uint64_t *inside, unsigned phase)
{
	return atomic_load_explicit(inside, memory_order_acquire) >> 32 * phase & UINT32_MAX;
}

static void await_zero(_Atomic uint64_t *inside, unsigned phase)
{
	for (unsigned turn = 0; anybody(inside, phase); turn++) {
		if (turn < RSEC_SPINS)
			iofi_relax();
		else if (turn < RSEC_SPINS + RSEC_YIELDS)
			(void)iofi_syscall(SYS_sched_yield);
		else
			nap(turn - RSEC_SPINS - RSEC_YIELDS);
	}
}

static void await_phase(struct iof_rsec *r, unsigned phase)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		await_zero(&r->stripe[i].inside, phase);
}

void iof_rsec_sync_slow(struct iof_rsec *r)
{
	unsigned now;

	iof_lock_take(&r->writer);
	iof_fence_writer();
	now = atomic_load_explicit(&r->phase, memory_order_relaxed) & 1;
	await_phase(r, now ^ 1);
	atomic_store_explicit(&r->phase, now ^ 1, memory_order_relaxed);
	await_phase(r, now);
	iof_lock_drop(&r->writer);
}
