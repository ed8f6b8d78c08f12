/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * SET_DIRTY_TRACKING and GET_DIRTY_BITMAP with all their quirks (behaviour.md 5.6, 5.7, R10.3.6-7): order of errors, what a bit is, gaps, bitmaps that
 * are not there, runs that go too far, leaves of several items; transfers that mark pages; the block scan against a walk leaf by leaf.
 */
#include <pthread.h>

#include "driver_rig.h"

#define FIXED IOF_MAP_FIXED_IOVA
#define GIB (UINT64_C(1) << 30)

static struct iof_machine *m;
static struct iof_handle *ctx, *dev, *soft;
static struct rig rig;
static struct iof_alloc heap;
static uint32_t dev_id, soft_id, ioas, hwpt;
static uint8_t *bits; /* two pages, the third is not there */

static void setup(enum iof_pt_format format)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .alloc = &heap };
	struct iof_iommu *iommu;
	uint32_t index;

	iof_alloc_init_heap(&heap);
	rig_init(&rig);
	rig.table = (struct iof_pt_config){ .format = format, .va_lg2 = format == IOF_PT_VTDSS ? 48 : 0,
					    .top_level = format == IOF_PT_VTDSS ? 0 : 2 };
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(rig_plug(&rig, m, iommu, 0, 1, &index), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &soft), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &dev), 0);
	CHECK_EQ(bind_device(soft, ctx, &soft_id), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_DIRTY_TRACKING, &hwpt), 0);
	bits = pages_of(3);
	munmap(bits + 2 * PAGE, PAGE);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(soft);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	munmap(bits, 2 * PAGE);
}

/* Addresses are numbers: nothing here is touched. */
static void map(uint64_t iova, uint64_t va, uint64_t length)
{
	CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)va, length, RW | FIXED, &iova), 0);
}

static int mark_one(void *arg, struct iof_hwpt *h)
{
	return iof_hwpt_set_dirty(h, *(uint64_t *)arg);
}

static int mark(uint64_t iova)
{
	return iof_with_hwpt(ctx, hwpt, mark_one, &iova);
}

static int get(uint32_t flags, uint64_t iova, uint64_t length, uint64_t page)
{
	memset(bits, 0, 2 * PAGE);
	return get_dirty(ctx, hwpt, flags, iova, length, page, bits);
}

static unsigned count_bits(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 2 * PAGE; i++)
		n += (unsigned)__builtin_popcount(bits[i]);
	return n;
}

static bool bit(unsigned i)
{
	return bits[i / 8] >> i % 8 & 1;
}

/* ---- errors, in order ---- */

TEST(set_tracking_order)
{
	uint32_t plain, nest, nested;

	setup(IOF_PT_VTDSS);
	CHECK_EQ(hwpt_kind(ctx, dev_id, ioas, 0, &plain), 0);
	CHECK_EQ(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_NEST_PARENT, &nest), 0);
	CHECK_EQ(nested_alloc(ctx, dev_id, nest, 0, 0, &nested), 0);
	CHECK_EQ(set_tracking(ctx, 99, 2), -EOPNOTSUPP);
	CHECK_EQ(set_tracking(ctx, 99, 0), -ENOENT);
	CHECK_EQ(set_tracking(ctx, ioas, 1), -ENOENT);
	CHECK_EQ(set_tracking(ctx, nested, 1), -ENOENT);
	CHECK_EQ(set_tracking(ctx, plain, 1), -EOPNOTSUPP);
	CHECK_EQ(set_tracking(ctx, plain, 0), -EOPNOTSUPP);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(set_tracking(ctx, hwpt, 0), 0);
	CHECK_EQ(get_dirty(ctx, nested, 0, 0, PAGE, PAGE, bits), -ENOENT);
	CHECK_EQ(get_dirty(ctx, plain, 0, 0, PAGE, PAGE, bits), -EOPNOTSUPP);
	CHECK_EQ(get_dirty(ctx, plain, 0, 0, PAGE, 0, bits), -EINVAL); /* the range comes first */
	teardown();
}

TEST(get_order)
{
	setup(IOF_PT_VTDSS);
	CHECK_EQ(get_dirty(ctx, 99, 2, 1, 0, 0, NULL), -EOPNOTSUPP);
	CHECK_EQ(get_dirty(ctx, 99, 0, 1, 0, 0, NULL), -ENOENT);
	CHECK_EQ(get(0, UINT64_MAX - PAGE + 1, PAGE + 1, 0), -EOVERFLOW);
	CHECK_EQ(get(0, PAGE, 0, PAGE), -EOVERFLOW); /* length 0 wraps, but for iova 0 */
	CHECK_EQ(get(0, 1, PAGE, 0), -EINVAL);
	CHECK_EQ(get(0, 2048, PAGE, 2048), -EINVAL); /* below the alignment */
	CHECK_EQ(get(0, PAGE, 2048, 2048), -EINVAL);
	CHECK_EQ(get(0, PAGE, PAGE, 0), -EINVAL);
	CHECK_EQ(get(0, PAGE, PAGE, 2 * PAGE), -EINVAL);
	CHECK_EQ(get(0, 2 * PAGE, PAGE, 2 * PAGE), -EINVAL);
	CHECK_EQ(get(0, PAGE, PAGE, PAGE + 1), -EINVAL); /* the mask of a page size that is none */
	CHECK_EQ(get(0, 0, 0, PAGE), 0);
	CHECK_EQ(get(0, 0, 0, 0), -EINVAL);
	CHECK_EQ(get(0, UINT64_MAX - PAGE + 1, PAGE, PAGE), 0); /* ends at 2^64 */
	CHECK_EQ(get(0, 0, -PAGE, 1), 0); /* nothing is mapped, so it ends at once */
	CHECK_EQ(get_dirty(ctx, hwpt, 0, 0, PAGE, PAGE, NULL), 0);
	teardown();
}

TEST(marks_need_tracking)
{
	setup(IOF_PT_VTDSS);
	map(GIB, 1 << 30, 4 * PAGE);
	CHECK_EQ(mark(GIB), -EINVAL);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(GIB), 0);
	CHECK_EQ(mark(GIB - 1), -ENOENT);
	CHECK_EQ(set_tracking(ctx, hwpt, 0), 0);
	CHECK_EQ(mark(GIB), -EINVAL);
	CHECK_EQ(get(1, GIB, 4 * PAGE, PAGE), 0); /* off only switches off: what was dirty still is */
	CHECK_EQ(count_bits(), 1);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0); /* on cleans */
	CHECK_EQ(get(1, GIB, 4 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	CHECK_EQ(mark(GIB + PAGE), 0);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0); /* twice as well */
	CHECK_EQ(get(1, GIB, 4 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	teardown();
}

/* ---- bits ---- */

TEST(bit_0_is_the_request_s_iova)
{
	setup(IOF_PT_VTDSS);
	map(GIB, (UINT64_C(1) << 40) + PAGE, 64 * PAGE);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	for (unsigned i = 3; i < 64; i += 7)
		CHECK_EQ(mark(GIB + i * PAGE + 17), 0);
	CHECK_EQ(get(1, GIB, 64 * PAGE, PAGE), 0);
	for (unsigned i = 0; i < 64; i++)
		CHECK_EQ(bit(i), i % 7 == 3);
	CHECK_EQ(get(1, GIB + 3 * PAGE, 8 * PAGE, PAGE), 0);
	CHECK(bits[0] == 0x81 && count_bits() == 2);
	/* bits of two pages each */
	CHECK_EQ(get(1, GIB, 64 * PAGE, 2 * PAGE), 0);
	for (unsigned i = 0; i < 32; i++)
		CHECK_EQ(bit(i), 2 * i % 7 == 3 || (2 * i + 1) % 7 == 3);
	/* bits of half a page: both */
	CHECK_EQ(get(1, GIB, 64 * PAGE, 2048), 0);
	for (unsigned i = 0; i < 128; i++)
		CHECK_EQ(bit(i), i / 2 % 7 == 3);
	/* the lowest set bit of a page size that is no power of two; 3 pages divide the range */
	CHECK_EQ(get(1, 3 * GIB / 3, 64 * PAGE, PAGE), 0);
	teardown();
}

TEST(bits_are_only_set_at_any_byte)
{
	setup(IOF_PT_VTDSS);
	map(GIB, (UINT64_C(1) << 40) + PAGE, 32 * PAGE);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(GIB + 9 * PAGE), 0);
	CHECK_EQ(mark(GIB + 10 * PAGE), 0);
	for (unsigned at = 0; at < 9; at++) {
		memset(bits, 0x81, 32);
		CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 32 * PAGE, PAGE, bits + at), 0);
		for (unsigned i = 0; i < 32; i++)
			CHECK_EQ(bits[i], i == at + 1 ? 0x87 : 0x81);
	}
	teardown();
}

TEST(read_clears_unless_told_not_to)
{
	setup(IOF_PT_VTDSS);
	map(GIB, (UINT64_C(1) << 40) + PAGE, 32 * PAGE);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	for (unsigned i = 0; i < 32; i++)
		CHECK_EQ(mark(GIB + i * PAGE), 0);
	CHECK_EQ(get(1, GIB, 32 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 32);
	CHECK_EQ(get(0, GIB + 4 * PAGE, 8 * PAGE, PAGE), 0);
	CHECK(bits[0] == 0xff && count_bits() == 8);
	CHECK_EQ(get(0, GIB, 32 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 24);
	CHECK_EQ(get(0, GIB, 32 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	teardown();
}

/* R5.7.1: areas are visited one behind the other; the first gap is the end, and nobody is told. */
TEST(a_gap_ends_the_walk)
{
	setup(IOF_PT_VTDSS);
	map(GIB, 1 << 30, 4 * PAGE);
	map(GIB + 4 * PAGE, 2u << 30, 4 * PAGE);
	map(GIB + 9 * PAGE, 3u << 30, 4 * PAGE);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(GIB), 0);
	CHECK_EQ(mark(GIB + 7 * PAGE), 0);
	CHECK_EQ(mark(GIB + 9 * PAGE), 0);
	CHECK_EQ(get(0, GIB, 16 * PAGE, PAGE), 0);
	CHECK(bits[0] == 0x81 && count_bits() == 2);
	CHECK_EQ(get(0, GIB + 8 * PAGE, 8 * PAGE, PAGE), 0); /* begins in the gap */
	CHECK_EQ(count_bits(), 0);
	CHECK_EQ(get(0, GIB + 9 * PAGE, 8 * PAGE, PAGE), 0);
	CHECK(bits[0] == 1 && count_bits() == 1);
	CHECK_EQ(get(0, GIB, 16 * PAGE, PAGE), 0); /* the first two were cleaned before the gap was met */
	CHECK_EQ(count_bits(), 0);
	teardown();
}

/* R5.7.3: bits that find no memory are lost, their pages clean all the same. */
TEST(bitmaps_that_are_not_there)
{
	setup(IOF_PT_VTDSS);
	map(GIB, (UINT64_C(1) << 40) + PAGE, 16 * PAGE);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(GIB), 0);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 16 * PAGE, PAGE, NULL), 0);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 16 * PAGE, PAGE, (void *)UINTPTR_MAX), 0);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 16 * PAGE, PAGE, (void *)(UINTPTR_MAX << 47)), 0);
	mprotect(bits, PAGE, PROT_READ);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 16 * PAGE, PAGE, bits), 0);
	CHECK_EQ(bits[0], 0);
	CHECK_EQ(get_dirty(ctx, hwpt, 0, GIB, 16 * PAGE, PAGE, bits), 0);
	mprotect(bits, PAGE, PROT_READ | PROT_WRITE);
	CHECK_EQ(get(0, GIB, 16 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	/* half of it there: that half is told */
	CHECK_EQ(mark(GIB), 0);
	CHECK_EQ(mark(GIB + 8 * PAGE), 0);
	bits[2 * PAGE - 1] = 0;
	CHECK_EQ(get_dirty(ctx, hwpt, 0, GIB, 16 * PAGE, PAGE, bits + 2 * PAGE - 1), 0);
	CHECK_EQ(bits[2 * PAGE - 1], 1);
	teardown();
}

/* R5.7.5: a large dirty leaf that begins inside is told whole, up to the end of the bitmap's page. */
TEST(a_run_beyond_the_request)
{
	setup(IOF_PT_VTDSS);
	map(GIB, GIB, 2 << 20);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(GIB + 5 * PAGE), 0);
	CHECK_EQ(get(1, GIB, PAGE, PAGE), 0);
	for (unsigned i = 0; i < 1024; i++)
		CHECK_EQ(bit(i), i < 512);
	/* from inside the leaf: from there, as long */
	CHECK_EQ(get(1, GIB + 256 * PAGE, PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 512);
	memset(bits, 0, 2 * PAGE);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, PAGE, PAGE, bits + PAGE - 3), 0);
	CHECK_EQ(count_bits(), 24);
	CHECK_EQ(bits[PAGE], 0);
	/* two pages of bitmap: the second page's end is the limit */
	memset(bits, 0, 2 * PAGE);
	CHECK_EQ(get_dirty(ctx, hwpt, 1, GIB, 32 * PAGE, PAGE, bits + PAGE - 3), 0);
	CHECK_EQ(count_bits(), 512);
	teardown();
}

/* R10.3.7, which Linux's own tests rely on: a leaf of several items is told without its last one. */
TEST(leaves_of_several_items_lose_their_last)
{
	setup(IOF_PT_MOCK);
	map(0x1000000, (1 << 30) + PAGE, 8 * PAGE); /* 4K leaves: two items of 2K each */
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(mark(0x1000000), 0);
	CHECK_EQ(mark(0x1001800), 0); /* an odd one: its leaf is dirty */
	CHECK_EQ(get(1, 0x1000000, 8 * PAGE, 2048), 0);
	CHECK(bits[0] == 5 && count_bits() == 2);
	CHECK_EQ(get(1, 0x1001800, 2048, 2048), 0); /* begins at the last item: nothing */
	CHECK_EQ(count_bits(), 0);
	CHECK_EQ(get(1, 0x1001000, 2048, 2048), 0); /* the dirty item is outside of the request, the leaf is not */
	CHECK_EQ(count_bits(), 1);
	CHECK_EQ(get(0, 0x1001800, 2048, 2048), 0); /* nothing is told, yet the leaf is clean now */
	CHECK_EQ(get(0, 0x1000000, 8 * PAGE, 2048), 0);
	CHECK(bits[0] == 1 && count_bits() == 1);
	/* one leaf of 64 KiB: 31 of its 32 items */
	map(0x1100000, 0x40000000, 0x10000);
	CHECK_EQ(mark(0x1100000 + 0xf800), 0);
	CHECK_EQ(get(1, 0x1100000, 0x10000, 2048), 0);
	CHECK_EQ(count_bits(), 31);
	CHECK(!bit(31));
	CHECK_EQ(get(1, 0x1100000 + 0x4000, 0x2000, 2048), 0); /* up to the end of the request */
	CHECK_EQ(count_bits(), 4);
	teardown();
}

/* ---- transfers ---- */

static void attach_soft(void)
{
	CHECK_EQ(destroy(ctx, hwpt), 0);
	CHECK_EQ(hwpt_kind(ctx, soft_id, ioas, IOF_HWPT_DIRTY_TRACKING, &hwpt), 0);
	CHECK_EQ(attach(soft, hwpt, NULL), 0);
}

TEST(transfers_mark_what_they_write)
{
	char *buf = pages_of(8), data[3 * PAGE] = { 0 };

	setup(IOF_PT_VTDSS);
	attach_soft();
	map(0x10001000, (uintptr_t)buf, 8 * PAGE);
	CHECK_EQ(dma(soft, IOF_DMA_WRITE, 0x10001000, data, PAGE, NULL), 0);
	CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
	CHECK_EQ(get(1, 0x10001000, 8 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0); /* before it was on */
	CHECK_EQ(dma(soft, IOF_DMA_READ, 0x10001000, data, 3 * PAGE, NULL), 0);
	CHECK_EQ(get(1, 0x10001000, 8 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	for (int round = 0; round < 2; round++) { /* the second goes through the IOTLB */
		CHECK_EQ(dma(soft, IOF_DMA_WRITE, 0x10001000 + 2 * PAGE - 1, data, 2, NULL), 0);
		CHECK_EQ(dma(soft, IOF_DMA_WRITE, 0x10001000 + 4 * PAGE + 5, data, 3 * PAGE, NULL), 0);
		CHECK_EQ(get(0, 0x10001000, 8 * PAGE, PAGE), 0);
		CHECK(bits[0] == 0xf6 && count_bits() == 6);
	}
	CHECK_EQ(get(0, 0x10001000, 8 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	CHECK_EQ(set_tracking(ctx, hwpt, 0), 0);
	CHECK_EQ(dma(soft, IOF_DMA_WRITE, 0x10001000, data, PAGE, NULL), 0);
	CHECK_EQ(get(0, 0x10001000, 8 * PAGE, PAGE), 0);
	CHECK_EQ(count_bits(), 0);
	teardown();
	munmap(buf, 8 * PAGE);
}

/* A writer stamps pages without end; every change seen in memory was told, now or before. */
#define STAMPED 16

static struct {
	char *buf;
	_Atomic bool stop;
	int rc;
} writer;

static void *write_on(void *arg)
{
	uint64_t seed = 42, stamp = 0;

	while (!atomic_load(&writer.stop) && !writer.rc) {
		uint64_t page = check_random(&seed) % STAMPED;

		stamp++;
		writer.rc = dma(soft, IOF_DMA_WRITE, 0x10001000 + page * PAGE, &stamp, sizeof(stamp), NULL);
	}
	return arg;
}

TEST(no_write_goes_unseen)
{
	uint64_t copy[STAMPED];
	unsigned told = 0;
	pthread_t t;

	setup(IOF_PT_VTDSS);
	attach_soft();
	writer.buf = pages_of(STAMPED);
	atomic_store(&writer.stop, false);
	writer.rc = 0;
	map(0x10001000, (uintptr_t)writer.buf, STAMPED * PAGE);
	pthread_create(&t, NULL, write_on, NULL);
	for (int round = 0; round < 20; round++) {
		CHECK_EQ(set_tracking(ctx, hwpt, 1), 0);
		for (unsigned i = 0; i < STAMPED; i++)
			copy[i] = __atomic_load_n((uint64_t *)(writer.buf + i * PAGE), __ATOMIC_RELAXED);
		for (int i = 0; i < 50; i++) {
			CHECK_EQ(get(0, 0x10001000, STAMPED * PAGE, PAGE), 0);
			told += count_bits();
			for (unsigned k = 0; k < STAMPED; k++)
				if (bit(k))
					copy[k] = __atomic_load_n((uint64_t *)(writer.buf + k * PAGE), __ATOMIC_RELAXED);
		}
		if (round == 19) { /* at rest, one more read makes the copy complete */
			atomic_store(&writer.stop, true);
			pthread_join(t, NULL);
			CHECK_EQ(get(0, 0x10001000, STAMPED * PAGE, PAGE), 0);
			for (unsigned k = 0; k < STAMPED; k++) {
				if (bit(k))
					copy[k] = *(uint64_t *)(writer.buf + k * PAGE);
				CHECK_EQ(copy[k], *(uint64_t *)(writer.buf + k * PAGE));
			}
		}
	}
	CHECK_EQ(writer.rc, 0);
	CHECK(told > 100);
	teardown();
	munmap(writer.buf, STAMPED * PAGE);
}

/* ---- the scan by blocks against a walk leaf by leaf ---- */

struct told {
	uint64_t start[4096], length[4096];
	unsigned n;
};

static void tell(void *arg, uint64_t start, uint64_t length)
{
	struct told *t = arg;

	CHECK(t->n < 4096);
	t->start[t->n] = start;
	t->length[t->n++] = length;
}

/* As the rule says it, with one walk for each leaf. */
static void by_the_rule(struct iof_pt *pt, unsigned granule_lg2, struct iof_range r, bool exact, struct told *t)
{
	struct iof_pt_leaf leaf;
	struct iof_range rest = r;

	t->n = 0;
	while (rest.start <= rest.last && !iof_pt_next_leaf(pt, rest, &leaf)) {
		uint64_t item = UINT64_C(1) << (granule_lg2 + 9 * leaf.level), size = UINT64_C(1) << leaf.size_lg2;
		uint64_t at = leaf.iova > r.start ? leaf.iova : r.start, last = leaf.iova + size - item, end;

		end = (r.last & ~(item - 1)) + item; /* behind the last item that the range meets */
		if (leaf.dirty && exact)
			tell(t, leaf.iova, size);
		else if (leaf.dirty && size == item)
			tell(t, at, item);
		else if (leaf.dirty && (last < end ? last : end) > (at & ~(item - 1)))
			tell(t, at, (last < end ? last : end) - (at & ~(item - 1)));
		rest.start = leaf.iova + size;
	}
}

static void compare(struct iof_pt *pt, unsigned granule_lg2, struct iof_range r, bool clear)
{
	static struct told got, want;

	for (int exact = 1; exact >= 0; exact--) {
		by_the_rule(pt, granule_lg2, r, exact, &want);
		got.n = 0;
		CHECK_EQ(iof_pt_read_dirty(pt, r, clear && !exact, exact, tell, &got), 0);
		CHECK_EQ(got.n, want.n);
		for (unsigned i = 0; i < got.n; i++) {
			CHECK_EQ(got.start[i], want.start[i]);
			CHECK_EQ(got.length[i], want.length[i]);
		}
	}
	if (clear) {
		by_the_rule(pt, granule_lg2, r, true, &want);
		CHECK_EQ(want.n, 0);
	}
}

static void against_the_rule(enum iof_pt_format format, unsigned granule_lg2)
{
	struct iof_pt_config cfg = { .format = format, .va_lg2 = format == IOF_PT_VTDSS ? 48 : 0,
				     .top_level = format == IOF_PT_VTDSS ? 0 : 2 };
	const uint64_t granule = UINT64_C(1) << granule_lg2, items = 2048;
	uint64_t seed = 0xd1237 + format;
	struct iof_pt_gather g = { 0 };
	struct iof_alloc a;
	struct iof_pt *pt;
	unsigned dirty = 0;

	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_pt_create(&cfg, &a, &pt), 0);
	for (int i = 0; i < 3000; i++) {
		uint64_t at = check_random(&seed) % items * granule, n = (1 + check_random(&seed) % 64) * granule;
		struct iof_range r = { at, at + check_random(&seed) % (items * granule - at) };

		switch (check_random(&seed) % 8) {
		case 0: /* so many sizes of leaves as there are */
			n = granule << check_random(&seed) % 11;
			at &= ~(n - 1);
			iof_pt_map(pt, at, at + (UINT64_C(1) << 30), n, IOF_PROT_READ | IOF_PROT_WRITE, &g);
			break;
		case 1:
			iof_pt_map(pt, at, at + (UINT64_C(1) << 31) + granule * (check_random(&seed) % 9), n,
				   IOF_PROT_READ | IOF_PROT_WRITE, &g);
			break;
		case 2:
			iof_pt_unmap(pt, at, n, &g);
			break;
		case 3:
			compare(pt, granule_lg2, r, check_random(&seed) % 4 == 0);
			break;
		default:
			for (unsigned k = 0; k < 8; k++)
				dirty += !iof_pt_set_dirty(pt, check_random(&seed) % (items * granule));
		}
		iof_pt_release(pt, &g);
		g = (struct iof_pt_gather){ 0 };
	}
	CHECK(dirty > 1000);
	compare(pt, granule_lg2, (struct iof_range){ 0, items * granule - 1 }, true);
	iof_pt_destroy(pt);
	CHECK_EQ(atomic_load(&a.live_blocks), 0);
}

TEST(scan_against_the_rule_vtd)
{
	against_the_rule(IOF_PT_VTDSS, 12);
}

TEST(scan_against_the_rule_amd)
{
	against_the_rule(IOF_PT_AMDV1, 12);
}

TEST(scan_against_the_rule_mock)
{
	against_the_rule(IOF_PT_MOCK, 11);
}
