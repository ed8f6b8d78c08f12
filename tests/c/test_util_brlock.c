/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* The lock for many readers on lines of their own, among threads and among processes that may die. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "util/brlock.h"

#define THREADS 4
#define TURNS 8000

struct world {
	struct iof_brlock lock;
	uint64_t a, b; /* equal whenever no writer is inside */
	_Atomic uint32_t step;
};

static struct world *world_new(bool shared)
{
	struct world *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (w == MAP_FAILED)
		abort();
	iof_brlock_init(&w->lock, shared);
	return w;
}

static void world_free(struct world *w)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		CHECK_EQ(w->lock.stripe[i].readers, 0);
	CHECK_EQ(w->lock.closed, 0);
	CHECK_EQ(w->lock.writer.word, 0);
	munmap(w, sizeof(*w));
}

static void read_once(struct world *w, bool stay)
{
	iof_brlock_read(&w->lock);
	if (w->a != w->b)
		atomic_store(&w->step, 99);
	if (stay)
		usleep(50);
	iof_brlock_read_drop(&w->lock);
}

static void write_once(struct world *w, bool stay)
{
	iof_brlock_write(&w->lock);
	w->a++;
	if (stay)
		usleep(50);
	w->b++;
	iof_brlock_write_drop(&w->lock);
}

static void *turns(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < TURNS; i++) {
		if (i % 8)
			read_once(w, i % 512 == 1);
		else
			write_once(w, i % 1024 == 0);
	}
	return NULL;
}

static void exclude_threads(bool shared)
{
	struct world *w = world_new(shared);
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, turns, w), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(w->a, THREADS * TURNS / 8);
	CHECK_EQ(w->b, THREADS * TURNS / 8);
	CHECK_EQ(w->step, 0);
	world_free(w);
}

TEST(brlock_excludes_private)
{
	exclude_threads(false);
}

TEST(brlock_excludes_shared)
{
	exclude_threads(true);
}

TEST(brlock_excludes_processes)
{
	struct world *w = world_new(true);
	pid_t child[3];
	int status;

	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			turns(w);
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(w->step, 0);
	CHECK_EQ(w->a, 3 * TURNS / 8);
	world_free(w);
}

/* More threads than stripes, all inside at once: no counter loses one. */
static void *stay_inside(void *arg)
{
	struct world *w = arg;

	iof_brlock_read(&w->lock);
	atomic_fetch_add(&w->step, 1);
	while (atomic_load(&w->step) < 100)
		usleep(100);
	iof_brlock_read_drop(&w->lock);
	return NULL;
}

TEST(brlock_counts_readers_that_share_a_stripe)
{
	struct world *w = world_new(false);
	uint32_t inside = 0, many = 3 * IOF_STRIPES;
	pthread_t t[3 * IOF_STRIPES];

	for (uint32_t i = 0; i < many; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, stay_inside, w), 0);
	while (atomic_load(&w->step) < many)
		usleep(100);
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		inside += atomic_load(&w->lock.stripe[i].readers);
	CHECK_EQ(inside, many);
	atomic_store(&w->step, 100);
	iof_brlock_write(&w->lock);
	iof_brlock_write_drop(&w->lock);
	for (uint32_t i = 0; i < many; i++)
		pthread_join(t[i], NULL);
	world_free(w);
}

static void *drop_later(void *arg)
{
	struct world *w = arg;

	iof_brlock_read(&w->lock);
	atomic_store(&w->step, 1);
	while (!atomic_load(&w->lock.closed))
		usleep(100);
	usleep(2000);
	w->a = 5;
	iof_brlock_read_drop(&w->lock);
	return NULL;
}

TEST(brlock_writer_waits_and_holds_new_readers_back)
{
	struct world *w = world_new(false);
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, drop_later, w), 0);
	while (!atomic_load(&w->step))
		usleep(100);
	CHECK(iof_brlock_read_try(&w->lock));
	iof_brlock_read_drop(&w->lock);
	iof_brlock_write(&w->lock);
	CHECK_EQ(w->a, 5);
	CHECK(!iof_brlock_read_try(&w->lock));
	iof_brlock_write_drop(&w->lock);
	pthread_join(t, NULL);
	world_free(w);
}

static pid_t die_writing(struct world *w)
{
	pid_t child = fork();

	if (!child) {
		iof_brlock_write(&w->lock);
		atomic_store(&w->step, 1);
		kill(getpid(), SIGKILL);
	}
	while (!atomic_load(&w->step))
		usleep(100);
	return child;
}

TEST(brlock_of_a_dead_writer_opens_to_readers)
{
	struct world *w = world_new(true);
	pid_t child = die_writing(w);

	CHECK(!iof_brlock_read_try(&w->lock));
	iof_brlock_read(&w->lock);
	iof_brlock_read_drop(&w->lock);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	world_free(w);
}

TEST(brlock_of_a_dead_writer_opens_to_writers)
{
	struct world *w = world_new(true);
	pid_t child = die_writing(w);

	CHECK_EQ(waitpid(child, NULL, 0), child);
	write_once(w, false);
	read_once(w, false);
	CHECK_EQ(w->a, 1);
	world_free(w);
}
