/* SPDX-License-Identifier: Apache-2.0 */
/* Nested tables of the soft SMMUv3: stream table entries, context descriptors, substreams, invalidation commands, events, MSIs. */
#include <errno.h>

#include "guest_rig.h"

#define VA UINT64_C(0x7000001000)
#define SID UINT64_C(0x155)
#define STE_ABORT 1
#define STE_BYPASS (1 | 4 << 1)
#define STE_TRANSLATE (1 | 5 << 1)
#define CDMAX(n) ((uint64_t)(n) << 59)
#define CD0(asid) (16 | UINT64_C(1) << 31 | UINT64_C(5) << 32 | UINT64_C(1) << 41 | UINT64_C(3) << 45 | (uint64_t)(asid) << 48)

static struct guest g;
static uint64_t root, data, cd;
static uint32_t nested;

static int smmu_new(uint64_t word0, uint64_t word1, uint32_t *id)
{
	return nested_new(&g, g.viommu, 2, (uint64_t[]){ word0, word1 }, 16, 0, 0, id);
}

static uint64_t table_to(uint8_t byte)
{
	uint64_t table = guest_page(&g), page = guest_page(&g);

	memset(guest_at(&g, page), byte, PAGE);
	guest_map(&g, table, VA, page);
	data = page;
	return table;
}

static void put_cd(uint64_t at, uint16_t asid, uint64_t table)
{
	guest_at(&g, at)[0] = CD0(asid);
	guest_at(&g, at)[1] = table;
}

static void open_guest(void)
{
	guest_open(&g, IOF_PRESET_ARM, 0);
	CHECK_EQ(viommu_new(&g, 1, &g.viommu), 0);
	cd = guest_page(&g);
	root = table_to(0x5a);
	put_cd(cd, 3, root);
}

static void open_attached(void)
{
	open_guest();
	CHECK_EQ(vdevice_new(&g, SID, &g.vdevice), 0);
	CHECK_EQ(smmu_new(STE_TRANSLATE | cd, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
}

static int command(uint64_t word0, uint64_t word1)
{
	uint32_t n = 1;

	return invalidate_of(&g, g.viommu, 1, (uint64_t[]){ word0, word1 }, 16, &n);
}

TEST(what_is_refused)
{
	uint32_t id, plain;

	open_guest();
	CHECK_EQ(viommu_new(&g, 2, &id), -EOPNOTSUPP);
	for (uint32_t flags = 3; flags < 12; flags++) /* a nest parent is nothing else besides; faults are not a parent's */
		if (flags & IOF_HWPT_NEST_PARENT)
			CHECK_EQ(parent_new(&g, flags, &id), -EOPNOTSUPP);
	CHECK_EQ(parent_new(&g, IOF_HWPT_DIRTY_TRACKING | IOF_HWPT_PASID, &plain), 0);
	CHECK_EQ(nested_new(&g, g.parent, 2, (uint64_t[2]){ 1 }, 16, 0, 0, &id), -EOPNOTSUPP);
	CHECK_EQ(nested_new(&g, g.viommu, 2, (uint64_t[2]){ 1 }, 16, IOF_HWPT_PASID, 0, &id), -EOPNOTSUPP);
	CHECK_EQ(nested_new(&g, g.viommu, 1, (uint64_t[2]){ 1 }, 16, 0, 0, &id), -EINVAL); /* the helper's word for a type */
	CHECK_EQ(nested_new(&g, g.viommu, 2, (uint64_t[2]){ 1 }, 15, 0, 0, &id), -EINVAL);
	CHECK_EQ(smmu_new(1 | 6 << 1, 0, &id), -EIO); /* second stage: not the guest's */
	CHECK_EQ(smmu_new(STE_TRANSLATE | UINT64_C(1) << 52, 0, &id), -EIO);
	CHECK_EQ(smmu_new(STE_TRANSLATE, UINT64_C(1) << 30, &id), -EIO);
	CHECK_EQ(smmu_new(STE_TRANSLATE, UINT64_C(2) << 28, &id), -EIO);
	CHECK_EQ(smmu_new(UINT64_C(0xff) << 52, ~UINT64_C(0), &id), 0); /* not valid: nothing else counts */
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_BLOCKED);
	CHECK_EQ(smmu_new(STE_TRANSLATE | cd, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), -ENOENT); /* no guest's id yet */
	CHECK_EQ(peek(&g, VA), -IOF_DMA_BLOCKED); /* still where it was */
	CHECK_EQ(vdevice_new(&g, SID, &g.vdevice), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	guest_close(&g);
}

TEST(bypass_and_abort)
{
	uint32_t bypass, abort_;

	open_guest();
	CHECK_EQ(smmu_new(STE_BYPASS, 0, &bypass), 0);
	CHECK_EQ(smmu_new(STE_ABORT, 0, &abort_), 0);
	CHECK_EQ(attach(g.dev, bypass, NULL), 0);
	CHECK_EQ(peek(&g, data), 0x5a);
	CHECK_EQ(attach(g.dev, abort_, NULL), 0);
	CHECK_EQ(peek(&g, data), -IOF_DMA_BLOCKED);
	guest_close(&g);
}

TEST(substreams)
{
	uint64_t cds, l1, l2;
	uint32_t id;

	open_guest();
	cds = guest_page(&g);
	put_cd(cds, 1, root);
	put_cd(cds + 5 * 64, 2, table_to(0x15));
	CHECK_EQ(vdevice_new(&g, SID, &g.vdevice), 0);
	CHECK_EQ(smmu_new(STE_TRANSLATE | cds | CDMAX(3), 2, &id), 0); /* without a substream: number 0 */
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	CHECK_EQ(peek_as(&g, 5, VA, NULL), 0x15);
	CHECK_EQ(peek_as(&g, 6, VA, NULL), -IOF_DMA_TABLE); /* an empty descriptor */
	CHECK_EQ(peek_as(&g, 8, VA, NULL), -IOF_DMA_BLOCKED);
	CHECK_EQ(smmu_new(STE_TRANSLATE | cds | CDMAX(3), 0, &id), 0);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_BLOCKED);
	CHECK_EQ(peek_as(&g, 5, VA, NULL), 0x15);
	CHECK_EQ(smmu_new(STE_TRANSLATE | cds | CDMAX(3), 1, &id), 0);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek(&g, data), 0x15); /* bypass */
	/* two levels */
	l1 = guest_page(&g), l2 = guest_page(&g);
	guest_at(&g, l1)[2] = l2 | 1;
	put_cd(l2 + 7 * 64, 4, table_to(0x27));
	CHECK_EQ(smmu_new(STE_TRANSLATE | l1 | CDMAX(10) | 1 << 4, 0, &id), 0);
	CHECK_EQ(attach(g.dev, id, NULL), 0);
	CHECK_EQ(peek_as(&g, 2 * 64 + 7, VA, NULL), 0x27);
	CHECK_EQ(peek_as(&g, 3 * 64, VA, NULL), -IOF_DMA_BLOCKED);
	guest_close(&g);
}

TEST(descriptors_are_checked)
{
	static const struct { uint64_t set, clear; } bad[] = {
		{ 0, UINT64_C(1) << 31 }, { 0, UINT64_C(1) << 41 }, { UINT64_C(1) << 15, 0 }, { UINT64_C(1) << 44, 0 },
		{ 3 << 6, 0 }, { 1, 16 }, { 63, 0 }, { UINT64_C(7) << 32, 0 },
	};
	struct iof_dma d;

	open_attached();
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		guest_at(&g, cd)[0] = (CD0(3) & ~bad[i].clear) | bad[i].set;
		CHECK_EQ(command(6 | (uint64_t)SID << 32, 0), 0);
		CHECK_EQ(peek_as(&g, IOF_NO_PASID, VA, &d), -IOF_DMA_TABLE);
		CHECK(d.fault_stage == 1 && d.fault_fetch == 254 && d.fault_address == cd);
	}
	guest_at(&g, cd)[0] = CD0(3) | 1 << 14; /* EPD0 */
	CHECK_EQ(peek(&g, VA), -IOF_DMA_UNMAPPED);
	guest_at(&g, cd)[0] = CD0(3) + 9; /* 39-bit addresses: a level less */
	guest_at(&g, cd)[1] = GPA + (RAM_PAGES + 3) * PAGE; /* outside */
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, 0x1000, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 2 && d.fault_fetch == 2);
	guest_close(&g);
}

static void refill(uint8_t byte)
{
	uint64_t page = guest_page(&g);

	memset(guest_at(&g, page), byte, PAGE);
	guest_map(&g, root, VA, page);
}

TEST(commands)
{
	static const uint64_t cmds[][2] = {
		{ 0x30, 0 }, { 0x10, 0 }, { 0x11 | UINT64_C(3) << 48, 0 }, { 0x12 | UINT64_C(3) << 48, VA }, { 0x13, VA },
		{ 0x12 | UINT64_C(3) << 48 | 1 << 12 | 3 << 20, (VA & ~UINT64_C(0xffff)) | 1 << 10 }, /* 16 pages */
	};
	static const uint64_t others[][2] = {
		{ 0x11 | UINT64_C(4) << 48, 0 }, { 0x12 | UINT64_C(4) << 48, VA }, { 0x12 | UINT64_C(3) << 48, VA + PAGE }, { 0x13, VA - PAGE },
		{ 0x05 | SID << 32, 0 }, { 0x06 | SID << 32, 0 }, { 0x40 | SID << 32, 0 },
	};
	uint8_t byte = 0x5a;
	uint32_t n;

	open_attached();
	for (unsigned i = 0; i < sizeof(cmds) / sizeof(*cmds); i++) {
		CHECK_EQ(peek(&g, VA), byte);
		refill((uint8_t)(byte + 1));
		for (unsigned k = 0; k < sizeof(others) / sizeof(*others); k++) {
			CHECK_EQ(command(others[k][0], others[k][1]), 0);
			CHECK_EQ(peek(&g, VA), byte);
		}
		CHECK_EQ(command(cmds[i][0], cmds[i][1]), 0);
		CHECK_EQ(peek(&g, VA), ++byte);
	}
	/* a descriptor is remembered until the guest says so */
	put_cd(cd, 9, table_to(0x99));
	CHECK_EQ(command(0x10, 0), 0);
	CHECK_EQ(peek(&g, VA), byte);
	CHECK_EQ(command(0x05 | SID << 32 | 1 << 12, 0), 0); /* another substream's */
	CHECK_EQ(peek(&g, VA), byte);
	CHECK_EQ(command(0x05 | SID << 32, 0), 0);
	CHECK_EQ(peek(&g, VA), 0x99);
	/* errors */
	CHECK_EQ(command(0x04, 0), -EIO); /* CFGI_ALL is not a guest's */
	CHECK_EQ(command(0x06 | (SID + 1) << 32, 0), -EIO);
	n = 0;
	CHECK_EQ(invalidate_of(&g, g.viommu, 1, NULL, 0, &n), -EINVAL);
	n = 1;
	CHECK_EQ(invalidate_of(&g, g.viommu, 0, cmds, 16, &n), -EINVAL);
	CHECK_EQ(n, 0);
	n = 3;
	CHECK_EQ(invalidate_of(&g, g.viommu, 1, (uint64_t[]){ 0x10, 0, 0x77, 0, 0x10, 0 }, 16, &n), -EIO);
	CHECK_EQ(n, 1);
	n = 2;
	CHECK_EQ(invalidate_of(&g, g.viommu, 1, (uint64_t[]){ 0x10, 0, 0, 0x10, 0, 1 }, 24, &n), -E2BIG); /* before any runs */
	CHECK_EQ(n, 0);
	n = 1;
	CHECK_EQ(invalidate_of(&g, g.viommu, 1, (void *)16, 16, &n), -EFAULT);
	n = 1;
	CHECK_EQ(invalidate_of(&g, nested, 1, cmds, 16, &n), -EOPNOTSUPP); /* through the vIOMMU only */
	guest_close(&g);
}

static int open_events(uint32_t *id)
{
	struct iof_cmd_veventq_alloc c = { .size = sizeof(c), .viommu_id = g.viommu, .type = 1, .veventq_depth = 8 };
	int rc = iof_ioctl(g.ctx, IOF_CMD_VEVENTQ_ALLOC, &c);

	CHECK_EQ(rc, 0);
	*id = c.out_veventq_id;
	return (int)c.out_veventq_fd;
}

struct event {
	struct iof_vevent_header header;
	uint64_t word[4];
};

static struct iof_handle *queue;

static void expect(uint32_t code, uint32_t ssid, uint64_t iova, bool write)
{
	struct event e;

	CHECK_EQ(iof_read(queue, &e, sizeof(e)), sizeof(e));
	CHECK_EQ(e.word[0] & 0xff, code);
	CHECK_EQ(e.word[0] >> 32, SID);
	CHECK_EQ(e.word[0] >> 11 & 1, ssid != 0);
	CHECK_EQ(e.word[0] >> 12 & 0xfffff, ssid);
	if (code >= 0x10) {
		CHECK_EQ(e.word[1] >> 35 & 1, !write);
		CHECK_EQ(e.word[1] >> 40 & 3, 2);
	}
	CHECK_EQ(e.word[2], iova);
	CHECK_EQ(iof_read(queue, &e, sizeof(e)), 0);
}

TEST(events)
{
	uint32_t id;
	int fd;

	open_attached();
	fd = open_events(&id);
	CHECK_EQ(iof_file_handle(g.m, fd, &queue), 0);
	CHECK_EQ(peek(&g, VA + PAGE), -IOF_DMA_UNMAPPED);
	expect(0x10, 0, VA + PAGE, false);
	CHECK_EQ(poke(&g, VA + PAGE, 1), -IOF_DMA_UNMAPPED);
	expect(0x10, 0, VA + PAGE, true);
	*guest_entry(&g, root, 3, VA, 0) |= 0x80; /* read-only */
	CHECK_EQ(poke(&g, VA, 1), -IOF_DMA_DENIED);
	expect(0x13, 0, VA, true);
	*guest_entry(&g, root, 3, VA, 0) &= ~UINT64_C(0x440); /* not accessed yet; privileged */
	CHECK_EQ(command(0x10, 0), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_DENIED);
	expect(0x12, 0, VA, false);
	*guest_entry(&g, root, 3, VA, 0) |= 0x400;
	CHECK_EQ(peek(&g, VA), -IOF_DMA_DENIED);
	expect(0x13, 0, VA, false);
	*guest_entry(&g, root, 3, VA, 0) |= 0x40;
	CHECK_EQ(peek(&g, VA), 0x5a);
	*guest_entry(&g, root, 3, VA, 2) |= UINT64_C(1) << 61; /* a table not for users */
	CHECK_EQ(command(0x10, 0), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_DENIED);
	expect(0x13, 0, VA, false);
	CHECK_EQ(peek_as(&g, 1, VA, NULL), -IOF_DMA_BLOCKED);
	expect(0x08, 1, 0, false);
	/* a page outside the guest's memory is the host's affair */
	guest_map(&g, root, VA + PAGE, GPA + RAM_PAGES * PAGE);
	CHECK_EQ(peek(&g, VA + PAGE), -IOF_DMA_UNMAPPED);
	CHECK_EQ(iof_read(queue, &(struct event){ 0 }, sizeof(struct event)), 0);
	/* no record asked for */
	guest_at(&g, cd)[0] &= ~(UINT64_C(1) << 45);
	CHECK_EQ(command(0x06 | SID << 32, 0), 0);
	CHECK_EQ(peek(&g, VA + 2 * PAGE), -IOF_DMA_UNMAPPED);
	CHECK_EQ(iof_read(queue, &(struct event){ 0 }, sizeof(struct event)), 0);
	guest_at(&g, cd)[0] = 0;
	CHECK_EQ(command(0x06 | SID << 32, 0), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_TABLE);
	expect(0x0a, 0, 0, false);
	/* the id is that of the last attach */
	CHECK_EQ(destroy(g.ctx, g.vdevice), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_TABLE);
	expect(0x0a, 0, 0, false);
	iof_close(queue);
	CHECK_EQ(destroy(g.ctx, id), 0);
	guest_close(&g);
}

/* Two vIOMMUs on one parent: a VMID together. The parent's unmaps reach both. */
TEST(viommus_share_a_vmid)
{
	struct iof_cmd_viommu_alloc c = { .size = sizeof(c), .type = 1 };
	uint64_t bytes;
	uint32_t first;

	open_attached();
	first = g.viommu;
	CHECK_EQ(viommu_new(&g, 1, &g.viommu), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	refill(0x5b);
	CHECK_EQ(command(0x11 | UINT64_C(3) << 48, 0), 0); /* by the other one */
	CHECK_EQ(peek(&g, VA), 0x5b);
	CHECK_EQ(destroy(g.ctx, g.viommu), 0);
	g.viommu = first;
	CHECK_EQ(unmap(g.ctx, g.ioas, GPA, RAM_PAGES * PAGE, &bytes), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_UNMAPPED);
	guest_close(&g);
	(void)c;
}

TEST(translated_interrupts)
{
	struct iof_cmd_ioas_iova_ranges r = { .size = sizeof(r), .num_iovas = 4 };
	struct iof_uapi_range at[4];
	uint64_t iova, doorbell = 0x12345040;
	struct iof_hwpt_stats stats;
	uint64_t address;
	uint32_t pt, other;

	open_guest();
	CHECK_EQ(attach(g.dev, g.ioas, &pt), 0);
	r.ioas_id = g.ioas;
	r.allowed_iovas = (uintptr_t)at;
	CHECK_EQ(iof_ioctl(g.ctx, IOF_CMD_IOAS_IOVA_RANGES, &r), 0);
	CHECK(r.num_iovas == 2 && at[0].last == 0x7ffffff && at[1].start == 0x8100000 && at[1].last == (UINT64_C(1) << 48) - 1);
	CHECK_EQ(iof_msi_address(g.dev, doorbell, &iova), 0);
	CHECK_EQ(iova, 0x8000040);
	CHECK_EQ(iof_translate(g.ctx, pt, 1, &iova, &address, NULL), 1);
	CHECK_EQ(address, doorbell);
	CHECK_EQ(iof_hwpt_stats(g.ctx, pt, &stats), 0);
	CHECK_EQ(stats.format, 7);
	CHECK_EQ(iof_hwpt_stats(g.ctx, g.parent, &stats), 0);
	CHECK_EQ(stats.format, 8);
	CHECK_EQ(attach(g.dev, g.parent, NULL), 0); /* there too */
	CHECK_EQ(iof_translate(g.ctx, g.parent, 1, &iova, &address, NULL), 1);
	CHECK_EQ(address, doorbell);
	CHECK_EQ(smmu_new(STE_BYPASS, 0, &other), 0);
	CHECK_EQ(attach(g.dev, other, NULL), 0);
	CHECK_EQ(iof_msi_address(g.dev, doorbell + 4096, &iova), 0);
	CHECK_EQ(iova, 0x8001040);
	guest_close(&g);
}
