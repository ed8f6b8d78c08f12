// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for drivers: what each I/O pays for a buffer and for its mapping.
 *
 *   bench_memory [part of a case's name] [rounds]
 *
 * arena/…: take and give in turn (the goal is 30 ns for both), many taken before they are given, through the store, and on two threads at
 * once (wall time by operations of both). cache/…: get and put of what is cached: the same buffer, and one of 64, one of 1024 pages in turn (goal 40 ns); of
 * what is not, by invalidating it first. map_many/…: 64 pages in one call with a page table attached (goal 60 ns each). sg: 64 buffers as one range.
 * copy/…: 64 copies of a page into a second address space with a page table, one by one and in one call.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "bench.h"
#include "iommufd_fast_memory.h"
#include "iommufd_fast_reshape.h"

#define PAGE UINT64_C(4096)
#define RUN 4096u
#define BATCH 64u
#define FIELD 2048u

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	struct iof_dma_arena *arena;
	struct iof_map_cache *cache;
	char *memory;
	uint64_t size;
	unsigned pages;
	uint64_t addresses[BATCH], lengths[BATCH], iovas[BATCH], copies[BATCH];
	uint32_t source; /* another IOAS, without page tables */
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_memory: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static void open_world(struct world *w)
{
	const uint32_t groups[] = { 1 };
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = groups, .n_groups = 1 };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_attach attach = { .argsz = sizeof(attach) };

	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "context");
	must(iof_engine_open_device(w->machine, 0, &w->dev), "device");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &(struct iof_cmd_bind){ .argsz = 16, .iommufd = iof_fileno(w->ctx) }),
	     "bind");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "ioas");
	w->ioas = attach.pt_id = alloc.out_ioas_id;
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &attach), "attach");
	must(iof_dma_arena_create(w->ctx, &(struct iof_dma_arena_config){ .size = sizeof(struct iof_dma_arena_config), .ioas_id = w->ioas }, &w->arena),
	     "arena");
	must(iof_map_cache_create(w->ctx,
				  &(struct iof_map_cache_config){ .size = sizeof(struct iof_map_cache_config), .ioas_id = w->ioas,
								  .map_flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE },
				  &w->cache),
	     "cache");
	w->memory = mmap(NULL, FIELD * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(w->memory == MAP_FAILED ? -errno : 0, "mmap");
	memset(w->memory, 1, FIELD * PAGE);
	for (unsigned i = 0; i < BATCH; i++) {
		w->addresses[i] = (uintptr_t)w->memory + 2 * i * PAGE;
		w->lengths[i] = PAGE;
	}
}

static void close_world(struct world *w)
{
	must(iof_map_cache_destroy(w->cache), "cache");
	must(iof_dma_arena_destroy(w->arena), "arena");
	iof_close(w->dev);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
	munmap(w->memory, FIELD * PAGE);
}

/* ---- arena ---- */

static void take_give(void *ctx)
{
	struct world *w = ctx;
	struct iof_dma_arena_buffer b;

	for (unsigned i = 0; i < RUN; i++) {
		must(iof_dma_arena_take(w->arena, w->size, 0, 0, &b), "take");
		bench_keep(b.iova);
		must(iof_dma_arena_give(w->arena, b.address), "give");
	}
}

static void take_all_give_all(void *ctx)
{
	static struct iof_dma_arena_buffer b[256];
	struct world *w = ctx;

	for (unsigned turn = 0; turn < RUN / 256; turn++) {
		for (unsigned i = 0; i < 256; i++)
			must(iof_dma_arena_take(w->arena, w->size, 0, 0, &b[i]), "take");
		for (unsigned i = 0; i < 256; i++)
			must(iof_dma_arena_give(w->arena, b[i].address), "give");
	}
}

static void *take_give_thread(void *ctx)
{
	take_give(ctx);
	return NULL;
}

static void on_two_threads(void *ctx)
{
	pthread_t other;

	must(-pthread_create(&other, NULL, take_give_thread, ctx), "thread");
	take_give(ctx);
	pthread_join(other, NULL);
}

static void bench_arena(const struct bench *b, struct world *w)
{
	w->size = 4096;
	bench_run(b, "arena/4k/take_give", RUN, take_give, NULL, w);
	bench_run(b, "arena/4k/take_give/2_threads", 2 * RUN, on_two_threads, NULL, w);
	bench_run(b, "arena/4k/256_taken", RUN, take_all_give_all, NULL, w);
	w->size = 64;
	bench_run(b, "arena/64/take_give", RUN, take_give, NULL, w);
	bench_run(b, "arena/64/256_taken", RUN, take_all_give_all, NULL, w);
	w->size = 256 << 10;
	bench_run(b, "arena/256k/take_give", RUN, take_give, NULL, w);
}

/* ---- cache ---- */

static void hit(void *ctx)
{
	struct world *w = ctx;
	struct iof_map_entry *e;
	uint64_t iova;

	for (unsigned i = 0; i < RUN; i++) {
		must(iof_map_cache_get(w->cache, w->memory + (2 * (uint64_t)i * 7 % (2 * w->pages)) * PAGE, PAGE, &iova, &e), "get");
		bench_keep(iova);
		iof_map_cache_put(w->cache, e);
	}
}

static void miss(void *ctx)
{
	struct world *w = ctx;
	struct iof_map_entry *e;
	uint64_t iova;

	for (unsigned i = 0; i < RUN; i++) {
		must(iof_map_cache_get(w->cache, w->memory, PAGE, &iova, &e), "get");
		iof_map_cache_put(w->cache, e);
		must(iof_map_cache_invalidate(w->cache, w->memory, PAGE), "invalidate");
	}
}

static void bench_cache(const struct bench *b, struct world *w)
{
	w->pages = 1;
	bench_run(b, "cache/hit/same", RUN, hit, NULL, w);
	w->pages = 64;
	bench_run(b, "cache/hit/of_64", RUN, hit, NULL, w);
	w->pages = 1024;
	bench_run(b, "cache/hit/of_1024", RUN, hit, NULL, w);
	bench_run(b, "cache/miss", RUN, miss, NULL, w);
}

/* ---- batches ---- */

static void unmap_batch(void *ctx)
{
	struct world *w = ctx;
	struct iof_unmap_many many = { .ioas_id = w->ioas, .n = BATCH, .iovas = w->iovas, .lengths = w->lengths };

	must(iof_unmap_many(w->ctx, &many), "unmap_many");
}

static void map_batch(void *ctx)
{
	struct world *w = ctx;
	struct iof_map_many many = { .ioas_id = w->ioas, .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .policy = IOF_POLICY_TRUST,
				     .n = BATCH, .addresses = w->addresses, .lengths = w->lengths, .iovas = w->iovas };

	must(iof_map_many(w->ctx, &many), "map_many");
}

static void map_list(void *ctx)
{
	struct world *w = ctx;
	struct iof_map_sg sg = { .ioas_id = w->ioas, .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .policy = IOF_POLICY_TRUST,
				 .n = BATCH, .addresses = w->addresses, .lengths = w->lengths, .iovas = w->iovas };

	must(iof_map_sg(w->ctx, &sg), "map_sg");
}

static void unmap_copies(void *ctx)
{
	struct world *w = ctx;
	struct iof_unmap_many many = { .ioas_id = w->ioas, .n = BATCH, .iovas = w->copies, .lengths = w->lengths };

	must(iof_unmap_many(w->ctx, &many), "unmap_many");
}

static void copy_each(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < BATCH; i++) {
		struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .dst_ioas_id = w->ioas,
					       .src_ioas_id = w->source, .length = PAGE, .src_iova = w->iovas[i] };

		must(iof_ioctl(w->ctx, IOF_CMD_IOAS_COPY, &c), "copy");
		w->copies[i] = c.dst_iova;
	}
}

static void copy_batch(void *ctx)
{
	struct world *w = ctx;
	struct iof_copy_many many = { .size = sizeof(many), .dst_ioas_id = w->ioas, .src_ioas_id = w->source,
				      .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .n = BATCH, .src_iovas = w->iovas,
				      .lengths = w->lengths, .iovas = w->copies };

	must(iof_copy_many(w->ctx, &many), "copy_many");
}

static void bench_copies(const struct bench *b, struct world *w)
{
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	uint32_t attached = w->ioas;

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "ioas");
	w->ioas = w->source = alloc.out_ioas_id;
	map_batch(w);
	w->ioas = attached;
	copy_batch(w);
	bench_run(b, "copy/64_calls", BATCH, copy_each, unmap_copies, w);
	bench_run(b, "copy/copy_many/64", BATCH, copy_batch, unmap_copies, w);
	unmap_copies(w);
}

static void bench_batches(const struct bench *b, struct world *w)
{
	map_batch(w);
	bench_run(b, "map_many/64", BATCH, map_batch, unmap_batch, w);
	bench_run(b, "map_sg/64", BATCH, map_list, unmap_batch, w);
	unmap_batch(w);
}

int main(int argc, char **argv)
{
	struct bench b = { .name = "memory", .only = argc > 1 ? argv[1] : NULL, .rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 301 };
	static struct world w;

	open_world(&w);
	bench_arena(&b, &w);
	bench_cache(&b, &w);
	bench_batches(&b, &w);
	bench_copies(&b, &w);
	close_world(&w);
	return 0;
}
