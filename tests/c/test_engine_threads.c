/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * Many threads in one engine: mapping, unmapping, copying, translating and DMA on shared and on own IOASes, while devices are attached,
 * replaced, detached, closed and opened again. Nothing may be lost, and an UNMAP that has returned is quiet.
 *
 * What a call may answer while others are at work is a short list; anything else is counted as odd and fails the test.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "check.h"
#include "engine.h"
#include "util/alloc.h"

#define THREADS 4
#define TURNS 1500
#define BUFFER 16
#define WINDOW 0x10000000ul
#define WINDOW_PAGES 24

static struct iof_machine *m;
static struct iof_alloc heap;
static struct iof_handle *ctx, *own_dev[THREADS];
static uint32_t shared[2];
static _Atomic uint32_t moving_id;
static _Atomic int odd, busy;
static _Atomic bool stop;

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t seed;
	uint32_t own;
	uint8_t *buffer;
};

static void may_be(const char *what, int rc, int a, int b, int c)
{
	if (!rc || rc == a || rc == b || rc == c)
		return;
	printf("%s: unexpected %d\n", what, rc);
	atomic_fetch_add(&odd, 1);
}

static uint64_t pick(struct worker *w, uint64_t n)
{
	return check_random(&w->seed) % n;
}

/* Slots of the window overlap on purpose: one to four pages at any page. */
static void map_in_window(struct worker *w, uint32_t ioas)
{
	uint64_t n = 1 + pick(w, 4), iova = WINDOW + pick(w, WINDOW_PAGES) * PAGE;

	may_be("map", map_at(ctx, ioas, w->buffer + pick(w, BUFFER - 4) * PAGE, n * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova),
	       -EEXIST, 0, 0);
}

static void unmap_in_window(struct worker *w, uint32_t ioas)
{
	uint64_t n = 1 + pick(w, 8), iova = WINDOW + pick(w, WINDOW_PAGES) * PAGE;

	may_be("unmap", unmap(ctx, ioas, iova, n * PAGE, NULL), -ENOENT, -EBUSY, 0);
}

static void copy_around(struct worker *w)
{
	uint64_t to, from = WINDOW + pick(w, WINDOW_PAGES) * PAGE;
	uint32_t src = shared[pick(w, 2)], dst = pick(w, 2) ? w->own : shared[pick(w, 2)];

	to = WINDOW + (WINDOW_PAGES + 4 + pick(w, WINDOW_PAGES)) * PAGE;
	may_be("copy", copy(ctx, dst, src, from, (1 + pick(w, 3)) * PAGE, IOF_MAP_READABLE | IOF_MAP_FIXED_IOVA, &to), -ENOENT,
	       -EEXIST, 0);
}

static void look(struct worker *w)
{
	uint64_t iovas[64], addresses[64], digest;
	struct iof_endpoint_info ends[8];
	struct iof_ioas_stats stats;
	struct iof_hwpt_stats hwpt;
	struct iof_mapping_info info;
	uint8_t prots[64];

	for (unsigned i = 0; i < 64; i++)
		iovas[i] = WINDOW + i * PAGE;
	switch (pick(w, 6)) {
	case 0:
		may_be("stats", iof_ioas_stats(ctx, shared[0], &stats), 0, 0, 0);
		break;
	case 1:
		may_be("mapping", iof_ioas_mapping(ctx, shared[1], WINDOW, UINT64_MAX, &info), -ENOENT, 0, 0);
		break;
	case 2:
		may_be("digest", iof_digest(ctx, &digest), 0, 0, 0);
		break;
	case 3:
		if (iof_endpoints(ctx, 0, 0, 8, ends) < THREADS)
			atomic_fetch_add(&odd, 1);
		break;
	case 4:
		may_be("hwpt stats", iof_hwpt_stats(ctx, 1 + (uint32_t)pick(w, 16), &hwpt), -ENOENT, 0, 0);
		break;
	default:
		if (iof_translate(ctx, shared[pick(w, 2)], 64, iovas, addresses, prots) < -ENODEV)
			atomic_fetch_add(&odd, 1);
	}
}

/* Own IOAS, own device that nobody moves: what the device writes is there when DMA returns. */
static void own_dma(struct worker *w)
{
	uint8_t *page = w->buffer + pick(w, 4) * PAGE, byte = (uint8_t)check_random(&w->seed), got = (uint8_t)~byte;
	uint64_t iova, at = pick(w, PAGE);

	if (map_at(ctx, w->own, page, PAGE, RW, &iova) || dma(own_dev[w->index], IOF_DMA_WRITE, iova + at, &byte, 1, NULL) ||
	    dma(own_dev[w->index], IOF_DMA_READ, iova + at, &got, 1, NULL) || got != byte || page[at] != byte ||
	    unmap(ctx, w->own, iova, PAGE, NULL)) {
		printf("own dma: not what was written\n");
		atomic_fetch_add(&odd, 1);
	}
	if (dma(own_dev[w->index], IOF_DMA_WRITE, iova + at, &byte, 1, NULL) != -EFAULT)
		atomic_fetch_add(&odd, 1);
}

/* Tables for a device that may be closed at any moment, and may be somebody else by then. */
static void tables(struct worker *w)
{
	uint32_t id, hwpt;
	int rc;

	id = atomic_load(&moving_id);
	rc = hwpt_alloc(ctx, id, shared[pick(w, 2)], &hwpt);
	may_be("hwpt alloc", rc, -ENOENT, 0, 0);
	if (rc)
		return;
	while ((rc = destroy(ctx, hwpt)) == -EBUSY)
		sched_yield();
	may_be("destroy", rc, 0, 0, 0);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < TURNS; i++) {
		uint32_t ioas = pick(w, 4) ? shared[pick(w, 2)] : w->own;

		switch (pick(w, 8)) {
		case 0:
		case 1:
			map_in_window(w, ioas);
			break;
		case 2:
		case 3:
			unmap_in_window(w, ioas);
			break;
		case 4:
			copy_around(w);
			break;
		case 5:
			look(w);
			break;
		case 6:
			own_dma(w);
			break;
		default:
			tables(w);
		}
	}
	atomic_fetch_sub(&busy, 1);
	return NULL;
}

/* Two devices of one group wander between the shared IOASes; one of them is closed and opened over and over. */
static void *move(void *arg)
{
	struct iof_handle *a, *b;
	uint32_t id;
	char byte;
	int rc;

	(void)arg;
	rc = iof_engine_open_device(m, THREADS, &a);
	may_be("open", rc, 0, 0, 0);
	may_be("bind", bind_device(a, ctx, NULL), 0, 0, 0);
	for (unsigned i = 0; !atomic_load(&stop); i++) {
		may_be("open", iof_engine_open_device(m, THREADS + 1, &b), 0, 0, 0);
		may_be("bind", bind_device(b, ctx, &id), 0, 0, 0);
		atomic_store(&moving_id, id);
		may_be("attach", attach(a, shared[i % 2], NULL), 0, 0, 0);
		may_be("attach", attach(b, shared[i % 2], NULL), 0, 0, 0);
		rc = dma(a, IOF_DMA_READ, WINDOW, &byte, 1, NULL);
		may_be("dma", rc, -EFAULT, 0, 0);
		may_be("replace", attach(b, shared[(i + 1) % 2], NULL), 0, 0, 0);
		may_be("dma", dma(b, IOF_DMA_READ, WINDOW, &byte, 1, NULL), -EFAULT, 0, 0);
		if (i % 3)
			may_be("detach", detach(a), 0, 0, 0);
		iof_close(b);
	}
	iof_close(a);
	return NULL;
}

static void open_all(void)
{
	uint32_t groups[THREADS + 1];

	for (unsigned i = 0; i < THREADS; i++)
		groups[i] = 1;
	groups[THREADS] = 2;
	iof_alloc_init_heap(&heap);
	m = machine_with(IOF_PRESET_AMD, groups, THREADS + 1, &heap);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(ioas_alloc(ctx, &shared[0]), 0);
	CHECK_EQ(ioas_alloc(ctx, &shared[1]), 0);
	atomic_store(&odd, 0);
	atomic_store(&stop, false);
}

static void close_all(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(heap.live_blocks, 0);
}

static void nothing_is_left(uint32_t ioas)
{
	struct iof_ioas_stats stats;

	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(iof_ioas_stats(ctx, ioas, &stats), 0);
	CHECK_EQ(stats.mappings, 0);
	CHECK_EQ(stats.bytes_mapped, 0);
	CHECK_EQ(stats.pinned_pages, 0);
}

TEST(everything_at_once)
{
	struct worker w[THREADS];
	pthread_t mover;

	open_all();
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .index = i, .seed = 77 + i, .buffer = pages_of(BUFFER) };
		CHECK_EQ(ioas_alloc(ctx, &w[i].own), 0);
		CHECK_EQ(iof_engine_open_device(m, i, &own_dev[i]), 0);
		CHECK_EQ(bind_device(own_dev[i], ctx, NULL), 0);
		CHECK_EQ(attach(own_dev[i], w[i].own, NULL), 0);
	}
	atomic_store(&busy, THREADS);
	pthread_create(&mover, NULL, move, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	atomic_store(&stop, true);
	pthread_join(mover, NULL);
	CHECK_EQ(atomic_load(&odd), 0);
	CHECK(iof_machine_is_valid(m));
	for (unsigned i = 0; i < THREADS; i++) {
		nothing_is_left(w[i].own);
		iof_close(own_dev[i]);
		munmap(w[i].buffer, BUFFER * PAGE);
	}
	nothing_is_left(shared[0]);
	nothing_is_left(shared[1]);
	close_all();
}

/* ---- quiet ---- */

/* DMA without end over a window that mappings come and go in. Memory behind a mapping is always there: a MEMORY fault is a use after unmap. */
static void *hammer(void *arg)
{
	struct iof_dma_segment s = { WINDOW, PAGE };
	struct iof_dma d;
	int rc;

	while (!atomic_load(&stop)) {
		d = (struct iof_dma){ .op = IOF_DMA_FILL, .pasid = IOF_NO_PASID, .segments = &s, .n_segments = 1, .fill = 0xdd };
		rc = iof_dma(arg, &d);
		if (rc && d.reason != IOF_DMA_UNMAPPED && d.reason != IOF_DMA_BLOCKED) {
			printf("dma: reason %d\n", d.reason);
			atomic_fetch_add(&odd, 1);
		}
		if (!rc)
			atomic_fetch_add(&busy, 1);
	}
	return NULL;
}

static bool all_bytes(const uint8_t *p, uint8_t byte)
{
	for (size_t i = 0; i < PAGE; i++)
		if (p[i] != byte)
			return false;
	return true;
}

/* Until the device has written once more; gives up after a while, since a starved thread proves nothing. */
static void await_dma(void)
{
	int seen = atomic_load(&busy);

	for (int i = 0; i < 2000 && atomic_load(&busy) == seen; i++)
		sched_yield();
}

/* The page is out of the device's reach now: what is put there stays, and the page may go. */
static void is_quiet(uint8_t *page)
{
	memset(page, 0x11, PAGE);
	for (int i = 0; i < 5; i++)
		sched_yield();
	CHECK(all_bytes(page, 0x11));
	munmap(page, PAGE);
}

static void quiet(bool by_detach)
{
	struct iof_handle *d[2];
	pthread_t t[2];
	uint64_t iova;
	int written = 0;

	open_all();
	atomic_store(&busy, 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(iof_engine_open_device(m, i, &d[i]), 0);
		CHECK_EQ(bind_device(d[i], ctx, NULL), 0);
		CHECK_EQ(attach(d[i], shared[0], NULL), 0);
		pthread_create(&t[i], NULL, hammer, d[i]);
	}
	for (int turn = 0; turn < 80; turn++) {
		uint8_t *page = pages_of(1);

		iova = WINDOW;
		CHECK_EQ(map_at(ctx, shared[0], page, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
		await_dma();
		if (by_detach) {
			CHECK_EQ(detach(d[0]), 0);
			CHECK_EQ(detach(d[1]), 0);
		} else {
			CHECK_EQ(unmap(ctx, shared[0], iova, PAGE, NULL), 0);
		}
		written += page[0] == 0xdd;
		is_quiet(page);
		if (by_detach) {
			CHECK_EQ(unmap(ctx, shared[0], iova, PAGE, NULL), 0);
			CHECK_EQ(attach(d[0], shared[0], NULL), 0);
			CHECK_EQ(attach(d[1], shared[0], NULL), 0);
		}
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		iof_close(d[i]);
	}
	CHECK_EQ(atomic_load(&odd), 0);
	CHECK(written > 0);
	close_all();
}

TEST(unmap_is_quiet)
{
	quiet(false);
}

TEST(detach_is_quiet)
{
	quiet(true);
}

/* ---- closing a device while others use its id ---- */

static void *allocate(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop))
		tables(w);
	return NULL;
}

TEST(a_device_closes_under_hwpt_alloc)
{
	struct worker w[2] = { { .seed = 5 }, { .seed = 6 } };
	struct iof_handle *dev;
	uint32_t id;

	open_all();
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&w[i].thread, NULL, allocate, &w[i]);
	for (int i = 0; i < 2000; i++) {
		CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
		CHECK_EQ(bind_device(dev, ctx, &id), 0);
		atomic_store(&moving_id, id);
		iof_close(dev);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	CHECK_EQ(atomic_load(&odd), 0);
	close_all();
}

/* ---- an automatic table goes with its last attachment, whoever looks at it ---- */

static void *look_at_tables(void *arg)
{
	uint64_t iova = WINDOW, address;
	struct iof_hwpt_stats stats;

	(void)arg;
	for (uint32_t id = 1; !atomic_load(&stop); id = id % 8 + 1) {
		iof_translate(ctx, id, 1, &iova, &address, NULL);
		iof_hwpt_stats(ctx, id, &stats);
		map_at(ctx, id, NULL, 0, RW, &address);
	}
	return NULL;
}

TEST(automatic_tables_do_not_stay_behind)
{
	struct iof_handle *dev;
	uint32_t hwpt;
	pthread_t t;

	open_all();
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(bind_device(dev, ctx, NULL), 0);
	pthread_create(&t, NULL, look_at_tables, NULL);
	for (int i = 0; i < 2000; i++) {
		CHECK_EQ(attach(dev, shared[i % 2], &hwpt), 0);
		if (i % 2)
			continue;
		CHECK_EQ(detach(dev), 0);
		CHECK_EQ(destroy(ctx, hwpt), -ENOENT);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	iof_close(dev);
	CHECK_EQ(destroy(ctx, shared[0]), 0);
	CHECK_EQ(destroy(ctx, shared[1]), 0);
	close_all();
}
