/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * What benchmarks/c/bench_threads.c times, checked: threads on one IOAS, and on IOASes of their own, that map and unmap single pages at places of their
 * choice, at places the engine chooses, and in batches that are longer than what the engine takes at once. Here some batches fail, some ranges are unmapped twice, and devices
 * read what is mapped meanwhile.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "engine.h"
#include "util/alloc.h"

#define THREADS 4
#define ROUNDS 12
#define N 200u /* three batches and a part */
#define WINDOW (2ul << 20)
#define BASE (1ul << 40)

static struct iof_machine *m;
static struct iof_handle *ctx, *dev[2];
static _Atomic int odd;

struct worker {
	pthread_t thread;
	unsigned self;
	uint32_t ioas;
	char *buffer; /* one page, shown N times: its first word says whose it is */
	uint64_t address[N], length[N], iova[N], bytes[N];
	int32_t error[N];
};

static void expect(bool ok, const char *what)
{
	if (ok)
		return;
	printf("odd: %s\n", what);
	atomic_fetch_add(&odd, 1);
}

static void singles(struct worker *w, uint32_t flags)
{
	for (unsigned i = 0; i < N; i++) {
		w->iova[i] = BASE + w->self * WINDOW + i * PAGE;
		expect(!map_at(ctx, w->ioas, w->buffer, PAGE, RW | flags, &w->iova[i]), "map");
	}
	for (unsigned i = 0; i < N; i++)
		expect(!unmap(ctx, w->ioas, w->iova[i], PAGE, NULL), "unmap");
}

static int map_batch(struct worker *w, uint32_t flags)
{
	struct iof_map_many many = { .ioas_id = w->ioas, .flags = RW | flags, .n = N, .addresses = w->address,
				     .lengths = w->length, .iovas = w->iova };
	int rc = iof_map_many(ctx, &many);

	return rc ? -(int)many.failed : 0;
}

static int64_t unmap_batch(struct worker *w)
{
	struct iof_unmap_many many = { .ioas_id = w->ioas, .n = N, .iovas = w->iova, .lengths = w->length,
				       .unmapped = w->bytes, .errors = w->error };

	return iof_unmap_many(ctx, &many);
}

/* The entry of `again` repeats its neighbour: a batch of maps fails there, of unmaps goes on. */
static void batches(struct worker *w, unsigned again)
{
	expect(!map_batch(w, 0), "map_many");
	expect(unmap_batch(w) == N, "unmap_many");
	for (unsigned i = 0; i < N; i++)
		w->iova[i] = BASE + (THREADS + w->self) * WINDOW + i * PAGE;
	w->iova[again] = w->iova[again - 1];
	expect(map_batch(w, IOF_MAP_FIXED_IOVA) == -(int)again, "map_many that fails");
	w->iova[again] += PAGE;
	expect(!map_batch(w, IOF_MAP_FIXED_IOVA), "map_many, fixed");
	w->iova[again] = w->iova[again - 1];
	expect(unmap_batch(w) == N - 1 && w->error[again] == -ENOENT && !w->error[again + 1], "unmap_many, one twice");
	expect(!unmap(ctx, w->ioas, w->iova[again] + PAGE, PAGE, NULL), "the one that was left");
}

/* What another thread maps is there or not, but never somebody else's memory. */
static void look(struct worker *w)
{
	uint64_t word = 0;
	unsigned other = (w->self + 1) % THREADS;

	for (unsigned i = 0; i < N; i += 7) {
		uint64_t at = BASE + other * WINDOW + i * PAGE;
		int rc = dma(dev[w->self % 2], IOF_DMA_READ, at, &word, sizeof(word), NULL);

		expect(rc || word == other + 1, "DMA");
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		singles(w, IOF_MAP_FIXED_IOVA);
		look(w);
		singles(w, 0);
		batches(w, 1 + (round * 37 + w->self) % (N - 2));
	}
	return NULL;
}

static void open_all(bool shared, struct worker *w)
{
	static const uint32_t groups[] = { 1, 1 };
	uint32_t ioas[2];

	m = machine_with(IOF_PRESET_INTEL, groups, 2, NULL);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(ioas_alloc(ctx, &ioas[i]), 0);
		CHECK_EQ(iof_engine_open_device(m, i, &dev[i]), 0);
		CHECK_EQ(bind_device(dev[i], ctx, NULL), 0);
		CHECK_EQ(attach(dev[i], ioas[shared ? 0 : i], NULL), 0);
	}
	for (unsigned t = 0; t < THREADS; t++) {
		w[t] = (struct worker){ .self = t, .ioas = ioas[shared ? 0 : t % 2], .buffer = pages_of(1) };
		*(uint64_t *)(void *)w[t].buffer = t + 1;
		for (unsigned i = 0; i < N; i++) {
			w[t].address[i] = (uintptr_t)w[t].buffer;
			w[t].length[i] = PAGE;
		}
	}
}

static void run(bool shared)
{
	static struct worker w[THREADS];
	struct iof_ioas_stats st;

	open_all(shared, w);
	for (unsigned t = 0; t < THREADS; t++)
		CHECK_EQ(pthread_create(&w[t].thread, NULL, work, &w[t]), 0);
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(w[t].thread, NULL);
	CHECK_EQ(odd, 0);
	CHECK(iof_machine_is_valid(m));
	for (unsigned t = 0; t < THREADS; t++) {
		CHECK_EQ(iof_ioas_stats(ctx, w[t].ioas, &st), 0);
		CHECK_EQ(st.mappings, 0);
		CHECK_EQ(st.maps, st.unmaps);
		munmap(w[t].buffer, PAGE);
	}
	for (unsigned i = 0; i < 2; i++)
		iof_close(dev[i]);
	iof_close(ctx);
	iof_machine_put(m);
}

TEST(on_one_ioas)
{
	run(true);
}

TEST(on_two)
{
	run(false);
}
