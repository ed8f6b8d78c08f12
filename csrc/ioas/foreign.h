/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embedder's own object in a context's table: an id of the same space, destroyed by IOMMU_DESTROY and with the context like any
 * other. Its end is the embedder's function, called without locks.
 */
#ifndef IOF_IOAS_FOREIGN_H
#define IOF_IOAS_FOREIGN_H

#include "ioas/context.h"

struct iof_foreign {
	struct iof_object object;
	struct iof_context *ctx;
	void (*end)(void *data);
	void *data;
};

/* Reserves the id (0, -ENOMEM, -EBUSY); publish or abort ends that. */
int iof_foreign_reserve(struct iof_context *ctx, void (*end)(void *data), void *data, struct iof_foreign **out);
void iof_foreign_publish(struct iof_foreign *f);
void iof_foreign_abort(struct iof_foreign *f);
void *iof_foreign_find(struct iof_context *ctx, uint32_t id, void (*end)(void *data)); /* its data when `end` is its end; NULL */
void iof_foreign_dispose(struct iof_foreign *f);

#endif
