/* SPDX-License-Identifier: Apache-2.0 */
/* Where the engine would map. */
#include <errno.h>

#include "ioas/ioas.h"
#include "provider/engine.h"

int iofi_engine_place(struct iof_handle *h, uint32_t ioas_id, uint64_t address, uint64_t length, uint64_t *iova)
{
	struct iof_ioas *ioas = (struct iof_ioas *)iof_object_get(&iofi_engine(h)->file.ctx->objects, ioas_id, IOF_OBJECT_IOAS);
	int rc;

	if (!ioas)
		return -ENOENT;
	iofi_iova_take(ioas);
	rc = length & (ioas->alignment - 1) ? -EINVAL : iof_space_place(ioas->space, address, length, ioas->alignment, iova);
	iofi_iova_drop(ioas);
	iof_object_put(&ioas->object);
	return rc;
}
