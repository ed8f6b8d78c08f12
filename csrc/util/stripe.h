/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small number for every thread, by which counters are spread over cache lines: threads that count on lines of their own do not wait for each other.
 *
 * The first IOF_STRIPES threads of a process that ask get different numbers; later ones share, in turn. A thread keeps its number, and the thread that a forked child
 * begins with keeps its parent's. Processes choose independently.
 */
#ifndef IOF_UTIL_STRIPE_H
#define IOF_UTIL_STRIPE_H

#include <stdint.h>

#include "util/bits.h"

#define IOF_STRIPES 8u

/* The calling thread's number plus one; 0 until it has asked. */
extern __thread uint32_t iof_stripe_own __attribute__((tls_model("initial-exec")));

unsigned iof_stripe_slow(void);

/* Less than IOF_STRIPES. Any thread may ask. */
static inline unsigned iof_stripe(void)
{
	uint32_t own = iof_stripe_own;

	return iof_likely(own) ? own - 1 : iof_stripe_slow();
}

#endif
