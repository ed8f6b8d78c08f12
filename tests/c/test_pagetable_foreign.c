// SPDX-License-Identifier: Apache-2.0
/*
 * Walks over tables in memory that is not ours: the same answers as our own walk, and an error for every kind of
 * garbage.
 */
#include <errno.h>

#include "check.h"
#include "pagetable/foreign.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define FIRST UINT64_C(0x1000)
#define TABLES 8

/* A little physical memory of TABLES tables, at FIRST. */
struct memory {
	uint64_t items[TABLES][512];
	unsigned reads;
};

static int read_memory(void *ctx, uint64_t address, uint64_t *entry)
{
	struct memory *mem = ctx;

	mem->reads++;
	if (address < FIRST || address - FIRST >= sizeof(mem->items) || address % 8)
		return -EFAULT;
	*entry = mem->items[(address - FIRST) / 4096][address % 4096 / 8];
	return 0;
}

static int read_process(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	*entry = *(const uint64_t *)(uintptr_t)address;
	return 0;
}

static const struct iof_pt_config CONFIGS[] = {
	{ .format = IOF_PT_VTDSS, .va_lg2 = 57 },
	{ .format = IOF_PT_AMDV1, .top_level = 5 },
	{ .format = IOF_PT_MOCK, .top_level = 4 },
	{ .format = IOF_PT_X86_64 },
	{ .format = IOF_PT_RISCV64, .features = IOF_PT_NAPOT },
	{ .format = IOF_PT_RISCV64_X4, .va_lg2 = 50 },
	{ .format = IOF_PT_ARM_S1 },
	{ .format = IOF_PT_ARM_S1, .granule_lg2 = 14 },
	{ .format = IOF_PT_ARM_S1, .granule_lg2 = 16, .features = IOF_PT_CONTIGUOUS },
	{ .format = IOF_PT_ARM_S2, .va_lg2 = 40, .top_level = 2 },
	{ .format = IOF_PT_ARM_S2, .granule_lg2 = 14, .va_lg2 = 40, .top_level = 1 },
};
#define N_CONFIGS (sizeof(CONFIGS) / sizeof(CONFIGS[0]))

TEST(agrees_with_our_own_walk)
{
	for (unsigned c = 0; c < N_CONFIGS; c++) {
		struct iof_alloc a;
		struct iof_pt *pt;
		struct iof_pt_gather g = { 0 };
		struct iof_pt_leaf ours, theirs;
		struct iof_pt_config cfg;
		struct iof_pt_foreign f;
		struct iof_pt_fault fault;
		uint64_t seed = c + 1, root, at;
		unsigned level;

		iof_alloc_init_heap(&a);
		CHECK_EQ(iof_pt_create(&CONFIGS[c], &a, &pt), 0);
		iof_pt_config(pt, &cfg);
		at = UINT64_C(0x200000) - (UINT64_C(1) << (cfg.granule_lg2 < 12 ? 12 : cfg.granule_lg2));
		CHECK_EQ(iof_pt_map(pt, at, at, 0x40000000 + 2 * (0x200000 - at), RW, &g), 0);
		root = iof_pt_root(pt, &level);
		f = (struct iof_pt_foreign){ CONFIGS[c], root, level, { .read = read_process } };
		CHECK_EQ(iof_pt_foreign_check(&f), 0);
		for (unsigned i = 0; i < 2000; i++) {
			uint64_t iova = check_random(&seed) % 0x60000000;
			int err = iof_pt_walk(pt, iova, &ours);

			CHECK_EQ(iof_pt_walk_foreign(&f, iova, &theirs, &fault), err);
			CHECK(err || (ours.iova == theirs.iova && ours.address == theirs.address &&
				      ours.size_lg2 == theirs.size_lg2 && ours.prot == theirs.prot &&
				      ours.level == theirs.level && ours.dirty == theirs.dirty));
		}
		iof_pt_destroy(pt);
	}
}

static struct memory mem;
static struct iof_pt_fault fault;

static int foreign(unsigned config, uint64_t root, unsigned level, uint64_t iova)
{
	struct iof_pt_foreign f = { CONFIGS[config], root, level, { .read = read_memory, .ctx = &mem } };
	struct iof_pt_leaf leaf;
	int err = iof_pt_foreign_check(&f);

	mem.reads = 0;
	return err ? err : iof_pt_walk_foreign(&f, iova, &leaf, &fault);
}

TEST(impossible_shapes)
{
	memset(&mem, 0, sizeof(mem));
	CHECK_EQ(foreign(0, FIRST, 3, 0), -ENOENT);
	CHECK_EQ(foreign(0, FIRST, 1, 0), -EINVAL);
	CHECK_EQ(foreign(0, FIRST, 5, 0), -EINVAL);
	CHECK_EQ(foreign(1, FIRST, 0, 0), -EINVAL);
	CHECK_EQ(foreign(1, FIRST, 6, 0), -EINVAL);
	CHECK_EQ(foreign(0, FIRST + 8, 3, 0), -EINVAL);
	CHECK_EQ(foreign(0, FIRST, 4, UINT64_C(1) << 57), -ERANGE);
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(1) << 40), -ENOENT); /* beyond this top, inside the width */
	CHECK_EQ(foreign(0, 0x100000, 3, 0), -EFAULT);
}

TEST(a_loop_ends)
{
	memset(&mem, 0, sizeof(mem));
	mem.items[0][0] = FIRST | 3; /* VT-d: points to itself, six readings are one too many */
	CHECK_EQ(foreign(0, FIRST, 4, 0), 0); /* the lowest level takes it as a leaf, as hardware does */
	CHECK_EQ(mem.reads, 5);
	mem.items[0][0] = FIRST | 5 << 9 | 1; /* AMD: says "level 5" whatever the level */
	CHECK_EQ(foreign(1, FIRST, 5, 0), -EINVAL);
	CHECK_EQ(mem.reads, 2);
}

TEST(reserved_bits_and_levels)
{
	memset(&mem, 0, sizeof(mem));
	mem.items[0][0] = FIRST | 0x83; /* VT-d: PS at level 3 */
	CHECK_EQ(foreign(0, FIRST, 3, 0), -EINVAL);
	mem.items[0][0] = 0x101083; /* a 1 GiB leaf that is not aligned */
	CHECK_EQ(foreign(0, FIRST, 2, 0), -EINVAL);
	mem.items[0][0] = 1; /* AMD: a leaf at level 5 */
	CHECK_EQ(foreign(1, FIRST, 5, 0), -EINVAL);
	mem.items[0][0] = 7 << 9 | 1 | UINT64_C(0xffffffffff) << 12; /* an encoded size beyond the level */
	CHECK_EQ(foreign(1, FIRST, 2, 0), -EINVAL);
	mem.items[0][0] = FIRST | 4 << 9 | 1; /* a level skipped */
	CHECK_EQ(foreign(1, FIRST, 5, 0), -EINVAL);
	mem.items[0][0] = FIRST | 3 << 9 | 1 | UINT64_C(1) << 55;
	CHECK_EQ(foreign(1, FIRST, 3, 0), -EINVAL);
}

static bool known(int err)
{
	return !err || err == -ENOENT || err == -ERANGE || err == -EFAULT || err == -EINVAL;
}

/* Random items, many of them pointing into the memory: whatever they say, a walk ends within the number of levels. */
TEST(garbage_never_loops)
{
	const unsigned tops[N_CONFIGS] = { 0, 0, 0, 4, 4, 3, 3, 3, 2, 2, 1 };
	uint64_t seed = 20, found = 0;

	for (unsigned round = 0; round < 300; round++) {
		for (unsigned t = 0; t < TABLES; t++)
			for (unsigned i = 0; i < 512; i++) {
				uint64_t r = check_random(&seed);

				mem.items[t][i] = r & 1 ? check_random(&seed) :
							  (FIRST + (r >> 8) % TABLES * 4096) | (r >> 20 & 0xfff);
			}
		for (unsigned i = 0; i < 300; i++) {
			unsigned c = i % N_CONFIGS, level = c < 3 ? 2 + i % 3 : tops[c];
			int err = foreign(c, FIRST, level, check_random(&seed) & iof_low_mask(20 + i % 45));

			CHECK(known(err));
			CHECK(mem.reads <= level + 1);
			found += !err;
		}
	}
	CHECK(found > 40);
}

/* What each fault says. */
TEST(faults_say_where)
{
	const uint64_t t1 = FIRST + 4096, t2 = FIRST + 8192;

	memset(&mem, 0, sizeof(mem));
	mem.items[0][5] = t1 | 3;
	mem.items[1][6] = t2 | 1;
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(5) << 30 | 7 << 21), -ENOENT);
	CHECK_EQ(fault.reason, IOF_PT_HOLE);
	CHECK_EQ(fault.level, 1);
	CHECK_EQ(fault.table, t1);
	CHECK_EQ(fault.entry, t1 + 7 * 8);
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(1) << 57), -ERANGE);
	CHECK_EQ(fault.reason, IOF_PT_OUTSIDE);
	mem.items[2][9] = UINT64_C(0x123456) << 12 | 3;
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(5) << 30 | 6 << 21 | 9 << 12), 0);
	mem.items[1][6] = 0x7000000 | 3;
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(5) << 30 | 6 << 21 | 9 << 12), -EFAULT);
	CHECK_EQ(fault.reason, IOF_PT_NO_MEMORY);
	CHECK_EQ(fault.level, 0);
	CHECK_EQ(fault.table, 0x7000000);
	CHECK_EQ(fault.entry, 0x7000000 + 9 * 8);
	mem.items[0][5] = 0x1083;
	CHECK_EQ(foreign(0, FIRST, 2, UINT64_C(5) << 30), -EINVAL);
	CHECK_EQ(fault.reason, IOF_PT_RESERVED);
	CHECK_EQ(fault.item, 0x1083);
	CHECK_EQ(fault.level, 2);
}

/* Every level must grant what a leaf grants. */
TEST(permissions_of_all_levels)
{
	struct iof_pt_foreign f = { CONFIGS[0], FIRST, 2, { .read = read_memory, .ctx = &mem } };
	struct iof_pt_leaf leaf;

	for (unsigned prots = 0; prots < 64; prots++) {
		unsigned a = prots & 3, b = prots >> 2 & 3, c = prots >> 4;

		memset(&mem, 0, sizeof(mem));
		mem.items[0][0] = (FIRST + 4096) | a;
		mem.items[1][0] = (FIRST + 8192) | b;
		mem.items[2][0] = 0x5000 | c;
		CHECK_EQ(iof_pt_walk_foreign(&f, 0, &leaf, &fault), a && b && c ? 0 : -ENOENT);
		CHECK(!(a && b && c) || leaf.prot == (a & b & c));
	}
}

struct seen {
	uint64_t leaves, bytes, faults[8], hidden;
};

/* Goes through all of a foreign table. */
static struct seen go_through(const struct iof_pt_foreign *f, struct iof_range within)
{
	struct seen seen = { 0 };
	struct iof_pt_leaf leaf;
	int err;

	while ((err = iof_pt_next_foreign(f, within, &leaf, &fault)) != -ENOENT) {
		uint64_t last = err ? fault.last : leaf.iova + ((UINT64_C(1) << leaf.size_lg2) - 1);

		CHECK(last >= within.start);
		if (err) {
			seen.faults[fault.reason]++;
			seen.hidden += fault.last - fault.iova + 1;
		} else {
			seen.leaves++;
			seen.bytes += UINT64_C(1) << leaf.size_lg2;
		}
		if (last >= within.last)
			break;
		within.start = last + 1;
	}
	return seen;
}

TEST(iteration_over_our_own)
{
	for (unsigned c = 0; c < N_CONFIGS; c++) {
		struct iof_alloc a;
		struct iof_pt *pt;
		struct iof_pt_gather g = { 0 };
		struct iof_pt_foreign f = { CONFIGS[c], 0, 0, { .read = read_process } };
		struct iof_pt_leaf leaf;
		struct seen seen;
		unsigned level;
		uint64_t leaves = 0;

		iof_alloc_init_heap(&a);
		CHECK_EQ(iof_pt_create(&CONFIGS[c], &a, &pt), 0);
		CHECK_EQ(iof_pt_map(pt, 0x1f0000, 0x1f0000, 0x40420000, RW, &g), 0);
		CHECK_EQ(iof_pt_map(pt, UINT64_C(1) << 37, 0x10000, 0x10000, RW, &g), 0);
		for (uint64_t at = 0; !iof_pt_next_leaf(pt, (struct iof_range){ at, UINT64_MAX }, &leaf); leaves++)
			at = leaf.iova + (UINT64_C(1) << leaf.size_lg2);
		f.root = iof_pt_root(pt, &level);
		f.top_level = level;
		seen = go_through(&f, (struct iof_range){ 0, UINT64_MAX });
		CHECK_EQ(seen.leaves, leaves);
		CHECK_EQ(seen.bytes, 0x40430000);
		CHECK_EQ(seen.hidden, 0);
		iof_pt_destroy(pt);
	}
}

TEST(iteration_over_loops_and_garbage)
{
	struct iof_pt_foreign f = { CONFIGS[0], FIRST, 3, { .read = read_memory, .ctx = &mem } };
	struct seen seen;
	uint64_t seed = 3;

	f.cfg.va_lg2 = 48;
	memset(&mem, 0, sizeof(mem));
	mem.items[0][0] = FIRST | 3; /* itself */
	mem.items[0][1] = (FIRST + 4096) | 3;
	mem.items[1][2] = FIRST | 3; /* back up */
	mem.items[1][3] = 0x7000000 | 3; /* nowhere */
	mem.items[1][4] = (FIRST + 8192) | 3;
	mem.items[2][511] = 0x8000000 | 0x83;
	mem.items[0][511] = FIRST | 0x83; /* no leaf of 512 GiB */
	seen = go_through(&f, (struct iof_range){ 0, UINT64_MAX });
	CHECK_EQ(seen.faults[IOF_PT_LOOP], 2);
	CHECK_EQ(seen.faults[IOF_PT_NO_MEMORY], 1);
	CHECK_EQ(seen.faults[IOF_PT_RESERVED], 1);
	CHECK_EQ(seen.leaves, 1);
	CHECK_EQ(seen.hidden, (UINT64_C(2) << 39) + (UINT64_C(2) << 30));
	for (unsigned c = 0; c < N_CONFIGS; c++) { /* it always goes on; garbage may be large, so not to its end */
		struct iof_pt_leaf leaf;
		uint64_t at = 0;

		f.cfg = CONFIGS[c];
		f.top_level = c < 3 ? 3 : c < 6 ? 4 - (c == 5) : 2 - (c == 10);
		for (unsigned i = 0; i < TABLES * 512; i++)
			mem.items[i / 512][i % 512] = check_random(&seed) >> check_random(&seed) % 40;
		for (unsigned i = 0; i < 2000; i++) {
			int err = iof_pt_next_foreign(&f, (struct iof_range){ at, UINT64_MAX }, &leaf, &fault);
			uint64_t last = err ? fault.last : leaf.iova + ((UINT64_C(1) << leaf.size_lg2) - 1);

			if (err == -ENOENT || last == UINT64_MAX)
				break;
			CHECK(last >= at);
			at = last + 1;
		}
	}
}
