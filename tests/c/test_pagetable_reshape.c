// SPDX-License-Identifier: Apache-2.0
/* Cutting, merging and protecting leaves, and images: what is translated stays as it was. */
#include <errno.h>

#include "check.h"
#include "pagetable/foreign.h"
#include "pagetable/reshape.h"

#define READ IOF_PROT_READ
#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define MEMORY UINT64_C(0x340000000)

static const struct iof_pt_config CONFIGS[] = {
	{ .format = IOF_PT_VTDSS, .va_lg2 = 48 },
	{ .format = IOF_PT_AMDV1, .top_level = 3 },
	{ .format = IOF_PT_X86_64, .va_lg2 = 48, .features = IOF_PT_SIGN_EXTEND },
	{ .format = IOF_PT_RISCV64, .va_lg2 = 48, .features = IOF_PT_NAPOT },
	{ .format = IOF_PT_RISCV64_X4, .va_lg2 = 41 },
	{ .format = IOF_PT_ARM_S1, .features = IOF_PT_HW_DIRTY },
	{ .format = IOF_PT_ARM_S1, .features = IOF_PT_CONTIGUOUS },
	{ .format = IOF_PT_ARM_S2, .va_lg2 = 40, .oa_lg2 = 40 },
	{ .format = IOF_PT_ARM_S1, .granule_lg2 = 14, .features = IOF_PT_CONTIGUOUS },
	{ .format = IOF_PT_MOCK, .top_level = 2 },
};
#define N_CONFIGS (sizeof(CONFIGS) / sizeof(CONFIGS[0]))

static struct iof_alloc alloc;
static struct iof_pt *pt;
static struct iof_pt_gather g;

static void open_table(struct iof_pt_config cfg)
{
	iof_alloc_init_heap(&alloc);
	CHECK_EQ(iof_pt_create(&cfg, &alloc, &pt), 0);
}

static void close_table(void)
{
	iof_pt_release(pt, &g);
	CHECK(iof_pt_is_valid(pt));
	iof_pt_destroy(pt);
	CHECK_EQ(alloc.live_blocks, 0);
}

static uint64_t leaves(void)
{
	struct iof_pt_stats s;
	uint64_t n = 0;

	iof_pt_stats(pt, &s);
	for (unsigned i = 0; i < 64; i++)
		n += s.leaves[i];
	return n;
}

/* [0, length) translates to MEMORY and what follows, everywhere with this permission. */
static void same(uint64_t length, unsigned prot)
{
	uint64_t seed = length;

	for (unsigned i = 0; i < 500; i++) {
		uint64_t iova = check_random(&seed) % length;
		unsigned found;

		CHECK_EQ(iof_pt_translate(pt, iova, &found), MEMORY + iova);
		CHECK_EQ(found, prot);
	}
	CHECK_EQ(iof_pt_translate(pt, length, NULL), UINT64_MAX);
	CHECK(iof_pt_is_valid(pt));
}

TEST(cut_and_merge_are_inverse)
{
	for (unsigned c = 0; c < N_CONFIGS; c++) {
		uint64_t length = c == 8 ? 64 * MIB + 32768 : GIB + 6 * MIB + 16384, before, page;

		open_table(CONFIGS[c]);
		page = iof_pt_page_sizes(pt) & -iof_pt_page_sizes(pt);
		CHECK_EQ(iof_pt_map(pt, 0, MEMORY, length, RW, &g), 0);
		before = leaves();
		CHECK_EQ(iof_pt_cut(pt, (struct iof_range){ 5 * MIB, 5 * MIB }, iof_log2(page)), 0); /* one leaf */
		same(length, RW);
		CHECK(leaves() > before);
		CHECK_EQ(iof_pt_cut(pt, (struct iof_range){ 0, UINT64_MAX }, iof_log2(page)), 0);
		CHECK_EQ(leaves(), length / page);
		same(length, RW);
		iof_pt_merge(pt, &g);
		iof_pt_release(pt, &g);
		CHECK_EQ(leaves(), before);
		same(length, RW);
		CHECK_EQ(iof_pt_cut(pt, (struct iof_range){ 0, UINT64_MAX }, iof_log2(page) - 1), -EINVAL);
		CHECK_EQ(iof_pt_unmap(pt, 0, length, &g), length);
		close_table();
	}
}

TEST(protect)
{
	for (unsigned c = 0; c < N_CONFIGS; c++) {
		uint64_t length = c == 8 ? 64 * MIB + 32768 : 16 * MIB + 16384, page;

		open_table(CONFIGS[c]);
		page = iof_pt_page_sizes(pt) & -iof_pt_page_sizes(pt);
		CHECK_EQ(iof_pt_map(pt, 0, MEMORY, length, RW, &g), 0);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, length - 1 }, READ), 0);
		same(length, READ);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, length - 1 }, RW), 0);
		same(length, RW);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, length }, READ), -ENOENT);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, length - 2 }, READ), -EINVAL);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ page, length - 1 }, READ), -EINVAL);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, length - 1 }, IOF_PROT_CACHE), -EINVAL);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 0, UINT64_MAX - 1 }, READ), -ERANGE);
		same(length, RW);
		CHECK_EQ(iof_pt_cut(pt, (struct iof_range){ page, page }, iof_log2(page)), 0);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ page, 2 * page - 1 }, READ), 0);
		iof_pt_merge(pt, &g); /* other permissions are no neighbours */
		iof_pt_release(pt, &g);
		for (uint64_t i = 0; i < 4; i++) {
			unsigned prot;

			CHECK_EQ(iof_pt_translate(pt, i * page, &prot), MEMORY + i * page);
			CHECK_EQ(prot, i == 1 ? READ : RW);
		}
		close_table();
	}
}

static void count(void *ctx, uint64_t start, uint64_t length)
{
	(void)start;
	*(uint64_t *)ctx += length;
}

TEST(the_dirty_stay_dirty)
{
	const unsigned formats[] = { 0, 1, 5, 9 };

	for (unsigned f = 0; f < 4; f++) {
		struct iof_pt_leaf leaf;
		uint64_t bytes = 0, page = f == 3 ? 2048 : 4096;

		open_table(CONFIGS[formats[f]]);
		CHECK_EQ(iof_pt_map(pt, 0, MEMORY, 8 * MIB, RW, &g), 0);
		CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 8 * MIB - 1 }, true, true, count, &bytes), 0);
		CHECK_EQ(bytes, f == 2 ? 8 * MIB : 0); /* ARM's begin dirty */
		CHECK_EQ(iof_pt_set_dirty(pt, 3 * MIB), 0);
		CHECK_EQ(iof_pt_walk(pt, 3 * MIB, &leaf), 0);
		CHECK_EQ(iof_pt_cut(pt, (struct iof_range){ 0, UINT64_MAX }, iof_log2(page)), 0);
		bytes = 0;
		CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 8 * MIB - 1 }, true, true, count, &bytes), 0);
		CHECK_EQ(bytes, UINT64_C(1) << leaf.size_lg2);
		CHECK_EQ(iof_pt_set_dirty(pt, 5 * MIB), 0);
		CHECK_EQ(iof_pt_protect(pt, (struct iof_range){ 5 * MIB, 5 * MIB + page - 1 }, RW), 0);
		bytes = 0;
		CHECK_EQ(iof_pt_read_dirty(pt, (struct iof_range){ 0, 8 * MIB - 1 }, false, true, count, &bytes), 0);
		CHECK_EQ(bytes, page);
		iof_pt_merge(pt, &g);
		iof_pt_release(pt, &g);
		CHECK_EQ(iof_pt_walk(pt, 5 * MIB + 7, &leaf), 0);
		CHECK(leaf.dirty && leaf.size_lg2 >= 21);
		close_table();
	}
}

/* Every failure point of a cut: nothing lost, nothing changed in what is translated. */
TEST(failure_sweep_of_cut)
{
	for (unsigned c = 0; c < 2; c++) {
		int64_t n = 0;
		int err;

		open_table(CONFIGS[c]);
		CHECK_EQ(iof_pt_map(pt, 0, MEMORY, GIB, RW, &g), 0);
		do {
			iof_alloc_fail_nth(&alloc, n += n < 40 ? 1 : 37);
			err = iof_pt_cut(pt, (struct iof_range){ 0, UINT64_MAX }, 12);
			iof_alloc_fail_nth(&alloc, 0);
			CHECK(!err || err == -ENOMEM);
			same(GIB, RW);
			CHECK(!err || leaves() == 1);
		} while (err);
		CHECK(n > 40);
		close_table();
	}
}

struct memory {
	uint64_t base, bytes, *items;
};

static int read_image(void *ctx, uint64_t address, uint64_t *entry)
{
	struct memory *m = ctx;

	if (address < m->base || address - m->base >= m->bytes)
		return -EFAULT;
	*entry = m->items[(address - m->base) / 8];
	return 0;
}

TEST(an_image_translates_the_same)
{
	for (unsigned c = 0; c < N_CONFIGS; c++) {
		struct memory m = { .base = 16 * MIB };
		struct iof_pt_foreign f = { .cfg = CONFIGS[c], .root = m.base, .memory = { .read = read_image, .ctx = &m } };
		struct iof_pt_leaf ours, theirs;
		struct iof_pt_fault fault;
		uint64_t at = 0;
		unsigned level, n = 0;

		open_table(CONFIGS[c]);
		CHECK_EQ(iof_pt_map(pt, 0x10000, MEMORY + 0x10000, 70 * MIB, RW, &g), 0);
		CHECK_EQ(iof_pt_map(pt, UINT64_C(1) << 36, MEMORY, 0x10000, READ, &g), 0);
		m.bytes = iof_pt_image(pt, m.base, NULL);
		m.items = calloc(1, m.bytes);
		CHECK_EQ(iof_pt_image(pt, m.base, m.items), m.bytes);
		iof_pt_root(pt, &level);
		f.top_level = level;
		CHECK_EQ(iof_pt_foreign_check(&f), 0);
		for (; !iof_pt_next_leaf(pt, (struct iof_range){ at, UINT64_MAX }, &ours); n++) {
			CHECK_EQ(iof_pt_next_foreign(&f, (struct iof_range){ at, UINT64_MAX }, &theirs, &fault), 0);
			CHECK(ours.iova == theirs.iova && ours.address == theirs.address && ours.item == theirs.item);
			at = ours.iova + (UINT64_C(1) << ours.size_lg2);
		}
		CHECK_EQ(iof_pt_next_foreign(&f, (struct iof_range){ at, UINT64_MAX }, &theirs, &fault), -ENOENT);
		CHECK(n > 3);
		free(m.items);
		close_table();
	}
}
