/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: closed, duplicated, asked about; and fork, which doubles them all. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>

#include "preload/calls.h"

/* ---- closing ---- */

/* The place is empty before the number is free for others; the file goes when it is. */
SHIM_EXPORT int close(int fd)
{
	struct shim_file *f;
	int rc;

	if (__builtin_expect(!shim_has(fd), 1) || shim_is_guest())
		return real()->close(fd);
	f = shim_take(fd);
	rc = real()->close(fd);
	if (f)
		shim_put(f);
	shim_bury();
	return rc;
}

static void drop_places(int first, int last)
{
	struct shim_file *f;

	for (int fd = first; (fd = shim_first(fd, last)) >= 0; fd++) {
		f = shim_take(fd);
		if (f)
			shim_put(f);
	}
}

/* The files are kept until their numbers are gone, each by a reference of its own. */
SHIM_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	int rc = real()->close_range(first, last, flags);

	if (!rc && !(flags & (int)CLOSE_RANGE_CLOEXEC) && first <= INT_MAX && !shim_is_guest())
		drop_places((int)first, last < INT_MAX ? (int)last : INT_MAX);
	return rc;
}

SHIM_EXPORT void closefrom(int first)
{
	real()->closefrom(first);
	if (!shim_is_guest())
		drop_places(first, INT_MAX);
}

/* ---- duplicating ---- */

/* The system has made `copy` of a descriptor of f: it becomes ours too. The reference on f is used up. */
static int adopt(int copy, struct shim_file *f)
{
	struct shim_file *old = NULL;
	int rc;

	if (copy < 0) {
		int saved = errno;

		shim_put(f);
		errno = saved;
		return copy;
	}
	rc = shim_set(copy, f, &old);
	if (old)
		shim_put(old);
	if (!rc)
		return copy;
	real()->close(copy);
	shim_put(f);
	return (int)shim_result(rc);
}

static struct shim_file *get_to_adopt(int fd)
{
	struct shim_file *f = shim_get(fd);

	if (f && shim_is_guest()) {
		shim_put(f);
		return NULL;
	}
	return f;
}

SHIM_EXPORT int dup(int fd)
{
	struct shim_file *f = get_to_adopt(fd);

	return f ? adopt(real()->dup(fd), f) : shim_fresh(real()->dup(fd));
}

SHIM_EXPORT int dup2(int fd, int to)
{
	struct shim_file *f = get_to_adopt(fd);

	if (f && fd == to) {
		shim_put(f);
		return to;
	}
	if (!f && fd == to)
		return real()->dup2(fd, to);
	return f ? adopt(real()->dup2(fd, to), f) : shim_fresh(real()->dup2(fd, to));
}

SHIM_EXPORT int dup3(int fd, int to, int flags)
{
	struct shim_file *f = get_to_adopt(fd);

	return f ? adopt(real()->dup3(fd, to, flags), f) : shim_fresh(real()->dup3(fd, to, flags));
}

#define SETTABLE (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

static int control(struct shim_file *f, int (*next)(int, int, ...), int fd, int cmd, long arg)
{
	int rc;

	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return adopt(next(fd, cmd, arg), f);
	case F_GETFL:
		rc = f->ops->through ? next(fd, cmd, arg) : (int)atomic_load(&f->flags);
		break;
	case F_SETFL:
		rc = f->ops->through ? next(fd, cmd, arg) : 0;
		if (!f->ops->through)
			atomic_store(&f->flags, (atomic_load(&f->flags) & ~(uint32_t)SETTABLE) | ((uint32_t)arg & SETTABLE));
		break;
	default:
		rc = next(fd, cmd, arg);
	}
	shim_put(f);
	return rc;
}

#define FCNTL(name)                                                                                                    \
	SHIM_EXPORT int name(int fd, int cmd, ...)                                                                     \
	{                                                                                                              \
		struct shim_file *f = get_to_adopt(fd);                                                                \
		va_list ap;                                                                                            \
		long arg;                                                                                              \
                                                                                                                       \
		va_start(ap, cmd);                                                                                     \
		arg = va_arg(ap, long);                                                                                \
		va_end(ap);                                                                                            \
		if (f)                                                                                                 \
			return control(f, real()->name, fd, cmd, arg);                                                 \
		if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)                                                          \
			return shim_fresh(real()->name(fd, cmd, arg));                                                 \
		return real()->name(fd, cmd, arg);                                                                     \
	}

FCNTL(fcntl)
FCNTL(fcntl64)

/* ---- fork ---- */

/*
 * The child's process is made before it is born, by handlers that libc runs whoever forks; only the function itself knows whether there is a child at all.
 */
static __thread struct shim_process *unborn __attribute__((tls_model("initial-exec")));

static void before_fork(void)
{
	unborn = shim_fork_begin();
}

static void in_child(void)
{
	shim_start_anew();
	shim_knobs_forget();
	shim_fork_child(unborn);
	unborn = NULL;
}

__attribute__((constructor)) static void watch_forks(void)
{
	(void)pthread_atfork(before_fork, NULL, in_child);
}

SHIM_EXPORT pid_t fork(void)
{
	pid_t pid = real()->fork();

	if (pid && unborn) {
		int saved = errno;

		shim_fork_parent(unborn, pid);
		unborn = NULL;
		errno = saved;
	}
	return pid;
}
