/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where engine memory comes from.
 *
 * An allocator is handed in when a machine is made; nothing in csrc/ calls malloc by itself. There are two: the heap,
 * and the arena (arena.h), a shared mapping that parent and child keep in common after fork. Both can be told to fail
 * at the n-th call, which is how every error path is walked by the tests: iof_alloc_may_fail() is the one injection
 * point, asked by iof_mem_get(), by slabs, and by whoever has another step that a real system could refuse (a pin,
 * say).
 *
 * Thread-safety: all functions here may be called from any thread.
 */
#ifndef IOF_UTIL_ALLOC_H
#define IOF_UTIL_ALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/bits.h"

struct iof_alloc {
	/* NULL when there is no memory; `align` is a power of two, at least 16. The memory is not zeroed. */
	void *(*get)(struct iof_alloc *a, size_t size, size_t align);
	/* `size` is the size that was asked for; p is never NULL. */
	void (*put)(struct iof_alloc *a, void *p, size_t size);
	bool shared; /* memory is visible to children after fork: locks inside must be process-shared */
	bool (*step)(struct iof_alloc *a); /* asked while fail_countdown is negative: has the next step to fail? */
	_Atomic int64_t fail_countdown; /* 0: off; n > 0: the n-th fallible step from now fails, once; < 0: see iof_alloc_fail_by() */
	_Atomic uint64_t fail_seen; /* fallible steps since a countdown was armed last, up to the one that failed */
	_Atomic uint64_t live_bytes;
	_Atomic uint64_t live_blocks;
};

/* An allocator over the C library's heap. */
void iof_alloc_init_heap(struct iof_alloc *a);

/*
 * Arms the injector: the n-th fallible step from now fails, once; 0 (or less) disarms. Returns what was left of the old
 * countdown: above 0 when its failure had not come yet, so a sweep over n is over when disarming returns more than 0.
 */
int64_t iof_alloc_fail_nth(struct iof_alloc *a, int64_t n);

/*
 * Asks `step` at every fallible step from now on, in the thread that takes it: who wants to fail the n-th step of one thread counts there.
 * NULL ends that. Not while other threads allocate.
 */
void iof_alloc_fail_by(struct iof_alloc *a, bool (*step)(struct iof_alloc *a));

/* The slow half of iof_alloc_may_fail(): takes one step of an armed countdown. */
bool iof_alloc_step(struct iof_alloc *a);

/* True when the step that is about to be taken has to fail. One relaxed load when the injector is off. */
static inline bool iof_alloc_may_fail(struct iof_alloc *a)
{
	if (iof_likely(!atomic_load_explicit(&a->fail_countdown, memory_order_relaxed)))
		return false;
	return iof_alloc_step(a);
}

/* NULL: no memory, or an injected failure. */
void *iof_mem_get(struct iof_alloc *a, size_t size, size_t align);
void *iof_mem_zget(struct iof_alloc *a, size_t size, size_t align); /* zeroed */
void iof_mem_put(struct iof_alloc *a, void *p, size_t size); /* p may be NULL */

#endif
