/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract's rules of IOASes, page tables and attachments through the raw door (behaviour.md chapters 2.2–2.8, 3, 5 and 6, appendix A).
 *
 * Appendix A.1 as far as it can be reached: its "mock" rows, and those with sub-page alignment under a page table, need the 2 KiB domain of the
 * test commands, which is not built; test_iova_space.c runs the whole table one floor below. Rows that need reserved ranges of any shape are there too.
 */
#include "check.h"
#include "engine.h"

#define FIXED IOF_MAP_FIXED_IOVA
#define R IOF_MAP_READABLE
#define W IOF_MAP_WRITEABLE
#define GIB (UINT64_C(1) << 30)

static struct iof_machine *m;
static struct iof_handle *ctx, *dev[4];
static uint32_t dev_id[4], ioas;

static void open_machine(enum iof_preset preset, enum iof_policy policy, enum iof_addresses addresses)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = preset, .groups = (uint32_t[]){ 2, 1, 1 }, .n_groups = 3,
					  .policy = policy, .addresses = addresses };

	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	memset(dev, 0, sizeof(dev));
}

static void setup(void)
{
	open_machine(IOF_PRESET_INTEL, IOF_POLICY_TRUST, IOF_ADDRESSES_VA);
}

static void bind(unsigned i)
{
	CHECK_EQ(iof_engine_open_device(m, i, &dev[i]), 0);
	CHECK_EQ(bind_device(dev[i], ctx, &dev_id[i]), 0);
}

static void bind_and_attach(unsigned i)
{
	bind(i);
	CHECK_EQ(attach(dev[i], ioas, NULL), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	for (unsigned i = 0; i < 4; i++)
		iof_close(dev[i]);
	iof_close(ctx);
	iof_machine_put(m);
}

static uint64_t digest(void)
{
	uint64_t d;

	CHECK_EQ(iof_digest(ctx, &d), 0);
	return d;
}

/* ---- shorter words; addresses are numbers: TRUST does not look at them ---- */

static int map_auto(uint64_t va, uint64_t length, uint64_t *iova)
{
	return map_at(ctx, ioas, (void *)(uintptr_t)va, length, RW, iova);
}

static int map_fixed(uint64_t iova, uint64_t va, uint64_t length)
{
	return map_at(ctx, ioas, (void *)(uintptr_t)va, length, RW | FIXED, &iova);
}

static int unmap_at(uint64_t iova, uint64_t length)
{
	return unmap(ctx, ioas, iova, length, NULL);
}

static int allow(uint32_t id, const struct iof_uapi_range *r, uint32_t n)
{
	struct iof_cmd_ioas_allow_iovas c = { .size = sizeof(c), .ioas_id = id, .num_iovas = n, .allowed_iovas = (uintptr_t)r };

	return iof_ioctl(ctx, IOF_CMD_IOAS_ALLOW_IOVAS, &c);
}

static int ranges(uint32_t id, struct iof_uapi_range *r, uint32_t *n, uint64_t *alignment)
{
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = id, .num_iovas = *n, .allowed_iovas = (uintptr_t)r };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c);

	*n = c.num_iovas;
	if (alignment)
		*alignment = c.out_iova_alignment;
	return rc;
}

static int large_pages(uint64_t on)
{
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_SET, .object_id = ioas,
				    .val64 = on };

	return iof_ioctl(ctx, IOF_CMD_OPTION, &c);
}

static uint64_t alignment(void)
{
	struct iof_uapi_range r[8];
	uint32_t n = 8;
	uint64_t a;

	CHECK_EQ(ranges(ioas, r, &n, &a), 0);
	return a;
}

static struct iof_ioas_stats stats_of(uint32_t id)
{
	struct iof_ioas_stats s;

	CHECK_EQ(iof_ioas_stats(ctx, id, &s), 0);
	return s;
}

/* ---- 3.6bis and A.1: automatic IOVAs ---- */

#define V (UINT64_C(5) << 30)

TEST(appendix_a1)
{
	static const struct {
		uint64_t area_start, area_last, low, length, iova;
		int rc;
	} rows[] = {
		{ 0, 0, V + 0x5000, 4096, 0x1000, 0 },
		{ 0x1000, 0x3fff, V + 0x5000, 12288, 0x4000, 0 },
		{ 0x1000, 0x3fff, V + 0x4000, 12288, 0x4000, 0 },
		{ 0, 0, V + 0x5c00, 0x400, 0x1c00, 0 },
		{ 0x1000, 0x1bff, V + 0x5800, 0x400, 0x1c00, 0 },
		{ 0, 0, V + 0x5123, 1, 0x1123, 0 },
		{ 0, 0, V + 0x200000, 4 << 20, 0x200000, 0 },
		{ 0, 0, V, GIB, 0x200000, 0 },
		{ 0, 0, 0, 3 << 20, 0x200000, 0 },
		{ 0, 0, V, INT64_MAX, 0, -EOVERFLOW },
	};
	uint64_t iova;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		setup();
		if (rows[i].area_last)
			CHECK_EQ(map_fixed(rows[i].area_start, V, rows[i].area_last - rows[i].area_start + 1), 0);
		CHECK_EQ(map_auto(rows[i].low, rows[i].length, &iova), rows[i].rc);
		if (!rows[i].rc)
			CHECK_EQ(iova, rows[i].iova);
		teardown();
	}
}

TEST(automatic_iovas_keep_to_the_allowed_list)
{
	struct iof_uapi_range list[] = { { 0x1001000, 0x1257fff } }, small[] = { { 0x5000, 0x5fff }, { 0x6000, 0x6fff } };
	uint64_t iova;

	setup();
	CHECK_EQ(allow(ioas, list, 1), 0);
	CHECK_EQ(map_auto(V + 0x4000, 12288, &iova), 0);
	CHECK_EQ(iova, 0x1004000);
	CHECK_EQ(map_fixed(0x9000, V, PAGE), 0); /* R3.3.1: only automatic ones */
	CHECK_EQ(allow(ioas, small, 2), 0); /* what is outside stays where it is */
	CHECK_EQ(map_auto(V + 0x1000, 2 * PAGE, &iova), 0); /* adjoining ranges count as one */
	CHECK_EQ(iova, 0x5000);
	CHECK_EQ(map_auto(V, PAGE, &iova), -ENOSPC);
	CHECK_EQ(allow(ioas, NULL, 0), 0);
	CHECK_EQ(map_auto(V + 0x1000, PAGE, &iova), 0);
	CHECK_EQ(iova, 0x1000);
	teardown();
}

/* want below the alignment, and windows next to page 0 and to the end. */
TEST(automatic_iovas_and_alignment)
{
	struct iof_uapi_range low[] = { { 0, 0x1fff } }, end[] = { { UINT64_MAX - 0x1fff, UINT64_MAX } };
	uint64_t iova;

	setup();
	CHECK_EQ(allow(ioas, low, 1), 0);
	CHECK_EQ(map_auto(V, PAGE, &iova), 0);
	CHECK_EQ(iova, 0x1000);
	CHECK_EQ(map_auto(V, PAGE, &iova), -ENOSPC); /* never page 0 */
	CHECK_EQ(allow(ioas, end, 1), 0);
	CHECK_EQ(map_auto(V, PAGE, &iova), 0);
	CHECK_EQ(iova, UINT64_MAX - 0x1fff); /* never the last page */
	CHECK_EQ(map_auto(V, PAGE, &iova), -ENOSPC);
	CHECK_EQ(unmap_at(0, UINT64_MAX), 0);
	CHECK_EQ(allow(ioas, NULL, 0), 0);
	bind_and_attach(0);
	CHECK_EQ(map_auto(V + 1, PAGE, &iova), -EINVAL);
	CHECK_EQ(map_auto(V, 1, &iova), -EINVAL);
	CHECK_EQ(map_auto(V + 0x800, 2 * PAGE, &iova), -EINVAL);
	teardown();
}

/* ---- 2.3 ALLOW_IOVAS ---- */

TEST(allow_iovas_judges_entries_in_order)
{
	struct iof_uapi_range same[] = { { 5, 5 } }, back[] = { { 6, 5 } }, overlap[] = { { 0, 9 }, { 9, 20 } };
	struct iof_uapi_range adjoin[] = { { 0x4000, 0x7fff }, { 0x8000, UINT64_MAX } };
	struct iof_uapi_range msi[] = { { 0x4000, 0x7fff }, { 0xfee00fff, 0xfee01000 } };
	uint64_t before, iova;
	char *two = pages_of(2);
	struct iof_uapi_range *cut = (struct iof_uapi_range *)(two + PAGE - 2 * sizeof(*cut));

	setup();
	munmap(two + PAGE, PAGE);
	CHECK_EQ(allow(ioas, adjoin, 2), 0);
	before = digest();
	CHECK_EQ(allow(99, same, 1), -ENOENT);
	CHECK_EQ(allow(ioas, same, 1), -EINVAL);
	CHECK_EQ(allow(ioas, back, 1), -EINVAL);
	CHECK_EQ(allow(ioas, overlap, 2), -EINVAL);
	CHECK_EQ(allow(ioas, (void *)8, 1), -EFAULT);
	cut[0] = (struct iof_uapi_range){ 0, 9 };
	cut[1] = (struct iof_uapi_range){ 10, 20 };
	CHECK_EQ(allow(ioas, cut, 3), -EFAULT);
	cut[1] = (struct iof_uapi_range){ 9, 20 };
	CHECK_EQ(allow(ioas, cut, 3), -EINVAL); /* the overlap is seen before the hole in memory */
	CHECK_EQ(allow(ioas, cut, UINT32_MAX), -EINVAL);
	CHECK_EQ(map_auto(V + 0x1000, PAGE, &iova), 0);
	CHECK_EQ(iova, 0x4000); /* the first list is still the list */
	CHECK_EQ(unmap_at(iova, PAGE), 0);
	CHECK_EQ(digest(), before);
	/* the list meets reserved ranges: refused both ways */
	CHECK_EQ(allow(ioas, msi, 2), 0);
	bind(0);
	CHECK_EQ(attach(dev[0], ioas, NULL), -EADDRINUSE);
	CHECK_EQ(allow(ioas, msi, 1), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	CHECK_EQ(allow(ioas, msi, 2), -EADDRINUSE);
	CHECK_EQ(map_auto(V + 0x1000, PAGE, &iova), 0);
	CHECK_EQ(iova, 0x4000);
	munmap(two, PAGE);
	teardown();
}

/* ---- 2.5 IOVA_RANGES ---- */

TEST(iova_ranges_are_the_holes_of_the_reserved_set)
{
	struct iof_uapi_range r[4] = { 0 }, list[] = { { 0x4000, 0x7fff } };
	uint32_t n = 4;
	uint64_t a;

	setup();
	CHECK_EQ(map_fixed(0x4000, V, PAGE), 0);
	CHECK_EQ(allow(ioas, list, 1), 0);
	CHECK_EQ(ranges(ioas, r, &n, &a), 0); /* neither areas nor the list count */
	CHECK_EQ(n, 1);
	CHECK_EQ(r[0].start, 0);
	CHECK_EQ(r[0].last, UINT64_MAX);
	CHECK_EQ(a, 1);
	bind_and_attach(0);
	n = 4;
	CHECK_EQ(ranges(ioas, r, &n, &a), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(r[0].last, 0xfedfffff);
	CHECK_EQ(r[1].start, 0xfef00000);
	CHECK_EQ(r[1].last, (UINT64_C(1) << 48) - 1);
	CHECK_EQ(a, PAGE);
	n = 1;
	r[1].start = 7;
	CHECK_EQ(ranges(ioas, r, &n, &a), -EMSGSIZE); /* and yet it answers */
	CHECK_EQ(n, 2);
	CHECK_EQ(a, PAGE);
	CHECK_EQ(r[1].start, 7);
	n = 0;
	CHECK_EQ(ranges(ioas, NULL, &n, NULL), -EMSGSIZE);
	CHECK_EQ(n, 2);
	n = 2;
	CHECK_EQ(ranges(ioas, (void *)8, &n, NULL), -EFAULT);
	CHECK_EQ(n, 2);
	n = 4;
	CHECK_EQ(ranges(99, r, &n, NULL), -ENOENT);
	CHECK_EQ(detach(dev[0]), 0);
	n = 4;
	CHECK_EQ(ranges(ioas, r, &n, &a), 0);
	CHECK_EQ(n, 1); /* R3.2.4: reserved ranges go with their owners */
	CHECK_EQ(a, 1);
	teardown();
}

/* ---- 3.5 mapping ---- */

TEST(fixed_maps_and_alignment)
{
	setup();
	CHECK_EQ(map_fixed(0x1001, V + 1, 1), 0); /* bytes, as long as no table is here */
	CHECK_EQ(map_fixed(0x1002, V, 3), 0);
	CHECK_EQ(map_fixed(0x1004, V, 1), -EEXIST);
	CHECK_EQ(map_fixed(0, V, 1), 0);
	CHECK_EQ(map_fixed(UINT64_MAX - 1, V, 1), 0);
	CHECK_EQ(map_fixed(UINT64_MAX - 3, V, 4), -EEXIST);
	CHECK_EQ(map_fixed(UINT64_MAX - 3, V, 5), -EOVERFLOW);
	bind(0);
	CHECK_EQ(attach(dev[0], ioas, NULL), -EADDRINUSE); /* R3.4.2 */
	CHECK_EQ(unmap_at(0, UINT64_MAX), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	CHECK_EQ(map_fixed(0x1000, V, 1), -EINVAL);
	CHECK_EQ(map_fixed(0x1001, V, PAGE), -EINVAL);
	CHECK_EQ(map_fixed(0x1000, V + 1, PAGE), -EINVAL);
	CHECK_EQ(map_fixed(0x1000, V, PAGE), 0);
	CHECK_EQ(map_fixed(0xfee00000, V, PAGE), -EINVAL);
	CHECK_EQ(map_fixed(0xfedff000, V, 2 * PAGE), -EINVAL);
	CHECK_EQ(map_fixed(UINT64_C(1) << 48, V, PAGE), -EINVAL);
	CHECK_EQ(map_fixed((UINT64_C(1) << 48) - PAGE, V, PAGE), 0);
	CHECK_EQ(map_fixed((UINT64_C(1) << 48) - 2 * PAGE, V, 2 * PAGE), -EEXIST);
	teardown();
}

/* An area that is not page-sized at its ends, and one whose offset in its page is not the IOVA's. */
TEST(areas_that_keep_a_page_table_out)
{
	static const uint64_t bad[][3] = { { 0x1000, V, 100 }, { 0x1800, V, PAGE }, { 0x1000, V + 0x10, PAGE } };
	uint64_t before;

	for (unsigned i = 0; i < 3; i++) {
		setup();
		bind(0);
		CHECK_EQ(map_fixed(bad[i][0], bad[i][1], bad[i][2]), 0);
		before = digest();
		CHECK_EQ(attach(dev[0], ioas, NULL), -EADDRINUSE);
		CHECK_EQ(digest(), before);
		CHECK_EQ(large_pages(0), -EADDRINUSE);
		CHECK_EQ(digest(), before);
		teardown();
	}
}

TEST(without_a_page_table_memory_is_not_touched)
{
	uint64_t iova;

	open_machine(IOF_PRESET_INTEL, IOF_POLICY_PROBE, IOF_ADDRESSES_VA);
	bind(0);
	CHECK_EQ(map_auto(0x1000, PAGE, &iova), 0); /* R3.5.6 */
	CHECK_EQ(attach(dev[0], ioas, NULL), -EFAULT); /* now it is */
	CHECK_EQ(stats_of(ioas).hwpts, 0);
	CHECK_EQ(unmap_at(iova, PAGE), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	CHECK_EQ(map_auto(0x1000, PAGE, &iova), -EFAULT);
	CHECK_EQ(stats_of(ioas).mappings, 0);
	teardown();
}

/* PROBE: read-only memory does for read-only mappings; a hole in the middle undoes the whole. */
TEST(probed_memory)
{
	char *buf = pages_of(4);
	uint64_t iova, before;

	open_machine(IOF_PRESET_AMD, IOF_POLICY_PROBE, IOF_ADDRESSES_VA);
	bind_and_attach(0);
	mprotect(buf, PAGE, PROT_READ);
	munmap(buf + 2 * PAGE, PAGE);
	before = digest();
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), -EFAULT);
	CHECK_EQ(map_at(ctx, ioas, buf + PAGE, 3 * PAGE, R, &iova), -EFAULT);
	CHECK_EQ(digest(), before);
	CHECK_EQ(map_at(ctx, ioas, buf, 2 * PAGE, R, &iova), 0);
	munmap(buf, 4 * PAGE);
	teardown();
}

/* ---- 3.6 and 2.4 COPY ---- */

TEST(copy_takes_any_part_and_many_areas)
{
	uint32_t dst;
	uint64_t at = 0x100000, from[1], to;
	struct iof_mapping_info info;

	setup();
	CHECK_EQ(ioas_alloc(ctx, &dst), 0);
	CHECK_EQ(map_fixed(0x10000, V, 2 * PAGE), 0);
	CHECK_EQ(map_fixed(0x12000, V + 0x100000, PAGE), 0);
	CHECK_EQ(map_fixed(0x14000, V, PAGE), 0);
	CHECK_EQ(copy(ctx, dst, ioas, 0x10800, 0x2000, R | FIXED, &at), 0);
	CHECK_EQ(stats_of(dst).mappings, 2); /* never merged */
	CHECK_EQ(iof_ioas_mapping(ctx, dst, 0, UINT64_MAX, &info), 0);
	CHECK_EQ(info.iova, 0x100000);
	CHECK_EQ(info.last, 0x1017ff);
	CHECK_EQ(info.address, V + 0x800);
	CHECK_EQ(iof_ioas_mapping(ctx, dst, 0x101800, UINT64_MAX, &info), 0);
	CHECK_EQ(info.address, V + 0x100000);
	CHECK_EQ(info.last, 0x101fff);
	at = 0x200000;
	CHECK_EQ(copy(ctx, dst, ioas, 0x12000, 3 * PAGE, R | FIXED, &at), -ENOENT);
	CHECK_EQ(copy(ctx, dst, ioas, 0xf000, 2 * PAGE, R | FIXED, &at), -ENOENT);
	CHECK_EQ(copy(ctx, dst, ioas, 0x14000, PAGE + 1, R | FIXED, &at), -ENOENT);
	CHECK_EQ(copy(ctx, dst, ioas, 0x10000, 3 * PAGE, R, &to), 0); /* automatic, steered by the first area's address */
	CHECK_EQ(to, 0x4000); /* want 16 KiB, capped by nothing: V is 1 GiB aligned */
	CHECK_EQ(copy(ctx, ioas, ioas, 0x10000, 3 * PAGE, R, &to), 0); /* onto itself */
	from[0] = to;
	CHECK_EQ(copy(ctx, dst, ioas, from[0] + PAGE, 2 * PAGE, R, &to), 0); /* a copy of a copy */
	CHECK_EQ(iof_ioas_mapping(ctx, dst, to, to, &info), 0);
	CHECK_EQ(info.address, V + PAGE);
	teardown();
}

/* R3.5.4, R3.5.7: write permission comes from the first MAP; read permission is nobody's business. */
TEST(copy_and_permissions)
{
	uint64_t ro, rw, wo, to, second;

	setup();
	CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)V, PAGE, R, &ro), 0);
	CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)V, PAGE, RW, &rw), 0);
	CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)V, PAGE, W, &wo), 0);
	CHECK_EQ(copy(ctx, ioas, ioas, ro, PAGE, W, &to), -EPERM);
	CHECK_EQ(copy(ctx, ioas, ioas, ro, PAGE, RW, &to), -EPERM);
	CHECK_EQ(copy(ctx, ioas, ioas, ro, PAGE, R, &to), 0);
	CHECK_EQ(copy(ctx, ioas, ioas, rw, PAGE, R, &to), 0);
	CHECK_EQ(copy(ctx, ioas, ioas, to, PAGE, RW, &second), 0); /* through a read-only copy: the container counts */
	CHECK_EQ(copy(ctx, ioas, ioas, wo, PAGE, RW, &to), 0);
	CHECK_EQ(copy(ctx, ioas, ioas, ro, 2 * PAGE, W, &to), -EPERM); /* ro and rw are neighbours: all or nothing */
	CHECK_EQ(stats_of(ioas).mappings, 7);
	teardown();
}

TEST(copy_is_bound_by_the_destination_s_table)
{
	uint32_t dst;
	uint64_t at = 0x100000, before;

	setup();
	CHECK_EQ(ioas_alloc(ctx, &dst), 0);
	bind(0);
	CHECK_EQ(attach(dev[0], dst, NULL), 0);
	CHECK_EQ(map_fixed(0x10800, V + 0x800, 2 * PAGE), 0);
	before = digest();
	CHECK_EQ(copy(ctx, dst, ioas, 0x10800, PAGE, R | FIXED, &at), -EINVAL); /* offset in its page */
	CHECK_EQ(copy(ctx, dst, ioas, 0x11000, 0x800, R | FIXED, &at), -EINVAL); /* length */
	at = 0x100800;
	CHECK_EQ(copy(ctx, dst, ioas, 0x11000, PAGE, R | FIXED, &at), -EINVAL); /* IOVA */
	at = 0xfee00000;
	CHECK_EQ(copy(ctx, dst, ioas, 0x11000, PAGE, R | FIXED, &at), -EINVAL); /* reserved */
	CHECK_EQ(digest(), before);
	at = 0x100000;
	CHECK_EQ(copy(ctx, dst, ioas, 0x11000, PAGE, R | FIXED, &at), 0);
	teardown();
}

/* ---- 3.7 UNMAP ---- */

TEST(unmap_is_not_atomic_and_never_splits)
{
	uint64_t bytes;

	setup();
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(map_fixed(0x10000 + i * 0x2000, V, PAGE), 0);
	CHECK_EQ(unmap_at(0x10000, PAGE - 1), -ENOENT);
	CHECK_EQ(unmap_at(0x10001, PAGE), -ENOENT);
	CHECK_EQ(unmap_at(0x11000, PAGE), -ENOENT);
	CHECK_EQ(stats_of(ioas).mappings, 4);
	/* [0x10000, 0x14800): two whole areas go, the third sticks out */
	CHECK_EQ(unmap_at(0x10000, 0x4800), -ENOENT);
	CHECK_EQ(stats_of(ioas).mappings, 2);
	CHECK_EQ(unmap(ctx, ioas, 0x13fff, 0x100000, &bytes), 0); /* holes are passed over, bytes counts areas */
	CHECK_EQ(bytes, 2 * PAGE);
	CHECK_EQ(unmap_at(0x10000, 0x100000), -ENOENT);
	teardown();
}

TEST(unmap_at_the_end_of_the_space)
{
	uint64_t bytes;

	open_machine(IOF_PRESET_AMD, IOF_POLICY_TRUST, IOF_ADDRESSES_VA);
	CHECK_EQ(map_fixed(UINT64_MAX - 4, V, 4), 0); /* the last byte that can be had is 2^64-2 */
	CHECK_EQ(map_fixed(UINT64_MAX - 0x2000, V, 0x1000), 0);
	CHECK_EQ(unmap(ctx, ioas, UINT64_MAX - 0x2fff, 0x3000, &bytes), 0);
	CHECK_EQ(bytes, 0x1004);
	/* 64-bit table: an area up to 2^64-1 */
	bind_and_attach(0);
	CHECK_EQ(map_fixed(UINT64_MAX - PAGE + 1, V, PAGE), 0);
	CHECK_EQ(map_fixed(UINT64_MAX - PAGE + 1, V, PAGE), -EEXIST);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	CHECK_EQ(detach(dev[0]), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0); /* replayed */
	CHECK_EQ(unmap(ctx, ioas, UINT64_MAX - PAGE + 1, PAGE, &bytes), 0);
	CHECK_EQ(bytes, PAGE);
	CHECK_EQ(map_fixed(UINT64_MAX - PAGE + 1, V, PAGE), 0);
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, &bytes), 0);
	CHECK_EQ(bytes, PAGE);
	teardown();
}

/* ---- 3.9 large pages ---- */

static struct iof_hwpt_stats table(uint32_t id)
{
	struct iof_hwpt_stats s;

	CHECK_EQ(iof_hwpt_stats(ctx, id, &s), 0);
	return s;
}

TEST(large_pages)
{
	uint32_t hwpt;

	setup();
	bind(0);
	CHECK_EQ(attach(dev[0], ioas, &hwpt), 0);
	CHECK_EQ(map_fixed(0x200000, V, 4 << 20), 0);
	CHECK_EQ(table(hwpt).leaves[21], 2);
	CHECK_EQ(large_pages(0), -EINVAL); /* a table and an area */
	CHECK_EQ(large_pages(1), 0);
	CHECK_EQ(unmap_at(0x200000, 4 << 20), 0);
	CHECK_EQ(large_pages(0), 0);
	CHECK_EQ(large_pages(0), 0); /* already */
	CHECK_EQ(map_fixed(0x200000, V, 4 << 20), 0);
	CHECK_EQ(large_pages(0), 0); /* already: said before the -EINVAL */
	CHECK_EQ(table(hwpt).leaves[21], 0);
	CHECK_EQ(table(hwpt).leaves[12], 1024);
	CHECK_EQ(large_pages(1), 0); /* R3.9.3: with mappings, which stay as they are */
	CHECK_EQ(table(hwpt).leaves[12], 1024);
	CHECK_EQ(map_fixed(0x600000, V, 2 << 20), 0);
	CHECK_EQ(table(hwpt).leaves[21], 1);
	teardown();
}

TEST(large_pages_and_alignment)
{
	setup();
	CHECK_EQ(alignment(), 1);
	CHECK_EQ(large_pages(0), 0);
	CHECK_EQ(alignment(), PAGE);
	CHECK_EQ(map_fixed(0x1000, V, 100), -EINVAL);
	CHECK_EQ(map_fixed(0x1000, V, PAGE), 0);
	CHECK_EQ(large_pages(1), 0);
	CHECK_EQ(alignment(), 1);
	CHECK_EQ(map_fixed(0x2000, V, 100), 0);
	CHECK_EQ(large_pages(0), -EADDRINUSE);
	CHECK_EQ(alignment(), 1);
	CHECK_EQ(stats_of(ioas).large_pages, 1);
	teardown();
}

/* Appendix A.7: one long map in the largest leaves that fit. */
TEST(appendix_a7)
{
	uint64_t at = 0x3fe400000;
	uint32_t hwpt;

	setup();
	bind(0);
	CHECK_EQ(attach(dev[0], ioas, &hwpt), 0);
	CHECK_EQ(map_fixed(at, at, 0xc2200000), 0);
	CHECK_EQ(table(hwpt).leaves[21], 17);
	CHECK_EQ(table(hwpt).leaves[30], 3);
	teardown();
}

/* ---- A.4 ids, with devices in place of test devices (one id each instead of two) ---- */

TEST(appendix_a4)
{
	uint32_t id, hwpt;

	setup();
	CHECK_EQ(ioas, 1);
	bind(0);
	CHECK_EQ(dev_id[0], 2);
	CHECK_EQ(attach(dev[0], ioas, &hwpt), 0);
	CHECK_EQ(hwpt, 3);
	bind(2);
	CHECK_EQ(dev_id[2], 4);
	CHECK_EQ(attach(dev[2], ioas, &hwpt), 0);
	CHECK_EQ(hwpt, 3); /* the automatic one again */
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], ioas, &id), 0);
	CHECK_EQ(id, 5);
	iof_close(dev[0]);
	dev[0] = NULL;
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 2); /* id 2 was free, 3 is used by the other device */
	iof_close(dev[2]);
	dev[2] = NULL;
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 3);
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 4);
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 6);
	teardown();
}

TEST(failures_use_no_ids)
{
	uint32_t id;
	uint64_t iova = 0xfee00000;

	setup();
	bind(0);
	CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)V, PAGE, RW | FIXED, &iova), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), -EADDRINUSE);
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], ioas, &id), 0); /* no device regions here: a table alone reserves its aperture only */
	CHECK_EQ(id, 3);
	CHECK_EQ(destroy(ctx, id), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 1);
	teardown();
}

/* ---- A.6 pins ---- */

TEST(appendix_a6)
{
	char *buf = pages_of(3);
	uint64_t va = (uintptr_t)buf, iova, second, to;
	uint32_t other, hwpt;

	open_machine(IOF_PRESET_INTEL, IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	memset(buf, 1, 3 * PAGE);
	bind(0);
	bind(2);
	CHECK_EQ(map_auto(va, 3 * PAGE, &iova), 0);
	CHECK_EQ(iof_machine_pins(m, va), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	CHECK_EQ(iof_machine_pins(m, va), 1);
	CHECK_EQ(attach(dev[2], ioas, NULL), 0); /* shares the automatic table */
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], ioas, &hwpt), 0); /* another table of the same IOAS */
	CHECK_EQ(iof_machine_pins(m, va), 1);
	CHECK_EQ(ioas_alloc(ctx, &other), 0);
	CHECK_EQ(attach(dev[2], other, NULL), 0);
	CHECK_EQ(copy(ctx, other, ioas, iova + PAGE, 2 * PAGE, RW, &to), 0);
	CHECK_EQ(iof_machine_pins(m, va + PAGE), 1);
	CHECK_EQ(map_auto(va, PAGE, &second), 0); /* a second MAP is a second container */
	CHECK_EQ(iof_machine_pins(m, va), 2);
	CHECK_EQ(iof_machine_pins(m, va + PAGE), 1);
	CHECK_EQ(unmap_at(iova, 3 * PAGE), 0);
	CHECK_EQ(iof_machine_pins(m, va), 1); /* the second MAP */
	CHECK_EQ(iof_machine_pins(m, va + PAGE), 1); /* the copy */
	CHECK_EQ(unmap_at(second, PAGE), 0);
	CHECK_EQ(iof_machine_pins(m, va), 0);
	CHECK_EQ(detach(dev[2]), 0); /* the copy's table goes */
	CHECK_EQ(iof_machine_pins(m, va + PAGE), 0);
	CHECK_EQ(attach(dev[2], other, NULL), 0);
	CHECK_EQ(iof_machine_pins(m, va + 2 * PAGE), 1);
	CHECK_EQ(unmap(ctx, other, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(iof_machine_pins(m, va + 2 * PAGE), 0);
	munmap(buf, 3 * PAGE);
	teardown();
}

TEST(a_manual_table_pins_by_itself)
{
	char *buf = pages_of(1);
	uint64_t va = (uintptr_t)buf, iova;
	uint32_t hwpt;

	open_machine(IOF_PRESET_INTEL, IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	*buf = 1;
	bind(0);
	CHECK_EQ(map_auto(va, PAGE, &iova), 0);
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], ioas, &hwpt), 0); /* R5.1.1: nothing is attached */
	CHECK_EQ(iof_machine_pins(m, va), 1);
	CHECK_EQ(destroy(ctx, hwpt), 0);
	CHECK_EQ(iof_machine_pins(m, va), 0);
	CHECK_EQ(unmap_at(iova, PAGE), 0);
	munmap(buf, PAGE);
	teardown();
}

/* ---- users: 1.4 and 1.5 ---- */

TEST(who_keeps_whom)
{
	uint32_t manual, automatic;

	setup();
	bind(0);
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], ioas, &manual), 0);
	CHECK_EQ(destroy(ctx, ioas), -EBUSY);
	CHECK_EQ(attach(dev[0], manual, NULL), 0);
	CHECK_EQ(destroy(ctx, manual), -EBUSY);
	CHECK_EQ(destroy(ctx, dev_id[0]), -EBUSY);
	CHECK_EQ(attach(dev[0], ioas, &automatic), 0); /* replaced; manual ones are never picked (R6.6.1) */
	CHECK(automatic != manual);
	CHECK_EQ(destroy(ctx, manual), 0);
	CHECK_EQ(detach(dev[0]), 0);
	CHECK_EQ(destroy(ctx, automatic), -ENOENT);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK_EQ(destroy(ctx, 0), -ENOENT);
	CHECK_EQ(destroy(ctx, UINT32_MAX), -ENOENT);
	CHECK_EQ(destroy(ctx, INT32_MAX), -ENOENT);
	teardown();
}

/* ---- 6.4, 6.9: groups ---- */

static uint32_t table_of(unsigned i)
{
	struct iof_endpoint_info e[4];
	int64_t n = iof_endpoints(ctx, dev_id[i], 0, 4, e);

	CHECK_EQ(n, 1);
	return e[0].hwpt_id;
}

static uint32_t holes(uint32_t id)
{
	struct iof_uapi_range r[8];
	uint32_t n = 8;

	CHECK_EQ(ranges(id, r, &n, NULL), 0);
	return n;
}

TEST(a_group_is_in_one_table)
{
	uint32_t other, a, b, manual;

	setup();
	bind(0);
	bind(1); /* the same group */
	CHECK_EQ(ioas_alloc(ctx, &other), 0);
	CHECK_EQ(hwpt_alloc(ctx, dev_id[0], other, &manual), 0);
	CHECK_EQ(attach(dev[0], ioas, &a), 0);
	CHECK_EQ(table_of(1), 0);
	CHECK_EQ(attach(dev[1], manual, NULL), -EINVAL); /* R6.4 step 2 */
	CHECK_EQ(attach(dev[1], other, NULL), -EINVAL);
	CHECK_EQ(attach(dev[1], ioas, &b), 0);
	CHECK_EQ(a, b);
	CHECK_EQ(attach(dev[1], manual, NULL), 0); /* a replace moves both (R6.9.1) */
	CHECK_EQ(table_of(0), manual);
	CHECK_EQ(table_of(1), manual);
	CHECK_EQ(holes(other), 2); /* their reserved ranges moved with them */
	CHECK_EQ(holes(ioas), 1);
	CHECK_EQ(alignment(), 1);
	CHECK_EQ(destroy(ctx, a), -ENOENT);
	CHECK_EQ(attach(dev[0], manual, NULL), 0); /* where it is already: nothing */
	CHECK_EQ(detach(dev[0]), 0);
	CHECK_EQ(destroy(ctx, manual), -EBUSY);
	CHECK_EQ(attach(dev[0], ioas, NULL), -EINVAL); /* the other one is elsewhere */
	CHECK_EQ(detach(dev[1]), 0);
	CHECK_EQ(destroy(ctx, manual), 0);
	teardown();
}

TEST(a_failed_replace_leaves_the_old_one)
{
	uint32_t other, a;
	uint64_t iova = 0xfee00000, before;

	setup();
	bind(0);
	bind(1);
	CHECK_EQ(ioas_alloc(ctx, &other), 0);
	CHECK_EQ(map_at(ctx, other, (void *)(uintptr_t)V, PAGE, RW | FIXED, &iova), 0);
	CHECK_EQ(attach(dev[0], ioas, &a), 0);
	CHECK_EQ(attach(dev[1], ioas, NULL), 0);
	before = digest();
	CHECK_EQ(attach(dev[1], other, NULL), -EADDRINUSE); /* the MSI window is mapped there */
	CHECK_EQ(digest(), before);
	CHECK_EQ(table_of(0), a);
	teardown();
}

/*
 * R6.9.3: a replace that fails for the table's sake drops the device's reserved ranges from the target's IOAS even when that is its own. So the MSI
 * window becomes mappable, as it does in the kernel.
 */
TEST(the_replace_quirk)
{
	struct iof_handle *amd;
	uint32_t index, id, foreign;

	setup();
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_AMD, UINT32_MAX, &index), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &amd), 0);
	CHECK_EQ(bind_device(amd, ctx, &id), 0);
	CHECK_EQ(hwpt_alloc(ctx, id, ioas, &foreign), 0); /* fits AMD devices only */
	bind_and_attach(0);
	CHECK_EQ(holes(ioas), 2);
	CHECK_EQ(map_fixed(0xfee00000, V, PAGE), -EINVAL);
	CHECK_EQ(attach(dev[0], foreign, NULL), -EINVAL);
	CHECK_EQ(holes(ioas), 1);
	CHECK_EQ(map_fixed(0xfee00000, V, PAGE), 0);
	CHECK_EQ(unmap_at(0xfee00000, PAGE), 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(detach(dev[0]), 0);
	CHECK_EQ(attach(dev[0], foreign, NULL), -EINVAL); /* a first attach that fails rolls back completely */
	CHECK_EQ(holes(ioas), 1);
	iof_close(amd);
	teardown();
}

/* Two IOMMUs under one IOAS: each table shows the same mappings, alignment and apertures are those of both. */
TEST(tables_of_two_kinds)
{
	struct iof_handle *amd;
	uint32_t index, id, a, b;
	uint64_t iova, to;

	setup();
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_AMD, UINT32_MAX, &index), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &amd), 0);
	CHECK_EQ(bind_device(amd, ctx, &id), 0);
	bind(0);
	CHECK_EQ(map_auto(V, 3 * PAGE, &iova), 0);
	CHECK_EQ(attach(dev[0], ioas, &a), 0);
	CHECK_EQ(attach(amd, ioas, &b), 0);
	CHECK(a != b);
	CHECK_EQ(holes(ioas), 3); /* below MSI, up to HyperTransport, up to 2^48 */
	CHECK_EQ(unmap_at(iova, 3 * PAGE), 0);
	CHECK_EQ(map_auto(V, PAGE, &iova), 0);
	CHECK_EQ(iof_translate(ctx, a, 1, &iova, &to, NULL), 1);
	CHECK_EQ(to, V);
	CHECK_EQ(iof_translate(ctx, b, 1, &iova, &to, NULL), 1);
	CHECK_EQ(to, V);
	CHECK_EQ(detach(dev[0]), 0); /* the first table leaves, the other takes its place */
	CHECK_EQ(iof_translate(ctx, ioas, 1, &iova, &to, NULL), 1);
	CHECK(iof_machine_is_valid(m));
	iof_close(amd);
	CHECK_EQ(stats_of(ioas).hwpts, 0);
	CHECK_EQ(stats_of(ioas).pinned_pages, 0);
	teardown();
}

/* ---- closing ---- */

TEST(a_context_lives_while_devices_do)
{
	struct iof_handle *other;
	uint64_t iova;
	char *buf = pages_of(1), c;

	setup();
	bind_and_attach(0);
	bind(1);
	*buf = 'q';
	CHECK_EQ(map_auto((uintptr_t)buf, PAGE, &iova), 0);
	iof_close(ctx);
	CHECK_EQ(dma(dev[0], IOF_DMA_READ, iova, &c, 1, NULL), 0); /* R1.1.5 */
	CHECK_EQ(c, 'q');
	CHECK_EQ(iof_engine_open(m, &other), 0);
	iof_close(dev[1]);
	CHECK_EQ(iof_engine_open_device(m, 1, &dev[1]), 0);
	CHECK_EQ(bind_device(dev[1], other, NULL), -EPERM); /* its group is still the closed context's */
	iof_close(dev[0]);
	CHECK_EQ(bind_device(dev[1], other, NULL), 0);
	dev[0] = NULL;
	ctx = other;
	munmap(buf, PAGE);
	teardown();
}
