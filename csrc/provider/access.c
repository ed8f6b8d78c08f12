/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses as the public API has them: the floor below has all of it but the opening on a handle. */
#include "ioas/access.h"

#include <errno.h>

#include "iommufd_fast_access.h"
#include "provider/engine.h"

_Static_assert((int)IOF_ACCESS_WRITE == (int)IOFI_ACCESS_WRITE, "flags");
_Static_assert((int)IOF_ACCESS_SLOW == (int)IOFI_ACCESS_SLOW, "flags");

int iofi_engine_access_open(struct iof_handle *h, const struct iof_access_config *cfg, struct iof_access **out)
{
	if (cfg->size != sizeof(*cfg))
		return -EINVAL;
	return iof_access_make(iofi_engine(h)->file.ctx,
			       &(struct iof_access_options){ .needs_pin = cfg->needs_pin, .unmap = cfg->unmap,
							     .data = cfg->data },
			       out);
}

uint32_t iof_access_id(const struct iof_access *a)
{
	return a->object.id;
}
