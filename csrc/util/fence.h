/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two full barriers of a handshake: readers count themselves and then look, a writer writes and then looks at the counts. Of two such barriers one comes
 * first, so at least one side sees the other.
 */
#ifndef IOF_UTIL_FENCE_H
#define IOF_UTIL_FENCE_H

#include <stdatomic.h>

/*
 * Behind an atomic add or subtraction with memory_order_seq_cst. On x86 a locked instruction is a full barrier already. Elsewhere it is not: an arm64 load
 * may overtake the store of an acquire-release pair of exclusives, and C promises nothing about it either.
 */
static inline void iof_fence_reader(void)
{
#if defined(__x86_64__)
	atomic_signal_fence(memory_order_seq_cst);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* The writer's. ThreadSanitizer knows no fences; an atomic add to a word of our own is one, and known. */
static inline void iof_fence_writer(void)
{
#if defined(__SANITIZE_THREAD__)
	_Atomic int word = 0;

	atomic_fetch_add_explicit(&word, 1, memory_order_seq_cst);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

#endif
