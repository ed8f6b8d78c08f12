/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * The arena: promises about size, alignment and boundaries; errors of misuse; growth, limits and failures; many threads; and a long random run
 * against the plainest model there is, a table of who owns which bytes.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "memory_rig.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

static struct iof_dma_arena *arena_of(struct rig *r, uint64_t region, uint64_t limit, uint32_t flags, struct iof_alloc *alloc)
{
	struct iof_dma_arena_config cfg = { .size = sizeof(cfg), .ioas_id = r->ioas, .region = region, .limit = limit, .flags = flags,
					.memory = { .page = IOF_DMA_PAGE_4K }, .alloc = alloc };
	struct iof_dma_arena *a = NULL;

	CHECK_EQ(iof_dma_arena_create(r->ctx, &cfg, &a), 0);
	return a;
}

TEST(config)
{
	struct iof_dma_arena_config cfg = { .size = sizeof(cfg) }, bad;
	struct iof_dma_arena *a;

	bad = cfg, bad.size--;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.flags = 8;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.region = 3 * MIB;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.region = 32 * KIB;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.limit = 3 * MIB;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.region = 64 * KIB, bad.limit = UINT64_C(1) << 30;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
	bad = cfg, bad.limit = UINT64_C(256) << 30;
	CHECK_EQ(iof_dma_arena_create(NULL, &bad, &a), -EINVAL);
}

TEST(constraints)
{
	static const uint64_t sizes[] = { 1, 64, 65, 100, 4095, 4096, 4097, 65536, 100000, 2 * MIB };
	struct rig r;
	struct iof_dma_arena *a;
	struct iof_dma_arena_buffer b;
	uint64_t iova, limit;

	rig_open(&r);
	a = arena_of(&r, 2 * MIB, 64 * MIB, 0, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (uint64_t align = 0; align <= 2 * MIB; align = align ? align * 2 : 1)
			for (uint64_t boundary = 0; boundary <= 4 * MIB; boundary = boundary ? boundary * 4 : 64) {
				limit = boundary && boundary < sizes[i];
				CHECK_EQ(iof_dma_arena_take(a, sizes[i], align, boundary, &b), limit ? -EINVAL : 0);
				if (limit)
					continue;
				CHECK(b.length >= sizes[i]);
				CHECK(!align || (!(b.iova % align) && !((uintptr_t)b.address % align)));
				CHECK(!boundary || b.iova / boundary == (b.iova + sizes[i] - 1) / boundary);
				CHECK_EQ(iof_dma_arena_iova(a, (char *)b.address + sizes[i] - 1, &iova), 0);
				CHECK_EQ(iova, b.iova + sizes[i] - 1);
				CHECK_EQ(iof_dma_arena_give(a, b.address), 0);
			}
	CHECK_EQ(iof_dma_arena_take(a, 0, 0, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, 2 * MIB + 1, 0, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, UINT64_MAX, 0, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, 1, 3, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, 1, 4 * MIB, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, 1, UINT64_C(1) << 63, 0, &b), -EINVAL);
	CHECK_EQ(iof_dma_arena_take(a, 1, 0, 3, &b), -EINVAL);
	CHECK(iof_dma_arena_is_valid(a));
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	rig_close(&r);
}

TEST(devices_reach_it)
{
	struct rig r;
	struct iof_dma_arena *a;
	struct iof_dma_arena_buffer b;

	rig_open(&r);
	a = arena_of(&r, 0, 0, 0, NULL);
	CHECK_EQ(iof_dma_arena_take(a, 6, 0, 0, &b), 0);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, b.iova, "hello", 6, NULL), 0);
	CHECK(!strcmp(b.address, "hello"));
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, b.iova, "hello", 6, NULL), -EFAULT);
	rig_close(&r);
}

TEST(misuse)
{
	struct rig r;
	struct iof_dma_arena *a;
	struct iof_dma_arena_buffer b, c;
	char foreign[64];
	uint64_t iova;

	rig_open(&r);
	a = arena_of(&r, 64 * KIB, 128 * KIB, 0, NULL);
	CHECK_EQ(iof_dma_arena_take(a, 4096, 0, 0, &b), 0);
	CHECK_EQ(iof_dma_arena_take(a, 64, 0, 0, &c), 0);
	CHECK_EQ(iof_dma_arena_give(a, foreign), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, NULL), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, (char *)b.address + 1), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, (char *)b.address + 64), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, (char *)b.address + 4032), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, (char *)c.address + 1), -EINVAL);
	CHECK_EQ(iof_dma_arena_iova(a, foreign, &iova), -EINVAL);
	CHECK_EQ(iof_dma_arena_give(a, b.address), 0);
	CHECK_EQ(iof_dma_arena_give(a, b.address), -EALREADY);
	CHECK_EQ(iof_dma_arena_take(a, 64 * KIB, 0, 0, &b), 0); /* the second region, so the magazines were emptied */
	CHECK_EQ(iof_dma_arena_give(a, b.address), 0);
	CHECK_EQ(iof_dma_arena_give(a, b.address), -EALREADY);
	CHECK(iof_dma_arena_is_valid(a));
	CHECK_EQ(iof_dma_arena_taken(a, 0, NULL), 1);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	rig_close(&r);
}

TEST(growth_and_limit)
{
	struct iof_dma_arena_stats s;
	struct iof_dma_arena_buffer b[65], leaks[4];
	struct rig r;
	struct iof_dma_arena *a;

	rig_open(&r);
	a = arena_of(&r, 64 * KIB, 256 * KIB, 0, NULL);
	CHECK_EQ(rig_mappings(&r), 1);
	for (unsigned i = 0; i < 64; i++)
		CHECK_EQ(iof_dma_arena_take(a, 4096, 0, 0, &b[i]), 0);
	CHECK_EQ(rig_mappings(&r), 4);
	CHECK_EQ(iof_dma_arena_take(a, 64, 0, 0, &b[64]), -ENOSPC);
	CHECK_EQ(iof_dma_arena_give(a, b[63].address), 0);
	CHECK_EQ(iof_dma_arena_take(a, 64, 0, 0, &b[63]), 0); /* what lies in the magazine of another size is found */
	iof_dma_arena_stats(a, &s);
	CHECK_EQ(s.regions, 4);
	CHECK_EQ(s.grown, 3);
	CHECK_EQ(s.refused, 1);
	CHECK_EQ(s.mapped, 256 * KIB);
	CHECK_EQ(s.high, 256 * KIB);
	CHECK_EQ(s.taken, 63 * 4096 + 64);
	CHECK_EQ(s.live_by_class[12], 63);
	CHECK_EQ(s.high_by_class[12], 64);
	for (unsigned i = 0; i < 62; i++)
		CHECK_EQ(iof_dma_arena_give(a, b[i].address), 0);
	CHECK(iof_dma_arena_is_valid(a));
	CHECK_EQ(iof_dma_arena_taken(a, 4, leaks), 2);
	CHECK_EQ(leaks[0].iova, b[62].iova < b[63].iova ? b[62].iova : b[63].iova);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);

	a = arena_of(&r, 64 * KIB, 256 * KIB, IOF_DMA_ARENA_FIXED_SIZE, NULL);
	CHECK_EQ(iof_dma_arena_take(a, 64 * KIB, 0, 0, &b[0]), 0);
	CHECK_EQ(iof_dma_arena_take(a, 64 * KIB, 0, 0, &b[1]), -ENOSPC);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	rig_close(&r);
}

TEST(regions_of_the_callers)
{
	struct iof_dma_arena_config cfg = { .size = sizeof(cfg), .region = 64 * KIB, .limit = 128 * KIB };
	struct iof_dma_request rq = { .size = sizeof(rq), .length = 64 * KIB, .page = IOF_DMA_PAGE_4K };
	struct iof_dma_memory m;
	struct iof_dma_arena *a;
	struct iof_dma_arena_buffer b;

	CHECK_EQ(iof_dma_arena_create(NULL, &cfg, &a), 0);
	CHECK_EQ(iof_dma_arena_take(a, 64, 0, 0, &b), -ENOSPC);
	rq.at = iof_dma_arena_place(a);
	CHECK_EQ(iof_dma_memory_get(&rq, &m), 0);
	CHECK_EQ(iof_dma_arena_add(a, 0x11000), -EINVAL);
	CHECK_EQ(iof_dma_arena_add(a, 0x10000), 0);
	CHECK(iof_dma_arena_place(a) == (char *)rq.at + 64 * KIB);
	CHECK_EQ(iof_dma_arena_take(a, 64 * KIB, 0, 0, &b), 0);
	CHECK_EQ(b.iova, 0x10000);
	CHECK(b.address == rq.at);
	CHECK_EQ(iof_dma_arena_take(a, 64, 0, 0, &b), -ENOSPC);
	iof_dma_memory_put(&m);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
}

TEST(poison_and_origins)
{
	struct iof_dma_arena_stats s;
	struct iof_dma_arena_buffer b, leak;
	struct rig r;
	struct iof_dma_arena *a;

	rig_open(&r);
	a = arena_of(&r, 64 * KIB, 0, IOF_DMA_ARENA_POISON | IOF_DMA_ARENA_TRACK, NULL);
	CHECK_EQ(iof_dma_arena_take(a, 256, 0, 0, &b), 0);
	memset(b.address, 1, 256);
	CHECK_EQ(iof_dma_arena_give(a, b.address), 0);
	CHECK_EQ(((uint8_t *)b.address)[255], 0xa5);
	CHECK_EQ(iof_dma_arena_take(a, 256, 0, 0, &b), 0);
	iof_dma_arena_stats(a, &s);
	CHECK_EQ(s.late_writes, 0);
	CHECK_EQ(iof_dma_arena_give(a, b.address), 0);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, b.iova + 200, "late", 4, NULL), 0);
	CHECK_EQ(iof_dma_arena_take(a, 256, 0, 0, &b), 0);
	iof_dma_arena_stats(a, &s);
	CHECK_EQ(s.late_writes, 1);
	CHECK_EQ(iof_dma_arena_taken(a, 1, &leak), 1);
	CHECK(leak.who == b.who && leak.who);
	iof_dma_arena_mark(a, b.address, &r);
	CHECK_EQ(iof_dma_arena_taken(a, 1, &leak), 1);
	CHECK(leak.who == &r);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	rig_close(&r);
}

/* ---- a model ---- */

#define HELD 300

static void random_run(uint32_t flags, uint64_t region, uint64_t limit, uint64_t seed, unsigned steps)
{
	struct iof_dma_arena_buffer held[HELD];
	uint64_t sizes[HELD], taken = 0;
	unsigned n = 0, refused = 0;
	struct iof_dma_arena_stats s;
	struct iof_dma_arena *a;
	struct rig r;

	rig_open(&r);
	a = arena_of(&r, region, limit, flags, NULL);
	for (unsigned step = 0; step < steps; step++) {
		uint64_t dice = check_random(&seed);

		if (n < HELD && dice % 100 < (step / 500 % 2 ? 35 : 65)) {
			uint64_t size = 1 + (check_random(&seed) >> (dice >> 32) % 64) % region;
			int rc = iof_dma_arena_take(a, size, 0, 0, &held[n]);

			if (rc) {
				CHECK_EQ(rc, -ENOSPC);
				CHECK(taken + size > 0);
				refused++;
				continue;
			}
			for (unsigned i = 0; i < n; i++)
				CHECK(held[n].iova + held[n].length <= held[i].iova || held[i].iova + held[i].length <= held[n].iova);
			memset(held[n].address, (int)n + 1, size);
			sizes[n] = size;
			taken += held[n++].length;
		} else if (n) {
			unsigned i = (unsigned)(check_random(&seed) % n);
			uint8_t *p = held[i].address;

			for (uint64_t b = 0; b < sizes[i]; b += sizes[i] / 3 + 1)
				CHECK_EQ(p[b], p[0]);
			taken -= held[i].length;
			CHECK_EQ(iof_dma_arena_give(a, p), 0);
			held[i] = held[--n];
			sizes[i] = sizes[n];
		}
		if (step % 64 == 0)
			CHECK(iof_dma_arena_is_valid(a));
	}
	iof_dma_arena_stats(a, &s);
	CHECK_EQ(s.taken, taken);
	CHECK_EQ(s.refused, refused);
	CHECK_EQ(s.late_writes, 0);
	CHECK(s.high <= limit && s.high >= s.taken + s.cached);
	CHECK_EQ(iof_dma_arena_taken(a, 0, NULL), n);
	while (n)
		CHECK_EQ(iof_dma_arena_give(a, held[--n].address), 0);
	CHECK(iof_dma_arena_is_valid(a));
	for (uint64_t i = 0; i < s.regions; i++) /* all of it is in one piece again */
		CHECK_EQ(iof_dma_arena_take(a, region, 0, 0, &held[i]), 0);
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	rig_close(&r);
}

TEST(random_small)
{
	random_run(0, 64 * KIB, 256 * KIB, 1, 6000);
}

TEST(random_poisoned)
{
	random_run(IOF_DMA_ARENA_POISON | IOF_DMA_ARENA_TRACK, 64 * KIB, 1 * MIB, 2, 6000);
}

TEST(random_large)
{
	random_run(0, 2 * MIB, 32 * MIB, 3, 6000);
}

/* ---- every allocation fails once ---- */

static int sequence(struct rig *r, struct iof_alloc *alloc)
{
	struct iof_dma_arena_config cfg = { .size = sizeof(cfg), .ioas_id = r->ioas, .region = 64 * KIB, .alloc = alloc,
					.flags = IOF_DMA_ARENA_TRACK, .memory = { .page = IOF_DMA_PAGE_4K } };
	struct iof_dma_arena_buffer b[5];
	struct iof_dma_arena *a;
	int rc = iof_dma_arena_create(r->ctx, &cfg, &a), bad = 0;

	if (rc)
		return rc;
	for (unsigned i = 0; i < 5; i++) {
		rc = iof_dma_arena_take(a, 40 * KIB, 0, 0, &b[i]);
		bad = bad ? bad : rc;
		CHECK(iof_dma_arena_is_valid(a));
	}
	CHECK_EQ(iof_dma_arena_destroy(a), 0);
	return bad;
}

TEST(allocations_fail)
{
	struct iof_alloc heap;
	struct rig r;
	unsigned failures = 0;
	int rc;

	iof_alloc_init_heap(&heap);
	rig_open(&r);
	for (int64_t n = 1;; n++) {
		iof_alloc_fail_nth(&heap, n);
		rc = sequence(&r, &heap);
		CHECK_EQ(heap.live_bytes, 0);
		CHECK_EQ(rig_mappings(&r), 0);
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		CHECK_EQ(rc, -ENOMEM);
		failures++;
	}
	CHECK_EQ(rc, 0);
	CHECK(failures >= 7);
	rig_close(&r);
}

/* ---- threads ---- */

#define THREADS 4
#define TURNS 8000
#define MAILBOX 64

static struct iof_dma_arena *common;
static void *_Atomic mailbox[MAILBOX];
static _Atomic uint64_t wrong, twice;

/* Takes, writes its mark, hands over to whoever comes by; what it finds there it checks and gives back. */
static void *work(void *arg)
{
	uint64_t seed = (uintptr_t)arg, size;
	struct iof_dma_arena_buffer b;
	void *other;

	for (unsigned i = 0; i < TURNS; i++) {
		size = UINT64_C(64) << check_random(&seed) % 12;
		if (iof_dma_arena_take(common, size, 0, 0, &b))
			continue;
		*(uint64_t *)b.address = (uintptr_t)b.address ^ 42;
		other = atomic_exchange(&mailbox[check_random(&seed) % MAILBOX], b.address);
		if (!other)
			continue;
		if (*(uint64_t *)other != ((uintptr_t)other ^ 42))
			atomic_fetch_add(&wrong, 1);
		*(uint64_t *)other = 0;
		if (iof_dma_arena_give(common, other))
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

static void run_threads(void *(*fn)(void *))
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, fn, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
}

TEST(threads)
{
	struct iof_dma_arena_stats s;
	struct rig r;
	size_t left = 0;

	rig_open(&r);
	common = arena_of(&r, 256 * KIB, 4 * MIB, 0, NULL);
	run_threads(work);
	CHECK_EQ(wrong, 0);
	CHECK(iof_dma_arena_is_valid(common));
	for (unsigned i = 0; i < MAILBOX; i++)
		left += mailbox[i] != NULL;
	iof_dma_arena_stats(common, &s);
	CHECK_EQ(iof_dma_arena_taken(common, 0, NULL), left);
	CHECK_EQ(s.takes - s.gives, left);
	CHECK_EQ(iof_dma_arena_destroy(common), 0);
	rig_close(&r);
}

/* All give the same buffers at the same time: each is taken back once. */
static void *give_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < MAILBOX; i++)
		if (iof_dma_arena_give(common, mailbox[i]) == 0)
			atomic_fetch_add(&twice, 1);
	return NULL;
}

TEST(given_by_all_at_once)
{
	struct iof_dma_arena_buffer b;
	struct rig r;

	rig_open(&r);
	common = arena_of(&r, 256 * KIB, 4 * MIB, 0, NULL);
	for (unsigned i = 0; i < MAILBOX; i++) {
		CHECK_EQ(iof_dma_arena_take(common, 100, 0, 0, &b), 0);
		mailbox[i] = b.address;
	}
	run_threads(give_all);
	CHECK_EQ(twice, MAILBOX);
	CHECK(iof_dma_arena_is_valid(common));
	CHECK_EQ(iof_dma_arena_destroy(common), 0);
	rig_close(&r);
}
