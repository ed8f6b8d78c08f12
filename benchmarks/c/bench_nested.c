// SPDX-License-Identifier: Apache-2.0
/*
 * Two stages over one another: random IOVAs in 1 GiB of 4 KiB leaves of both, in batches, and one by one.
 *
 *   bench_nested [part of a case's name] [rounds]
 */
#include <errno.h>

#include "bench.h"
#include "pagetable/foreign.h"

#define GIB (UINT64_C(1) << 30)
#define SHIFT (UINT64_C(1) << 47) /* the second stage moves the first one's tables by this */
#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define LOOKUPS 65536

struct world {
	struct iof_alloc alloc;
	struct iof_pt *first, *second;
	struct iof_pt_gather g;
	struct iof_pt_nested nested;
	uint64_t random[LOOKUPS], addresses[LOOKUPS];
};

static void must(int err)
{
	if (err) {
		fprintf(stderr, "bench_nested: error %d\n", err);
		exit(1);
	}
}

static int read_shifted(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	*entry = *(const uint64_t *)(uintptr_t)(address - SHIFT);
	return 0;
}

static const uint64_t *at_shifted(void *ctx, uint64_t address, uint64_t bytes)
{
	(void)ctx, (void)bytes;
	return (const uint64_t *)(uintptr_t)(address - SHIFT);
}

static void map_table(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	struct world *w = ctx;

	(void)level, (void)entries, (void)n;
	must(iof_pt_map(w->second, address, address + SHIFT, 4096, RW, &w->g));
}

static void translate_many(void *ctx)
{
	struct world *w = ctx;

	must(iof_pt_translate_nested(&w->nested, w->random, LOOKUPS, w->addresses, NULL) == LOOKUPS ? 0 : -EFAULT);
}

static void walk(void *ctx)
{
	struct world *w = ctx;
	struct iof_pt_nested_fault fault;
	struct iof_pt_leaf leaf;
	uint64_t sum = 0;

	for (unsigned i = 0; i < LOOKUPS; i++) {
		must(iof_pt_walk_nested(&w->nested, w->random[i], &leaf, &fault));
		sum += leaf.address;
	}
	bench_keep(sum);
}

static void world_make(struct world *w, struct iof_pt_config first, struct iof_pt_config second)
{
	uint64_t state = 88172645463325252u;
	unsigned level;

	memset(w, 0, sizeof(*w));
	iof_alloc_init_heap(&w->alloc);
	must(iof_pt_create(&first, &w->alloc, &w->first));
	must(iof_pt_create(&second, &w->alloc, &w->second));
	must(iof_pt_map(w->first, GIB, 2 * GIB + 4096, GIB, RW, &w->g));
	must(iof_pt_map(w->second, 2 * GIB, 5 * GIB + 4096, 2 * GIB, RW, &w->g));
	iof_pt_visit(w->first, map_table, w);
	w->nested = (struct iof_pt_nested){ .second = w->second };
	w->nested.first = (struct iof_pt_foreign){ .cfg = first, .root = iof_pt_root(w->first, &level),
						   .memory = { read_shifted, at_shifted, NULL } };
	w->nested.first.top_level = level;
	must(iof_pt_foreign_check(&w->nested.first));
	for (unsigned i = 0; i < LOOKUPS; i++) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		w->random[i] = GIB + (state & (GIB - 1));
	}
}

static const struct {
	const char *name;
	struct iof_pt_config first, second;
} pairs[] = {
	{ "x86_64_over_vtdss", { .format = IOF_PT_X86_64, .va_lg2 = 48 }, { .format = IOF_PT_VTDSS, .va_lg2 = 48 } },
	{ "x86_64_over_amdv1", { .format = IOF_PT_X86_64, .va_lg2 = 48 }, { .format = IOF_PT_AMDV1, .top_level = 3 } },
	{ "sv48_over_sv48x4", { .format = IOF_PT_RISCV64, .va_lg2 = 48 }, { .format = IOF_PT_RISCV64_X4, .va_lg2 = 50 } },
	{ "arm_s1_over_arm_s2", { .format = IOF_PT_ARM_S1 }, { .format = IOF_PT_ARM_S2 } },
};

int main(int argc, char **argv)
{
	struct bench b = { .name = "nested", .only = argc > 1 ? argv[1] : NULL, .rounds = argc > 2 ? atoi(argv[2]) : 51 };
	static struct world w;
	char name[64];

	for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		world_make(&w, pairs[i].first, pairs[i].second);
		snprintf(name, sizeof(name), "%s/translate_many", pairs[i].name);
		bench_run(&b, name, LOOKUPS, translate_many, NULL, &w);
		snprintf(name, sizeof(name), "%s/walk", pairs[i].name);
		bench_run(&b, name, LOOKUPS, walk, NULL, &w);
		iof_pt_destroy(w.first);
		iof_pt_destroy(w.second);
	}
	return 0;
}
