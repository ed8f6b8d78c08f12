/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* The VFIO container's commands on an iommufd (behaviour.md 2.9, 2.22, 3.10): bytes, errnos in order, cuts. */
#include <stdatomic.h>
#include <time.h>

#include "access_rig.h"
#include "dispatch/uapi_container.h"
#include "iommufd_fast_embed.h"

static struct iof_machine *m;
static struct iof_handle *ctx, *dev;
static uint32_t ioas;
static struct iof_alloc heap;

/* An IOMMU as the kernel's tests have it: AMDv1 of 2 KiB pages, three levels, 16 MiB to 2 GiB (behaviour.md R9.4.1). */
static int mock_table(void *drv, struct iof_mdev *d, uint32_t flags, const struct iof_user_data *data,
		      struct iof_paging_plan *plan)
{
	(void)drv;
	(void)d;
	(void)flags;
	(void)data;
	*plan = (struct iof_paging_plan){
		.table = { .format = IOF_PT_MOCK, .va_lg2 = 38, .top_level = 2, .page_sizes = 0x1ffffff800 },
		.aperture = { 0x1000000, 0x7fffffff },
	};
	return 0;
}

static const struct iof_driver mock = { .name = "mock", .paging_alloc = mock_table };

static void setup(void)
{
	struct iof_device_caps caps = { .max_pasids = 1 };
	struct iof_iommu *iommu;
	uint32_t index;

	iof_alloc_init_heap(&heap);
	m = rig_machine(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC, &heap);
	CHECK(m);
	CHECK_EQ(iof_machine_add_driver(m, &mock, NULL, &iommu), 0);
	CHECK_EQ(iof_machine_plug_device(m, iommu, UINT32_MAX, &caps, &index), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &dev), 0);
	CHECK_EQ(bind_device(dev, ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(heap.live_blocks, 0);
}

static int vfio_ioas(uint16_t op, uint32_t *id)
{
	struct iof_cmd_vfio_ioas c = { .size = sizeof(c), .ioas_id = *id, .op = op };
	int rc = iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &c);

	*id = c.ioas_id;
	return rc;
}

static int compat(void)
{
	return vfio_ioas(IOF_VFIO_IOAS_SET, &(uint32_t){ ioas });
}

static int set_iommu(uintptr_t type)
{
	return iof_ioctl(ctx, IOF_CMD_CONTAINER_SET_IOMMU, (void *)type);
}

static int extension(uintptr_t what)
{
	return iof_ioctl(ctx, IOF_CMD_CONTAINER_CHECK_EXTENSION, (void *)what);
}

static int map_dma(uint64_t iova, const void *va, uint64_t size, uint32_t flags)
{
	struct iof_cmd_container_map c = { .argsz = sizeof(c), .flags = flags, .vaddr = (uintptr_t)va, .iova = iova,
					   .size = size };

	return iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &c);
}

static int unmap_dma(uint64_t iova, uint64_t size, uint32_t flags, uint64_t *got)
{
	struct iof_cmd_container_unmap c = { .argsz = sizeof(c), .flags = flags, .iova = iova, .size = size };
	int rc = iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &c);

	*got = c.size;
	return rc;
}

/* ---- VFIO_IOAS: 2.9 ---- */

TEST(vfio_ioas_in_order_of_errors)
{
	struct iof_cmd_vfio_ioas c = { .size = sizeof(c), .op = 9, .reserved = 1 };
	uint32_t id = 0, second;

	setup();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &c), -EOPNOTSUPP);
	c.reserved = 0;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &c), -EOPNOTSUPP);
	c.size = 11;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &c), -EINVAL);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), -ENODEV);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_CLEAR, &id), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_SET, &id), -ENOENT);
	id = 1; /* the device */
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_SET, &id), -ENOENT);
	CHECK_EQ(compat(), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), 0);
	CHECK_EQ(id, ioas);
	/* no reference is kept, and what is destroyed is forgotten, also when its id comes again */
	CHECK_EQ(ioas_alloc(ctx, &second), 0);
	CHECK_EQ(destroy(ctx, second), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), -ENODEV);
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, ioas);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), -ENODEV);
	CHECK_EQ(compat(), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_CLEAR, &id), 0);
	CHECK_EQ(vfio_ioas(IOF_VFIO_IOAS_GET, &id), -ENODEV);
	teardown();
}

/* ---- 2.22 without an IOAS ---- */

TEST(questions_without_an_ioas)
{
	struct iof_cmd_container_info info = { .argsz = 15 };
	struct iof_cmd_container_map map = { .argsz = 31 };
	struct iof_cmd_container_unmap un = { .argsz = 23 };

	setup();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_API_VERSION, NULL), 0);
	CHECK_EQ(extension(IOF_CONTAINER_TYPE1), 1);
	CHECK_EQ(extension(IOF_CONTAINER_TYPE1V2), 1);
	CHECK_EQ(extension(IOF_CONTAINER_UNMAP_ALL), 1);
	CHECK_EQ(extension(IOF_CONTAINER_NOIOMMU), 0);
	CHECK_EQ(extension(IOF_CONTAINER_DMA_CC), -ENODEV);
	CHECK_EQ(extension(2), 0);
	CHECK_EQ(extension(6), 0);
	CHECK_EQ(extension(10), 0);
	CHECK_EQ(extension(UINTPTR_MAX), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_NOIOMMU), -EINVAL);
	CHECK_EQ(set_iommu(2), -EINVAL);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), -ENODEV);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1V2), -ENODEV);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, NULL), -EFAULT);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, &info), -EINVAL);
	info.argsz = 16;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, &info), -ENODEV);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, NULL), -EFAULT);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &map), -EINVAL);
	map = (struct iof_cmd_container_map){ .argsz = 32, .flags = 4 };
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &map), -EINVAL);
	map.flags = 0;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &map), -ENODEV);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, NULL), -EFAULT);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &un), -EINVAL);
	un = (struct iof_cmd_container_unmap){ .argsz = 24, .flags = 1u << 31 };
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &un), -EINVAL);
	un.flags = 1; /* GET_DIRTY_BITMAP */
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &un), -EINVAL);
	un.flags = 2;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &un), -ENODEV);
	teardown();
}

/*
 * An unknown number is ENOTTY before its argument is looked at, and a known one only with its own type and size bits.
 */
TEST(unknown_commands)
{
	setup();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD(0x75), NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD(0x7f), NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD(0x00), NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD(0xff), NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl(ctx, 0x80003b64, NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl(ctx, 0x3c64, NULL), -ENOTTY);
	CHECK_EQ(iof_ioctl_nowait(ctx, IOF_CMD_CONTAINER_GET_API_VERSION, NULL), -EAGAIN);
	teardown();
}

TEST(coherency_of_the_tables)
{
	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(extension(IOF_CONTAINER_DMA_CC), 1);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(extension(IOF_CONTAINER_DMA_CC), 0);
	teardown();
}

/* ---- SET_IOMMU: R2.22.3 ---- */

static uint64_t large_pages(void)
{
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_GET,
				    .object_id = ioas };

	return iof_ioctl(ctx, IOF_CMD_OPTION, &c) ? 99 : c.val64;
}

TEST(type1_takes_small_pages)
{
	char *buf = pages_of(2);

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1V2), 0);
	CHECK_EQ(large_pages(), 1);
	CHECK_EQ(map_dma(0x1000800, buf, 0x800, 3), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), -EADDRINUSE);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), -EINVAL);
	CHECK_EQ(large_pages(), 1);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(unmap_dma(0x1000800, 0x800, 0, &(uint64_t){ 0 }), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1V2), 0);
	CHECK_EQ(large_pages(), 0);
	teardown();
}

/* ---- GET_INFO: R2.22.4, appendix A.5 ---- */

static const struct {
	struct iof_cmd_container_info info;
	struct iof_container_dma_avail avail;
	uint32_t pad;
	struct iof_container_iova_range ranges;
	struct iof_uapi_range range[1];
} a5 = {
	.info = { .argsz = 72, .flags = 3, .iova_pgsizes = 0x1ffffff000, .cap_offset = 24 },
	.avail = { .header = { .id = 3, .version = 1, .next = 40 }, .avail = UINT32_MAX },
	.ranges = { .header = { .id = 1, .version = 1 }, .nr_iovas = 1 },
	.range = { { 0x1000000, 0x7fffffff } },
};

_Static_assert(sizeof(a5) == 72, "the vector's length");

/* What an answer into `argsz` bytes of 0x55 must look like, byte for byte. */
static void expect_info(unsigned char *want, uint32_t argsz)
{
	const unsigned char *full = (const unsigned char *)&a5;

	memcpy(want, full, argsz < 24 ? argsz : 24);
	if (argsz < 72 && argsz > 16)
		memset(want + 16, 0, argsz - 16 < 4 ? argsz - 16 : 4);
	if (argsz >= 24 + 12)
		memcpy(want + 24, full + 24, 12);
	if (argsz >= 24 + 12 && argsz < 40)
		memset(want + 28, 0, 4); /* `next` as it was built: the chain did not go on */
	if (argsz >= 72)
		memcpy(want + 40, full + 40, 32);
}

TEST(get_info_byte_for_byte)
{
	unsigned char got[96], want[96];

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	for (uint32_t argsz = 16; argsz <= 96; argsz++) {
		memset(got, 0x55, sizeof(got));
		memset(want, 0x55, sizeof(want));
		memcpy(got, &argsz, 4);
		expect_info(want, argsz);
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, got), 0);
		for (unsigned i = 0; i < sizeof(got); i++)
			if (got[i] != want[i]) {
				printf("argsz %u, byte %u\n", argsz, i);
				CHECK_EQ(got[i], want[i]);
			}
	}
	teardown();
}

/* Two ranges: the first fits before the second does, and the header only with both. */
TEST(get_info_fills_what_fits)
{
	unsigned char got[128] = { 0 };
	struct iof_handle *intel;
	struct iof_container_iova_range cap;
	struct iof_uapi_range r[2];
	uint32_t argsz;

	setup();
	CHECK_EQ(iof_engine_open_device(m, 0, &intel), 0);
	CHECK_EQ(bind_device(intel, ctx, NULL), 0);
	CHECK_EQ(attach(intel, ioas, NULL), 0); /* reserves the MSI window: two ranges */
	CHECK_EQ(compat(), 0);
	for (argsz = 72; argsz <= 88; argsz += 16) {
		memset(got, 0x55, sizeof(got));
		memcpy(got, &argsz, 4);
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, got), 0);
		CHECK_EQ(*(uint32_t *)got, 88);
		CHECK_EQ(*(uint32_t *)(got + 16), argsz == 88 ? 24 : 0);
		memcpy(&cap, got + 40, sizeof(cap));
		memcpy(r, got + 56, sizeof(r));
		CHECK_EQ(cap.header.id, argsz == 88 ? 1 : 0x5555);
		CHECK_EQ(r[0].start, 0);
		CHECK_EQ(r[0].last, 0xfedfffff);
		CHECK_EQ(r[1].start, argsz == 88 ? 0xfef00000 : 0x5555555555555555);
	}
	CHECK_EQ(cap.nr_iovas, 2);
	CHECK_EQ(r[1].last, 0xffffffffffff);
	iof_close(intel);
	teardown();
}

TEST(get_info_without_tables)
{
	struct iof_cmd_container_info info = { .argsz = sizeof(info) };

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, &info), 0);
	CHECK_EQ(info.argsz, 72);
	CHECK_EQ(info.flags, 3);
	CHECK_EQ(info.iova_pgsizes, ~0xfffull);
	CHECK_EQ(info.cap_offset, 0);
	teardown();
}

TEST(get_info_into_bad_memory)
{
	unsigned char *two = pages_of(2);

	setup();
	CHECK_EQ(compat(), 0);
	munmap(two + PAGE, PAGE);
	for (uint32_t room = 4; room < 72; room += 4) {
		*(uint32_t *)(two + PAGE - room) = 72;
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, two + PAGE - room), -EFAULT);
	}
	munmap(two, PAGE);
	teardown();
}

/* ---- MAP_DMA, UNMAP_DMA: R2.22.5, R2.22.6 ---- */

TEST(map_in_order_of_errors)
{
	struct iof_cmd_container_map c = { .argsz = sizeof(c), .flags = 3 };
	char *buf = pages_of(2);
	uint64_t got;

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_dma(0x1000000, buf, 0, 3), -EINVAL);
	CHECK_EQ(map_dma(0x1000000, (void *)-4096ul, 8192, 3), -EOVERFLOW);
	CHECK_EQ(map_dma(0x1000001, buf, PAGE, 3), -EINVAL);
	CHECK_EQ(map_dma(0, buf, PAGE, 3), -EINVAL);
	CHECK_EQ(map_dma(0x1000000, buf, PAGE, 3), 0);
	CHECK_EQ(map_dma(0x1000000, buf, PAGE, 3), -EEXIST);
	/* no access at all: the table refuses */
	CHECK_EQ(map_dma(0x1001000, buf, PAGE, 0), -EINVAL);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(unmap_dma(0x1000000, PAGE, 0, &got), 0);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(map_dma(0x1001000, buf, PAGE, 0), 0);
	CHECK_EQ(attach(dev, ioas, NULL), -EINVAL);
	CHECK_EQ(unmap_dma(0, 0, 2, &got), 0);
	CHECK_EQ(got, PAGE);
	/* nothing is written back */
	c.vaddr = (uintptr_t)buf;
	c.size = PAGE;
	c.iova = 0x1000000;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &c), 0);
	CHECK_EQ(c.argsz, sizeof(c));
	CHECK_EQ(c.iova, 0x1000000);
	teardown();
}

TEST(unmap_in_order_of_errors)
{
	struct iof_cmd_container_unmap *at_end;
	char *buf = pages_of(4), *edge = pages_of(2);
	uint64_t got;

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(unmap_dma(0x1000000, PAGE, 0, &got), 0); /* empty is success here */
	CHECK_EQ(got, 0);
	CHECK_EQ(unmap_dma(0, 0, 2, &got), 0);
	CHECK_EQ(unmap_dma(0x1000, 0, 2, &got), -EINVAL);
	CHECK_EQ(unmap_dma(0, PAGE, 2, &got), -EINVAL);
	CHECK_EQ(got, PAGE); /* not written */
	CHECK_EQ(unmap_dma(0x1000, 0, 0, &got), -EINVAL);
	CHECK_EQ(unmap_dma(UINT64_MAX, 2, 0, &got), -EOVERFLOW);
	CHECK_EQ(got, 0); /* written, on an error */
	CHECK_EQ(map_dma(0x10000, buf, PAGE, 3), 0);
	CHECK_EQ(map_dma(0x11000, buf + PAGE, 2 * PAGE, 3), 0);
	CHECK_EQ(unmap_dma(0x10000, 2 * PAGE, 0, &got), -ENOENT);
	CHECK_EQ(got, PAGE); /* what went before the error */
	/* the answer's fault wins, and the mapping is gone */
	at_end = (void *)(edge + PAGE - sizeof(*at_end));
	*at_end = (struct iof_cmd_container_unmap){ .argsz = sizeof(*at_end), .iova = 0x11000, .size = 2 * PAGE };
	mprotect(edge, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, at_end), -EFAULT);
	CHECK_EQ(unmap_dma(0, 0, 2, &got), 0);
	CHECK_EQ(got, 0);
	munmap(edge, 2 * PAGE);
	teardown();
}

/* ---- cutting: 3.10 ---- */

static int64_t pins(const char *page)
{
	return iof_machine_pins(m, (uintptr_t)page);
}

TEST(type1_unmaps_parts)
{
	enum { N = 64 };
	char *buf = pages_of(N);
	uint64_t iova = 0x1000000, got, seed = 4711;
	bool gone[N] = { false };

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_dma(iova, buf, N * PAGE, 3), 0);
	for (unsigned round = 0; round < 60; round++) {
		uint64_t from = check_random(&seed) % N, n = 1 + check_random(&seed) % 3, want = 0;

		if (n > N - from)
			n = N - from;
		for (uint64_t i = from; i < from + n; i++) {
			want += gone[i] ? 0 : PAGE;
			gone[i] = true;
		}
		CHECK_EQ(unmap_dma(iova + from * PAGE, n * PAGE, 0, &got), 0);
		CHECK_EQ(got, want);
		CHECK(iof_machine_is_valid(m));
		for (unsigned i = 0; i < N; i++)
			CHECK_EQ(pins(buf + i * PAGE), !gone[i]);
	}
	CHECK_EQ(detach(dev), 0);
	for (unsigned i = 0; i < N; i++)
		CHECK_EQ(pins(buf + i * PAGE), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		CHECK_EQ(pins(buf + i * PAGE), !gone[i]);
	CHECK_EQ(unmap_dma(0, 0, 2, &got), 0);
	CHECK_EQ(pins(buf + PAGE), 0);
	munmap(buf, N * PAGE);
	teardown();
}

TEST(type1v2_does_not)
{
	char *buf = pages_of(4);
	uint64_t got;

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1V2), 0);
	CHECK_EQ(map_dma(0x1000000, buf, 4 * PAGE, 3), 0);
	CHECK_EQ(unmap_dma(0x1000000, PAGE, 0, &got), -ENOENT);
	CHECK_EQ(unmap_dma(0x1000000, 4 * PAGE, 0, &got), 0);
	teardown();
}

static uint64_t mappings(void)
{
	struct iof_ioas_stats s;

	return iof_ioas_stats(ctx, ioas, &s) ? 99 : s.mappings;
}

TEST(cut_in_order_of_errors)
{
	char *buf = pages_of(8);
	struct emu e;
	uint64_t got;

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(map_dma(0x10000, buf, 8 * PAGE, 3), 0);
	/* a misaligned end, then a misaligned start: the good cut at the end stays; nothing is written back */
	CHECK_EQ(unmap_dma(0x10000, PAGE + 1, 0, &got), -EINVAL);
	CHECK_EQ(got, PAGE + 1);
	CHECK_EQ(mappings(), 1);
	CHECK_EQ(unmap_dma(0x10800, 0x800, 0, &got), -EINVAL);
	CHECK_EQ(mappings(), 2);
	CHECK_EQ(got, 0x800);
	/* behind the first byte or at the last nothing is cut: the unmap finds the area sticking out */
	CHECK_EQ(unmap_dma(0x11001, 7 * PAGE - 1, 0, &got), -ENOENT);
	CHECK_EQ(mappings(), 2);
	CHECK_EQ(got, 0);
	/* pinned: no cut; waited for: busy */
	CHECK_EQ(emu_open(&e, ctx, true), 0);
	CHECK_EQ(iof_access_attach(e.access, ioas), 0);
	CHECK_EQ(emu_pin(&e, 0x14000, PAGE, false, NULL), 0);
	CHECK_EQ(unmap_dma(0x12000, PAGE, 0, &got), -EINVAL);
	e.stubborn = true;
	CHECK_EQ(unmap_dma(0, 0, 2, &got), -EDEADLOCK);
	CHECK_EQ(got, PAGE);
	CHECK_EQ(unmap_dma(0x12000, PAGE, 0, &got), -EBUSY);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(emu_unpin(&e), 0);
	/* still waited for */
	CHECK_EQ(unmap_dma(0x12000, PAGE, 0, &got), -EBUSY);
	CHECK_EQ(unmap_dma(0x11000, 7 * PAGE, 0, &got), 0);
	iof_access_destroy(e.access);
	teardown();
}

/* A part may outlive the area that brought the container, and be copied, and the IOAS may go first. */
TEST(parts_share_the_container)
{
	char *buf = pages_of(8);
	uint64_t got, iova = 0x1020000;
	uint32_t second, third;

	setup();
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_dma(0x1000000, buf, 8 * PAGE, 3), 0);
	CHECK_EQ(unmap_dma(0x1000000, 2 * PAGE, 0, &got), 0);
	CHECK_EQ(ioas_alloc(ctx, &second), 0);
	CHECK_EQ(copy(ctx, second, ioas, 0x1003000, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach(dev, second, NULL), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(pins(buf + 2 * PAGE), 0);
	CHECK_EQ(pins(buf + 3 * PAGE), 1);
	CHECK_EQ(pins(buf + 5 * PAGE), 0);
	CHECK_EQ(ioas_alloc(ctx, &third), 0);
	CHECK_EQ(destroy(ctx, third), 0);
	CHECK_EQ(unmap(ctx, second, 0, UINT64_MAX, &got), 0);
	CHECK_EQ(got, 2 * PAGE);
	CHECK_EQ(pins(buf + 3 * PAGE), 0);
	teardown();
}

/* ---- every failure ---- */

static int steps(char *buf)
{
	uint64_t before, after, got;
	int rc = compat();

	rc = rc ? rc : set_iommu(IOF_CONTAINER_TYPE1);
	rc = rc ? rc : attach(dev, ioas, NULL);
	rc = rc ? rc : map_dma(0x1000000, buf, 8 * PAGE, 3);
	if (rc)
		return rc;
	iof_digest(ctx, &before);
	rc = unmap_dma(0x1000000, PAGE, 0, &got);
	iof_digest(ctx, &after);
	/* one cut: all of it or nothing */
	CHECK_EQ(rc == 0, before != after);
	rc = rc ? rc : unmap_dma(0x1003000, 2 * PAGE, 0, &got);
	rc = rc ? rc : iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, &(struct iof_cmd_container_info){ .argsz = 24 });
	return rc ? rc : unmap_dma(0, 0, 2, &got);
}

TEST(every_failure_is_rolled_back)
{
	char *buf = pages_of(8);
	int failures = 0, rc = -1;

	for (int64_t n = 1; rc; n++) {
		setup();
		iof_alloc_fail_nth(&heap, n);
		rc = steps(buf);
		iof_alloc_fail_nth(&heap, 0);
		CHECK(rc == 0 || rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT || rc == -EINVAL || rc == -ENODEV);
		failures += rc != 0;
		teardown();
	}
	CHECK(failures > 20);
	munmap(buf, 8 * PAGE);
}

/* ---- threads ---- */

enum { PAGES = 16 };
static atomic_bool stop;
static _Atomic unsigned long done[3];
static char *shared_buf;

/* Maps, unmaps in pieces of any size, at page edges: the sum of the pieces is the mapping, whoever pins meanwhile. */
static void *carver(void *arg)
{
	uint64_t seed = 12345, got, sum;
	int rc;

	(void)arg;
	while (!atomic_load(&stop)) {
		if (map_dma(0x1000000, shared_buf, PAGES * PAGE, 3))
			return (void *)1;
		sum = 0;
		for (unsigned i = 0; i < 200 && sum < PAGES * PAGE; i++) {
			uint64_t from = check_random(&seed) % PAGES, n = 1 + check_random(&seed) % (PAGES - from);

			rc = unmap_dma(0x1000000 + from * PAGE, n * PAGE, 0, &got);
			if (rc && rc != -EINVAL) /* an area that is pinned is not cut */
				return (void *)2;
			sum += rc ? 0 : got;
		}
		if (unmap_dma(0, 0, 2, &got) || sum + got != PAGES * PAGE)
			return (void *)3;
		atomic_fetch_add(&done[0], 1);
	}
	return NULL;
}

static void *user(void *arg)
{
	struct emu *e = arg;
	uint64_t seed = 99;
	char got[100];
	int rc;

	while (!atomic_load(&stop)) {
		uint64_t from = check_random(&seed) % PAGES;

		rc = emu_pin(e, 0x1000000 + from * PAGE, PAGE, true, NULL);
		if (!rc)
			emu_unpin(e);
		if (rc && rc != -ENOENT && rc != -EINVAL)
			return (void *)4;
		rc = iof_access_rw(e->access, 0x1000000 + from * PAGE + 1, got, sizeof(got), IOF_ACCESS_READ);
		if (rc && rc != -ENOENT && rc != -EINVAL)
			return (void *)5;
		atomic_fetch_add(&done[1], 1);
	}
	return NULL;
}

static void *asker(void *arg)
{
	uint32_t id = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		struct iof_cmd_container_info info = { .argsz = sizeof(info) };

		if (iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, &info) || info.argsz != 72)
			return (void *)6;
		if (compat() || vfio_ioas(IOF_VFIO_IOAS_GET, &id) || id != ioas)
			return (void *)7;
		if (set_iommu(IOF_CONTAINER_TYPE1))
			return (void *)8;
		atomic_fetch_add(&done[2], 1);
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
	return NULL;
}

TEST(cuts_against_pins_and_questions)
{
	void *(*const fn[])(void *) = { carver, user, asker };
	pthread_t thread[3];
	void *result[3];
	struct emu e;

	setup();
	shared_buf = pages_of(PAGES);
	CHECK_EQ(compat(), 0);
	CHECK_EQ(set_iommu(IOF_CONTAINER_TYPE1), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(emu_open(&e, ctx, true), 0);
	CHECK_EQ(iof_access_attach(e.access, ioas), 0);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, fn[i], &e), 0);
	for (unsigned tries = 0; tries < 2000; tries++) {
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		if (done[0] > 50 && done[1] > 300 && done[2] > 100)
			break;
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], &result[i]);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ((uintptr_t)result[i], 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(atomic_load(&done[i]) > 10);
	CHECK(iof_machine_is_valid(m));
	iof_access_destroy(e.access);
	munmap(shared_buf, PAGES * PAGE);
	teardown();
}
