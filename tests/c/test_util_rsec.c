/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Read sections: what a reader can see is not given away before the reader has left. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "util/rsec.h"

#define SLOTS 8
#define READERS 3
#define WRITERS 2

struct world {
	struct iof_rsec rsec;
	_Atomic(uint64_t *) slot[SLOTS];
	_Atomic bool stop;
	_Atomic uint64_t bad, seen;
	_Atomic uint32_t step;
};

static void *reader(void *arg)
{
	struct world *w = arg;
	uint64_t seed = (uintptr_t)&w ^ 0x9e3779b97f4a7c15u, seen = 0;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		unsigned token = iof_rsec_enter(&w->rsec);
		uint64_t *p = atomic_load_explicit(&w->slot[check_random(&seed) % SLOTS], memory_order_acquire);

		if (p) {
			for (int i = 0; i < 16; i++)
				if (p[i] != 0x1234567)
					atomic_fetch_add(&w->bad, 1);
			seen++;
		}
		iof_rsec_leave(&w->rsec, token);
	}
	atomic_fetch_add(&w->seen, seen);
	return NULL;
}

/* Each writer owns half of the slots: takes a block out, waits, ruins and frees it, puts a new one in. */
struct writer {
	struct world *w;
	unsigned first;
	int turns;
};

static void *writer(void *arg)
{
	struct writer *me = arg;

	for (int i = 0; i < me->turns; i++) {
		_Atomic(uint64_t *) *slot = &me->w->slot[me->first + i % (SLOTS / WRITERS)];
		uint64_t *old = atomic_exchange_explicit(slot, NULL, memory_order_acq_rel), *new;

		iof_rsec_sync(&me->w->rsec);
		if (old)
			memset(old, 0xff, 128);
		free(old);
		new = malloc(128);
		for (int j = 0; j < 16; j++)
			new[j] = 0x1234567;
		atomic_store_explicit(slot, new, memory_order_release);
	}
	return NULL;
}

TEST(rsec_frees_nothing_under_readers)
{
	struct world *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	pthread_t r[READERS], t[WRITERS];
	struct writer who[WRITERS];

	memset(w, 0, sizeof(*w));
	iof_rsec_init(&w->rsec, false);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(pthread_create(&r[i], NULL, reader, w), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		who[i] = (struct writer){ w, i * (SLOTS / WRITERS), 3000 };
		CHECK_EQ(pthread_create(&t[i], NULL, writer, &who[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	usleep(2000);
	atomic_store(&w->stop, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(r[i], NULL);
	CHECK_EQ(w->bad, 0);
	CHECK(w->seen > 0);
	CHECK(iof_rsec_idle(&w->rsec));
	for (int i = 0; i < SLOTS; i++)
		free(w->slot[i]);
	free(w);
}

static void *sync_then_step(void *arg)
{
	struct world *w = arg;

	iof_rsec_sync(&w->rsec);
	atomic_store(&w->step, 1);
	return NULL;
}

TEST(rsec_waits_for_old_sections_not_for_new_ones)
{
	struct world *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	unsigned old, new;
	pthread_t t;

	memset(w, 0, sizeof(*w));
	iof_rsec_init(&w->rsec, false);
	CHECK(iof_rsec_idle(&w->rsec));
	iof_rsec_sync(&w->rsec);
	old = iof_rsec_enter(&w->rsec);
	CHECK(!iof_rsec_idle(&w->rsec));
	CHECK_EQ(pthread_create(&t, NULL, sync_then_step, w), 0);
	while (!atomic_load(&w->rsec.phase)) /* the writer has turned the phase and waits for `old` only */
		usleep(100);
	new = iof_rsec_enter(&w->rsec);
	CHECK(new != old);
	usleep(5000);
	CHECK_EQ(w->step, 0);
	iof_rsec_leave(&w->rsec, old);
	pthread_join(t, NULL);
	CHECK_EQ(w->step, 1);
	CHECK(!iof_rsec_idle(&w->rsec));
	iof_rsec_leave(&w->rsec, new);
	CHECK(iof_rsec_idle(&w->rsec));
	free(w);
}

TEST(rsec_waits_for_a_reader_in_another_process)
{
	struct world *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	CHECK(w != MAP_FAILED);
	iof_rsec_init(&w->rsec, true);
	child = fork();
	if (!child) {
		unsigned token = iof_rsec_enter(&w->rsec);

		atomic_store(&w->step, 1);
		usleep(50000);
		atomic_store(&w->step, 2);
		iof_rsec_leave(&w->rsec, token);
		_exit(0);
	}
	while (!atomic_load(&w->step))
		usleep(100);
	iof_rsec_sync(&w->rsec);
	CHECK_EQ(w->step, 2);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	munmap(w, sizeof(*w));
}

static void *stripe_of(void *arg)
{
	*(unsigned *)arg = iof_stripe();
	return NULL;
}

TEST(rsec_stripes_are_spread_and_stable)
{
	unsigned used = 0, stripe;
	pthread_t t;

	CHECK_EQ(iof_stripe(), iof_stripe());
	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		CHECK_EQ(pthread_create(&t, NULL, stripe_of, &stripe), 0);
		pthread_join(t, NULL);
		CHECK(stripe < IOF_STRIPES);
		used |= 1u << stripe;
	}
	CHECK_EQ(__builtin_popcount(used), (int)IOF_STRIPES);
}
