// SPDX-License-Identifier: Apache-2.0
/* Page tables against an array of pages: random maps and unmaps, dirty bits, and every failure point of a sequence. */
#include <errno.h>

#include "check.h"
#include "pagetable/pagetable.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define PAGES 8192u /* of 4 KiB; 32 MiB, 16 lowest tables */
#define BASE UINT64_C(0x7ffe000000) /* crosses a 512 GiB boundary of VT-d's and AMD's tables */
#define MEMORY UINT64_C(0x345600000000)

/* For each page: the address it maps to, 0 for none; and the leaf it belongs to. */
struct page {
	uint64_t address;
	uint32_t leaf_start, leaf_pages;
};

struct model {
	struct iof_alloc alloc;
	struct iof_pt *pt;
	struct iof_pt_gather g;
	uint64_t seed;
	uint64_t base;
	bool blocks; /* ARM's rules */
	struct page pages[PAGES];
	bool tables[PAGES / 512]; /* of ARM: which lowest tables are there, empty or not */
};

static struct model m;

static void model_open(struct iof_pt_config cfg, uint64_t base)
{
	memset(&m, 0, sizeof(m));
	iof_alloc_init_heap(&m.alloc);
	m.seed = 0x9e3779b97f4a7c15;
	m.base = base;
	m.blocks = cfg.format == IOF_PT_ARM_S1 || cfg.format == IOF_PT_ARM_S2;
	CHECK_EQ(iof_pt_create(&cfg, &m.alloc, &m.pt), 0);
}

static void model_close(void)
{
	iof_pt_release(m.pt, &m.g);
	CHECK(iof_pt_is_valid(m.pt));
	iof_pt_destroy(m.pt);
	CHECK_EQ(m.alloc.live_blocks, 0);
	CHECK_EQ(m.alloc.live_bytes, 0);
}

/* The leaf that the rules choose at a page, in pages. */
static uint32_t rule_leaf(uint64_t iova, uint64_t address, uint64_t pages)
{
	uint64_t sizes = iof_pt_page_sizes(m.pt);
	uint64_t best = 0;

	for (unsigned s = 12; s < 40; s++) {
		uint64_t size = UINT64_C(1) << s;

		if ((sizes & size) && !((iova | address) & (size - 1)) && size <= pages * 4096)
			best = size;
	}
	return best / 4096;
}

static void set_leaf(uint32_t at, uint32_t n, uint64_t address)
{
	for (uint32_t k = 0; k < n; k++)
		m.pages[at + k] = (struct page){ address + k * UINT64_C(4096), at, n };
}

/* ARM's: a block takes the place of a table and all that is in it; only a leaf in its way is refused. */
static int blocks_put(uint32_t at, uint32_t n, uint64_t address)
{
	if (n < 512) {
		if (m.pages[at].leaf_pages >= 512)
			return -EEXIST;
		m.tables[at / 512] = true;
		for (uint32_t k = 0; k < n; k++)
			if (m.pages[at + k].address)
				return -EEXIST;
	} else {
		if (m.pages[at].leaf_pages >= 512)
			return -EEXIST;
		m.tables[at / 512] = false;
	}
	set_leaf(at, n, address);
	return 0;
}

/* ARM's: by blocks as if mapped to itself; a table goes with all that is in it. */
static uint64_t blocks_unmap(uint32_t first, uint32_t pages)
{
	uint32_t i = first, n;

	for (; i < first + pages; i += n) {
		uint64_t iova = m.base + i * UINT64_C(4096);

		n = rule_leaf(iova, iova, first + pages - i);
		if (m.pages[i].leaf_pages > n || (!m.pages[i].address && !(n == 512 && m.tables[i / 512])))
			break;
		if (n < 512 && m.pages[i].leaf_pages < n)
			n = m.pages[i].leaf_pages;
		memset(&m.pages[i], 0, n * sizeof(struct page));
		if (n == 512)
			m.tables[i / 512] = false;
	}
	return (i - first) * UINT64_C(4096);
}

static int blocks_map(uint32_t first, uint32_t pages, uint64_t address)
{
	for (uint32_t i = 0, n; i < pages; i += n) {
		int err;

		n = rule_leaf(m.base + (first + i) * UINT64_C(4096), address + i * UINT64_C(4096), pages - i);
		err = blocks_put(first + i, n, address + i * UINT64_C(4096));
		if (err) {
			blocks_unmap(first, i);
			return err;
		}
	}
	return 0;
}

static void blocks_trim(void)
{
	for (uint32_t t = 0; t < PAGES / 512; t++) {
		bool used = false;

		for (uint32_t i = t * 512; i < t * 512 + 512; i++)
			used = used || (m.pages[i].address && m.pages[i].leaf_pages < 512);
		m.tables[t] = m.tables[t] && used;
	}
}

static int model_map(uint32_t first, uint32_t pages, uint64_t address)
{
	if (m.blocks)
		return blocks_map(first, pages, address);
	for (uint32_t i = first; i < first + pages; i++)
		if (m.pages[i].address)
			return -EADDRINUSE;
	for (uint32_t i = 0; i < pages;) {
		uint32_t n = rule_leaf(m.base + (first + i) * UINT64_C(4096), address + i * UINT64_C(4096), pages - i);

		set_leaf(first + i, n, address + i * UINT64_C(4096));
		i += n;
	}
	return 0;
}

static uint64_t model_unmap(uint32_t first, uint32_t pages)
{
	uint32_t i = first;

	if (m.blocks)
		return blocks_unmap(first, pages);
	while (i < first + pages && i < PAGES) {
		uint32_t n = m.pages[i].leaf_pages;

		if (!n || m.pages[i].leaf_start != i)
			break;
		memset(&m.pages[i], 0, n * sizeof(struct page));
		i += n;
	}
	return (i - first) * UINT64_C(4096);
}

static void compare_page(uint32_t i)
{
	uint64_t iova = m.base + i * UINT64_C(4096);
	struct iof_pt_leaf leaf;

	if (!m.pages[i].address) {
		CHECK_EQ(iof_pt_walk(m.pt, iova, &leaf), -ENOENT);
		CHECK_EQ(iof_pt_translate(m.pt, iova, NULL), UINT64_MAX);
		return;
	}
	CHECK_EQ(iof_pt_walk(m.pt, iova + 5, &leaf), 0);
	CHECK_EQ(leaf.iova, m.base + m.pages[i].leaf_start * UINT64_C(4096));
	CHECK_EQ(UINT64_C(1) << leaf.size_lg2, m.pages[i].leaf_pages * UINT64_C(4096));
	CHECK_EQ(leaf.address + (iova - leaf.iova), m.pages[i].address);
	CHECK_EQ(iof_pt_translate(m.pt, iova + 5, NULL), m.pages[i].address + 5);
}

static void compare_all(void)
{
	uint64_t at = m.base, last = m.base + PAGES * UINT64_C(4096) - 1, leaves = 0, expected = 0;
	struct iof_pt_leaf leaf;

	for (uint32_t i = 0; i < PAGES; i++) {
		compare_page(i);
		expected += m.pages[i].leaf_pages && m.pages[i].leaf_start == i;
	}
	for (; !iof_pt_next_leaf(m.pt, (struct iof_range){ at, last }, &leaf); leaves++) {
		CHECK_EQ(m.pages[(leaf.iova - m.base) / 4096].leaf_start, (leaf.iova - m.base) / 4096);
		at = leaf.iova + (UINT64_C(1) << leaf.size_lg2);
	}
	CHECK_EQ(leaves, expected);
	CHECK(iof_pt_is_valid(m.pt));
}

/*
 * Half of the maps share their alignment with memory, so that large leaves appear; lengths run from a page to a quarter
 * of all.
 */
static void random_step(void)
{
	uint64_t r = check_random(&m.seed);
	uint32_t first = r % PAGES, room = PAGES - first, pages = 1 + (r >> 20) % (1u << (r >> 60) % 12);
	uint64_t alike = first * UINT64_C(4096) + (m.base & 0x3fffffff);
	uint64_t address = MEMORY + (r >> 63 ? alike : (r >> 40 & 0xfff) * 4096);

	if (r >> 59 & 1)
		first &= ~UINT32_C(511), room = PAGES - first;
	pages = pages < room ? pages : room;
	if (r >> 62 & 1)
		CHECK_EQ(iof_pt_map(m.pt, m.base + first * UINT64_C(4096), address, pages * UINT64_C(4096), RW, &m.g),
			 model_map(first, pages, address));
	else
		CHECK_EQ(iof_pt_unmap(m.pt, m.base + first * UINT64_C(4096), pages * UINT64_C(4096), &m.g),
			 model_unmap(first, pages));
	if (!(r >> 50 & 7))
		iof_pt_release(m.pt, &m.g);
	if (!(r >> 50 & 127)) {
		iof_pt_trim(m.pt, &m.g);
		iof_pt_release(m.pt, &m.g);
		blocks_trim();
	}
}

static void random_model(struct iof_pt_config cfg, uint64_t base, unsigned steps)
{
	model_open(cfg, base);
	for (unsigned i = 0; i < steps; i++) {
		random_step();
		if (i % 50 == 0)
			compare_all();
		else
			CHECK(iof_pt_is_valid(m.pt));
	}
	compare_all();
	model_close();
}

static const struct iof_pt_config VTDSS = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
static const struct iof_pt_config GROWING = { .format = IOF_PT_AMDV1, .top_level = 1, .features = IOF_PT_GROWING_TOP };
static const struct iof_pt_config MOCK = { .format = IOF_PT_MOCK, .top_level = 2, .page_sizes = 0x3ffff000 };

TEST(random_vtdss)
{
	random_model(VTDSS, BASE, 3000);
}

TEST(random_amdv1)
{
	random_model(GROWING, BASE, 3000);
}

TEST(random_mock)
{
	random_model(MOCK, UINT64_C(0x3ffe000000), 3000);
}

static const struct iof_pt_config X86 = { .format = IOF_PT_X86_64, .va_lg2 = 48, .features = IOF_PT_SIGN_EXTEND };
static const struct iof_pt_config SV48 = { .format = IOF_PT_RISCV64, .va_lg2 = 48, .features = IOF_PT_NAPOT };
static const struct iof_pt_config SV39X4 = { .format = IOF_PT_RISCV64_X4, .va_lg2 = 41 };
static const struct iof_pt_config ARM_S1 = { .format = IOF_PT_ARM_S1 };
static const struct iof_pt_config ARM_S2 = { .format = IOF_PT_ARM_S2, .va_lg2 = 40, .oa_lg2 = 48, .top_level = 2 };

TEST(random_x86_64)
{
	random_model(X86, BASE, 1500);
	random_model(X86, UINT64_C(0xffffff7ffe000000), 1500); /* in the upper half, over a border of tables */
	random_model(X86, -(uint64_t)PAGES * 4096, 500); /* up to the end of all */
}

TEST(random_riscv64)
{
	random_model(SV48, BASE, 1500);
	random_model(SV39X4, BASE, 1500); /* from one table of the root into the next */
}

TEST(random_arm)
{
	struct iof_pt_config s2 = ARM_S2;

	random_model(ARM_S1, BASE, 3000);
	random_model(ARM_S2, BASE, 1500);
	s2.features = IOF_PT_CONTIGUOUS;
	s2.page_sizes = 4096 | 65536 | 2 << 20;
	random_model(s2, BASE, 3000);
}

/* What a table translates, as one number: the leaves, not the tables, since a failed map may leave those. */
static uint64_t leaf_digest(void)
{
	struct iof_pt_leaf leaf;
	uint64_t at = 0, h = 1469598103934665603u;

	while (!iof_pt_next_leaf(m.pt, (struct iof_range){ at, UINT64_MAX }, &leaf)) {
		h = (h ^ leaf.iova) * 1099511628211u;
		h = (h ^ leaf.address ^ (uint64_t)leaf.size_lg2 << 56) * 1099511628211u;
		at = leaf.iova + (UINT64_C(1) << leaf.size_lg2);
	}
	return h;
}

/* Sweeps one map that needs tables at every level: the n-th allocation fails, for every n. */
static void failure_sweep(struct iof_pt_config cfg, uint64_t base)
{
	uint64_t before;
	int64_t n = 0;
	int err;

	model_open(cfg, base);
	CHECK_EQ(iof_pt_map(m.pt, base, MEMORY, 4096, RW, &m.g), 0);
	before = leaf_digest();
	do {
		iof_alloc_fail_nth(&m.alloc, ++n);
		err = iof_pt_map(m.pt, base + (UINT64_C(1) << 36) - 8192, MEMORY + 4096, UINT64_C(40) << 20, RW, &m.g);
		iof_pt_release(m.pt, &m.g);
		CHECK(iof_pt_is_valid(m.pt));
		if (err) {
			CHECK_EQ(err, -ENOMEM);
			CHECK_EQ(leaf_digest(), before);
			iof_pt_trim(m.pt, &m.g);
			iof_pt_release(m.pt, &m.g);
			iof_pt_trim(m.pt, &m.g);
			CHECK(iof_pt_is_valid(m.pt));
		}
	} while (err);
	CHECK(n > 10);
	CHECK(iof_alloc_fail_nth(&m.alloc, 0) > 0);
	model_close();
}

TEST(failure_sweep_of_map)
{
	failure_sweep(VTDSS, 0);
	failure_sweep(GROWING, 0);
	failure_sweep(MOCK, 0);
	failure_sweep(X86, UINT64_C(0xffff800000000000));
	failure_sweep(SV39X4, 0);
	failure_sweep(ARM_S2, 0);
}

TEST(failure_sweep_of_create)
{
	struct iof_alloc a;
	struct iof_pt *pt;
	int64_t n = 0;
	int err;

	iof_alloc_init_heap(&a);
	do {
		iof_alloc_fail_nth(&a, ++n);
		err = iof_pt_create(&VTDSS, &a, &pt);
		CHECK(!err || err == -ENOMEM);
		CHECK(!err || !a.live_blocks);
	} while (err);
	CHECK(n > 3);
	iof_alloc_fail_nth(&a, 0);
	iof_pt_destroy(pt);
	CHECK_EQ(a.live_blocks, 0);
	for (n = 1; (iof_alloc_fail_nth(&a, n), err = iof_pt_create(&SV39X4, &a, &pt)); n++) /* its root is no pool's */
		CHECK(err == -ENOMEM && !a.live_blocks);
	CHECK(n > 2);
	iof_alloc_fail_nth(&a, 0);
	iof_pt_destroy(pt);
	CHECK_EQ(a.live_blocks, 0);
}

/* From a thousand tables up, what the pool holds is at most 2 % more than what is linked. */
TEST(table_memory_is_close_to_need)
{
	struct iof_pt_config cfg = VTDSS;
	struct iof_pt_stats s;
	uint64_t at = 0;

	cfg.page_sizes = 4096;
	model_open(cfg, 0);
	iof_pt_stats(m.pt, &s);
	CHECK(s.table_bytes <= 16384);
	for (unsigned i = 0; i < 3000; i++, at += 2 << 20) {
		CHECK_EQ(iof_pt_map(m.pt, at, MEMORY + at, 4096, RW, &m.g), 0);
		if (i < 1000 || i % 64)
			continue;
		iof_pt_stats(m.pt, &s);
		CHECK(s.table_bytes <= s.tables * 4096 + s.tables * 4096 / 50);
	}
	CHECK_EQ(iof_pt_unmap(m.pt, 0, 4096, &m.g), 4096);
	iof_pt_release(m.pt, &m.g);
	model_close();
}

TEST(trim_gives_memory_back)
{
	struct iof_pt_stats s;
	uint64_t length = UINT64_C(3) << 30;

	model_open(VTDSS, 0);
	CHECK_EQ(iof_pt_map(m.pt, 0, MEMORY + 4096, length, RW, &m.g), 0);
	CHECK_EQ(iof_pt_unmap(m.pt, 0, length, &m.g), length);
	iof_pt_release(m.pt, &m.g);
	iof_pt_stats(m.pt, &s);
	CHECK(s.recycled_tables >= 1536);
	iof_pt_trim(m.pt, &m.g);
	iof_pt_release(m.pt, &m.g);
	iof_pt_trim(m.pt, &m.g);
	iof_pt_stats(m.pt, &s);
	CHECK_EQ(s.tables, 1);
	CHECK(s.table_bytes <= 16384);
	model_close();
}

struct report {
	unsigned count;
	uint64_t start[8], length[8];
};

static void on_dirty(void *ctx, uint64_t start, uint64_t length)
{
	struct report *r = ctx;

	if (r->count < 8) {
		r->start[r->count] = start;
		r->length[r->count] = length;
	}
	r->count++;
}

static struct report read_dirty(uint64_t start, uint64_t last, bool clear, bool exact)
{
	struct report r = { 0 };

	CHECK_EQ(iof_pt_read_dirty(m.pt, (struct iof_range){ start, last }, clear, exact, on_dirty, &r), 0);
	return r;
}

TEST(dirty_of_single_items)
{
	struct iof_pt_leaf leaf;
	struct report r;

	model_open(VTDSS, 0);
	CHECK_EQ(iof_pt_map(m.pt, 0x200000, MEMORY, 0x400000, RW, &m.g), 0); /* two 2 MiB leaves */
	CHECK_EQ(iof_pt_map(m.pt, 0x600000, MEMORY + 4096, 0x3000, RW, &m.g), 0);
	CHECK_EQ(iof_pt_set_dirty(m.pt, 0x100000), -ENOENT);
	CHECK_EQ(iof_pt_set_dirty(m.pt, UINT64_C(1) << 50), -ENOENT);
	CHECK_EQ(iof_pt_set_dirty(m.pt, 0x312345), 0);
	CHECK_EQ(iof_pt_set_dirty(m.pt, 0x601000), 0);
	CHECK_EQ(iof_pt_walk(m.pt, 0x601fff, &leaf), 0);
	CHECK(leaf.dirty);
	r = read_dirty(0, (UINT64_C(1) << 48) - 1, false, false);
	CHECK_EQ(r.count, 2);
	CHECK_EQ(r.start[0], 0x200000);
	CHECK_EQ(r.length[0], 0x200000);
	CHECK_EQ(r.start[1], 0x601000);
	CHECK_EQ(r.length[1], 0x1000);
	r = read_dirty(0x300000, 0x3fffff, true, false); /* starts inside: from there, and a whole item long */
	CHECK_EQ(r.start[0], 0x300000);
	CHECK_EQ(r.length[0], 0x200000);
	r = read_dirty(0, (UINT64_C(1) << 48) - 1, true, true);
	CHECK_EQ(r.count, 1);
	CHECK_EQ(r.start[0], 0x601000);
	CHECK_EQ(read_dirty(0, (UINT64_C(1) << 48) - 1, true, true).count, 0);
	CHECK_EQ(iof_pt_read_dirty(m.pt, (struct iof_range){ 0, UINT64_C(1) << 48 }, true, true, on_dirty, &r),
		 -ERANGE);
	model_close();
}

/* The quirk: a leaf of N items reports N - 1, seen from its start; `exact` reports it whole. */
TEST(dirty_of_leaves_of_several_items)
{
	struct report r;

	model_open(MOCK, 0);
	CHECK_EQ(iof_pt_map(m.pt, 0x4000, MEMORY, 0x4000, RW, &m.g), 0); /* one 16 KiB leaf of eight items */
	CHECK_EQ(iof_pt_map(m.pt, 0x10000, MEMORY + 4096, 0x1000, RW, &m.g), 0);
	CHECK_EQ(iof_pt_set_dirty(m.pt, 0x7800), 0); /* its last item only */
	CHECK_EQ(iof_pt_set_dirty(m.pt, 0x10000), 0);
	r = read_dirty(0, 0xfffff, false, false);
	CHECK_EQ(r.count, 2);
	CHECK_EQ(r.start[0], 0x4000);
	CHECK_EQ(r.length[0], 0x3800);
	CHECK_EQ(r.start[1], 0x10000);
	CHECK_EQ(r.length[1], 0x800);
	r = read_dirty(0x5000, 0x57ff, false, false); /* one item in the middle */
	CHECK_EQ(r.start[0], 0x5000);
	CHECK_EQ(r.length[0], 0x800);
	CHECK_EQ(read_dirty(0x7800, 0x7fff, false, false).count, 0); /* the last item: nothing */
	r = read_dirty(0x7800, 0x7fff, true, true);
	CHECK_EQ(r.count, 1);
	CHECK_EQ(r.start[0], 0x4000);
	CHECK_EQ(r.length[0], 0x4000);
	CHECK_EQ(read_dirty(0, 0xffff, false, true).count, 0);
	CHECK_EQ(read_dirty(0, 0xfffff, false, true).count, 1);
	model_close();
}

/* The last page of a 64-bit space: nothing wraps. */
TEST(dirty_at_the_end_of_all)
{
	struct report r;

	model_open(GROWING, 0);
	CHECK_EQ(iof_pt_map(m.pt, UINT64_MAX - 0xffff, MEMORY, 0x10000, RW, &m.g), 0);
	CHECK_EQ(iof_pt_set_dirty(m.pt, UINT64_MAX), 0);
	r = read_dirty(0, UINT64_MAX, true, true);
	CHECK_EQ(r.count, 1);
	CHECK_EQ(r.start[0], UINT64_MAX - 0xffff);
	CHECK_EQ(iof_pt_unmap(m.pt, UINT64_MAX - 0xffff, 0x10000, &m.g), 0x10000);
	model_close();
}

TEST(translate_many_with_holes)
{
	uint64_t iovas[100], addresses[100];
	uint8_t prots[100];

	model_open(VTDSS, 0);
	for (unsigned i = 0; i < 100; i += 2)
		CHECK_EQ(iof_pt_map(m.pt, i * 4096, MEMORY + i * 8192, 4096, i % 4 ? IOF_PROT_READ : RW, &m.g), 0);
	for (unsigned i = 0; i < 100; i++)
		iovas[i] = (99 - i) * 4096 + i;
	iovas[50] = UINT64_MAX;
	CHECK_EQ(iof_pt_translate_many(m.pt, iovas, 100, addresses, prots), 50);
	for (unsigned i = 0; i < 100; i++) {
		bool hole = i == 50 || (99 - i) % 2;

		CHECK_EQ(addresses[i], hole ? UINT64_MAX : MEMORY + (99 - i) * 8192 + i);
		CHECK_EQ(prots[i], hole ? 0 : (99 - i) % 4 ? IOF_PROT_READ : RW);
	}
	model_close();
}
