// SPDX-License-Identifier: Apache-2.0
/*
 * Page tables: map, unmap and lookups of each format. The tables' own pages are warm: a round before the timed ones has
 * made them.
 *
 *   bench_pagetable [part of a case's name] [rounds]
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

	world_make(&w, cfg);
	pair(b, name, "4k", SINGLES, map_singles, unmap_singles, &w);
	pair(b, name, "512x4k", BATCH, map_512, unmap_512, &w);
	pair(b, name, "2m", BATCH, map_2m, unmap_2m, &w);
	pair(b, name, "1g_by_4k", 1, map_gib, unmap_gib, &w);
	single(b, name, "walk_warm", LOOKUPS, walk_hot, &w);
	single(b, name, "walk_random_1g", LOOKUPS, walk_random, &w);
	single(b, name, "translate_random_1g", LOOKUPS, translate_random, &w);
	single(b, name, "translate_dependent", LOOKUPS, translate_dependent, &w);
	single(b, name, "translate_many_1g", LOOKUPS, translate_many, &w);
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
	return 0;
}
