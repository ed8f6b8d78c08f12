/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sequence that touches every command and verb, once for each of its fallible steps, the n-th of which fails: the call says so, the state is
 * what it was before that call (the digest proves it), everything is valid, the same call then succeeds and the sequence goes on to its end, and nothing leaks.
 */
#define _GNU_SOURCE /* memfd_create */
#include <dirent.h>
#include <unistd.h>

#include "dispatch/uapi_container.h"
#include "driver_rig.h"
#include "iommufd_fast_access.h"

#define FIXED IOF_MAP_FIXED_IOVA
#define BASE 0x200000

static struct iof_alloc heap;
static struct iof_machine *m;
static struct iof_handle *ctx, *dev, *soft;
static struct rig rig;
static char *buf;
static int memfd;
static unsigned failures, steps;
static bool lossy; /* this call may be told to fail after it did something, and that is the contract */

static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool is_known(int64_t rc)
{
	return rc == -ENOMEM || rc == -ENOENT || rc == -EINVAL || rc == -EFAULT || rc == -EMFILE || rc == -ENODEV;
}

static void after_failure(const char *what, int64_t rc, uint64_t before)
{
	failures++;
	if (!is_known(rc) || (!lossy && digest_of(ctx) != before))
		printf("%s: %lld\n", what, (long long)rc);
	CHECK(is_known(rc));
	CHECK(lossy || digest_of(ctx) == before);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(iof_alloc_fail_nth(&heap, 0), 0); /* it was ours */
}

/* An ioctl's answer or a verb's; what fails is done once more. */
#define STEP(call)                                                                                                     \
	do {                                                                                                           \
		uint64_t before_ = digest_of(ctx);                                                                     \
		int64_t rc_ = (call);                                                                                  \
		steps++;                                                                                               \
		if (rc_ < 0) {                                                                                         \
			after_failure(#call, rc_, before_);                                                            \
			rc_ = (call);                                                                                  \
		}                                                                                                      \
		if (rc_ < 0)                                                                                           \
			printf("%s: again %lld\n", #call, (long long)rc_);                                             \
		CHECK(rc_ >= 0);                                                                                       \
	} while (0)

#define COMMAND(cmd, type, ...) iof_ioctl(ctx, cmd, &(struct type){ __VA_ARGS__ })

static void pins_go(void *data, uint64_t iova, uint64_t length)
{
	(void)data;
	(void)iova;
	(void)length;
}

static int report_fault(uint32_t dev_id)
{
	struct iof_page_request rq = { .last = true, .group = 1, .perm = 1, .addr = BASE };

	return iof_report_page_request(ctx, dev_id, &rq);
}

static int64_t map_some(uint32_t ioas, uint64_t *iovas)
{
	uint64_t addresses[] = { (uintptr_t)buf, (uintptr_t)buf + PAGE }, lengths[] = { PAGE, 2 * PAGE };
	struct iof_map_many many = { .ioas_id = ioas, .flags = RW, .n = 2, .addresses = addresses, .lengths = lengths, .iovas = iovas };

	return iof_map_many(ctx, &many);
}

static int64_t map_file(uint32_t ioas, uint64_t *iova)
{
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = RW, .ioas_id = ioas, .fd = memfd, .length = 2 * PAGE };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_MAP_FILE, &c);

	*iova = c.iova;
	return rc;
}

static void accesses(uint32_t ioas, uint32_t other)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = true, .unmap = pins_go };
	struct iof_access *a;
	uint64_t at[2];

	STEP(iof_access_open(ctx, &cfg, &a));
	STEP(iof_access_attach(a, ioas));
	STEP(iof_access_pin(a, BASE, 2 * PAGE, true, at));
	STEP(iof_access_rw(a, BASE + 5, at, 8, IOF_ACCESS_READ));
	STEP(iof_access_rw(a, BASE + PAGE - 4, at, 8, IOF_ACCESS_WRITE | IOF_ACCESS_SLOW));
	STEP(iof_access_unpin(a, BASE, 2 * PAGE));
	STEP(iof_access_replace(a, other));
	iof_access_detach(a);
	iof_access_destroy(a);
}

static void containers(uint32_t ioas)
{
	struct iof_cmd_container_map map = { .argsz = sizeof(map), .flags = 3, .vaddr = (uintptr_t)buf, .iova = BASE, .size = 4 * PAGE };
	char info[256] = { 0 };

	*(uint32_t *)info = sizeof(info);
	STEP(COMMAND(IOF_CMD_VFIO_IOAS, iof_cmd_vfio_ioas, 12, ioas, IOF_VFIO_IOAS_SET, 0));
	STEP(iof_ioctl(ctx, IOF_CMD_CONTAINER_CHECK_EXTENSION, (void *)4));
	STEP(iof_ioctl(ctx, IOF_CMD_CONTAINER_SET_IOMMU, (void *)1));
	STEP(iof_ioctl(ctx, IOF_CMD_CONTAINER_GET_INFO, info));
	STEP(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &map));
	lossy = true; /* cuts stay when a later step fails (R3.10) */
	STEP(COMMAND(IOF_CMD_CONTAINER_UNMAP_DMA, iof_cmd_container_unmap, 24, 0, BASE + PAGE, PAGE));
	lossy = false;
	STEP(COMMAND(IOF_CMD_CONTAINER_UNMAP_DMA, iof_cmd_container_unmap, 24, 2, 0, 0));
	STEP(COMMAND(IOF_CMD_VFIO_IOAS, iof_cmd_vfio_ioas, 12, 0, IOF_VFIO_IOAS_CLEAR, 0));
}

/* vIOMMU and all that stands on it; BASE is mapped in the parent's IOAS. */
static void guests(uint32_t dev_id, uint32_t parent)
{
	struct rig_vdata d = { .in = 3 };
	struct rig_vcommand c = { 7, 1, 0 };
	uint32_t v, vdev, nested, q0, q1, vq, n = 1, word = 4;
	char event[64];
	struct iof_handle *file;
	void *at;
	int fd;

	STEP(viommu_alloc(ctx, dev_id, parent, &d, &v));
	STEP(iof_mmap(ctx, d.length, PROT_READ | PROT_WRITE, MAP_SHARED, d.offset, &at));
	munmap(at, d.length);
	iof_mmap_count(ctx, d.offset, -1);
	STEP(vdevice_alloc(ctx, v, dev_id, 7, &vdev));
	STEP(nested_alloc(ctx, dev_id, v, 0, 0, &nested));
	STEP(attach(dev, nested, NULL));
	STEP((n = 1, invalidate(ctx, v, RIG_INVALIDATE, &c, sizeof(c), &n)));
	STEP(hw_queue_alloc(ctx, v, RIG_QUEUE, 0, BASE, PAGE, &q0));
	STEP(hw_queue_alloc(ctx, v, RIG_QUEUE, 1, BASE + 1, 2 * PAGE, &q1));
	STEP(rig_veventq_alloc(ctx, v, 2, &vq, &fd));
	CHECK_EQ(iof_file_handle(m, fd, &file), 0);
	lossy = true; /* without memory an event is lost, which is counted (R8.5.3) */
	STEP(iof_report_event(rig.last_viommu, RIG_EVENT, &word, 4));
	lossy = false;
	STEP(iof_read(file, event, sizeof(event)));
	iof_close(file);
	STEP(destroy(ctx, vq));
	STEP(destroy(ctx, q1));
	STEP(destroy(ctx, q0));
	STEP(iof_detach(dev, 0));
	STEP(destroy(ctx, nested));
	STEP(destroy(ctx, vdev));
	STEP(destroy(ctx, v));
}

static void faults(uint32_t dev_id, uint32_t ioas)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = IOF_HWPT_FAULT_ID_VALID, .dev_id = dev_id, .pt_id = ioas };
	struct iof_fault_response answer = { 1, 0 };
	struct iof_fault_record r;
	struct iof_handle *file;
	uint32_t fault;
	int fd;

	STEP(rig_fault_alloc(ctx, &fault, &fd));
	CHECK_EQ(iof_file_handle(m, fd, &file), 0);
	c.fault_id = fault;
	STEP(iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c));
	STEP(attach(dev, c.out_hwpt_id, NULL));
	STEP(report_fault(dev_id));
	lossy = true; /* a read that finds no memory for a cookie leaves the records where they are */
	STEP(iof_read(file, &r, sizeof(r)));
	lossy = false;
	STEP(iof_write(file, &answer, sizeof(answer)));
	STEP(iof_detach(dev, 0));
	STEP(destroy(ctx, c.out_hwpt_id));
	iof_close(file);
	STEP(destroy(ctx, fault));
}

static void tracking(uint32_t dev_id, uint32_t ioas)
{
	uint64_t bits[512] = { 0 };
	uint32_t hwpt;

	STEP(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_DIRTY_TRACKING, &hwpt));
	STEP(set_tracking(ctx, hwpt, 1));
	STEP(get_dirty(ctx, hwpt, 0, BASE, 4 * PAGE, PAGE, bits));
	STEP(set_tracking(ctx, hwpt, 0));
	STEP(destroy(ctx, hwpt));
}

static void pasids(uint32_t dev_id, uint32_t ioas, uint32_t other)
{
	uint32_t a, b;

	STEP(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_PASID, &a));
	STEP(hwpt_kind(ctx, dev_id, other, IOF_HWPT_PASID, &b));
	STEP(attach_pasid(dev, 3, a, NULL));
	STEP(attach_pasid(dev, 3, b, NULL));
	STEP(attach_pasid(dev, 4, a, NULL));
	STEP(attach(dev, a, NULL));
	STEP(detach_pasid(dev, 3));
	STEP(detach_pasid(dev, 4));
	STEP(attach(dev, b, NULL));
	STEP(detach(dev));
	STEP(destroy(ctx, a));
	STEP(destroy(ctx, b));
}

static void spaces(uint32_t ioas)
{
	struct iof_uapi_range allowed[2] = { { 0x100000, 0x1fffff }, { 0x400000, 0x7fffff } }, holes[4];
	uint64_t iova, second, iovas[2];

	STEP(COMMAND(IOF_CMD_IOAS_ALLOW_IOVAS, iof_cmd_ioas_allow_iovas, 24, ioas, 2, 0, (uintptr_t)allowed));
	STEP(COMMAND(IOF_CMD_IOAS_IOVA_RANGES, iof_cmd_ioas_iova_ranges, 32, ioas, 4, 0, (uintptr_t)holes, 0));
	STEP(map_some(ioas, iovas));
	STEP(map_file(ioas, &iova));
	STEP(copy(ctx, ioas, ioas, iova, 2 * PAGE, IOF_MAP_READABLE, &second));
	STEP(unmap(ctx, ioas, 0, UINT64_MAX, NULL));
	STEP(COMMAND(IOF_CMD_IOAS_ALLOW_IOVAS, iof_cmd_ioas_allow_iovas, 24, ioas, 0, 0, 0));
	STEP(iof_ioas_reserve(ctx, ioas, 0x900000, PAGE));
}

static void sequence(void)
{
	uint32_t dev_id, soft_id, ioas, other, third, parent, hwpt;
	struct iof_cmd_get_hw_info info = { .size = sizeof(info) };
	uint64_t iova = BASE;
	char word[8] = { 0 };

	STEP(bind_device(dev, ctx, &dev_id));
	STEP(bind_device(soft, ctx, &soft_id));
	STEP((info.dev_id = dev_id, iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &info)));
	STEP(ioas_alloc(ctx, &ioas));
	STEP(ioas_alloc(ctx, &other));
	STEP(ioas_alloc(ctx, &third));
	STEP(map_file(third, &iova));
	STEP(COMMAND(IOF_CMD_IOAS_CHANGE_PROCESS, iof_cmd_change_process, 8, 0));
	STEP(COMMAND(IOF_CMD_OPTION, iof_cmd_option, 24, IOF_OPTION_RLIMIT_MODE, IOF_OPTION_GET, 0, 0, 0));
	STEP(COMMAND(IOF_CMD_OPTION, iof_cmd_option, 24, IOF_OPTION_HUGE_PAGES, IOF_OPTION_SET, 0, other, 0));
	STEP(hwpt_kind(ctx, dev_id, ioas, IOF_HWPT_NEST_PARENT, &parent));
	spaces(ioas);
	STEP((iova = BASE, map_at(ctx, ioas, buf, 4 * PAGE, RW | FIXED, &iova)));
	STEP(attach(soft, ioas, &hwpt));
	STEP(dma(soft, IOF_DMA_WRITE, BASE + 10, word, 8, NULL));
	STEP(attach(soft, other, &hwpt));
	accesses(ioas, other);
	containers(third);
	tracking(dev_id, ioas);
	pasids(dev_id, ioas, other);
	faults(dev_id, ioas);
	guests(dev_id, parent);
	STEP(detach(soft));
	STEP(destroy(ctx, parent));
	STEP(unmap(ctx, ioas, BASE, 4 * PAGE, NULL));
	STEP(destroy(ctx, ioas));
	STEP(destroy(ctx, other));
	STEP(destroy(ctx, third));
}

static bool run(struct iof_machine_config cfg, int64_t n)
{
	struct iof_iommu *iommu;
	uint32_t at;
	bool over;

	iof_alloc_init_heap(&heap);
	rig_init(&rig);
	cfg.alloc = &heap;
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(rig_plug(&rig, m, iommu, 0, 1, &at), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, at, &dev), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &soft), 0);
	iof_alloc_fail_nth(&heap, n);
	sequence();
	over = iof_alloc_fail_nth(&heap, 0) > 0;
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(soft);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	CHECK(!rig.nested && !rig.viommus && !rig.vdevices && !rig.queues);
	return over;
}

static void sweep(enum iof_preset preset, enum iof_policy policy, enum iof_addresses addresses, enum iof_accounting accounting)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = preset, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .policy = policy, .addresses = addresses, .accounting = accounting };
	unsigned open;
	int64_t n = 1;

	buf = pages_of(8);
	memset(buf, 1, 8 * PAGE);
	memfd = memfd_create("failures", 0);
	CHECK_EQ(ftruncate(memfd, 2 * PAGE), 0);
	failures = steps = 0;
	run(cfg, INT64_MAX);
	open = descriptors();
	while (!run(cfg, n))
		n++;
	CHECK_EQ(descriptors(), open);
	printf("%u of %lld points failed a call, of %u calls in a sequence\n", failures, (long long)n - 1, steps / (unsigned)(n + 1));
	CHECK(failures > n / 2 && n > 200);
	munmap(buf, 8 * PAGE);
	close(memfd);
}

TEST(trusting_intel)
{
	sweep(IOF_PRESET_INTEL, IOF_POLICY_TRUST, IOF_ADDRESSES_VA, IOF_ACCOUNTING_NONE);
}

TEST(probing_amd_with_identities)
{
	sweep(IOF_PRESET_AMD, IOF_POLICY_PROBE, IOF_ADDRESSES_SYNTHETIC, IOF_ACCOUNTING_KERNEL);
}
