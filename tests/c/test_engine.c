/* SPDX-License-Identifier: Apache-2.0 */
/* The engine through its public API: the main job, ids, ownership, replay, roll-back, DMA. */
#include "check.h"
#include "engine.h"
#include "util/alloc.h"

static struct iof_machine *m;
static struct iof_handle *ctx, *dev;
static uint32_t dev_id, ioas;

static void setup(enum iof_preset preset)
{
	uint32_t groups[] = { 2, 1 };

	m = machine_with(preset, groups, 2, NULL);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(ctx);
	CHECK(iof_machine_is_valid(m));
	iof_machine_put(m);
}

static void main_job(enum iof_preset preset)
{
	char *buf = pages_of(16), got[5];
	uint64_t iova, bytes;
	uint32_t hwpt;

	setup(preset);
	CHECK_EQ(dev_id, 1);
	CHECK_EQ(ioas, 2);
	CHECK_EQ(attach(dev, ioas, &hwpt), 0);
	CHECK_EQ(hwpt, 3);
	CHECK_EQ(map_at(ctx, ioas, buf, 16 * PAGE, RW, &iova), 0);
	CHECK_EQ(dma(dev, IOF_DMA_WRITE, iova + 5000, "hello", 5, NULL), 0);
	CHECK(!memcmp(buf + 5000, "hello", 5));
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova + 5000, got, 5, NULL), 0);
	CHECK(!memcmp(got, "hello", 5));
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(unmap(ctx, ioas, iova, 16 * PAGE, &bytes), 0);
	CHECK_EQ(bytes, 16 * PAGE);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova + 5000, got, 5, NULL), -EFAULT);
	teardown();
}

TEST(main_job_intel)
{
	main_job(IOF_PRESET_INTEL);
}

TEST(main_job_amd)
{
	main_job(IOF_PRESET_AMD);
}

TEST(first_iova_avoids_zero_and_low_window)
{
	uint64_t iova;
	char *buf = pages_of(1);

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
	CHECK_EQ(iova, 0x1000);
	teardown();
}

TEST(ids_are_lowest_free)
{
	uint32_t a, b, c;

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(ioas_alloc(ctx, &a), 0);
	CHECK_EQ(ioas_alloc(ctx, &b), 0);
	CHECK_EQ(a, 3);
	CHECK_EQ(b, 4);
	CHECK_EQ(destroy(ctx, a), 0);
	CHECK_EQ(destroy(ctx, a), -ENOENT);
	CHECK_EQ(destroy(ctx, dev_id), -EBUSY);
	CHECK_EQ(ioas_alloc(ctx, &c), 0);
	CHECK_EQ(c, 3);
	teardown();
}

TEST(two_contexts_fight_over_a_group)
{
	struct iof_handle *other, *second;

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(iof_engine_open(m, &other), 0);
	CHECK_EQ(iof_engine_open_device(m, 1, &second), 0);
	CHECK_EQ(bind_device(second, other, NULL), -EPERM);
	CHECK_EQ(bind_device(second, ctx, NULL), 0);
	CHECK_EQ(bind_device(second, ctx, NULL), -EINVAL);
	iof_close(second);
	iof_close(dev);
	CHECK_EQ(iof_engine_open_device(m, 1, &dev), 0);
	CHECK_EQ(bind_device(dev, other, NULL), 0);
	iof_close(other);
	teardown();
}

TEST(bind_names_a_context_by_number)
{
	struct iof_handle *d2;
	struct iof_cmd_bind c = { .argsz = sizeof(c) };

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(iof_engine_open_device(m, 2, &d2), 0);
	CHECK_EQ(attach(d2, ioas, NULL), -EINVAL);
	c.iommufd = 99;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EBADF);
	c.iommufd = iof_fileno(d2);
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EBADFD);
	c.iommufd = -1;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EINVAL);
	c.argsz = 15;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EINVAL);
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, (void *)8), -EFAULT);
	iof_close(d2);
	teardown();
}

TEST(devices_share_an_automatic_table)
{
	struct iof_handle *d2;
	uint32_t a, b, id2;

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(iof_engine_open_device(m, 2, &d2), 0);
	CHECK_EQ(bind_device(d2, ctx, &id2), 0);
	CHECK_EQ(attach(dev, ioas, &a), 0);
	CHECK_EQ(attach(d2, ioas, &b), 0);
	CHECK_EQ(a, b);
	CHECK_EQ(destroy(ctx, a), -EBUSY);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(destroy(ctx, ioas), -EBUSY);
	CHECK_EQ(detach(d2), 0);
	CHECK_EQ(destroy(ctx, a), -ENOENT);
	iof_close(d2);
	teardown();
}

TEST(mixed_presets_get_a_table_each)
{
	uint64_t iova, addresses[1];
	char *buf = pages_of(1);
	struct iof_handle *d2;
	uint32_t index, a, b;

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_AMD, UINT32_MAX, &index), 0);
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_AMD, 0, &index), -EINVAL);
	CHECK_EQ(iof_engine_open_device(m, index, &d2), 0);
	CHECK_EQ(bind_device(d2, ctx, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
	CHECK_EQ(attach(dev, ioas, &a), 0);
	CHECK_EQ(attach(d2, ioas, &b), 0);
	CHECK(a != b);
	CHECK_EQ(attach(d2, a, NULL), -EINVAL);
	CHECK_EQ(iof_translate(ctx, b, 1, &iova, addresses, NULL), 1);
	CHECK_EQ(addresses[0], (uintptr_t)buf);
	iof_close(d2);
	teardown();
}

TEST(replay_and_conflict)
{
	uint64_t iova = 0xfee00000, ok = 0x100000;
	char *buf = pages_of(4);

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &ok), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach(dev, ioas, NULL), -EADDRINUSE);
	CHECK_EQ(unmap(ctx, ioas, iova, PAGE, NULL), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(dma(dev, IOF_DMA_WRITE, ok, "x", 1, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), -EINVAL);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &ok), -EEXIST);
	teardown();
}

TEST(replace_moves_the_device)
{
	uint64_t iova = 0x100000;
	char *buf = pages_of(2);
	uint32_t second, a, b;
	char c;

	setup(IOF_PRESET_INTEL);
	buf[0] = 'a';
	buf[PAGE] = 'b';
	CHECK_EQ(ioas_alloc(ctx, &second), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(map_at(ctx, second, buf + PAGE, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach(dev, ioas, &a), 0);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	CHECK_EQ(c, 'a');
	CHECK_EQ(attach(dev, second, &b), 0);
	CHECK_EQ(destroy(ctx, a), -ENOENT);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	CHECK_EQ(c, 'b');
	CHECK_EQ(destroy(ctx, ioas), 0);
	teardown();
}

TEST(copy_shares_the_container)
{
	uint64_t iova, to, bytes;
	char *buf = pages_of(4);
	uint32_t second;
	char c;

	setup(IOF_PRESET_INTEL);
	buf[PAGE] = 'k';
	CHECK_EQ(ioas_alloc(ctx, &second), 0);
	CHECK_EQ(attach(dev, second, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, 4 * PAGE, RW, &iova), 0);
	CHECK_EQ(copy(ctx, second, ioas, iova + PAGE, 2 * PAGE, IOF_MAP_READABLE, &to), 0);
	CHECK_EQ(copy(ctx, second, ioas, iova + 3 * PAGE, 2 * PAGE, IOF_MAP_READABLE, &to), -ENOENT);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(unmap(ctx, second, 0, UINT64_MAX, &bytes), 0);
	CHECK_EQ(bytes, 2 * PAGE);
	(void)c;
	teardown();
}

TEST(dma_obeys_permissions)
{
	struct iof_dma d;
	uint64_t iova;
	char *buf = pages_of(1), c;

	setup(IOF_PRESET_INTEL);
	CHECK_EQ(dma(dev, IOF_DMA_READ, 0x1000, &c, 1, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_BLOCKED);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, IOF_MAP_READABLE, &iova), 0);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, &d), 0);
	CHECK_EQ(dma(dev, IOF_DMA_WRITE, iova, &c, 1, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_DENIED);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova + PAGE - 1, buf, 2, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_UNMAPPED);
	CHECK_EQ(d.fault_iova, iova + PAGE);
	CHECK_EQ(d.done, 1);
	munmap(buf, PAGE);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_MEMORY);
	teardown();
}

TEST(a_broken_iotlb_shows_the_stale_page)
{
	char *buf = pages_of(2), c = 0;
	struct iof_iotlb_stats s;
	uint64_t iova;

	setup(IOF_PRESET_INTEL);
	buf[0] = 's';
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	iof_iotlb_drop_invalidations(m, true);
	CHECK_EQ(unmap(ctx, ioas, iova, PAGE, NULL), 0);
	c = 0;
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	CHECK_EQ(c, 's');
	iof_iotlb_drop_invalidations(m, false);
	CHECK_EQ(map_at(ctx, ioas, buf + PAGE, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(unmap(ctx, ioas, iova, PAGE, NULL), 0);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), -EFAULT);
	CHECK_EQ(iof_iotlb_stats(m, &s), 0);
	CHECK(s.hits >= 1 && s.misses >= 1 && s.dropped == 1 && s.invalidations >= 1);
	teardown();
}

TEST(close_in_any_order)
{
	uint64_t iova;
	char *buf = pages_of(1);

	for (int order = 0; order < 6; order++) {
		struct iof_handle *h[2];

		setup(IOF_PRESET_INTEL);
		CHECK_EQ(attach(dev, ioas, NULL), 0);
		CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
		h[0] = order & 1 ? dev : ctx;
		h[1] = order & 1 ? ctx : dev;
		if (order >= 4)
			iof_machine_put(m);
		iof_close(h[0]);
		if (order < 4)
			CHECK(iof_machine_is_valid(m));
		if (h[1] == dev)
			CHECK_EQ(dma(dev, IOF_DMA_WRITE, iova, "y", 1, NULL), 0);
		iof_close(h[1]);
		if (order < 4)
			iof_machine_put(m);
	}
}

/* Every step of the main job fails once at every fallible point; each failure leaves the state it found. */
static int sweep_steps(struct iof_handle *c, struct iof_handle *d, char *buf)
{
	uint32_t id, hwpt, dev, second;
	uint64_t iova, to;
	int rc = bind_device(d, c, &dev);

	rc = rc ? rc : ioas_alloc(c, &id);
	rc = rc ? rc : map_at(c, id, buf, 3 * PAGE, RW, &iova);
	rc = rc ? rc : attach(d, id, NULL);
	rc = rc ? rc : hwpt_alloc(c, dev, id, &hwpt);
	rc = rc ? rc : ioas_alloc(c, &second);
	rc = rc ? rc : attach(d, second, NULL);
	rc = rc ? rc : copy(c, second, id, iova + PAGE, PAGE, RW, &to);
	rc = rc ? rc : copy(c, id, second, to, PAGE, RW, &to);
	rc = rc ? rc : attach(d, hwpt, NULL);
	return rc ? rc : unmap(c, id, 0, UINT64_MAX, NULL);
}

TEST(every_failure_is_rolled_back)
{
	char *buf = pages_of(4);
	struct iof_alloc heap;
	uint32_t groups[] = { 1 };
	int failures = 0, rc = -1;

	for (int64_t n = 1; rc; n++) {
		iof_alloc_init_heap(&heap);
		m = machine_with(IOF_PRESET_AMD, groups, 1, &heap);
		CHECK_EQ(iof_engine_open(m, &ctx), 0);
		CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
		iof_alloc_fail_nth(&heap, n);
		rc = sweep_steps(ctx, dev, buf);
		CHECK(rc == 0 || rc == -ENOMEM || rc == -ENOENT || rc == -EINVAL || rc == -EFAULT);
		iof_alloc_fail_nth(&heap, 0);
		failures += rc != 0;
		CHECK(iof_machine_is_valid(m));
		iof_close(dev);
		iof_close(ctx);
		iof_machine_put(m);
		CHECK_EQ(heap.live_blocks, 0);
	}
	CHECK(failures > 20);
}
