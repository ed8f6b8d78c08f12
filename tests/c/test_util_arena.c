/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* The arena: random gets and puts against a table, every byte checked, alone, among threads and across fork. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "util/arena.h"
#include "util/slab.h"

#define MIB (UINT64_C(1) << 20)

struct held {
	unsigned char *p;
	size_t size;
	unsigned char mark;
};

static size_t random_size(uint64_t *seed)
{
	uint64_t r = check_random(seed);

	return 1 + (r >> 20) % (UINT64_C(1) << (r % 20)); /* up to 512 KiB, all magnitudes alike */
}

/* 0, or the line that went wrong. Not CHECK: runs in threads and children. */
static int step(struct iof_alloc *alloc, struct held *h, uint64_t *seed)
{
	size_t align = UINT64_C(16) << check_random(seed) % (check_random(seed) % 8 ? 5 : 12);

	if (h->p) {
		for (size_t i = 0; i < h->size; i += i < 64 || i + 64 >= h->size ? 1 : 61)
			if (h->p[i] != h->mark)
				return __LINE__;
		if (h->p[h->size - 1] != h->mark)
			return __LINE__;
		iof_mem_put(alloc, h->p, h->size);
		h->p = NULL;
		return 0;
	}
	h->size = random_size(seed);
	h->mark = (unsigned char)check_random(seed);
	h->p = iof_mem_get(alloc, h->size, align);
	if (!h->p)
		return __LINE__;
	if ((uintptr_t)h->p % align)
		return __LINE__;
	memset(h->p, h->mark, h->size);
	return 0;
}

static int steps(struct iof_alloc *alloc, uint64_t seed, int n)
{
	struct held held[64] = { 0 };
	int bad = 0;

	for (int i = 0; i < n && !bad; i++)
		bad = step(alloc, &held[check_random(&seed) % 64], &seed);
	for (int i = 0; i < 64 && !bad; i++)
		if (held[i].p)
			bad = step(alloc, &held[i], &seed);
	return bad;
}

TEST(arena_create_and_sizes)
{
	struct iof_arena *a = NULL;
	struct iof_alloc *alloc;
	void *p;

	CHECK_EQ(iof_arena_create(0, &a), -EINVAL);
	CHECK_EQ(iof_arena_create(SIZE_MAX, &a), -ENOMEM);
	CHECK_EQ(iof_arena_create((size_t)1 << 45, &a), -ENOMEM);
	CHECK_EQ(iof_arena_create(1, &a), 0);
	CHECK(iof_arena_is_valid(a));
	alloc = iof_arena_alloc(a);
	CHECK(alloc->shared);
	CHECK(!iof_mem_get(alloc, 2 * MIB, 16));
	CHECK(!iof_mem_get(alloc, SIZE_MAX, 16));
	CHECK(!iof_mem_get(alloc, 16, UINT64_C(1) << 40));
	CHECK_EQ(alloc->live_bytes, 0);
	p = iof_mem_zget(alloc, MIB, 16);
	CHECK(p);
	CHECK(iof_arena_is_valid(a));
	iof_mem_put(alloc, p, MIB);
	iof_alloc_fail_nth(alloc, 1);
	CHECK(!iof_mem_get(alloc, 16, 16));
	CHECK(iof_mem_get(alloc, 16, 16));
	CHECK(iof_arena_is_valid(a));
	iof_arena_destroy(a);
	CHECK_EQ(iof_arena_create((size_t)1 << 36, &a), 0); /* reserved, not used */
	CHECK(iof_mem_get(iof_arena_alloc(a), (size_t)1 << 35, 16));
	CHECK(iof_arena_is_valid(a));
	iof_arena_destroy(a);
}

/* Each size and alignment gets room of its own: no two blocks overlap, and all is one free run again at the end. */
TEST(arena_every_size)
{
	struct iof_arena *a;
	struct iof_alloc *alloc;
	unsigned char *p[300], *whole;
	size_t n = 0, size[300];

	CHECK_EQ(iof_arena_create(64 * MIB, &a), 0);
	alloc = iof_arena_alloc(a);
	for (size_t s = 1; s <= 200000; s = s < 130 ? s + 1 : s * 5 / 4) {
		size[n] = s;
		p[n] = iof_mem_get(alloc, s, 16);
		CHECK(p[n]);
		CHECK_EQ((uintptr_t)p[n] % 16, 0);
		memset(p[n], (int)n & 255, s);
		n++;
	}
	CHECK(iof_arena_is_valid(a));
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < size[i]; j++)
			CHECK_EQ(p[i][j], i & 255);
		iof_mem_put(alloc, p[i], size[i]);
	}
	CHECK(iof_arena_is_valid(a));
	CHECK_EQ(alloc->live_bytes, 0);
	for (size_t align = 16; align <= 8 * MIB; align *= 2) {
		whole = iof_mem_get(alloc, 100, align);
		CHECK(whole);
		CHECK_EQ((uintptr_t)whole % align, 0);
		iof_mem_put(alloc, whole, 100);
		CHECK(iof_arena_is_valid(a));
	}
	iof_arena_destroy(a);
}

TEST(arena_runs_merge_and_go_back_to_the_system)
{
	struct iof_arena *a;
	struct iof_alloc *alloc;
	unsigned char *p[16], *whole, there[16 * 256];
	int resident = 0;

	CHECK_EQ(iof_arena_create(20 * MIB, &a), 0);
	alloc = iof_arena_alloc(a);
	for (int i = 0; i < 16; i++) {
		p[i] = iof_mem_get(alloc, MIB, 16);
		CHECK(p[i]);
		memset(p[i], 1, MIB);
	}
	CHECK(!iof_mem_get(alloc, 16 * MIB, 16));
	for (int i = 0; i < 16; i++) { /* 0, 7, 14, 5, ... : neighbours before, after and both */
		iof_mem_put(alloc, p[i * 7 % 16], MIB);
		CHECK(iof_arena_is_valid(a));
	}
	whole = iof_mem_get(alloc, 16 * MIB, 16);
	CHECK(whole);
	CHECK_EQ(mincore(whole, 16 * MIB, there), 0);
	for (size_t i = 0; i < sizeof(there); i++)
		resident += there[i] & 1;
	CHECK_EQ(resident, 0);
	iof_arena_destroy(a);
}

TEST(arena_random_walk)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct held held[128] = { 0 };
		uint64_t s = seed * 7919, bytes = 0, blocks = 0;
		struct iof_arena *a;

		CHECK_EQ(iof_arena_create(128 * MIB, &a), 0);
		for (int i = 0; i < 2500; i++) {
			CHECK_EQ(step(iof_arena_alloc(a), &held[check_random(&s) % 128], &s), 0);
			if (i % 5 == 0)
				CHECK(iof_arena_is_valid(a));
		}
		for (int i = 0; i < 128; i++) {
			bytes += held[i].p ? held[i].size : 0;
			blocks += held[i].p != NULL;
		}
		CHECK_EQ(iof_arena_alloc(a)->live_bytes, bytes);
		CHECK_EQ(iof_arena_alloc(a)->live_blocks, blocks);
		for (int i = 0; i < 128; i++)
			if (held[i].p)
				CHECK_EQ(step(iof_arena_alloc(a), &held[i], &s), 0);
		CHECK(iof_arena_is_valid(a));
		CHECK_EQ(iof_arena_alloc(a)->live_bytes, 0);
		iof_arena_destroy(a);
	}
}

/* Runs the arena dry, frees at random, and does it again: nothing gets lost. */
TEST(arena_exhaustion)
{
	struct iof_arena *a;
	struct iof_alloc *alloc;
	static void *p[4096];
	uint64_t seed = 3;
	int first = 0;

	CHECK_EQ(iof_arena_create(4 * MIB, &a), 0);
	alloc = iof_arena_alloc(a);
	for (int round = 0; round < 4; round++) {
		int n = 0;

		while ((p[n] = iof_mem_get(alloc, 5000, 16)))
			n++;
		CHECK(n > 400);
		CHECK(iof_arena_is_valid(a));
		if (!round)
			first = n;
		CHECK_EQ(n, first);
		while (n) {
			int k = (int)(check_random(&seed) % (unsigned)n);

			iof_mem_put(alloc, p[k], 5000);
			p[k] = p[--n];
		}
		CHECK(iof_arena_is_valid(a));
	}
	iof_arena_destroy(a);
}

/* The checker notices a block that is freed twice and a write after free. */
TEST(arena_is_valid_can_say_no)
{
	struct iof_arena *a;
	struct iof_alloc *alloc;
	void **p;

	CHECK_EQ(iof_arena_create(4 * MIB, &a), 0);
	alloc = iof_arena_alloc(a);
	p = iof_mem_get(alloc, 48, 16);
	iof_mem_put(alloc, p, 48);
	CHECK(iof_arena_is_valid(a));
	*p = (char *)p + 16;
	CHECK(!iof_arena_is_valid(a));
	*p = p;
	CHECK(!iof_arena_is_valid(a));
	*p = NULL;
	CHECK(iof_arena_is_valid(a));
	atomic_fetch_add(&alloc->live_blocks, 1);
	CHECK(!iof_arena_is_valid(a));
	iof_arena_destroy(a);
}

static void *thread_steps(void *arg)
{
	int *bad = NULL;

	if (steps(arg, 1 + (uintptr_t)&bad, 1500))
		return arg;
	return NULL;
}

TEST(arena_among_threads)
{
	struct iof_arena *a;
	pthread_t t[4];
	void *out;

	CHECK_EQ(iof_arena_create(256 * MIB, &a), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, thread_steps, iof_arena_alloc(a)), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &out);
		CHECK(!out);
	}
	CHECK(iof_arena_is_valid(a));
	CHECK_EQ(iof_arena_alloc(a)->live_blocks, 0);
	iof_arena_destroy(a);
}

struct message {
	char *text;
	struct iof_slab slab;
	uint64_t *object[100];
};

TEST(arena_is_one_across_fork)
{
	struct iof_arena *a;
	struct iof_alloc *alloc;
	struct message *m;
	pid_t child[3];
	int status;

	CHECK_EQ(iof_arena_create(512 * MIB, &a), 0);
	alloc = iof_arena_alloc(a);
	m = iof_mem_zget(alloc, sizeof(*m), 64);
	iof_slab_init(&m->slab, alloc, 64, 0);
	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i]) {
			if (steps(alloc, 11 + (uint64_t)i, 1500))
				_exit(1);
			if (i)
				_exit(0);
			m->text = iof_mem_get(alloc, 100000, 16);
			memset(m->text, 'x', 100000);
			for (int j = 0; j < 100; j++) {
				m->object[j] = iof_slab_get(&m->slab);
				*m->object[j] = (uint64_t)j;
			}
			_exit(0);
		}
	}
	CHECK_EQ(steps(alloc, 99, 1500), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
		CHECK_EQ(status, 0);
	}
	CHECK(iof_arena_is_valid(a));
	for (int i = 0; i < 100000; i++)
		CHECK_EQ(m->text[i], 'x');
	for (uint64_t j = 0; j < 100; j++)
		CHECK_EQ(*m->object[j], j);
	CHECK(iof_slab_is_valid(&m->slab));
	iof_mem_put(alloc, m->text, 100000);
	iof_slab_fini(&m->slab);
	iof_mem_put(alloc, m, sizeof(*m));
	CHECK_EQ(alloc->live_bytes, 0);
	CHECK_EQ(alloc->live_blocks, 0);
	CHECK(iof_arena_is_valid(a));
	iof_arena_destroy(a);
}
