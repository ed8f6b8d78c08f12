/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that mean no good: garbage for tables, descriptors and data, tables that point to themselves and to anywhere; and no memory at any point
 * of a life. What comes out is a fault or a byte of the guest's memory, never anything else.
 */
#include <errno.h>

#include "guest_rig.h"

static struct guest g;
static uint32_t nested;
static uint64_t seed = 0x5eed;

static uint64_t random_word(void)
{
	uint64_t r = check_random(&seed), page = GPA + r % RAM_PAGES * PAGE;

	switch (check_random(&seed) % 6) {
	case 0:
		return check_random(&seed);
	case 1: /* a table, mostly inside */
		return page | g.table;
	case 2:
		return page | g.leaf;
	case 3:
		return (page & ~UINT64_C(0x1fffff)) | g.large;
	case 4: /* a little wrong */
		return (page | g.leaf) ^ UINT64_C(1) << (r >> 32) % 64;
	default:
		return 0;
	}
}

static void fill_with_garbage(void)
{
	uint64_t *words = (uint64_t *)(void *)g.ram;

	for (size_t i = 0; i < RAM_PAGES * PAGE / 8; i++)
		words[i] = random_word();
}

static unsigned found, stopped;

static void look_around(uint32_t pasid, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		uint64_t iova = check_random(&seed) >> (check_random(&seed) % 52);
		int byte = peek_as(&g, i % 4 ? IOF_NO_PASID : pasid, iova, NULL);

		found += byte >= 0;
		stopped += byte < 0;
		if (byte >= 0 && i % 3 == 0)
			poke(&g, iova, (uint8_t)i);
	}
}

static int new_nested(enum iof_preset preset, uint64_t at)
{
	uint64_t dte[4] = { 1 | UINT64_C(3) << 54 | (at >> 12 & 7) << 58 | check_random(&seed) % 3 << 56,
			    1 | (at >> 15 & 0xffff) << 16 | at >> 31 << 43, (check_random(&seed) & 1) << 54, 0 };
	uint64_t ste[2] = { 1 | 5 << 1 | at | check_random(&seed) % 3 << 4 | check_random(&seed) % 3 * 5 << 59,
			    check_random(&seed) % 8 ? 2 : check_random(&seed) & 3 };

	switch (preset) {
	case IOF_PRESET_INTEL:
		return vtd_new(&g, at, 0, 0, &nested);
	case IOF_PRESET_AMD:
		return nested_new(&g, g.viommu, 3, dte, sizeof(dte), 0, 0, &nested);
	default:
		return nested_new(&g, g.viommu, 2, ste, sizeof(ste), 0, 0, &nested);
	}
}

static void garbage(enum iof_preset preset)
{
	uint32_t before = 0;

	guest_open(&g, preset, 0);
	if (preset != IOF_PRESET_INTEL)
		CHECK_EQ(viommu_new(&g, 1, &g.viommu), 0);
	if (preset == IOF_PRESET_ARM)
		CHECK_EQ(vdevice_new(&g, 1, &g.vdevice), 0);
	found = stopped = 0;
	for (unsigned round = 0; round < 60; round++) {
		uint64_t at = GPA + check_random(&seed) % RAM_PAGES * PAGE;

		fill_with_garbage();
		if (preset == IOF_PRESET_ARM) { /* a descriptor that is good enough to be followed */
			guest_at(&g, at)[0] = 16 | UINT64_C(1) << 31 | UINT64_C(5) << 32 | UINT64_C(1) << 41;
			guest_at(&g, at)[1] = GPA + 5 * PAGE;
		}
		CHECK_EQ(new_nested(preset, at), 0);
		CHECK_EQ(attach(g.dev, nested, NULL), 0);
		if (before)
			CHECK_EQ(destroy(g.ctx, before), 0);
		before = nested;
		look_around((uint32_t)check_random(&seed) % 300 + 1, 300);
		CHECK(iof_machine_is_valid(g.m));
	}
	printf("%u of %u led somewhere\n", found, found + stopped);
	CHECK(found && stopped);
	guest_close(&g);
}

TEST(garbage_intel)
{
	garbage(IOF_PRESET_INTEL);
}

TEST(garbage_amd)
{
	garbage(IOF_PRESET_AMD);
}

TEST(garbage_arm)
{
	garbage(IOF_PRESET_ARM);
}

TEST(a_table_that_is_its_own)
{
	uint64_t root;

	guest_open(&g, IOF_PRESET_INTEL, 0);
	root = guest_page(&g);
	for (unsigned i = 0; i < 512; i++)
		guest_at(&g, root)[i] = root | g.table;
	CHECK_EQ(vtd_new(&g, root, 0, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(peek(&g, UINT64_C(0x7fffffffffff)), (int)(*guest_at(&g, root) >> 56)); /* the table, as a page */
	CHECK_EQ(peek(&g, 0), (uint8_t)*guest_at(&g, root));
	guest_close(&g);
}

/* ---- no memory ---- */

#define STEP(call)                                                                                                     \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_) {                                                                                             \
			CHECK(rc_ == -ENOMEM || rc_ == -EINVAL || rc_ == -ENOENT); /* look-ups and regions fail so (chapter 12) */ \
			failures++;                                                                                    \
			CHECK(iof_machine_is_valid(g.m));                                                              \
			CHECK_EQ(iof_alloc_fail_nth(&g.heap, 0), 0);                                                   \
			CHECK_EQ((call), 0);                                                                           \
		}                                                                                                      \
	} while (0)

static unsigned failures;

static void life(enum iof_preset preset)
{
	uint32_t parent;
	uint64_t page = guest_page(&g), root = guest_page(&g), table = guest_page(&g);

	memset(guest_at(&g, page), 0x21, PAGE);
	guest_map(&g, root, 0x1000, page);
	guest_at(&g, table)[0] = preset == IOF_PRESET_AMD ? root | 1 :
							    (16 | UINT64_C(1) << 31 | UINT64_C(5) << 32 | UINT64_C(1) << 41);
	guest_at(&g, table)[1] = root;
	STEP(parent_new(&g, IOF_HWPT_NEST_PARENT, &parent));
	g.parent = parent;
	if (preset == IOF_PRESET_INTEL) {
		STEP(vtd_new(&g, root, 0, 0, &nested));
	} else {
		uint64_t dte[4] = { 1 | UINT64_C(3) << 54 | (table >> 12 & 7) << 58, 1 | (table >> 15 & 0xffff) << 16, 0, 0 };

		STEP(viommu_new(&g, 1, &g.viommu));
		STEP(vdevice_new(&g, 1, &g.vdevice));
		if (preset == IOF_PRESET_AMD)
			STEP(nested_new(&g, g.viommu, 3, dte, sizeof(dte), 0, 0, &nested));
		else
			STEP(nested_new(&g, g.viommu, 2, (uint64_t[]){ 1 | 5 << 1 | table, 0 }, 16, 0, 0, &nested));
	}
	STEP(attach(g.dev, nested, NULL));
	CHECK_EQ(peek(&g, 0x1000), 0x21);
	STEP(detach(g.dev));
	STEP(destroy(g.ctx, nested));
	if (preset != IOF_PRESET_INTEL) {
		STEP(destroy(g.ctx, g.vdevice));
		STEP(destroy(g.ctx, g.viommu));
	}
	STEP(destroy(g.ctx, parent));
}

static void sweep(enum iof_preset preset)
{
	int64_t n = 1;

	failures = 0;
	do {
		guest_open(&g, preset, 0);
		iof_alloc_fail_nth(&g.heap, n);
		life(preset);
		n = iof_alloc_fail_nth(&g.heap, 0) > 0 ? 0 : n + 1;
		guest_close(&g);
	} while (n);
	printf("%u failures\n", failures);
	CHECK(failures > 10);
}

TEST(no_memory)
{
	sweep(IOF_PRESET_INTEL);
	sweep(IOF_PRESET_AMD);
	sweep(IOF_PRESET_ARM);
}
