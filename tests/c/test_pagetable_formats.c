// SPDX-License-Identifier: Apache-2.0
/* x86-64, RISC-V and ARM: leaf encodings bit by bit, shapes, sign extension, and what ARM does otherwise. */
#include <errno.h>

#include "check.h"
#include "pagetable/pagetable.h"

#define READ IOF_PROT_READ
#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define RWC (RW | IOF_PROT_CACHE)
#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define TIB (KIB * GIB)

static struct iof_alloc alloc;
static struct iof_pt *pt;
static struct iof_pt_gather g;

static int open_table(struct iof_pt_config cfg)
{
	iof_alloc_init_heap(&alloc);
	return iof_pt_create(&cfg, &alloc, &pt);
}

static void close_table(void)
{
	CHECK(iof_pt_is_valid(pt));
	iof_pt_release(pt, &g);
	CHECK(iof_pt_is_valid(pt));
	iof_pt_destroy(pt);
	CHECK_EQ(alloc.live_blocks, 0);
}

static int map(uint64_t iova, uint64_t address, uint64_t length)
{
	return iof_pt_map(pt, iova, address, length, RWC, &g);
}

static uint64_t unmap(uint64_t iova, uint64_t length)
{
	return iof_pt_unmap(pt, iova, length, &g);
}

static uint64_t at(uint64_t iova)
{
	return iof_pt_translate(pt, iova, NULL);
}

/* The item of the one leaf that a map of `size` to `address` makes, and how many items that leaf is. */
static uint64_t leaf_item(struct iof_pt_config cfg, uint64_t address, uint64_t size, unsigned prot)
{
	struct iof_pt_leaf leaf = { 0 };

	CHECK_EQ(open_table(cfg), 0);
	CHECK_EQ(iof_pt_map(pt, size, address, size, prot, &g), 0);
	CHECK_EQ(iof_pt_walk(pt, 2 * size - 1, &leaf), 0);
	CHECK_EQ(leaf.iova, size);
	CHECK_EQ(leaf.address, address);
	CHECK_EQ(UINT64_C(1) << leaf.size_lg2, size);
	CHECK_EQ(leaf.prot, cfg.format == IOF_PT_ARM_S2 || !(prot & IOF_PROT_WRITE) ? prot & RW : RW);
	CHECK_EQ(at(2 * size - 1), address + size - 1);
	CHECK_EQ(at(2 * size), UINT64_MAX);
	close_table();
	return leaf.item;
}

TEST(x86_64_leaves)
{
	const struct iof_pt_config x86 = { .format = IOF_PT_X86_64 };

	CHECK_EQ(leaf_item(x86, 0x12345000, 4 * KIB, RW), 0x12345067);
	CHECK_EQ(leaf_item(x86, 0x12345000, 4 * KIB, IOF_PROT_WRITE), 0x12345067); /* reading cannot be denied */
	CHECK_EQ(leaf_item(x86, 0x12345000, 4 * KIB, READ | IOF_PROT_NOEXEC), 0x12345025);
	CHECK_EQ(leaf_item(x86, 0x12200000, 2 * MIB, RW), 0x122000e7);
	CHECK_EQ(leaf_item(x86, 0x40000000, GIB, READ), 0x400000a5);
}

TEST(riscv_leaves)
{
	const struct iof_pt_config sv39 = { .format = IOF_PT_RISCV64, .va_lg2 = 39 };
	const struct iof_pt_config napot = { .format = IOF_PT_RISCV64, .features = IOF_PT_NAPOT | IOF_PT_PBMT };
	const struct iof_pt_config x4 = { .format = IOF_PT_RISCV64_X4, .va_lg2 = 59 };
	const uint64_t ppn = UINT64_C(0x12345) << 10, n = UINT64_C(1) << 63, nc = UINT64_C(1) << 61;

	CHECK_EQ(leaf_item(sv39, 0x12345000, 4 * KIB, RWC), ppn | 0xdf);
	CHECK_EQ(leaf_item(sv39, 0x12345000, 4 * KIB, RW), ppn | 0xdf);
	CHECK_EQ(leaf_item(sv39, 0x12345000, 4 * KIB, READ | IOF_PROT_NOEXEC), ppn | 0x53);
	CHECK_EQ(leaf_item(sv39, 0x40000000, GIB, RWC), UINT64_C(0x40000) << 10 | 0xdf);
	CHECK_EQ(leaf_item(napot, 0x12340000, 64 * KIB, RWC), n | UINT64_C(0x12348) << 10 | 0xdf);
	CHECK_EQ(leaf_item(napot, 0x12345000, 4 * KIB, RWC | IOF_PROT_MMIO), 2 * nc | ppn | 0xdf);
	CHECK_EQ(leaf_item(napot, 0x12345000, 4 * KIB, RW), nc | ppn | 0xdf);
	CHECK_EQ(leaf_item(x4, 0x12345000, 4 * KIB, RWC), ppn | 0xdf);
	CHECK_EQ(leaf_item(x4, 256 * TIB, 256 * TIB, RWC), UINT64_C(0x1000000000) << 10 | 0xdf);
}

TEST(arm_leaves)
{
	struct iof_pt_config s1 = { .format = IOF_PT_ARM_S1 }, s2 = { .format = IOF_PT_ARM_S2, .va_lg2 = 44 };
	const uint64_t xn = UINT64_C(3) << 53, contig = UINT64_C(1) << 52, dbm = UINT64_C(1) << 51;

	CHECK_EQ(leaf_item(s1, 0x12345000, 4 * KIB, RWC), 0x12345f47);
	CHECK_EQ(leaf_item(s1, 0x12345000, 4 * KIB, READ | IOF_PROT_CACHE), 0x12345fc7);
	CHECK_EQ(leaf_item(s1, 0x12200000, 2 * MIB, RWC), 0x12200f45);
	CHECK_EQ(leaf_item(s1, 0x12345000, 4 * KIB, RW), 0x12345e43); /* not cached, outer shareable */
	CHECK_EQ(leaf_item(s1, 0x12345000, 4 * KIB, RW | IOF_PROT_MMIO | IOF_PROT_NOEXEC), xn | 0x12345e4b);
	CHECK_EQ(leaf_item(s2, 0x12345000, 4 * KIB, RWC), 0x123457ff);
	CHECK_EQ(leaf_item(s2, 0x12345000, 4 * KIB, READ | IOF_PROT_CACHE), 0x1234577f);
	CHECK_EQ(leaf_item(s2, 0x12345000, 4 * KIB, IOF_PROT_WRITE), 0x12345697);
	CHECK_EQ(leaf_item(s2, 0x12345000, 4 * KIB, RW | IOF_PROT_MMIO), 0x123456c7);
	s2.features = IOF_PT_FORCE_WRITE_BACK;
	CHECK_EQ(leaf_item(s2, 0x12345000, 4 * KIB, RWC), 0x123457db);
	s1.features = IOF_PT_HW_DIRTY;
	CHECK_EQ(leaf_item(s1, 0x12345000, 4 * KIB, RWC), dbm | 0x12345f47);
	s1.features = IOF_PT_CONTIGUOUS;
	CHECK_EQ(leaf_item(s1, 0x12340000, 64 * KIB, RWC), contig | 0x1234ff47); /* the last of sixteen */
	CHECK_EQ(leaf_item(s1, 0x12000000, 32 * MIB, RWC), contig | 0x13e00f45);
	s1.granule_lg2 = 14;
	CHECK_EQ(leaf_item(s1, 0x12200000, 2 * MIB, RWC), contig | 0x123fcf47);
	s1.granule_lg2 = 16;
	CHECK_EQ(leaf_item(s1, 0x12200000, 2 * MIB, RWC), contig | 0x123f0f47);
	s1.features = 0;
	CHECK_EQ(leaf_item(s1, UINT64_C(0x5678912340000), 64 * KIB, RWC), 0x678912345f47);
	CHECK_EQ(leaf_item(s1, 8 * TIB, 4 * TIB, RWC), 8 * TIB | 0xf45);
}

static void shape_is(struct iof_pt_config cfg, unsigned granule_lg2, unsigned bits, unsigned arm_level, uint64_t items)
{
	unsigned level;
	uint64_t seen = 0;

	cfg.granule_lg2 = granule_lg2;
	cfg.va_lg2 = cfg.oa_lg2 = bits;
	CHECK_EQ(open_table(cfg), 0);
	iof_pt_root(pt, &level);
	CHECK_EQ(level, 3 - arm_level);
	seen = (iof_pt_aperture(pt).last >> (granule_lg2 + (granule_lg2 - 3) * level)) + 1;
	CHECK_EQ(seen, items);
	/* the first and the last page of each root table */
	for (uint64_t i = 0; i < seen; i += seen < 32 ? 1 : seen / 32) {
		uint64_t iova = i << (granule_lg2 + (granule_lg2 - 3) * level);

		CHECK_EQ(map(iova, i << granule_lg2, UINT64_C(1) << granule_lg2), 0);
		CHECK_EQ(at(iova + 5), (i << granule_lg2) + 5);
	}
	CHECK_EQ(iof_pt_root(pt, NULL) % (items * 8 < 64 ? 64 : items * 8), 0);
	close_table();
}

TEST(arm_shapes)
{
	const struct iof_pt_config s1 = { .format = IOF_PT_ARM_S1 }, s2 = { .format = IOF_PT_ARM_S2 };
	const struct {
		uint8_t granule, bits, s1_level, s2_level;
		uint32_t s1_items, s2_items;
	} rows[] = {
		{ 12, 32, 1, 1, 4, 4 }, { 12, 36, 1, 1, 64, 64 }, { 12, 40, 0, 1, 2, 1024 }, { 12, 42, 0, 1, 8, 4096 },
		{ 12, 44, 0, 0, 32, 32 }, { 12, 48, 0, 0, 512, 512 }, { 14, 32, 2, 2, 128, 128 },
		{ 14, 36, 2, 2, 2048, 2048 }, { 14, 40, 1, 2, 16, 32768 }, { 14, 42, 1, 1, 64, 64 },
		{ 14, 44, 1, 1, 256, 256 }, { 14, 48, 0, 1, 2, 4096 }, { 16, 32, 2, 2, 8, 8 }, { 16, 36, 2, 2, 128, 128 },
		{ 16, 40, 2, 2, 2048, 2048 }, { 16, 42, 2, 2, 8192, 8192 }, { 16, 44, 1, 1, 4, 4 },
		{ 16, 48, 1, 1, 64, 64 }, { 16, 52, 1, 1, 1024, 1024 },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		shape_is(s1, rows[i].granule, rows[i].bits, rows[i].s1_level, rows[i].s1_items);
		shape_is(s2, rows[i].granule, rows[i].bits, rows[i].s2_level, rows[i].s2_items);
	}
}

static int shape_error(struct iof_pt_config cfg)
{
	int err = open_table(cfg);

	if (!err)
		iof_pt_destroy(pt);
	return err;
}

#define SHAPE(...) shape_error((struct iof_pt_config){ __VA_ARGS__ })

TEST(impossible_shapes)
{
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .va_lg2 = 58), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .va_lg2 = 56), 0);
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .va_lg2 = 56, .features = IOF_PT_SIGN_EXTEND), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .va_lg2 = 57, .top_level = 3), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .granule_lg2 = 14), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_X86_64, .features = IOF_PT_NAPOT), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_RISCV64, .va_lg2 = 40), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_RISCV64_X4, .va_lg2 = 39), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_RISCV64_X4, .features = IOF_PT_SIGN_EXTEND), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S1, .granule_lg2 = 13), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S1, .va_lg2 = 52), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S1, .oa_lg2 = 41), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S1, .va_lg2 = 40, .top_level = 2), -EOPNOTSUPP); /* only stage 2 */
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S2, .va_lg2 = 40, .top_level = 2), 0);
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S2, .va_lg2 = 44, .top_level = 2), -EOPNOTSUPP); /* 32 tables */
	CHECK_EQ(SHAPE(.format = IOF_PT_ARM_S2, .features = IOF_PT_HW_DIRTY), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = 9), -EINVAL);
}

static uint64_t sizes_of(struct iof_pt_config cfg)
{
	uint64_t sizes;

	CHECK_EQ(open_table(cfg), 0);
	sizes = iof_pt_page_sizes(pt);
	close_table();
	return sizes;
}

#define SIZES(...) sizes_of((struct iof_pt_config){ __VA_ARGS__ })

TEST(page_sizes)
{
	CHECK_EQ(SIZES(.format = IOF_PT_X86_64), 0x40201000);
	CHECK_EQ(SIZES(.format = IOF_PT_RISCV64, .features = IOF_PT_NAPOT), UINT64_C(0x1008040211000));
	CHECK_EQ(SIZES(.format = IOF_PT_RISCV64, .va_lg2 = 39), 0x40201000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S1), 0x40201000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S1, .va_lg2 = 30), 0x201000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S1, .granule_lg2 = 14), 0x2004000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S1, .granule_lg2 = 16), 4 * TIB | 0x20010000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S2, .granule_lg2 = 16, .oa_lg2 = 48), 0x20010000);
	CHECK_EQ(SIZES(.format = IOF_PT_ARM_S2, .features = IOF_PT_CONTIGUOUS), UINT64_C(0x442211000));
}

static void check_leaves(uint64_t iova, uint64_t address, uint64_t n, unsigned size_lg2)
{
	struct iof_pt_leaf leaf;

	for (uint64_t i = 0; i < n; i++) {
		CHECK_EQ(iof_pt_walk(pt, iova + (i << size_lg2), &leaf), 0);
		CHECK_EQ(leaf.size_lg2, size_lg2);
		CHECK_EQ(leaf.iova, iova + (i << size_lg2));
		CHECK_EQ(leaf.address, address + (i << size_lg2));
	}
}

/* Places that would take leaves of 4 MiB get none above 4 KiB; what is in the way, or misaligned, is an error as ever. */
static void small_leaves(struct iof_pt_config cfg, int overlap)
{
	CHECK_EQ(open_table(cfg), 0);
	CHECK_EQ(iof_pt_map_small(pt, 8 * MIB - 16 * KIB, 16 * MIB - 16 * KIB, 4 * MIB, RWC, 12, &g), 0);
	check_leaves(8 * MIB - 16 * KIB, 16 * MIB - 16 * KIB, 1024, 12);
	CHECK_EQ(iof_pt_map_small(pt, 4 * MIB, 4 * MIB, 4 * MIB, RWC, 12, &g), overlap);
	CHECK_EQ(at(4 * MIB), UINT64_MAX);
	CHECK(iof_pt_map_small(pt, 4 * MIB + KIB, 4 * MIB, 4 * MIB, RWC, 12, &g) < 0);
	CHECK_EQ(unmap(8 * MIB - 16 * KIB, 4 * MIB), 4 * MIB);
	close_table();
}

TEST(small_leaves)
{
	small_leaves((struct iof_pt_config){ .format = IOF_PT_VTDSS }, -EADDRINUSE);
	small_leaves((struct iof_pt_config){ .format = IOF_PT_AMDV1, .top_level = 3 }, -EADDRINUSE);
	small_leaves((struct iof_pt_config){ .format = IOF_PT_MOCK, .top_level = 3 }, -EADDRINUSE);
	small_leaves((struct iof_pt_config){ .format = IOF_PT_X86_64 }, -EADDRINUSE);
	small_leaves((struct iof_pt_config){ .format = IOF_PT_RISCV64, .features = IOF_PT_NAPOT }, -EADDRINUSE);
	small_leaves((struct iof_pt_config){ .format = IOF_PT_ARM_S2, .features = IOF_PT_CONTIGUOUS }, -EEXIST);
}

/* Both halves; nothing between them; no range over the gap; leaves come out in order. */
static void halves(struct iof_pt_config cfg, unsigned bits)
{
	uint64_t middle = UINT64_C(1) << (bits - 1), high = -middle, iovas[3] = { middle, high, -4096 + 7 }, to[3];
	struct iof_pt_leaf leaf;

	cfg.va_lg2 = bits;
	cfg.features |= IOF_PT_SIGN_EXTEND;
	CHECK_EQ(open_table(cfg), 0);
	CHECK_EQ(iof_pt_aperture(pt).last, middle - 1);
	CHECK_EQ(map(middle - 4096, 0x1000, 4096), 0);
	CHECK_EQ(map(high, 0x2000, 8192), 0);
	CHECK_EQ(map(-4096, 0x5000, 4096), 0);
	CHECK_EQ(map(middle, 0, 4096), -ERANGE);
	CHECK_EQ(map(middle - 8192, 0, 16384), -ERANGE);
	CHECK_EQ(map(high - 4096, 0, 4096), -ERANGE);
	CHECK_EQ(map(high - 4096, 0, 8192), -ERANGE);
	CHECK_EQ(map(0, 0, -4096), -ERANGE); /* from half to half */
	CHECK_EQ(map(middle * 2 + 4096, 0, 4096), -ERANGE);
	CHECK_EQ(at(middle - 1), 0x1fff);
	CHECK_EQ(at(high + 4097), 0x3001);
	CHECK_EQ(at(UINT64_MAX), 0x5fff);
	CHECK_EQ(at(middle), UINT64_MAX);
	CHECK_EQ(iof_pt_walk(pt, high - 1, &leaf), -ERANGE);
	CHECK_EQ(iof_pt_walk(pt, middle * 2 - 1, &leaf), -ERANGE);
	CHECK_EQ(iof_pt_walk(pt, high + 5, &leaf), 0);
	CHECK_EQ(leaf.iova, high);
	CHECK_EQ(iof_pt_translate_many(pt, iovas, 3, to, NULL), 2);
	CHECK(to[0] == UINT64_MAX && to[1] == 0x2000 && to[2] == 0x5007);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ middle - 4095, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, middle - 4096);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ middle, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, high);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ high + 8192, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, -4096);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ middle, high - 1 }, &leaf), -ENOENT);
	CHECK_EQ(unmap(middle - 4096, 8192), 0);
	CHECK_EQ(unmap(high, 8192), 8192);
	CHECK_EQ(unmap(-4096, 4096), 4096);
	CHECK_EQ(unmap(middle - 4096, 4096), 4096);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ 0, UINT64_MAX }, &leaf), -ENOENT);
	close_table();
}

TEST(sign_extension)
{
	halves((struct iof_pt_config){ .format = IOF_PT_X86_64 }, 48);
	halves((struct iof_pt_config){ .format = IOF_PT_X86_64 }, 57);
	halves((struct iof_pt_config){ .format = IOF_PT_RISCV64 }, 39);
	halves((struct iof_pt_config){ .format = IOF_PT_RISCV64 }, 57);
}

TEST(no_dirty_tracking)
{
	const enum iof_pt_format formats[] = { IOF_PT_X86_64, IOF_PT_RISCV64, IOF_PT_RISCV64_X4, IOF_PT_ARM_S2 };

	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(open_table((struct iof_pt_config){ .format = formats[i] }), 0);
		CHECK_EQ(map(0, 0, 4096), 0);
		CHECK_EQ(iof_pt_set_dirty(pt, 0), -EOPNOTSUPP);
		CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 4095 }, true, true, NULL, NULL),
			 i == 3 ? -EINVAL : -EOPNOTSUPP);
		close_table();
	}
}

static void sum_dirty(void *ctx, uint64_t start, uint64_t length)
{
	*(uint64_t *)ctx += start + length;
}

static uint64_t dirty_sum(uint64_t start, uint64_t last, bool clear)
{
	uint64_t sum = 0;

	CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ start, last }, clear, false, sum_dirty, &sum), 0);
	return sum;
}

/* Writable leaves start dirty; a clean one is read-only to hardware, which makes it writable when it writes. */
TEST(arm_dirty_bits)
{
	struct iof_pt_leaf leaf;
	uint64_t sum;

	CHECK_EQ(open_table((struct iof_pt_config){ .format = IOF_PT_ARM_S1, .features = IOF_PT_HW_DIRTY }), 0);
	CHECK_EQ(map(2 * MIB, 0, 2 * MIB), 0);
	CHECK_EQ(map(4 * MIB, 0x1000, 4096), 0);
	CHECK_EQ(iof_pt_map(pt, 4 * MIB + 4096, 0x1000, 4096, READ, &g), 0);
	CHECK_EQ(dirty_sum(2 * MIB, 4 * MIB + 8191, true), 2 * MIB + 2 * MIB + 4 * MIB + 4096);
	CHECK_EQ(dirty_sum(2 * MIB, 4 * MIB + 8191, true), 0);
	CHECK_EQ(iof_pt_walk(pt, 4 * MIB, &leaf), 0);
	CHECK(!leaf.dirty && leaf.prot == RW && (leaf.item & 0x80));
	CHECK_EQ(iof_pt_set_dirty(pt, 4 * MIB), 0);
	CHECK_EQ(iof_pt_set_dirty(pt, 4 * MIB), 0);
	CHECK_EQ(iof_pt_set_dirty(pt, 4 * MIB + 4096), -ENOENT); /* read-only */
	CHECK_EQ(dirty_sum(2 * MIB, 4 * MIB + 8191, false), 4 * MIB + 4096);
	CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 4 * MIB }, true, false, sum_dirty, &sum), -EINVAL); /* hole */
	sum = 0;
	CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 4 * MIB + 4095 }, false, true, sum_dirty, &sum), 0); /* passed over */
	CHECK_EQ(sum, 4 * MIB + 4096);
	CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 2 * MIB, UINT64_C(1) << 48 }, true, true, sum_dirty, &sum),
		 -EINVAL);
	close_table();
}

TEST(arm_errors)
{
	CHECK_EQ(open_table((struct iof_pt_config){ .format = IOF_PT_ARM_S1, .va_lg2 = 40, .oa_lg2 = 40 }), 0);
	CHECK_EQ(map(4096, 4096, 4096), 0);
	CHECK_EQ(map(4096, 4096, 4096), -EEXIST);
	CHECK_EQ(map(0, 0, 8192), -EEXIST);
	CHECK_EQ(at(0), UINT64_MAX);
	CHECK_EQ(map(1, 0, 4096), -EINVAL);
	CHECK_EQ(map(0, 0, 100), -EINVAL);
	CHECK_EQ(map(TIB, 0, 4096), -ERANGE);
	CHECK_EQ(map(TIB - 4096, 0, 8192), -ERANGE);
	CHECK_EQ(map(0, TIB, 4096), -ERANGE);
	CHECK_EQ(iof_pt_map(pt, 0, TIB, 4096, IOF_PROT_CACHE, &g), -ERANGE); /* the range before the permission */
	CHECK_EQ(iof_pt_map(pt, 0, 0, 4096, IOF_PROT_CACHE, &g), -EINVAL);
	CHECK_EQ(unmap(4096, 100), 0);
	CHECK_EQ(unmap(TIB, 4096), 0);
	close_table();
}

TEST(arm_blocks_and_live_tables)
{
	struct iof_pt_stats s;

	CHECK_EQ(open_table((struct iof_pt_config){ .format = IOF_PT_ARM_S1 }), 0);
	CHECK_EQ(map(2 * MIB + 4096, 0x5000, 4096), 0);
	CHECK_EQ(map(0, 0, 4 * MIB), 0); /* frees a live table */
	CHECK_EQ(at(2 * MIB + 4096), 2 * MIB + 4096);
	CHECK_EQ(g.count, 1);
	CHECK_EQ(unmap(4096, 4096), 0); /* part of a block */
	CHECK_EQ(unmap(0, 2 * MIB + 4096), 2 * MIB); /* the same, behind a whole one */
	CHECK_EQ(unmap(2 * MIB, 2 * MIB), 2 * MIB);
	CHECK_EQ(map(GIB + 4096, 0, 4096), 0);
	CHECK_EQ(unmap(GIB, 4 * MIB), 2 * MIB); /* a table goes with its holes; then there is none */
	CHECK_EQ(map(GIB + 4096, 0, 4096), 0);
	CHECK_EQ(unmap(GIB + 4096, 4096), 4096);
	iof_pt_stats(pt, &s);
	CHECK_EQ(s.empty_tables, 2); /* and the one above the first blocks */
	CHECK_EQ(unmap(GIB, 2 * MIB), 2 * MIB); /* an empty one too */
	CHECK_EQ(map(GIB + 4096, 0, GIB), 0);
	CHECK_EQ(unmap(GIB, 3 * GIB), 2 * GIB); /* the second table has one page, and the third is none */
	CHECK_EQ(at(2 * GIB), UINT64_MAX);
	close_table();
}

/* Addresses of more than 48 bits stand in two places of an entry: a run over the border is two runs. */
TEST(arm_52_bits)
{
	uint64_t border = UINT64_C(1) << 48;

	CHECK_EQ(open_table((struct iof_pt_config){ .format = IOF_PT_ARM_S1, .granule_lg2 = 16 }), 0);
	CHECK_EQ(map(0x10000, border - 5 * 0x10000, 4 * 0x10000), 0);
	CHECK_EQ(map(0x100000, 3 * border - 5 * 0x10000, 9 * 0x10000), 0);
	for (uint64_t i = 0; i < 9; i++)
		CHECK_EQ(at(0x100000 + i * 0x10000 + 3), 3 * border + (i - 5) * 0x10000 + 3);
	CHECK_EQ(map(UINT64_C(1) << 40, 7 * border - (UINT64_C(4) << 29), UINT64_C(8) << 29), 0);
	CHECK_EQ(at((UINT64_C(1) << 40) + (UINT64_C(4) << 29)), 7 * border);
	CHECK_EQ(map((UINT64_C(1) << 41) + 0x10000, 9 * border - 0x10000, UINT64_C(1) << 30), 0); /* whole tables */
	for (uint64_t i = 0; i < 1 << 14; i++)
		CHECK_EQ(at((UINT64_C(1) << 41) + (i + 1) * 0x10000), 9 * border + (i - 1) * 0x10000);
	close_table();
}

/* A range over the border of two tables of the root. */
static void concatenated(struct iof_pt_config cfg, uint64_t border)
{
	struct iof_pt_leaf leaf;
	struct iof_pt_stats s;

	CHECK_EQ(open_table(cfg), 0);
	CHECK_EQ(map(border - 4 * MIB, 0x10000, 8 * MIB), 0);
	CHECK_EQ(at(border - 1), 0x10000 + 4 * MIB - 1);
	CHECK_EQ(at(border), 0x10000 + 4 * MIB);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ border, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, border);
	CHECK_EQ(unmap(border - 4 * MIB, 8 * MIB), 8 * MIB);
	CHECK_EQ(map(2 * border, 0x10000, 0x10000), 0);
	CHECK_EQ(iof_pt_next_leaf(pt, (struct iof_range){ 0, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, 2 * border);
	CHECK_EQ(unmap(2 * border, 0x10000), 0x10000);
	iof_pt_release(pt, &g);
	iof_pt_trim(pt, &g);
	iof_pt_release(pt, &g);
	iof_pt_stats(pt, &s);
	CHECK_EQ(s.tables, 1);
	CHECK_EQ(s.empty_tables, 1);
	close_table();
}

TEST(concatenated_roots)
{
	concatenated((struct iof_pt_config){ .format = IOF_PT_RISCV64_X4, .va_lg2 = 41 }, UINT64_C(1) << 39);
	concatenated((struct iof_pt_config){ .format = IOF_PT_RISCV64_X4, .va_lg2 = 59 }, UINT64_C(1) << 57);
	concatenated((struct iof_pt_config){ .format = IOF_PT_ARM_S2, .va_lg2 = 42, .oa_lg2 = 42 }, UINT64_C(1) << 39);
	concatenated((struct iof_pt_config){ .format = IOF_PT_ARM_S2, .granule_lg2 = 14, .va_lg2 = 40, .oa_lg2 = 40 },
		     UINT64_C(1) << 36);
}
