// SPDX-License-Identifier: Apache-2.0
#include "util/stripe.h"

#include <stdatomic.h>

__thread uint32_t iof_stripe_own __attribute__((tls_model("initial-exec")));

static _Atomic uint32_t next;

unsigned iof_stripe_slow(void)
{
	uint32_t own = iof_stripe_own;

	if (!own)
		own = iof_stripe_own = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % IOF_STRIPES + 1;
	return own - 1;
}
