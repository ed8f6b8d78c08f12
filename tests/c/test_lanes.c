/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * Lanes (ioas/lane.h): an IOAS whose lanes are opened by force, at any moment, answers as one that never has any; closing cannot fail; and threads that map in windows of
 * their own, beside others that close their lanes, lose nothing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "ioas/lane.h"
#include "provider/engine.h"

#define WINDOW (UINT64_C(1) << IOFI_LANE_SHIFT)
#define BASE (UINT64_C(1) << 40)
#define WINDOWS 4u

struct world {
	struct iof_alloc alloc;
	struct iof_machine *m;
	struct iof_handle *ctx, *dev[2];
	uint32_t ioas;
	bool attached[2];
};

static void world_open(struct world *w)
{
	static const uint32_t groups[] = { 1, 1 };
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = groups, .n_groups = 2, .alloc = &w->alloc,
					  .policy = IOF_POLICY_TRUST };

	iof_alloc_init_heap(&w->alloc);
	CHECK_EQ(iof_machine_create(&cfg, &w->m), 0);
	CHECK_EQ(iof_engine_open(w->m, &w->ctx), 0);
	CHECK_EQ(ioas_alloc(w->ctx, &w->ioas), 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(iof_engine_open_device(w->m, i, &w->dev[i]), 0);
		CHECK_EQ(bind_device(w->dev[i], w->ctx, NULL), 0);
	}
	CHECK_EQ(attach(w->dev[0], w->ioas, NULL), 0);
	w->attached[0] = true;
	w->attached[1] = false;
}

/* Everything comes back: records and nodes that lanes had aside, too. */
static void world_close(struct world *w)
{
	CHECK(iof_machine_is_valid(w->m));
	iof_close(w->dev[0]);
	iof_close(w->dev[1]);
	iof_close(w->ctx);
	iof_machine_put(w->m);
	CHECK_EQ(w->alloc.live_blocks, 0);
	CHECK_EQ(w->alloc.live_bytes, 0);
}

static struct iof_ioas *ioas_of(struct world *w)
{
	struct iof_object *o = NULL;

	if (iof_object_enter(&iofi_engine(w->ctx)->file.ctx->objects, w->ioas, false, &o))
		abort();
	return (struct iof_ioas *)o;
}

/* As if a map at `iova` had found the lock taken. How many lanes are open then. */
static unsigned force_lane(struct world *w, uint64_t iova)
{
	struct iof_ioas *ioas = ioas_of(w);
	struct iof_lanes *lanes;
	unsigned open;

	iof_lock_take(&ioas->records->lock);
	lanes = ioas->lanes;
	if (lanes)
		lanes->wait = 0;
	iofi_lane_wanted(ioas, iova);
	lanes = ioas->lanes;
	open = lanes ? lanes->open : 0;
	iof_lock_drop(&ioas->records->lock);
	iof_object_leave(&ioas->object);
	return open;
}

static unsigned open_lanes(struct world *w)
{
	struct iof_ioas *ioas = ioas_of(w);
	struct iof_lanes *lanes = ioas->lanes;
	unsigned n = 0;

	for (unsigned i = 0; lanes && i < IOFI_LANES; i++)
		n += lanes->window[i] != 0;
	iof_object_leave(&ioas->object);
	return n;
}

static int map_fixed(struct world *w, uint64_t iova, uint64_t length)
{
	return map_at(w->ctx, w->ioas, (void *)(UINT64_C(1) << 44), length, RW | IOF_MAP_FIXED_IOVA, &iova);
}

/* ---- one thread ---- */

TEST(a_lane_serves_whole_pages_in_its_window)
{
	struct world w;
	struct iof_ioas_stats st;
	uint64_t bytes;

	world_open(&w);
	CHECK_EQ(map_fixed(&w, BASE, PAGE), 0);
	CHECK_EQ(force_lane(&w, BASE), 1);
	CHECK_EQ(map_fixed(&w, BASE + PAGE, 3 * PAGE), 0);
	CHECK_EQ(map_fixed(&w, BASE + WINDOW - PAGE, PAGE), 0);
	CHECK_EQ(map_fixed(&w, BASE + WINDOW, PAGE), 0); /* another window's */
	CHECK_EQ(unmap(w.ctx, w.ioas, BASE, PAGE, &bytes), 0);
	CHECK_EQ(bytes, PAGE);
	CHECK_EQ(open_lanes(&w), 1);
	CHECK_EQ(iof_ioas_stats(w.ctx, w.ioas, &st), 0);
	CHECK_EQ(open_lanes(&w), 0);
	CHECK_EQ(st.mappings, 3);
	CHECK_EQ(st.maps, 4);
	CHECK_EQ(st.unmaps, 1);
	CHECK_EQ(st.bytes_mapped, 5 * PAGE);
	CHECK_EQ(st.record_bytes, 3 * sizeof(struct iof_record));
	world_close(&w);
}

TEST(what_is_wrong_gets_the_index_answer)
{
	struct world w;
	uint64_t bytes;

	world_open(&w);
	for (unsigned i = 0; i < 4; i++) {
		force_lane(&w, BASE);
		CHECK_EQ(map_fixed(&w, BASE, 4 * PAGE), i ? -EEXIST : 0);
		force_lane(&w, BASE);
		CHECK_EQ(map_fixed(&w, BASE + 3 * PAGE, 2 * PAGE), -EEXIST);
		force_lane(&w, BASE);
		CHECK_EQ(map_fixed(&w, BASE + 1, PAGE), -EINVAL);
		force_lane(&w, BASE);
		CHECK_EQ(map_fixed(&w, BASE + 16 * PAGE, 0), -EINVAL);
		force_lane(&w, BASE);
		CHECK_EQ(unmap(w.ctx, w.ioas, BASE, 2 * PAGE, &bytes), -ENOENT);
		force_lane(&w, BASE);
		CHECK_EQ(unmap(w.ctx, w.ioas, BASE + PAGE, PAGE, &bytes), -ENOENT);
		force_lane(&w, BASE);
		CHECK_EQ(unmap(w.ctx, w.ioas, BASE + 8 * PAGE, PAGE, &bytes), -ENOENT);
	}
	world_close(&w);
}

TEST(no_lane_where_it_cannot_be)
{
	struct world w;
	uint64_t iova = BASE + WINDOW - PAGE;

	world_open(&w);
	CHECK_EQ(map_fixed(&w, iova, 2 * PAGE), 0); /* across two windows */
	CHECK_EQ(force_lane(&w, iova), 0);
	CHECK_EQ(force_lane(&w, iova + PAGE), 0);
	CHECK_EQ(force_lane(&w, 0xfee00000), 0); /* reserved */
	CHECK_EQ(detach(w.dev[0]), 0); /* no page table: bytes may be mapped */
	CHECK_EQ(force_lane(&w, BASE + 8 * WINDOW), 0);
	world_close(&w);
}

TEST(lanes_take_turns)
{
	struct world w;

	world_open(&w);
	for (unsigned i = 0; i < 3 * IOFI_LANES; i++) {
		CHECK_EQ(force_lane(&w, BASE + i * WINDOW), i < IOFI_LANES ? i + 1 : IOFI_LANES);
		for (unsigned k = 0; k < IOFI_LANE_PAGES; k += 1 + i % 2)
			CHECK_EQ(map_fixed(&w, BASE + i * WINDOW + k * PAGE, PAGE), 0);
	}
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(open_lanes(&w), 0);
	world_close(&w);
}

/* A lane that is closed at once makes the next one wait; one that was of use does not. */
TEST(patience_grows_and_shrinks)
{
	struct world w;
	struct iof_ioas *ioas;
	uint32_t before;
	uint64_t iova;

	world_open(&w);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(force_lane(&w, BASE), 1);
		CHECK_EQ(map_at(w.ctx, w.ioas, (void *)(UINT64_C(1) << 44), PAGE, RW, &iova), 0);
		CHECK_EQ(open_lanes(&w), 0);
	}
	ioas = ioas_of(&w);
	before = ((struct iof_lanes *)ioas->lanes)->patience;
	iof_object_leave(&ioas->object);
	CHECK(before > 32);
	CHECK_EQ(force_lane(&w, BASE), 1);
	for (unsigned i = 0; i < 200; i++) {
		CHECK_EQ(map_fixed(&w, BASE, PAGE), 0);
		CHECK_EQ(unmap(w.ctx, w.ioas, BASE, PAGE, NULL), 0);
	}
	CHECK_EQ(map_at(w.ctx, w.ioas, (void *)(UINT64_C(1) << 44), PAGE, RW, &iova), 0);
	ioas = ioas_of(&w);
	CHECK(((struct iof_lanes *)ioas->lanes)->patience < before);
	iof_object_leave(&ioas->object);
	world_close(&w);
}

/* The n-th step of a command fails, with a full lane open and a second one half full: everything that was mapped is still there. */
TEST(closing_never_fails)
{
	struct iof_ioas_stats st;
	struct world w;
	uint64_t iova;
	int64_t left;

	world_open(&w);
	for (int64_t n = 1, rc = -1; rc; n++) {
		CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
		CHECK_EQ(force_lane(&w, BASE), 1);
		CHECK_EQ(force_lane(&w, BASE + WINDOW), 2);
		for (unsigned k = 0; k < IOFI_LANE_PAGES; k++) {
			CHECK_EQ(map_fixed(&w, BASE + k * PAGE, PAGE), 0);
			if (k % 2)
				CHECK_EQ(map_fixed(&w, BASE + WINDOW + k * PAGE, PAGE), 0);
		}
		iof_alloc_fail_nth(&w.alloc, n);
		rc = map_at(w.ctx, w.ioas, (void *)(UINT64_C(1) << 44), PAGE, RW, &iova);
		left = iof_alloc_fail_nth(&w.alloc, 0);
		CHECK(left > 0 ? !rc : rc);
		CHECK_EQ(open_lanes(&w), left > 0 || rc != -ENOENT ? 0 : 2);
		CHECK_EQ(iof_ioas_stats(w.ctx, w.ioas, &st), 0);
		CHECK_EQ(st.mappings, IOFI_LANE_PAGES * 3 / 2 + !rc);
		CHECK(iof_machine_is_valid(w.m));
	}
	world_close(&w);
}

/* ---- the same commands with and without lanes ---- */

struct answer {
	int rc;
	uint64_t out;
};

static uint64_t some_iova(uint64_t *seed)
{
	uint64_t iova = BASE + check_random(seed) % (WINDOWS * 64) * (WINDOW / 64);

	switch (check_random(seed) % 16) {
	case 0:
		return iova + check_random(seed) % WINDOW; /* on no page */
	case 1:
		return iova / WINDOW * WINDOW + WINDOW - PAGE;
	default:
		return iova + check_random(seed) % 8 * PAGE;
	}
}

static uint64_t some_length(uint64_t *seed)
{
	switch (check_random(seed) % 16) {
	case 0:
		return check_random(seed) % (2 * WINDOW);
	case 1:
		return check_random(seed) % 64 * PAGE;
	default:
		return (1 + check_random(seed) % 4) * PAGE;
	}
}

static struct answer flip_device(struct world *w)
{
	int rc = w->attached[1] ? detach(w->dev[1]) : attach(w->dev[1], w->ioas, NULL);

	w->attached[1] ^= !rc;
	return (struct answer){ rc, 0 };
}

static struct answer first_mapping(struct world *w, uint64_t from)
{
	struct iof_mapping_info info = { 0 };
	int rc = iof_ioas_mapping(w->ctx, w->ioas, from, UINT64_MAX, &info);

	return (struct answer){ rc, info.iova ^ info.last << 1 ^ info.address << 2 };
}

static struct answer act(struct world *w, uint64_t *seed)
{
	uint64_t what = check_random(seed) % 100, iova = some_iova(seed), other = some_iova(seed), length = some_length(seed);
	void *va = (void *)(uintptr_t)((UINT64_C(1) << 44) + check_random(seed) % 8 * PAGE + (what == 1 ? 7 : 0));
	struct answer a = { 0, 0 };

	if (what < 50) {
		a.rc = map_at(w->ctx, w->ioas, va, length, RW | IOF_MAP_FIXED_IOVA, &iova);
	} else if (what < 85) {
		a.rc = unmap(w->ctx, w->ioas, iova, length, &a.out);
	} else if (what < 89) {
		a.rc = map_at(w->ctx, w->ioas, va, length, RW, &a.out);
	} else if (what < 92) {
		a.rc = copy(w->ctx, w->ioas, w->ioas, iova, length, RW | IOF_MAP_FIXED_IOVA, &other);
	} else if (what < 95) {
		a = first_mapping(w, iova);
	} else if (what < 98) {
		a = flip_device(w);
	} else if (what < 99) {
		a.rc = unmap(w->ctx, w->ioas, iova / WINDOW * WINDOW, WINDOW, &a.out);
	} else {
		a.rc = unmap(w->ctx, w->ioas, 0, UINT64_MAX, &a.out);
	}
	return a;
}

TEST(answers_are_those_without_lanes)
{
	uint64_t seed = 0x1a9e5, used = 0;
	struct world with, without;

	world_open(&with);
	world_open(&without);
	for (unsigned step = 0; step < 20000; step++) {
		uint64_t same = seed;
		struct answer a, b;

		while (check_random(&same) % 4)
			used += force_lane(&with, some_iova(&same)) > 0;
		seed = same;
		a = act(&with, &same);
		b = act(&without, &seed);
		CHECK_EQ(a.rc, b.rc);
		CHECK_EQ(a.out, b.out);
		if (step % 500 == 0)
			CHECK(iof_machine_is_valid(with.m));
	}
	CHECK(used > 1000);
	world_close(&with);
	world_close(&without);
}

/* ---- threads ---- */

#define THREADS 4u
#define ROUNDS 150u
#define N 64u

static _Atomic int odd;
static _Atomic bool over;

struct worker {
	struct world *w;
	pthread_t thread;
	unsigned self;
};

static void expect(bool ok, const char *what)
{
	if (ok)
		return;
	printf("odd: %s\n", what);
	atomic_fetch_add(&odd, 1);
}

static void *map_in_window(void *arg)
{
	struct worker *k = arg;
	uint64_t base = BASE + k->self / 2 * WINDOW + k->self % 2 * (WINDOW / 2), word; /* two threads a window */

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < N; i++)
			expect(!map_fixed(k->w, base + i * PAGE, PAGE), "map");
		expect(dma(k->w->dev[0], IOF_DMA_READ, base + N * PAGE, &word, sizeof(word), NULL) < 0, "DMA behind it");
		for (unsigned i = 0; i < N; i++)
			expect(!unmap(k->w->ctx, k->w->ioas, base + i * PAGE, PAGE, NULL), "unmap");
		if (round % 16 == k->self)
			(void)force_lane(k->w, base);
	}
	return NULL;
}

static void *close_lanes(void *arg)
{
	struct world *w = arg;
	struct iof_ioas_stats st;
	uint64_t iova = 0, turn = 0;

	while (!atomic_load(&over)) {
		switch (turn++ % 4) {
		case 0:
			expect(!iof_ioas_stats(w->ctx, w->ioas, &st), "statistics");
			break;
		case 1:
			expect(!map_at(w->ctx, w->ioas, (void *)(UINT64_C(1) << 44), PAGE, RW, &iova), "automatic map");
			break;
		case 2:
			expect(!unmap(w->ctx, w->ioas, iova, PAGE, NULL), "its unmap");
			break;
		default:
			expect(!flip_device(w).rc, "attach, detach");
		}
		usleep(300);
	}
	return NULL;
}

TEST(threads_in_lanes_beside_one_who_closes_them)
{
	struct worker k[THREADS];
	struct iof_ioas_stats st;
	struct world w;
	pthread_t other;

	world_open(&w);
	CHECK_EQ(pthread_create(&other, NULL, close_lanes, &w), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		k[i] = (struct worker){ .w = &w, .self = i };
		CHECK_EQ(pthread_create(&k[i].thread, NULL, map_in_window, &k[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(k[i].thread, NULL);
	atomic_store(&over, true);
	pthread_join(other, NULL);
	CHECK_EQ(odd, 0);
	CHECK_EQ(iof_ioas_stats(w.ctx, w.ioas, &st), 0);
	CHECK_EQ(st.maps - st.unmaps, st.mappings);
	CHECK(st.mappings <= 1);
	world_close(&w);
}

/* Batches of many steps beside one who attaches and detaches: he gets through between two of them. */
#define MANY 4000u

static void *long_batches(void *arg)
{
	static uint64_t address[MANY], length[MANY], iova[MANY];
	struct world *w = arg;
	struct iof_map_many m = { .ioas_id = w->ioas, .flags = RW, .policy = IOF_POLICY_TRUST, .n = MANY, .addresses = address, .lengths = length, .iovas = iova };
	struct iof_unmap_many u = { .ioas_id = w->ioas, .n = MANY, .iovas = iova, .lengths = length };

	for (unsigned i = 0; i < MANY; i++) {
		address[i] = (UINT64_C(1) << 44) + i * PAGE;
		length[i] = PAGE;
	}
	while (!atomic_load(&over)) {
		expect(!iof_map_many(w->ctx, &m), "map_many");
		expect(iof_unmap_many(w->ctx, &u) == MANY, "unmap_many");
	}
	return NULL;
}

TEST(long_batches_give_way)
{
	struct iof_ioas_stats st;
	struct world w;
	pthread_t t;

	world_open(&w);
	atomic_store(&over, false);
	CHECK_EQ(pthread_create(&t, NULL, long_batches, &w), 0);
	for (unsigned i = 0; i < 60; i++)
		expect(!flip_device(&w).rc, "attach, detach");
	atomic_store(&over, true);
	pthread_join(t, NULL);
	CHECK_EQ(odd, 0);
	CHECK_EQ(iof_ioas_stats(w.ctx, w.ioas, &st), 0);
	CHECK_EQ(st.mappings, 0);
	world_close(&w);
}

/* DESTROY beside running calls: EBUSY while one is inside or something is mapped by a table, ENOENT for those that come after it. */
static void *call_until_gone(void *arg)
{
	struct world *w = arg;
	uint64_t iova = BASE + 7 * WINDOW;
	int rc;

	do {
		rc = map_fixed(w, iova, PAGE);
		expect(!rc || rc == -ENOENT, "map or no IOAS");
		if (!rc)
			rc = unmap(w->ctx, w->ioas, iova, PAGE, NULL);
		expect(!rc || rc == -ENOENT, "unmap or no IOAS");
	} while (!rc);
	return NULL;
}

TEST(destroy_beside_running_calls)
{
	struct world w;
	pthread_t t;
	int rc;

	for (unsigned i = 0; i < 50; i++) {
		world_open(&w);
		CHECK_EQ(detach(w.dev[0]), 0);
		CHECK_EQ(pthread_create(&t, NULL, call_until_gone, &w), 0);
		usleep(100 + i * 10);
		while ((rc = destroy(w.ctx, w.ioas)) == -EBUSY)
			;
		pthread_join(t, NULL);
		CHECK_EQ(rc, 0);
		CHECK_EQ(odd, 0);
		world_close(&w);
	}
}
