/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for one answer: settled once by anybody, waited for by one thread, with a limit of time. Works across processes that share the memory.
 *
 * Whoever settles must keep the memory until iof_await_settle() returns; whoever waits, until it has waited.
 */
#ifndef IOF_UTIL_AWAIT_H
#define IOF_UTIL_AWAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct iof_await {
	_Atomic uint32_t word; /* 0: not settled */
	uint32_t shared;
};

void iof_await_init(struct iof_await *w, bool shared);
void iof_await_settle(struct iof_await *w, uint32_t value); /* value: not 0 */
/* The value, or 0 after `ms` milliseconds without; UINT32_MAX waits for ever. */
uint32_t iof_await_wait(struct iof_await *w, uint32_t ms);

#endif
