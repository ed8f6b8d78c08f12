/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many copies, all or nothing: COPY after COPY on whatever provider, and one batch of unmaps when one is refused. A copy shows what is
 * pinned already and makes nobody wait for readers; only the way back does, and goes by iof_unmap_many().
 */
#include <errno.h>

#include "iommufd_fast_kernel.h"
#include "iommufd_fast_reshape.h"

#define FLAGS ((uint32_t)(IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE))

static int copy_one(struct iof_handle *ctx, const struct iof_copy_many *many, size_t i)
{
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = many->flags, .dst_ioas_id = many->dst_ioas_id,
				       .src_ioas_id = many->src_ioas_id, .length = many->lengths[i],
				       .dst_iova = many->flags & IOF_MAP_FIXED_IOVA ? many->iovas[i] : 0,
				       .src_iova = many->src_iovas[i] };
	int rc = iof_submit(ctx, IOF_CMD_IOAS_COPY, &c);

	if (!rc)
		many->iovas[i] = c.dst_iova;
	return rc;
}

/* Is it a context, and is there where to copy to? */
static int check(struct iof_handle *ctx, const struct iof_copy_many *many)
{
	struct iof_unmap_many nothing = { .ioas_id = many->dst_ioas_id };

	if (many->size != sizeof(*many))
		return -EINVAL;
	return many->flags & ~FLAGS ? -EOPNOTSUPP : (int)iof_unmap_many(ctx, &nothing);
}

int iof_copy_many(struct iof_handle *ctx, struct iof_copy_many *many)
{
	struct iof_unmap_many undo = { .ioas_id = many->dst_ioas_id, .iovas = many->iovas, .lengths = many->lengths };
	int rc = check(ctx, many);
	size_t i;

	many->failed = 0;
	for (i = 0; i < many->n && !rc; i += !rc)
		rc = copy_one(ctx, many, i);
	if (!rc || !i)
		return rc;
	many->failed = undo.n = i;
	iof_unmap_many(ctx, &undo);
	return rc;
}
