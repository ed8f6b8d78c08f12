/* SPDX-License-Identifier: Apache-2.0 */
#include "util/await.h"

#include "util/sys.h"

void iof_await_init(struct iof_await *w, bool shared)
{
	atomic_init(&w->word, 0);
	w->shared = shared;
}

void iof_await_settle(struct iof_await *w, uint32_t value)
{
	atomic_store_explicit(&w->word, value, memory_order_release);
	iofi_futex_wake(&w->word, INT_MAX, FUTEX_BITSET_MATCH_ANY, w->shared);
}

static struct timespec deadline(uint32_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000L;
	t.tv_nsec %= 1000000000L;
	return t;
}

uint32_t iof_await_wait(struct iof_await *w, uint32_t ms)
{
	struct timespec until = deadline(ms), *limit = ms == UINT32_MAX ? NULL : &until;
	uint32_t value;
	int rc = 0;

	while (!(value = atomic_load_explicit(&w->word, memory_order_acquire)) && rc != -ETIMEDOUT)
		rc = (int)iofi_syscall(SYS_futex, &w->word, FUTEX_WAIT_BITSET | (w->shared ? 0 : FUTEX_PRIVATE_FLAG), 0, limit, NULL,
				       FUTEX_BITSET_MATCH_ANY);
	return value;
}
