/* SPDX-License-Identifier: Apache-2.0 */
/* The address index of an IOAS, by its id. */
#include "ioas/va.h"

#include <errno.h>

#include "provider/engine.h"

int iofi_engine_va_index(struct iof_handle *h, uint32_t ioas_id, struct iof_va_index **out)
{
	struct iof_object *o = iof_object_get(&iofi_engine(h)->file.ctx->objects, ioas_id, IOF_OBJECT_IOAS);
	int rc;

	if (!o)
		return -ENOENT;
	rc = iof_ioas_va_index((struct iof_ioas *)o, out);
	iof_object_put(o);
	return rc;
}
