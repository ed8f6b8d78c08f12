// SPDX-License-Identifier: Apache-2.0
/*
 * The slow halves of the locks.
 *
 * Mutex. A thread sleeps only after it has seen IOF_LOCK_WAITERS in the word that it sleeps on, and whoever may have
 * left others asleep keeps the flag: a thread that went through the slow path takes the lock with the flag set, since
 * it cannot know whether it was the last. So a drop that sees no flag has nobody to wake.
 *
 * Reader-writer lock. Writers queue on `writer`. The one that holds it sets IOF_LOCK_WAITERS in `readers`, which stops
 * new readers, and sleeps until the count is 0; the reader that takes the count there wakes it. Held-back readers set
 * IOF_RWLOCK_SLEEPERS and sleep on the same word under another futex bit; the writer wakes them all when it clears the
 * word. Every change that a sleeper waits for changes the word, and the kernel compares the word before it lets anybody
 * sleep.
 *
 * Death. Sleepers on shared memory wake every 50 ms. One that finds the owner dead (no such thread, or a zombie) puts
 * its own id in the word by compare-and-swap, so one successor wins.
 */
#include "util/lock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "util/sys.h"

#define LOCK_PAUSE_MAX 512 /* 1023 turns of the processor's pause: some twenty microseconds */
#define LOCK_OWNER (~IOF_LOCK_WAITERS)
#define RWLOCK_COUNT (~(IOF_LOCK_WAITERS | IOF_RWLOCK_SLEEPERS))

enum { BIT_ANY = 1, BIT_WRITER = 2, BIT_READERS = 4 };

__thread uint32_t iofi_self_tid __attribute__((tls_model("initial-exec"), visibility("hidden")));

static void forget_tid(void)
{
	iofi_self_tid = 0;
}

/* The one thread that a child begins with has another id than the thread it was forked from. */
__attribute__((constructor)) static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, forget_tid);
}

uint32_t iof_lock_self_shared(void)
{
	if (iof_unlikely(!iofi_self_tid))
		iofi_self_tid = (uint32_t)iofi_syscall(SYS_gettid);
	return iofi_self_tid;
}

/* The state letter of a thread ('Z': a zombie), 0 when /proc does not tell. The name before it may hold a ')' too. */
static char thread_state(uint32_t tid)
{
	char path[32], text[512];
	const char *paren;
	long fd, n;

	snprintf(path, sizeof(path), "/proc/%u/stat", (unsigned)tid);
	fd = iofi_syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = iofi_syscall(SYS_read, (int)fd, text, sizeof(text) - 1);
	(void)iofi_syscall(SYS_close, (int)fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	paren = strrchr(text, ')');
	return paren && paren[1] ? paren[2] : 0;
}

static bool is_dead(uint32_t tid)
{
	char state;

	if (iofi_syscall(SYS_tkill, (int)tid, 0) == -ESRCH)
		return true;
	state = thread_state(tid);
	return state == 'Z' || state == 'X';
}

bool iof_lock_owner_lives(const struct iof_lock *l)
{
	uint32_t owner = atomic_load_explicit(&l->word, memory_order_relaxed) & LOCK_OWNER;

	return owner && !is_dead(owner);
}

void iof_lock_init(struct iof_lock *l, bool shared)
{
	atomic_init(&l->word, 0);
	l->shared = shared;
}

static bool take_over(struct iof_lock *l, uint32_t seen, uint32_t self)
{
	return is_dead(seen & LOCK_OWNER) &&
	       atomic_compare_exchange_strong_explicit(&l->word, &seen, self | IOF_LOCK_WAITERS, memory_order_acquire,
						       memory_order_relaxed);
}

/*
 * Looks less and less often: while nobody looks, the owner keeps the lock's line and what it protects in its cache, and may well take the
 * lock again and again, which gets more done than handing it to and fro. That others sleep is no reason to sleep too: a
 * lock that is dropped is free, and the one who is woken may find it taken.
 */
static bool spin(struct iof_lock *l, uint32_t self)
{
	for (int pause = 1; pause <= LOCK_PAUSE_MAX; pause *= 2) {
		uint32_t seen = atomic_load_explicit(&l->word, memory_order_relaxed);

		if (!seen && atomic_compare_exchange_weak_explicit(&l->word, &seen, self, memory_order_acquire,
								   memory_order_relaxed))
			return true;
		for (int i = 0; i < pause; i++)
			iofi_relax();
	}
	return false;
}

void iof_lock_take_slow(struct iof_lock *l, uint32_t self)
{
	if (spin(l, self))
		return;
	for (;;) {
		uint32_t seen = atomic_load_explicit(&l->word, memory_order_relaxed);

		if (!seen) {
			if (atomic_compare_exchange_strong_explicit(&l->word, &seen, self | IOF_LOCK_WAITERS,
								    memory_order_acquire, memory_order_relaxed))
				return;
			continue;
		}
		if (!(seen & IOF_LOCK_WAITERS)) {
			if (!atomic_compare_exchange_strong_explicit(&l->word, &seen, seen | IOF_LOCK_WAITERS,
								     memory_order_relaxed, memory_order_relaxed))
				continue;
			seen |= IOF_LOCK_WAITERS;
		}
		if (iofi_futex_wait(&l->word, seen, BIT_ANY, l->shared) == -ETIMEDOUT && take_over(l, seen, self))
			return;
	}
}

void iof_lock_wake(_Atomic uint32_t *word, bool shared)
{
	iofi_futex_wake(word, 1, BIT_ANY, shared);
}

void iof_rwlock_init(struct iof_rwlock *l, bool shared)
{
	atomic_init(&l->readers, 0);
	iof_lock_init(&l->writer, shared);
}

void iof_rwlock_read_wake(_Atomic uint32_t *readers, bool shared)
{
	iofi_futex_wake(readers, 1, BIT_WRITER, shared);
}

/* A writer that died inside left readers out for good: becoming the next writer, for a moment, lets them in. */
static void rescue_readers(struct iof_rwlock *l)
{
	if (!iof_lock_owner_lives(&l->writer)) {
		iof_rwlock_write(l);
		iof_rwlock_write_drop(l);
	}
}

void iof_rwlock_read_slow(struct iof_rwlock *l)
{
	while (!iof_rwlock_read_try(l)) {
		uint32_t n = atomic_load_explicit(&l->readers, memory_order_relaxed);

		if (!(n & IOF_LOCK_WAITERS))
			continue;
		if (!(n & IOF_RWLOCK_SLEEPERS)) {
			if (!atomic_compare_exchange_strong_explicit(&l->readers, &n, n | IOF_RWLOCK_SLEEPERS,
								     memory_order_relaxed, memory_order_relaxed))
				continue;
			n |= IOF_RWLOCK_SLEEPERS;
		}
		if (iofi_futex_wait(&l->readers, n, BIT_READERS, l->writer.shared) == -ETIMEDOUT)
			rescue_readers(l);
	}
}

bool iof_rwlock_write_try(struct iof_rwlock *l)
{
	uint32_t none = 0;

	if (!iof_lock_try(&l->writer))
		return false;
	if (atomic_compare_exchange_strong_explicit(&l->readers, &none, IOF_LOCK_WAITERS, memory_order_acquire,
						    memory_order_relaxed))
		return true;
	iof_lock_drop(&l->writer);
	return false;
}

void iof_rwlock_write(struct iof_rwlock *l)
{
	uint32_t n;

	iof_lock_take(&l->writer);
	atomic_fetch_or_explicit(&l->readers, IOF_LOCK_WAITERS, memory_order_relaxed);
	while ((n = atomic_load_explicit(&l->readers, memory_order_acquire)) & RWLOCK_COUNT)
		(void)iofi_futex_wait(&l->readers, n, BIT_WRITER, l->writer.shared);
}

void iof_rwlock_write_drop(struct iof_rwlock *l)
{
	if (atomic_exchange_explicit(&l->readers, 0, memory_order_release) & IOF_RWLOCK_SLEEPERS)
		iofi_futex_wake(&l->readers, INT_MAX, BIT_READERS, l->writer.shared);
	iof_lock_drop(&l->writer);
}
