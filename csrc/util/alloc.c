// SPDX-License-Identifier: Apache-2.0
/*
 * The heap allocator, the accounting around every allocator, and the injector of failures.
 *
 * The injector is one counter. A step takes one from it by compare-and-swap, so each value is taken by one thread only,
 * and the thread that takes the last one fails. Threads that race with arming may pass unseen; once armed, the n-th
 * step fails and no other.
 */
#include "util/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "util/alloc_priv.h"

static void *heap_get(struct iof_alloc *a, size_t size, size_t align)
{
	void *p;

	(void)a;
	if (align <= _Alignof(max_align_t))
		return malloc(size ? size : 1);
	return posix_memalign(&p, align, size ? size : 1) ? NULL : p;
}

static void heap_put(struct iof_alloc *a, void *p, size_t size)
{
	(void)a;
	(void)size;
	free(p);
}

void iof_alloc_init_heap(struct iof_alloc *a)
{
	iofi_alloc_init(a, heap_get, heap_put, false);
}

void iofi_alloc_init(struct iof_alloc *a, void *(*get)(struct iof_alloc *, size_t, size_t),
		     void (*put)(struct iof_alloc *, void *, size_t), bool shared)
{
	a->get = get;
	a->put = put;
	a->shared = shared;
	a->step = NULL;
	atomic_init(&a->fail_countdown, 0);
	atomic_init(&a->fail_seen, 0);
	atomic_init(&a->live_bytes, 0);
	atomic_init(&a->live_blocks, 0);
}

int64_t iof_alloc_fail_nth(struct iof_alloc *a, int64_t n)
{
	int64_t left = atomic_load(&a->fail_countdown);

	if (left < 0) /* somebody else counts */
		return 0;
	left = atomic_exchange(&a->fail_countdown, 0);

	if (n > 0) {
		atomic_store(&a->fail_seen, 0);
		atomic_store(&a->fail_countdown, n);
	}
	return left;
}

void iof_alloc_fail_by(struct iof_alloc *a, bool (*step)(struct iof_alloc *a))
{
	if (step)
		a->step = step;
	atomic_store(&a->fail_countdown, step ? -1 : 0);
}

bool iof_alloc_step(struct iof_alloc *a)
{
	int64_t n = atomic_load(&a->fail_countdown);

	if (n < 0)
		return a->step(a);
	do {
		if (n <= 0)
			return false;
	} while (!atomic_compare_exchange_weak(&a->fail_countdown, &n, n - 1));
	atomic_fetch_add(&a->fail_seen, 1);
	return n == 1;
}

void *iofi_mem_get_sure(struct iof_alloc *a, size_t size, size_t align)
{
	void *p = a->get(a, size, align);

	if (!p)
		return NULL;
	atomic_fetch_add_explicit(&a->live_bytes, size, memory_order_relaxed);
	atomic_fetch_add_explicit(&a->live_blocks, 1, memory_order_relaxed);
	return p;
}

void *iof_mem_get(struct iof_alloc *a, size_t size, size_t align)
{
	return iof_alloc_may_fail(a) ? NULL : iofi_mem_get_sure(a, size, align);
}

void *iof_mem_zget(struct iof_alloc *a, size_t size, size_t align)
{
	void *p = iof_mem_get(a, size, align);

	return p ? memset(p, 0, size) : NULL;
}

void iof_mem_put(struct iof_alloc *a, void *p, size_t size)
{
	if (!p)
		return;
	atomic_fetch_sub_explicit(&a->live_bytes, size, memory_order_relaxed);
	atomic_fetch_sub_explicit(&a->live_blocks, 1, memory_order_relaxed);
	a->put(a, p, size);
}
