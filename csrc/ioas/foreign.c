/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/foreign.h"

#include <errno.h>

static void forget(struct iof_foreign *f)
{
	iof_mem_put(f->ctx->machine->memory.alloc, f, sizeof(*f));
}

int iof_foreign_reserve(struct iof_context *ctx, void (*end)(void *data), void *data, struct iof_foreign **out)
{
	struct iof_foreign *f = iof_mem_zget(ctx->machine->memory.alloc, sizeof(*f), 16);
	int rc;

	if (!f)
		return -ENOMEM;
	f->ctx = ctx;
	f->end = end;
	f->data = data;
	iof_lock_take(&ctx->control);
	rc = iof_object_reserve(&ctx->objects, &f->object, IOF_OBJECT_FOREIGN);
	iof_lock_drop(&ctx->control);
	if (rc)
		forget(f);
	else
		*out = f;
	return rc;
}

void iof_foreign_publish(struct iof_foreign *f)
{
	iof_lock_take(&f->ctx->control);
	iof_object_publish(&f->object);
	iof_lock_drop(&f->ctx->control);
}

void iof_foreign_abort(struct iof_foreign *f)
{
	struct iof_context *ctx = f->ctx;

	iof_lock_take(&ctx->control);
	iof_object_abort(&ctx->objects, &f->object);
	iof_lock_drop(&ctx->control);
	forget(f);
}

void *iof_foreign_find(struct iof_context *ctx, uint32_t id, void (*end)(void *data))
{
	struct iof_foreign *f = (struct iof_foreign *)iof_object_get(&ctx->objects, id, IOF_OBJECT_FOREIGN);
	void *data = f && f->end == end ? f->data : NULL;

	if (f)
		iof_object_put(&f->object);
	return data;
}

void iof_foreign_dispose(struct iof_foreign *f)
{
	f->end(f->data);
	forget(f);
}
