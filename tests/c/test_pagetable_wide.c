// SPDX-License-Identifier: Apache-2.0
/* Wide vectors: each variant that this machine has does what the plain one does, on blocks and on whole page tables. */
#define _GNU_SOURCE
#include "check.h"
#include "pagetable/entries.h"
#include "pagetable/pagetable.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define GIB UINT64_C(0x40000000)
#define WORDS (3 * IOFI_BLOCK_ITEMS)

static const char *const names[] = { "plain", "avx2", "avx512" };

#define FOR_EACH_VARIANT(v) \
	for (enum iof_vectors v = IOF_VECTORS_PLAIN; v <= IOF_VECTORS_AVX512; v++) \
		if (iof_cpu_has(v))

TEST(the_environment_chooses)
{
	enum iof_vectors best = iof_cpu_vectors();

	CHECK(iof_cpu_has(IOF_VECTORS_PLAIN));
	CHECK(iof_cpu_has(best));
	FOR_EACH_VARIANT(v) {
		CHECK(v <= best);
		setenv("IOMMUFD_FAST_VECTORS", names[v], 1);
		CHECK_EQ(iof_cpu_vectors(), v);
	}
	setenv("IOMMUFD_FAST_VECTORS", "sse9", 1);
	CHECK_EQ(iof_cpu_vectors(), best);
	unsetenv("IOMMUFD_FAST_VECTORS");
}

TEST(fills)
{
	static _Alignas(4096) uint64_t block[WORDS];
	const uint64_t step[] = { 0, 4096, UINT64_C(1) << 10, (uint64_t)-4096, UINT64_C(0x123456789abcdef1) };

	FOR_EACH_VARIANT(v)
		for (unsigned s = 0; s < 5; s++) {
			uint64_t value = UINT64_C(0xfedcba9876543003);

			memset(block, 0xee, sizeof(block));
			iofi_table_fill(block + IOFI_BLOCK_ITEMS, IOFI_BLOCK_ITEMS, value, step[s], v);
			CHECK_EQ(block[IOFI_BLOCK_ITEMS - 1], UINT64_C(0xeeeeeeeeeeeeeeee));
			CHECK_EQ(block[2 * IOFI_BLOCK_ITEMS], UINT64_C(0xeeeeeeeeeeeeeeee));
			for (unsigned i = 0; i < IOFI_BLOCK_ITEMS; i++)
				CHECK_EQ(block[IOFI_BLOCK_ITEMS + i], value + i * step[s]);
		}
}

/* One word lacks one bit: every word counts, and so does every bit. */
TEST(conjunctions)
{
	static _Alignas(4096) uint64_t block[2 * IOFI_BLOCK_ITEMS], next[2 * IOFI_BLOCK_ITEMS];

	memset(block, 0xff, sizeof(block));
	FOR_EACH_VARIANT(v)
		for (unsigned i = 0; i < 2 * IOFI_BLOCK_ITEMS; i++) {
			const uint64_t bit = UINT64_C(1) << i % 64;

			block[i] = ~bit;
			CHECK_EQ(iofi_table_and(block, NULL, 2 * IOFI_BLOCK_ITEMS, v), ~bit);
			CHECK_EQ(iofi_table_and(block, next, 2 * IOFI_BLOCK_ITEMS, v), ~bit);
			CHECK_EQ(iofi_table_and(block, next, IOFI_BLOCK_ITEMS, v), i < IOFI_BLOCK_ITEMS ? ~bit : UINT64_MAX);
			block[i] = UINT64_MAX;
		}
}

TEST(scans)
{
	static _Alignas(4096) uint64_t block[IOFI_BLOCK_ITEMS];
	const uint64_t mask = UINT64_C(1) << 9 | UINT64_C(1) << 63;

	FOR_EACH_VARIANT(v)
		for (unsigned i = 0; i < IOFI_BLOCK_ITEMS; i++)
			for (unsigned from = 0; from < 20; from++) {
				unsigned steps = i < from ? (IOFI_BLOCK_ITEMS - from) / IOFI_SCAN_ITEMS :
							    (i - from) / IOFI_SCAN_ITEMS;
				unsigned most = (IOFI_BLOCK_ITEMS - from) / IOFI_SCAN_ITEMS;

				memset(block, 0, sizeof(block));
				block[(i + 1) % IOFI_BLOCK_ITEMS] = ~mask;
				block[i] = i % 2 ? UINT64_C(1) << 9 : UINT64_C(1) << 63;
				CHECK_EQ(iofi_entries_scan(block, from, IOFI_BLOCK_ITEMS, mask, v),
					 from + (steps < most ? steps : most) * IOFI_SCAN_ITEMS);
			}
}

static void add_table(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	uint64_t *sum = ctx;

	(void)address;
	for (size_t i = 0; i < n; i++)
		*sum = (*sum ^ (level ? entries[i] != 0 : entries[i])) * UINT64_C(0x100000001b3);
}

static void sweep(void *ctx, uint64_t start, uint64_t length)
{
	uint64_t *sum = ctx;

	*sum = (*sum ^ start ^ length) * UINT64_C(0x100000001b3);
}

/* All that whole tables go through: filled, scanned for dirty bits, found full or not, cleared. */
static uint64_t life_of_a_table(const struct iof_pt_config *cfg)
{
	struct iof_pt_gather g = { 0 };
	struct iof_alloc alloc;
	struct iof_pt *pt;
	uint64_t sum = 0;

	iof_alloc_init_heap(&alloc);
	CHECK_EQ(iof_pt_create(cfg, &alloc, &pt), 0);
	CHECK_EQ(iof_pt_map(pt, GIB, 0x1235000, GIB / 8, RW, &g), 0);
	CHECK_EQ(iof_pt_map(pt, 2 * GIB, 0x1235000, GIB / 8, RW, &g), 0);
	if (cfg->format == IOF_PT_VTDSS || cfg->format == IOF_PT_AMDV1) {
		for (uint64_t i = 0; i < 100; i++)
			CHECK_EQ(iof_pt_set_dirty(pt, GIB + i * i * 0x3000), 0);
		CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ GIB, GIB + GIB / 8 - 1 }, true, true, sweep, &sum), 0);
	}
	iof_pt_visit(pt, add_table, &sum);
	CHECK_EQ(iof_pt_unmap(pt, GIB, GIB / 8, &g), GIB / 8);
	CHECK_EQ(iof_pt_unmap(pt, 2 * GIB + GIB / 16, 0x1000, &g), 0x1000);
	sum += iof_pt_unmap(pt, 2 * GIB, GIB / 8, &g);
	iof_pt_visit(pt, add_table, &sum);
	iof_pt_release(pt, &g);
	CHECK(iof_pt_is_valid(pt));
	iof_pt_destroy(pt);
	return sum;
}

TEST(tables_are_alike)
{
	static const struct iof_pt_config configs[] = {
		{ .format = IOF_PT_VTDSS, .va_lg2 = 48 }, { .format = IOF_PT_AMDV1, .top_level = 3 },
		{ .format = IOF_PT_X86_64, .va_lg2 = 48 }, { .format = IOF_PT_RISCV64, .va_lg2 = 48 },
		{ .format = IOF_PT_ARM_S1 }, { .format = IOF_PT_ARM_S2 }, { .format = IOF_PT_MOCK, .top_level = 2 },
	};

	for (unsigned i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		uint64_t plain = 0;

		FOR_EACH_VARIANT(v) {
			uint64_t sum;

			setenv("IOMMUFD_FAST_VECTORS", names[v], 1);
			sum = life_of_a_table(&configs[i]);
			plain = v == IOF_VECTORS_PLAIN ? sum : plain;
			CHECK_EQ(sum, plain);
		}
	}
	unsetenv("IOMMUFD_FAST_VECTORS");
}
