/* SPDX-License-Identifier: Apache-2.0 */
/* DMA memory that is mapped as long as it is there. */
#include <errno.h>

#include "iommufd_fast_memory.h"

#define FLAGS ((uint32_t)(IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE))

int iof_dma_alloc(struct iof_handle *ctx, uint32_t ioas_id, uint32_t map_flags, const struct iof_dma_request *rq,
		  struct iof_dma_memory *out)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = map_flags, .ioas_id = ioas_id, .iova = out->iova };
	int rc;

	if (map_flags & ~FLAGS)
		return -EINVAL;
	rc = iof_dma_memory_get(rq, out);
	if (rc)
		return rc;
	c.user_va = (uintptr_t)out->address;
	c.length = out->length;
	rc = iof_ioctl(ctx, IOF_CMD_IOAS_MAP, &c);
	if (rc) {
		iof_dma_memory_put(out);
		return rc;
	}
	out->iova = c.iova;
	out->ioas_id = ioas_id;
	out->ctx = ctx;
	return 0;
}

int iof_dma_free(struct iof_dma_memory *m)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = m->ioas_id, .iova = m->iova, .length = m->length };
	int rc = m->ctx ? iof_ioctl(m->ctx, IOF_CMD_IOAS_UNMAP, &c) : 0;

	if (rc && rc != -ENOENT)
		return rc;
	iof_dma_memory_put(m);
	return 0;
}
