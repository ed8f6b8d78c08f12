/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the kernel that are no context: devices, fault and event queues. Everything goes to the descriptor. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "provider/kernel.h"

static struct iofi_kfile *file_of(const struct iof_handle *h)
{
	return (struct iofi_kfile *)h;
}

static int file_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	struct iofi_kfile *f = file_of(h);

	return nowait ? -EAGAIN : f->ctx->sys.ioctl(f->ctx->sys.data, f->fd, cmd, arg);
}

static int64_t file_read(struct iof_handle *h, void *to, size_t n)
{
	struct iofi_kfile *f = file_of(h);

	return f->ctx->sys.pread(f->ctx->sys.data, f->fd, to, n, -1);
}

static int64_t file_write(struct iof_handle *h, const void *from, size_t n)
{
	struct iofi_kfile *f = file_of(h);

	return f->ctx->sys.pwrite(f->ctx->sys.data, f->fd, from, n, -1);
}

static int64_t file_pread(struct iof_handle *h, void *to, size_t n, uint64_t offset)
{
	struct iofi_kfile *f = file_of(h);

	return offset > INT64_MAX ? -EINVAL : f->ctx->sys.pread(f->ctx->sys.data, f->fd, to, n, (int64_t)offset);
}

static int64_t file_pwrite(struct iof_handle *h, const void *from, size_t n, uint64_t offset)
{
	struct iofi_kfile *f = file_of(h);

	return offset > INT64_MAX ? -EINVAL : f->ctx->sys.pwrite(f->ctx->sys.data, f->fd, from, n, (int64_t)offset);
}

static int file_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	struct iofi_kfile *f = file_of(h);

	return f->ctx->sys.mmap(f->ctx->sys.data, f->fd, length, prot, flags, offset, out);
}

static unsigned file_poll(struct iof_handle *h)
{
	struct iofi_kfile *f = file_of(h);
	int bits = f->ctx->sys.poll(f->ctx->sys.data, f->fd);

	return bits < 0 ? POLLERR : (unsigned)bits;
}

static int file_fileno(const struct iof_handle *h)
{
	return file_of(h)->fd;
}

static int file_poll_fd(struct iof_handle *h)
{
	return file_of(h)->fd;
}

static void put_file(struct iofi_kfile *f)
{
	struct iofi_kcontext *ctx = f->ctx;

	iof_mem_put(ctx->alloc, f, sizeof(*f));
	iofi_kcontext_put(ctx);
}

static void file_close(struct iof_handle *h)
{
	struct iofi_kfile *f = file_of(h);

	f->ctx->sys.close(f->ctx->sys.data, f->fd);
	put_file(f);
}

static const struct iof_provider file_provider = {
	.name = "kernel",
	.ioctl = file_ioctl,
	.read = file_read,
	.write = file_write,
	.pread = file_pread,
	.pwrite = file_pwrite,
	.mmap = file_mmap,
	.poll = file_poll,
	.poll_fd = file_poll_fd,
	.fileno = file_fileno,
	.close = file_close,
};

/* ---- devices ---- */

static int device_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return nowait ? -EAGAIN : iofi_kdevice_command(file_of(h), cmd, arg);
}

static void device_close(struct iof_handle *h)
{
	iofi_kdevice_close(file_of(h));
	put_file(file_of(h));
}

static const struct iof_provider device_provider = {
	.name = "kernel",
	.ioctl = device_ioctl,
	.pread = file_pread,
	.pwrite = file_pwrite,
	.mmap = file_mmap,
	.fileno = file_fileno,
	.close = device_close,
};

/* ---- opening ---- */

static int file_new(struct iof_handle *h, int fd, const struct iof_provider *provider, struct iofi_kfile **out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kfile *f;

	if (!iofi_kcontext_is(h))
		return -EINVAL;
	if (fd < 0)
		return -EBADF;
	f = (struct iofi_kfile *)iof_mem_zget(ctx->alloc, sizeof(*f), 16);
	if (!f)
		return -ENOMEM;
	f->handle.provider = provider;
	f->ctx = ctx;
	f->fd = fd;
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	*out = f;
	return 0;
}

int iof_kernel_file(struct iof_handle *ctx, int fd, struct iof_handle **out)
{
	struct iofi_kfile *f;
	int rc = file_new(ctx, fd, &file_provider, &f);

	if (!rc)
		*out = &f->handle;
	return rc;
}

/* The number at the end of "…/vfio7"; without one, one of our own. */
static uint32_t number_of(struct iofi_kcontext *ctx, const char *path)
{
	const char *name = path ? strrchr(path, '/') : NULL;
	char *end;
	unsigned long n = name && !strncmp(name, "/vfio", 5) ? strtoul(name + 5, &end, 10) : ULONG_MAX;
	uint32_t own;

	if (name && n < UINT32_MAX / 2 && end != name + 5 && !*end)
		return (uint32_t)n;
	iof_lock_take(&ctx->lock);
	own = ctx->devices++;
	iof_lock_drop(&ctx->lock);
	return own;
}

static int open_device(struct iof_handle *h, int fd, int group, const char *path, struct iof_handle **out)
{
	struct iofi_kfile *f;
	int rc = file_new(h, fd, &device_provider, &f);

	if (rc)
		return rc;
	if (group < 0)
		group = f->ctx->sys.group(f->ctx->sys.data, fd);
	f->device = number_of(f->ctx, path);
	f->group = group >= 0 ? (uint32_t)group : UINT32_MAX - f->device;
	*out = &f->handle;
	return 0;
}

int iof_vfio_adopt(struct iof_handle *ctx, int fd, int group, struct iof_handle **out)
{
	return open_device(ctx, fd, group, NULL, out);
}

int iof_vfio_open(struct iof_handle *ctx, const char *name, struct iof_handle **out)
{
	const struct iof_sys *sys = &iofi_kcontext(ctx)->sys;
	char path[256];
	int fd, rc;

	if (!iofi_kcontext_is(ctx))
		return -EINVAL;
	rc = sys->find(sys->data, name, path, sizeof(path));
	if (rc)
		return rc;
	fd = sys->open(sys->data, path);
	if (fd < 0)
		return fd;
	rc = open_device(ctx, fd, -1, path, out);
	if (rc)
		sys->close(sys->data, fd);
	return rc;
}
