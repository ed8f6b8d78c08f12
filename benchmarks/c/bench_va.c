// SPDX-License-Identifier: Apache-2.0
/*
 * From an address to its IOVA, on an IOAS of the engine.
 *
 *   bench_va [part of a case's name] [rounds]
 *
 * Names: `one` asks by iof_va_to_iova(), `many` by iof_va_to_iova_many() in calls of 1024, `dependent` puts each answer into the next
 * question, `map` and `unmap` are IOAS_MAP and IOAS_UNMAP of 4 KiB with (`indexed`) and without (`plain`) an index. What is
 * mapped: 1 GiB as one mapping, as 4 KiB mappings, as 2 MiB mappings; asked in order inside 64 KiB (`warm`) or at random.
 * `shared`: every page is mapped twice.
 */
#include <errno.h>
#include <sys/mman.h>

#include "bench.h"
#include "iommufd_fast_va.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define GIB(n) ((uint64_t)(n) << 30)
#define ASKED 65536u
#define CALL 1024u
#define RUN 256u

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx;
	uint32_t ioas;
	struct iof_va_index *ix;
	char *memory; /* address space only */
	uint64_t iovas[RUN];
};

static uint64_t asked[ASKED], answers[ASKED], rests[ASKED];

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_va: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static void open_world(struct world *w, bool index)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };

	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS_ALLOC");
	w->ioas = alloc.out_ioas_id;
	w->ix = NULL;
	if (index)
		must(iof_va_index_open(w->ctx, w->ioas, &w->ix), "index");
}

static void close_world(struct world *w)
{
	iof_va_index_put(w->ix);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
}

static uint64_t map(struct world *w, uint64_t va, uint64_t length)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .ioas_id = w->ioas,
				      .user_va = va, .length = length };

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP, &m), "map");
	return m.iova;
}

static void map_all(struct world *w, uint64_t piece)
{
	for (uint64_t at = 0; at < GIB(1); at += piece)
		map(w, (uintptr_t)w->memory + at, piece);
}

static void ask_in(uint64_t bytes, const struct world *w)
{
	uint64_t seed = 88172645463325252u;

	for (unsigned i = 0; i < ASKED; i++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		asked[i] = (uintptr_t)w->memory + (bytes < GIB(1) ? (uint64_t)i * 64 : seed) % bytes;
	}
}

static void one(void *ctx)
{
	struct world *w = ctx;
	uint64_t sum = 0, length;

	for (unsigned i = 0; i < ASKED; i++)
		sum += iof_va_to_iova(w->ix, asked[i], &length) + length;
	bench_keep(sum);
}

static void dependent(void *ctx)
{
	struct world *w = ctx;
	uint64_t length = 0, sum = 0;

	for (unsigned i = 0; i < ASKED; i++)
		sum += iof_va_to_iova(w->ix, asked[i] ^ (length >> 63), &length);
	bench_keep(sum);
}

static void many(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < ASKED; i += CALL)
		if (iof_va_to_iova_many(w->ix, CALL, asked + i, answers + i, rests + i) != CALL)
			must(-ENOENT, "many");
}

static void lookups(const struct bench *b, struct world *w, uint64_t piece, bool shared, const char *what)
{
	static const struct {
		const char *how;
		void (*run)(void *ctx);
	} ways[] = { { "one", one }, { "dependent", dependent }, { "many", many } };
	char name[64];

	open_world(w, true);
	map_all(w, piece);
	if (shared)
		map_all(w, piece);
	for (unsigned i = 0; i < 6; i++) {
		ask_in(i < 3 ? KIB(64) : GIB(1), w);
		snprintf(name, sizeof(name), "%s/%s/%s", ways[i % 3].how, what, i < 3 ? "warm" : "random");
		bench_run(b, name, ASKED, ways[i % 3].run, NULL, w);
	}
	close_world(w);
}

static void map_run(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < RUN; i++)
		w->iovas[i] = map(w, (uintptr_t)w->memory + KIB(4) * i, KIB(4));
}

static void unmap_run(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < RUN; i++) {
		struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .iova = w->iovas[i], .length = KIB(4) };

		must(iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
	}
}

static void clear(void *ctx)
{
	struct world *w = ctx;
	struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .length = UINT64_MAX };

	(void)iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u);
}

static void refill(void *ctx)
{
	clear(ctx);
	map_run(ctx);
}

static void changes(const struct bench *b, struct world *w, bool index)
{
	const char *what = index ? "indexed" : "plain";
	char name[64];

	open_world(w, index);
	snprintf(name, sizeof(name), "map/%s/4k", what);
	bench_run(b, name, RUN, map_run, clear, w);
	snprintf(name, sizeof(name), "unmap/%s/4k", what);
	bench_run(b, name, RUN, unmap_run, refill, w);
	close_world(w);
}

int main(int argc, char **argv)
{
	const struct bench b = { "va", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 51 };
	static struct world w;
	void *area = mmap(NULL, GIB(2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(area == MAP_FAILED ? -errno : 0, "mmap");
	w.memory = (char *)area + (-(uintptr_t)area & (GIB(1) - 1));
	lookups(&b, &w, GIB(1), false, "1g");
	lookups(&b, &w, KIB(2048), false, "2m");
	lookups(&b, &w, KIB(4), false, "4k");
	lookups(&b, &w, KIB(4), true, "4k_shared");
	changes(&b, &w, false);
	changes(&b, &w, true);
	return 0;
}
