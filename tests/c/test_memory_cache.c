/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * The cache of mappings: hits and misses, eviction, joining, invalidation while in use, memory that goes by itself, failures, many
 * threads; and a random run against a table of what has to be mapped.
 */
#define _GNU_SOURCE /* mremap */
#include <pthread.h>
#include <stdatomic.h>

#include "memory_rig.h"

static _Atomic uint64_t told, told_sum;

static void gone(void *arg, uint64_t token)
{
	(void)arg;
	told++;
	told_sum += token;
}

static struct iof_map_cache_config config(struct rig *r, uint32_t flags)
{
	return (struct iof_map_cache_config){ .size = sizeof(struct iof_map_cache_config), .ioas_id = r->ioas, .map_flags = RW,
					      .flags = flags, .gone = gone };
}

static struct iof_map_cache *cache_of(struct rig *r, uint32_t flags, uint64_t max_bytes, uint64_t max_entries)
{
	struct iof_map_cache_config cfg = config(r, flags);
	struct iof_map_cache *c = NULL;

	told = told_sum = 0;
	cfg.max_bytes = max_bytes;
	cfg.max_entries = max_entries;
	CHECK_EQ(iof_map_cache_create(r->ctx, &cfg, &c), 0);
	return c;
}

static struct iof_map_cache_stats stats(struct iof_map_cache *c)
{
	struct iof_map_cache_stats s;

	iof_map_cache_stats(c, &s);
	return s;
}

/* get and put; what get said. */
static int visit(struct iof_map_cache *c, void *at, uint64_t n, uint64_t *iova)
{
	struct iof_map_entry *e;
	int rc = iof_map_cache_get(c, at, n, iova, &e);

	if (rc >= 0)
		iof_map_cache_put(c, e);
	return rc;
}

TEST(config)
{
	struct rig r = { 0 };
	struct iof_map_cache_config cfg = config(&r, 0), bad;
	struct iof_map_cache *c;

	bad = cfg, bad.size = 1;
	CHECK_EQ(iof_map_cache_create(NULL, &bad, &c), -EINVAL);
	bad = cfg, bad.flags = 4;
	CHECK_EQ(iof_map_cache_create(NULL, &bad, &c), -EINVAL);
	bad = cfg, bad.map_flags = 0;
	CHECK_EQ(iof_map_cache_create(NULL, &bad, &c), -EINVAL);
	bad = cfg, bad.map_flags = RW | IOF_MAP_FIXED_IOVA;
	CHECK_EQ(iof_map_cache_create(NULL, &bad, &c), -EINVAL);
}

TEST(hits)
{
	struct rig r;
	char *buf = pages_of(8);
	struct iof_map_cache *c;
	struct iof_map_entry *e;
	uint64_t iova, again;

	rig_open(&r);
	c = cache_of(&r, 0, 0, 0);
	CHECK_EQ(visit(c, buf + 100, 0, &iova), -EINVAL);
	CHECK_EQ(visit(c, buf + 100, UINT64_MAX, &iova), -EOVERFLOW);
	CHECK_EQ(iof_map_cache_get(c, buf + 100, 5000, &iova, &e), 1);
	CHECK_EQ(iova % PAGE, 100);
	CHECK_EQ(iof_map_cache_own(e, 5), 0);
	CHECK_EQ(iof_map_cache_own(e, 6), 5);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, iova, "hit", 4, NULL), 0);
	CHECK(!strcmp(buf + 100, "hit"));
	CHECK_EQ(visit(c, buf + 100, 5000, &again), 0);
	CHECK_EQ(again, iova);
	CHECK_EQ(visit(c, buf + 4200, 10, &again), 0); /* another page of it */
	CHECK_EQ(again, iova + 4100);
	CHECK_EQ(visit(c, buf + 4201, 10, &again), 0);
	CHECK_EQ(iof_map_cache_destroy(c), -EBUSY);
	CHECK_EQ(stats(c).in_use, 1);
	iof_map_cache_put(c, e);
	CHECK_EQ(stats(c).hits, 3);
	CHECK_EQ(stats(c).misses, 1);
	CHECK_EQ(stats(c).bytes, 2 * PAGE);
	CHECK(iof_map_cache_is_valid(c));
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	CHECK_EQ(told, 1);
	CHECK_EQ(told_sum, 6);
	munmap(buf, 8 * PAGE);
	rig_close(&r);
}

TEST(eviction)
{
	struct rig r;
	char *buf = pages_of(64);
	struct iof_map_cache *c;
	struct iof_map_entry *e[4], *more;
	uint64_t iova;

	rig_open(&r);
	c = cache_of(&r, 0, 8 * PAGE, 4);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(visit(c, buf + 4 * i * PAGE, 1, &iova), 1);
	CHECK_EQ(visit(c, buf, 1, &iova), 0); /* used: not the victim */
	CHECK_EQ(visit(c, buf + 16 * PAGE, 1, &iova), 1);
	CHECK_EQ(rig_mappings(&r), 4);
	CHECK_EQ(visit(c, buf, 1, &iova), 0);
	CHECK_EQ(visit(c, buf + 4 * PAGE, 1, &iova), 1);
	CHECK_EQ(visit(c, buf + 20 * PAGE, 8 * PAGE, &iova), 1); /* by bytes: all others go */
	CHECK_EQ(rig_mappings(&r), 1);
	CHECK_EQ(visit(c, buf + 20 * PAGE, 9 * PAGE, &iova), -ENOSPC);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(iof_map_cache_get(c, buf + 2 * i * PAGE, 1, &iova, &e[i]), 1);
	CHECK_EQ(iof_map_cache_get(c, buf + 40 * PAGE, 1, &iova, &more), -ENOSPC); /* all in use */
	iof_map_cache_put(c, e[2]);
	CHECK_EQ(iof_map_cache_get(c, buf + 40 * PAGE, 1, &iova, &more), 1);
	CHECK_EQ(stats(c).refused, 2);
	CHECK(iof_map_cache_is_valid(c));
	iof_map_cache_put(c, e[0]), iof_map_cache_put(c, e[1]), iof_map_cache_put(c, e[3]), iof_map_cache_put(c, more);
	CHECK_EQ(iof_map_cache_trim(c), 4 * PAGE);
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	munmap(buf, 64 * PAGE);
	rig_close(&r);
}

TEST(joining)
{
	struct rig r;
	char *buf = pages_of(64);
	struct iof_map_cache *c;
	struct iof_map_entry *e, *f;
	uint64_t first, iova;

	rig_open(&r);
	c = cache_of(&r, IOF_MAP_CACHE_JOIN, 0, 0);
	CHECK_EQ(visit(c, buf, PAGE, &iova), 1);
	CHECK_EQ(visit(c, buf + 2 * PAGE, PAGE, &iova), 1);
	CHECK_EQ(rig_mappings(&r), 2);
	CHECK_EQ(visit(c, buf + PAGE, PAGE, &iova), 1); /* between both */
	CHECK_EQ(rig_mappings(&r), 1);
	CHECK_EQ(visit(c, buf, 3 * PAGE, &iova), 0);
	CHECK_EQ(stats(c).joined, 1);

	CHECK_EQ(iof_map_cache_get(c, buf, PAGE, &first, &e), 0);
	CHECK_EQ(visit(c, buf + 3 * PAGE, PAGE, &iova), 1); /* the neighbour is in use: not joined */
	CHECK_EQ(rig_mappings(&r), 2);
	CHECK_EQ(iof_map_cache_get(c, buf + 2 * PAGE, 3 * PAGE, &iova, &f), 1); /* overlaps: replaced, but kept for its user */
	CHECK_EQ(rig_mappings(&r), 2);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, first, "old", 4, NULL), 0);
	CHECK_EQ(visit(c, buf, PAGE, &iova), 1);
	CHECK(iova != first);
	CHECK(iof_map_cache_is_valid(c));
	iof_map_cache_put(c, e);
	CHECK_EQ(rig_mappings(&r), 2);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, first, "old", 4, NULL), -EFAULT);
	iof_map_cache_put(c, f);

	munmap(buf + 5 * PAGE, PAGE); /* a neighbour that is not there any more does not stop anybody */
	munmap(buf, 2 * PAGE);
	CHECK_EQ(visit(c, buf + 4 * PAGE, PAGE, &iova), 0);
	CHECK_EQ(visit(c, buf + 6 * PAGE, PAGE, &iova), 1);
	CHECK_EQ(visit(c, buf + 3 * PAGE, 4 * PAGE, &iova), -EFAULT);
	CHECK_EQ(visit(c, buf + 4 * PAGE, PAGE, &iova), 1);
	CHECK(iof_map_cache_is_valid(c));
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	munmap(buf, 64 * PAGE);
	rig_close(&r);
}

TEST(owners_of_what_was_joined)
{
	struct rig r;
	char *buf = pages_of(8);
	struct iof_map_cache *c;
	struct iof_map_entry *e;
	uint64_t iova;

	rig_open(&r);
	c = cache_of(&r, 0, 0, 0);
	for (uint64_t i = 0; i < 5; i++) { /* each overlaps the one before */
		CHECK_EQ(iof_map_cache_get(c, buf + i * PAGE, 2 * PAGE, &iova, &e), 1);
		iof_map_cache_own(e, 1 + i);
		iof_map_cache_put(c, e);
	}
	CHECK_EQ(rig_mappings(&r), 1);
	CHECK_EQ(told, 0); /* the one that is left lies in the memory of all */
	CHECK(iof_map_cache_is_valid(c));
	CHECK_EQ(iof_map_cache_invalidate(c, buf, 1), 0);
	CHECK_EQ(told, 5);
	CHECK_EQ(told_sum, 15);

	CHECK_EQ(iof_map_cache_get(c, buf, 2 * PAGE, &iova, &e), 1);
	iof_map_cache_own(e, 7);
	CHECK_EQ(visit(c, buf + PAGE, 2 * PAGE, &iova), 1); /* in use: not joined, told when it goes */
	CHECK_EQ(told, 5);
	iof_map_cache_put(c, e);
	CHECK_EQ(told, 6);
	munmap(buf + PAGE, 2 * PAGE);
	CHECK_EQ(iof_map_cache_get(c, buf + 3 * PAGE, PAGE, &iova, &e), 1);
	iof_map_cache_own(e, 8);
	iof_map_cache_put(c, e);
	CHECK_EQ(visit(c, buf + 2 * PAGE, 2 * PAGE, &iova), -EFAULT); /* told though nothing came of it */
	CHECK_EQ(told, 7);
	CHECK(iof_map_cache_is_valid(c));
	CHECK_EQ(iof_map_cache_get(c, buf + 4 * PAGE, PAGE, &iova, &e), 1);
	iof_map_cache_own(e, 9);
	CHECK_EQ(unmap(r.ctx, r.ioas, 0, UINT64_MAX, NULL), 0);
	iof_map_cache_abandon(c);
	CHECK_EQ(told, 8);
	munmap(buf, 8 * PAGE);
	rig_close(&r);
}

TEST(invalidation)
{
	struct rig r;
	char *buf = pages_of(16);
	struct iof_map_cache *c;
	struct iof_map_entry *e, *f;
	uint64_t iova, old;

	rig_open(&r);
	c = cache_of(&r, 0, 0, 0);
	CHECK_EQ(visit(c, buf, PAGE, &iova), 1);
	CHECK_EQ(iof_map_cache_get(c, buf + 4 * PAGE, PAGE, &old, &e), 1);
	CHECK_EQ(iof_map_cache_invalidate(c, buf, 0), -EINVAL);
	CHECK_EQ(iof_map_cache_invalidate(c, buf + PAGE, 3 * PAGE), 0);
	CHECK_EQ(rig_mappings(&r), 2);
	CHECK_EQ(iof_map_cache_invalidate(c, buf + 100, 5 * PAGE), 1);
	CHECK_EQ(rig_mappings(&r), 1);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, old, "used", 5, NULL), 0);
	CHECK_EQ(iof_map_cache_get(c, buf + 4 * PAGE, PAGE, &iova, &f), 1); /* not answered from the old one */
	CHECK(iova != old);
	CHECK(iof_map_cache_is_valid(c));
	CHECK_EQ(stats(c).in_use, 2);
	iof_map_cache_put(c, e);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, old, "used", 5, NULL), -EFAULT);
	CHECK_EQ(visit(c, buf + 4 * PAGE, PAGE, &iova), 0);
	iof_map_cache_put(c, f);
	CHECK_EQ(stats(c).invalidated, 2);
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	munmap(buf, 16 * PAGE);
	rig_close(&r);
}

/* ---- memory that goes ---- */

static struct iof_map_cache *watching(struct rig *r)
{
	struct iof_map_cache_config cfg = config(r, IOF_MAP_CACHE_WATCH);
	struct iof_map_cache *c;
	int rc = iof_map_cache_create(r->ctx, &cfg, &c);

	if (!rc)
		return c;
	printf("memory cannot be watched here: %s\n", strerror(-rc));
	return NULL;
}

/* Unmaps and maps in one step: a hole could be filled by any other thread. */
static void *renew(void *at, size_t n)
{
	return mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

TEST(memory_goes)
{
	struct rig r;
	char *buf = pages_of(16);
	struct iof_map_cache *c;
	struct iof_map_entry *e;
	uint64_t iova, mine;

	rig_open(&r);
	c = watching(&r);
	for (int i = 0; c && i < 300; i++) {
		CHECK_EQ(visit(c, buf, 2 * PAGE, &iova), 1);
		CHECK_EQ(visit(c, buf + 8 * PAGE, PAGE, &iova), i ? 0 : 1);
		renew(buf, PAGE); /* new memory at the old address: never the old mapping */
	}
	if (c) {
		CHECK(stats(c).watched >= 301);
		CHECK(stats(c).events >= 299); /* the last may still be under way */
		CHECK_EQ(visit(c, buf, PAGE, &iova), 1);
		madvise(buf, PAGE, MADV_DONTNEED);
		CHECK_EQ(visit(c, buf, PAGE, &iova), 1);
		CHECK(mremap(buf, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, buf + 12 * PAGE) == buf + 12 * PAGE);
		CHECK_EQ(visit(c, buf, PAGE, &iova), -EFAULT);
		CHECK_EQ(iof_map_cache_get(c, buf + PAGE, PAGE, &mine, &e), 1);
		renew(buf + PAGE, PAGE);
		CHECK_EQ(visit(c, buf + PAGE, PAGE, &iova), 1); /* in use when it went: still not answered */
		CHECK(iova != mine);
		iof_map_cache_put(c, e);
		munmap(buf + 8 * PAGE, PAGE);
		CHECK_EQ(visit(c, buf + 8 * PAGE, PAGE, &iova), -EFAULT);
		CHECK(iof_map_cache_is_valid(c));
		CHECK_EQ(iof_map_cache_destroy(c), 0);
	}
	munmap(buf, 16 * PAGE);
	rig_close(&r);
}

/* ---- a model: what was got and neither evicted nor invalidated is hit, everything answers with the right memory ---- */

#define FIELD 96
#define HELD 12

static void random_run(uint32_t flags, uint64_t max_bytes, uint64_t max_entries, uint64_t seed)
{
	struct rig r;
	char *buf = pages_of(FIELD);
	struct iof_map_cache *c;
	struct iof_map_entry *held[HELD];
	uint64_t iova, at, n, back, owned = 0;
	unsigned users = 0;
	int rc;

	rig_open(&r);
	c = cache_of(&r, flags, max_bytes, max_entries);
	for (unsigned step = 0; step < 4000; step++) {
		at = check_random(&seed) % (FIELD * PAGE - 1);
		n = 1 + check_random(&seed) % (8 * PAGE);
		n = n > FIELD * PAGE - at ? FIELD * PAGE - at : n;
		switch (check_random(&seed) % 8) {
		case 0:
			CHECK(iof_map_cache_invalidate(c, buf + at, n) >= 0);
			break;
		case 1:
			if (users)
				iof_map_cache_put(c, held[--users]);
			break;
		case 2:
			iof_map_cache_trim(c);
			break;
		default:
			if (users == HELD)
				iof_map_cache_put(c, held[--users]);
			rc = iof_map_cache_get(c, buf + at, n, &iova, &held[users]);
			CHECK(rc == 0 || rc == 1 || rc == -ENOSPC);
			if (rc < 0)
				break;
			for (uint64_t b = 0; b < n; b += PAGE) {
				CHECK_EQ(iof_translate(r.ctx, r.ioas, 1, &(uint64_t){ iova + b }, &back, NULL), 1);
				CHECK_EQ(back, (uintptr_t)buf + at + b);
			}
			if (rc)
				owned += !iof_map_cache_own(held[users], 1);
			users++;
			CHECK_EQ(visit(c, buf + at + n / 2, 1, &back), 0); /* in use, so it is there */
			CHECK_EQ(back, iova + n / 2);
		}
		if (step % 16 == 0)
			CHECK(iof_map_cache_is_valid(c));
	}
	while (users)
		iof_map_cache_put(c, held[--users]);
	CHECK_EQ(stats(c).in_use, 0);
	CHECK_EQ(stats(c).entries, rig_mappings(&r));
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	CHECK_EQ(told, owned);
	munmap(buf, FIELD * PAGE);
	rig_close(&r);
}

TEST(random_plain)
{
	random_run(0, 0, 0, 1);
}

TEST(random_tight)
{
	random_run(0, 40 * PAGE, 14, 2);
}

TEST(random_joining)
{
	random_run(IOF_MAP_CACHE_JOIN, 60 * PAGE, 20, 3);
}

/* ---- every allocation fails once ---- */

static int sequence(struct rig *r, struct iof_alloc *heap, char *buf)
{
	struct iof_map_cache_config cfg = config(r, 0);
	struct iof_map_cache *c;
	uint64_t iova;
	int rc, bad = 0;

	cfg.alloc = heap;
	rc = iof_map_cache_create(r->ctx, &cfg, &c);
	if (rc)
		return rc;
	for (unsigned i = 0; i < 20; i++) {
		rc = visit(c, buf + 2 * i * PAGE, PAGE, &iova);
		bad = rc < 0 ? rc : bad;
		CHECK(iof_map_cache_is_valid(c));
	}
	CHECK_EQ(iof_map_cache_destroy(c), 0);
	return bad;
}

TEST(allocations_fail)
{
	char *buf = pages_of(64);
	struct iof_alloc heap;
	struct rig r;
	unsigned failures = 0;

	iof_alloc_init_heap(&heap);
	rig_open(&r);
	for (int64_t n = 1;; n++) {
		iof_alloc_fail_nth(&heap, n);
		sequence(&r, &heap, buf);
		CHECK_EQ(heap.live_bytes, 0);
		CHECK_EQ(rig_mappings(&r), 0);
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		failures++;
	}
	CHECK(failures >= 20);
	munmap(buf, 64 * PAGE);
	rig_close(&r);
}

/* ---- threads ---- */

#define THREADS 4
#define TURNS 4000

static struct rig rig;
static struct iof_map_cache *common;
static char *field;
static _Atomic uint64_t wrong;

static void use(uint64_t *seed)
{
	uint64_t at = check_random(seed) % (40 * PAGE), n = 1 + check_random(seed) % (4 * PAGE), iova, back[2] = { 0, 0 };
	struct iof_map_entry *e;
	int rc = iof_map_cache_get(common, field + at, n, &iova, &e);

	if (rc < 0) {
		if (rc != -ENOSPC)
			atomic_fetch_add(&wrong, 1);
		return;
	}
	if (iof_translate(rig.ctx, rig.ioas, 2, (uint64_t[]){ iova, iova + (n - 1) }, back, NULL) != 2 ||
	    back[0] != (uintptr_t)field + at || back[1] != back[0] + (n - 1))
		atomic_fetch_add(&wrong, 1);
	iof_map_cache_put(common, e);
}

static void *work(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	for (unsigned i = 0; i < TURNS; i++) {
		if (check_random(&seed) % 16 == 0)
			iof_map_cache_invalidate(common, field + check_random(&seed) % (40 * PAGE), 1 + check_random(&seed) % PAGE);
		else if (check_random(&seed) % 256 == 0)
			iof_map_cache_trim(common);
		else
			use(&seed);
	}
	return NULL;
}

static void run_threads(uint32_t flags)
{
	pthread_t t[THREADS];

	rig_open(&rig);
	field = pages_of(48);
	common = cache_of(&rig, flags, 60 * PAGE, 24);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, work, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	CHECK_EQ(wrong, 0);
	CHECK_EQ(stats(common).in_use, 0);
	CHECK(iof_map_cache_is_valid(common));
	CHECK_EQ(iof_map_cache_destroy(common), 0);
	munmap(field, 48 * PAGE);
	rig_close(&rig);
}

TEST(threads)
{
	told = told_sum = 0;
	run_threads(0);
}

TEST(threads_joining)
{
	run_threads(IOF_MAP_CACHE_JOIN);
}

/* Memory comes and goes under many threads' gets: a get after the munmap of the same thread never sees what was before. */
static void *come_and_go(void *arg)
{
	char *mine = field + (uintptr_t)arg * 8 * PAGE;
	uint64_t iova;

	for (unsigned i = 0; i < 300; i++) {
		if (visit(common, mine, 2 * PAGE, &iova) != 1)
			atomic_fetch_add(&wrong, 1);
		renew(mine, 2 * PAGE);
	}
	return NULL;
}

TEST(threads_and_memory_that_goes)
{
	pthread_t t[THREADS];

	rig_open(&rig);
	field = pages_of(48);
	common = watching(&rig);
	if (common) {
		for (uintptr_t i = 0; i < THREADS; i++)
			CHECK_EQ(pthread_create(&t[i], NULL, come_and_go, (void *)i), 0);
		for (unsigned i = 0; i < THREADS; i++)
			CHECK_EQ(pthread_join(t[i], NULL), 0);
		CHECK_EQ(wrong, 0);
		CHECK_EQ(iof_map_cache_destroy(common), 0);
	}
	munmap(field, 48 * PAGE);
	rig_close(&rig);
}
