// SPDX-License-Identifier: Apache-2.0
/*
 * The hottest paths, one by one, for counting instructions. Nothing is timed here.
 *
 *   paths CASE     does everything that the case needs, then N operations inside measured(), and prints N
 *   paths          lists the cases
 *
 * `python benchmarks/budgets` runs this under callgrind with collection only inside measured(), so that what stands before and
 * after does not count. State is warm: every case runs once before it is counted.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "iommufd_fast.h"
#include "iova/recycle.h"
#include "iova/space.h"
#include "pagetable/pagetable.h"

#define PAGE UINT64_C(4096)
#define N 512u
#define BATCH 64u
#define LIVE 1000u
#define BASE (UINT64_C(1) << 40)
#define RW (IOF_MAP_READABLE | IOF_MAP_WRITEABLE)

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *memory;
	uint64_t iovas[N], addresses[N], lengths[N], out[N];
	struct iof_alloc alloc;
	struct iof_space *space;
	struct iof_recycle *recycle;
	struct iof_pt *pt, *small;
	struct iof_pt_gather g;
};

static void must(int64_t err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "paths: %s: %s\n", what, strerror((int)-err));
	exit(1);
}

static void wrong(const char *what)
{
	fprintf(stderr, "paths: %s: a wrong result\n", what);
	exit(1);
}

/* ---- the engine through its door ---- */

static void open_engine(struct world *w)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1 };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_bind bind = { .argsz = sizeof(bind) };
	struct iof_cmd_attach at = { .argsz = sizeof(at) };

	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS");
	w->ioas = at.pt_id = alloc.out_ioas_id;
	must(iof_engine_open_device(w->machine, 0, &w->dev), "device");
	bind.iommufd = iof_fileno(w->ctx);
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &at), "attach");
	w->memory = mmap(NULL, (LIVE + N) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(w->memory == MAP_FAILED ? -errno : 0, "mmap");
}

static uint64_t map_page(struct world *w, char *at)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = RW, .ioas_id = w->ioas, .user_va = (uintptr_t)at,
				      .length = PAGE };

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP, &m), "map");
	return m.iova;
}

static void setup_engine(struct world *w)
{
	open_engine(w);
	for (unsigned i = 0; i < LIVE; i++)
		map_page(w, w->memory + i * PAGE);
	for (unsigned i = 0; i < N; i++) {
		w->addresses[i] = (uintptr_t)w->memory + (LIVE + i) * PAGE;
		w->lengths[i] = PAGE;
	}
}

static void run_map(struct world *w)
{
	for (unsigned i = 0; i < N; i++)
		w->iovas[i] = map_page(w, w->memory + (LIVE + i) * PAGE);
}

static void run_unmap(struct world *w)
{
	for (unsigned i = 0; i < N; i++) {
		struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .iova = w->iovas[i], .length = PAGE };

		must(iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
	}
}

static void run_map_many(struct world *w)
{
	for (unsigned i = 0; i < N; i += BATCH) {
		struct iof_map_many many = { .ioas_id = w->ioas, .flags = RW, .policy = IOF_POLICY_TRUST, .n = BATCH,
					     .addresses = w->addresses + i, .lengths = w->lengths + i, .iovas = w->iovas + i };

		must(iof_map_many(w->ctx, &many), "map_many");
	}
}

static void run_unmap_many(struct world *w)
{
	for (unsigned i = 0; i < N; i += BATCH) {
		struct iof_unmap_many many = { .ioas_id = w->ioas, .n = BATCH, .iovas = w->iovas + i, .lengths = w->lengths + i };

		if (iof_unmap_many(w->ctx, &many) != BATCH)
			wrong("unmap_many");
	}
}

static void run_translate(struct world *w)
{
	if (iof_translate(w->ctx, w->ioas, N, w->iovas, w->out, NULL) != N)
		wrong("translate");
}

static void run_dma(struct world *w)
{
	char word[64];
	struct iof_dma_segment segment = { .length = sizeof(word) };
	struct iof_dma dma = { .op = IOF_DMA_READ, .pasid = IOF_NO_PASID, .segments = &segment, .n_segments = 1,
			       .buffer = word };

	for (unsigned i = 0; i < N; i++) {
		segment.iova = w->iovas[i % 16];
		must(iof_dma(w->dev, &dma), "dma");
	}
}

/* ---- the floors below ---- */

static void setup_space(struct world *w)
{
	iof_alloc_init_heap(&w->alloc);
	must(iof_space_create(&w->alloc, &w->space), "space");
	must(iof_space_reserve(w->space, (struct iof_range){ 0, BASE - 1 }, 1), "reserve");
	for (uint64_t i = 0; i < 20000; i++)
		must(iof_space_insert(w->space, (struct iof_range){ BASE + i * PAGE, BASE + i * PAGE + PAGE - 1 }, i), "insert");
	for (unsigned i = 0; i < N; i++)
		w->iovas[i] = BASE + i * 7919 % 20000 * PAGE;
	must(iof_recycle_create(&w->alloc, w->space, PAGE, &w->recycle), "recycle");
}

static void run_place(struct world *w)
{
	for (unsigned i = 0; i < N; i++) {
		must(iof_space_place(w->space, 0, PAGE, PAGE, &w->out[i]), "place");
		must(iof_space_insert(w->space, (struct iof_range){ w->out[i], w->out[i] + PAGE - 1 }, i), "insert");
	}
}

static void run_remove(struct world *w)
{
	for (unsigned i = 0; i < N; i++)
		iof_space_remove(w->space, w->out[i]);
}

static void run_find(struct world *w)
{
	struct iof_index_entry e;

	for (unsigned i = 0; i < N; i++)
		if (!iof_space_find(w->space, w->iovas[i], &e))
			wrong("find");
}

static void run_recycle(struct world *w)
{
	uint64_t iova;

	for (unsigned i = 0; i < N; i++) {
		must(iof_recycle_take(w->recycle, PAGE, &iova), "take");
		must(iof_recycle_give(w->recycle, iova, PAGE), "give");
	}
}

static void setup_table(struct world *w)
{
	struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };

	iof_alloc_init_heap(&w->alloc);
	must(iof_pt_create(&cfg, &w->alloc, &w->pt), "table");
	cfg.page_sizes = PAGE;
	must(iof_pt_create(&cfg, &w->alloc, &w->small), "table");
	must(iof_pt_map(w->small, BASE, BASE, 64 << 20, IOF_PROT_READ | IOF_PROT_WRITE, &w->g), "map");
	for (unsigned i = 0; i < N; i++)
		w->iovas[i] = BASE + i * 7919 % 16384 * PAGE + 8;
}

static void run_pt_map(struct world *w)
{
	for (uint64_t i = 0; i < N; i++)
		must(iof_pt_map(w->pt, BASE + i * PAGE, BASE + i * 2 * PAGE, PAGE, IOF_PROT_READ | IOF_PROT_WRITE, &w->g), "map");
}

static void run_pt_unmap(struct world *w)
{
	for (uint64_t i = 0; i < N; i++)
		if (iof_pt_unmap(w->pt, BASE + i * PAGE, PAGE, &w->g) != PAGE)
			wrong("unmap");
	iof_pt_release(w->pt, &w->g);
}

static void run_pt_map_512(struct world *w)
{
	must(iof_pt_map(w->small, 2 * BASE, BASE, N * PAGE, IOF_PROT_READ | IOF_PROT_WRITE, &w->g), "map");
}

static void run_pt_unmap_512(struct world *w)
{
	if (iof_pt_unmap(w->small, 2 * BASE, N * PAGE, &w->g) != N * PAGE)
		wrong("unmap");
	iof_pt_release(w->small, &w->g);
}

static void run_pt_translate(struct world *w)
{
	for (unsigned i = 0; i < N; i++)
		if (iof_pt_translate(w->small, w->iovas[i], NULL) != w->iovas[i])
			wrong("translate");
}

static void run_pt_translate_many(struct world *w)
{
	if (iof_pt_translate_many(w->small, w->iovas, N, w->out, NULL) != N)
		wrong("translate_many");
}

/* ---- one case ---- */

struct path {
	const char *name;
	void (*setup)(struct world *w);
	void (*run)(struct world *w);
	void (*undo)(struct world *w); /* brings back the state before `run`; also runs before a case that takes down */
	bool first_undo;
};

/* callgrind collects in here and nowhere else. */
__attribute__((noinline)) void measured(void (*run)(struct world *w), struct world *w)
{
	run(w);
	__asm__ volatile("" : : : "memory");
}

static const struct path paths[] = {
	{ "ioas_map", setup_engine, run_map, run_unmap, false },
	{ "ioas_unmap", setup_engine, run_unmap, run_map, true },
	{ "map_many", setup_engine, run_map_many, run_unmap_many, false },
	{ "unmap_many", setup_engine, run_unmap_many, run_map_many, true },
	{ "translate", setup_engine, run_translate, run_map, true },
	{ "dma_64", setup_engine, run_dma, run_map, true },
	{ "iova_first_fit", setup_space, run_place, run_remove, false },
	{ "iova_remove", setup_space, run_remove, run_place, true },
	{ "iova_find", setup_space, run_find, NULL, false },
	{ "iova_recycle", setup_space, run_recycle, NULL, false },
	{ "pt_map", setup_table, run_pt_map, run_pt_unmap, false },
	{ "pt_unmap", setup_table, run_pt_unmap, run_pt_map, true },
	{ "pt_map_512", setup_table, run_pt_map_512, run_pt_unmap_512, false },
	{ "pt_unmap_512", setup_table, run_pt_unmap_512, run_pt_map_512, true },
	{ "pt_translate", setup_table, run_pt_translate, NULL, false },
	{ "pt_translate_many", setup_table, run_pt_translate_many, NULL, false },
};
#define PATHS (sizeof(paths) / sizeof(*paths))

/* Once to warm up, once for the count. */
static void count(const struct path *p, struct world *w)
{
	if (p->setup)
		p->setup(w);
	if (p->first_undo)
		p->undo(w);
	p->run(w);
	if (p->undo && p->run != run_translate && p->run != run_dma)
		p->undo(w);
	measured(p->run, w);
}

int main(int argc, char **argv)
{
	static struct world w;

	for (size_t i = 0; i < PATHS; i++) {
		if (argc < 2) {
			puts(paths[i].name);
		} else if (!strcmp(argv[1], paths[i].name)) {
			count(&paths[i], &w);
			printf("%u\n", N);
			return 0;
		}
	}
	if (argc > 1)
		fprintf(stderr, "paths: no case %s; without an argument they are listed\n", argv[1]);
	return argc > 1;
}
