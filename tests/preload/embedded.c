/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock device as what it is: an embedder of the engine, here on a heap machine without the shim, so that sanitizers see everything. Every step of every
 * command fails once, and nothing may stay behind.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../c/check.h"
#include "preload/mock_priv.h"

#define PAGE 4096ul

/* ---- somebody who keeps descriptors ---- */

static struct {
	void *object;
	void (*release)(void *object);
} files[16];

static int files_open(void *object, void (*release)(void *object))
{
	for (int i = 0; i < 16; i++)
		if (!files[i].object) {
			files[i].object = object;
			files[i].release = release;
			return 100 + i;
		}
	return -EMFILE;
}

static void files_forget(int number)
{
	files[number - 100].object = NULL;
}

static void files_close(int number)
{
	files[number - 100].release(files[number - 100].object);
	files_forget(number);
}

static void *files_get(int number, void (*release)(void *object), void **object)
{
	if (number < 100 || number >= 116 || !files[number - 100].object || files[number - 100].release != release)
		return NULL;
	*object = files[number - 100].object;
	return &files[number - 100];
}

static void files_put(void *file)
{
	(void)file;
}

static const struct mock_files keeper = { files_open, files_forget, files_get, files_put };

/* ---- a machine ---- */

struct rig {
	struct iof_alloc alloc;
	struct iof_machine *machine;
	struct iof_handle *ctx;
	struct mock mock;
	char *memory;
};

static void rig_init(struct rig *r)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .alloc = &r->alloc, .policy = IOF_POLICY_PROBE,
					  .addresses = IOF_ADDRESSES_SYNTHETIC, .accounting = IOF_ACCOUNTING_KERNEL };

	iof_alloc_init_heap(&r->alloc);
	CHECK_EQ(iof_machine_create(&cfg, &r->machine), 0);
	CHECK_EQ(mock_init(&r->mock, r->machine, &r->alloc, &keeper), 0);
	r->memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void rig_fini(struct rig *r)
{
	CHECK(iof_machine_is_valid(r->machine));
	iof_machine_put(r->machine);
	CHECK_EQ(atomic_load(&r->alloc.live_bytes), 0);
	munmap(r->memory, 16 * PAGE);
}

static int op(struct rig *r, uint32_t number, uint32_t id, struct mock_cmd *c)
{
	c->size = sizeof(*c);
	c->op = number;
	c->id = id;
	return mock_ioctl(&r->mock, r->ctx, MOCK_CMD, (uintptr_t)c);
}

static int command(struct rig *r, unsigned long cmd, void *arg)
{
	return iof_ioctl(r->ctx, cmd, arg);
}

/* ---- everything once ---- */

#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		int try_rc = (call);                                                                                   \
		if (try_rc < 0) {                                                                                      \
			rc = try_rc;                                                                                   \
			goto out;                                                                                      \
		}                                                                                                      \
	} while (0)

struct ids {
	uint32_t ioas, stdev, dev, hwpt, parent, nested, viommu;
	int access, dmabuf;
};

static int use_access(struct rig *r, struct ids *s)
{
	struct mock_cmd create = { .access = { .flags = MOCK_ACCESS_NEEDS_PIN } };
	struct mock_cmd pin = { .pin = { .iova = 0x1000000 + PAGE, .length = 2 * PAGE, .flags = 1 } };
	struct mock_cmd rw = { .rw = { .iova = 0x1000000 + 5, .length = PAGE, .flags = MOCK_RW_WRITE } }, unpin = { 0 };
	char data[PAGE];
	int rc = 0, pins;

	memset(data, 0x5a, sizeof(data));
	TRY(op(r, 5, s->ioas, &create));
	s->access = (int)create.access.out_fd;
	pin.pin.uptr = (uintptr_t)r->memory + PAGE;
	TRY(op(r, 7, (uint32_t)s->access, &pin));
	TRY(pins = (int)iof_machine_pins(r->machine, (uintptr_t)r->memory + PAGE));
	CHECK_EQ(pins, 1);
	unpin.unpin.item = pin.pin.out_item;
	TRY(op(r, 6, (uint32_t)s->access, &unpin));
	CHECK_EQ(op(r, 6, (uint32_t)s->access, &unpin), -ENOENT);
	TRY(op(r, 7, (uint32_t)s->access, &pin)); /* stays, and goes with the access */
	rw.rw.uptr = (uintptr_t)data;
	TRY(op(r, 8, (uint32_t)s->access, &rw));
	CHECK_EQ(r->memory[5], 0x5a);
	rw.rw.flags = MOCK_RW_SLOW;
	memset(data, 0, sizeof(data));
	TRY(op(r, 8, (uint32_t)s->access, &rw));
	CHECK_EQ(data[PAGE - 1], 0x5a);
out:
	return rc;
}

static int use_viommu(struct rig *r, struct ids *s)
{
	uint32_t word = 7;
	struct {
		uint32_t in, out;
		uint64_t offset, length;
	} window = { .in = 99 };
	struct iof_cmd_hwpt_alloc parent = { .size = sizeof(parent), .flags = IOF_HWPT_NEST_PARENT, .dev_id = s->dev, .pt_id = s->ioas };
	struct iof_cmd_viommu_alloc v = { .size = sizeof(v), .type = MOCK_VIOMMU, .dev_id = s->dev, .data_len = sizeof(window),
					  .data_uptr = (uintptr_t)&window };
	struct iof_cmd_vdevice_alloc vd = { .size = sizeof(vd), .dev_id = s->dev, .virt_id = 0x99 };
	struct iof_cmd_hw_queue_alloc q = { .size = sizeof(q), .type = MOCK_HW_QUEUE, .nesting_parent_iova = 0x1000000, .length = PAGE };
	struct iof_cmd_hwpt_alloc nested = { .size = sizeof(nested), .dev_id = s->dev, .data_type = MOCK_DATA_HWPT, .data_len = 4,
					     .data_uptr = (uintptr_t)&word };
	struct mock_cmd to = { 0 }, look = { .word = { .index = 3, .expected = 7 } }, event = { 0 };
	int rc = 0;

	TRY(command(r, IOF_CMD_HWPT_ALLOC, &parent));
	v.hwpt_id = parent.out_hwpt_id;
	TRY(command(r, IOF_CMD_VIOMMU_ALLOC, &v));
	CHECK_EQ(window.out, 99);
	vd.viommu_id = q.viommu_id = nested.pt_id = v.out_viommu_id;
	TRY(command(r, IOF_CMD_VDEVICE_ALLOC, &vd));
	TRY(command(r, IOF_CMD_HW_QUEUE_ALLOC, &q));
	q.index = 1;
	TRY(command(r, IOF_CMD_HW_QUEUE_ALLOC, &q));
	TRY(command(r, IOF_CMD_HWPT_ALLOC, &nested));
	TRY(op(r, 14, nested.out_hwpt_id, &look));
	to.replace.pt_id = nested.out_hwpt_id;
	TRY(op(r, 10, s->stdev, &to));
	event.event.dev = s->dev;
	rc = op(r, 17, 0, &event);
	if (rc != -EOPNOTSUPP) /* nobody has a queue for it; unless the look-up fails */
		goto out;
	rc = 0;
	to.replace.pt_id = s->ioas;
	TRY(op(r, 10, s->stdev, &to));
out:
	return rc;
}

static int everything(struct rig *r)
{
	struct iof_cmd_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct iof_cmd_ioas_map map = { .size = sizeof(map), .flags = 7, .user_va = (uintptr_t)r->memory, .length = 16 * PAGE,
					.iova = 0x1000000 };
	struct mock_cmd dev = { 0 }, reserve = { .reserve = { .start = 0x2000000, .length = PAGE } };
	struct mock_cmd check = { .check_map = { .iova = 0x1000000, .length = 16 * PAGE, .uptr = (uintptr_t)r->memory } };
	struct mock_cmd buffer = { .dmabuf = { .length = 3 * PAGE } }, revoke = { 0 };
	struct ids s = { .access = -1, .dmabuf = -1 };
	int rc = iof_engine_open(r->machine, &r->ctx);

	if (rc)
		return rc;
	TRY(command(r, IOF_CMD_IOAS_ALLOC, &ioas));
	s.ioas = map.ioas_id = ioas.out_ioas_id;
	TRY(op(r, 2, s.ioas, &dev));
	s.stdev = dev.domain.out_stdev;
	s.hwpt = dev.domain.out_hwpt;
	s.dev = dev.domain.out_dev;
	TRY(command(r, IOF_CMD_IOAS_MAP, &map));
	TRY(op(r, 1, s.ioas, &reserve));
	TRY(op(r, 3, s.hwpt, &check));
	TRY(use_access(r, &s));
	TRY(use_viommu(r, &s));
	TRY(s.dmabuf = op(r, 22, 0, &buffer));
	revoke.revoke.fd = s.dmabuf;
	revoke.revoke.revoked = 1;
	TRY(op(r, 23, 0, &revoke));
out:
	if (s.dmabuf >= 0) {
		struct iof_handle *h;

		CHECK_EQ(iof_file_handle(r->machine, s.dmabuf, &h), 0);
		iof_close(h);
	}
	iof_close(r->ctx);
	if (s.access >= 0)
		files_close(s.access); /* it has kept the context */
	return rc;
}

TEST(everything)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(everything(&r), 0);
	CHECK_EQ(iof_machine_pins(r.machine, (uintptr_t)r.memory), 0);
	rig_fini(&r);
}

TEST(every_step_fails_once)
{
	struct rig r;
	int64_t n = 0, left;
	uint64_t bytes;

	rig_init(&r);
	CHECK_EQ(everything(&r), 0); /* what is made once and kept is there now */
	bytes = atomic_load(&r.alloc.live_bytes);
	do {
		int rc;

		iof_alloc_fail_nth(&r.alloc, ++n);
		rc = everything(&r);
		left = iof_alloc_fail_nth(&r.alloc, 0);
		CHECK(rc || left > 0);
		CHECK(iof_machine_is_valid(r.machine));
		CHECK_EQ(iof_machine_pins(r.machine, (uintptr_t)r.memory + PAGE), 0);
		for (int i = 0; i < 16; i++)
			CHECK(!files[i].object);
		CHECK(atomic_load(&r.alloc.live_bytes) <= bytes + 65536);
	} while (left <= 0 && n < 5000);
	printf("%lld steps\n", (long long)n - 1);
	CHECK(n > 100);
	rig_fini(&r);
}

/* Each answer that cannot be written: the command is undone where the kernel undoes it, and never leaks. */
TEST(answers_that_do_not_arrive)
{
	char *last = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iof_cmd_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct mock_cmd dev = { .size = sizeof(dev), .op = 2 }, access = { .size = sizeof(access), .op = 5 };
	struct rig r;

	rig_init(&r);
	CHECK_EQ(iof_engine_open(r.machine, &r.ctx), 0);
	CHECK_EQ(command(&r, IOF_CMD_IOAS_ALLOC, &ioas), 0);
	dev.id = access.id = ioas.out_ioas_id;
	memcpy(last, &dev, sizeof(dev));
	memcpy(last + PAGE, &access, sizeof(access));
	CHECK_EQ(mprotect(last, 2 * PAGE, PROT_READ), 0);
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)last), -EFAULT);
	CHECK_EQ(iof_machine_device_count(r.machine), 1); /* a place, free again */
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)last + PAGE), -EFAULT);
	CHECK(!files[0].object);
	CHECK_EQ(command(&r, IOF_CMD_DESTROY, &(struct iof_cmd_destroy){ 8, ioas.out_ioas_id }), 0);
	iof_close(r.ctx);
	munmap(last, 2 * PAGE);
	rig_fini(&r);
}

TEST(envelope)
{
	uint32_t unknown[40] = { 72, 24 };
	struct rig r;

	rig_init(&r);
	CHECK_EQ(iof_engine_open(r.machine, &r.ctx), 0);
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)unknown), -EOPNOTSUPP);
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, 1), -EFAULT);
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, 0x3b95, (uintptr_t)unknown), -ENOTTY);
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, 0x3b95, 1), -EFAULT);
	unknown[0] = 67;
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)unknown), -EINVAL);
	unknown[0] = 80;
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)unknown), -EOPNOTSUPP);
	unknown[19] = 1;
	CHECK_EQ(mock_ioctl(&r.mock, r.ctx, MOCK_CMD, (uintptr_t)unknown), -E2BIG);
	iof_close(r.ctx);
	rig_fini(&r);
}
