/* SPDX-License-Identifier: Apache-2.0 */
/* Nested tables of the soft VT-d IOMMU: what is refused, DMA through two stages, what the IOTLB remembers, dirty pages, PASIDs, lives. */
#include <errno.h>

#include "guest_rig.h"

static struct guest g;
static uint64_t root, data;
static uint32_t nested;

#define VA UINT64_C(0x7000001000)

/* VA -> a page of guest RAM full of 0x5a. */
static void open_guest(uint32_t parent_flags)
{
	guest_open(&g, IOF_PRESET_INTEL, parent_flags);
	root = guest_page(&g);
	data = guest_page(&g);
	memset(guest_at(&g, data), 0x5a, PAGE);
	guest_map(&g, root, VA, data);
	CHECK_EQ(vtd_new(&g, root, 0, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
}

TEST(what_is_refused)
{
	struct vtd_s1 s1 = { .width = 48 };
	uint8_t longer[32] = { 0 };
	uint32_t id, auto_id, plain, n;

	guest_open(&g, IOF_PRESET_INTEL, 0);
#define NEW(pt, type, data, len, flags) nested_new(&g, pt, type, data, len, flags, 0, &id)
	CHECK_EQ(NEW(g.parent, 1, &s1, 24, IOF_HWPT_NEST_PARENT), -EOPNOTSUPP);
	CHECK_EQ(NEW(g.parent, 1, &s1, 24, IOF_HWPT_DIRTY_TRACKING), -EOPNOTSUPP);
	CHECK_EQ(NEW(g.parent, 0, NULL, 0, 0), -EOPNOTSUPP);
	CHECK_EQ(NEW(g.parent, 2, &s1, 24, 0), -EOPNOTSUPP);
	CHECK_EQ(NEW(g.parent, 1, &s1, 23, 0), -EINVAL);
	CHECK_EQ(NEW(g.parent, 1, longer, 32, 0), -EINVAL); /* not even with zeros (5.4) */
	CHECK_EQ(NEW(g.parent, 1, (void *)8, 24, 0), -EFAULT);
	CHECK_EQ(parent_new(&g, 0, &plain), 0);
	CHECK_EQ(NEW(plain, 1, &s1, 24, 0), -EINVAL);
	CHECK_EQ(NEW(g.ioas, 1, &s1, 24, 0), -EOPNOTSUPP); /* data for a paging one */
	CHECK_EQ(attach(g.dev, g.ioas, &auto_id), 0);
	CHECK_EQ(NEW(auto_id, 1, &s1, 24, 0), -EINVAL);
	CHECK_EQ(detach(g.dev), 0);
	CHECK_EQ(viommu_new(&g, 1, &id), -EOPNOTSUPP);
	/* what only the hardware finds out, when a device comes */
	for (unsigned i = 0; i < 4; i++) {
		static const struct vtd_s1 bad[] = { { .width = 39 }, { .width = 0 }, { .width = 48, .flags = 2 }, { .width = 57, .flags = 7 } };

		CHECK_EQ(NEW(g.parent, 1, &bad[i], 24, 0), 0);
		CHECK_EQ(attach(g.dev, id, NULL), -EINVAL);
		CHECK_EQ(destroy(g.ctx, id), 0);
	}
	s1.flags = 5;
	CHECK_EQ(NEW(g.parent, 1, &s1, 24, IOF_HWPT_PASID), 0);
	CHECK_EQ(nested_new(&g, id, 1, &s1, 24, 0, 0, &plain), -EINVAL); /* no third stage */
	n = 0;
	CHECK_EQ(invalidate_of(&g, id, 0, NULL, 0, &n), 0);
	CHECK_EQ(invalidate_of(&g, id, 1, NULL, 0, &n), -EINVAL);
	CHECK_EQ(destroy(g.ctx, g.parent), -EBUSY);
	CHECK_EQ(destroy(g.ctx, id), 0);
	guest_close(&g);
}

TEST(invalidations_are_checked_one_by_one)
{
	struct vtd_inv inv[4] = { { VA, 1, 0, 0 }, { VA, 2, 1, 0 }, { 0, UINT64_MAX, 0, 0 }, { 0 } };
	static const struct { struct vtd_inv inv; int rc; } bad[] = {
		{ { VA, 1, 2, 0 }, -EOPNOTSUPP }, { { VA, 1, 0, 1 }, -EOPNOTSUPP }, { { VA + 1, 1, 0, 0 }, -EINVAL },
		{ { VA, UINT64_MAX, 0, 0 }, -EINVAL },
	};
	uint8_t wide[2][40] = { { 0 } };
	uint32_t n = 3;

	open_guest(0);
	CHECK_EQ(invalidate_of(&g, nested, 0, inv, 24, &n), 0);
	CHECK_EQ(n, 3);
	for (unsigned i = 0; i < 4; i++) {
		inv[3] = bad[i].inv;
		n = 4;
		CHECK_EQ(invalidate_of(&g, nested, 0, inv, 24, &n), bad[i].rc);
		CHECK_EQ(n, 3);
	}
	n = 1;
	CHECK_EQ(invalidate_of(&g, nested, 0, inv, 16, &n), -EINVAL);
	n = 2;
	CHECK_EQ(invalidate_of(&g, nested, 0, wide, 40, &n), 0);
	wide[1][30] = 1;
	CHECK_EQ(invalidate_of(&g, nested, 0, wide, 40, &n), -E2BIG);
	CHECK_EQ(n, 1);
	n = 1;
	CHECK_EQ(invalidate_of(&g, nested, 0, (void *)8, 24, &n), -EFAULT);
	guest_close(&g);
}

TEST(two_stages)
{
	struct iof_dma d;
	uint8_t buf[2 * PAGE];
	uint64_t more = guest_page((open_guest(0), &g)), missing = GPA + RAM_PAGES * PAGE;

	CHECK_EQ(peek(&g, VA), 0x5a);
	CHECK_EQ(poke(&g, VA + 9, 0x11), 0);
	CHECK_EQ(((uint8_t *)guest_at(&g, data))[9], 0x11);
	guest_map(&g, root, VA + PAGE, more);
	memset(guest_at(&g, more), 0x77, PAGE);
	CHECK_EQ(dma_as(&g, IOF_DMA_READ, IOF_NO_PASID, VA, buf, sizeof(buf), NULL), 0);
	CHECK(buf[0] == 0x5a && buf[PAGE] == 0x77);
	/* a hole of the guest's: which entry */
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, VA + 2 * PAGE, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 1 && d.fault_level == 0 && d.fault_fetch == 255 && !d.fault_write);
	CHECK(guest_at(&g, d.fault_address) == guest_entry(&g, root, 3, VA + 2 * PAGE, 0));
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, UINT64_C(1) << 46, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 1 && d.fault_level == 3);
	CHECK_EQ(peek(&g, UINT64_C(1) << 47), -IOF_DMA_UNMAPPED); /* not canonical */
	/* a page outside the guest's memory */
	guest_map(&g, root, VA + 2 * PAGE, missing);
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, VA + 2 * PAGE + 5, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 2 && d.fault_fetch == 255 && d.fault_address == missing + 5 && d.fault_iova == VA + 2 * PAGE + 5);
	/* a table outside it */
	*guest_entry(&g, root, 3, UINT64_C(0x123) << 30, 1) = missing | g.table;
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, UINT64_C(0x123) << 30, &d), -IOF_DMA_UNMAPPED);
	CHECK(d.fault_stage == 2 && d.fault_fetch == 0 && d.fault_address == missing);
	/* two megabytes of the guest's, each of the host's small pages by itself */
	*guest_entry(&g, root, 3, 0, 1) = GPA | g.large;
	CHECK_EQ(peek(&g, data - GPA), 0x5a);
	CHECK_EQ(peek(&g, RAM_PAGES * PAGE), -IOF_DMA_UNMAPPED);
	/* reserved: a leaf at the top */
	guest_at(&g, root)[3] = GPA | g.large;
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, UINT64_C(3) << 39, &d), -IOF_DMA_TABLE);
	CHECK(d.fault_stage == 1 && d.fault_level == 3);
	guest_close(&g);
}

static void permission(uint64_t *entry, uint64_t without, int read, int write)
{
	uint64_t was = *entry;

	*entry = was & ~without;
	CHECK_EQ(vtd_invalidate(&g, nested, 0, UINT64_MAX), 0);
	CHECK_EQ(peek(&g, VA), read);
	CHECK_EQ(poke(&g, VA, 0x5a), write);
	*entry = was;
	CHECK_EQ(vtd_invalidate(&g, nested, 0, UINT64_MAX), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
}

TEST(permissions_of_all_levels_and_both_stages)
{
	uint64_t at = GPA + 512 * PAGE;
	struct iof_dma d;
	uint8_t *ro;

	open_guest(0);
	for (unsigned level = 0; level < 4; level++) {
		permission(guest_entry(&g, root, 3, VA, level), 2, 0x5a, -IOF_DMA_DENIED);
		permission(guest_entry(&g, root, 3, VA, level), 4, -IOF_DMA_DENIED, -IOF_DMA_DENIED);
	}
	ro = pages_of(1);
	CHECK_EQ(map_at(g.ctx, g.ioas, ro, PAGE, IOF_MAP_READABLE | FIXED, &at), 0);
	guest_map(&g, root, VA + PAGE, at);
	CHECK_EQ(peek(&g, VA + PAGE), 0);
	CHECK_EQ(dma_as(&g, IOF_DMA_WRITE, IOF_NO_PASID, VA + PAGE, &(uint8_t){ 1 }, 1, &d), -EFAULT);
	CHECK(d.reason == IOF_DMA_DENIED && d.fault_stage == 2 && d.fault_address == at && d.fault_write);
	*guest_entry(&g, root, 3, VA, 0) &= ~UINT64_C(2);
	CHECK_EQ(vtd_invalidate(&g, nested, VA, 1), 0);
	CHECK_EQ(dma_as(&g, IOF_DMA_WRITE, IOF_NO_PASID, VA, &(uint8_t){ 1 }, 1, &d), -EFAULT);
	CHECK(d.reason == IOF_DMA_DENIED && d.fault_stage == 1);
	guest_close(&g);
	munmap(ro, PAGE);
}

TEST(stale_until_invalidated)
{
	struct iof_iotlb_stats before, after;
	uint64_t other = guest_page((open_guest(0), &g));

	memset(guest_at(&g, other), 0x66, PAGE);
	CHECK_EQ(peek(&g, VA), 0x5a);
	iof_iotlb_stats(g.m, &before);
	guest_map(&g, root, VA, other);
	CHECK_EQ(peek(&g, VA), 0x5a); /* remembered */
	iof_iotlb_stats(g.m, &after);
	CHECK(after.hits == before.hits + 1 && after.misses == before.misses);
	CHECK_EQ(vtd_invalidate(&g, nested, VA + PAGE, 3), 0); /* elsewhere */
	CHECK_EQ(vtd_invalidate(&g, nested, VA, 0), 0); /* nothing */
	CHECK_EQ(peek(&g, VA), 0x5a);
	CHECK_EQ(vtd_invalidate(&g, nested, VA, 1), 0);
	CHECK_EQ(peek(&g, VA), 0x66);
	guest_map(&g, root, VA, data);
	CHECK_EQ(vtd_invalidate(&g, nested, VA & ~UINT64_C(0x1fffff), UINT64_MAX / 2), 0); /* to the end of all addresses */
	CHECK_EQ(peek(&g, VA), 0x5a);
	/* a broken IOMMU */
	iof_iotlb_drop_invalidations(g.m, true);
	guest_map(&g, root, VA, other);
	CHECK_EQ(vtd_invalidate(&g, nested, 0, UINT64_MAX), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	iof_iotlb_drop_invalidations(g.m, false);
	CHECK_EQ(vtd_invalidate(&g, nested, 0, UINT64_MAX), 0);
	CHECK_EQ(peek(&g, VA), 0x66);
	/* attaching anew forgets */
	guest_map(&g, root, VA, data);
	CHECK_EQ(detach(g.dev), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	guest_close(&g);
}

TEST(unmap_in_the_parent_is_quiet)
{
	uint64_t bytes, at = GPA + 512 * PAGE, table = at + PAGE;
	uint8_t *extra = pages_of(2);

	open_guest(0);
	memset(extra, 0x33, PAGE);
	CHECK_EQ(map_at(g.ctx, g.ioas, extra, PAGE, RW | FIXED, &at), 0);
	guest_map(&g, root, VA, at);
	CHECK_EQ(peek(&g, VA), 0x33);
	CHECK_EQ(unmap(g.ctx, g.ioas, at, PAGE, &bytes), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_UNMAPPED); /* no INVALIDATE */
	/* a page under the guest's table: nothing new is found through it */
	CHECK_EQ(map_at(g.ctx, g.ioas, extra + PAGE, PAGE, RW | FIXED, &table), 0);
	((uint64_t *)(void *)(extra + PAGE))[0] = data | g.leaf;
	*guest_entry(&g, root, 3, UINT64_C(5) << 30, 1) = table | g.table;
	CHECK_EQ(peek(&g, UINT64_C(5) << 30), 0x5a);
	CHECK_EQ(unmap(g.ctx, g.ioas, table, PAGE, &bytes), 0);
	CHECK_EQ(peek(&g, UINT64_C(5) << 30), -IOF_DMA_UNMAPPED);
	/* with the hook the stale page shows, so it is the invalidation that keeps it away */
	CHECK_EQ(map_at(g.ctx, g.ioas, extra, PAGE, RW | FIXED, &at), 0);
	CHECK_EQ(peek(&g, VA), 0x33);
	iof_iotlb_drop_invalidations(g.m, true);
	CHECK_EQ(unmap(g.ctx, g.ioas, at, PAGE, &bytes), 0);
	CHECK_EQ(peek(&g, VA), 0x33);
	iof_iotlb_drop_invalidations(g.m, false);
	guest_close(&g);
	munmap(extra, 2 * PAGE);
}

static uint64_t dirty_page(void)
{
	struct iof_uapi_range r[4];
	struct iof_dirty d = { .hwpt_id = g.parent, .last = UINT64_MAX, .n = 4, .ranges = r };
	int64_t n = iof_dirty(g.ctx, &d);

	CHECK(n <= 1);
	return n == 1 ? r[0].start : 0;
}

TEST(dirty_pages_are_the_parents)
{
	struct iof_cmd_set_dirty_tracking on = { .size = sizeof(on), .flags = 1 };

	open_guest(IOF_HWPT_DIRTY_TRACKING);
	on.hwpt_id = g.parent;
	CHECK_EQ(iof_ioctl(g.ctx, IOF_CMD_HWPT_SET_DIRTY_TRACKING, &on), 0);
	CHECK_EQ(dirty_page(), 0);
	CHECK_EQ(peek(&g, VA + 8), 0x5a);
	CHECK_EQ(dirty_page(), 0);
	for (int i = 0; i < 2; i++) { /* a miss, a hit */
		CHECK_EQ(poke(&g, VA + 0x123, 1), 0);
		CHECK_EQ(dirty_page(), data);
	}
	CHECK_EQ(dirty_page(), 0);
	guest_close(&g);
}

static int attach_as(uint32_t pasid, uint32_t pt)
{
	struct iof_cmd_attach c = { .argsz = sizeof(c), .flags = IOF_ATTACH_PASID, .pt_id = pt, .pasid = pasid };

	return iof_ioctl(g.dev, IOF_CMD_DEVICE_ATTACH_PT, &c);
}

TEST(pasids)
{
	uint32_t host, one, two;
	uint64_t root2, other;

	guest_open(&g, IOF_PRESET_INTEL, 0);
	root = guest_page(&g);
	root2 = guest_page(&g);
	data = guest_page(&g);
	other = guest_page(&g);
	memset(guest_at(&g, data), 1, PAGE);
	memset(guest_at(&g, other), 2, PAGE);
	guest_map(&g, root, VA, data);
	guest_map(&g, root2, VA, other);
	CHECK_EQ(parent_new(&g, IOF_HWPT_PASID, &host), 0);
	CHECK_EQ(vtd_new(&g, root, IOF_HWPT_PASID, 0, &one), 0);
	CHECK_EQ(vtd_new(&g, root2, IOF_HWPT_PASID, 0, &two), 0);
	CHECK_EQ(vtd_new(&g, root2, 0, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, host, NULL), 0);
	CHECK_EQ(attach_as(7, nested), -EINVAL); /* not made for PASIDs */
	CHECK_EQ(attach_as(7, one), 0);
	CHECK_EQ(attach_as(8, two), 0);
	CHECK_EQ(peek_as(&g, 7, VA, NULL), 1);
	CHECK_EQ(peek_as(&g, 8, VA, NULL), 2);
	CHECK_EQ(peek_as(&g, 9, VA, NULL), -IOF_DMA_BLOCKED);
	CHECK_EQ(peek(&g, data), 1); /* the device itself: one stage */
	CHECK_EQ(attach(g.dev, one, NULL), 0); /* replace by a nested one */
	CHECK_EQ(peek(&g, VA), 1);
	CHECK_EQ(attach_as(7, two), 0);
	CHECK_EQ(peek_as(&g, 7, VA, NULL), 2);
	CHECK_EQ(attach(g.dev, nested, NULL), -EINVAL); /* PASIDs are in use */
	guest_close(&g);
}

TEST(replace_and_lives)
{
	uint32_t plain, second;
	struct iof_handle *dev2;

	open_guest(0);
	CHECK_EQ(parent_new(&g, 0, &plain), 0);
	CHECK_EQ(attach(g.dev, plain, NULL), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_UNMAPPED);
	CHECK_EQ(peek(&g, data), 0x5a);
	CHECK_EQ(attach(g.dev, g.parent, NULL), 0);
	CHECK_EQ(peek(&g, data), 0x5a);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	CHECK_EQ(peek(&g, data), -IOF_DMA_UNMAPPED);
	CHECK_EQ(destroy(g.ctx, nested), -EBUSY);
	CHECK_EQ(destroy(g.ctx, g.parent), -EBUSY);
	/* the other device of the group comes along */
	CHECK_EQ(iof_engine_open_device(g.m, 1, &dev2), 0);
	CHECK_EQ(bind_device(dev2, g.ctx, NULL), 0);
	CHECK_EQ(attach(dev2, nested, NULL), 0);
	CHECK_EQ(vtd_new(&g, root, 0, 0, &second), 0);
	CHECK_EQ(attach(dev2, second, NULL), 0);
	CHECK_EQ(destroy(g.ctx, nested), 0); /* both have left */
	CHECK_EQ(peek(&g, VA), 0x5a);
	iof_close(dev2);
	CHECK_EQ(detach(g.dev), 0);
	CHECK_EQ(peek(&g, VA), -IOF_DMA_BLOCKED);
	CHECK_EQ(destroy(g.ctx, second), 0);
	CHECK_EQ(destroy(g.ctx, g.parent), 0);
	guest_close(&g);
	/* everything still there when the files close, context first */
	open_guest(0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	iof_close(g.ctx);
	CHECK_EQ(peek(&g, VA), 0x5a); /* the device keeps it */
	iof_close(g.dev);
	iof_machine_put(g.m);
	munmap(g.ram, RAM_PAGES * PAGE);
	CHECK_EQ(atomic_load(&g.heap.live_blocks), 0);
}

TEST(memory_that_is_gone)
{
	struct iof_dma d;

	open_guest(0);
	CHECK_EQ(peek(&g, VA), 0x5a);
	CHECK_EQ(vtd_invalidate(&g, nested, 0, UINT64_MAX), 0);
	mprotect(guest_at(&g, root), PAGE, PROT_NONE);
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, VA, &d), -IOF_DMA_MEMORY);
	CHECK(d.fault_stage == 1 && d.fault_level == 3);
	mprotect(guest_at(&g, root), PAGE, PROT_READ | PROT_WRITE);
	CHECK_EQ(peek(&g, VA), 0x5a);
	guest_close(&g);
}

TEST(five_levels)
{
	struct vtd_s1 s1 = { .width = 57 };
	uint64_t at = UINT64_C(3) << 48;

	guest_open(&g, IOF_PRESET_INTEL, 0);
	root = guest_page(&g);
	data = guest_page(&g);
	memset(guest_at(&g, data), 9, PAGE);
	*guest_entry(&g, root, 4, at, 0) = data | g.leaf;
	*guest_entry(&g, root, 4, UINT64_C(-4096), 0) = data | g.leaf;
	s1.table = root | 0xfff; /* no bits of an address */
	CHECK_EQ(nested_new(&g, g.parent, 1, &s1, sizeof(s1), 0, 0, &nested), 0);
	CHECK_EQ(attach(g.dev, nested, NULL), 0);
	CHECK_EQ(peek(&g, at), 9);
	CHECK_EQ(peek(&g, UINT64_C(-4096)), 9);
	guest_close(&g);
}
