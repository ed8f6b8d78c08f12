/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA through guests' tables while the guest rewrites them and invalidates, the host unmaps and maps under both, and attachments change: what a device
 * reads was there, or it faults. needs: tsan
 */
#include <errno.h>
#include <pthread.h>

#include "guest_rig.h"

static struct guest g;
static uint64_t root, pages[2];
static uint32_t nested;
static _Atomic bool stop;
static _Atomic unsigned reads, faults, wrong;

#define VA UINT64_C(0x7000001000)
#define EXTRA (GPA + RAM_PAGES * PAGE + PAGE)

static void *reader(void *p)
{
	uint64_t seed = (uintptr_t)p + 77;

	while (!atomic_load(&stop)) {
		unsigned which = check_random(&seed) % 3;
		int byte = peek(&g, VA + which * PAGE);

		atomic_fetch_add(byte >= 0 ? &reads : &faults, 1);
		/* page 0 is one of two pages, page 1 may be unmapped below, page 2 never was */
		if (byte >= 0 && (which == 0 ? byte != 1 && byte != 2 : which == 1 ? byte != 3 : true))
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

static void *rewriter(void *p)
{
	(void)p;
	for (unsigned i = 0; !atomic_load(&stop); i++) {
		guest_map(&g, root, VA, pages[i & 1]);
		vtd_invalidate(&g, nested, VA, 1);
		__atomic_store_n(guest_entry(&g, root, 3, VA + 2 * PAGE, 0), i % 3 ? 0 : EXTRA | UINT64_C(1) << 51, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* When UNMAP has returned, the memory is ours alone: a device that still reads it would see what is written now. */
static void *unmapper(void *p)
{
	uint8_t *page = p;
	uint64_t at = EXTRA, bytes;

	while (!atomic_load(&stop)) {
		memset(page, 3, PAGE);
		if (map_at(g.ctx, g.ioas, page, PAGE, RW | FIXED, &at))
			atomic_fetch_add(&wrong, 1);
		for (int i = 0; i < 20; i++)
			sched_yield();
		if (unmap(g.ctx, g.ioas, at, PAGE, &bytes))
			atomic_fetch_add(&wrong, 1);
		memset(page, 0xee, PAGE);
	}
	return NULL;
}

TEST(everything_at_once)
{
	uint8_t *extra = pages_of(1);
	pthread_t t[4];
	uint32_t other;

	guest_open(&g, IOF_PRESET_INTEL, 0);
	root = guest_page(&g);
	for (int i = 0; i < 2; i++) {
		pages[i] = guest_page(&g);
		memset(guest_at(&g, pages[i]), i + 1, PAGE);
	}
	guest_map(&g, root, VA, pages[0]);
	guest_map(&g, root, VA + PAGE, EXTRA);
	guest_map(&g, root, VA + 2 * PAGE, 0);
	CHECK_EQ(vtd_new(&g, root, 0, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(pthread_create(&t[0], NULL, reader, NULL), 0);
	CHECK_EQ(pthread_create(&t[1], NULL, reader, &t), 0);
	CHECK_EQ(pthread_create(&t[2], NULL, rewriter, NULL), 0);
	CHECK_EQ(pthread_create(&t[3], NULL, unmapper, extra), 0);
	for (int i = 0; i < 300 || atomic_load(&reads) < 1000 || atomic_load(&faults) < 100; i++) {
		CHECK_EQ(vtd_new(&g, root, 0, 0, &other), 0);
		CHECK_EQ(attach(g.dev, i & 1 ? other : g.parent, NULL), 0);
		CHECK_EQ(attach(g.dev, nested, NULL), 0);
		CHECK_EQ(destroy(g.ctx, other), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(atomic_load(&wrong), 0);
	guest_close(&g);
	munmap(extra, PAGE);
}
