/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract's chapter 1.6 through the raw door, for every command: sizes, tails, bad pointers, wrong numbers, which of two errors
 * comes first, and what a response that cannot be written undoes (behaviour.md R1.6.1 to R1.6.6). Devices have VFIO's rules (2.23). What is in each command's
 * fields: test_contract_commands.c.
 */
#define _GNU_SOURCE /* memfd_create */
#include <dirent.h>
#include <unistd.h>

#include "dispatch/uapi_container.h"
#include "driver_rig.h"

#define ROOM 512
#define MAPPED 0x10000 /* where one page of buf is mapped in `ioas` */

static struct iof_machine *m;
static struct iof_handle *ctx, *dev, *rig_dev;
static struct rig rig;
static uint32_t dev_id, ioas, rig_id, parent, tracked, viommu, nested;
static int memfd;
static char *buf, *edge; /* edge: two pages, the second is not there */

union any {
	uint32_t size;
	char bytes[ROOM];
	struct iof_cmd_destroy destroy;
	struct iof_cmd_ioas_alloc alloc;
	struct iof_cmd_ioas_allow_iovas allow;
	struct iof_cmd_ioas_copy copy;
	struct iof_cmd_ioas_iova_ranges ranges;
	struct iof_cmd_ioas_map map;
	struct iof_cmd_ioas_unmap unmap;
	struct iof_cmd_option option;
	struct iof_cmd_vfio_ioas vfio;
	struct iof_cmd_hwpt_alloc hwpt;
	struct iof_cmd_get_hw_info info;
	struct iof_cmd_set_dirty_tracking tracking;
	struct iof_cmd_get_dirty_bitmap bitmap;
	struct iof_cmd_hwpt_invalidate invalidate;
	struct iof_cmd_fault_queue_alloc fault;
	struct iof_cmd_ioas_map_file file;
	struct iof_cmd_viommu_alloc viommu;
	struct iof_cmd_vdevice_alloc vdevice;
	struct iof_cmd_veventq_alloc veventq;
	struct iof_cmd_hw_queue_alloc queue;
};

/* At the same addresses every time, because digests tell where memory is: four fresh pages, and one at the edge of nothing. */
static void place_memory(void)
{
	static char *home;

	if (!home)
		home = pages_of(6);
	buf = mmap(home, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(buf == home);
	edge = buf + 4 * PAGE;
	CHECK_EQ(mprotect(edge + PAGE, PAGE, PROT_NONE), 0);
}

static void setup(void)
{
	uint32_t groups[] = { 1 }, index;
	uint64_t iova = MAPPED;
	struct iof_iommu *iommu;

	rig_init(&rig);
	m = machine_with(IOF_PRESET_INTEL, groups, 1, NULL);
	CHECK(m);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(rig_plug(&rig, m, iommu, 0, 1, &index), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &rig_dev), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(bind_device(rig_dev, ctx, &rig_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	place_memory();
	memfd = memfd_create("contract", 0);
	CHECK_EQ(ftruncate(memfd, PAGE), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(hwpt_kind(ctx, rig_id, ioas, IOF_HWPT_NEST_PARENT, &parent), 0);
	CHECK_EQ(hwpt_kind(ctx, rig_id, ioas, IOF_HWPT_DIRTY_TRACKING, &tracked), 0);
	CHECK_EQ(viommu_alloc(ctx, rig_id, parent, NULL, &viommu), 0);
	CHECK_EQ(nested_alloc(ctx, rig_id, parent, 0, 0, &nested), 0);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &(struct iof_cmd_vfio_ioas){ 12, ioas, IOF_VFIO_IOAS_SET, 0 }), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(rig_dev);
	iof_close(dev);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK(!rig.nested && !rig.viommus && !rig.vdevices && !rig.queues);
	close(memfd);
}

static uint64_t digest(void)
{
	return digest_of(ctx);
}

static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- every command with arguments that work, and what takes back what it did ---- */

static void fill_destroy(union any *u)
{
	uint32_t id;

	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	u->destroy.id = id;
}

static void fill_nothing(union any *u)
{
	(void)u;
}

static void fill_allow(union any *u)
{
	u->allow.ioas_id = ioas;
}

static void fill_copy(union any *u)
{
	u->copy = (struct iof_cmd_ioas_copy){ .flags = IOF_MAP_READABLE, .dst_ioas_id = ioas, .src_ioas_id = ioas, .length = PAGE,
					      .src_iova = MAPPED };
}

static void fill_ranges(union any *u)
{
	static struct iof_uapi_range out[4];

	u->ranges = (struct iof_cmd_ioas_iova_ranges){ .ioas_id = ioas, .num_iovas = 4, .allowed_iovas = (uintptr_t)out };
}

static void fill_map(union any *u)
{
	u->map = (struct iof_cmd_ioas_map){ .flags = RW, .ioas_id = ioas, .user_va = (uintptr_t)buf, .length = PAGE };
}

static void fill_unmap(union any *u)
{
	uint64_t iova;

	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
	u->unmap = (struct iof_cmd_ioas_unmap){ .ioas_id = ioas, .iova = iova, .length = PAGE };
}

static void fill_option(union any *u)
{
	u->option = (struct iof_cmd_option){ .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_GET, .object_id = ioas };
}

static void fill_vfio_ioas(union any *u)
{
	u->vfio.op = IOF_VFIO_IOAS_GET;
}

static void fill_hwpt(union any *u)
{
	u->hwpt = (struct iof_cmd_hwpt_alloc){ .dev_id = dev_id, .pt_id = ioas };
}

static void fill_info(union any *u)
{
	u->info.dev_id = rig_id;
}

static void fill_tracking(union any *u)
{
	u->tracking = (struct iof_cmd_set_dirty_tracking){ .flags = 1, .hwpt_id = tracked };
}

static void fill_bitmap(union any *u)
{
	static uint64_t bits[512];

	u->bitmap = (struct iof_cmd_get_dirty_bitmap){ .hwpt_id = tracked, .iova = MAPPED, .length = PAGE, .page_size = PAGE,
						       .data = (uintptr_t)bits };
}

static void fill_invalidate(union any *u)
{
	static struct rig_entry e[1];

	u->invalidate = (struct iof_cmd_hwpt_invalidate){ .hwpt_id = nested, .data_uptr = (uintptr_t)e, .data_type = RIG_INVALIDATE,
							  .entry_len = sizeof(e[0]), .entry_num = 1 };
}

static void fill_map_file(union any *u)
{
	u->file = (struct iof_cmd_ioas_map_file){ .flags = RW, .ioas_id = ioas, .fd = memfd, .length = PAGE };
}

static void fill_viommu(union any *u)
{
	u->viommu = (struct iof_cmd_viommu_alloc){ .type = RIG_VIOMMU, .dev_id = rig_id, .hwpt_id = parent };
}

static void fill_vdevice(union any *u)
{
	u->vdevice = (struct iof_cmd_vdevice_alloc){ .viommu_id = viommu, .dev_id = rig_id, .virt_id = 7 };
}

/* It wants no memory of a process mapped anywhere. */
static void fill_change_process(union any *u)
{
	uint64_t bytes;

	(void)u;
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, &bytes), 0);
}

static void fill_veventq(union any *u)
{
	u->veventq = (struct iof_cmd_veventq_alloc){ .viommu_id = viommu, .type = RIG_EVENT, .veventq_depth = 1 };
}

static void fill_queue(union any *u)
{
	u->queue = (struct iof_cmd_hw_queue_alloc){ .viommu_id = viommu, .type = RIG_QUEUE, .nesting_parent_iova = MAPPED,
						    .length = 64 };
}

static void undo_nothing(const union any *u)
{
	(void)u;
}

static void undo_fault(const union any *u)
{
	close_number(m, (int)u->fault.out_fault_fd);
	CHECK_EQ(destroy(ctx, u->fault.out_fault_id), 0);
}

static void undo_vdevice(const union any *u)
{
	CHECK_EQ(destroy(ctx, u->vdevice.out_vdevice_id), 0);
}

static void undo_veventq(const union any *u)
{
	close_number(m, (int)u->veventq.out_veventq_fd);
	CHECK_EQ(destroy(ctx, u->veventq.out_veventq_id), 0);
}

static void undo_queue(const union any *u)
{
	CHECK_EQ(destroy(ctx, u->queue.out_hw_queue_id), 0);
}

static const struct command {
	const char *name;
	uint32_t cmd, min, full;
	void (*fill)(union any *u);
	void (*undo)(const union any *u);
	bool answers; /* writes the struct back */
	bool undone; /* nothing is left when that fails (R1.6.4) */
} commands[] = {
	{ "DESTROY", 0x3b80, 8, 8, fill_destroy, undo_nothing, false, false },
	{ "IOAS_ALLOC", 0x3b81, 12, 12, fill_nothing, undo_nothing, true, true },
	{ "IOAS_ALLOW_IOVAS", 0x3b82, 24, 24, fill_allow, undo_nothing, false, false },
	{ "IOAS_COPY", 0x3b83, 40, 40, fill_copy, undo_nothing, true, false },
	{ "IOAS_IOVA_RANGES", 0x3b84, 32, 32, fill_ranges, undo_nothing, true, true },
	{ "IOAS_MAP", 0x3b85, 40, 40, fill_map, undo_nothing, true, false },
	{ "IOAS_UNMAP", 0x3b86, 24, 24, fill_unmap, undo_nothing, true, false },
	{ "OPTION", 0x3b87, 24, 24, fill_option, undo_nothing, true, false },
	{ "HWPT_ALLOC", 0x3b89, 24, 48, fill_hwpt, undo_nothing, true, true },
	{ "VFIO_IOAS", 0x3b88, 12, 12, fill_vfio_ioas, undo_nothing, true, true },
	{ "GET_HW_INFO", 0x3b8a, 32, 40, fill_info, undo_nothing, true, true },
	{ "HWPT_SET_DIRTY_TRACKING", 0x3b8b, 16, 16, fill_tracking, undo_nothing, false, false },
	{ "HWPT_GET_DIRTY_BITMAP", 0x3b8c, 48, 48, fill_bitmap, undo_nothing, false, false },
	{ "HWPT_INVALIDATE", 0x3b8d, 32, 32, fill_invalidate, undo_nothing, true, false },
	{ "FAULT_QUEUE_ALLOC", 0x3b8e, 16, 16, fill_nothing, undo_fault, true, true },
	{ "IOAS_MAP_FILE", 0x3b8f, 40, 40, fill_map_file, undo_nothing, true, false },
	{ "VIOMMU_ALLOC", 0x3b90, 24, 40, fill_viommu, undo_nothing, true, true },
	{ "VDEVICE_ALLOC", 0x3b91, 24, 24, fill_vdevice, undo_vdevice, true, true },
	{ "VEVENTQ_ALLOC", 0x3b93, 28, 32, fill_veventq, undo_veventq, true, true },
	{ "HW_QUEUE_ALLOC", 0x3b94, 40, 40, fill_queue, undo_queue, true, true },
	{ "CHANGE_PROCESS", 0x3b92, 8, 8, fill_change_process, undo_nothing, false, false }, /* the last: it clears the IOAS */
};

#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static void prepare(const struct command *c, union any *u, uint32_t size)
{
	memset(u, 0, sizeof(*u));
	c->fill(u);
	u->size = size;
}

static int run(const struct command *c, void *arg)
{
	return iof_ioctl(ctx, c->cmd, arg);
}

#define EACH(c) for (const struct command *c = commands; c < commands + N_COMMANDS; c++)

/* A failed CHECK_EQ inside names the line; this names the command. */
#define CHECK_RC(c, got, want)                                                                                         \
	do {                                                                                                           \
		int rc_ = (got);                                                                                       \
		if (rc_ != (want))                                                                                     \
			printf("%s: ", (c)->name);                                                                     \
		CHECK_EQ(rc_, want);                                                                                   \
	} while (0)

/* ---- sizes ---- */

TEST(too_short_is_einval_and_does_nothing)
{
	union any u;
	uint64_t before;

	setup();
	EACH(c) {
		uint32_t sizes[] = { 0, 1, 4, c->min - 1 };

		for (unsigned i = 0; i < 4; i++) {
			prepare(c, &u, sizes[i]);
			before = digest();
			CHECK_RC(c, run(c, &u), -EINVAL);
			CHECK_EQ(digest(), before);
		}
	}
	teardown();
}

TEST(every_size_from_the_minimum_works)
{
	union any u;

	setup();
	EACH(c)
		for (uint32_t size = c->min; size <= c->full; size++) {
			prepare(c, &u, size);
			memset(u.bytes + size, 0xff, ROOM - size); /* not the engine's business */
			CHECK_RC(c, run(c, &u), 0);
			for (unsigned i = size; i < ROOM; i++)
				CHECK_EQ((uint8_t)u.bytes[i], 0xff);
			c->undo(&u);
		}
	teardown();
}

TEST(a_longer_struct_of_zeros_is_the_same)
{
	union any exact, longer;
	uint64_t after;

	EACH(c) {
		setup();
		prepare(c, &exact, c->full);
		CHECK_RC(c, run(c, &exact), 0);
		after = digest();
		c->undo(&exact);
		teardown();
		for (uint32_t size = c->full + 1; size <= ROOM; size += 57) {
			setup();
			prepare(c, &longer, size);
			CHECK_RC(c, run(c, &longer), 0);
			if (c->cmd != IOF_CMD_IOAS_MAP_FILE) /* leaves tell where in this process the file was put */
				CHECK_EQ(digest(), after);
			CHECK_EQ(longer.size, size);
			c->undo(&longer);
			teardown();
		}
	}
}

TEST(garbage_in_the_tail_is_e2big_and_does_nothing)
{
	union any u;
	uint64_t before;

	setup();
	EACH(c)
		for (uint32_t at = c->full; at < ROOM; at += 31) {
			prepare(c, &u, ROOM);
			u.bytes[at] = 1;
			before = digest();
			CHECK_RC(c, run(c, &u), -E2BIG);
			CHECK_EQ(digest(), before);
		}
	teardown();
}

/* ---- pointers ---- */

TEST(structs_that_are_not_there_are_efault)
{
	static const uint64_t wild[] = { 0, 8, 4095, 0xffff800000000000, UINT64_MAX, UINT64_MAX - 3, UINT64_MAX - 7 };
	uint64_t before;

	setup();
	before = digest();
	EACH(c) {
		for (unsigned i = 0; i < sizeof(wild) / sizeof(*wild); i++)
			CHECK_RC(c, run(c, (void *)(uintptr_t)wild[i]), -EFAULT);
		CHECK_RC(c, run(c, edge + PAGE), -EFAULT);
		CHECK_RC(c, run(c, edge + PAGE - 3), -EFAULT);
	}
	CHECK_EQ(digest(), before);
	teardown();
}

/* `size` can be read, the rest runs into a hole: too short is still EINVAL, everything else EFAULT. */
TEST(structs_that_run_into_a_hole)
{
	uint64_t before;

	setup();
	before = digest();
	EACH(c)
		for (uint32_t there = 4; there < c->full; there += 4) {
			uint32_t *at = (uint32_t *)(edge + PAGE - there);

			memset(at, 0, there);
			*at = c->full;
			CHECK_RC(c, run(c, at), -EFAULT);
			*at = c->min - 1;
			CHECK_RC(c, run(c, at), -EINVAL);
			*at = 4096;
			CHECK_RC(c, run(c, at), -EFAULT);
		}
	CHECK_EQ(digest(), before);
	teardown();
}

/* A tail is scanned before the struct is copied: the first that is wrong decides. */
TEST(tails_that_run_into_a_hole)
{
	union any u;

	setup();
	EACH(c) {
		char *at = edge + PAGE - c->full - 16;

		prepare(c, &u, c->full + 17);
		memcpy(at, &u, c->full + 16);
		CHECK_RC(c, run(c, at), -EFAULT);
		at[c->full + 3] = 1;
		CHECK_RC(c, run(c, at), -E2BIG);
	}
	teardown();
}

TEST(a_struct_at_the_end_of_memory_works)
{
	union any u;

	setup();
	EACH(c) {
		prepare(c, &u, c->min);
		memcpy(edge + PAGE - c->min, &u, c->min);
		CHECK_RC(c, run(c, edge + PAGE - c->min), 0);
		memcpy(&u, edge + PAGE - c->min, c->min);
		c->undo(&u);
	}
	teardown();
}

/* ---- numbers ---- */

TEST(only_the_exact_number_is_the_command)
{
	static const uint32_t others[] = { 0x40000000, 0x80000000, 0xc0000000, 0x00040000, 0x00003c00, 0x0000ff00 };
	union any u;
	uint64_t before;

	setup();
	EACH(c) {
		prepare(c, &u, c->full);
		before = digest();
		for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++) {
			CHECK_RC(c, iof_ioctl(ctx, c->cmd ^ others[i], &u), -ENOTTY);
			/* size is read before the number is compared (R1.6.2 steps 2 and 3), but not looked at */
			CHECK_RC(c, iof_ioctl(ctx, c->cmd ^ others[i], edge + PAGE), -EFAULT);
			u.size = 0;
			CHECK_RC(c, iof_ioctl(ctx, c->cmd ^ others[i], &u), -ENOTTY);
		}
		CHECK_EQ(digest(), before);
	}
	teardown();
}

/* The kernel takes 32 bits of a number: what a 64-bit caller has above them is lost. */
TEST(a_number_has_32_bits)
{
	struct iof_cmd_ioas_alloc c = { .size = sizeof(c) };

	setup();
	CHECK_EQ(iof_ioctl(ctx, (unsigned long)IOF_CMD_IOAS_ALLOC | 0xffffffff00000000ul, &c), 0);
	teardown();
}

static bool is_container(unsigned nr)
{
	return (nr >= 0x64 && nr <= 0x66) || (nr >= 0x70 && nr <= 0x72);
}

TEST(numbers_that_nobody_knows_do_not_touch_the_struct)
{
	setup();
	for (unsigned nr = 0; nr < 256; nr++) {
		if ((nr >= 0x80 && nr <= 0x94) || is_container(nr))
			continue;
		CHECK_EQ(iof_ioctl(ctx, 0x3b00 | nr, edge + PAGE), -ENOTTY);
		CHECK_EQ(iof_ioctl(ctx, 0x3b00 | nr, NULL), -ENOTTY);
	}
	teardown();
}

/* Another type or a direction in front of a container's number: nobody's, and the struct is not read. */
TEST(container_numbers_are_exact_too)
{
	setup();
	for (unsigned nr = 0x64; nr < 0x76; nr++) {
		CHECK_EQ(iof_ioctl(ctx, 0x40003b00 | nr, edge + PAGE), -ENOTTY);
		CHECK_EQ(iof_ioctl(ctx, 0x3c00 | nr, edge + PAGE), -ENOTTY);
	}
	teardown();
}

/* ---- the VFIO container's commands: a fixed prefix is read, argsz only compared (2.22) ---- */

TEST(container_structs)
{
	static const struct {
		unsigned nr;
		uint32_t prefix, argsz;
	} c[] = { { 0x70, 16, 16 }, { 0x71, 32, 32 }, { 0x72, 24, 24 } };
	uint64_t before;

	setup();
	before = digest();
	for (unsigned i = 0; i < 3; i++) {
		for (uint32_t there = 0; there < c[i].prefix; there++) {
			memset(edge + PAGE - there, 0, there);
			CHECK_EQ(iof_ioctl(ctx, 0x3b00 | c[i].nr, edge + PAGE - there), -EFAULT);
		}
		for (uint32_t argsz = 0; argsz < c[i].argsz; argsz++) {
			char bytes[64] = { 0 };

			memcpy(bytes, &argsz, 4);
			CHECK_EQ(iof_ioctl(ctx, 0x3b00 | c[i].nr, bytes), -EINVAL);
		}
	}
	CHECK_EQ(digest(), before);
	teardown();
}

TEST(container_flags_at_each_bit)
{
	struct iof_cmd_container_map map = { .argsz = 32, .vaddr = (uintptr_t)buf, .iova = 0x40000, .size = PAGE };
	struct iof_cmd_container_unmap un = { .argsz = 24, .iova = 0x40000, .size = PAGE };
	uint64_t before;

	setup();
	before = digest();
	for (unsigned bit = 2; bit < 32; bit++) {
		map.flags = 1u << bit | 1;
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &map), -EINVAL);
	}
	for (unsigned bit = 0; bit < 32; bit++) {
		un.flags = 1u << bit;
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &un), -EINVAL); /* ALL: iova and size have to be 0 */
	}
	CHECK_EQ(digest(), before);
	teardown();
}

/* ---- responses that cannot be written ---- */

TEST(a_response_that_faults_is_efault_and_undone_or_not)
{
	uint64_t before, after;
	struct iof_ioas_stats s0, s1;
	union any u;
	char *ro = pages_of(1);
	unsigned open;

	EACH(c) {
		setup();
		prepare(c, &u, c->full);
		if (c->cmd == IOF_CMD_IOAS_UNMAP)
			CHECK_EQ(iof_ioas_stats(ctx, ioas, &s0), 0);
		memcpy(ro, &u, sizeof(u));
		mprotect(ro, PAGE, PROT_READ);
		before = digest();
		open = descriptors();
		CHECK_RC(c, run(c, ro), c->answers ? -EFAULT : 0);
		if (c->undone) /* a mapping keeps its file */
			CHECK_RC(c, (int)descriptors(), (int)open);
		after = digest();
		mprotect(ro, PAGE, PROT_READ | PROT_WRITE);
		if (c->undone)
			CHECK_EQ(after, before);
		if (c->cmd == IOF_CMD_IOAS_MAP || c->cmd == IOF_CMD_IOAS_COPY || c->cmd == IOF_CMD_IOAS_MAP_FILE)
			CHECK_EQ(unmap(ctx, ioas, 0x1000, PAGE, NULL), 0); /* it is there all the same */
		if (c->cmd == IOF_CMD_IOAS_UNMAP) {
			CHECK_EQ(iof_ioas_stats(ctx, ioas, &s1), 0);
			CHECK_EQ(s1.mappings, s0.mappings - 1);
		}
		teardown();
	}
	munmap(ro, PAGE);
}

TEST(an_option_stays_set_when_its_answer_faults)
{
	struct iof_cmd_option set = { .size = sizeof(set), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_SET };
	char *ro = pages_of(1);

	setup();
	CHECK_EQ(ioas_alloc(ctx, &set.object_id), 0); /* one without page tables */
	memcpy(ro, &set, sizeof(set));
	mprotect(ro, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_OPTION, ro), -EFAULT);
	set.op = IOF_OPTION_GET;
	set.val64 = 7;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_OPTION, &set), 0);
	CHECK_EQ(set.val64, 0);
	munmap(ro, PAGE);
	teardown();
}

/* Only val64 is written: an answer works when no more than that can be written. */
TEST(an_option_answers_with_val64_only)
{
	struct iof_cmd_option *at;
	char *two = pages_of(2);

	setup();
	at = (struct iof_cmd_option *)(two + PAGE - 16);
	*at = (struct iof_cmd_option){ .size = sizeof(*at), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_GET,
				       .object_id = ioas, .val64 = 7 };
	mprotect(two, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_OPTION, at), 0);
	CHECK_EQ(at->val64, 1);
	munmap(two, 2 * PAGE);
	teardown();
}

/* ---- fields ---- */

TEST(reserved_fields_and_unknown_flags_are_eopnotsupp)
{
	/* bits that have to be clear; 0x3bXX at an offset; `bytes` wide */
	static const struct {
		uint32_t cmd;
		unsigned offset, bytes;
		uint64_t bits;
	} fields[] = {
		{ 0x3b81, 4, 4, UINT32_MAX }, { 0x3b82, 12, 4, UINT32_MAX }, { 0x3b83, 4, 4, ~7u }, { 0x3b84, 12, 4, UINT32_MAX },
		{ 0x3b85, 4, 4, ~7u }, { 0x3b85, 12, 4, UINT32_MAX }, { 0x3b87, 10, 2, 0xffff }, { 0x3b87, 4, 4, ~1u },
		{ 0x3b87, 8, 2, 0xfffe }, { 0x3b88, 8, 2, 0xfffc }, { 0x3b88, 10, 2, 0xffff }, { 0x3b89, 20, 4, UINT32_MAX },
		{ 0x3b89, 4, 4, ~15u }, { 0x3b8a, 4, 4, ~1u }, { 0x3b8a, 29, 1, 0xff }, { 0x3b8a, 30, 1, 0xff }, { 0x3b8a, 31, 1, 0xff },
		{ 0x3b8b, 4, 4, ~1u }, { 0x3b8c, 8, 4, ~1u }, { 0x3b8c, 12, 4, UINT32_MAX }, { 0x3b8d, 28, 4, UINT32_MAX },
		{ 0x3b8e, 4, 4, UINT32_MAX }, { 0x3b8f, 4, 4, ~7u }, { 0x3b90, 4, 4, UINT32_MAX }, { 0x3b92, 4, 4, UINT32_MAX },
		{ 0x3b93, 4, 4, UINT32_MAX }, { 0x3b93, 28, 4, UINT32_MAX }, { 0x3b94, 4, 4, UINT32_MAX },
	};
	union any u;
	uint64_t before, value;

	setup();
	for (unsigned i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		for (unsigned bit = 0; bit < fields[i].bytes * 8; bit++) {
			const struct command *c = commands;

			if (!(fields[i].bits >> bit & 1))
				continue;
			while (c->cmd != fields[i].cmd)
				c++;
			prepare(c, &u, c->full);
			value = 0;
			memcpy(&value, u.bytes + fields[i].offset, fields[i].bytes);
			value |= UINT64_C(1) << bit;
			memcpy(u.bytes + fields[i].offset, &value, fields[i].bytes);
			before = digest();
			CHECK_RC(c, run(c, &u), -EOPNOTSUPP);
			CHECK_EQ(digest(), before);
		}
	teardown();
}

/* R1.6.6. */
TEST(reserved_fields_that_nobody_checks)
{
	union any u;

	setup();
	EACH(c) {
		prepare(c, &u, c->full);
		if (c->cmd == IOF_CMD_HWPT_ALLOC)
			u.hwpt.reserved2 = 0xdeadbeef;
		else if (c->cmd == IOF_CMD_HWPT_SET_DIRTY_TRACKING)
			u.tracking.reserved = 0xdeadbeef;
		else if (c->cmd == IOF_CMD_VIOMMU_ALLOC)
			u.viommu.reserved = 0xdeadbeef;
		else
			continue;
		CHECK_RC(c, run(c, &u), 0);
	}
	teardown();
}

TEST(input_fields_come_back_as_they_were)
{
	union any u, sent;

	setup();
	prepare(&commands[5], &u, 40);
	sent = u;
	CHECK_EQ(run(&commands[5], &u), 0);
	sent.map.iova = u.map.iova;
	CHECK(!memcmp(&sent, &u, sizeof(u)));
	prepare(&commands[8], &u, 24);
	sent = u;
	CHECK_EQ(run(&commands[8], &u), 0);
	sent.hwpt.out_hwpt_id = u.hwpt.out_hwpt_id;
	CHECK(!memcmp(&sent, &u, sizeof(u)));
	teardown();
}

/* ---- which error comes first ---- */

static int map_with(uint32_t flags, uint32_t id, uint32_t reserved, uint64_t va, uint64_t length, uint64_t iova)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = flags, .ioas_id = id, .reserved = reserved, .user_va = va,
				      .length = length, .iova = iova };

	return iof_ioctl(ctx, IOF_CMD_IOAS_MAP, &c);
}

TEST(order_of_map)
{
	uint32_t bare;

	setup();
	CHECK_EQ(ioas_alloc(ctx, &bare), 0);
	CHECK_EQ(map_with(8, 99, 0, 0, UINT64_MAX, 0), -EOPNOTSUPP);
	CHECK_EQ(map_with(0, 99, 1, 0, UINT64_MAX, 0), -EOPNOTSUPP);
	CHECK_EQ(map_with(0, 99, 0, 0, UINT64_MAX, 0), -EOVERFLOW);
	CHECK_EQ(map_with(0, 99, 0, 0, PAGE, UINT64_MAX), -EOVERFLOW); /* though nothing is FIXED */
	CHECK_EQ(map_with(IOF_MAP_FIXED_IOVA, 99, 0, 0, PAGE, 0), -EINVAL);
	CHECK_EQ(map_with(RW, 99, 0, UINT64_MAX, 0, 0), -ENOENT);
	CHECK_EQ(map_with(RW, dev_id, 0, 0, PAGE, 0), -ENOENT);
	CHECK_EQ(map_with(RW, 0, 0, 0, PAGE, 0), -ENOENT);
	CHECK_EQ(map_with(RW, ioas, 0, UINT64_MAX, 2, 0), -EOVERFLOW);
	CHECK_EQ(map_with(RW, ioas, 0, UINT64_MAX - PAGE + 1, PAGE, 0), -EOVERFLOW);
	CHECK_EQ(map_with(RW, ioas, 0, 0, 0, 0), -EINVAL);
	CHECK_EQ(map_with(RW, ioas, 0, 0, UINT64_MAX - PAGE + 1, 0), -EINVAL);
	CHECK_EQ(map_with(RW, bare, 0, 0, UINT64_MAX - PAGE, 0), -EOVERFLOW); /* too long for an automatic IOVA */
	CHECK_EQ(map_with(RW | IOF_MAP_FIXED_IOVA, bare, 0, 0, 2 * PAGE, UINT64_MAX - PAGE), -EOVERFLOW);
	CHECK_EQ(map_with(RW | IOF_MAP_FIXED_IOVA, ioas, 0, (uintptr_t)buf, PAGE, 0x10800), -EINVAL); /* misaligned, before what is in the way */
	CHECK_EQ(map_with(RW | IOF_MAP_FIXED_IOVA, ioas, 0, (uintptr_t)buf, 2 * PAGE, MAPPED - PAGE), -EEXIST);
	teardown();
}

static int copy_with(uint32_t flags, uint32_t dst, uint32_t src, uint64_t length, uint64_t dst_iova, uint64_t src_iova)
{
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = flags, .dst_ioas_id = dst, .src_ioas_id = src, .length = length,
				       .dst_iova = dst_iova, .src_iova = src_iova };

	return iof_ioctl(ctx, IOF_CMD_IOAS_COPY, &c);
}

TEST(order_of_copy)
{
	setup();
	CHECK_EQ(copy_with(8, 99, 99, UINT64_MAX, 0, 0), -EOPNOTSUPP);
	CHECK_EQ(copy_with(0, 99, 99, UINT64_MAX, 0, 0), -EOVERFLOW);
	CHECK_EQ(copy_with(0, 99, 99, PAGE, 0, UINT64_MAX), -EOVERFLOW);
	CHECK_EQ(copy_with(0, 99, 99, PAGE, UINT64_MAX, 0), -EOVERFLOW);
	CHECK_EQ(copy_with(0, 99, 99, PAGE, 0, 0), -EINVAL);
	CHECK_EQ(copy_with(RW, ioas, 99, 0, 0, 0), -ENOENT);
	CHECK_EQ(copy_with(RW, 99, ioas, 0, 0, 0), -EINVAL); /* the source is collected before dst is looked up */
	CHECK_EQ(copy_with(RW, 99, ioas, 2, 0, UINT64_MAX - 1), -ENOENT);
	CHECK_EQ(copy_with(RW, 99, ioas, 3, 0, UINT64_MAX - 1), -EOVERFLOW);
	CHECK_EQ(copy_with(RW, 99, ioas, PAGE + 1, 0, 0x10000), -ENOENT);
	CHECK_EQ(copy_with(RW, 99, ioas, PAGE, 0, 0x10000), -ENOENT);
	CHECK_EQ(copy_with(RW | IOF_MAP_FIXED_IOVA, ioas, ioas, PAGE, 0x10000, 0x10000), -EEXIST);
	teardown();
}

TEST(order_of_unmap)
{
	uint64_t bytes;

	setup();
	CHECK_EQ(unmap(ctx, 99, UINT64_MAX, 0, NULL), -ENOENT);
	CHECK_EQ(unmap(ctx, ioas, UINT64_MAX, 0, NULL), -EOVERFLOW);
	CHECK_EQ(unmap(ctx, ioas, 1, UINT64_MAX, NULL), -EOVERFLOW);
	CHECK_EQ(unmap(ctx, ioas, 0, 0, NULL), -EINVAL);
	CHECK_EQ(unmap(ctx, ioas, 0x10001, UINT64_MAX - 0xffff, NULL), -EOVERFLOW);
	CHECK_EQ(unmap(ctx, ioas, 0x10001, UINT64_MAX - 0x10000, NULL), -ENOENT); /* up to 2^64-1, and the area sticks out */
	CHECK_EQ(unmap(ctx, ioas, 0x10001, PAGE, NULL), -ENOENT);
	CHECK_EQ(unmap(ctx, ioas, 0x11000, PAGE, NULL), -ENOENT);
	bytes = 5;
	CHECK_EQ(unmap(ctx, ioas, 0x10000, PAGE - 1, &bytes), -ENOENT);
	CHECK_EQ(bytes, PAGE - 1); /* not written back */
	CHECK_EQ(unmap(ctx, ioas, 0x10000, UINT64_MAX - 0x10000 + 1, &bytes), 0); /* up to 2^64-1 */
	CHECK_EQ(bytes, PAGE);
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, &bytes), 0); /* everything, and there is nothing */
	CHECK_EQ(bytes, 0);
	teardown();
}

static int option_with(uint16_t op, uint16_t reserved, uint32_t option, uint32_t object, uint64_t value)
{
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = option, .op = op, .reserved = reserved, .object_id = object,
				    .val64 = value };

	return iof_ioctl(ctx, IOF_CMD_OPTION, &c);
}

TEST(order_of_option)
{
	setup();
	CHECK_EQ(option_with(9, 1, 9, 99, 9), -EOPNOTSUPP);
	CHECK_EQ(option_with(9, 0, IOF_OPTION_HUGE_PAGES, 99, 9), -ENOENT);
	CHECK_EQ(option_with(9, 0, IOF_OPTION_HUGE_PAGES, ioas, 9), -EOPNOTSUPP);
	CHECK_EQ(option_with(IOF_OPTION_SET, 0, IOF_OPTION_HUGE_PAGES, ioas, 2), -EINVAL);
	CHECK_EQ(option_with(IOF_OPTION_SET, 0, IOF_OPTION_RLIMIT_MODE, 1, 9), -EOPNOTSUPP);
	CHECK_EQ(option_with(9, 0, IOF_OPTION_RLIMIT_MODE, 0, 0), -EOPNOTSUPP);
	CHECK_EQ(option_with(IOF_OPTION_GET, 0, IOF_OPTION_RLIMIT_MODE, 0, 9), 0);
	teardown();
}

static int hwpt_with(uint32_t flags, uint32_t device, uint32_t pt, uint32_t reserved, uint32_t type, uint32_t len)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = device, .pt_id = pt, .reserved = reserved,
					.data_type = type, .data_len = len };

	return iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c);
}

TEST(order_of_hwpt_alloc)
{
	uint32_t hwpt;

	setup();
	CHECK_EQ(hwpt_with(~0u, 99, 99, 1, 1, 0), -EOPNOTSUPP);
	CHECK_EQ(hwpt_with(~0u, 99, 99, 0, 1, 0), -EINVAL);
	CHECK_EQ(hwpt_with(~0u, 99, 99, 0, 0, 1), -EINVAL);
	CHECK_EQ(hwpt_with(~0u, 99, 99, 0, 0, 0), -ENOENT);
	CHECK_EQ(hwpt_with(~0u, ioas, ioas, 0, 0, 0), -ENOENT);
	CHECK_EQ(hwpt_with(~0u, dev_id, 99, 0, 0, 0), -EINVAL);
	CHECK_EQ(hwpt_with(0, dev_id, dev_id, 0, 0, 0), -EINVAL);
	CHECK_EQ(hwpt_with(0, dev_id, ioas, 0, 1, 24), -EOPNOTSUPP);
	CHECK_EQ(hwpt_alloc(ctx, dev_id, ioas, &hwpt), 0);
	CHECK_EQ(hwpt_with(0, dev_id, hwpt, 0, 0, 0), -EOPNOTSUPP);
	teardown();
}

TEST(rlimit_mode_wants_an_empty_context)
{
	struct iof_handle *fresh;
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = IOF_OPTION_RLIMIT_MODE, .val64 = 2 };
	uint32_t id;
	int rc;

	setup();
	CHECK_EQ(iof_engine_open(m, &fresh), 0);
	rc = iof_ioctl(fresh, IOF_CMD_OPTION, &c);
	if (rc == -EPERM)
		printf("without CAP_SYS_RESOURCE: nothing else to see\n");
	else {
		CHECK_EQ(rc, -EINVAL);
		c.val64 = 1;
		CHECK_EQ(iof_ioctl(fresh, IOF_CMD_OPTION, &c), 0);
		CHECK_EQ(ioas_alloc(fresh, &id), 0);
		c.val64 = 2;
		CHECK_EQ(iof_ioctl(fresh, IOF_CMD_OPTION, &c), -EBUSY);
		c.op = IOF_OPTION_GET;
		CHECK_EQ(iof_ioctl(fresh, IOF_CMD_OPTION, &c), 0);
		CHECK_EQ(c.val64, 1);
	}
	iof_close(fresh);
	teardown();
}

/* ---- device files ---- */

TEST(device_commands_have_vfio_rules)
{
	struct iof_cmd_attach *a;
	struct iof_cmd_detach *d;
	struct iof_cmd_device_info info = { .argsz = sizeof(info) };
	union any u = { 0 };

	setup();
	a = (struct iof_cmd_attach *)&u;
	*a = (struct iof_cmd_attach){ .argsz = 11, .flags = 8, .pt_id = 99 };
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -EINVAL);
	a->argsz = 12;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -EINVAL);
	a->flags = IOF_ATTACH_PASID;
	for (a->argsz = 12; a->argsz < 16; a->argsz++)
		CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -EINVAL); /* before the id is looked up */
	a->pasid = 1;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -ENOENT);
	memcpy(edge + PAGE - 12, a, 12);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, edge + PAGE - 12), -EFAULT);
	a->flags = 0;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -ENOENT);
	a->pt_id = dev_id;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, a), -EINVAL);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, edge + PAGE - 11), -EFAULT);
	d = (struct iof_cmd_detach *)&u;
	*d = (struct iof_cmd_detach){ .argsz = 7 };
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, d), -EINVAL);
	d->argsz = 8;
	d->flags = 2;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, d), -EINVAL);
	d->flags = 1;
	for (d->argsz = 8; d->argsz < 12; d->argsz++)
		CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, d), -EINVAL);
	d->pasid = 77;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, d), 0); /* not attached: nothing happens */
	memcpy(edge + PAGE - 8, &(struct iof_cmd_detach){ 12, 1, 0 }, 8);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, edge + PAGE - 8), -EFAULT);
	d->flags = 0;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, d), 0); /* not attached: nothing happens */
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, edge + PAGE - 7), -EFAULT);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_GET_INFO, &info), 0);
	info.argsz = 15;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_GET_INFO, &info), -EINVAL);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_GET_INFO, edge + PAGE), -EFAULT);
	CHECK_EQ(iof_ioctl(dev, 0x3b75, edge + PAGE), -ENOTTY);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_IOAS_ALLOC, &u), -ENOTTY);
	teardown();
}

TEST(a_device_file_knows_only_bind_at_first)
{
	struct iof_handle *d2;
	uint32_t index;
	union any u = { .size = 64 };
	struct iof_cmd_bind *b = (struct iof_cmd_bind *)&u;

	setup();
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_INTEL, UINT32_MAX, &index), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &d2), 0);
	for (unsigned nr = 0; nr < 256; nr++)
		if (nr != 0x76)
			CHECK_EQ(iof_ioctl(d2, 0x3b00 | nr, edge + PAGE), -EINVAL);
	*b = (struct iof_cmd_bind){ .argsz = 40, .flags = 2, .iommufd = -1 };
	u.bytes[39] = 1;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), -E2BIG);
	u.bytes[39] = 0;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), -EINVAL);
	b->iommufd = iof_fileno(ctx);
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), -EINVAL);
	b->flags = IOF_BIND_TOKEN;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), -EINVAL);
	b->flags = 0;
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), 0);
	CHECK_EQ(b->argsz, 40);
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, b), -EINVAL);
	iof_close(d2);
	teardown();
}

TEST(device_responses_that_fault)
{
	struct iof_handle *d2;
	struct iof_machine_device info;
	uint32_t index;
	uint64_t before;
	char *ro = pages_of(1);

	setup();
	CHECK_EQ(iof_machine_plug(m, IOF_PRESET_INTEL, UINT32_MAX, &index), 0);
	CHECK_EQ(iof_engine_open_device(m, index, &d2), 0);
	before = digest();
	*(struct iof_cmd_bind *)ro = (struct iof_cmd_bind){ .argsz = 16, .iommufd = iof_fileno(ctx) };
	mprotect(ro, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(d2, IOF_CMD_DEVICE_BIND_IOMMUFD, ro), -EFAULT);
	CHECK_EQ(digest(), before); /* the bind is undone */
	CHECK_EQ(iof_machine_device_at(m, index, &info), 0);
	CHECK(!info.bound);
	/* an attach is undone as well, one that replaced included: the device ends detached */
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	mprotect(ro, PAGE, PROT_READ | PROT_WRITE);
	*(struct iof_cmd_attach *)ro = (struct iof_cmd_attach){ .argsz = 12, .pt_id = ioas };
	mprotect(ro, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, ro), -EFAULT);
	CHECK_EQ(digest(), before);
	iof_close(d2);
	munmap(ro, PAGE);
	teardown();
}
