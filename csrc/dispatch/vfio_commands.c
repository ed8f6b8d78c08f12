/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VFIO container's commands on an iommufd, and VFIO_IOAS, which says for which IOAS they are meant (behaviour.md
 * 2.9, 2.22).
 *
 * They have no extensible structs: a fixed prefix is copied in, argsz is only compared. A context of this engine is
 * never in no-iommu mode: that begins with a no-iommu group's SET_CONTAINER, and there are no VFIO groups here.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "dispatch/call.h"
#include "dispatch/uapi_container.h"
#include "ioas/hwpt.h"

_Static_assert(sizeof(struct iof_cmd_container_info) == 24 && sizeof(struct iof_cmd_container_map) == 32 &&
		       sizeof(struct iof_cmd_container_unmap) == 24 && sizeof(struct iof_container_iova_range) == 16 &&
		       sizeof(struct iof_container_dma_avail) == 12,
	       "the kernel's layouts");

/* The IOAS with one user: -ENODEV when there is none, or it is being destroyed. */
static int compat_ioas(struct iof_context *ctx, struct iof_ioas **out)
{
	uint32_t id = atomic_load(&ctx->compat_ioas);

	*out = id ? (struct iof_ioas *)iof_object_get(&ctx->objects, id, IOF_OBJECT_IOAS) : NULL;
	return *out ? 0 : -ENODEV;
}

/* ---- VFIO_IOAS ---- */

static int set_compat(struct iof_call *call, uint32_t id)
{
	struct iof_ioas *ioas = iof_call_ioas(call, id);

	if (!ioas)
		return -ENOENT;
	/* While we are a user it is not destroyed, so whoever destroys it finds this and takes it back. */
	atomic_store(&call->ctx->compat_ioas, id);
	iof_object_put(&ioas->object);
	return 0;
}

static int get_compat(struct iof_call *call, struct iof_cmd_vfio_ioas *cmd)
{
	struct iof_ioas *ioas;
	int rc = compat_ioas(call->ctx, &ioas);

	if (rc)
		return rc;
	cmd->ioas_id = ioas->object.id;
	iof_object_put(&ioas->object);
	return iof_call_respond(call, cmd);
}

int iofi_vfio_ioas(struct iof_call *call, void *p)
{
	struct iof_cmd_vfio_ioas *cmd = p;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	switch (cmd->op) {
	case IOF_VFIO_IOAS_GET:
		return get_compat(call, cmd);
	case IOF_VFIO_IOAS_SET:
		return set_compat(call, cmd->ioas_id);
	case IOF_VFIO_IOAS_CLEAR:
		atomic_store(&call->ctx->compat_ioas, 0);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* ---- CHECK_EXTENSION, SET_IOMMU ---- */

/* 1 when every page table of the IOAS enforces coherent DMA; so also when there is none. */
static bool is_coherent(struct iof_ioas *ioas)
{
	struct iof_pt_config cfg;
	bool all = true;

	iof_brlock_read(iofi_domains(ioas));
	for (uint32_t i = 0; i < ioas->n_domains && all; i++) {
		iof_pt_config(ioas->domains[i]->pt, &cfg);
		all = cfg.features & IOF_PT_FORCE_COHERENT;
	}
	iof_brlock_read_drop(iofi_domains(ioas));
	return all;
}

static int check_extension(struct iof_context *ctx, uint64_t what)
{
	struct iof_ioas *ioas;
	int rc;

	switch (what) {
	case IOF_CONTAINER_TYPE1:
	case IOF_CONTAINER_TYPE1V2:
	case IOF_CONTAINER_UNMAP_ALL:
		return 1;
	case IOF_CONTAINER_DMA_CC:
		rc = compat_ioas(ctx, &ioas);
		if (rc)
			return rc;
		rc = is_coherent(ioas);
		iof_object_put(&ioas->object);
		return rc;
	default: /* NOIOMMU among them: no such groups */
		return 0;
	}
}

/* The first type 1 unmaps parts of mappings, which takes small pages; version 2 does not. */
static int set_iommu(struct iof_context *ctx, uint64_t type)
{
	struct iof_ioas *ioas;
	int rc;

	if (type != IOF_CONTAINER_TYPE1 && type != IOF_CONTAINER_TYPE1V2)
		return -EINVAL;
	rc = compat_ioas(ctx, &ioas);
	if (rc)
		return rc;
	if (type == IOF_CONTAINER_TYPE1)
		rc = iof_ioas_set_large_pages(ioas, false);
	iof_object_put(&ioas->object);
	return rc;
}

/* ---- GET_INFO ---- */

/* Where capabilities go: the caller's memory behind the struct, and how far it reaches. */
struct chain {
	uint64_t arg, argsz;
	uint64_t at; /* offset of the next capability */
};

static uint64_t room_of(const struct chain *c)
{
	return c->argsz > c->at ? c->argsz - c->at : 0;
}

static int put_dma_avail(struct chain *c)
{
	struct iof_container_dma_avail cap = {
		.header = { .id = IOF_CONTAINER_CAP_DMA_AVAIL, .version = 1 },
		.avail = UINT32_MAX,
	};
	int rc = room_of(c) >= sizeof(cap) ? iof_copy_out(c->arg + c->at, &cap, sizeof(cap)) : 0;

	c->at += 16; /* 12 bytes, and capabilities start at multiples of 8 */
	return rc;
}

/* As many ranges as fit, each whole; the header only when all do. */
static int write_ranges(const struct chain *c, const struct iof_range *r, size_t n)
{
	struct iof_container_iova_range cap = {
		.header = { .id = IOF_CONTAINER_CAP_IOVA_RANGE, .version = 1 },
		.nr_iovas = (uint32_t)n,
	};
	uint64_t at = c->arg + c->at, room = room_of(c);
	size_t fit = room < sizeof(cap) ? 0 : (size_t)((room - sizeof(cap)) / sizeof(*r));
	int rc = fit ? iof_copy_out(at + sizeof(cap), r, (fit < n ? fit : n) * sizeof(*r)) : 0;

	if (!rc && room >= sizeof(cap) && fit >= n)
		rc = iof_copy_out(at, &cap, sizeof(cap));
	return rc;
}

/* The holes of the reserved set. What they are may change between the two questions: then once more. */
static int put_iova_ranges(struct chain *c, struct iof_ioas *ioas)
{
	struct iof_alloc *a = ioas->memory->alloc;
	uint64_t alignment;
	struct iof_range *r;
	size_t n = iof_ioas_ranges(ioas, NULL, 0, &alignment), room;
	int rc;

	for (;;) {
		room = n;
		r = iof_mem_get(a, (room + 1) * sizeof(*r), 16);
		if (!r)
			return -ENOMEM;
		n = iof_ioas_ranges(ioas, r, room, &alignment);
		if (n <= room)
			break;
		iof_mem_put(a, r, (room + 1) * sizeof(*r));
	}
	rc = write_ranges(c, r, n);
	iof_mem_put(a, r, (room + 1) * sizeof(*r));
	c->at += sizeof(struct iof_container_iova_range) + n * sizeof(*r);
	return rc;
}

static int put_chain(struct chain *c, struct iof_ioas *ioas)
{
	uint64_t first = c->at;
	uint32_t second;
	int rc = put_dma_avail(c);

	second = (uint32_t)c->at;
	if (!rc)
		rc = put_iova_ranges(c, ioas);
	if (!rc && c->argsz >= second)
		rc = iof_copy_out(c->arg + first + offsetof(struct iof_container_cap_header, next), &second,
				  sizeof(second));
	return rc;
}

/* What every table can do, in whole pages; then, as the kernel does it, the larger number of that and the alignment. */
static uint64_t page_sizes(struct iof_ioas *ioas)
{
	uint64_t sizes = UINT64_MAX;

	iof_brlock_read(iofi_domains(ioas));
	for (uint32_t i = 0; i < ioas->n_domains; i++)
		sizes &= iof_pt_page_sizes(ioas->domains[i]->pt);
	if (sizes & IOF_PAGE_MASK)
		sizes = (sizes & ~IOF_PAGE_MASK) | IOF_PAGE_SIZE;
	if (ioas->alignment > sizes)
		sizes = ioas->alignment;
	iof_brlock_read_drop(iofi_domains(ioas));
	return sizes;
}

static int fill_info(struct iof_ioas *ioas, uint64_t arg, struct iof_cmd_container_info *info)
{
	struct chain c = { .arg = arg, .argsz = info->argsz, .at = sizeof(*info) };
	uint32_t size = info->argsz < sizeof(*info) ? info->argsz : (uint32_t)sizeof(*info);
	int rc;

	info->iova_pgsizes = page_sizes(ioas);
	rc = put_chain(&c, ioas);
	if (rc)
		return rc;
	info->flags = IOF_CONTAINER_INFO_PGSIZES | IOF_CONTAINER_INFO_CAPS;
	info->cap_offset = info->argsz >= c.at ? sizeof(*info) : 0;
	info->argsz = (uint32_t)c.at;
	return iof_copy_out(arg, info, size);
}

static int get_info(struct iof_context *ctx, uint64_t arg)
{
	const uint32_t prefix = offsetof(struct iof_cmd_container_info, cap_offset);
	struct iof_cmd_container_info info = { 0 };
	struct iof_ioas *ioas;
	int rc = iof_copy_in(&info, arg, prefix);

	if (rc)
		return rc;
	if (info.argsz < prefix)
		return -EINVAL;
	rc = compat_ioas(ctx, &ioas);
	if (rc)
		return rc;
	rc = fill_info(ioas, arg, &info);
	iof_object_put(&ioas->object);
	return rc;
}

/* ---- MAP_DMA, UNMAP_DMA ---- */

static int map_dma(struct iof_context *ctx, uint64_t arg)
{
	struct iof_cmd_container_map map;
	struct iof_map_request rq;
	struct iof_ioas *ioas;
	int rc = iof_copy_in(&map, arg, sizeof(map));

	if (rc)
		return rc;
	if (map.argsz < sizeof(map) || map.flags & ~(IOF_CONTAINER_MAP_READ | IOF_CONTAINER_MAP_WRITE))
		return -EINVAL;
	rc = compat_ioas(ctx, &ioas);
	if (rc)
		return rc;
	rq = (struct iof_map_request){ .user_va = map.vaddr, .length = map.size, .iova = map.iova, .fixed = true,
				       .policy = ctx->machine->memory.policy };
	rq.prot = (map.flags & IOF_CONTAINER_MAP_READ ? IOF_PROT_READ : 0) |
		  (map.flags & IOF_CONTAINER_MAP_WRITE ? IOF_PROT_WRITE : 0);
	iof_brlock_read(iofi_domains(ioas));
	rc = iof_ioas_map(ioas, &rq);
	iof_brlock_read_drop(iofi_domains(ioas));
	iof_object_put(&ioas->object);
	return rc;
}

static int unmap_range(struct iof_ioas *ioas, struct iof_cmd_container_unmap *un, uint64_t *bytes)
{
	struct iof_range r;
	int rc = iof_range_make(un->iova, un->size, &r);

	return rc ? rc : iof_ioas_unmap(ioas, r, false, bytes);
}

/* With small pages mappings are first cut where the range ends and where it begins. */
static int cut_ends(struct iof_ioas *ioas, const struct iof_cmd_container_unmap *un)
{
	const uint64_t at[] = { un->iova + un->size - 1, un->iova - 1 };

	return iof_ioas_cut(ioas, at, un->iova ? 2 : 1);
}

/* What was unmapped goes back to the caller on errors of the unmap itself, too. */
static int unmap_from(struct iof_ioas *ioas, uint64_t arg, struct iof_cmd_container_unmap *un)
{
	bool all = un->flags & IOF_CONTAINER_UNMAP_FLAG_ALL;
	uint64_t bytes = 0;
	int rc = 0;

	if (all && (un->iova || un->size))
		return -EINVAL;
	if (!all)
		rc = cut_ends(ioas, un);
	if (rc)
		return rc;
	iof_brlock_read(iofi_domains(ioas));
	rc = all ? iof_ioas_unmap(ioas, IOF_RANGE_ALL, false, &bytes) : unmap_range(ioas, un, &bytes);
	iof_brlock_read_drop(iofi_domains(ioas));
	un->size = bytes;
	return iof_copy_out(arg, un, sizeof(*un)) ? -EFAULT : rc;
}

static int unmap_dma(struct iof_context *ctx, uint64_t arg)
{
	struct iof_cmd_container_unmap un;
	struct iof_ioas *ioas;
	int rc = iof_copy_in(&un, arg, sizeof(un));

	if (rc)
		return rc;
	if (un.argsz < sizeof(un) || un.flags & ~IOF_CONTAINER_UNMAP_FLAG_ALL)
		return -EINVAL;
	rc = compat_ioas(ctx, &ioas);
	if (rc)
		return rc;
	rc = unmap_from(ioas, arg, &un);
	iof_object_put(&ioas->object);
	return rc;
}

int iofi_container_ioctl(struct iof_context *ctx, unsigned long cmd, uint64_t arg)
{
	switch (cmd) {
	case IOF_CMD_CONTAINER_GET_API_VERSION:
		return 0;
	case IOF_CMD_CONTAINER_CHECK_EXTENSION:
		return check_extension(ctx, arg);
	case IOF_CMD_CONTAINER_SET_IOMMU:
		return set_iommu(ctx, arg);
	case IOF_CMD_CONTAINER_GET_INFO:
		return get_info(ctx, arg);
	case IOF_CMD_CONTAINER_MAP_DMA:
		return map_dma(ctx, arg);
	case IOF_CMD_CONTAINER_UNMAP_DMA:
		return unmap_dma(ctx, arg);
	default:
		return -ENOTTY;
	}
}
