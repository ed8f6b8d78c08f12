/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for the nesting tests: RAM that a parent page table maps at guest-physical addresses from GPA on, and tables built in it by hand, an
 * entry at a time, so that the walker of the library is not its own judge.
 */
#ifndef IOF_TESTS_GUEST_RIG_H
#define IOF_TESTS_GUEST_RIG_H

#include <string.h>

#include "check.h"
#include "engine.h"
#include "iommufd_fast_embed.h"
#include "util/alloc.h"

#define FIXED IOF_MAP_FIXED_IOVA
#define GPA UINT64_C(0x40000000)
#define RAM_PAGES 256ul

struct vtd_s1 {
	uint64_t flags, table;
	uint32_t width, reserved;
};

struct vtd_inv {
	uint64_t addr, npages;
	uint32_t flags, reserved;
};

struct guest {
	struct iof_alloc heap;
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t dev_id, ioas, parent, viommu, vdevice;
	uint8_t *ram;
	uint64_t next; /* first page of RAM that no table has */
	uint64_t leaf, table; /* bits of a leaf and of a table's entry, and: */
	uint64_t large; /* of a leaf above the lowest level */
	bool arm;
};

static inline uint64_t *guest_at(struct guest *g, uint64_t gpa)
{
	return (uint64_t *)(void *)(g->ram + (gpa - GPA));
}

static inline uint64_t guest_page(struct guest *g)
{
	uint64_t gpa = GPA + g->next++ * PAGE;

	memset(guest_at(g, gpa), 0, PAGE);
	return gpa;
}

/* The entry for iova at `level` (0 lowest) of a table whose top is at `top`; tables are made on the way. */
static inline uint64_t *guest_entry(struct guest *g, uint64_t root, unsigned top, uint64_t iova, unsigned level)
{
	uint64_t table = root;

	for (unsigned l = top;; l--) {
		uint64_t *e = guest_at(g, table) + (iova >> (12 + 9 * l) & 511);

		if (l == level)
			return e;
		if (!*e)
			*e = guest_page(g) | g->table;
		table = *e & UINT64_C(0xfffffffff000);
	}
}

static inline void guest_map(struct guest *g, uint64_t root, uint64_t iova, uint64_t gpa)
{
	__atomic_store_n(guest_entry(g, root, 3, iova, 0), gpa ? gpa | g->leaf : 0, __ATOMIC_RELEASE);
}

static inline int nested_new(struct guest *g, uint32_t pt, uint32_t type, const void *data, uint32_t n, uint32_t flags, uint32_t fault,
			     uint32_t *id)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = g->dev_id, .pt_id = pt, .data_type = type,
					.data_len = n, .data_uptr = (uintptr_t)data, .fault_id = fault };
	int rc = iof_ioctl(g->ctx, IOF_CMD_HWPT_ALLOC, &c);

	*id = c.out_hwpt_id;
	return rc;
}

static inline int vtd_new(struct guest *g, uint64_t root, uint32_t flags, uint32_t fault, uint32_t *id)
{
	struct vtd_s1 s1 = { .table = root, .width = 48 };

	return nested_new(g, g->parent, 1, &s1, sizeof(s1), flags, fault, id);
}

static inline int invalidate_of(struct guest *g, uint32_t id, uint32_t type, const void *entries, uint32_t length, uint32_t *n)
{
	struct iof_cmd_hwpt_invalidate c = { .size = sizeof(c), .hwpt_id = id, .data_type = type, .entry_len = length,
					     .entry_num = *n, .data_uptr = (uintptr_t)entries };
	int rc = iof_ioctl(g->ctx, IOF_CMD_HWPT_INVALIDATE, &c);

	*n = c.entry_num;
	return rc;
}

static inline int vtd_invalidate(struct guest *g, uint32_t id, uint64_t addr, uint64_t npages)
{
	struct vtd_inv inv = { addr, npages, 0, 0 };
	uint32_t n = 1;

	return invalidate_of(g, id, 0, &inv, sizeof(inv), &n);
}

static inline int viommu_new(struct guest *g, uint32_t type, uint32_t *id)
{
	struct iof_cmd_viommu_alloc c = { .size = sizeof(c), .type = type, .dev_id = g->dev_id, .hwpt_id = g->parent };
	int rc = iof_ioctl(g->ctx, IOF_CMD_VIOMMU_ALLOC, &c);

	*id = c.out_viommu_id;
	return rc;
}

static inline int vdevice_new(struct guest *g, uint64_t virt_id, uint32_t *id)
{
	struct iof_cmd_vdevice_alloc c = { .size = sizeof(c), .viommu_id = g->viommu, .dev_id = g->dev_id, .virt_id = virt_id };
	int rc = iof_ioctl(g->ctx, IOF_CMD_VDEVICE_ALLOC, &c);

	*id = c.out_vdevice_id;
	return rc;
}

static inline int parent_new(struct guest *g, uint32_t flags, uint32_t *id)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = g->dev_id, .pt_id = g->ioas };
	int rc = iof_ioctl(g->ctx, IOF_CMD_HWPT_ALLOC, &c);

	*id = c.out_hwpt_id;
	return rc;
}

/* x86: present, writable, user. ARM: a page or table, accessed, for users. */
static inline void guest_format(struct guest *g, bool arm)
{
	g->arm = arm;
	g->leaf = arm ? 0x443 : 7;
	g->table = arm ? 3 : 7;
	g->large = arm ? 0x441 : 0x87;
}

static inline void guest_open(struct guest *g, enum iof_preset preset, uint32_t parent_flags)
{
	uint64_t iova = GPA;

	memset(g, 0, sizeof(*g));
	iof_alloc_init_heap(&g->heap);
	/* an SMMU asks all devices of a group for their guest ids */
	g->m = machine_with(preset, (uint32_t[]){ preset == IOF_PRESET_ARM ? 1 : 2 }, 1, &g->heap);
	CHECK(g->m);
	CHECK_EQ(iof_engine_open(g->m, &g->ctx), 0);
	CHECK_EQ(iof_engine_open_device(g->m, 0, &g->dev), 0);
	CHECK_EQ(bind_device(g->dev, g->ctx, &g->dev_id), 0);
	CHECK_EQ(ioas_alloc(g->ctx, &g->ioas), 0);
	g->ram = pages_of(RAM_PAGES);
	CHECK_EQ(map_at(g->ctx, g->ioas, g->ram, RAM_PAGES * PAGE, RW | FIXED, &iova), 0);
	if (preset != IOF_PRESET_RISCV)
		CHECK_EQ(parent_new(g, IOF_HWPT_NEST_PARENT | parent_flags, &g->parent), 0);
	guest_format(g, preset == IOF_PRESET_ARM);
}

static inline void guest_close(struct guest *g)
{
	CHECK(iof_machine_is_valid(g->m));
	iof_close(g->dev);
	iof_close(g->ctx);
	iof_machine_put(g->m);
	munmap(g->ram, RAM_PAGES * PAGE);
	CHECK_EQ(atomic_load(&g->heap.live_blocks), 0);
}

static inline int dma_as(struct guest *g, enum iof_dma_op op, uint32_t pasid, uint64_t iova, void *buffer, size_t n, struct iof_dma *out)
{
	struct iof_dma_segment s = { iova, n };
	struct iof_dma d = { .op = op, .pasid = pasid, .segments = &s, .n_segments = 1, .buffer = buffer };
	int rc = iof_dma(g->dev, &d);

	if (out)
		*out = d;
	return rc;
}

/* What the device reads at iova: a byte, or minus the fault's reason. */
static inline int peek_as(struct guest *g, uint32_t pasid, uint64_t iova, struct iof_dma *out)
{
	struct iof_dma d;
	uint8_t byte = 0;
	int rc = dma_as(g, IOF_DMA_READ, pasid, iova, &byte, 1, &d);

	if (out)
		*out = d;
	return rc ? -(int)d.reason : byte;
}

static inline int peek(struct guest *g, uint64_t iova)
{
	return peek_as(g, IOF_NO_PASID, iova, NULL);
}

static inline int poke(struct guest *g, uint64_t iova, uint8_t byte)
{
	struct iof_dma d;

	return dma_as(g, IOF_DMA_WRITE, IOF_NO_PASID, iova, &byte, 1, &d) ? -(int)d.reason : 0;
}

#endif
