/* SPDX-License-Identifier: Apache-2.0 */
/* Short words for the engine's tests: commands with their structs filled in. Each returns what iof_ioctl() returned. */
#ifndef IOF_TESTS_ENGINE_H
#define IOF_TESTS_ENGINE_H

#include <errno.h>
#include <sys/mman.h>

#include "iommufd_fast.h"

#define RW (IOF_MAP_READABLE | IOF_MAP_WRITEABLE)
#define PAGE 4096ul

static inline struct iof_machine *machine_with(enum iof_preset preset, const uint32_t *groups, size_t n, struct iof_alloc *a)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = preset, .groups = groups, .n_groups = n, .alloc = a };
	struct iof_machine *m = NULL;

	return iof_machine_create(&cfg, &m) ? NULL : m;
}

static inline int bind_device(struct iof_handle *dev, struct iof_handle *ctx, uint32_t *dev_id)
{
	struct iof_cmd_bind c = { .argsz = sizeof(c), .iommufd = iof_fileno(ctx) };
	int rc = iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &c);

	if (dev_id)
		*dev_id = c.out_devid;
	return rc;
}

static inline int attach(struct iof_handle *dev, uint32_t pt_id, uint32_t *hwpt_id)
{
	struct iof_cmd_attach c = { .argsz = sizeof(c), .pt_id = pt_id };
	int rc = iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, &c);

	if (hwpt_id)
		*hwpt_id = c.pt_id;
	return rc;
}

static inline int detach(struct iof_handle *dev)
{
	struct iof_cmd_detach c = { .argsz = sizeof(c) };

	return iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, &c);
}

static inline int ioas_alloc(struct iof_handle *ctx, uint32_t *id)
{
	struct iof_cmd_ioas_alloc c = { .size = sizeof(c) };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_ALLOC, &c);

	*id = c.out_ioas_id;
	return rc;
}

static inline int destroy(struct iof_handle *ctx, uint32_t id)
{
	struct iof_cmd_destroy c = { .size = sizeof(c), .id = id };

	return iof_ioctl(ctx, IOF_CMD_DESTROY, &c);
}

static inline int map_at(struct iof_handle *ctx, uint32_t ioas, const void *va, uint64_t length, uint32_t flags, uint64_t *iova)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = flags, .ioas_id = ioas, .user_va = (uintptr_t)va,
				      .length = length, .iova = flags & IOF_MAP_FIXED_IOVA ? *iova : 0 };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_MAP, &c);

	*iova = c.iova;
	return rc;
}

static inline int unmap(struct iof_handle *ctx, uint32_t ioas, uint64_t iova, uint64_t length, uint64_t *bytes)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = ioas, .iova = iova, .length = length };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_UNMAP, &c);

	if (bytes)
		*bytes = c.length;
	return rc;
}

static inline int copy(struct iof_handle *ctx, uint32_t dst, uint32_t src, uint64_t src_iova, uint64_t length, uint32_t flags,
		       uint64_t *iova)
{
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = flags, .dst_ioas_id = dst, .src_ioas_id = src,
				       .length = length, .dst_iova = flags & IOF_MAP_FIXED_IOVA ? *iova : 0,
				       .src_iova = src_iova };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_COPY, &c);

	*iova = c.dst_iova;
	return rc;
}

static inline int hwpt_alloc(struct iof_handle *ctx, uint32_t dev, uint32_t pt, uint32_t *id)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .dev_id = dev, .pt_id = pt };
	int rc = iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c);

	*id = c.out_hwpt_id;
	return rc;
}

static inline int dma(struct iof_handle *dev, enum iof_dma_op op, uint64_t iova, void *buffer, size_t n, struct iof_dma *out)
{
	struct iof_dma_segment s = { iova, n };
	struct iof_dma d = { .op = op, .pasid = IOF_NO_PASID, .segments = &s, .n_segments = 1, .buffer = buffer };
	int rc = iof_dma(dev, &d);

	if (out)
		*out = d;
	return rc;
}

static inline void *pages_of(size_t n)
{
	return mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

#endif
