/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel provider over an engine that stands in the kernel's place: answers, the ledger beside what the engine says, where IOVAs come from, and
 * refused memory at every step.
 */
#include "kernel_rig.h"

static char *memory; /* 64 pages */

static struct rig *start(enum iof_iova_choice choice)
{
	if (!memory)
		memory = (char *)pages_of(64);
	return rig_open_with(choice);
}

static struct iof_kernel_counts counts(struct rig *r, uint32_t ioas)
{
	struct iof_kernel_counts c;

	CHECK_EQ(iof_kernel_ioas_counts(r->ctx, ioas, &c), 0);
	return c;
}

TEST(life)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_handle *dev;
	struct iof_ioas_stats s;
	uint64_t iova, address, bytes;
	uint32_t ioas, id, hwpt;
	uint8_t prot;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(iof_vfio_open(r->ctx, "vfio2", &dev), 0);
	CHECK_EQ(bind_device(dev, r->ctx, &id), 0);
	CHECK_EQ(submit_map(r, ioas, memory, 2 * PAGE, &iova), 0);
	CHECK(iova >= 2ul << 20 && iova < 1ul << 39);
	CHECK_EQ(iof_translate(r->ctx, ioas, 1, &iova, &address, &prot), -ENODEV);
	CHECK_EQ(attach(dev, ioas, &hwpt), 0);
	rig_compare_maps(r, ioas);
	rig_compare_ends(r);
	iova += 5;
	CHECK_EQ(iof_translate(r->ctx, ioas, 1, &iova, &address, &prot), 1);
	CHECK_EQ(address, (uintptr_t)memory + 5);
	CHECK_EQ(prot, 3);
	CHECK_EQ(iof_ioas_stats(r->ctx, ioas, &s), 0);
	CHECK(s.mappings == 1 && s.bytes_mapped == 2 * PAGE && s.hwpts == 1 && s.endpoints == 1 && s.alignment == PAGE && s.large_pages);
	CHECK_EQ(destroy(r->ctx, ioas), -EBUSY);
	CHECK_EQ(unmap(r->ctx, ioas, iova - 5, 2 * PAGE, &bytes), 0);
	CHECK_EQ(bytes, 2 * PAGE);
	CHECK_EQ(unmap(r->ctx, ioas, iova - 5, 2 * PAGE, &bytes), -ENOENT);
	iof_close(dev);
	rig_compare_ends(r);
	CHECK_EQ(destroy(r->ctx, ioas), 0);
	CHECK_EQ(iof_ioas_stats(r->ctx, ioas, &s), -ENOENT);
	rig_close_all(r);
}

TEST(a_context_lives_on_for_its_devices)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_handle *dev;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(iof_vfio_open(r->ctx, "/dev/vfio/devices/vfio0", &dev), 0);
	CHECK_EQ(bind_device(dev, r->ctx, NULL), 0);
	iof_close(r->ctx);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	iof_close(dev);
	CHECK_EQ(atomic_load(&r->memory.live_bytes), 0);
	CHECK_EQ(rig_open_context(r, IOF_IOVA_OWN), 0);
	rig_close_all(r);
}

TEST(the_raw_door_lets_the_kernel_choose)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t iova = 0, own;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(map_at(r->ctx, ioas, memory, PAGE, RW, &iova), 0);
	CHECK_EQ(iova, PAGE); /* the lowest, as the contract has it */
	CHECK_EQ(counts(r, ioas).kernel, 1);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &own), 0);
	CHECK_EQ(counts(r, ioas).own, 1);
	CHECK_EQ(map_at(r->ctx, ioas, memory, PAGE, RW | IOF_MAP_FIXED_IOVA, &own), -EEXIST);
	rig_compare_maps(r, ioas);
	/* A struct that is longer than ours is the kernel's business. */
	struct { struct iof_cmd_ioas_map c; uint64_t tail; } big = { .c = { .size = sizeof(big), .flags = RW, .ioas_id = ioas,
		.user_va = (uintptr_t)memory, .length = PAGE } };
	CHECK_EQ(iof_submit(r->ctx, IOF_CMD_IOAS_MAP, &big), 0);
	CHECK_EQ(big.c.iova, 2 * PAGE);
	big.tail = 1;
	CHECK_EQ(iof_submit(r->ctx, IOF_CMD_IOAS_MAP, &big), -E2BIG);
	CHECK_EQ(iof_submit(r->ctx, IOF_CMD_IOAS_MAP, (void *)64), -EFAULT);
	CHECK_EQ(iof_ioctl(r->ctx, IOF_CMD_IOAS_UNMAP, NULL), -EFAULT);
	CHECK_EQ(iof_ioctl(r->ctx, IOF_CMD(0x7f), NULL), -ENOTTY);
	rig_compare_maps(r, ioas);
	rig_close_all(r);
}

static const struct {
	uint32_t ioas, flags;
	uint64_t va, length;
} bad[] = {
	{ 99, RW, 0, PAGE }, { 1, 0, 0, PAGE }, { 1, RW | 64, 0, PAGE }, { 1, RW, 0, 0 }, { 1, RW, UINT64_MAX - 10, PAGE },
	{ 1, RW, PAGE, UINT64_MAX }, { 1, RW, PAGE, UINT64_MAX / 2 }, { 0, RW, 0, PAGE }, { 99, RW | 64, 0, PAGE },
};

static void same_errors(struct iof_handle *a, struct iof_handle *b)
{
	struct iof_cmd_ioas_map ours, theirs;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ours = theirs = (struct iof_cmd_ioas_map){ .size = sizeof(ours), .flags = bad[i].flags, .ioas_id = bad[i].ioas,
							   .user_va = bad[i].va, .length = bad[i].length };
		CHECK_EQ(iof_submit(a, IOF_CMD_IOAS_MAP, &ours), iof_submit(b, IOF_CMD_IOAS_MAP, &theirs));
		CHECK_EQ(ours.flags, theirs.flags);
	}
}

/* The same answers to bad requests, whoever chooses; before and after a device is there. */
TEST(errors_are_the_kernels)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_handle *plain, *dev, *other;
	uint32_t ioas;

	CHECK_EQ(iof_engine_open(r->m, &plain), 0);
	CHECK_EQ(ioas_alloc(plain, &ioas), 0);
	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(ioas, 1);
	same_errors(r->ctx, plain);
	CHECK_EQ(iof_vfio_open(r->ctx, "vfio0", &dev), 0);
	CHECK_EQ(bind_device(dev, r->ctx, NULL), 0);
	CHECK_EQ(attach(dev, 1, NULL), 0);
	CHECK_EQ(iof_engine_open_device(r->m, 2, &other), 0);
	CHECK_EQ(bind_device(other, plain, NULL), 0);
	CHECK_EQ(attach(other, 1, NULL), 0);
	same_errors(r->ctx, plain);
	rig_compare_maps(r, 1);
	iof_close(dev);
	iof_close(other);
	iof_close(plain);
	rig_close_all(r);
}

TEST(names_of_devices)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_handle *dev = NULL;

	CHECK_EQ(iof_vfio_open(r->ctx, "vfio9", &dev), -ENODEV);
	CHECK_EQ(iof_vfio_open(r->ctx, "0000:01:00.0", &dev), -ENODEV);
	CHECK_EQ(iof_vfio_open(r->under, "vfio0", &dev), -EINVAL);
	CHECK_EQ(iof_vfio_adopt(r->ctx, -1, -1, &dev), -EBADF);
	CHECK_EQ(iof_kernel_file(r->under, 3, &dev), -EINVAL);
	CHECK_EQ(iof_kernel_open("/nowhere/iommu", NULL, &dev), -ENOENT);
	CHECK_EQ(iof_kernel_open(NULL, &(struct iof_kernel_config){ .size = 1 }, &dev), -EINVAL);
	CHECK_EQ(iof_kernel_adopt(-1, NULL, &dev), -EBADF);
	CHECK(!dev);
	rig_close_all(r);
}

/* ---- IOVAs ---- */

TEST(a_foreign_mapping_is_gone_around)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t first, second, third;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &first), 0);
	second = first + PAGE; /* the next slot of the window: somebody takes it behind our back */
	CHECK_EQ(map_at(r->under, ioas, memory, 3 * PAGE, RW | IOF_MAP_FIXED_IOVA, &second), 0);
	CHECK_EQ(submit_map(r, ioas, memory + PAGE, PAGE, &third), 0);
	CHECK_EQ(counts(r, ioas).foreign, 3);
	CHECK_EQ(third, first + 4 * PAGE);
	CHECK_EQ(counts(r, ioas).kernel, 0);
	rig_close_all(r);
}

TEST(after_eight_tries_the_kernel_chooses)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t first, second, third;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &first), 0);
	second = first + PAGE;
	CHECK_EQ(map_at(r->under, ioas, memory, 32 * PAGE, RW | IOF_MAP_FIXED_IOVA, &second), 0);
	CHECK_EQ(submit_map(r, ioas, memory + PAGE, PAGE, &third), 0);
	CHECK_EQ(third, PAGE);
	CHECK_EQ(counts(r, ioas).foreign, 7);
	CHECK_EQ(counts(r, ioas).kernel, 1);
	/* And the next is ours again, from a window beyond. */
	CHECK_EQ(submit_map(r, ioas, memory + 2 * PAGE, PAGE, &third), 0);
	CHECK(third >= first + (2ul << 20) - PAGE);
	CHECK_EQ(counts(r, ioas).own, 2);
	rig_close_all(r);
}

TEST(refused_ranges_are_read_again)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t first, second, iovas[4], addresses[4], lengths[4] = { PAGE, PAGE, PAGE, PAGE };
	struct iof_map_many many = { .flags = RW, .n = 4, .addresses = addresses, .lengths = lengths, .iovas = iovas };
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	many.ioas_id = ioas;
	for (int i = 0; i < 4; i++)
		addresses[i] = (uintptr_t)memory + (uint64_t)i * PAGE;
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &first), 0);
	r->low = 1ul << 32; /* as when somebody else attached a device */
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &second), 0);
	CHECK(second >= r->low);
	CHECK_EQ(counts(r, ioas).reread, 2); /* the first time that they were read counts too */
	r->low = 1ul << 33; /* and once more, in the middle of a batch: its other places are old then too */
	CHECK_EQ(iof_map_many(r->ctx, &many), 0);
	for (int i = 0; i < 4; i++)
		CHECK(iovas[i] >= r->low);
	CHECK_EQ(unmap(r->ctx, ioas, first, PAGE, NULL), 0);
	CHECK_EQ(submit_map(r, ioas, memory + 1, 77, &first), 0); /* no device, so no alignment */
	CHECK_EQ(first % PAGE, 1);
	rig_compare_maps(r, ioas);
	rig_close_all(r);
}

TEST(an_error_that_is_no_matter_of_place_is_told)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t iova;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	for (int error = -EINVAL; error; error = error == -EINVAL ? -EFAULT : error == -EFAULT ? -ENOMEM : 0) {
		r->map_after = 1;
		r->map_error = error;
		CHECK_EQ(submit_map(r, ioas, memory, PAGE, &iova), error);
		rig_compare_maps(r, ioas);
	}
	rig_close_all(r);
}

TEST(what_is_allowed_bounds_our_choice)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_uapi_range list[2] = { { 0x8000000, 0xfffffff }, { 0x100000, 0x1fffff } };
	struct iof_cmd_ioas_allow_iovas c = { .size = sizeof(c), .num_iovas = 2, .allowed_iovas = (uintptr_t)list };
	uint64_t iova, kernel = 0;

	CHECK_EQ(ioas_alloc(r->ctx, &c.ioas_id), 0);
	CHECK_EQ(submit_map(r, c.ioas_id, memory, PAGE, &iova), 0);
	CHECK_EQ(iof_ioctl(r->ctx, IOF_CMD_IOAS_ALLOW_IOVAS, &c), 0);
	for (int i = 0; i < 600; i++) {
		CHECK_EQ(submit_map(r, c.ioas_id, memory, PAGE, &iova), 0);
		CHECK(iova < 0x10000000 && (iova < 0x200000 || iova >= 0x8100000)); /* not the careful window either */
		CHECK(iova >= 0x100000);
	}
	CHECK_EQ(map_at(r->ctx, c.ioas_id, memory, PAGE, RW, &kernel), 0);
	rig_compare_maps(r, c.ioas_id);
	rig_close_all(r);
}

TEST(large_maps_lie_as_their_memory_does)
{
	static const uint64_t sizes[] = { (2ul << 20) + PAGE, 64ul << 20, 1ul << 30, 5ul << 30 };
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t va, iova;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 3; k++) {
			va = 0x7f1234567000 + k * 0x3f5000; /* not looked at: the engine trusts */
			CHECK_EQ(submit_map(r, ioas, (void *)va, sizes[i], &iova), 0);
			CHECK_EQ((iova ^ va) & ((sizes[i] < 1ul << 30 ? 2ul << 20 : 1ul << 30) - 1), 0);
		}
	rig_compare_maps(r, ioas);
	CHECK_EQ(unmap(r->ctx, ioas, 0, UINT64_MAX, NULL), 0);
	rig_compare_maps(r, ioas);
	rig_close_all(r);
}

TEST(other_choosers)
{
	struct rig *r = start(IOF_IOVA_KERNEL);
	uint64_t iova, iovas[2], addresses[2] = { (uintptr_t)memory, (uintptr_t)memory + PAGE }, lengths[2] = { PAGE, PAGE };
	struct iof_map_many many = { .flags = RW, .n = 2, .addresses = addresses, .lengths = lengths, .iovas = iovas };

	CHECK_EQ(ioas_alloc(r->ctx, &many.ioas_id), 0);
	CHECK_EQ(submit_map(r, many.ioas_id, memory, PAGE, &iova), 0);
	CHECK_EQ(iova, PAGE);
	CHECK_EQ(iof_map_many(r->ctx, &many), 0);
	CHECK_EQ(iovas[0], 2 * PAGE);
	rig_compare_maps(r, many.ioas_id);
	rig_close_all(r);

	r = start(IOF_IOVA_VA);
	CHECK_EQ(ioas_alloc(r->ctx, &many.ioas_id), 0);
	CHECK_EQ(submit_map(r, many.ioas_id, memory, PAGE, &iova), 0);
	CHECK_EQ(iova, (uintptr_t)memory);
	CHECK_EQ(submit_map(r, many.ioas_id, memory, PAGE, &iova), -EEXIST);
	CHECK_EQ(iof_map_many(r->ctx, &many), -EEXIST);
	CHECK_EQ(many.failed, 0);
	CHECK_EQ(unmap(r->ctx, many.ioas_id, (uintptr_t)memory, PAGE, NULL), 0);
	CHECK_EQ(iof_map_many(r->ctx, &many), 0);
	CHECK_EQ(iovas[1], addresses[1]);
	rig_compare_maps(r, many.ioas_id);
	rig_close_all(r);
}

/* ---- behind our back ---- */

TEST(what_went_behind_our_back_is_found_out)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t a, b, c;
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &a), 0);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &b), 0);
	CHECK_EQ(unmap(r->under, ioas, a, PAGE, NULL), 0);
	CHECK_EQ(unmap(r->under, ioas, b, PAGE, NULL), 0);
	CHECK_EQ(unmap(r->ctx, ioas, a, PAGE, NULL), -ENOENT);
	CHECK_EQ(map_at(r->ctx, ioas, memory + PAGE, PAGE, RW | IOF_MAP_FIXED_IOVA, &b), 0); /* b is believed taken */
	rig_compare_maps(r, ioas);
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &c), 0);
	rig_compare_maps(r, ioas);
	CHECK_EQ(ioas_alloc(r->under, &ioas), 0); /* made by somebody else */
	CHECK_EQ(submit_map(r, ioas, memory, PAGE, &a), 0);
	rig_compare_maps(r, ioas);
	rig_close_all(r);
}

TEST(a_range_that_fails_half_way)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t at[4] = { 0x10000000, 0x10001000, 0x10005000, 0x10010000 };
	uint32_t ioas;

	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(map_at(r->ctx, ioas, memory, i == 3 ? 4 * PAGE : PAGE, RW | IOF_MAP_FIXED_IOVA, &at[i]), 0);
	CHECK_EQ(unmap(r->ctx, ioas, 0x10000000, 0x11000, NULL), -ENOENT); /* the last one sticks out */
	rig_compare_maps(r, ioas);
	CHECK_EQ(unmap(r->ctx, ioas, 0x10000000, 0x14000, NULL), 0);
	rig_compare_maps(r, ioas);
	rig_close_all(r);
}

TEST(copies_keep_their_parts)
{
	struct rig *r = start(IOF_IOVA_OWN);
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = RW, .length = 3 * PAGE, .src_iova = 0x10001000 };
	uint64_t at[2] = { 0x10000000, 0x10002000 }, iova;

	CHECK_EQ(ioas_alloc(r->ctx, &c.src_ioas_id), 0);
	CHECK_EQ(ioas_alloc(r->ctx, &c.dst_ioas_id), 0);
	CHECK_EQ(map_at(r->ctx, c.src_ioas_id, memory, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &at[0]), 0);
	CHECK_EQ(map_at(r->ctx, c.src_ioas_id, memory + 8 * PAGE, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &at[1]), 0);
	CHECK_EQ(iof_submit(r->ctx, IOF_CMD_IOAS_COPY, &c), 0);
	CHECK(c.dst_iova >= PAGE && c.flags == RW);
	rig_compare_maps(r, c.dst_ioas_id);
	iova = c.dst_iova;
	CHECK_EQ(copy(r->ctx, c.src_ioas_id, c.src_ioas_id, c.src_iova, c.length, RW, &iova), 0);
	rig_compare_maps(r, c.src_ioas_id);
	CHECK_EQ(copy(r->ctx, c.src_ioas_id, c.src_ioas_id, 0x20000000, PAGE, RW, &iova), -ENOENT);
	CHECK_EQ(unmap(r->ctx, c.dst_ioas_id, c.dst_iova, PAGE, NULL), 0);
	CHECK_EQ(unmap(r->ctx, c.dst_ioas_id, c.dst_iova + PAGE, 2 * PAGE, NULL), 0);
	rig_compare_maps(r, c.dst_ioas_id);
	rig_close_all(r);
}

/* ---- batches ---- */

TEST(batches)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t iovas[64], addresses[64], lengths[64], gone[64];
	int32_t errors[64];
	struct iof_map_many many = { .flags = RW, .n = 64, .addresses = addresses, .lengths = lengths, .iovas = iovas };
	struct iof_unmap_many un = { .n = 64, .iovas = iovas, .lengths = lengths, .unmapped = gone, .errors = errors };
	uint64_t one;

	CHECK_EQ(ioas_alloc(r->ctx, &many.ioas_id), 0);
	un.ioas_id = many.ioas_id;
	for (int i = 0; i < 64; i++) {
		addresses[i] = (uintptr_t)memory + (uint64_t)i * PAGE;
		lengths[i] = PAGE;
	}
	CHECK_EQ(submit_map(r, many.ioas_id, memory, PAGE, &one), 0);
	r->map_after = 40;
	r->map_error = -EFAULT;
	CHECK_EQ(iof_map_many(r->ctx, &many), -EFAULT);
	CHECK_EQ(many.failed, 39);
	rig_compare_maps(r, many.ioas_id);
	CHECK_EQ(iof_map_many(r->ctx, &many), 0);
	rig_compare_maps(r, many.ioas_id);
	CHECK_EQ(unmap(r->under, many.ioas_id, iovas[5], PAGE, NULL), 0);
	lengths[9] = PAGE / 2;
	CHECK_EQ(iof_unmap_many(r->ctx, &un), 62);
	CHECK(errors[5] == -ENOENT && errors[9] == -ENOENT && !errors[63] && gone[63] == PAGE && !gone[9]);
	rig_compare_maps(r, many.ioas_id);
	/* FIXED onto something else: entry by entry then, and everything is taken back. */
	many.flags |= IOF_MAP_FIXED_IOVA;
	for (int i = 0; i < 64; i++)
		iovas[i] = 0x40000000 + (uint64_t)i * PAGE;
	lengths[9] = PAGE;
	iovas[30] = one;
	CHECK_EQ(iof_map_many(r->ctx, &many), -EEXIST);
	CHECK_EQ(many.failed, 30);
	rig_compare_maps(r, many.ioas_id);
	many.ioas_id = 77;
	CHECK_EQ(iof_map_many(r->ctx, &many), -ENOENT);
	rig_close_all(r);
}

/* A batch among foreign mappings: the kernel chooses for those that need it. */
TEST(a_batch_where_the_kernel_has_to_choose)
{
	struct rig *r = start(IOF_IOVA_OWN);
	uint64_t iovas[8], addresses[8], lengths[8], foreign, first;
	struct iof_map_many many = { .flags = RW, .n = 8, .addresses = addresses, .lengths = lengths, .iovas = iovas };

	CHECK_EQ(ioas_alloc(r->ctx, &many.ioas_id), 0);
	CHECK_EQ(submit_map(r, many.ioas_id, memory, PAGE, &first), 0);
	foreign = first + 4 * PAGE;
	CHECK_EQ(map_at(r->under, many.ioas_id, memory, 40 * PAGE, RW | IOF_MAP_FIXED_IOVA, &foreign), 0);
	for (int i = 0; i < 8; i++) {
		addresses[i] = (uintptr_t)memory + (uint64_t)i * PAGE;
		lengths[i] = PAGE;
	}
	CHECK_EQ(iof_map_many(r->ctx, &many), 0);
	CHECK_EQ(unmap(r->under, many.ioas_id, foreign, 40 * PAGE, NULL), 0);
	rig_compare_maps(r, many.ioas_id);
	rig_close_all(r);
}

/* ---- refused memory ---- */

static int whole_life(struct rig *r)
{
	uint64_t iovas[8], addresses[8], lengths[8], iova = 0x70000000, any;
	struct iof_map_many many = { .flags = RW, .n = 8, .addresses = addresses, .lengths = lengths, .iovas = iovas };
	struct iof_handle *dev = NULL;
	uint32_t ioas = 0, other = 0;
	int rc = rig_open_context(r, IOF_IOVA_OWN);

	if (rc)
		return rc;
	for (int i = 0; i < 8; i++) {
		addresses[i] = (uintptr_t)memory + (uint64_t)i * PAGE;
		lengths[i] = PAGE;
	}
	rc |= ioas_alloc(r->ctx, &ioas) | ioas_alloc(r->ctx, &other);
	many.ioas_id = ioas;
	rc |= submit_map(r, ioas, memory, PAGE, &any);
	rc |= map_at(r->ctx, ioas, memory, PAGE, RW, &any);
	rc |= map_at(r->ctx, ioas, memory, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova);
	rc |= iof_map_many(r->ctx, &many);
	rc |= copy(r->ctx, other, ioas, iova, PAGE, RW, &any);
	rc |= iof_vfio_open(r->ctx, "vfio0", &dev);
	if (dev)
		rc |= bind_device(dev, r->ctx, NULL) | attach(dev, ioas, NULL);
	rig_compare_maps(r, ioas);
	rig_compare_maps(r, other);
	iof_close(dev);
	iof_close(r->ctx);
	CHECK_EQ(atomic_load(&r->memory.live_bytes), 0);
	CHECK(iof_machine_is_valid(r->m));
	return rc;
}

TEST(every_refused_allocation)
{
	struct rig *r;
	int rc, left = 0;

	if (!memory)
		memory = (char *)pages_of(64);
	r = rig_make((uint32_t[]){ 1 }, 1);
	for (int n = 1; !left; n++) {
		CHECK(n < 1000);
		iof_alloc_fail_nth(&r->memory, n);
		rc = whole_life(r);
		left = iof_alloc_fail_nth(&r->memory, 0) > 0;
		CHECK(left ? !rc : rc || n > 1);
	}
	CHECK_EQ(whole_life(r), 0);
	iof_machine_put(r->m);
	free(r);
}
