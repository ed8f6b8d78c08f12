/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the next functions in line, and lends them to the engine under the names that the build gives its calls. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "preload/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

struct real real_table;

/* `close` is written last: it says that the rest is there. Two threads that both look find the same. */
void real_find(void)
{
	int saved = errno;
	struct real found;

#define REAL_FIND(name, result, parameters)                                                                            \
	{                                                                                                              \
		void *at = dlsym(RTLD_NEXT, #name);                                                                    \
		memcpy(&found.name, &at, sizeof(at));                                                                  \
	}
	REAL_FUNCTIONS(REAL_FIND)
#undef REAL_FIND
	__typeof__(found.close) close_at = found.close;

	found.close = NULL;
	real_table = found;
	__atomic_store_n(&real_table.close, close_at, __ATOMIC_RELEASE);
	errno = saved;
}

__attribute__((constructor(101))) static void find_early(void)
{
	real_find();
}

/* ---- what the engine calls ---- */

void *shim_engine_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int shim_engine_munmap(void *at, size_t n);
int shim_engine_close(int fd);
int shim_engine_fcntl(int fd, int cmd, ...);
int shim_engine_sigaction(int sig, const struct sigaction *now, struct sigaction *old);

void *shim_engine_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	return real()->mmap(at, n, prot, flags, fd, offset);
}

int shim_engine_munmap(void *at, size_t n)
{
	return real()->munmap(at, n);
}

int shim_engine_close(int fd)
{
	return real()->close(fd);
}

int shim_engine_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return real()->fcntl(fd, cmd, arg);
}

int shim_engine_sigaction(int sig, const struct sigaction *now, struct sigaction *old)
{
	return real()->sigaction(sig, now, old);
}
