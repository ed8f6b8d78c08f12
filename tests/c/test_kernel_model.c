/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random commands through the kernel provider over an engine. After each the ledger must say what the engine says: every mapping with its
 * address and flags, every endpoint with its page table and IOAS, and the same counts; the address index too, where somebody asked for it.
 */
#include "iommufd_fast_reshape.h"
#include "kernel_rig.h"

#define IOASES 3
#define DEVICES 5
#define PAGES 64

static struct {
	struct rig *r;
	struct iof_handle *devices[DEVICES];
	uint32_t dev_ids[DEVICES], ioases[IOASES], hwpts[4];
	struct iof_va_index *indexes[IOASES];
	uint64_t seed;
	char *memory;
	unsigned long good;
} w;

static uint64_t below(uint64_t n)
{
	return check_random(&w.seed) % n;
}

static uint32_t any_ioas(void)
{
	return w.ioases[below(IOASES)];
}

static const void *any_memory(void)
{
	return w.memory + below(PAGES) * PAGE;
}

static void did(int rc)
{
	w.good += rc >= 0;
}

/* A mapping that is there, or anything. */
static struct iof_mapping_info any_mapping(uint32_t ioas)
{
	struct iof_mapping_info m = { .iova = below(1000) * PAGE, .last = (below(1000) + 1) * PAGE - 1 };

	iof_ioas_mapping(w.r->under, ioas, below(4) ? below(64) * 0x100000 : 0, UINT64_MAX, &m);
	return m;
}

static void op_map(void)
{
	uint32_t ioas = any_ioas();
	uint64_t iova = below(512) * PAGE, length = (below(12) + 1) * PAGE;

	if (!below(20))
		length = (2ul << 20) + below(3) * PAGE;
	if (below(2))
		did(submit_map(w.r, ioas, any_memory(), length, &iova));
	else
		did(map_at(w.r->ctx, ioas, any_memory(), length, (below(2) ? IOF_MAP_READABLE : RW) | (below(3) ? IOF_MAP_FIXED_IOVA : 0), &iova));
}

static void op_unmap(void)
{
	uint32_t ioas = any_ioas();
	struct iof_mapping_info m = any_mapping(ioas);

	switch (below(6)) {
	case 0:
		did(unmap(w.r->ctx, ioas, m.iova, below(400) * PAGE, NULL));
		return;
	case 1:
		if (!below(20))
			did(unmap(w.r->ctx, ioas, 0, UINT64_MAX, NULL));
		return;
	case 2:
		did(unmap(w.r->ctx, ioas, below(512) * PAGE, below(64) * PAGE, NULL));
		return;
	default:
		did(unmap(w.r->ctx, ioas, m.iova, m.last - m.iova + 1, NULL));
	}
}

static void op_copy(void)
{
	uint32_t src = any_ioas();
	struct iof_mapping_info m = any_mapping(src);
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = RW, .dst_ioas_id = any_ioas(), .src_ioas_id = src, .src_iova = m.iova,
				       .length = below(3) ? m.last - m.iova + 1 : below(20) * PAGE, .dst_iova = below(512) * PAGE };

	if (!below(3))
		c.flags |= IOF_MAP_FIXED_IOVA;
	if (below(2))
		did(iof_submit(w.r->ctx, IOF_CMD_IOAS_COPY, &c));
	else
		did(iof_ioctl(w.r->ctx, IOF_CMD_IOAS_COPY, &c));
}

static void op_many(void)
{
	uint64_t addresses[16], lengths[16], iovas[16];
	struct iof_map_many many = { .ioas_id = any_ioas(), .flags = RW, .n = below(16) + 1, .addresses = addresses, .lengths = lengths,
				     .iovas = iovas };
	struct iof_unmap_many un = { .ioas_id = many.ioas_id, .n = many.n, .iovas = iovas, .lengths = lengths };

	for (size_t i = 0; i < many.n; i++) {
		addresses[i] = (uintptr_t)any_memory();
		lengths[i] = (below(3) + 1) * PAGE;
		iovas[i] = below(512) * PAGE;
	}
	if (!below(30))
		lengths[below(many.n)] = 0;
	if (!below(4))
		many.flags |= IOF_MAP_FIXED_IOVA;
	did(iof_map_many(w.r->ctx, &many));
	if (below(2))
		did(iof_unmap_many(w.r->ctx, &un) == (int64_t)un.n ? 0 : -1);
}

static void forget_index(uint32_t which)
{
	if (w.indexes[which])
		rig_put_index(w.indexes[which]);
	w.indexes[which] = NULL;
}

static void op_index(void)
{
	uint32_t which = (uint32_t)below(IOASES);

	if (w.indexes[which])
		iof_va_index_put(w.indexes[which]);
	CHECK_EQ(iof_va_index_open(w.r->ctx, w.ioases[which], &w.indexes[which]), 0);
}

static void op_objects(void)
{
	uint32_t which = (uint32_t)below(IOASES), dev = (uint32_t)below(DEVICES), slot = (uint32_t)below(4);
	struct iof_cmd_hwpt_alloc h = { .size = sizeof(h), .dev_id = w.dev_ids[dev], .pt_id = any_ioas(),
					.flags = below(2) ? IOF_HWPT_PASID : 0 };

	switch (below(4)) {
	case 0:
		if (!destroy(w.r->ctx, w.ioases[which])) {
			forget_index(which);
			CHECK_EQ(ioas_alloc(w.r->ctx, &w.ioases[which]), 0);
		}
		return;
	case 1:
		did(destroy(w.r->ctx, w.hwpts[slot]));
		return;
	default:
		if (!w.hwpts[slot] || !destroy(w.r->ctx, w.hwpts[slot]) || below(2)) {
			did(iof_ioctl(w.r->ctx, IOF_CMD_HWPT_ALLOC, &h));
			w.hwpts[slot] = h.out_hwpt_id;
		}
	}
}

static void op_allow(void)
{
	struct iof_uapi_range list[2] = { { 0x8200000, 0xfffffff }, { PAGE, 0x7ffffff } };
	struct iof_cmd_ioas_allow_iovas c = { .size = sizeof(c), .ioas_id = any_ioas(), .num_iovas = (uint32_t)below(3),
					      .allowed_iovas = (uintptr_t)list };

	did(iof_ioctl(w.r->ctx, IOF_CMD_IOAS_ALLOW_IOVAS, &c));
}

static void op_device(void)
{
	uint32_t i = (uint32_t)below(DEVICES), pt = below(2) ? any_ioas() : w.hwpts[below(4)];
	struct iof_cmd_attach c = { .argsz = sizeof(c), .pt_id = pt };
	struct iof_cmd_detach d = { .argsz = sizeof(d) };

	if (!w.devices[i]) {
		char name[] = "vfio0";

		name[4] = (char)('0' + i);
		CHECK_EQ(iof_vfio_open(w.r->ctx, name, &w.devices[i]), 0);
		did(bind_device(w.devices[i], w.r->ctx, &w.dev_ids[i]));
		return;
	}
	if (!below(3)) {
		c.flags = d.flags = IOF_ATTACH_PASID;
		c.pasid = d.pasid = (uint32_t)below(3) + 1;
	}
	switch (below(8)) {
	case 0:
		iof_close(w.devices[i]);
		w.devices[i] = NULL;
		w.dev_ids[i] = 0;
		return;
	case 1:
	case 2:
		did(iof_ioctl(w.devices[i], IOF_CMD_DEVICE_DETACH_PT, &d));
		return;
	default:
		did(iof_ioctl(w.devices[i], IOF_CMD_DEVICE_ATTACH_PT, &c));
	}
}

static void compare_stats(void)
{
	struct iof_ioas_entries here, there;
	struct iof_ioas_stats ours, theirs;
	struct iof_hwpt_stats h, t;

	for (int i = 0; i < IOASES; i++) {
		CHECK_EQ(iof_ioas_stats(w.r->ctx, w.ioases[i], &ours), 0);
		CHECK_EQ(iof_ioas_stats(w.r->under, w.ioases[i], &theirs), 0);
		CHECK_EQ(ours.mappings, theirs.mappings);
		CHECK_EQ(ours.bytes_mapped, theirs.bytes_mapped);
		CHECK_EQ(ours.hwpts, theirs.hwpts);
		CHECK_EQ(ours.endpoints, theirs.endpoints);
		CHECK_EQ(ours.alignment, theirs.alignment);
		CHECK_EQ(iof_ioas_entries(w.r->ctx, w.ioases[i], &here), 0);
		CHECK_EQ(iof_ioas_entries(w.r->under, w.ioases[i], &there), 0);
		CHECK_EQ(here.mappings, there.mappings);
		CHECK_EQ(here.coalesced, there.coalesced);
		CHECK_EQ(here.fewest, there.fewest);
		CHECK(!here.has_leaves && here.limit == UINT64_MAX);
	}
	for (int i = 0; i < 4; i++) {
		int rc = iof_hwpt_stats(w.r->ctx, w.hwpts[i], &h);

		CHECK_EQ(rc, iof_hwpt_stats(w.r->under, w.hwpts[i], &t));
		if (rc)
			continue;
		CHECK_EQ(h.ioas_id, t.ioas_id);
		CHECK_EQ(h.automatic, t.automatic);
		CHECK_EQ(h.endpoints, t.endpoints);
	}
}

static void run(uint64_t seed, unsigned steps)
{
	static void (*const ops[])(void) = { op_map, op_map, op_map, op_unmap, op_unmap, op_unmap, op_copy, op_many, op_objects, op_device,
					     op_device, op_allow, op_index };

	w.seed = seed;
	w.r = rig_make((uint32_t[]){ 2, 1, 2 }, 3);
	CHECK_EQ(rig_open_context(w.r, IOF_IOVA_OWN), 0);
	for (int i = 0; i < IOASES; i++)
		CHECK_EQ(ioas_alloc(w.r->ctx, &w.ioases[i]), 0);
	for (unsigned step = 0; step < steps; step++) {
		ops[below(sizeof(ops) / sizeof(ops[0]))]();
		rig_compare_ends(w.r);
		for (int i = 0; i < IOASES; i++) {
			rig_compare_maps(w.r, w.ioases[i]);
			if (w.indexes[i])
				rig_compare_index(w.r, w.ioases[i], w.indexes[i]);
		}
		compare_stats();
	}
	for (int i = 0; i < DEVICES; i++) {
		iof_close(w.devices[i]);
		w.devices[i] = NULL;
		w.dev_ids[i] = 0;
	}
	memset(w.hwpts, 0, sizeof(w.hwpts));
	iof_close(w.r->ctx);
	for (uint32_t i = 0; i < IOASES; i++)
		forget_index(i);
	rig_end(w.r);
}

TEST(the_ledger_says_what_the_engine_says)
{
	w.memory = (char *)pages_of(PAGES + 1024);
	for (uint64_t seed = 1; seed <= 20; seed++) {
		printf("seed %llu\n", (unsigned long long)seed);
		run(seed * 0x9e3779b97f4a7c15, 400);
	}
	printf("%lu calls succeeded\n", w.good);
	CHECK(w.good > 20 * 400 * 4 / 10);
}
