// SPDX-License-Identifier: Apache-2.0
/*
 * Two stages over one another, any two formats: the composition of what each alone says, and faults that name stage,
 * level and address.
 *
 * The first stage's tables are one of our own page tables; their addresses are mapped by the second stage to the same
 * plus SHIFT, which the reader takes off again.
 */
#include <errno.h>

#include "check.h"
#include "pagetable/foreign.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define SHIFT (UINT64_C(1) << 47)
#define GUEST UINT64_C(0x40000000) /* where leaves of the first stage point to */
#define PAGES 2048u
#define MISSING 7u /* of eight guest pages this one is not mapped by the second stage */

static const struct iof_pt_config CONFIGS[] = {
	{ .format = IOF_PT_VTDSS, .va_lg2 = 48 },
	{ .format = IOF_PT_AMDV1, .top_level = 3 },
	{ .format = IOF_PT_X86_64, .va_lg2 = 48 },
	{ .format = IOF_PT_RISCV64, .va_lg2 = 48 },
	{ .format = IOF_PT_RISCV64_X4, .va_lg2 = 50 },
	{ .format = IOF_PT_ARM_S1 },
	{ .format = IOF_PT_ARM_S2, .va_lg2 = 48 },
	{ .format = IOF_PT_ARM_S1, .granule_lg2 = 16 },
};
#define N_CONFIGS (sizeof(CONFIGS) / sizeof(CONFIGS[0]))

struct stages {
	struct iof_alloc alloc;
	struct iof_pt *first, *second;
	struct iof_pt_gather g;
	struct iof_pt_nested nested;
};

static int read_shifted(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	CHECK(address >= SHIFT);
	*entry = *(const uint64_t *)(uintptr_t)(address - SHIFT);
	return 0;
}

static int read_plain(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	*entry = *(const uint64_t *)(uintptr_t)address;
	return 0;
}

static const uint64_t *at_shifted(void *ctx, uint64_t address, uint64_t bytes)
{
	(void)ctx;
	CHECK(address % bytes == 0);
	return (const uint64_t *)(uintptr_t)(address - SHIFT);
}

static void map_table(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	struct stages *s = ctx;
	uint64_t granule = iof_pt_page_sizes(s->second) & -iof_pt_page_sizes(s->second);
	uint64_t start = address & ~(granule - 1), end = (address + n * 8 + granule - 1) & ~(granule - 1);

	(void)level, (void)entries;
	for (; start < end; start += granule)
		if (iof_pt_translate(s->second, start, NULL) == UINT64_MAX)
			CHECK_EQ(iof_pt_map(s->second, start, start + SHIFT, granule, RW, &s->g), 0);
}

static void stages_open(struct stages *s, unsigned first, unsigned second, uint64_t page)
{
	unsigned level;

	memset(s, 0, sizeof(*s));
	iof_alloc_init_heap(&s->alloc);
	CHECK_EQ(iof_pt_create(&CONFIGS[first], &s->alloc, &s->first), 0);
	CHECK_EQ(iof_pt_create(&CONFIGS[second], &s->alloc, &s->second), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		if (i % 5)
			CHECK_EQ(iof_pt_map(s->first, i * page, GUEST + (i * 77 % PAGES) * page, page,
					    i % 3 ? RW : IOF_PROT_READ, &s->g), 0);
		if (i % 8 != MISSING)
			CHECK_EQ(iof_pt_map(s->second, GUEST + i * page, SHIFT + i * 3 * page, page,
					    i % 7 ? RW : IOF_PROT_READ, &s->g), 0);
	}
	CHECK_EQ(iof_pt_map(s->first, UINT64_C(1) << 30, GUEST, PAGES * page, RW, &s->g), 0); /* larger leaves */
	iof_pt_visit(s->first, map_table, s);
	s->nested.first = (struct iof_pt_foreign){ .cfg = CONFIGS[first], .root = iof_pt_root(s->first, &level),
						   .memory = { read_shifted, at_shifted, NULL } };
	s->nested.first.top_level = level;
	CHECK_EQ(iof_pt_foreign_check(&s->nested.first), 0);
	s->nested.second = s->second;
	s->nested.second_foreign = (struct iof_pt_foreign){ .cfg = CONFIGS[second],
							    .root = iof_pt_root(s->second, &level),
							    .memory = { .read = read_plain } };
	s->nested.second_foreign.top_level = level;
	CHECK_EQ(iof_pt_foreign_check(&s->nested.second_foreign), 0);
}

static void stages_close(struct stages *s)
{
	iof_pt_release(s->first, &s->g);
	iof_pt_destroy(s->first);
	iof_pt_destroy(s->second);
	CHECK_EQ(s->alloc.live_blocks, 0);
}

/* Each stage by itself, one after the other. */
static uint64_t composed(struct stages *s, uint64_t iova, unsigned *prot)
{
	unsigned one, two = 0;
	uint64_t guest = iof_pt_translate(s->first, iova, &one), address = UINT64_MAX;

	if (one)
		address = iof_pt_translate(s->second, guest, &two);
	*prot = one & two;
	return address;
}

static void check_one(struct stages *s, uint64_t iova)
{
	struct iof_pt_nested_fault fault;
	struct iof_pt_leaf leaf;
	unsigned prot, one;
	uint64_t expected = composed(s, iova, &prot), guest = iof_pt_translate(s->first, iova, &one);
	int err = iof_pt_walk_nested(&s->nested, iova, &leaf, &fault);

	CHECK_EQ(err, prot ? 0 : -ENOENT);
	if (!err) {
		CHECK_EQ(leaf.address + (iova - leaf.iova), expected);
		CHECK_EQ(leaf.prot, prot);
		return;
	}
	CHECK_EQ(fault.stage, one ? 2 : 1);
	CHECK_EQ(fault.iova, iova);
	CHECK_EQ(fault.fetch_level, IOF_PT_NO_FETCH);
	CHECK_EQ(fault.fault.reason, IOF_PT_HOLE);
	CHECK_EQ(fault.fault.iova, one ? guest : iova);
}

static void check_batch(struct stages *s, uint64_t page)
{
	static uint64_t iovas[1000], addresses[1000];
	static uint8_t prots[1000];
	uint64_t seed = page;
	size_t found = 0;

	for (unsigned i = 0; i < 1000; i++)
		iovas[i] = check_random(&seed) % (2 * PAGES * page) + (i % 4 ? 0 : UINT64_C(1) << 30);
	iovas[77] = UINT64_MAX;
	CHECK(iof_pt_translate_nested(&s->nested, iovas, 1000, addresses, prots) > 300);
	for (unsigned i = 0; i < 1000; i++) {
		unsigned prot;
		uint64_t expected = composed(s, iovas[i], &prot);

		CHECK_EQ(addresses[i], prot ? expected : UINT64_MAX);
		CHECK_EQ(prots[i], prot);
		found += prot != 0;
	}
	CHECK_EQ(iof_pt_translate_nested(&s->nested, iovas, 1000, addresses, NULL), found);
}

TEST(any_two_formats)
{
	static struct stages s;

	for (unsigned first = 0; first < N_CONFIGS; first++)
		for (unsigned second = 0; second < N_CONFIGS; second++) {
			uint64_t page = first == 7 || second == 7 ? 65536 : 4096, seed = first * 8 + second + 1;

			stages_open(&s, first, second, page);
			for (unsigned own = 0; own < 2; own++) {
				for (unsigned i = 0; i < 300; i++)
					check_one(&s, check_random(&seed) % (2 * PAGES * page));
				check_one(&s, (UINT64_C(1) << 30) + check_random(&seed) % (PAGES * page));
				check_batch(&s, page);
				s.nested.second = NULL; /* the same as a foreign one */
			}
			stages_close(&s);
		}
}

/* Every table of the first stage taken away from the second stage, one after the other. */
TEST(a_fault_of_a_table_fetch)
{
	static struct stages s;
	struct iof_pt_nested_fault fault;
	struct iof_pt_leaf leaf;
	uint64_t table;

	stages_open(&s, 2, 0, 4096);
	table = s.nested.first.root;
	for (int level = 3; level >= 0; level--) {
		CHECK_EQ(iof_pt_unmap(s.second, table, 4096, &s.g), 4096);
		for (unsigned own = 0; own < 2; own++) {
			s.nested.second = own ? s.second : NULL;
			CHECK_EQ(iof_pt_walk_nested(&s.nested, 4096 + 5, &leaf, &fault), -ENOENT);
			CHECK_EQ(fault.stage, 2);
			CHECK_EQ(fault.fetch_level, level);
			CHECK_EQ(fault.fault.reason, IOF_PT_HOLE);
			CHECK_EQ(fault.fault.level, 0);
			CHECK_EQ(fault.fault.iova, table + (level ? 0 : 8));
			CHECK_EQ(fault.iova, 4096 + 5);
		}
		CHECK_EQ(iof_pt_map(s.second, table, table + SHIFT, 4096, IOF_PROT_WRITE, &s.g), 0);
		CHECK_EQ(iof_pt_walk_nested(&s.nested, 4096 + 5, &leaf, &fault), -EACCES); /* not to be read */
		CHECK_EQ(fault.fault.reason, IOF_PT_DENIED);
		CHECK_EQ(fault.fetch_level, level);
		CHECK_EQ(iof_pt_unmap(s.second, table, 4096, &s.g), 4096);
		CHECK_EQ(iof_pt_map(s.second, table, table + SHIFT, 4096, RW, &s.g), 0);
		table = *(const uint64_t *)(uintptr_t)table & UINT64_C(0x000ffffffffff000);
	}
	CHECK_EQ(iof_pt_walk_nested(&s.nested, 4096 + 5, &leaf, &fault), 0);
	stages_close(&s);
}
