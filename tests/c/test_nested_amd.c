/* SPDX-License-Identifier: Apache-2.0 */
/* Nested tables of the soft AMD IOMMU: device table entries on a vIOMMU, the guest's table of PASIDs; and what riscv says to all of it. */
#include <errno.h>

#include "guest_rig.h"

#define VA UINT64_C(0x7000001000)
#define GIOV (UINT64_C(1) << 54)
#define GV (UINT64_C(1) << 55)
#define GLX(n) ((uint64_t)(n) << 56)

static struct guest g;

struct dte {
	uint64_t word[4];
};

static struct dte dte_of(uint64_t gcr3, uint64_t flags, uint16_t domain)
{
	struct dte d = { { 1 | GV | flags | (gcr3 >> 12 & 7) << 58,
			   domain | (gcr3 >> 15 & 0xffff) << 16 | gcr3 >> 31 << 43, 0, 0 } };

	return d;
}

static int amd_new(const struct dte *d, uint32_t *id)
{
	return nested_new(&g, g.viommu, 3, d, sizeof(*d), 0, 0, id);
}

/* A table whose VA leads to a page full of `byte`. */
static uint64_t table_to(uint8_t byte)
{
	uint64_t root = guest_page(&g), page = guest_page(&g);

	memset(guest_at(&g, page), byte, PAGE);
	guest_map(&g, root, VA, page);
	return root;
}

static void open_guest(void)
{
	guest_open(&g, IOF_PRESET_AMD, 0);
	CHECK_EQ(viommu_new(&g, 77, &g.viommu), 0); /* any type */
}

TEST(what_is_refused)
{
	struct dte d;
	uint32_t id, n = 1;
	uint64_t gcr3;

	open_guest();
	gcr3 = guest_page(&g);
	d = dte_of(gcr3, GIOV, 1);
	CHECK_EQ(nested_new(&g, g.parent, 3, &d, sizeof(d), 0, 0, &id), -EOPNOTSUPP); /* on vIOMMUs only */
	CHECK_EQ(nested_new(&g, g.viommu, 1, &d, sizeof(d), 0, 0, &id), -EOPNOTSUPP);
	CHECK_EQ(nested_new(&g, g.viommu, 3, &d, 31, 0, 0, &id), -EINVAL);
	CHECK_EQ(nested_new(&g, g.viommu, 3, &d, 32, IOF_HWPT_DIRTY_TRACKING, 0, &id), -EOPNOTSUPP);
#define REFUSED(word_, bits, rc)                                                                                       \
	do {                                                                                                           \
		struct dte bad = d;                                                                                    \
		bad.word[word_] |= (bits);                                                                             \
		CHECK_EQ(amd_new(&bad, &id), rc);                                                                      \
	} while (0)
	REFUSED(0, 2 << 9, -EINVAL); /* a host table's mode and root */
	REFUSED(0, 1 << 12, -EINVAL);
	REFUSED(0, GLX(3), -EINVAL);
	REFUSED(2, UINT64_C(2) << 54, -EINVAL);
	d = dte_of(0, 0, 1);
	CHECK_EQ(amd_new(&d, &id), -EINVAL);
	d.word[0] &= ~GV;
	CHECK_EQ(amd_new(&d, &id), 0);
	CHECK_EQ(invalidate_of(&g, id, 0, &d, 24, &n), -EOPNOTSUPP); /* no such command yet */
	CHECK_EQ(invalidate_of(&g, g.viommu, 1, &d, 16, &n), -EOPNOTSUPP);
	CHECK_EQ(destroy(g.ctx, g.viommu), -EBUSY);
	CHECK_EQ(destroy(g.ctx, id), 0);
	CHECK_EQ(destroy(g.ctx, g.viommu), 0);
	guest_close(&g);
}

TEST(one_level_of_pasids)
{
	uint32_t id;
	uint64_t gcr3;
	struct iof_dma d;
	struct dte dte;

	open_guest();
	gcr3 = guest_page(&g);
	guest_at(&g, gcr3)[0] = table_to(10) | 1;
	guest_at(&g, gcr3)[5] = table_to(15) | 1;
	dte = dte_of(gcr3, GIOV, 1);
	CHECK_EQ(amd_new(&dte, &id), 0);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek(&g, VA), 10);
	CHECK_EQ(peek_as(&g, 5, VA, NULL), 15);
	CHECK_EQ(peek_as(&g, 6, VA, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 1 && d.fault_fetch == 254 && d.fault_address == gcr3 + 6 * 8);
	CHECK_EQ(peek_as(&g, 512, VA, NULL), -IOF_DMA_BLOCKED);
	/* a new entry of the table is found, a changed one not before the next attach */
	guest_at(&g, gcr3)[6] = table_to(16) | 1;
	CHECK_EQ(peek_as(&g, 6, VA, NULL), 16);
	guest_at(&g, gcr3)[5] = table_to(25) | 1;
	CHECK_EQ(peek_as(&g, 5, VA, NULL), 15);
	CHECK_EQ(detach(g.dev), 0);
	CHECK_EQ(peek_as(&g, 5, VA, NULL), -IOF_DMA_BLOCKED);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek_as(&g, 5, VA, NULL), 25);
	guest_close(&g);
}

TEST(three_levels_and_five_level_tables)
{
	uint64_t top, middle, low, root, page;
	uint32_t id, pasid = 3 << 18 | 4 << 9 | 5;
	struct dte dte;

	open_guest();
	top = guest_page(&g), middle = guest_page(&g), low = guest_page(&g), root = guest_page(&g), page = guest_page(&g);
	memset(guest_at(&g, page), 0x42, PAGE);
	*guest_entry(&g, root, 4, UINT64_C(1) << 50, 0) = page | g.leaf;
	guest_at(&g, top)[3] = middle | 1;
	guest_at(&g, middle)[4] = low | 1;
	guest_at(&g, low)[5] = root | 1;
	dte = dte_of(top, GLX(2), 1);
	dte.word[2] = UINT64_C(1) << 54;
	CHECK_EQ(amd_new(&dte, &id), 0);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek_as(&g, pasid, UINT64_C(1) << 50, NULL), 0x42);
	CHECK_EQ(peek(&g, page), 0x42); /* without GIOV: the second stage alone */
	guest_close(&g);
}

static int attach_as(uint32_t pasid, uint32_t pt)
{
	struct iof_cmd_attach c = { .argsz = sizeof(c), .flags = IOF_ATTACH_PASID, .pt_id = pt, .pasid = pasid };

	return iof_ioctl(g.dev, IOF_CMD_DEVICE_ATTACH_PT, &c);
}

TEST(pasids_are_the_guests)
{
	uint32_t id;
	struct dte dte;

	open_guest();
	dte = dte_of(guest_page(&g), GIOV, 1);
	CHECK_EQ(nested_new(&g, g.viommu, 3, &dte, sizeof(dte), IOF_HWPT_PASID, 0, &id), 0);
	CHECK_EQ(attach_as(5, id), -EOPNOTSUPP);
	guest_close(&g);
}

/* Two tables with one domain number share what is remembered, as the guest said they may. */
TEST(domain_numbers)
{
	uint32_t one, same, other;
	uint64_t a, b;
	struct dte d;

	open_guest();
	a = guest_page(&g), b = guest_page(&g);
	guest_at(&g, a)[0] = table_to(1) | 1;
	guest_at(&g, b)[0] = table_to(2) | 1;
	d = dte_of(a, GIOV, 9);
	CHECK_EQ(amd_new(&d, &one), 0);
	d = dte_of(b, GIOV, 9);
	CHECK_EQ(amd_new(&d, &same), 0);
	d = dte_of(b, GIOV, 10);
	CHECK_EQ(amd_new(&d, &other), 0);
	CHECK_EQ(attach(g.dev, one, NULL), 0);
	CHECK_EQ(peek(&g, VA), 1);
	iof_iotlb_drop_invalidations(g.m, true); /* attaching empties; not this time */
	CHECK_EQ(attach(g.dev, same, NULL), 0);
	CHECK_EQ(peek(&g, VA), 1);
	CHECK_EQ(attach(g.dev, other, NULL), 0);
	CHECK_EQ(peek(&g, VA), 2);
	iof_iotlb_drop_invalidations(g.m, false);
	CHECK_EQ(attach(g.dev, one, NULL), 0);
	CHECK_EQ(destroy(g.ctx, same), 0);
	CHECK_EQ(peek(&g, VA), 1);
	guest_close(&g);
}

/* Linux's driver has no flags, no data, no information, no PASIDs. */
TEST(riscv)
{
	struct iof_cmd_get_hw_info info = { .size = sizeof(info), .data_len = 8 };
	struct vtd_s1 s1 = { .width = 48 };
	uint64_t bytes = 1, iova;
	struct iof_hwpt_stats stats;
	uint32_t id;

	guest_open(&g, IOF_PRESET_RISCV, 0);
	for (uint32_t flags = 1; flags < 16; flags++)
		CHECK_EQ(parent_new(&g, flags, &id), -EOPNOTSUPP);
	CHECK_EQ(nested_new(&g, g.ioas, 1, &s1, sizeof(s1), 0, 0, &id), -EOPNOTSUPP);
	CHECK_EQ(parent_new(&g, 0, &g.parent), 0);
	CHECK_EQ(nested_new(&g, g.parent, 1, &s1, sizeof(s1), 0, 0, &id), -EOPNOTSUPP);
	CHECK_EQ(viommu_new(&g, 1, &id), -EOPNOTSUPP);
	info.dev_id = g.dev_id;
	info.data_uptr = (uintptr_t)&bytes;
	CHECK_EQ(iof_ioctl(g.ctx, IOF_CMD_GET_HW_INFO, &info), 0);
	CHECK(info.data_type == 0 && info.data_len == 0 && bytes == 0 && info.out_capabilities == 8 && !info.out_max_pasid_log2);
	CHECK_EQ(attach(g.dev, g.parent, NULL), 0);
	CHECK_EQ(attach_as(1, g.parent), -EOPNOTSUPP);
	CHECK_EQ(iof_hwpt_stats(g.ctx, g.parent, &stats), 0);
	CHECK(stats.aperture_start == 0 && stats.aperture_last == (UINT64_C(1) << 47) - 1 && stats.page_sizes == 0x8040211000);
	memset(g.ram, 3, PAGE);
	CHECK_EQ(peek(&g, GPA), 3);
	CHECK_EQ(iof_msi_address(g.dev, 0xfee00000, &iova), 0);
	CHECK_EQ(iova, 0xfee00000);
	guest_close(&g);
}
