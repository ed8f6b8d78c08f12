// SPDX-License-Identifier: Apache-2.0
/*
 * Translating many IOVAs at once: every answer is that of a translation alone, whatever the batch's length and wherever
 * its IOVAs lie.
 */
#include "check.h"
#include "pagetable/pagetable.h"

#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define MEMORY UINT64_C(0x1230000000)
#define PLACES 64
#define MANY 700

/* Roots at every level, tops that grow, several roots side by side, both halves of a signed table. */
static const struct iof_pt_config configs[] = {
	{ .format = IOF_PT_VTDSS, .va_lg2 = 39 },
	{ .format = IOF_PT_VTDSS, .va_lg2 = 48 },
	{ .format = IOF_PT_VTDSS, .va_lg2 = 57 },
	{ .format = IOF_PT_AMDV1, .top_level = 1 },
	{ .format = IOF_PT_AMDV1, .top_level = 2 },
	{ .format = IOF_PT_AMDV1, .top_level = 1, .features = IOF_PT_GROWING_TOP },
	{ .format = IOF_PT_MOCK, .top_level = 2 },
	{ .format = IOF_PT_X86_64, .va_lg2 = 48, .features = IOF_PT_SIGN_EXTEND },
	{ .format = IOF_PT_X86_64, .va_lg2 = 57, .features = IOF_PT_SIGN_EXTEND },
	{ .format = IOF_PT_RISCV64, .va_lg2 = 39 },
	{ .format = IOF_PT_RISCV64, .va_lg2 = 57 },
	{ .format = IOF_PT_RISCV64_X4, .va_lg2 = 41 },
	{ .format = IOF_PT_RISCV64_X4, .va_lg2 = 59 },
	{ .format = IOF_PT_ARM_S1 },
	{ .format = IOF_PT_ARM_S1, .granule_lg2 = 14, .va_lg2 = 47 },
	{ .format = IOF_PT_ARM_S2, .granule_lg2 = 16, .va_lg2 = 42 },
	{ .format = IOF_PT_ARM_S2, .va_lg2 = 40, .oa_lg2 = 40 },
};

struct world {
	struct iof_alloc alloc;
	struct iof_pt *pt;
	struct iof_pt_gather g;
	struct iof_pt_config cfg;
	uint64_t seed, granule;
	uint64_t place[PLACES]; /* mapped stretches, of one granule or of a large leaf, far apart */
	uint64_t iovas[MANY], addresses[MANY];
	uint8_t prots[MANY];
};

static uint64_t somewhere(struct world *w)
{
	uint64_t iova = check_random(&w->seed) & iof_low_mask(w->cfg.va_lg2);
	uint64_t sign = UINT64_C(1) << (w->cfg.va_lg2 - 1);

	return w->cfg.features & IOF_PT_SIGN_EXTEND ? (iova ^ sign) - sign : iova;
}

/* Large leaves at every eighth place; some places fall together, which is no matter. */
static void map_places(struct world *w)
{
	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t large = w->granule == 4096 || w->granule == 2048 ? UINT64_C(2) << 20 : w->granule << 11;
		uint64_t size = i % 8 ? w->granule : large;

		w->place[i] = somewhere(w) & ~(size - 1);
		(void)iof_pt_map(w->pt, w->place[i], MEMORY + i * large, size, i % 3 ? RW : IOF_PROT_READ, &w->g);
	}
	for (uint64_t i = 0; i < 1024; i += 2) /* the first granule of tables in a row */
		(void)iof_pt_map(w->pt, i * (w->granule << 9), MEMORY + i * w->granule, w->granule, RW, &w->g);
}

/* Three kinds of stretches: near each other, at a regular distance, anywhere (mapped, beside, or outside the table). */
static void choose(struct world *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t r = check_random(&w->seed), place = w->place[r % PLACES];

		switch (i / 80 % 3) {
		case 0:
			w->iovas[i] = w->place[1] + (r >> 8) % (4 * w->granule);
			break;
		case 1:
			w->iovas[i] = (r >> 8) % 1024 * (w->granule << 9) + (r >> 40) % w->granule;
			break;
		default:
			w->iovas[i] = r >> 60 ? place + (r >> 8) % w->granule : check_random(&w->seed);
		}
	}
}

static void compare(struct world *w, size_t n, bool prots)
{
	size_t found = 0, got;

	choose(w, n);
	memset(w->prots, 0xee, sizeof(w->prots));
	got = iof_pt_translate_many(w->pt, w->iovas, n, w->addresses, prots ? w->prots : NULL);
	for (size_t i = 0; i < n; i++) {
		unsigned prot;
		uint64_t address = iof_pt_translate(w->pt, w->iovas[i], &prot);

		CHECK_EQ(w->addresses[i], address);
		CHECK_EQ(w->prots[i], prots ? prot : 0xee);
		found += address != UINT64_MAX;
	}
	CHECK_EQ(got, found);
	if (n == MANY)
		CHECK(found > n / 8 && found < n);
}

static void check_config(const struct iof_pt_config *cfg)
{
	static struct world w;

	memset(&w, 0, sizeof(w));
	w.seed = 88172645463325252u;
	iof_alloc_init_heap(&w.alloc);
	CHECK_EQ(iof_pt_create(cfg, &w.alloc, &w.pt), 0);
	iof_pt_config(w.pt, &w.cfg);
	w.granule = iof_pt_page_sizes(w.pt) & -iof_pt_page_sizes(w.pt);
	map_places(&w);
	for (size_t n = 0; n <= MANY; n += n < 3 ? 1 : n < 256 ? 21 : 74)
		compare(&w, n, n % 2);
	compare(&w, MANY, true);
	iof_pt_destroy(w.pt);
	CHECK_EQ(w.alloc.live_blocks, 0);
}

TEST(batches_answer_as_single_translations)
{
	for (unsigned i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
		check_config(&configs[i]);
}

/* An empty table, and IOVAs that are all outside. */
TEST(batches_of_nothing)
{
	const struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	struct iof_alloc alloc;
	struct iof_pt *pt;
	static uint64_t iovas[MANY], addresses[MANY];

	iof_alloc_init_heap(&alloc);
	CHECK_EQ(iof_pt_create(&cfg, &alloc, &pt), 0);
	CHECK_EQ(iof_pt_translate_many(pt, iovas, MANY, addresses, NULL), 0);
	for (unsigned i = 0; i < MANY; i++)
		iovas[i] = UINT64_MAX - i * UINT64_C(0x40000000);
	memset(addresses, 0, sizeof(addresses));
	CHECK_EQ(iof_pt_translate_many(pt, iovas, MANY, addresses, NULL), 0);
	CHECK_EQ(addresses[MANY - 1], UINT64_MAX);
	iof_pt_destroy(pt);
}
