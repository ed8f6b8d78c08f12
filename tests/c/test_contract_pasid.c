/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching, replacing and detaching requester ids and PASIDs, alone and in groups of two (behaviour.md 6.4–6.10, R2.23.3–5), through the device's
 * file and through the embedder's verbs, on an IOMMU that counts and can refuse.
 */
#include "driver_rig.h"

#define GROUPED 0 /* rig.dev 0 and 1: one group */
#define LONE 2
#define NO_PASIDS 3 /* no PASID operations */
#define SMALL 4 /* 4 and 5: a group in which one has 16 PASIDs, the other 2^16 */
#define N_DEVS 6

static struct iof_machine *m;
static struct iof_handle *ctx, *dev[N_DEVS], *soft;
static struct rig rig;
static struct iof_alloc heap;
static uint32_t id[N_DEVS], index_of[N_DEVS], soft_id, ioas, other, plain, with, with2;
static const struct iof_range reserved[N_DEVS] = { { 0x10000, 0x1ffff }, { 0x30000, 0x3ffff }, { 0x50000, 0x5ffff } };

static void plug(struct iof_iommu *iommu, unsigned i, bool joins, uint32_t max_pasids)
{
	struct iof_device_caps caps = { .max_pasids = max_pasids, .pasids = max_pasids > 1, .dirty_tracking = true,
					.reserved = &reserved[i], .n_reserved = i < 3, .priv = &rig.dev[i] };
	struct iof_machine_device info = { .group = UINT32_MAX };

	if (joins)
		CHECK_EQ(iof_machine_device_at(m, index_of[i - 1], &info), 0);
	CHECK_EQ(iof_machine_plug_device(m, iommu, info.group, &caps, &index_of[i]), 0);
	CHECK_EQ(iof_engine_open_device(m, index_of[i], &dev[i]), 0);
	CHECK_EQ(bind_device(dev[i], ctx, &id[i]), 0);
}

static void setup(void)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_AMD, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .alloc = &heap };
	struct iof_iommu *iommu;

	iof_alloc_init_heap(&heap);
	rig_init(&rig);
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	plug(iommu, GROUPED, false, 1 << 16);
	plug(iommu, GROUPED + 1, true, 1 << 16);
	plug(iommu, LONE, false, 1 << 16);
	plug(iommu, NO_PASIDS, false, 1);
	plug(iommu, SMALL, false, 16);
	plug(iommu, SMALL + 1, true, 1 << 16);
	CHECK_EQ(iof_engine_open_device(m, 0, &soft), 0);
	CHECK_EQ(bind_device(soft, ctx, &soft_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(ioas_alloc(ctx, &other), 0);
	CHECK_EQ(hwpt_kind(ctx, id[LONE], ioas, 0, &plain), 0);
	CHECK_EQ(hwpt_kind(ctx, id[LONE], ioas, IOF_HWPT_PASID, &with), 0);
	CHECK_EQ(hwpt_kind(ctx, id[LONE], other, IOF_HWPT_PASID, &with2), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	for (unsigned i = 0; i < N_DEVS; i++)
		iof_close(dev[i]);
	iof_close(soft);
	CHECK_EQ(destroy(ctx, plain), 0); /* nobody is left on them */
	CHECK_EQ(destroy(ctx, with), 0);
	CHECK_EQ(destroy(ctx, with2), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK_EQ(destroy(ctx, other), 0);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	for (unsigned i = 0; i < N_DEVS; i++)
		CHECK(!rig.dev[i].at);
}

/* A call that must fail like this and leave no trace. */
#define REFUSED(call, rc)                                                                                              \
	do {                                                                                                           \
		uint64_t before_ = digest_of(ctx);                                                                     \
		CHECK_EQ(call, rc);                                                                                    \
		CHECK_EQ(digest_of(ctx), before_);                                                                     \
		CHECK(iof_machine_is_valid(m));                                                                        \
	} while (0)

static int verb(unsigned i, uint32_t pasid, enum iof_attach_mode mode, uint32_t pt)
{
	return iof_attach(dev[i], pasid, mode, &pt);
}

/* Is [start, last] one of the holes' complements: reserved in this IOAS? */
static bool is_reserved(uint32_t in, struct iof_range r)
{
	struct iof_uapi_range holes[16];
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = in, .num_iovas = 16, .allowed_iovas = (uintptr_t)holes };

	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c), 0);
	for (uint32_t i = 0; i < c.num_iovas; i++)
		if (holes[i].start <= r.last && r.start <= holes[i].last)
			return false;
	return true;
}

/* ---- R6.7 ---- */

TEST(a_pasid_wants_a_table_made_for_pasids)
{
	uint32_t hwpt;

	setup();
	REFUSED(attach_pasid(dev[LONE], 7, 99, NULL), -ENOENT);
	REFUSED(attach_pasid(dev[LONE], 7, id[LONE], NULL), -EINVAL);
	REFUSED(attach_pasid(dev[LONE], 7, plain, NULL), -EINVAL);
	REFUSED(attach_pasid(dev[LONE], 7, ioas, NULL), -EINVAL); /* automatic tables are not */
	CHECK_EQ(attach_pasid(dev[LONE], 7, with, &hwpt), 0);
	CHECK_EQ(hwpt, with);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 7), with);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 0), 0);
	REFUSED(destroy(ctx, with), -EBUSY);
	REFUSED(attach_pasid(dev[LONE], 7, plain, NULL), -EINVAL); /* a second attach replaces */
	CHECK_EQ(attach_pasid(dev[LONE], 7, with, NULL), 0);
	CHECK_EQ(attach_pasid(dev[LONE], 7, with2, NULL), 0);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 7), with2);
	CHECK_EQ(attach_pasid(dev[LONE], 8, with, NULL), 0);
	CHECK_EQ(detach_pasid(dev[LONE], 7), 0);
	CHECK_EQ(detach_pasid(dev[LONE], 7), 0);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 7), 0);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 8), with);
	teardown();
}

TEST(requester_id_and_pasids_want_the_same_kind)
{
	setup();
	CHECK_EQ(attach(dev[LONE], plain, NULL), 0);
	REFUSED(attach_pasid(dev[LONE], 7, with, NULL), -EINVAL);
	CHECK_EQ(attach(dev[LONE], with2, NULL), 0); /* replaced */
	CHECK_EQ(attach_pasid(dev[LONE], 7, with, NULL), 0);
	REFUSED(attach(dev[LONE], plain, NULL), -EINVAL);
	CHECK_EQ(attach(dev[LONE], other, NULL), -EINVAL); /* tries every automatic table, then a new one; regions are lost, R6.9.3 */
	CHECK_EQ(detach(dev[LONE]), 0);
	REFUSED(attach(dev[LONE], plain, NULL), -EINVAL);
	REFUSED(attach(dev[LONE], ioas, NULL), -EINVAL);
	CHECK_EQ(attach(dev[LONE], with, NULL), 0);
	CHECK_EQ(detach(dev[LONE]), 0);
	CHECK_EQ(detach_pasid(dev[LONE], 7), 0);
	CHECK_EQ(attach(dev[LONE], ioas, NULL), 0);
	teardown();
}

TEST(numbers_of_pasids)
{
	setup();
	REFUSED(attach_pasid(dev[LONE], 0, with, NULL), -EINVAL);
	REFUSED(attach_pasid(dev[LONE], 1 << 16, with, NULL), -EINVAL);
	REFUSED(attach_pasid(dev[LONE], UINT32_MAX, with, NULL), -EINVAL);
	CHECK_EQ(attach_pasid(dev[LONE], (1 << 16) - 1, with, NULL), 0);
	CHECK_EQ(attach_pasid(dev[LONE], 1, with, NULL), 0);
	REFUSED(attach_pasid(dev[NO_PASIDS], 1, with, NULL), -EOPNOTSUPP);
	REFUSED(detach_pasid(dev[NO_PASIDS], 1), -EOPNOTSUPP);
	REFUSED(verb(NO_PASIDS, 1, IOF_ATTACH_MODE_NEW, with), -EOPNOTSUPP);
	REFUSED(verb(NO_PASIDS, 1, IOF_ATTACH_MODE_NEW, plain), -EINVAL); /* the kind of table comes first */
	/* every device of the group has to have it */
	REFUSED(attach_pasid(dev[SMALL], 16, with, NULL), -EINVAL);
	REFUSED(attach_pasid(dev[SMALL + 1], 16, with, NULL), -EINVAL);
	CHECK_EQ(attach_pasid(dev[SMALL + 1], 15, with, NULL), 0);
	teardown();
}

TEST(modes_of_the_verb)
{
	setup();
	REFUSED(verb(LONE, 7, IOF_ATTACH_MODE_REPLACE, with), -EINVAL);
	REFUSED(verb(LONE, 0, IOF_ATTACH_MODE_REPLACE, ioas), -EINVAL);
	CHECK_EQ(verb(LONE, 7, IOF_ATTACH_MODE_NEW, with), 0);
	REFUSED(verb(LONE, 7, IOF_ATTACH_MODE_NEW, with), -EBUSY);
	REFUSED(verb(LONE, 7, IOF_ATTACH_MODE_NEW, plain), -EBUSY);
	REFUSED(verb(LONE, 7, IOF_ATTACH_MODE_NEW, other), -EBUSY); /* an automatic table was made for it, and is gone */
	CHECK_EQ(verb(LONE, 7, IOF_ATTACH_MODE_REPLACE, with2), 0);
	CHECK_EQ(verb(LONE, 7, IOF_ATTACH_MODE_EITHER, with), 0);
	CHECK_EQ(verb(LONE, 8, IOF_ATTACH_MODE_EITHER, with), 0);
	CHECK_EQ(iof_detach(dev[LONE], 8), 0);
	CHECK_EQ(iof_detach(dev[LONE], 8), 0);
	CHECK_EQ(iof_device_id(dev[LONE]), id[LONE]);
	teardown();
}

/* ---- groups ---- */

TEST(a_group_goes_to_one_table)
{
	struct rig_dev *a = &rig.dev[GROUPED], *b = &rig.dev[GROUPED + 1];

	setup();
	CHECK_EQ(attach_pasid(dev[0], 5, with, NULL), 0);
	CHECK(a->attaches == 1 && b->attaches == 1); /* the hardware moves all of it */
	REFUSED(attach_pasid(dev[1], 5, with2, NULL), -EINVAL);
	REFUSED(verb(1, 5, IOF_ATTACH_MODE_REPLACE, with2), -EINVAL); /* it is not part of it */
	CHECK_EQ(attach_pasid(dev[1], 5, with, NULL), 0);
	CHECK(a->attaches == 1 && b->attaches == 1); /* it only joins */
	CHECK_EQ(attach_pasid(dev[1], 6, with2, NULL), 0); /* another PASID is another matter */
	CHECK_EQ(detach_pasid(dev[1], 6), 0);
	CHECK_EQ(attach_pasid(dev[1], 5, with2, NULL), 0); /* replace moves both */
	CHECK_EQ(iof_attached_hwpt(dev[0], 5), with2);
	CHECK_EQ(iof_attached_hwpt(dev[1], 5), with2);
	CHECK_EQ(destroy(ctx, with), 0); /* both references have moved */
	REFUSED(destroy(ctx, with2), -EBUSY);
	CHECK_EQ(hwpt_kind(ctx, id[LONE], ioas, IOF_HWPT_PASID, &with), 0);
	CHECK_EQ(a->detaches, 1); /* of PASID 6 */
	CHECK_EQ(detach_pasid(dev[0], 5), 0);
	CHECK_EQ(a->detaches, 1); /* the other one still has it */
	REFUSED(destroy(ctx, with2), -EBUSY);
	CHECK_EQ(detach_pasid(dev[1], 5), 0);
	CHECK(a->detaches == 2 && b->detaches == 2);
	teardown();
}

TEST(the_group_of_a_requester_id)
{
	uint32_t h0, h1;

	setup();
	CHECK_EQ(attach(dev[0], ioas, &h0), 0);
	REFUSED(attach(dev[1], with, NULL), -EINVAL);
	REFUSED(verb(1, 0, IOF_ATTACH_MODE_NEW, other), -EINVAL);
	CHECK_EQ(attach(dev[1], ioas, &h1), 0);
	CHECK_EQ(h0, h1);
	REFUSED(attach_pasid(dev[1], 3, with, NULL), -EINVAL); /* R6.7 is the group's */
	CHECK_EQ(attach(dev[1], other, &h1), 0);
	CHECK_EQ(iof_attached_hwpt(dev[0], 0), h1);
	CHECK_EQ(destroy(ctx, h0), -ENOENT); /* the automatic one went with its last user */
	CHECK_EQ(attach(dev[1], with, NULL), 0);
	CHECK_EQ(attach_pasid(dev[0], 3, with2, NULL), 0);
	CHECK_EQ(attach(dev[1], ioas, NULL), -EINVAL); /* regions are lost, R6.9.3 */
	CHECK_EQ(iof_attached_hwpt(dev[1], 0), with);
	teardown();
}

TEST(a_refusal_of_one_brings_back_the_other)
{
	struct rig_dev *a = &rig.dev[GROUPED], *b = &rig.dev[GROUPED + 1];

	setup();
	b->refuse = -ENOMEM;
	REFUSED(attach(dev[0], plain, NULL), -ENOMEM);
	CHECK(!a->at && !b->at && a->attaches == 1 && a->detaches == 1 && b->attaches == 0);
	b->refuse = 0;
	CHECK_EQ(attach(dev[0], plain, NULL), 0);
	CHECK_EQ(attach(dev[1], plain, NULL), 0);
	b->refuse = -EIO;
	REFUSED(attach(dev[0], with2, NULL), -EIO);
	CHECK(a->at == b->at && a->at);
	CHECK_EQ(iof_attached_hwpt(dev[1], 0), plain);
	b->refuse = 0;
	teardown();
}

/* R6.6.1: an automatic table that does not fit (-EINVAL) is passed by; any other error ends it. */
TEST(automatic_tables_are_tried_in_turn)
{
	uint32_t h0, h1;

	setup();
	CHECK_EQ(attach(dev[LONE], ioas, &h0), 0);
	rig.dev[NO_PASIDS].refuse = -ENODEV;
	REFUSED(attach(dev[NO_PASIDS], ioas, NULL), -ENODEV);
	rig.dev[NO_PASIDS].refuse = -EINVAL;
	REFUSED(attach(dev[NO_PASIDS], ioas, NULL), -EINVAL);
	rig.dev[NO_PASIDS].refuse = 0;
	CHECK_EQ(attach(dev[NO_PASIDS], ioas, &h1), 0);
	CHECK_EQ(h0, h1);
	CHECK_EQ(attach(soft, ioas, &h1), 0); /* another IOMMU's table does not fit */
	CHECK(h0 != h1);
	CHECK_EQ(detach(dev[LONE]), 0);
	CHECK_EQ(destroy(ctx, h0), -EBUSY);
	CHECK_EQ(detach(dev[NO_PASIDS]), 0);
	CHECK_EQ(destroy(ctx, h0), -ENOENT);
	teardown();
}

/* ---- R6.5: regions reserved for a device ---- */

TEST(regions_come_and_go_with_requester_ids)
{
	setup();
	CHECK_EQ(attach_pasid(dev[0], 5, with, NULL), 0);
	CHECK(!is_reserved(ioas, reserved[0])); /* never for a PASID */
	CHECK_EQ(attach(dev[0], with, NULL), 0);
	CHECK(is_reserved(ioas, reserved[0]) && !is_reserved(ioas, reserved[1]));
	CHECK_EQ(attach(dev[1], with, NULL), 0);
	CHECK(is_reserved(ioas, reserved[0]) && is_reserved(ioas, reserved[1]));
	CHECK_EQ(attach(dev[0], with2, NULL), 0); /* of both, since both move */
	CHECK(!is_reserved(ioas, reserved[0]) && !is_reserved(ioas, reserved[1]));
	CHECK(is_reserved(other, reserved[0]) && is_reserved(other, reserved[1]));
	CHECK_EQ(detach(dev[0]), 0);
	CHECK(!is_reserved(other, reserved[0]) && is_reserved(other, reserved[1]));
	CHECK_EQ(detach(dev[1]), 0);
	CHECK(!is_reserved(other, reserved[1]));
	teardown();
}

TEST(a_region_in_the_way)
{
	uint64_t iova = 0x30000, bytes;
	char *buf = pages_of(1);

	setup();
	CHECK_EQ(map_at(ctx, other, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach(dev[0], with2, NULL), 0);
	REFUSED(attach(dev[1], with2, NULL), -EADDRINUSE);
	REFUSED(verb(1, 0, IOF_ATTACH_MODE_NEW, other), -EINVAL); /* the group's table comes first */
	CHECK_EQ(attach(dev[0], with, NULL), 0);
	CHECK_EQ(attach(dev[1], with, NULL), 0);
	REFUSED(attach(dev[0], with2, NULL), -EADDRINUSE); /* the other's region, which would move as well */
	REFUSED(attach(dev[0], other, NULL), -EADDRINUSE);
	CHECK_EQ(unmap(ctx, other, iova, PAGE, &bytes), 0);
	CHECK_EQ(attach(dev[0], with2, NULL), 0);
	CHECK_EQ(map_at(ctx, other, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), -EINVAL);
	teardown();
	munmap(buf, PAGE);
}

/* R6.9.3: after a refused replace the regions are gone from the target, be it the IOAS that they are attached to. */
TEST(a_refused_replace_forgets_regions)
{
	setup();
	CHECK_EQ(attach(dev[LONE], plain, NULL), 0);
	rig.dev[LONE].refuse = -EIO;
	CHECK_EQ(attach(dev[LONE], with2, NULL), -EIO);
	CHECK(is_reserved(ioas, reserved[LONE]) && !is_reserved(other, reserved[LONE]));
	CHECK_EQ(attach(dev[LONE], with, NULL), -EIO); /* the same IOAS */
	CHECK(!is_reserved(ioas, reserved[LONE]));
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 0), plain);
	rig.dev[LONE].refuse = 0;
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(detach(dev[LONE]), 0);
	CHECK_EQ(attach(dev[LONE], plain, NULL), 0);
	CHECK(is_reserved(ioas, reserved[LONE]));
	teardown();
}

TEST(a_refused_pasid_replace_keeps_the_old)
{
	setup();
	CHECK_EQ(attach_pasid(dev[LONE], 9, with, NULL), 0);
	rig.dev[LONE] = (struct rig_dev){ .refuse = -ENOMEM, .refuse_pasid = 9 };
	REFUSED(attach_pasid(dev[LONE], 9, with2, NULL), -ENOMEM);
	CHECK_EQ(attach_pasid(dev[LONE], 10, with2, NULL), 0);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 9), with);
	CHECK_EQ(detach_pasid(dev[LONE], 9), 0);
	REFUSED(attach_pasid(dev[LONE], 9, with2, NULL), -ENOMEM);
	teardown();
}

/* ---- what the file adds ---- */

/* R2.23.3: when the answer is lost the requester id is detached, also after attaching a PASID. */
TEST(a_lost_answer_detaches_the_requester_id)
{
	struct iof_cmd_attach *c = (void *)pages_of(1);

	setup();
	CHECK_EQ(attach(dev[LONE], with, NULL), 0);
	*c = (struct iof_cmd_attach){ .argsz = 16, .flags = IOF_ATTACH_PASID, .pt_id = with2, .pasid = 4 };
	mprotect(c, PAGE, PROT_READ);
	CHECK_EQ(iof_ioctl(dev[LONE], IOF_CMD_DEVICE_ATTACH_PT, c), -EFAULT);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 0), 0);
	CHECK_EQ(iof_attached_hwpt(dev[LONE], 4), with2);
	teardown();
	munmap(c, PAGE);
}

TEST(closing_a_device_leaves_nothing)
{
	struct iof_endpoint_info e[8];

	setup();
	CHECK_EQ(attach(dev[LONE], with, NULL), 0);
	for (uint32_t pasid = 4; pasid; pasid--)
		CHECK_EQ(attach_pasid(dev[LONE], 100 * pasid, pasid & 1 ? with : with2, NULL), 0);
	CHECK_EQ(iof_endpoints(ctx, id[LONE], 0, 8, e), 5);
	CHECK_EQ(e[0].pasid, IOF_NO_PASID);
	for (uint32_t i = 1; i < 5; i++)
		CHECK(e[i].pasid == 100 * i && e[i].hwpt_id == (i & 1 ? with : with2) && e[i].ioas_id == (i & 1 ? ioas : other));
	CHECK_EQ(iof_endpoints(ctx, id[LONE], other, 8, e), 2);
	REFUSED(destroy(ctx, id[LONE]), -EBUSY);
	iof_close(dev[LONE]);
	dev[LONE] = NULL;
	CHECK(!rig.dev[LONE].at);
	CHECK_EQ(rig.dev[LONE].detaches, 5);
	CHECK_EQ(destroy(ctx, id[LONE]), -ENOENT);
	teardown();
}

/* ---- transfers ---- */

TEST(each_pasid_sees_its_own_memory)
{
	char *a = pages_of(1), *b = pages_of(1), word[4];
	struct iof_dma_segment s = { 0x100000, 4 };
	struct iof_dma d = { .op = IOF_DMA_READ, .segments = &s, .n_segments = 1, .buffer = word };
	uint32_t pa, pb;
	uint64_t iova = 0x100000;

	setup();
	memcpy(a, "one", 4);
	memcpy(b, "two", 4);
	CHECK_EQ(hwpt_kind(ctx, soft_id, ioas, IOF_HWPT_PASID, &pa), 0);
	CHECK_EQ(hwpt_kind(ctx, soft_id, other, IOF_HWPT_PASID, &pb), 0);
	CHECK_EQ(map_at(ctx, ioas, a, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(map_at(ctx, other, b, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach_pasid(soft, 1, pa, NULL), 0);
	CHECK_EQ(attach_pasid(soft, 2, pb, NULL), 0);
	d.pasid = 1;
	CHECK(!iof_dma(soft, &d) && !memcmp(word, "one", 4));
	d.pasid = 2;
	CHECK(!iof_dma(soft, &d) && !memcmp(word, "two", 4));
	d.pasid = 3;
	CHECK_EQ(iof_dma(soft, &d), -EFAULT);
	CHECK_EQ(d.reason, IOF_DMA_BLOCKED);
	d.pasid = IOF_NO_PASID;
	CHECK_EQ(iof_dma(soft, &d), -EFAULT);
	CHECK_EQ(attach(soft, pb, NULL), 0);
	CHECK(!iof_dma(soft, &d) && !memcmp(word, "two", 4));
	CHECK_EQ(attach_pasid(soft, 1, pb, NULL), 0);
	d.pasid = 1;
	CHECK(!iof_dma(soft, &d) && !memcmp(word, "two", 4));
	CHECK_EQ(detach_pasid(soft, 2), 0);
	d.pasid = 2;
	CHECK_EQ(iof_dma(soft, &d), -EFAULT);
	CHECK_EQ(detach_pasid(soft, 1), 0);
	CHECK_EQ(detach(soft), 0);
	CHECK_EQ(destroy(ctx, pa), 0);
	CHECK_EQ(destroy(ctx, pb), 0);
	teardown();
	munmap(a, PAGE);
	munmap(b, PAGE);
}
