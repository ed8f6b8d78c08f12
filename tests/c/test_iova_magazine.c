/* SPDX-License-Identifier: Apache-2.0 */
/*
 * needs: tsan
 *
 * Magazines against a list of what is out, alone and with many threads: nobody gets what another has, nothing is lost in a magazine when the space is full, when threads end or
 * in a forked child, wrong gives are refused, and refused memory changes nothing.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#include "iova/magazine.h"

#define PAGE UINT64_C(4096)
#define OUT_MAX 600

struct out {
	uint64_t iova, length;
};

static struct iof_alloc heap;
static struct iof_space *space;
static struct iof_recycle *rec;
static struct iof_lock lock;
static struct iof_magazines *mags;
static struct out out[OUT_MAX];
static unsigned n_out;

static void start(uint64_t granule, struct iof_range usable)
{
	iof_alloc_init_heap(&heap);
	iof_lock_init(&lock, false);
	CHECK_EQ(iof_space_create(&heap, &space), 0);
	if (usable.start)
		CHECK_EQ(iof_space_reserve(space, (struct iof_range){ 0, usable.start - 1 }, 1), 0);
	if (usable.last != UINT64_MAX)
		CHECK_EQ(iof_space_reserve(space, (struct iof_range){ usable.last + 1, UINT64_MAX }, 1), 0);
	CHECK_EQ(iof_recycle_create(&heap, space, granule, &rec), 0);
	CHECK_EQ(iof_magazines_create(&heap, rec, &lock, &mags), 0);
	n_out = 0;
}

/* All that is out by now has been given back. */
static void finish(void)
{
	CHECK(iof_magazines_is_valid(mags));
	CHECK_EQ(iof_recycle_taken(rec), iof_magazines_held(mags));
	iof_magazines_trim(mags);
	CHECK_EQ(iof_magazines_held(mags), 0);
	CHECK_EQ(iof_space_areas(space), 0);
	iof_magazines_destroy(mags);
	iof_recycle_destroy(rec);
	CHECK(iof_space_is_valid(space));
	iof_space_destroy(space);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

static void check_new(struct out o, struct iof_range usable)
{
	uint64_t size = iof_recycle_size(rec, o.length);
	struct iof_range r = { o.iova, o.iova + size - 1 }, found;

	CHECK(iof_range_contains(usable, r));
	for (unsigned i = 0; i < n_out; i++) {
		uint64_t other = iof_recycle_size(rec, out[i].length);

		CHECK(!iof_range_intersects(r, (struct iof_range){ out[i].iova, out[i].iova + other - 1 }));
	}
	CHECK(iof_magazines_find(mags, r.last, &found) && found.start == r.start && found.last == r.last);
}

/* What is out, in order, is what first() walks over, whatever lies in magazines. */
static void same_out(void)
{
	struct iof_range rest = IOF_RANGE_ALL, got;
	unsigned n = 0;

	for (; iof_magazines_first(mags, rest, &got); rest.start = got.last + 1, n++) {
		unsigned i = 0;

		while (i < n_out && out[i].iova != got.start)
			i++;
		CHECK(i < n_out);
		CHECK_EQ(iof_range_length(got), iof_recycle_size(rec, out[i].length));
	}
	CHECK_EQ(n, n_out);
	CHECK_EQ(iof_recycle_live(rec) - iof_magazines_held(mags), n_out);
}

static int take(bool locked, uint64_t length, uint64_t *iova)
{
	int rc;

	if (!locked)
		return iof_magazine_take(mags, length, iova);
	iof_lock_take(&lock);
	rc = iof_magazines_take(mags, length, iova);
	iof_lock_drop(&lock);
	return rc;
}

static int give(bool locked, uint64_t iova, uint64_t length)
{
	int rc;

	if (!locked)
		return iof_magazine_give(mags, iova, length);
	iof_lock_take(&lock);
	rc = iof_magazines_give(mags, iova, length);
	iof_lock_drop(&lock);
	return rc;
}

static void run_model(uint64_t seed, uint64_t granule, struct iof_range usable, uint64_t longest, bool full)
{
	unsigned refused = 0;

	start(granule, usable);
	for (unsigned step = 0; step < 12000; step++) {
		struct out o = { 0, 1 + (check_random(&seed) % longest >> check_random(&seed) % 22) };
		unsigned i = n_out ? check_random(&seed) % n_out : 0;
		bool locked = check_random(&seed) % 4 == 0;
		int rc;

		if (n_out < OUT_MAX && check_random(&seed) % 100 < (step / 1500 % 2 ? 35 : 65)) {
			rc = take(locked, o.length, &o.iova);
			CHECK(rc == 0 || rc == -ENOSPC);
			refused += rc != 0;
			if (!rc) {
				check_new(o, usable);
				out[n_out++] = o;
			}
		} else if (n_out) {
			CHECK_EQ(give(locked, out[i].iova, out[i].length), 0);
			CHECK(give(locked, out[i].iova, out[i].length) < 0);
			CHECK(give(!locked, out[i].iova, out[i].length) < 0);
			out[i] = out[--n_out];
		}
		if (step % 997 == 0)
			iof_magazines_trim(mags);
		CHECK(step % 32 || iof_magazines_is_valid(mags));
		if (step % 128 == 0)
			same_out();
	}
	CHECK_EQ(refused > 0, full);
	while (n_out--)
		CHECK_EQ(give(false, out[n_out].iova, out[n_out].length), 0);
	finish();
}

TEST(model_roomy)
{
	run_model(61, PAGE, IOF_RANGE_ALL, UINT64_C(8) << 20, false);
}

TEST(model_tight)
{
	run_model(62, PAGE, (struct iof_range){ 0x1000000, 0x3ffffff }, UINT64_C(4) << 20, true);
}

TEST(model_smaller_than_a_window)
{
	run_model(63, PAGE, (struct iof_range){ 0x1001000, 0x10fffff }, 64 << 10, true);
}

TEST(model_other_granules)
{
	run_model(64, 64, (struct iof_range){ 0x1000000, 0x2ffffff }, UINT64_C(4) << 20, true);
	run_model(65, 1 << 20, (struct iof_range){ 0x1000000, 0x4ffffff }, UINT64_C(4) << 20, true);
	run_model(66, UINT64_C(4) << 20, (struct iof_range){ 0x1000000, 0x3fffffff }, UINT64_C(4) << 20, true);
}

static void wrong_ones(bool locked)
{
	uint64_t a, b, big;

	start(PAGE, IOF_RANGE_ALL);
	CHECK_EQ(take(locked, 0, &a), -EINVAL);
	CHECK_EQ(take(locked, UINT64_MAX, &a), -EOVERFLOW);
	CHECK_EQ(take(locked, PAGE, &a), 0);
	CHECK_EQ(take(locked, 2 * PAGE, &b), 0);
	CHECK_EQ(take(locked, 5 << 20, &big), 0);
	CHECK_EQ(give(locked, a, 0), -EINVAL);
	CHECK_EQ(give(locked, a, 2 * PAGE), -ENOENT);
	CHECK_EQ(give(locked, a + 1, PAGE), -ENOENT);
	CHECK_EQ(give(locked, a ^ PAGE, PAGE), -EINVAL);
	CHECK_EQ(give(locked, UINT64_C(1) << 50, PAGE), -ENOENT);
	CHECK_EQ(give(locked, UINT64_MAX, PAGE), -ENOENT);
	CHECK_EQ(give(locked, big + PAGE, 5 << 20), -ENOENT);
	CHECK_EQ(give(locked, a, 1), 0); /* the same class */
	CHECK_EQ(give(locked, a, PAGE), -EINVAL);
	CHECK_EQ(give(locked, big, 5 << 20), 0);
	CHECK_EQ(give(locked, big, 5 << 20), -ENOENT);
	CHECK_EQ(give(locked, b, 2 * PAGE), 0);
	finish();
}

TEST(wrong_gives)
{
	wrong_ones(false);
	wrong_ones(true);
}

/* After the allowed list has changed, nothing comes from outside it, whatever was in magazines, or is given back then. */
TEST(retired_windows)
{
	const struct iof_range allowed = { 0x40000000, 0x4fffffff };
	static uint64_t old[300], new[300];

	start(PAGE, IOF_RANGE_ALL);
	for (unsigned i = 0; i < 300; i++)
		CHECK_EQ(iof_magazine_take(mags, PAGE, &old[i]), 0);
	for (unsigned i = 0; i < 100; i++)
		CHECK_EQ(iof_magazine_give(mags, old[i], PAGE), 0);
	CHECK_EQ(iof_space_allow(space, &allowed, 1), 0);
	iof_magazines_retire(mags);
	CHECK(iof_magazines_is_valid(mags));
	for (unsigned i = 100; i < 300; i++) {
		CHECK_EQ(iof_magazine_give(mags, old[i], PAGE), 0);
		CHECK_EQ(iof_magazine_take(mags, PAGE, &new[i]), 0);
		CHECK(iof_range_has(allowed, new[i]));
	}
	CHECK_EQ(iof_magazine_give(mags, old[5], PAGE), -ENOENT);
	for (unsigned i = 100; i < 300; i++)
		CHECK_EQ(iof_magazine_give(mags, new[i], PAGE), 0);
	finish();
}

TEST(memory_refused_at_every_point)
{
	unsigned refused = 0;
	uint64_t seed = 67, iova;
	int rc = -ENOMEM;
	bool over;

	start(PAGE, IOF_RANGE_ALL);
	iof_magazines_destroy(mags);
	for (int n = 1; rc; n++) {
		iof_alloc_fail_nth(&heap, n);
		rc = iof_magazines_create(&heap, rec, &lock, &mags);
		iof_alloc_fail_nth(&heap, 0);
		CHECK(!rc || rc == -ENOMEM);
	}
	for (unsigned i = 0; i < OUT_MAX; i++) {
		uint64_t length = UINT64_C(1) << (12 + check_random(&seed) % 11);

		for (int n = 1;; n++) { /* a magazine that there is no memory for is done without */
			iof_alloc_fail_nth(&heap, n);
			rc = iof_magazine_take(mags, length, &iova);
			over = iof_alloc_fail_nth(&heap, 0) > 0;
			CHECK(iof_magazines_is_valid(mags));
			CHECK(!rc || rc == -ENOMEM);
			refused += rc != 0;
			if (over)
				break;
			if (!rc)
				CHECK_EQ(iof_magazine_give(mags, iova, length), 0);
			CHECK_EQ(iof_recycle_taken(rec), n_out + iof_magazines_held(mags));
			iof_magazines_trim(mags);
		}
		CHECK_EQ(rc, 0);
		out[n_out++] = (struct out){ iova, length };
	}
	CHECK(refused > 50);
	same_out();
	iof_alloc_fail_nth(&heap, 1); /* the first that a give asks for */
	while (n_out--)
		CHECK_EQ(iof_magazine_give(mags, out[n_out].iova, out[n_out].length), 0);
	iof_alloc_fail_nth(&heap, 0);
	finish();
}

/* ---- threads ---- */

#define TEAM 12u
#define FIELD ((unsigned)(0x3000000 / 4096)) /* pages of the usable range */
#define BASE UINT64_C(0x1000000)

static const struct iof_range field = { BASE, BASE + (uint64_t)FIELD * 4096 - 1 };
static _Atomic uint8_t owned[FIELD]; /* does somebody have this page? */
static _Atomic unsigned wrongs, full;
static _Atomic uint64_t box[64]; /* what one gives and another finds: iova | log2 of the length */

static void own(uint64_t iova, unsigned shift, uint8_t now)
{
	for (uint64_t at = iova; at < iova + (UINT64_C(1) << shift); at += 4096)
		if (atomic_exchange(&owned[(at - BASE) / 4096], now) == now)
			atomic_fetch_add(&wrongs, 1);
}

static void let_go(uint64_t both)
{
	unsigned shift = both & 63;
	uint64_t iova = both - shift;

	own(iova, shift, 0);
	if (iof_magazine_give(mags, iova, UINT64_C(1) << shift))
		atomic_fetch_add(&wrongs, 1);
}

/* Takes, keeps for a while, gives back itself or leaves it to somebody else. */
static void *play(void *arg)
{
	uint64_t mine[40], seed = 71 + (uintptr_t)arg, iova, other;
	unsigned n = 0;

	for (unsigned i = 0; i < 6000; i++) {
		unsigned shift = 12 + (unsigned)(check_random(&seed) % 64 ? check_random(&seed) % 3 : check_random(&seed) % 10);

		if (n < 40 && check_random(&seed) % 2) {
			int rc = iof_magazine_take(mags, UINT64_C(1) << shift, &iova);

			if (rc) {
				atomic_fetch_add(rc == -ENOSPC ? &full : &wrongs, 1);
				continue;
			}
			own(iova, shift, 1);
			mine[n++] = iova | shift;
		} else if (n) {
			other = mine[--n];
			if (check_random(&seed) % 2)
				other = atomic_exchange(&box[check_random(&seed) % 64], other);
			if (other)
				let_go(other);
		}
		if (i % 2000 == 1999) {
			iof_lock_take(&lock);
			iof_magazines_trim(mags);
			iof_lock_drop(&lock);
		}
	}
	while (n)
		let_go(mine[--n]);
	return NULL;
}

static void play_all(unsigned n)
{
	pthread_t threads[TEAM];

	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, play, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 64; i++)
		if (box[i])
			let_go(atomic_exchange(&box[i], 0));
	CHECK_EQ(wrongs, 0);
	CHECK(iof_magazines_is_valid(mags));
}

TEST(many_threads)
{
	start(PAGE, field);
	play_all(3);
	play_all(TEAM);
	finish();
}

/* Hardly room for what is out: what is in magazines is asked back all the time. */
TEST(many_threads_in_a_small_space)
{
	start(PAGE, (struct iof_range){ BASE, BASE + 0x5fffff });
	play_all(6);
	CHECK(full > 0);
	finish();
}

static void *hoard(void *arg)
{
	uint64_t *list = arg;

	for (unsigned i = 0; i < 128; i++)
		if (iof_magazine_take(mags, PAGE, &list[i]))
			atomic_fetch_add(&wrongs, 1);
	for (unsigned i = 0; i < 128; i++)
		if (iof_magazine_give(mags, list[i], PAGE))
			atomic_fetch_add(&wrongs, 1);
	return NULL;
}

/* Threads end with full magazines. Whoever comes after them gets every slot that there is. */
TEST(nothing_stays_with_threads_that_have_ended)
{
	static uint64_t list[128], all[1024];
	pthread_t thread;
	unsigned n = 0;

	start(PAGE, (struct iof_range){ BASE, BASE + 0x3fffff });
	for (unsigned i = 0; i < 300; i++) {
		CHECK_EQ(pthread_create(&thread, NULL, hoard, list), 0);
		pthread_join(thread, NULL);
	}
	CHECK_EQ(wrongs, 0);
	CHECK(iof_magazines_held(mags) > 0);
	while (!iof_magazine_take(mags, PAGE, &all[n]))
		CHECK(++n <= 1024);
	CHECK_EQ(n, 1024);
	CHECK_EQ(iof_magazines_held(mags), 0);
	while (n--)
		CHECK_EQ(iof_magazine_give(mags, all[n], PAGE), 0);
	finish();
}

#if !defined(__SANITIZE_THREAD__) /* which does not let a child of many threads go on */

static _Atomic bool stop_playing;

static void *play_on(void *arg)
{
	uint64_t iova[50];

	while (!stop_playing) {
		for (unsigned i = 0; i < 50; i++)
			if (iof_magazine_take(mags, PAGE << i % 2, &iova[i]))
				atomic_fetch_add(&wrongs, 1);
		for (unsigned i = 0; i < 50; i++)
			if (iof_magazine_give(mags, iova[i], PAGE << i % 2))
				atomic_fetch_add(&wrongs, 1);
	}
	return arg;
}

/* In the child: what its parent's other threads had in magazines is there, and what they had taken is out for good. */
static int child(uint64_t mine)
{
	uint64_t iova;

	iof_lock_init(&lock, false);
	iof_magazines_forked(mags);
	if (!iof_magazines_is_valid(mags) || iof_magazines_held(mags))
		return 1;
	if (iof_recycle_taken(rec) > 3 * 50 + 1)
		return 2;
	if (iof_magazine_give(mags, mine, PAGE) || iof_magazine_give(mags, mine, PAGE) != -EINVAL)
		return 3;
	for (unsigned i = 0; i < 200; i++)
		if (iof_magazine_take(mags, PAGE, &iova))
			return 4;
	return iof_magazines_is_valid(mags) ? 0 : 5;
}

TEST(fork_in_the_midst)
{
	pthread_t threads[3];
	uint64_t mine;
	int status;

	start(PAGE, field);
	stop_playing = false;
	CHECK_EQ(iof_magazine_take(mags, PAGE, &mine), 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, play_on, NULL), 0);
	for (unsigned i = 0; i < 40; i++) {
		pid_t pid;

		usleep(500);
		iof_lock_take(&lock); /* recycle itself is whole, then */
		pid = fork();
		if (!pid)
			_exit(child(mine));
		iof_lock_drop(&lock);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
	stop_playing = true;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(wrongs, 0);
	CHECK_EQ(iof_magazine_give(mags, mine, PAGE), 0);
	finish();
}

#endif
