/* SPDX-License-Identifier: Apache-2.0 */
/* What the interposed functions share. A file that defines them must not see libc's fortified or 64-bit aliases of the names. */
#ifndef IOF_PRELOAD_CALLS_H
#define IOF_PRELOAD_CALLS_H

#include "preload/shim.h"

#define SHIM_EXPORT __attribute__((visibility("default")))

/* A descriptor that the system has just given to somebody cannot be ours any more: it was closed by ways that the shim does not see. */
static inline int shim_fresh(int fd)
{
	struct shim_file *stale = fd >= 0 && shim_has(fd) && !shim_is_guest() ? shim_take(fd) : NULL;

	if (stale)
		shim_put(stale);
	return fd;
}

#endif
