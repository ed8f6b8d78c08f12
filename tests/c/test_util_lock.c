/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* The mutex and the reader-writer lock, among threads and among processes that may die. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "util/lock.h"

#define THREADS 4
#define TURNS 20000

struct shared {
	struct iof_lock lock;
	struct iof_rwlock rw;
	uint64_t a, b; /* equal whenever nobody is inside */
	_Atomic uint32_t step;
};

static struct shared *shared_new(bool shared)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		abort();
	iof_lock_init(&s->lock, shared);
	iof_rwlock_init(&s->rw, shared);
	return s;
}

static void shared_free(struct shared *s)
{
	munmap(s, sizeof(*s));
}

static void *lock_turns(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < TURNS; i++) {
		if (i % 3 || !iof_lock_try(&s->lock))
			iof_lock_take(&s->lock);
		s->a++;
		if (i % 1024 == 0)
			usleep(50);
		s->b++;
		iof_lock_drop(&s->lock);
	}
	return NULL;
}

static void *rw_turns(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < TURNS; i++) {
		if (i % 8) {
			iof_rwlock_read(&s->rw);
			if (s->a != s->b)
				atomic_store(&s->step, 99);
			if (i % 512 == 1)
				usleep(50);
			iof_rwlock_read_drop(&s->rw);
			continue;
		}
		if (i % 16 || !iof_rwlock_write_try(&s->rw))
			iof_rwlock_write(&s->rw);
		s->a++;
		if (i % 1024 == 0)
			usleep(50);
		s->b++;
		iof_rwlock_write_drop(&s->rw);
	}
	return NULL;
}

static void run_threads(bool shared, void *(*fn)(void *), uint64_t want)
{
	struct shared *s = shared_new(shared);
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, fn, s), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(s->a, want);
	CHECK_EQ(s->b, want);
	CHECK_EQ(s->step, 0);
	CHECK_EQ(s->lock.word, 0);
	CHECK_EQ(s->rw.readers, 0);
	CHECK_EQ(s->rw.writer.word, 0);
	shared_free(s);
}

TEST(lock_excludes_private)
{
	run_threads(false, lock_turns, THREADS * TURNS);
}

TEST(lock_excludes_shared)
{
	run_threads(true, lock_turns, THREADS * TURNS);
}

TEST(rwlock_excludes_private)
{
	run_threads(false, rw_turns, THREADS * TURNS / 8);
}

TEST(rwlock_excludes_shared)
{
	run_threads(true, rw_turns, THREADS * TURNS / 8);
}

static void run_processes(void *(*fn)(void *), uint64_t want)
{
	struct shared *s = shared_new(true);
	pid_t child[3];

	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			fn(s);
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++) {
		int status;

		CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(s->step, 0);
	CHECK_EQ(s->a, want);
	CHECK_EQ(s->lock.word, 0);
	CHECK_EQ(s->rw.readers, 0);
	shared_free(s);
}

TEST(lock_excludes_processes)
{
	run_processes(lock_turns, 3 * TURNS);
}

TEST(rwlock_excludes_processes)
{
	run_processes(rw_turns, 3 * TURNS / 8);
}

TEST(lock_try_and_words)
{
	struct shared *s = shared_new(true);

	CHECK(iof_lock_try(&s->lock));
	CHECK(!iof_lock_try(&s->lock));
	CHECK_EQ(s->lock.word, syscall(SYS_gettid));
	iof_lock_drop(&s->lock);
	CHECK(iof_rwlock_write_try(&s->rw));
	CHECK(!iof_rwlock_write_try(&s->rw));
	CHECK(!iof_rwlock_read_try(&s->rw));
	iof_rwlock_write_drop(&s->rw);
	CHECK(iof_rwlock_read_try(&s->rw));
	CHECK(iof_rwlock_read_try(&s->rw));
	CHECK(!iof_rwlock_write_try(&s->rw));
	CHECK_EQ(s->rw.readers, 2);
	iof_rwlock_read_drop(&s->rw);
	iof_rwlock_read_drop(&s->rw);
	CHECK(iof_rwlock_write_try(&s->rw));
	iof_rwlock_write_drop(&s->rw);
	CHECK_EQ(s->rw.writer.word, 0);
	shared_free(s);
}

TEST(thread_id_is_right_after_fork)
{
	int status;
	pid_t child;

	CHECK_EQ(iof_lock_self_shared(), syscall(SYS_gettid));
	child = fork();
	if (!child)
		_exit(iof_lock_self_shared() != (uint32_t)syscall(SYS_gettid));
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

/* A child takes what `take` takes and dies with it; a zombie until somebody waits for it. */
static pid_t die_holding(struct shared *s, void (*take)(struct shared *))
{
	pid_t child = fork();

	if (!child) {
		take(s);
		atomic_store(&s->step, 1);
		raise(SIGKILL);
	}
	while (!atomic_load(&s->step))
		usleep(100);
	return child;
}

static void take_lock(struct shared *s)
{
	iof_lock_take(&s->lock);
}

static void take_write(struct shared *s)
{
	iof_rwlock_write(&s->rw);
}

TEST(lock_of_a_reaped_owner_is_taken_over)
{
	struct shared *s = shared_new(true);
	pid_t child = die_holding(s, take_lock);

	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_EQ(s->lock.word, child);
	CHECK(!iof_lock_try(&s->lock));
	iof_lock_take(&s->lock);
	CHECK_EQ(s->lock.word & ~IOF_LOCK_WAITERS, syscall(SYS_gettid));
	iof_lock_drop(&s->lock);
	CHECK_EQ(s->lock.word, 0);
	shared_free(s);
}

TEST(lock_of_a_zombie_is_taken_over)
{
	struct shared *s = shared_new(true);
	pid_t child = die_holding(s, take_lock);

	iof_lock_take(&s->lock);
	iof_lock_drop(&s->lock);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	shared_free(s);
}

TEST(rwlock_of_a_dead_writer_opens_to_readers)
{
	struct shared *s = shared_new(true);
	pid_t child = die_holding(s, take_write);

	CHECK(!iof_rwlock_read_try(&s->rw));
	iof_rwlock_read(&s->rw);
	CHECK_EQ(s->rw.readers, 1);
	iof_rwlock_read_drop(&s->rw);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	shared_free(s);
}

TEST(rwlock_of_a_dead_writer_opens_to_writers)
{
	struct shared *s = shared_new(true);
	pid_t child = die_holding(s, take_write);

	CHECK_EQ(waitpid(child, NULL, 0), child);
	iof_rwlock_write(&s->rw);
	iof_rwlock_write_drop(&s->rw);
	iof_rwlock_read(&s->rw);
	iof_rwlock_read_drop(&s->rw);
	CHECK_EQ(s->rw.readers, 0);
	shared_free(s);
}

/* A living owner is never robbed, however long it stays. */
TEST(lock_of_a_living_owner_is_waited_for)
{
	struct shared *s = shared_new(true);
	pid_t child = fork();

	if (!child) {
		iof_lock_take(&s->lock);
		atomic_store(&s->step, 1);
		usleep(180000);
		atomic_store(&s->step, 2);
		iof_lock_drop(&s->lock);
		_exit(0);
	}
	while (!atomic_load(&s->step))
		usleep(100);
	iof_lock_take(&s->lock);
	CHECK_EQ(s->step, 2);
	iof_lock_drop(&s->lock);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	shared_free(s);
}

/* An owner thread that ended without dropping, in a process that lives on. */
static void *take_and_end(void *arg)
{
	take_lock(arg);
	return NULL;
}

TEST(lock_of_an_ended_thread_is_taken_over)
{
	struct shared *s = shared_new(true);
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, take_and_end, s), 0);
	pthread_join(t, NULL);
	CHECK(s->lock.word);
	iof_lock_take(&s->lock);
	iof_lock_drop(&s->lock);
	CHECK_EQ(s->lock.word, 0);
	shared_free(s);
}

static void *drop_later(void *arg)
{
	struct shared *s = arg;

	iof_rwlock_read(&s->rw);
	atomic_store(&s->step, 1);
	while (!(atomic_load(&s->rw.readers) & IOF_LOCK_WAITERS))
		usleep(100);
	usleep(2000);
	s->a = 5;
	iof_rwlock_read_drop(&s->rw);
	return NULL;
}

TEST(rwlock_writer_holds_new_readers_back)
{
	struct shared *s = shared_new(false);
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, drop_later, s), 0);
	while (!atomic_load(&s->step))
		usleep(100);
	CHECK(iof_rwlock_read_try(&s->rw));
	iof_rwlock_read_drop(&s->rw);
	iof_rwlock_write(&s->rw);
	CHECK_EQ(s->a, 5);
	CHECK(!iof_rwlock_read_try(&s->rw));
	iof_rwlock_write_drop(&s->rw);
	pthread_join(t, NULL);
	shared_free(s);
}
