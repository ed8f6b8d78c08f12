/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Maps, unmaps and regions of the same pages from several threads; in the end only the program's own lock is left. */
#include "hold_rig.h"

#include <pthread.h>

static _Atomic unsigned wrong;

static void *churn(void *arg)
{
	unsigned from = (unsigned)(uintptr_t)arg;
	uint64_t a;

	for (unsigned i = 0; i < 300; i++)
		if (map(from + i % 16, 1 + i % 16, &a) || unmap(r.ctx, r.ioas, a, (1 + i % 16) * PAGE, NULL))
			atomic_fetch_add(&wrong, 1);
	return NULL;
}

static void *hold_regions(void *arg)
{
	struct iof_held *held;

	(void)arg;
	for (unsigned i = 0; i < 300; i++) {
		if (hold(i % 30, 1 + i % 30, IOF_POLICY_MLOCK, true, &held))
			atomic_fetch_add(&wrong, 1);
		else
			iof_held_release(held);
	}
	return NULL;
}

TEST(holds_of_the_same_pages)
{
	pthread_t t[3];

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(lock(r.memory, PAGE), 0);
	pthread_create(&t[0], NULL, churn, (void *)0);
	pthread_create(&t[1], NULL, churn, (void *)10);
	pthread_create(&t[2], NULL, hold_regions, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(wrong, 0);
	CHECK_EQ(count_locks(), 1);
	close_rig();
}
