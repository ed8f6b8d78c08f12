// SPDX-License-Identifier: Apache-2.0
/*
 * Page tables: map, unmap and lookups of each format. The tables' own pages are warm: a round before the timed ones has
 * made them.
 *
 *   bench_pagetable [part of a case's name] [rounds]
 *
 * Some cases of vtdss are large and run only when they are named: "sparse" (2^19 pages, the first of each 2 MiB: 2 GiB of
 * tables, all entries in the same 64th of every cache and in one set of the first: a bare load loop
 * over such memory takes 17.5 ns a load where entries anywhere take 3.5), "sparse_anywhere" (a random one of each 2 MiB) and "memory", whose line has no time but tables, their bytes and what the pool holds beyond them in percent.
 */
#include <errno.h>

#include "bench.h"
#include "pagetable/pagetable.h"
#include "util/rsec.h"

#define BASE UINT64_C(0x40000000)
#define MEMORY UINT64_C(0x123400000000)
#define GIB (UINT64_C(1) << 30)
#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define SINGLES 512
#define LOOKUPS 65536 /* in random order they touch nearly every line of the GiB's 2 MiB of entries */
#define BATCH 8

struct world {
	struct iof_alloc alloc;
	struct iof_pt *pt;
	struct iof_pt *small; /* maps a page further: 4 KiB leaves only, 1 GiB of them at BASE */
	struct iof_pt_gather g;
	uint64_t random[LOOKUPS]; /* IOVAs in the mapped GiB */
	uint64_t hot[LOOKUPS]; /* of 64 pages */
	uint64_t addresses[LOOKUPS];
};

static void must(int err)
{
	if (err) {
		fprintf(stderr, "bench_pagetable: error %d\n", err);
		exit(1);
	}
}

static void map(struct world *w, struct iof_pt *pt, uint64_t iova, uint64_t length)
{
	must(iof_pt_map(pt, iova, MEMORY + iova + (pt == w->small ? 4096 : 0), length, RW, &w->g));
}

static void unmap(struct world *w, struct iof_pt *pt, uint64_t iova, uint64_t length)
{
	must(iof_pt_unmap(pt, iova, length, &w->g) == length ? 0 : -EFAULT);
	iof_pt_release(pt, &w->g);
}

static void map_singles(void *ctx)
{
	struct world *w = ctx;

	for (uint64_t i = 0; i < SINGLES; i++)
		map(w, w->pt, BASE + i * 4096, 4096);
}

static void unmap_singles(void *ctx)
{
	struct world *w = ctx;

	for (uint64_t i = 0; i < SINGLES; i++)
		unmap(w, w->pt, BASE + i * 4096, 4096);
}

/* `times` ranges side by side, one call each. */
#define CASE_RANGE(name, table, length, times)                                                                         \
	static void map_##name(void *ctx)                                                                              \
	{                                                                                                              \
		struct world *w = ctx;                                                                                 \
                                                                                                                       \
		for (uint64_t i = 0; i < (times); i++)                                                                 \
			map(w, w->table, BASE + 8 * GIB + i * (length), length);                                       \
	}                                                                                                              \
	static void unmap_##name(void *ctx)                                                                            \
	{                                                                                                              \
		struct world *w = ctx;                                                                                 \
                                                                                                                       \
		for (uint64_t i = 0; i < (times); i++)                                                                 \
			unmap(w, w->table, BASE + 8 * GIB + i * (length), length);                                     \
	}

CASE_RANGE(512, small, 512 * 4096, BATCH)
CASE_RANGE(gib, small, GIB, 1)
CASE_RANGE(2m, pt, 2 << 20, BATCH)

/* A page in the middle of nowhere: its lowest table is a recycled one, and has to be zeroed first. */
static void map_lonely(void *ctx)
{
	struct world *w = ctx;

	for (uint64_t i = 0; i < BATCH; i++)
		map(w, w->small, BASE + 8 * GIB + i * (2 << 20), 4096);
}

static void unmap_lonely(void *ctx)
{
	struct world *w = ctx;

	for (uint64_t i = 0; i < BATCH; i++)
		unmap(w, w->small, BASE + 8 * GIB + i * (2 << 20), 4096);
	map_512(ctx);
	unmap_512(ctx);
}

static void walk(struct world *w, const uint64_t *iovas)
{
	struct iof_pt_leaf leaf;
	uint64_t sum = 0;

	for (unsigned i = 0; i < LOOKUPS; i++) {
		must(iof_pt_walk(w->small, iovas[i], &leaf));
		sum += leaf.address;
	}
	bench_keep(sum);
}

static void walk_hot(void *ctx)
{
	walk(ctx, ((struct world *)ctx)->hot);
}

static void walk_random(void *ctx)
{
	walk(ctx, ((struct world *)ctx)->random);
}

static void translate_random(void *ctx)
{
	struct world *w = ctx;
	uint64_t sum = 0;

	for (unsigned i = 0; i < LOOKUPS; i++)
		sum += iof_pt_translate(w->small, w->random[i], NULL);
	bench_keep(sum);
}

/* Each lookup's IOVA comes from the address before it. */
static void translate_dependent(void *ctx)
{
	struct world *w = ctx;
	uint64_t iova = BASE;

	for (unsigned i = 0; i < LOOKUPS; i++)
		iova = iof_pt_translate(w->small, iova, NULL) - MEMORY - 4096;
	bench_keep(iova);
}

static void translate_many(void *ctx)
{
	struct world *w = ctx;

	must(iof_pt_translate_many(w->small, w->random, LOOKUPS, w->addresses, NULL) == LOOKUPS ? 0 : -EFAULT);
}

static uint64_t random_of(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void world_make(struct world *w, struct iof_pt_config cfg)
{
	uint64_t seed = 88172645463325252u;

	memset(w, 0, sizeof(*w));
	iof_alloc_init_heap(&w->alloc);
	must(iof_pt_create(&cfg, &w->alloc, &w->pt));
	must(iof_pt_create(&cfg, &w->alloc, &w->small));
	map(w, w->small, BASE, GIB);
	map(w, w->pt, BASE, 4096); /* the tables of the single 4K cases */
	unmap(w, w->pt, BASE, 4096);
	for (unsigned i = 0; i < LOOKUPS; i++) {
		w->random[i] = BASE + (random_of(&seed) & (GIB - 1));
		w->hot[i] = BASE + (random_of(&seed) & (64 * 4096 - 1));
	}
}

static void world_free(struct world *w)
{
	iof_pt_destroy(w->pt);
	iof_pt_destroy(w->small);
}

/* Times map and unmap in turn: each brings the other's state back. */
static void pair(const struct bench *b, const char *format, const char *what, uint64_t ops, void (*on)(void *),
		 void (*off)(void *), struct world *w)
{
	char name[64];

	on(w), off(w);
	snprintf(name, sizeof(name), "%s/map_%s", format, what);
	on(w);
	bench_run(b, name, ops, on, off, w);
	snprintf(name, sizeof(name), "%s/unmap_%s", format, what);
	off(w);
	bench_run(b, name, ops, off, on, w);
}

static void single(const struct bench *b, const char *format, const char *what, uint64_t ops, void (*run)(void *),
		   struct world *w)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/%s", format, what);
	run(w);
	bench_run(b, name, ops, run, NULL, w);
}

static void bench_format(const struct bench *b, const char *name, struct iof_pt_config cfg)
{
	static struct world w;
	char lonely[64];

	world_make(&w, cfg);
	pair(b, name, "4k", SINGLES, map_singles, unmap_singles, &w);
	pair(b, name, "512x4k", BATCH, map_512, unmap_512, &w);
	pair(b, name, "2m", BATCH, map_2m, unmap_2m, &w);
	pair(b, name, "1g_by_4k", 1, map_gib, unmap_gib, &w);
	map_lonely(&w);
	snprintf(lonely, sizeof(lonely), "%s/map_4k_zeroing", name);
	bench_run(b, lonely, BATCH, map_lonely, unmap_lonely, &w);
	unmap_lonely(&w);
	single(b, name, "walk_warm", LOOKUPS, walk_hot, &w);
	single(b, name, "walk_random_1g", LOOKUPS, walk_random, &w);
	single(b, name, "translate_random_1g", LOOKUPS, translate_random, &w);
	single(b, name, "translate_dependent", LOOKUPS, translate_dependent, &w);
	single(b, name, "translate_many_1g", LOOKUPS, translate_many, &w);
	world_free(&w);
}

#define SPARSE (UINT64_C(1) << 19)

/* Where in its 2 MiB the page of a sparse table is: the first, or anywhere. */
static uint64_t sparse_page(uint64_t i, bool anywhere)
{
	return i << 21 | (anywhere ? (i * UINT64_C(0x9e3779b97f4a7c15) >> 55) << 12 : 0);
}

/* Random pages of 2^19, one in each lowest table. */
static void bench_sparse(const struct bench *b, const char *what, bool anywhere)
{
	const struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	uint64_t seed = 88172645463325252u;
	static struct world w;

	if (!b->only || !strstr(what, b->only))
		return;
	world_make(&w, cfg);
	unmap(&w, w.small, BASE, GIB);
	for (uint64_t i = 0; i < SPARSE; i++)
		map(&w, w.small, sparse_page(i, anywhere), 4096);
	for (unsigned i = 0; i < LOOKUPS; i++)
		w.random[i] = sparse_page(random_of(&seed) % SPARSE, anywhere) | (random_of(&seed) & 4095);
	single(b, "vtdss", what, LOOKUPS, translate_many, &w);
	world_free(&w);
}

/* What tables cost beyond what the format demands, as they become many. */
static void bench_memory(const struct bench *b)
{
	const struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	struct iof_pt_stats stats;
	static struct world w;

	if (!b->only || strcmp(b->only, "memory"))
		return;
	world_make(&w, cfg);
	unmap(&w, w.small, BASE, GIB);
	for (uint64_t i = 0, told = 1000; i < 1 << 16; i++) {
		map(&w, w.small, i << 21, 4096);
		if (i < told)
			continue;
		told *= 2;
		iof_pt_stats(w.small, &stats);
		printf("{\"bench\": \"pagetable\", \"case\": \"vtdss/memory\", \"tables\": %llu, \"bytes\": %llu, "
		       "\"beyond_percent\": %.2f}\n", (unsigned long long)stats.tables,
		       (unsigned long long)stats.table_bytes,
		       100.0 * ((double)stats.table_bytes / (4096.0 * (double)stats.tables) - 1));
	}
	world_free(&w);
}

/* All with four levels but x4, whose three have a root four times as large. */
static const struct {
	const char *name;
	struct iof_pt_config cfg;
} formats[] = {
	{ "vtdss", { .format = IOF_PT_VTDSS, .va_lg2 = 48 } },
	{ "amdv1", { .format = IOF_PT_AMDV1, .va_lg2 = 48, .top_level = 3 } },
	{ "x86_64", { .format = IOF_PT_X86_64, .va_lg2 = 48, .features = IOF_PT_SIGN_EXTEND } },
	{ "riscv64", { .format = IOF_PT_RISCV64, .va_lg2 = 48 } },
	{ "riscv64_x4", { .format = IOF_PT_RISCV64_X4, .va_lg2 = 41 } },
	{ "arm_s1", { .format = IOF_PT_ARM_S1 } },
	{ "arm_s2", { .format = IOF_PT_ARM_S2 } },
	{ "mock", { .format = IOF_PT_MOCK, .va_lg2 = 48, .top_level = 3 } },
};

int main(int argc, char **argv)
{
	struct bench b = { .name = "pagetable", .only = argc > 1 ? argv[1] : NULL, .rounds = 201 };

	if (argc > 2)
		b.rounds = (unsigned)atoi(argv[2]);
	if (!b.rounds)
		b.rounds = 1;
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		bench_format(&b, formats[i].name, formats[i].cfg);
	bench_sparse(&b, "translate_many_sparse", false);
	bench_sparse(&b, "translate_many_sparse_anywhere", true);
	bench_memory(&b);
	return 0;
}
