/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested tables, invalidation, vIOMMUs, vDevices, hardware queues, events and mmap (behaviour.md 2.10, 5.2–5.8, 8.1.6, 8.2–8.7) with an IOMMU
 * of the test's own: the order of errors, who keeps whom, what is left after an error.
 */
#include <poll.h>
#include <unistd.h>

#include "driver_rig.h"

#define FIXED IOF_MAP_FIXED_IOVA
#define BASE 0x100000

static struct iof_machine *m;
static struct iof_handle *ctx, *dev, *dev2, *soft;
static struct rig rig, rig2;
static struct iof_alloc heap;
static uint32_t dev_id, dev2_id, soft_id, foreign_id, ioas, parent, plain;
static char *buf;

static struct iof_handle *foreign;

/* dev and dev2 are behind one IOMMU, `foreign` behind another of the same driver, `soft` behind one without any of this. */
static void setup(void)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .alloc = &heap };
	struct iof_iommu *iommu, *iommu2;
	uint32_t at, at2, at3;
	uint64_t iova = BASE;

	iof_alloc_init_heap(&heap);
	rig_init(&rig);
	rig_init(&rig2);
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig2, &iommu2), 0);
	CHECK_EQ(rig_plug(&rig, m, iommu, 0, 1, &at), 0);
	CHECK_EQ(rig_plug(&rig, m, iommu, 1, 1, &at2), 0);
	CHECK_EQ(rig_plug(&rig2, m, iommu2, 0, 1, &at3), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &dev), 0);
	CHECK_EQ(iof_engine_open_device(m, at2, &dev2), 0);
	CHECK_EQ(iof_engine_open_device(m, at3, &foreign), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &soft), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(bind_device(dev2, ctx, &dev2_id), 0);
	CHECK_EQ(bind_device(foreign, ctx, &foreign_id), 0);
	CHECK_EQ(bind_device(soft, ctx, &soft_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	buf = pages_of(8);
	CHECK_EQ(map_at(ctx, ioas, buf, 8 * PAGE, RW | FIXED, &iova), 0);
	CHECK_EQ(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_NEST_PARENT, &parent), 0);
	CHECK_EQ(hwpt_kind(ctx, dev_id, ioas, 0, &plain), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(dev2);
	iof_close(foreign);
	iof_close(soft);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	CHECK(!rig.nested && !rig.viommus && !rig.vdevices && !rig.queues);
	munmap(buf, 8 * PAGE);
}

#define REFUSED(call, rc)                                                                                              \
	do {                                                                                                           \
		uint64_t before_ = digest_of(ctx);                                                                     \
		CHECK_EQ(call, rc);                                                                                    \
		CHECK_EQ(digest_of(ctx), before_);                                                                     \
		CHECK(iof_machine_is_valid(m));                                                                        \
	} while (0)

/* Changes the command `c` in one call's span and says what it answers; nothing may be left of a refusal. */
#define VARIED(command, good, rc, ...)                                                                                 \
	do {                                                                                                           \
		__typeof__(good) c = good;                                                                             \
		__VA_ARGS__;                                                                                           \
		REFUSED(iof_ioctl(ctx, command, &c), rc);                                                              \
	} while (0)

/* ---- HWPT_ALLOC of nested tables ---- */

TEST(nested_on_a_parent_order)
{
	struct rig_data d = { .word = 1 };
	struct iof_cmd_hwpt_alloc good;
	uint32_t automatic, nested, fault;
	int fd;

	setup();
	CHECK_EQ(attach(dev2, ioas, &automatic), 0);
	CHECK_EQ(rig_fault_alloc(ctx, &fault, &fd), 0);
	good = (struct iof_cmd_hwpt_alloc){ .size = sizeof(good), .dev_id = dev_id, .pt_id = parent, .data_type = RIG_DATA,
					    .data_len = sizeof(d), .data_uptr = (uintptr_t)&d };
#define V(rc, ...) VARIED(IOF_CMD_HWPT_ALLOC, good, rc, __VA_ARGS__)
	V(-EOPNOTSUPP, c.reserved = 1, c.data_len = 0);
	V(-EINVAL, c.data_len = 0, c.dev_id = 99);
	V(-EINVAL, c.data_type = 0, c.dev_id = 99);
	V(-ENOENT, c.dev_id = 99, c.pt_id = 99);
	V(-ENOENT, c.dev_id = parent);
	V(-EINVAL, c.pt_id = 99, c.flags = 16);
	V(-EINVAL, c.pt_id = dev_id, c.flags = 16);
	V(-EINVAL, c.pt_id = fault);
	for (uint32_t bit = 0; bit < 32; bit++)
		if (bit != 2 && bit != 3)
			V(-EOPNOTSUPP, c.flags = 1u << bit, c.pt_id = plain);
	V(-EOPNOTSUPP, c.data_type = c.data_len = 0, c.pt_id = plain); /* no data: before the parent is looked at */
	V(-EINVAL, c.dev_id = soft_id, c.pt_id = plain); /* another driver's */
	V(-EINVAL, c.pt_id = plain);
	V(-EINVAL, c.pt_id = automatic);
	V(-EINVAL, c.dev_id = foreign_id); /* another IOMMU's parent */
	V(-EOPNOTSUPP, c.data_type = 9); /* from here it is the driver's */
	V(-EINVAL, c.data_len = 3);
	V(-EINVAL, c.data_len = 9);
	V(-EFAULT, c.data_uptr = 8);
	V(-EOPNOTSUPP, d.flags = 1);
	d.flags = 0;
	V(-ENOENT, c.flags = IOF_HWPT_FAULT_ID_VALID, c.fault_id = 99); /* made, and undone */
	V(-ENOENT, c.flags = IOF_HWPT_FAULT_ID_VALID, c.fault_id = parent);
	CHECK_EQ(rig.nested, 0);
	VARIED(IOF_CMD_HWPT_ALLOC, good, -EINVAL, c.size = 23);
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, IOF_HWPT_FAULT_ID_VALID | IOF_HWPT_PASID, fault, &nested), 0);
	CHECK_EQ(rig.nested, 1);
	V(-EINVAL, c.pt_id = nested);
	REFUSED(destroy(ctx, parent), -EBUSY);
	close_number(m, fd);
	REFUSED(destroy(ctx, fault), -EBUSY);
	CHECK_EQ(destroy(ctx, nested), 0);
	CHECK_EQ(rig.nested, 0);
	CHECK_EQ(destroy(ctx, fault), 0);
	CHECK_EQ(destroy(ctx, parent), 0);
#undef V
	teardown();
}

TEST(paging_order)
{
	struct rig_data d = { 0, 0 };
	struct iof_cmd_hwpt_alloc good;

	setup();
	good = (struct iof_cmd_hwpt_alloc){ .size = sizeof(good), .dev_id = dev_id, .pt_id = ioas };
#define V(rc, ...) VARIED(IOF_CMD_HWPT_ALLOC, good, rc, __VA_ARGS__)
	for (uint32_t bit = 4; bit < 32; bit++)
		V(-EOPNOTSUPP, c.flags = 1u << bit);
	V(-EOPNOTSUPP, c.flags = IOF_HWPT_FAULT_ID_VALID | IOF_HWPT_NEST_PARENT, c.fault_id = 99);
	V(-ENOENT, c.flags = IOF_HWPT_FAULT_ID_VALID, c.fault_id = 99);
	V(-EOPNOTSUPP, c.data_type = 5, c.data_len = 8, c.data_uptr = (uintptr_t)&d);
	V(-EFAULT, c.data_type = RIG_DATA, c.data_len = 8);
	V(-EOPNOTSUPP, c.dev_id = soft_id, c.data_type = RIG_DATA, c.data_len = 8, c.data_uptr = (uintptr_t)&d);
#undef V
	teardown();
}

/* A driver that takes no flags: whichever, whatever (5.1 step 1). */
TEST(a_driver_without_flags)
{
	struct iof_driver bare = { .name = "bare", .paging_alloc = rig_paging };
	struct iof_device_caps caps = { .max_pasids = 1, .dirty_tracking = true };
	struct iof_handle *h;
	struct iof_iommu *iommu;
	uint32_t at, id, hwpt;

	setup();
	CHECK_EQ(iof_machine_add_driver(m, &bare, &rig, &iommu), 0);
	CHECK_EQ(iof_machine_plug_device(m, iommu, UINT32_MAX, &caps, &at), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &h), 0);
	CHECK_EQ(bind_device(h, ctx, &id), 0);
	for (uint32_t bit = 0; bit < 32; bit++)
		REFUSED(hwpt_kind(ctx, id, ioas, 1u << bit, &hwpt), -EOPNOTSUPP);
	CHECK_EQ(hwpt_kind(ctx, id, ioas, 0, &hwpt), 0);
	REFUSED(nested_alloc(ctx, id, parent, 0, 0, &hwpt), -EOPNOTSUPP);
	iof_close(h);
	teardown();
}

TEST(dirty_tracking_is_the_device_s)
{
	struct iof_iommu *iommu;
	struct iof_device_caps caps = { .max_pasids = 1, .priv = &rig.dev[2] };
	struct iof_cmd_get_hw_info info = { .size = sizeof(info) };
	struct iof_handle *h;
	uint32_t at, id, hwpt;

	setup();
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(iof_machine_plug_device(m, iommu, UINT32_MAX, &caps, &at), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &h), 0);
	CHECK_EQ(bind_device(h, ctx, &id), 0);
	REFUSED(hwpt_kind(ctx, id, ioas, IOF_HWPT_DIRTY_TRACKING, &hwpt), -EOPNOTSUPP);
	info.dev_id = id;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &info), 0);
	CHECK_EQ(info.out_capabilities, 0);
	iof_close(h);
	teardown();
}

/* ---- GET_HW_INFO ---- */

TEST(hw_info)
{
	char out[32];
	struct iof_cmd_get_hw_info good;

	setup();
	good = (struct iof_cmd_get_hw_info){ .size = sizeof(good), .dev_id = dev_id, .data_len = sizeof(out), .data_uptr = (uintptr_t)out };
#define V(rc, ...) VARIED(IOF_CMD_GET_HW_INFO, good, rc, __VA_ARGS__)
	V(-EOPNOTSUPP, c.flags = 2, c.dev_id = 99);
	V(-EOPNOTSUPP, c.reserved[2] = 1, c.dev_id = 99);
	V(-ENOENT, c.dev_id = 99);
	V(-ENOENT, c.dev_id = ioas);
	V(-EOPNOTSUPP, c.flags = 1, c.data_type = 9, c.data_uptr = 8);
	V(-EFAULT, c.data_uptr = 8);
	V(-EFAULT, c.data_uptr = 8, c.data_len = 1);
	V(-EFAULT, c.data_uptr = (uintptr_t)buf + 8 * PAGE - 16, mprotect(buf + 7 * PAGE, PAGE, PROT_READ));
	mprotect(buf + 7 * PAGE, PAGE, PROT_READ | PROT_WRITE);
#undef V
	for (uint32_t len = 0; len <= sizeof(out); len++) {
		struct iof_cmd_get_hw_info c = good;

		memset(out, 0x5a, sizeof(out));
		c.data_len = len;
		c.data_type = 77; /* without INPUT_TYPE nobody looks */
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &c), 0);
		CHECK(c.data_len == 12 && c.data_type == RIG_INFO && c.out_max_pasid_log2 == 16 && c.out_capabilities == 1);
		for (uint32_t i = 0; i < sizeof(out); i++)
			CHECK_EQ(out[i], i < len ? i < 12 ? "rig of tests"[i] : 0 : 0x5a);
	}
	good.flags = 1;
	good.data_type = RIG_INFO;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &good), 0);
	good.data_len = 0;
	good.data_uptr = 0;
	good.dev_id = soft_id;
	good.data_type = 1;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &good), 0);
	CHECK(good.data_type == 1 && good.data_len == 24 && good.out_capabilities == (1 | 8) && good.out_max_pasid_log2 == 20);
	teardown();
}

/* A driver that tells nothing: type 0, length 0, the buffer zero. */
TEST(hw_info_of_nobody)
{
	struct iof_driver silent = { .name = "silent", .paging_alloc = rig_paging };
	struct iof_device_caps caps = { 0 };
	char out[9];
	struct iof_cmd_get_hw_info c = { .size = sizeof(c), .flags = 1, .data_type = 5, .data_len = 8, .data_uptr = (uintptr_t)out };
	struct iof_handle *h;
	struct iof_iommu *iommu;
	uint32_t at;

	setup();
	CHECK_EQ(iof_machine_add_driver(m, &silent, NULL, &iommu), 0);
	CHECK_EQ(iof_machine_plug_device(m, iommu, UINT32_MAX, &caps, &at), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &h), 0);
	CHECK_EQ(bind_device(h, ctx, &c.dev_id), 0);
	memset(out, 0x5a, sizeof(out));
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &c), 0);
	CHECK(!c.data_len && !c.data_type && !c.out_max_pasid_log2 && !c.out_capabilities);
	CHECK(!memcmp(out, "\0\0\0\0\0\0\0\0Z", 9));
	iof_close(h);
	teardown();
}

/* ---- HWPT_INVALIDATE ---- */

TEST(invalidate_order)
{
	struct rig_entry e[4] = { { 1, 0 } };
	struct iof_cmd_hwpt_invalidate good;
	uint32_t nested, viommu;

	setup();
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, 0, 0, &nested), 0);
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &viommu), 0);
	good = (struct iof_cmd_hwpt_invalidate){ .size = sizeof(good), .hwpt_id = nested, .data_uptr = (uintptr_t)e,
						 .data_type = RIG_INVALIDATE, .entry_len = sizeof(e[0]), .entry_num = 1 };
#define V(rc, ...)                                                                                                     \
	do {                                                                                                           \
		struct iof_cmd_hwpt_invalidate c = good;                                                               \
		__VA_ARGS__;                                                                                           \
		REFUSED(iof_ioctl(ctx, IOF_CMD_HWPT_INVALIDATE, &c), rc);                                              \
		CHECK_EQ(c.entry_num, 0); /* always answered */                                                        \
	} while (0)
	V(-EOPNOTSUPP, c.reserved = 1, c.data_uptr = 0);
	V(-EINVAL, c.data_uptr = 0, c.hwpt_id = 99);
	V(-EINVAL, c.entry_len = 0, c.hwpt_id = 99);
	V(-EINVAL, c.entry_len = PAGE + 1, c.hwpt_id = 99);
	V(-EINVAL, c.entry_num = (1 << 19) + 1, c.hwpt_id = 99);
	V(-ENOENT, c.hwpt_id = 99);
	V(-ENOENT, c.hwpt_id = 0);
	V(-EINVAL, c.hwpt_id = parent);
	V(-EINVAL, c.hwpt_id = ioas);
	V(-EINVAL, c.hwpt_id = dev_id);
	V(-EINVAL, c.data_type = 1);
	V(-EINVAL, c.data_type = 1, c.entry_num = 0); /* no entries let the driver look at the type */
	V(-EINVAL, c.data_type = 1, c.entry_num = 0, c.hwpt_id = viommu);
	V(0, c.entry_num = 0, c.data_uptr = 0, c.entry_len = 0);
	V(0, c.entry_num = 0, c.data_uptr = 0, c.entry_len = UINT32_MAX);
	V(-EFAULT, c.data_uptr = 8);
	V(-EFAULT, c.data_uptr = UINT64_MAX, c.entry_num = 1 << 19);
#undef V
	teardown();
}

TEST(invalidate_goes_up_to_the_first_bad_entry)
{
	struct rig_entry e[5] = { { 11, 0 }, { 12, 0 }, { 13, ENXIO }, { 14, 0 }, { 15, 0 } };
	struct iof_cmd_hwpt_invalidate *lost = (void *)pages_of(1);
	uint32_t nested, n;
	char wide[64] = { 0 };

	setup();
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, 0, 0, &nested), 0);
	n = 5;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, e, sizeof(e[0]), &n), -ENXIO);
	CHECK_EQ(n, 2);
	n = 2;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, e, sizeof(e[0]), &n), 0);
	CHECK_EQ(n, 2);
	/* entries of another length: shorter ones have a zero tail, longer ones have to */
	n = 3;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, (uint32_t[]){ 1, 2, 3 }, 4, &n), 0);
	CHECK_EQ(n, 3);
	n = 4;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, wide, 16, &n), 0);
	CHECK_EQ(n, 4);
	wide[40] = 1;
	n = 4;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, wide, 16, &n), -E2BIG);
	CHECK_EQ(n, 2);
	/* memory that ends */
	memcpy(buf + PAGE - 20, e, 16);
	munmap(buf + PAGE, PAGE);
	n = 5;
	CHECK_EQ(invalidate(ctx, nested, RIG_INVALIDATE, buf + PAGE - 20, 8, &n), -EFAULT);
	CHECK_EQ(n, 2);
	/* an answer that is lost is the error, whatever else was */
	*lost = (struct iof_cmd_hwpt_invalidate){ .size = 32, .hwpt_id = 99 };
	mprotect(lost, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_HWPT_INVALIDATE, lost), -EFAULT);
	munmap(lost, PAGE);
	teardown();
}

TEST(invalidate_through_a_viommu)
{
	struct rig_vcommand c[3] = { { 7, 21, 0 }, { 8, 22, 0 }, { 9, 23, 0 } };
	uint32_t viommu, vdev, vdev2, n;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &viommu), 0);
	CHECK_EQ(vdevice_alloc(ctx, viommu, dev_id, 7, &vdev), 0);
	CHECK_EQ(vdevice_alloc(ctx, viommu, dev2_id, 8, &vdev2), 0);
	n = 3;
	CHECK_EQ(invalidate(ctx, viommu, RIG_INVALIDATE, c, sizeof(c[0]), &n), -EIO); /* nobody is 9 */
	CHECK(n == 2 && rig.dev[0].word == 21 && rig.dev[1].word == 22);
	CHECK_EQ(destroy(ctx, vdev2), 0);
	n = 2;
	CHECK_EQ(invalidate(ctx, viommu, RIG_INVALIDATE, c, sizeof(c[0]), &n), -EIO);
	CHECK_EQ(n, 1);
	teardown();
}

/* ---- VIOMMU_ALLOC, mmap ---- */

TEST(viommu_order)
{
	struct iof_cmd_viommu_alloc good;
	struct rig_vdata d = { .in = 0x1234 };
	uint32_t viommu, nested;

	setup();
	good = (struct iof_cmd_viommu_alloc){ .size = sizeof(good), .type = RIG_VIOMMU, .dev_id = dev_id, .hwpt_id = parent };
#define V(rc, ...) VARIED(IOF_CMD_VIOMMU_ALLOC, good, rc, __VA_ARGS__)
	V(-EOPNOTSUPP, c.flags = 1, c.dev_id = 99);
	V(-EOPNOTSUPP, c.type = 0, c.dev_id = 99);
	V(-ENOENT, c.dev_id = 99, c.type = 5);
	V(-ENOENT, c.dev_id = parent, c.type = 5);
	V(-EOPNOTSUPP, c.type = 5, c.hwpt_id = 99);
	V(-EOPNOTSUPP, c.dev_id = soft_id, c.hwpt_id = 99);
	V(-ENOENT, c.hwpt_id = 99);
	V(-ENOENT, c.hwpt_id = ioas);
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, 0, 0, &nested), 0);
	V(-ENOENT, c.hwpt_id = nested);
	V(-EINVAL, c.hwpt_id = plain);
	V(-EINVAL, c.data_len = 7, c.data_uptr = (uintptr_t)&d);
	V(-EINVAL, c.data_len = sizeof(d) + 1, c.data_uptr = (uintptr_t)&d);
	V(-EFAULT, c.data_len = 8, c.data_uptr = 8);
	V(-EFAULT, c.data_len = sizeof(d), c.data_uptr = (uintptr_t)buf, mprotect(buf, PAGE, PROT_READ));
	mprotect(buf, PAGE, PROT_READ | PROT_WRITE);
#undef V
	CHECK_EQ(rig.viommus, 0);
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, &d, &viommu), 0);
	CHECK(d.out == 0x1234 && d.offset == PAGE && d.length == 2 * PAGE); /* the refused ones left no region */
	REFUSED(destroy(ctx, parent), -EBUSY);
	CHECK_EQ(destroy(ctx, viommu), 0);
	CHECK_EQ(destroy(ctx, nested), 0);
	CHECK_EQ(destroy(ctx, parent), 0);
	teardown();
}

static int map_region(uint64_t offset, uint64_t length, int prot, int flags, void **out)
{
	return iof_mmap(ctx, length, prot, flags, offset, out);
}

TEST(mmap_rules)
{
	struct rig_vdata d = { .in = 0xcafe }, d2 = { .in = 0xbeef };
	uint32_t v, v2;
	void *at, *at2;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, &d, &v), 0);
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, &d2, &v2), 0);
	CHECK(d.offset == PAGE && d2.offset == 3 * PAGE);
	CHECK_EQ(map_region(PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE, &at), -EINVAL);
	CHECK_EQ(map_region(9 * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, &at), -EINVAL);
	CHECK_EQ(map_region(9 * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, &at), -EPERM);
	CHECK_EQ(map_region(0, PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(map_region(PAGE, PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(map_region(PAGE, 3 * PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(map_region(2 * PAGE, PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(map_region(5 * PAGE, 2 * PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(map_region(PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, &at), 0);
	CHECK_EQ(*(uint32_t *)at, 0xcafe);
	CHECK_EQ(map_region(PAGE, 2 * PAGE, PROT_READ, MAP_SHARED, &at2), 0);
	((uint32_t *)at)[700] = 5; /* shared */
	CHECK_EQ(((uint32_t *)at2)[700], 5);
	REFUSED(destroy(ctx, v), -EBUSY);
	CHECK_EQ(munmap(at, 2 * PAGE), 0);
	iof_mmap_count(ctx, PAGE, -1);
	REFUSED(destroy(ctx, v), -EBUSY);
	CHECK_EQ(munmap(at2, 2 * PAGE), 0);
	iof_mmap_count(ctx, PAGE, -1);
	CHECK_EQ(destroy(ctx, v), 0);
	CHECK_EQ(map_region(PAGE, 2 * PAGE, PROT_READ, MAP_SHARED, &at), -ENXIO);
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, &d, &v), 0);
	CHECK_EQ(d.offset, PAGE); /* first fit */
	teardown();
}

/* ---- nested tables on a vIOMMU, and who keeps whom (R1.4.3, R1.4.4) ---- */

TEST(nested_on_a_viommu)
{
	struct rig_data d = { .word = 1 };
	struct iof_cmd_hwpt_alloc good;
	uint32_t viommu, nested, vdev, hwpt;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &viommu), 0);
	good = (struct iof_cmd_hwpt_alloc){ .size = sizeof(good), .dev_id = dev_id, .pt_id = viommu, .data_type = RIG_DATA,
					    .data_len = sizeof(d), .data_uptr = (uintptr_t)&d };
#define V(rc, ...) VARIED(IOF_CMD_HWPT_ALLOC, good, rc, __VA_ARGS__)
	V(-EINVAL, c.dev_id = foreign_id, c.flags = 16); /* another IOMMU: first of all */
	V(-EINVAL, c.dev_id = soft_id);
	for (uint32_t bit = 0; bit < 32; bit++)
		if (bit != 2 && bit != 3)
			V(-EOPNOTSUPP, c.flags = 1u << bit);
	V(-EOPNOTSUPP, c.data_type = c.data_len = 0);
	V(-EFAULT, c.data_uptr = 8);
#undef V
	CHECK_EQ(nested_alloc(ctx, dev_id, viommu, 0, 0, &nested), 0);
	REFUSED(destroy(ctx, viommu), -EBUSY);
	REFUSED(destroy(ctx, parent), -EBUSY);
	REFUSED(attach(dev, nested, NULL), -ENOENT); /* the driver wants a vDevice */
	CHECK_EQ(vdevice_alloc(ctx, viommu, dev_id, 7, &vdev), 0);
	CHECK_EQ(attach(dev, nested, &hwpt), 0);
	CHECK_EQ(hwpt, nested);
	REFUSED(destroy(ctx, nested), -EBUSY);
	REFUSED(attach(dev2, nested, NULL), -ENOENT);
	CHECK_EQ(attach(dev, parent, NULL), 0);
	CHECK_EQ(destroy(ctx, nested), 0);
	REFUSED(destroy(ctx, viommu), -EBUSY);
	CHECK_EQ(destroy(ctx, vdev), 0);
	CHECK_EQ(destroy(ctx, viommu), 0);
	REFUSED(destroy(ctx, parent), -EBUSY);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(destroy(ctx, parent), 0);
	teardown();
}

/* A nested table's IOAS is its parent's: regions are reserved there, endpoints say so; no DMA goes through a table that nobody walks. */
TEST(attached_to_a_nested_table)
{
	struct iof_endpoint_info e;
	uint32_t nested;
	struct iof_dma d;
	char c;

	setup();
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, IOF_HWPT_PASID, 0, &nested), 0);
	CHECK_EQ(attach(dev, nested, NULL), 0);
	CHECK_EQ(attach_pasid(dev, 5, nested, NULL), 0);
	CHECK_EQ(iof_endpoints(ctx, dev_id, ioas, 1, &e), 2);
	CHECK(e.hwpt_id == nested && e.ioas_id == ioas);
	CHECK_EQ(dma(dev, IOF_DMA_READ, BASE, &c, 1, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_BLOCKED);
	REFUSED(destroy(ctx, nested), -EBUSY);
	CHECK_EQ(detach(dev), 0);
	REFUSED(destroy(ctx, nested), -EBUSY);
	CHECK_EQ(detach_pasid(dev, 5), 0);
	CHECK_EQ(destroy(ctx, nested), 0);
	teardown();
}

/* ---- vDevices ---- */

TEST(vdevice_order)
{
	uint32_t v, v2, vdev, vdev2, id;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v), 0);
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v2), 0);
	REFUSED(vdevice_alloc(ctx, 99, 99, 0, &id), -ENOENT);
	REFUSED(vdevice_alloc(ctx, parent, dev_id, 0, &id), -ENOENT);
	REFUSED(vdevice_alloc(ctx, v, 99, 0, &id), -ENOENT);
	REFUSED(vdevice_alloc(ctx, v, v, 0, &id), -ENOENT);
	REFUSED(vdevice_alloc(ctx, v, foreign_id, 0, &id), -EINVAL);
	REFUSED(vdevice_alloc(ctx, v, soft_id, 0, &id), -EINVAL);
	REFUSED(vdevice_alloc(ctx, v, dev_id, RIG_BAD_VIRT_ID, &id), -EPERM);
	CHECK_EQ(vdevice_alloc(ctx, v, dev_id, 0, &vdev), 0); /* 0 is a good one */
	REFUSED(vdevice_alloc(ctx, v, dev_id, 1, &id), -EEXIST);
	REFUSED(vdevice_alloc(ctx, v2, dev_id, 1, &id), -EEXIST);
	REFUSED(vdevice_alloc(ctx, v, dev2_id, 0, &id), -EEXIST);
	CHECK_EQ(vdevice_alloc(ctx, v, dev2_id, UINT64_MAX, &vdev2), 0);
	REFUSED(destroy(ctx, v), -EBUSY);
	CHECK_EQ(destroy(ctx, v2), 0);
	CHECK_EQ(destroy(ctx, vdev), 0);
	CHECK_EQ(vdevice_alloc(ctx, v, dev_id, 0, &vdev), 0);
	teardown();
}

/* R1.3.5, R8.4.9: its id stays taken for as long as the context lives. */
TEST(unbinding_buries_a_vdevice)
{
	uint32_t v, vdev, id, again;
	uint64_t before;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v), 0);
	CHECK_EQ(vdevice_alloc(ctx, v, dev2_id, 7, &vdev), 0);
	iof_close(dev2);
	dev2 = NULL;
	CHECK_EQ(rig.vdevices, 0);
	REFUSED(destroy(ctx, vdev), -ENOENT);
	CHECK_EQ(destroy(ctx, v), 0); /* it holds nothing any more */
	before = digest_of(ctx);
	for (uint32_t want = 1, n = 0; n < 40; want++, n++) {
		if (ioas_alloc(ctx, &id))
			break;
		CHECK(id != vdev);
	}
	for (uint32_t i = 1; i < 80; i++)
		if (i != ioas && i != parent && i != plain && i != dev_id && i != foreign_id && i != soft_id)
			destroy(ctx, i);
	CHECK_EQ(digest_of(ctx), before);
	/* RLIMIT_MODE counts it as an id in use, too */
	CHECK_EQ(iof_engine_open_device(m, 2, &dev2), 0);
	CHECK_EQ(bind_device(dev2, ctx, &again), 0);
	CHECK_EQ(again, dev2_id); /* the device's own id was free again */
	teardown();
}

/* ---- hardware queues ---- */

TEST(hw_queue_order)
{
	struct iof_cmd_hw_queue_alloc good;
	uint32_t v, id, bare, low;
	uint64_t iova = 0x900000;
	char *rest = pages_of(4);

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v), 0);
	good = (struct iof_cmd_hw_queue_alloc){ .size = sizeof(good), .viommu_id = v, .type = RIG_QUEUE, .nesting_parent_iova = BASE,
						.length = PAGE };
#define V(rc, ...) VARIED(IOF_CMD_HW_QUEUE_ALLOC, good, rc, __VA_ARGS__)
	V(-EOPNOTSUPP, c.flags = 1, c.length = 0);
	V(-EOPNOTSUPP, c.type = 0, c.length = 0);
	V(-EINVAL, c.length = 0, c.viommu_id = 99);
	V(-EOVERFLOW, c.length = -BASE + 1ul, c.viommu_id = 99);
	V(-EOVERFLOW, c.nesting_parent_iova = UINT64_MAX, c.length = 2, c.viommu_id = 99);
	V(-ENOENT, c.viommu_id = 99);
	V(-ENOENT, c.viommu_id = parent);
	V(-EOPNOTSUPP, c.type = 5, c.nesting_parent_iova = 0);
	V(-ERANGE, c.nesting_parent_iova = 1, c.length = UINT64_MAX); /* rounded up to pages it wraps */
	V(-ENOMEM, c.nesting_parent_iova = 0, c.length = UINT64_C(1) << 60); /* a table of its pages is too large */
	V(-ENOENT, c.nesting_parent_iova = BASE - PAGE);
	V(-ENOENT, c.length = 9 * PAGE);
	V(-EINVAL, c.index = RIG_QUEUES);
	V(-EIO, c.index = 1);
	CHECK_EQ(map_at(ctx, ioas, rest, PAGE, IOF_MAP_WRITEABLE | FIXED, &iova), 0);
	V(-EPERM, c.nesting_parent_iova = iova); /* cannot be read */
	iova += PAGE;
	CHECK_EQ(map_at(ctx, ioas, rest, PAGE, RW | FIXED, &iova), 0);
	iova += PAGE;
	CHECK_EQ(map_at(ctx, ioas, rest + 2 * PAGE, PAGE, RW | FIXED, &iova), 0);
	V(-EFAULT, c.nesting_parent_iova = iova - PAGE, c.length = 2 * PAGE); /* not one behind the other */
	V(-EFAULT, c.nesting_parent_iova = iova - 1, c.length = 2);
#undef V
	CHECK_EQ(rig.queues, 0);
	/* two ids: the queue's and its access's */
	CHECK_EQ(ioas_alloc(ctx, &low), 0);
	CHECK_EQ(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE + 100, 8 * PAGE - 100, &id), 0);
	CHECK_EQ(id, low + 1);
	CHECK_EQ(ioas_alloc(ctx, &bare), 0);
	CHECK_EQ(bare, low + 3);
	REFUSED(destroy(ctx, low + 2), -EBUSY);
	REFUSED(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE, 1, &bare), -EEXIST);
	teardown();
	munmap(rest, 4 * PAGE);
}

TEST(hw_queues_lock_their_memory)
{
	uint32_t v, q0, q1;
	uint64_t bytes, iova;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v), 0);
	CHECK_EQ(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE, PAGE, &q0), 0);
	CHECK_EQ(hw_queue_alloc(ctx, v, RIG_QUEUE, 1, BASE + PAGE, 1, &q1), 0);
	REFUSED(destroy(ctx, q0), -EBUSY); /* the second stands on the first */
	REFUSED(destroy(ctx, v), -EBUSY);
	REFUSED(destroy(ctx, ioas), -EBUSY);
	REFUSED(unmap(ctx, ioas, BASE, 8 * PAGE, &bytes), -EBUSY);
	REFUSED(unmap(ctx, ioas, BASE, PAGE, &bytes), -EBUSY); /* before it is seen that it sticks out */
	REFUSED(unmap(ctx, ioas, 0, UINT64_MAX, &bytes), -EBUSY);
	/* a copy of it is another area */
	CHECK_EQ(copy(ctx, ioas, ioas, BASE, 8 * PAGE, RW, &iova), 0);
	CHECK_EQ(unmap(ctx, ioas, iova, 8 * PAGE, &bytes), 0);
	CHECK_EQ(destroy(ctx, q1), 0);
	REFUSED(unmap(ctx, ioas, BASE, 8 * PAGE, &bytes), -EBUSY);
	CHECK_EQ(destroy(ctx, q0), 0);
	CHECK_EQ(unmap(ctx, ioas, BASE, 8 * PAGE, &bytes), 0);
	CHECK_EQ(destroy(ctx, v), 0);
	teardown();
}

/* With 2 KiB pages an area need not begin with a page: such memory is nothing for a queue, and the queue's own wish for pages can be too much. */
TEST(hw_queues_want_pages)
{
	struct iof_iommu *iommu;
	struct rig small;
	uint32_t at, id, io2, parent2, v, q;
	uint64_t iova = BASE;
	struct iof_handle *h;

	setup();
	rig_init(&small);
	small.table = (struct iof_pt_config){ .format = IOF_PT_MOCK, .top_level = 2 };
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &small, &iommu), 0);
	CHECK_EQ(rig_plug(&small, m, iommu, 0, 1, &at), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &h), 0);
	CHECK_EQ(bind_device(h, ctx, &id), 0);
	CHECK_EQ(ioas_alloc(ctx, &io2), 0);
	CHECK_EQ(hwpt_kind(ctx, id, io2, IOF_HWPT_NEST_PARENT, &parent2), 0);
	CHECK_EQ(viommu_alloc(ctx, id, parent2, NULL, &v), 0);
	CHECK_EQ(map_at(ctx, io2, buf + 2048, 2 * PAGE, RW | FIXED, &iova), 0);
	REFUSED(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE, PAGE, &q), -EADDRINUSE); /* alignment cannot rise */
	CHECK_EQ(unmap(ctx, io2, BASE, 2 * PAGE, NULL), 0);
	CHECK_EQ(map_at(ctx, io2, buf, 2 * PAGE, RW | FIXED, &iova), 0);
	CHECK_EQ(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE, PAGE, &q), 0);
	iova = 2 * BASE;
	REFUSED(map_at(ctx, io2, buf, 2048, RW | FIXED, &iova), -EINVAL); /* it has risen */
	CHECK_EQ(destroy(ctx, q), 0);
	CHECK_EQ(map_at(ctx, io2, buf, 2048, RW | FIXED, &iova), 0);
	iof_close(h);
	teardown();
}

/* ---- events and faults on the way ---- */

TEST(events_reach_the_queue)
{
	uint32_t v, q, word = 9, got[3];
	struct iof_handle *file;
	int fd;

	setup();
	CHECK_EQ(viommu_alloc(ctx, dev_id, parent, NULL, &v), 0);
	CHECK_EQ(iof_report_event(rig.last_viommu, RIG_EVENT, &word, 4), -EOPNOTSUPP);
	CHECK_EQ(rig_veventq_alloc(ctx, v, 4, &q, &fd), 0);
	REFUSED(destroy(ctx, v), -EBUSY);
	CHECK_EQ(iof_report_event(rig.last_viommu, RIG_EVENT, &word, 4), 0);
	CHECK_EQ(iof_file_handle(m, fd, &file), 0);
	CHECK_EQ(iof_poll(file), POLLIN | POLLRDNORM);
	CHECK_EQ(iof_read(file, got, sizeof(got)), 12);
	CHECK(!got[0] && !got[1] && got[2] == 9);
	REFUSED(destroy(ctx, q), -EBUSY);
	iof_close(file);
	CHECK_EQ(destroy(ctx, q), 0);
	teardown();
}

static uint32_t answered, code;

static void answer(void *data, uint32_t pasid, uint32_t group, uint32_t how)
{
	(void)data;
	(void)pasid;
	(void)group;
	answered++;
	code = how;
}

/* R8.1.6: a PASID that nobody attached is the guest's own, if the requester id has a nested table and the device knows such PASIDs. */
TEST(faults_of_a_guest_s_pasids)
{
	struct iof_page_request rq = { .pasid = 77, .pasid_valid = true, .last = true, .group = 3, .perm = 1, .addr = 0x5000, .answer = answer };
	struct iof_fault_record r;
	uint32_t fault, nested, hwpt;
	struct iof_handle *file;
	int fd;

	setup();
	answered = 0;
	CHECK_EQ(rig_fault_alloc(ctx, &fault, &fd), 0);
	CHECK_EQ(iof_file_handle(m, fd, &file), 0);
	CHECK_EQ(nested_alloc(ctx, dev_id, parent, IOF_HWPT_FAULT_ID_VALID, fault, &nested), 0);
	CHECK_EQ(iof_report_page_request(ctx, 99, &rq), -ENOENT);
	CHECK_EQ(iof_report_page_request(ctx, dev_id, &rq), -EINVAL); /* not attached */
	CHECK_EQ(answered, 1);
	CHECK_EQ(attach(dev, nested, NULL), 0);
	CHECK_EQ(iof_report_page_request(ctx, dev_id, &rq), 0);
	CHECK_EQ(iof_read(file, &r, sizeof(r)), sizeof(r));
	CHECK(r.flags == 3 && r.pasid == 77 && r.dev_id == dev_id && r.grpid == 3 && r.addr == 0x5000 && r.cookie == 1);
	CHECK_EQ(iof_write(file, &(struct iof_fault_response){ 1, 0 }, 8), 8);
	CHECK(answered == 2 && code == 0);
	/* a paging table with a queue does not answer for unknown PASIDs, only for the requester id */
	CHECK_EQ(iof_report_page_request(ctx, dev_id, &rq), 0);
	{
		struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = IOF_HWPT_FAULT_ID_VALID, .dev_id = dev_id, .pt_id = ioas,
						.fault_id = fault };

		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c), 0);
		hwpt = c.out_hwpt_id;
	}
	CHECK_EQ(attach(dev, hwpt, NULL), 0); /* the replaced attachment's faults are answered: invalid */
	CHECK(answered == 3 && code == 1);
	CHECK_EQ(iof_read(file, &r, sizeof(r)), 0);
	CHECK_EQ(iof_report_page_request(ctx, dev_id, &rq), -EINVAL);
	rq.pasid_valid = false;
	CHECK_EQ(iof_report_page_request(ctx, dev_id, &rq), 0);
	CHECK_EQ(iof_read(file, &r, sizeof(r)), sizeof(r));
	CHECK_EQ(r.flags, 2);
	iof_close(file);
	teardown();
}
