/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Noticing that memory goes: munmap(), mremap(), madvise(MADV_DONTNEED, MADV_FREE, MADV_REMOVE) of ranges that are in the cache, by userfaultfd.
 *
 * Ranges are registered for write-protection faults, of which there are none because nothing is protected; what is wanted are the
 * events. The system holds whoever unmaps until the event is read, so the *reader* thread must never wait: the unmapping thread may hold any lock, Python's GIL
 * and the cache's own included. All it does is to put ranges into a queue. The *worker* thread, and every get that finds `unsettled` above 0,
 * take them out and drop the entries.
 *
 * Why a get cannot be late: the reader raises `unsettled` before it reads, and lowers it again only when the ranges are in the queue, where they count
 * themselves. munmap() returns after that read. So a get that begins after munmap() has returned finds `unsettled` above 0 until the entry is gone.
 *
 * When the queue is full it becomes one range, everything. Memory that cannot be registered (private file mappings, older kernels) is mapped all the same and
 * counted as unwatched. Ranges stay registered until the cache is destroyed: an event about memory that is not in the cache is quickly dropped.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "memory/cache.h"
#include "memory/os.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define EVENTS (UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP)
#define QUEUE 256u
#define READ_AT_ONCE 16u

struct iofi_watch {
	struct iof_map_cache *cache;
	int uffd, stop, work; /* eventfds: for both threads to end; for the worker to look */
	bool reading, working; /* threads that run */
	pthread_t reader, worker;
	_Atomic bool ending;
	_Atomic uint32_t head, tail; /* written by the reader; written under the cache's lock */
	_Atomic bool everything; /* the queue was full */
	struct iof_range queue[QUEUE];
};

/* ---- the queue ---- */

static void push(struct iofi_watch *w, uint64_t start, uint64_t end)
{
	uint32_t head = atomic_load_explicit(&w->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&w->tail, memory_order_acquire) == QUEUE) {
		/* Counted once: whoever clears the flag takes one off. */
		if (!atomic_exchange_explicit(&w->everything, true, memory_order_acq_rel))
			atomic_fetch_add_explicit(&w->cache->unsettled, 1, memory_order_release);
		return;
	}
	w->queue[head % QUEUE] = (struct iof_range){ start, end - 1 };
	atomic_fetch_add_explicit(&w->cache->unsettled, 1, memory_order_release);
	atomic_store_explicit(&w->head, head + 1, memory_order_release);
}

static void drop_range(struct iof_map_cache *c, struct iof_range r, struct iof_map_entry **gone)
{
	c->generation++;
	iofi_cache_take_range(c, r, gone);
	atomic_fetch_add_explicit(&c->events, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&c->unsettled, 1, memory_order_release);
}

void iofi_watch_drain(struct iof_map_cache *c, struct iof_map_entry **gone)
{
	struct iofi_watch *w = c->watch;
	uint32_t tail = atomic_load_explicit(&w->tail, memory_order_relaxed);

	while (tail != atomic_load_explicit(&w->head, memory_order_acquire)) {
		drop_range(c, w->queue[tail % QUEUE], gone);
		atomic_store_explicit(&w->tail, ++tail, memory_order_release);
	}
	if (atomic_exchange_explicit(&w->everything, false, memory_order_acq_rel))
		drop_range(c, IOF_RANGE_ALL, gone);
}

/* ---- the threads ---- */

static void ring(int eventfd)
{
	uint64_t one = 1;

	(void)!write(eventfd, &one, sizeof(one));
}

static void take_in(struct iofi_watch *w, const struct uffd_msg *m)
{
	if (m->event == UFFD_EVENT_UNMAP || m->event == UFFD_EVENT_REMOVE)
		push(w, m->arg.remove.start, m->arg.remove.end);
	else if (m->event == UFFD_EVENT_REMAP)
		push(w, m->arg.remap.from, m->arg.remap.from + m->arg.remap.len);
}

static bool wait_for(int fd, struct iofi_watch *w)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = w->stop, .events = POLLIN } };

	while (iofi_os(poll(p, 2, -1)) == -EINTR)
		;
	return !atomic_load_explicit(&w->ending, memory_order_acquire);
}

static void *read_events(void *arg)
{
	struct iofi_watch *w = arg;
	struct uffd_msg m[READ_AT_ONCE];
	long n;

	while (wait_for(w->uffd, w)) {
		atomic_fetch_add_explicit(&w->cache->unsettled, 1, memory_order_seq_cst);
		n = iofi_os(read(w->uffd, m, sizeof(m)));
		for (long i = 0; i < n / (long)sizeof(*m); i++)
			take_in(w, &m[i]);
		atomic_fetch_sub_explicit(&w->cache->unsettled, 1, memory_order_release);
		ring(w->work);
	}
	return NULL;
}

static void *work_off(void *arg)
{
	struct iofi_watch *w = arg;
	uint64_t rung;

	while (wait_for(w->work, w)) {
		(void)!read(w->work, &rung, sizeof(rung));
		iofi_cache_settle(w->cache);
	}
	return NULL;
}

/* Signals are for the process's own threads; SIGSEGV and SIGBUS must come, guard lives on them. */
static int start(pthread_t *thread, void *(*fn)(void *), struct iofi_watch *w)
{
	sigset_t most, before;
	int rc;

	sigfillset(&most);
	sigdelset(&most, SIGSEGV);
	sigdelset(&most, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &most, &before);
	rc = pthread_create(thread, NULL, fn, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

/* ---- making it ---- */

/* Without the flag first: where it is allowed, memory that the kernel touches itself can be watched too. */
static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = EVENTS | UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	long fd = iofi_os(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)), rc;

	if (fd == -EPERM)
		fd = iofi_os(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
	if (fd < 0)
		return (int)fd;
	rc = iofi_os(ioctl((int)fd, UFFDIO_API, &api));
	if (rc >= 0 && (api.features & EVENTS) == EVENTS)
		return (int)fd;
	(void)iofi_os(close((int)fd));
	return rc < 0 ? (int)rc : -EOPNOTSUPP;
}

static int open_all(struct iofi_watch *w)
{
	int rc;

	w->uffd = open_uffd();
	if (w->uffd < 0)
		return w->uffd;
	w->stop = (int)iofi_os(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	w->work = (int)iofi_os(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (w->stop < 0 || w->work < 0)
		return w->stop < 0 ? w->stop : w->work;
	rc = start(&w->reader, read_events, w);
	w->reading = !rc;
	if (!rc) {
		rc = start(&w->worker, work_off, w);
		w->working = !rc;
	}
	return rc;
}

int iofi_watch_create(struct iof_map_cache *c)
{
	struct iofi_watch *w = iof_mem_zget(c->alloc, sizeof(*w), IOF_CACHELINE);
	int rc;

	if (!w)
		return -ENOMEM;
	w->cache = c;
	w->stop = w->work = -1;
	c->watch = w;
	rc = open_all(w);
	if (rc)
		iofi_watch_destroy(c);
	return rc;
}

void iofi_watch_destroy(struct iof_map_cache *c)
{
	struct iofi_watch *w = c->watch;

	if (!w)
		return;
	atomic_store_explicit(&w->ending, true, memory_order_release);
	if (w->stop >= 0)
		ring(w->stop);
	if (w->reading)
		pthread_join(w->reader, NULL);
	if (w->working)
		pthread_join(w->worker, NULL);
	for (unsigned i = 0; i < 3; i++)
		if ((int[]){ w->uffd, w->stop, w->work }[i] >= 0)
			(void)iofi_os(close((int[]){ w->uffd, w->stop, w->work }[i])); /* lets go whoever waits for the reader */
	c->watch = NULL;
	iof_mem_put(c->alloc, w, sizeof(*w));
}

bool iofi_watch_range(struct iof_map_cache *c, struct iof_range r)
{
	struct uffdio_register reg = { .range = { r.start, iof_range_length(r) }, .mode = UFFDIO_REGISTER_MODE_WP };

	return iofi_os(ioctl(c->watch->uffd, UFFDIO_REGISTER, &reg)) >= 0;
}
