// SPDX-License-Identifier: Apache-2.0
/* Page tables: leaf encodings bit by bit, how ranges are cut into leaves, shapes, and every errno. */
#include <errno.h>

#include "check.h"
#include "pagetable/pagetable.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)

struct fixture {
	struct iof_alloc alloc;
	struct iof_pt *pt;
	struct iof_pt_gather g;
};

static struct fixture open_table(struct iof_pt_config cfg)
{
	static struct iof_alloc alloc;
	struct fixture f = { 0 };

	iof_alloc_init_heap(&alloc);
	CHECK_EQ(iof_pt_create(&cfg, &alloc, &f.pt), 0);
	return f;
}

static void close_table(struct fixture *f)
{
	CHECK(iof_pt_is_valid(f->pt));
	iof_pt_release(f->pt, &f->g);
	CHECK(iof_pt_is_valid(f->pt));
	iof_pt_destroy(f->pt);
}

static const struct iof_pt_config VTDSS = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
static const struct iof_pt_config AMDV1 = { .format = IOF_PT_AMDV1, .top_level = 3, .features = IOF_PT_FORCE_COHERENT };
static const struct iof_pt_config GROWING = {
	.format = IOF_PT_AMDV1, .top_level = 1, .features = IOF_PT_FORCE_COHERENT | IOF_PT_GROWING_TOP
};
static const struct iof_pt_config MOCK = { .format = IOF_PT_MOCK, .top_level = 2 };

struct found {
	uint64_t value;
	unsigned count, level;
};

/* Collects the run of leaf items: tables have next levels 1..6 in AMD's case, and no PS above level 0 in VT-d's. */
static void find_amd(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	struct found *f = ctx;

	(void)address;
	for (size_t i = 0; i < n; i++) {
		unsigned next = entries[i] >> 9 & 7;

		if (!(entries[i] & 1) || (level && next && next != 7))
			continue;
		if (f->count && f->value != entries[i])
			f->level = 99;
		f->value = entries[i];
		f->level = f->count ? f->level : level;
		f->count++;
	}
}

static void check_amd_leaf(struct iof_pt_config cfg, unsigned size_lg2, uint64_t address, uint64_t value,
			   unsigned count,
			   unsigned level)
{
	struct fixture f = open_table(cfg);
	uint64_t size = UINT64_C(1) << size_lg2;
	struct found found = { 0 };
	struct iof_pt_leaf leaf;

	CHECK_EQ(iof_pt_map(f.pt, size * 3, address, size, RW, &f.g), 0);
	iof_pt_visit(f.pt, find_amd, &found);
	CHECK_EQ(found.value, value);
	CHECK_EQ(found.count, count);
	CHECK_EQ(found.level, level);
	CHECK_EQ(iof_pt_walk(f.pt, size * 4 - 1, &leaf), 0);
	CHECK_EQ(leaf.iova, size * 3);
	CHECK_EQ(leaf.address, address);
	CHECK_EQ(leaf.size_lg2, size_lg2);
	CHECK_EQ(leaf.level, level);
	CHECK_EQ(leaf.prot, RW);
	CHECK_EQ(iof_pt_translate(f.pt, size * 4 - 1, NULL), address + size - 1);
	CHECK_EQ(iof_pt_walk(f.pt, size * 4, &leaf), -ENOENT);
	CHECK_EQ(iof_pt_walk(f.pt, size * 3 - 1, &leaf), -ENOENT);
	close_table(&f);
}

TEST(amdv1_leaf_encodings)
{
	check_amd_leaf(AMDV1, 12, 0x12345000, 0x7000000012345001, 1, 0);
	check_amd_leaf(AMDV1, 13, 0x12346000, 0x7000000012346e01, 2, 0);
	check_amd_leaf(AMDV1, 14, 0x12344000, 0x7000000012345e01, 4, 0);
	check_amd_leaf(AMDV1, 16, 0x12340000, 0x7000000012347e01, 16, 0);
	check_amd_leaf(AMDV1, 20, 0x12300000, 0x700000001237fe01, 256, 0);
	check_amd_leaf(AMDV1, 21, 0x12200000, 0x7000000012200001, 1, 1);
	check_amd_leaf(AMDV1, 22, 0x12400000, 0x70000000125ffe01, 2, 1);
	check_amd_leaf(AMDV1, 30, 0x40000000, 0x7000000040000001, 1, 2);
	check_amd_leaf(AMDV1, 31, 0x80000000, 0x70000000bffffe01, 2, 2);
}

TEST(mock_leaf_encodings)
{
	check_amd_leaf(MOCK, 11, 0x12345800, 0x600000002468b001, 1, 0);
	check_amd_leaf(MOCK, 12, 0x12345000, 0x600000002468ae01, 2, 0);
	check_amd_leaf(MOCK, 14, 0x12344000, 0x600000002468be01, 8, 0);
	check_amd_leaf(MOCK, 20, 0x12300000, 0x6000000024600001, 1, 1);
	check_amd_leaf(MOCK, 21, 0x12200000, 0x60000000245ffe01, 2, 1);
}

struct at_level {
	unsigned level;
	uint64_t value;
};

static void first_item(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n)
{
	struct at_level *w = ctx;

	(void)address;
	for (size_t i = 0; level == w->level && i < n && !w->value; i++)
		w->value = entries[i];
}

static uint64_t vtdss_item(uint32_t features, unsigned prot, uint64_t size, unsigned level)
{
	struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 39, .features = features };
	struct fixture f = open_table(cfg);
	struct at_level w = { .level = level };

	CHECK_EQ(iof_pt_map(f.pt, 0, 0x80000000, size, prot, &f.g), 0);
	iof_pt_visit(f.pt, first_item, &w);
	close_table(&f);
	return w.value;
}

TEST(vtdss_leaf_encodings)
{
	CHECK_EQ(vtdss_item(0, RW, 4096, 0), 0x80000003);
	CHECK_EQ(vtdss_item(0, IOF_PROT_READ | IOF_PROT_CACHE, 4096, 0), 0x80000001);
	CHECK_EQ(vtdss_item(0, IOF_PROT_WRITE, 4096, 0), 0x80000002);
	CHECK_EQ(vtdss_item(IOF_PT_FORCE_COHERENT, RW, 4096, 0), 0x80000803);
	CHECK_EQ(vtdss_item(0, RW, 2 * MIB, 1), 0x80000083);
	CHECK_EQ(vtdss_item(IOF_PT_FORCE_COHERENT, RW, GIB, 2), 0x80000883);
}

static void split(struct iof_pt_config cfg, uint64_t at, uint64_t length, uint64_t l12, uint64_t l21, uint64_t l30)
{
	struct fixture f;
	struct iof_pt_stats s;

	cfg.page_sizes = 4096 | 2 * MIB | GIB;
	f = open_table(cfg);
	CHECK_EQ(iof_pt_map(f.pt, at, at, length, RW, &f.g), 0);
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.leaves[12], l12);
	CHECK_EQ(s.leaves[21], l21);
	CHECK_EQ(s.leaves[30], l30);
	CHECK_EQ(iof_pt_unmap(f.pt, at, length, &f.g), length);
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.leaves[12] + s.leaves[21] + s.leaves[30], 0);
	close_table(&f);
}

TEST(ranges_are_cut_into_leaves)
{
	split(VTDSS, 0x3fe400000, 0xc2200000, 0, 17, 3);
	split(AMDV1, 0x3fe400000, 0xc2200000, 0, 17, 3);
	split(VTDSS, 0x1ff000, 2 * MIB + 8192, 2, 1, 0);
	split(VTDSS, 4096, 2 * MIB, 512, 0, 0);
}

/* The same length at addresses that are never both aligned: no large leaf at all. */
TEST(misaligned_pairs_take_small_leaves)
{
	struct fixture f = open_table(VTDSS);
	struct iof_pt_stats s;

	CHECK_EQ(iof_pt_map(f.pt, 2 * MIB, 4096, 4 * MIB, RW, &f.g), 0);
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.leaves[12], 1024);
	CHECK_EQ(s.tables, 5);
	close_table(&f);
}

TEST(map_errors_in_order)
{
	struct iof_pt_config cfg = VTDSS;
	struct fixture f;
	uint64_t end = UINT64_C(1) << 48;

	cfg.features = IOF_PT_FORCE_WRITEABLE;
	f = open_table(cfg);
	CHECK_EQ(iof_pt_map(f.pt, 0, UINT64_C(1) << 52, 0, IOF_PROT_CACHE, &f.g), -EINVAL); /* no permission */
	/* address before permission bits */
	CHECK_EQ(iof_pt_map(f.pt, 0, UINT64_C(1) << 52, 0, IOF_PROT_READ, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, 0, 0, 4096, IOF_PROT_READ, &f.g), -EINVAL); /* read-only */
	CHECK_EQ(iof_pt_map(f.pt, 0, 0, 0, RW, &f.g), -EINVAL);
	CHECK_EQ(iof_pt_map(f.pt, UINT64_MAX - 4095, 0, 8192, RW, &f.g), -EOVERFLOW);
	CHECK_EQ(iof_pt_map(f.pt, 1, 0, 4096, RW, &f.g), -ENXIO);
	CHECK_EQ(iof_pt_map(f.pt, 0, 1, 4096, RW, &f.g), -ENXIO);
	CHECK_EQ(iof_pt_map(f.pt, 0, 0, 100, RW, &f.g), -ENXIO);
	CHECK_EQ(iof_pt_map(f.pt, end + 1, 0, 4096, RW, &f.g), -ENXIO); /* alignment before range */
	CHECK_EQ(iof_pt_map(f.pt, end, 0, 4096, RW, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, end - 4096, 0, 8192, RW, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, 0, (UINT64_C(1) << 52) - 4096, 8192, RW, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, end - 4096, (UINT64_C(1) << 52) - 4096, 4096, RW, &f.g), 0);
	CHECK_EQ(iof_pt_map(f.pt, end - 4096, 0, 4096, RW, &f.g), -EADDRINUSE);
	CHECK_EQ(iof_pt_map(f.pt, end - 2 * MIB, 0, 2 * MIB, RW, &f.g), -EADDRINUSE);
	CHECK_EQ(iof_pt_map(f.pt, 0, 0, 4096 + 100, RW, &f.g), -ENXIO); /* a tail that no leaf fits: nothing stays */
	CHECK_EQ(iof_pt_translate(f.pt, 0, NULL), UINT64_MAX);
	close_table(&f);
}

TEST(a_failed_map_leaves_the_range_empty)
{
	struct fixture f = open_table(VTDSS);
	struct iof_pt_stats s;

	CHECK_EQ(iof_pt_map(f.pt, 6 * MIB + 4096, 0x5000, 4096, RW, &f.g), 0);
	CHECK_EQ(iof_pt_map(f.pt, MIB, 0x1000, 8 * MIB, RW, &f.g), -EADDRINUSE);
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.leaves[12], 1);
	CHECK_EQ(iof_pt_translate(f.pt, 6 * MIB + 4097, NULL), 0x5001);
	CHECK_EQ(iof_pt_map(f.pt, MIB, 0x1000, 5 * MIB, RW, &f.g), 0);
	close_table(&f);
}

TEST(a_large_leaf_replaces_empty_tables_only)
{
	struct fixture f = open_table(VTDSS);

	CHECK_EQ(iof_pt_map(f.pt, GIB + 4096, 0, 4096, RW, &f.g), 0);
	CHECK_EQ(iof_pt_map(f.pt, GIB, GIB, GIB, RW, &f.g), -EADDRINUSE);
	CHECK_EQ(iof_pt_unmap(f.pt, GIB + 4096, 4096, &f.g), 4096);
	CHECK_EQ(f.g.count, 0);
	CHECK_EQ(iof_pt_map(f.pt, GIB, GIB, GIB, RW, &f.g), 0);
	CHECK_EQ(f.g.count, 2);
	CHECK_EQ(iof_pt_translate(f.pt, GIB + 77, NULL), GIB + 77);
	close_table(&f);
}

TEST(unmap_removes_whole_leaves)
{
	struct fixture f = open_table(VTDSS);

	CHECK_EQ(iof_pt_map(f.pt, 2 * MIB, 2 * MIB, 2 * MIB, RW, &f.g), 0);
	CHECK_EQ(iof_pt_map(f.pt, 4 * MIB, 0, 8192, RW, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB + 4096, 4096, &f.g), 0); /* starts inside */
	CHECK_EQ(iof_pt_unmap(f.pt, 0, 4096, &f.g), 0); /* a gap */
	CHECK_EQ(iof_pt_unmap(f.pt, 0, 4 * MIB, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 0, 0, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, UINT64_MAX, 2, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, UINT64_C(1) << 48, 4096, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB, 4096, &f.g), 2 * MIB); /* ends inside: the whole leaf */
	CHECK_EQ(iof_pt_unmap(f.pt, 4 * MIB, 1, &f.g), 4096);
	CHECK_EQ(iof_pt_unmap(f.pt, 4 * MIB + 4096, GIB, &f.g), 4096); /* stops at the gap behind */
	close_table(&f);
}

TEST(unmap_frees_tables_that_lie_inside)
{
	struct fixture f = open_table(VTDSS);
	struct iof_pt_stats s;

	CHECK_EQ(iof_pt_map(f.pt, 2 * MIB, 4096, 2 * MIB, RW, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB, MIB, &f.g), MIB);
	CHECK_EQ(iof_pt_unmap(f.pt, 3 * MIB, MIB, &f.g), MIB);
	CHECK_EQ(f.g.count, 0); /* half and half: the table stays, empty */
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.empty_tables, 1);
	CHECK_EQ(iof_pt_map(f.pt, 2 * MIB, 4096, 2 * MIB, RW, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB, 2 * MIB, &f.g), 2 * MIB);
	CHECK_EQ(f.g.count, 1);
	iof_pt_release(f.pt, &f.g);
	iof_pt_trim(f.pt, &f.g);
	CHECK_EQ(f.g.count, 2); /* the two levels above */
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.tables, 1);
	close_table(&f);
}

TEST(a_gap_inside_a_covered_table_keeps_it)
{
	struct fixture f = open_table(VTDSS);

	CHECK_EQ(iof_pt_map(f.pt, 2 * MIB, 4096, 2 * MIB, RW, &f.g), 0);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB + 100 * 4096, 4096, &f.g), 4096);
	CHECK_EQ(iof_pt_unmap(f.pt, 2 * MIB, 2 * MIB, &f.g), 100 * 4096);
	CHECK_EQ(f.g.count, 0);
	CHECK_EQ(iof_pt_translate(f.pt, 2 * MIB + 101 * 4096, NULL), 4096 + 101 * 4096);
	close_table(&f);
}

TEST(the_top_grows)
{
	struct fixture f = open_table(GROWING);
	struct iof_pt_leaf leaf;
	unsigned level;

	CHECK_EQ(iof_pt_aperture(f.pt).last, UINT64_MAX);
	CHECK_EQ(iof_pt_map(f.pt, 4096, 0x7000, 4096, RW, &f.g), 0);
	iof_pt_root(f.pt, &level);
	CHECK_EQ(level, 1);
	CHECK_EQ(iof_pt_walk(f.pt, UINT64_C(1) << 40, &leaf), -ENOENT);
	CHECK_EQ(iof_pt_unmap(f.pt, UINT64_C(1) << 40, 4096, &f.g), 0);
	CHECK_EQ(iof_pt_map(f.pt, UINT64_MAX - 4095, 0x8000, 4096, RW, &f.g), 0);
	iof_pt_root(f.pt, &level);
	CHECK_EQ(level, 5);
	CHECK_EQ(iof_pt_translate(f.pt, 4097, NULL), 0x7001);
	CHECK_EQ(iof_pt_translate(f.pt, UINT64_MAX, NULL), 0x8fff);
	CHECK_EQ(iof_pt_next_leaf(f.pt, (struct iof_range){ 8192, UINT64_MAX }, &leaf), 0);
	CHECK_EQ(leaf.iova, UINT64_MAX - 4095);
	CHECK_EQ(iof_pt_unmap(f.pt, UINT64_MAX - 4095, 4096, &f.g), 4096);
	close_table(&f);
}

/* A leaf of the size of the whole first table needs a level above it. */
TEST(the_top_grows_for_a_leaf)
{
	struct fixture f = open_table(GROWING);
	unsigned level;

	CHECK_EQ(iof_pt_map(f.pt, 0, 0, GIB, RW, &f.g), 0);
	iof_pt_root(f.pt, &level);
	CHECK_EQ(level, 2);
	CHECK_EQ(iof_pt_translate(f.pt, GIB - 1, NULL), GIB - 1);
	close_table(&f);
}

static int shape_of(struct iof_pt_config cfg, uint64_t *sizes)
{
	static struct iof_alloc alloc;
	struct iof_pt *pt;
	int err;

	iof_alloc_init_heap(&alloc);
	err = iof_pt_create(&cfg, &alloc, &pt);
	if (err)
		return err;
	if (sizes)
		*sizes = iof_pt_page_sizes(pt);
	iof_pt_destroy(pt);
	return 0;
}

#define SHAPE(...) shape_of((struct iof_pt_config){ __VA_ARGS__ }, NULL)

TEST(shapes_and_their_errors)
{
	uint64_t sizes;

	CHECK_EQ(SHAPE(.format = 0), -EINVAL);
	CHECK_EQ(SHAPE(.format = 77), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .va_lg2 = 58), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .oa_lg2 = 53), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .va_lg2 = 48, .top_level = 2), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .va_lg2 = 48, .top_level = 5), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .features = IOF_PT_GROWING_TOP), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_VTDSS, .page_sizes = 8192), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_AMDV1), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_AMDV1, .top_level = 6), -EINVAL);
	CHECK_EQ(SHAPE(.format = IOF_PT_AMDV1, .top_level = 1, .features = IOF_PT_FORCE_WRITEABLE), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_MOCK, .top_level = 2, .features = IOF_PT_FORCE_COHERENT), -EOPNOTSUPP);
	CHECK_EQ(SHAPE(.format = IOF_PT_MOCK, .top_level = 2, .va_lg2 = 57), -EINVAL);
	CHECK_EQ(shape_of(VTDSS, &sizes), 0);
	CHECK_EQ(sizes, 0x40201000);
	CHECK_EQ(shape_of(GROWING, &sizes), 0);
	CHECK_EQ(sizes, UINT64_C(4503049871552512));
	CHECK_EQ(shape_of((struct iof_pt_config){ .format = IOF_PT_AMDV1, .va_lg2 = 32, .top_level = 2,
						  .features = IOF_PT_GROWING_TOP }, &sizes), 0);
	CHECK_EQ(sizes, UINT64_C(2147479552));
	CHECK_EQ(shape_of(MOCK, &sizes), 0);
	CHECK_EQ(sizes, (UINT64_C(1) << 37) - 2048); /* 38 bits of VA: 2 KiB up to 64 GiB */
}

/* A width below that of our own pointers bounds addresses, not where tables lie. */
TEST(narrow_output_addresses)
{
	struct iof_pt_config cfg = VTDSS;
	struct fixture f;

	cfg.oa_lg2 = 36;
	f = open_table(cfg);
	CHECK_EQ(iof_pt_map(f.pt, 0, UINT64_C(1) << 36, 4096, RW, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, 0, (UINT64_C(1) << 36) - 4096, 8192, RW, &f.g), -ERANGE);
	CHECK_EQ(iof_pt_map(f.pt, 0, (UINT64_C(1) << 36) - 4096, 4096, RW, &f.g), 0);
	CHECK_EQ(iof_pt_translate(f.pt, 4095, NULL), (UINT64_C(1) << 36) - 1);
	close_table(&f);
}

/* Write-only leaves fill a table as well as readable ones; a mixture does too, and a hole in it is found. */
TEST(full_tables_of_mixed_permissions)
{
	for (unsigned hole = 0; hole < 2; hole++)
		for (unsigned kind = 0; kind < 3; kind++) {
			struct fixture f = open_table(VTDSS);

			for (uint64_t i = 0; i < 512; i++) {
				unsigned prot = kind == 2 ? 1 + i % 2 : 1 + kind;

				if (!hole || i != 300)
					CHECK_EQ(iof_pt_map(f.pt, i * 4096, i * 4096, 4096, prot, &f.g), 0);
			}
			CHECK_EQ(iof_pt_unmap(f.pt, 0, 2 * MIB, &f.g), (hole ? 300 : 512) * 4096);
			CHECK_EQ(f.g.count, !hole);
			CHECK_EQ(iof_pt_translate(f.pt, 299 * 4096, NULL), UINT64_MAX);
			CHECK_EQ(iof_pt_translate(f.pt, 301 * 4096, NULL), hole ? 301 * 4096 : UINT64_MAX);
			close_table(&f);
		}
}

/* A mock table of {4 KiB, 1 MiB}, the selftest's huge-page device. */
TEST(page_sizes_may_be_reduced)
{
	struct iof_pt_config cfg = MOCK;
	struct iof_pt_stats s;
	struct fixture f;

	cfg.page_sizes = 4096 | MIB;
	f = open_table(cfg);
	CHECK_EQ(iof_pt_map(f.pt, 2048, 2048, 2048, RW, &f.g), -ENXIO);
	CHECK_EQ(iof_pt_map(f.pt, MIB - 4096, MIB - 4096, MIB + 8192, RW, &f.g), 0);
	iof_pt_stats(f.pt, &s);
	CHECK_EQ(s.leaves[12], 2);
	CHECK_EQ(s.leaves[20], 1);
	close_table(&f);
}
