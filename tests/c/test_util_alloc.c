/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Allocators, the injector of failures, and slabs. */
#include <pthread.h>

#include "check.h"
#include "util/alloc.h"
#include "util/slab.h"

TEST(alloc_accounts_and_aligns)
{
	struct iof_alloc a;

	iof_alloc_init_heap(&a);
	CHECK(!a.shared);
	for (size_t align = 16; align <= 65536; align *= 2) {
		unsigned char *p = iof_mem_get(&a, align + 3, align), *z = iof_mem_zget(&a, 100, 16);

		CHECK(p && z);
		CHECK_EQ((uintptr_t)p % align, 0);
		memset(p, 0xa5, align + 3);
		for (int i = 0; i < 100; i++)
			CHECK_EQ(z[i], 0);
		CHECK_EQ(a.live_bytes, align + 103);
		CHECK_EQ(a.live_blocks, 2);
		iof_mem_put(&a, p, align + 3);
		iof_mem_put(&a, z, 100);
	}
	iof_mem_put(&a, NULL, 7);
	CHECK_EQ(a.live_bytes, 0);
	CHECK_EQ(a.live_blocks, 0);
}

TEST(alloc_fails_at_the_nth_and_only_there)
{
	struct iof_alloc a;

	iof_alloc_init_heap(&a);
	for (int n = 1; n <= 5; n++) {
		CHECK_EQ(iof_alloc_fail_nth(&a, n), 0);
		for (int i = 1; i <= 8; i++) {
			void *p = iof_mem_get(&a, 8, 16);

			CHECK_EQ(!p, i == n);
			iof_mem_put(&a, p, 8);
		}
		CHECK_EQ(a.fail_seen, n);
		CHECK_EQ(iof_alloc_fail_nth(&a, 0), 0);
	}
	iof_alloc_fail_nth(&a, 3);
	CHECK(!iof_alloc_may_fail(&a));
	CHECK_EQ(iof_alloc_fail_nth(&a, 9), 2);
	CHECK_EQ(iof_alloc_fail_nth(&a, -1), 9);
	CHECK(!iof_alloc_may_fail(&a));
	CHECK_EQ(a.live_bytes, 0);
}

struct hammer {
	struct iof_alloc a;
	_Atomic int failures;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	for (int i = 0; i < 5000; i++) {
		void *p = iof_mem_get(&h->a, 24, 16);

		if (!p)
			atomic_fetch_add(&h->failures, 1);
		iof_mem_put(&h->a, p, 24);
	}
	return NULL;
}

TEST(alloc_injection_is_exact_under_threads)
{
	static const int64_t at[] = { 1, 2, 777, 19999, 20000, 20001 };
	struct hammer h;
	pthread_t t[4];

	for (unsigned k = 0; k < sizeof(at) / sizeof(*at); k++) {
		iof_alloc_init_heap(&h.a);
		atomic_init(&h.failures, 0);
		iof_alloc_fail_nth(&h.a, at[k]);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&t[i], NULL, hammer, &h), 0);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		CHECK_EQ(h.failures, at[k] <= 20000);
		CHECK_EQ(iof_alloc_fail_nth(&h.a, 0), at[k] <= 20000 ? 0 : at[k] - 20000);
		CHECK_EQ(h.a.live_bytes, 0);
		CHECK_EQ(h.a.live_blocks, 0);
	}
}

/* Random gets and puts against a table of what is held; every object is filled and must come back unharmed. */
static void slab_walk(size_t object_size, size_t block_size, int steps)
{
	bool known = block_size == SIZE_MAX; /* stands for iof_slab_init_known() */
	struct iof_alloc a;
	struct iof_slab s;
	uint64_t seed = 88172645463325252u + object_size;
	unsigned char *held[300] = { 0 };
	uint64_t live = 0;

	iof_alloc_init_heap(&a);
	if (known)
		iof_slab_init_known(&s, &a, object_size);
	else
		iof_slab_init(&s, &a, object_size, block_size);
	for (int i = 0; i < steps; i++) {
		unsigned k = check_random(&seed) % 300;

		if (held[k]) {
			for (size_t j = 0; j < object_size; j++)
				CHECK_EQ(held[k][j], k & 255);
			iof_slab_put(&s, held[k]);
			held[k] = NULL;
			live--;
		} else {
			held[k] = iof_slab_get(&s);
			CHECK(held[k]);
			CHECK(!known || iof_slab_of(held[k]) == &s);
			CHECK_EQ((uintptr_t)held[k] % (object_size % 64 ? (object_size % 16 ? 8 : 16) : 64), 0);
			memset(held[k], k & 255, object_size);
			live++;
		}
		CHECK_EQ(s.live, live);
		if (i % 64 == 0)
			CHECK(iof_slab_is_valid(&s));
	}
	iof_slab_fini(&s);
	CHECK_EQ(a.live_bytes, 0);
	CHECK_EQ(a.live_blocks, 0);
	CHECK(iof_slab_is_valid(&s));
}

TEST(slab_keeps_objects_apart)
{
	slab_walk(1, 0, 2000);
	slab_walk(24, 4096, 4000);
	slab_walk(64, 0, 4000);
	slab_walk(192, 1000, 4000);
	slab_walk(5000, 64, 1000);
	slab_walk(56, SIZE_MAX, 4000);
	slab_walk(4000, SIZE_MAX, 4000);
}

/* Past the size from which blocks are large, every object is there by itself, and stays in its place. */
TEST(slab_grows)
{
	enum { SIZE = 832, COUNT = 9000 }; /* 7 MiB */
	static unsigned char *held[COUNT];
	struct iof_alloc a;
	struct iof_slab s;
	uint64_t blocks;

	iof_alloc_init_heap(&a);
	iof_slab_init_growing(&s, &a, SIZE, 64 + 19 * SIZE);
	for (unsigned i = 0; i < COUNT; i++) {
		held[i] = iof_slab_get(&s);
		CHECK(held[i]);
		CHECK_EQ((uintptr_t)held[i] % 64, 0);
		memset(held[i], (int)(i % 251), SIZE);
	}
	CHECK(iof_slab_is_valid(&s));
	blocks = a.live_blocks;
	CHECK(blocks < 300); /* small ones would be 474 */
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK(held[i][0] == i % 251 && !memcmp(held[i], held[i] + 1, SIZE - 1));
		iof_slab_put(&s, held[i]);
	}
	CHECK(iof_slab_is_valid(&s));
	for (unsigned i = 0; i < COUNT; i++)
		CHECK(iof_slab_get(&s));
	CHECK_EQ(a.live_blocks, blocks);
	iof_slab_fini(&s);
	CHECK_EQ(a.live_bytes, 0);
	CHECK(iof_slab_is_valid(&s));
}

TEST(slab_every_get_is_one_step)
{
	struct iof_alloc a;
	struct iof_slab s;

	iof_alloc_init_heap(&a);
	for (int n = 1; n <= 40; n++) {
		iof_slab_init(&s, &a, 64, 64 * 5);
		iof_alloc_fail_nth(&a, n);
		for (int i = 1; i <= 40; i++)
			CHECK_EQ(!iof_slab_get(&s), i == n);
		CHECK_EQ(s.live, 39);
		CHECK(iof_slab_is_valid(&s));
		CHECK_EQ(iof_alloc_fail_nth(&a, 0), 0);
		iof_slab_fini(&s);
		CHECK_EQ(a.live_bytes, 0);
	}
}

static void *no_memory(struct iof_alloc *a, size_t size, size_t align)
{
	(void)a;
	(void)size;
	(void)align;
	return NULL;
}

TEST(slab_without_memory_stays_as_it_was)
{
	struct iof_alloc a;
	struct iof_slab s;
	void *p, *(*get)(struct iof_alloc *, size_t, size_t);

	iof_alloc_init_heap(&a);
	iof_slab_init(&s, &a, 64, 128);
	p = iof_slab_get(&s);
	CHECK(p);
	get = a.get;
	a.get = no_memory;
	CHECK(!iof_slab_get(&s));
	CHECK(!iof_mem_zget(&a, 10, 16));
	CHECK_EQ(s.live, 1);
	CHECK(iof_slab_is_valid(&s));
	iof_slab_put(&s, p);
	CHECK(iof_slab_get(&s) == p);
	a.get = get;
	CHECK(iof_slab_get(&s));
	*(void **)p = p; /* a list that leads nowhere is noticed */
	s.free[0] = p;
	CHECK(!iof_slab_is_valid(&s));
	s.free[0] = NULL;
	CHECK(iof_slab_is_valid(&s));
	iof_slab_fini(&s);
	CHECK_EQ(a.live_bytes, 0);
}
