/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts in the kernel: opening, the table of what their handle can do, and files that commands open. */
#include <errno.h>

#include "provider/kernel.h"
#include "util/guard.h"

#define DEV_IOMMU "/dev/iommu"

/* Mostly the struct is ours, or longer: then one look has it all. Else its size is asked for first, as what lies behind it may be no memory. */
int iofi_kpeek(void *to, size_t known, const void *arg)
{
	uint32_t size;
	int rc = iof_copy_in(to, (uintptr_t)arg, known);

	if (iof_likely(!rc && *(const uint32_t *)to >= known))
		return 0;
	rc = iof_copy_in(&size, (uintptr_t)arg, sizeof(size));
	__builtin_memset(to, 0, known);
	return rc ? rc : iof_copy_in(to, (uintptr_t)arg, size < known ? size : known);
}

int iofi_kcall(struct iofi_kcontext *ctx, unsigned long cmd, void *arg)
{
	int fd = atomic_load_explicit(&ctx->fd, memory_order_relaxed);

	return fd < 0 ? -EBADF : ctx->sys.ioctl(ctx->sys.data, fd, cmd, arg);
}

/* ---- commands ---- */

static int command(struct iofi_kcontext *ctx, unsigned long cmd, void *arg, bool place)
{
	switch (cmd) {
	case IOF_CMD_IOAS_MAP:
	case IOF_CMD_IOAS_MAP_FILE:
		return iofi_kernel_map(ctx, cmd, arg, place);
	case IOF_CMD_IOAS_UNMAP:
		return iofi_kernel_unmap(ctx, arg);
	case IOF_CMD_IOAS_COPY:
		return iofi_kernel_copy(ctx, arg, place);
	case IOF_CMD_DESTROY:
	case IOF_CMD_IOAS_ALLOC:
	case IOF_CMD_IOAS_ALLOW_IOVAS:
	case IOF_CMD_HWPT_ALLOC:
	case IOF_CMD_VIOMMU_ALLOC:
	case IOF_CMD_HWPT_SET_DIRTY_TRACKING:
		return iofi_kernel_control(ctx, cmd, arg);
	default:
		return iofi_kcall(ctx, cmd, arg);
	}
}

static int context_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return nowait ? -EAGAIN : command(iofi_kcontext(h), cmd, arg, false);
}

static int context_submit(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return nowait ? -EAGAIN : command(iofi_kcontext(h), cmd, arg, true);
}

static int context_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);

	return ctx->sys.mmap(ctx->sys.data, iof_fileno(h), length, prot, flags, offset, out);
}

static int context_fileno(const struct iof_handle *h)
{
	return atomic_load_explicit(&iofi_kcontext(h)->fd, memory_order_relaxed);
}

/* ---- life ---- */

void iofi_kcontext_put(struct iofi_kcontext *ctx)
{
	struct iof_alloc *a = ctx->alloc, heap;

	if (atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return;
	iofi_kobjects_destroy(ctx);
	iof_index_destroy(ctx->objects);
	if (a == &ctx->heap) {
		iof_alloc_init_heap(&heap);
		a = &heap;
	}
	iof_mem_put(a, ctx, sizeof(*ctx));
}

/* The kernel keeps the context for devices that are bound; so do we. */
static void context_close(struct iof_handle *h)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	int fd;

	iof_lock_take(&ctx->control);
	fd = atomic_exchange_explicit(&ctx->fd, -1, memory_order_relaxed);
	iof_lock_drop(&ctx->control);
	ctx->sys.close(ctx->sys.data, fd);
	iofi_kcontext_put(ctx);
}

static const struct iof_provider context_provider = {
	.name = "kernel",
	.ioctl = context_ioctl,
	.submit = context_submit,
	.mmap = context_mmap,
	.fileno = context_fileno,
	.close = context_close,
	.map_many = iofi_kernel_map_many,
	.unmap_many = iofi_kernel_unmap_many,
	.translate = iofi_kernel_translate,
	.endpoints = iofi_kernel_endpoints,
	.ioas_stats = iofi_kernel_ioas_stats,
	.hwpt_stats = iofi_kernel_hwpt_stats,
	.ioas_mapping = iofi_kernel_mapping,
	.place = iofi_kernel_place,
	.ioas_entries = iofi_kernel_entries,
	.va_index = iofi_kernel_va_index,
};

bool iofi_kcontext_is(const struct iof_handle *h)
{
	return h->provider == &context_provider;
}

static int check_config(const struct iof_kernel_config *cfg)
{
	return cfg && (cfg->size != sizeof(*cfg) || cfg->iova > IOF_IOVA_VA) ? -EINVAL : 0;
}

static const struct iof_sys *sys_of(const struct iof_kernel_config *cfg)
{
	return cfg && cfg->sys ? cfg->sys : &iofi_sys_libc;
}

static struct iofi_kcontext *context_new(int fd, const struct iof_kernel_config *cfg)
{
	struct iof_alloc heap, *a = cfg ? cfg->alloc : NULL;
	struct iofi_kcontext *ctx;

	iof_alloc_init_heap(&heap);
	ctx = (struct iofi_kcontext *)iof_mem_zget(a ? a : &heap, sizeof(*ctx), 64);
	if (!ctx)
		return NULL;
	iof_alloc_init_heap(&ctx->heap);
	ctx->handle.provider = &context_provider;
	ctx->alloc = a ? a : &ctx->heap;
	ctx->sys = *sys_of(cfg);
	ctx->choice = cfg ? cfg->iova : IOF_IOVA_OWN;
	atomic_store_explicit(&ctx->refs, 1, memory_order_relaxed);
	atomic_store_explicit(&ctx->fd, fd, memory_order_relaxed);
	iof_lock_init(&ctx->control, false);
	iof_lock_init(&ctx->lock, false);
	if (!iof_index_create(ctx->alloc, &ctx->objects))
		return ctx;
	iof_mem_put(a ? a : &heap, ctx, sizeof(*ctx));
	return NULL;
}

int iof_kernel_adopt(int fd, const struct iof_kernel_config *cfg, struct iof_handle **out)
{
	struct iofi_kcontext *ctx;
	int rc = check_config(cfg);

	if (rc || fd < 0)
		return rc ? rc : -EBADF;
	ctx = context_new(fd, cfg);
	if (!ctx)
		return -ENOMEM;
	*out = &ctx->handle;
	return 0;
}

int iof_kernel_open(const char *path, const struct iof_kernel_config *cfg, struct iof_handle **out)
{
	const struct iof_sys *sys = sys_of(cfg);
	int fd, rc = check_config(cfg);

	if (rc)
		return rc;
	fd = sys->open(sys->data, path ? path : DEV_IOMMU);
	if (fd < 0)
		return fd;
	rc = iof_kernel_adopt(fd, cfg, out);
	if (rc)
		sys->close(sys->data, fd);
	return rc;
}
