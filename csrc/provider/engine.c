/* SPDX-License-Identifier: Apache-2.0 */
#include "provider/engine.h"

#include <errno.h>

#include "dispatch/call.h"

static int context_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return iof_dispatch_context(iofi_engine(h)->file.ctx, cmd, (uintptr_t)arg, nowait);
}

static int device_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return nowait ? -EAGAIN : iof_dispatch_device(&iofi_engine(h)->file, cmd, (uintptr_t)arg);
}

static int number(const struct iof_handle *h)
{
	return iofi_engine(h)->file.number;
}

static void close_engine(struct iof_handle *h)
{
	struct iof_engine *e = iofi_engine(h);
	struct iof_machine *m = e->file.machine;

	/* The file's reference goes with it; ours keeps the allocator's owner until the handle is freed. */
	iof_machine_ref(m);
	iof_file_close(&e->file);
	iof_mem_put(m->memory.alloc, e, sizeof(*e));
	iof_machine_unref(m);
}

static const struct iof_provider context_provider = {
	.name = "engine",
	.ioctl = context_ioctl,
	.fileno = number,
	.close = close_engine,
	.map_many = iofi_engine_map_many,
	.unmap_many = iofi_engine_unmap_many,
	.translate = iofi_engine_translate,
	.endpoints = iofi_engine_endpoints,
	.ioas_stats = iofi_engine_ioas_stats,
	.hwpt_stats = iofi_engine_hwpt_stats,
	.ioas_mapping = iofi_engine_mapping,
	.digest = iofi_engine_digest,
};

static const struct iof_provider device_provider = {
	.name = "engine",
	.ioctl = device_ioctl,
	.fileno = number,
	.close = close_engine,
	.dma = iofi_engine_dma,
};

static struct iof_engine *make(struct iof_machine *m, const struct iof_provider *provider)
{
	struct iof_engine *e = iof_mem_zget(m->memory.alloc, sizeof(*e), 16);

	if (e)
		e->handle.provider = provider;
	return e;
}

int iof_engine_open(struct iof_machine *m, struct iof_handle **out)
{
	struct iof_engine *e = make(m, &context_provider);
	int rc = e ? iof_file_open_context(m, &e->file) : -ENOMEM;

	if (rc) {
		iof_mem_put(m->memory.alloc, e, sizeof(*e));
		return rc;
	}
	*out = &e->handle;
	return 0;
}

int iof_engine_open_device(struct iof_machine *m, uint32_t index, struct iof_handle **out)
{
	struct iof_engine *e = make(m, &device_provider);
	int rc = e ? iof_file_open_device(m, index, &e->file) : -ENOMEM;

	if (rc) {
		iof_mem_put(m->memory.alloc, e, sizeof(*e));
		return rc;
	}
	*out = &e->handle;
	return 0;
}
