/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll and ppoll. A file of ours says itself what it is ready for; to wait, its placeholder stands in, which the engine keeps readable while there is something to
 * read.
 *
 * It does so in the process where something happens, and only there: a queue that was opened in one process and shared over fork() rings everywhere (one eventfd),
 * but not one that another process filled whose table does not have it. So a wait that has a file of ours among others, in a family of several processes, looks
 * again every few milliseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload/calls.h"

#define ON_STACK 32
#define LOOK_AGAIN_NS 5000000L

/* (An integer: libc declares that poll() does not read what it is given.) */
static bool any_ours(uintptr_t at, nfds_t n)
{
	const struct pollfd *fds = (const struct pollfd *)at;

	if (!atomic_load_explicit(&shim_me, memory_order_relaxed))
		return false;
	for (nfds_t i = 0; i < n; i++)
		if (shim_has(fds[i].fd))
			return true;
	return false;
}

/* One of ours: what holds now of what is asked for. -1: not ours. */
static int ready(const struct pollfd *p)
{
	struct shim_file *f = p->fd < 0 ? NULL : shim_get(p->fd);
	int bits = -1;

	if (f && !f->ops->through)
		bits = (int)(f->ops->poll ? f->ops->poll(f) : POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM) & (p->events | POLLERR | POLLHUP);
	if (f)
		shim_put(f);
	return bits;
}

/* Copies what the system is to look at; returns how many of ours are ready, with their answers in fds[].revents. */
static int look(struct pollfd *fds, struct pollfd *copy, nfds_t n)
{
	int count = 0;

	for (nfds_t i = 0; i < n; i++) {
		int bits = ready(&fds[i]);

		copy[i] = fds[i];
		copy[i].revents = 0;
		fds[i].revents = 0;
		if (bits < 0)
			continue;
		copy[i].events = POLLIN; /* the bell */
		if (bits) {
			copy[i].fd = -1;
			fds[i].revents = (short)bits;
			count++;
		}
	}
	return count;
}

/* The system's answers for what is not ours. */
static int merge(struct pollfd *fds, const struct pollfd *copy, nfds_t n)
{
	int count = 0;

	for (nfds_t i = 0; i < n; i++) {
		int bits = copy[i].fd < 0 ? -1 : ready(&fds[i]);

		if (bits >= 0)
			fds[i].revents = (short)bits;
		else if (copy[i].fd >= 0)
			fds[i].revents = copy[i].revents;
		count += fds[i].revents != 0;
	}
	return count;
}

static struct timespec now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t;
}

static int64_t nanoseconds(const struct timespec *t)
{
	return t->tv_sec > INT64_MAX / 1000000000 - 1 ? INT64_MAX : t->tv_sec * 1000000000 + t->tv_nsec;
}

/* timeout NULL: for ever. */
static int wait_for(struct pollfd *fds, struct pollfd *copy, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec start = now();
	int64_t whole = timeout ? nanoseconds(timeout) : INT64_MAX;

	for (;;) {
		struct timespec t = now(), nap;
		int64_t left = whole == INT64_MAX ? INT64_MAX : whole - (nanoseconds(&t) - nanoseconds(&start));
		bool family = atomic_load_explicit(&atomic_load(&shim_root)->n_processes, memory_order_relaxed) > 1;
		int rc, count = look(fds, copy, n);

		if (count || left < 0)
			left = 0;
		if (family && left > LOOK_AGAIN_NS)
			left = LOOK_AGAIN_NS;
		nap = (struct timespec){ left / 1000000000, left % 1000000000 };
		rc = real()->ppoll(copy, n, left == INT64_MAX ? NULL : &nap, mask);
		if (rc < 0)
			return rc;
		count = merge(fds, copy, n);
		t = now();
		if (count || (whole != INT64_MAX && nanoseconds(&t) - nanoseconds(&start) >= whole))
			return count;
	}
}

static int do_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd few[ON_STACK], *copy = few;
	struct iof_alloc *a = atomic_load(&shim_root)->alloc;
	int rc;

	if (n > ON_STACK)
		copy = iof_mem_get(a, n * sizeof(*copy), 16);
	if (!copy) {
		errno = ENOMEM;
		return -1;
	}
	rc = wait_for(fds, copy, n, timeout, mask);
	if (copy != few)
		iof_mem_put(a, copy, n * sizeof(*copy));
	return rc;
}

SHIM_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };

	if (__builtin_expect(!any_ours((uintptr_t)fds, n), 1))
		return real()->poll(fds, n, timeout);
	return do_poll(fds, n, timeout < 0 ? NULL : &t, NULL);
}

SHIM_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	if (__builtin_expect(!any_ours((uintptr_t)fds, n), 1))
		return real()->ppoll(fds, n, timeout, mask);
	if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)) {
		errno = EINVAL;
		return -1;
	}
	return do_poll(fds, n, timeout, mask);
}

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room);

SHIM_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room)
{
	return room / sizeof(*fds) < n ? real()->__poll_chk(fds, n, timeout, room) : poll(fds, n, timeout);
}

SHIM_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	return room / sizeof(*fds) < n ? real()->__ppoll_chk(fds, n, timeout, mask, room) : ppoll(fds, n, timeout, mask);
}
