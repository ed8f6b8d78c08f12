/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigaction and signal for SIGSEGV and SIGBUS: the engine's guard needs these handlers, the program may want its own. While the guard's are installed the
 * program's stand behind them, and the program is told of its own only.
 */
#define _GNU_SOURCE
#include <string.h>

#include "preload/calls.h"
#include "util/guard.h"

static bool is_guarded(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

SHIM_EXPORT int sigaction(int sig, const struct sigaction *now, struct sigaction *old)
{
	if (is_guarded(sig) && iof_guard_sigaction(sig, now, old))
		return 0;
	return real()->sigaction(sig, now, old);
}

SHIM_EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	struct sigaction now = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;

	if (!is_guarded(sig) || handler == SIG_ERR)
		return real()->signal(sig, handler);
	sigemptyset(&now.sa_mask);
	sigaddset(&now.sa_mask, sig);
	return iof_guard_sigaction(sig, &now, &old) ? old.sa_handler : real()->signal(sig, handler);
}
