// SPDX-License-Identifier: Apache-2.0
/* needs: tsan */
/*
 * Page tables under threads: mappers in disjoint ranges that share tables, a growing top, and walkers that never see
 * nonsense.
 */
#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "pagetable/pagetable.h"
#include "util/rsec.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define MAPPERS 3
#define WALKERS 2
#define ROUNDS 400
#define MEMORY UINT64_C(0x100000000000)

struct shared {
	struct iof_alloc alloc;
	struct iof_pt *pt;
	struct iof_rsec rsec;
	_Atomic bool stop;
	_Atomic unsigned bad;
	uint64_t stride;
};

static struct shared s;

struct mapper {
	unsigned id;
	uint64_t seed;
};

/* IOVA and memory differ by a constant, so that a walker can tell a right answer from a wrong one. */
static bool right(uint64_t iova, uint64_t address)
{
	return address == UINT64_MAX || address == MEMORY + iova;
}

static void release(struct iof_pt_gather *g)
{
	if (!g->count)
		return;
	iof_rsec_sync(&s.rsec);
	iof_pt_release(s.pt, g);
}

/*
 * Each mapper has its own slice of every stride: the slices lie in the same tables, sometimes in the same cache line.
 */
static void *mapper_main(void *arg)
{
	struct mapper *me = arg;
	struct iof_pt_gather g = { 0 };

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t r = check_random(&me->seed), slice = s.stride / MAPPERS & ~UINT64_C(0xfff);
		uint64_t iova = (r % 16) * s.stride + me->id * slice, pages = slice / 4096 < 2000 ? slice / 4096 : 2000;
		uint64_t length = 4096 * (1 + (r >> 8) % pages), removed;

		if (iof_pt_map(s.pt, iova, MEMORY + iova, length, RW, &g))
			s.bad++;
		release(&g);
		if (iof_pt_translate(s.pt, iova + length - 1, NULL) != MEMORY + iova + length - 1)
			s.bad++;
		removed = iof_pt_unmap(s.pt, iova, length, &g);
		if (removed != length)
			s.bad++;
		release(&g);
	}
	return NULL;
}

static void *walker_main(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (!s.stop) {
		uint64_t iova = check_random(&seed) % (16 * s.stride), addresses[4];
		uint64_t iovas[4] = { iova, iova + 1, iova + 4096, iova + 8192 };
		unsigned token = iof_rsec_enter(&s.rsec);
		struct iof_pt_leaf leaf;

		if (!iof_pt_walk(s.pt, iova, &leaf) && !right(leaf.iova, leaf.address))
			s.bad++;
		iof_pt_translate_many(s.pt, iovas, 4, addresses, NULL);
		for (unsigned i = 0; i < 4; i++)
			if (!right(iovas[i], addresses[i]))
				s.bad++;
		if (!iof_pt_next_leaf(s.pt, (struct iof_range){ iova, UINT64_MAX }, &leaf) &&
		    !right(leaf.iova, leaf.address))
			s.bad++;
		iof_rsec_leave(&s.rsec, token);
	}
	return NULL;
}

static void run(struct iof_pt_config cfg, uint64_t stride)
{
	pthread_t threads[MAPPERS + WALKERS];
	struct mapper mappers[MAPPERS];

	memset(&s, 0, sizeof(s));
	iof_alloc_init_heap(&s.alloc);
	iof_rsec_init(&s.rsec, false);
	s.stride = stride;
	CHECK_EQ(iof_pt_create(&cfg, &s.alloc, &s.pt), 0);
	for (unsigned i = 0; i < WALKERS; i++)
		CHECK_EQ(pthread_create(&threads[MAPPERS + i], NULL, walker_main, (void *)(uintptr_t)(i + 77)), 0);
	for (unsigned i = 0; i < MAPPERS; i++) {
		mappers[i] = (struct mapper){ .id = i, .seed = i * 7919 + 3 };
		CHECK_EQ(pthread_create(&threads[i], NULL, mapper_main, &mappers[i]), 0);
	}
	for (unsigned i = 0; i < MAPPERS; i++)
		pthread_join(threads[i], NULL);
	s.stop = true;
	for (unsigned i = 0; i < WALKERS; i++)
		pthread_join(threads[MAPPERS + i], NULL);
	CHECK_EQ(s.bad, 0);
	CHECK(iof_pt_is_valid(s.pt));
	iof_pt_destroy(s.pt);
	CHECK_EQ(s.alloc.live_blocks, 0);
}

TEST(vtdss_slices_of_one_table)
{
	run((struct iof_pt_config){ .format = IOF_PT_VTDSS, .va_lg2 = 48 }, 0x60000);
}

TEST(vtdss_slices_of_many_tables)
{
	run((struct iof_pt_config){ .format = IOF_PT_VTDSS, .va_lg2 = 57, .page_sizes = 4096 }, UINT64_C(3) << 22);
}

TEST(amdv1_with_a_growing_top)
{
	run((struct iof_pt_config){ .format = IOF_PT_AMDV1, .top_level = 1, .features = IOF_PT_GROWING_TOP },
	    UINT64_C(3) << 36 | 0x300000);
}

TEST(mock_slices)
{
	run((struct iof_pt_config){ .format = IOF_PT_MOCK, .top_level = 2 }, 0x120000);
}

#define LENT (UINT64_C(64) << 21) /* 64 lowest tables */

/* Maps and unmaps as many tables as there are, so that all end up with the calling thread's group. */
static void *borrow_tables(void *arg)
{
	struct iof_pt_gather g = { 0 };

	(void)arg;
	if (iof_pt_map(s.pt, 0, MEMORY + 4096, LENT, RW, &g) || iof_pt_unmap(s.pt, 0, LENT, &g) != LENT)
		s.bad++;
	iof_pt_release(s.pt, &g);
	return NULL;
}

/* What one thread has freed serves the others, whichever group they are of: the pool does not grow. */
TEST(freed_tables_serve_every_thread)
{
	const struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	struct iof_pt_stats first, now;

	memset(&s, 0, sizeof(s));
	iof_alloc_init_heap(&s.alloc);
	CHECK_EQ(iof_pt_create(&cfg, &s.alloc, &s.pt), 0);
	borrow_tables(NULL);
	iof_pt_stats(s.pt, &first);
	CHECK_EQ(first.recycled_tables, LENT >> 21);
	for (unsigned i = 0; i < 2 * IOF_STRIPES; i++) {
		pthread_t thread;

		CHECK_EQ(pthread_create(&thread, NULL, borrow_tables, NULL), 0);
		pthread_join(thread, NULL);
		iof_pt_stats(s.pt, &now);
		CHECK_EQ(now.table_bytes, first.table_bytes);
		CHECK(now.recycled_tables >= first.recycled_tables);
		CHECK(iof_pt_is_valid(s.pt));
	}
	CHECK_EQ(s.bad, 0);
	iof_pt_destroy(s.pt);
}
