/* SPDX-License-Identifier: Apache-2.0 */
#include "provider/engine.h"

#include <errno.h>
#include <sys/mman.h>

#include "dispatch/call.h"
#include "ioas/viommu.h"

#define MOST 0x7ffff000u /* what one read or write of the kernel moves at most */

/* ---- what any file does ---- */

static struct iof_file *file_of(const struct iof_handle *h)
{
	return &iofi_engine(h)->file;
}

static int number(const struct iof_handle *h)
{
	return file_of(h)->number;
}

static void close_file(struct iof_handle *h)
{
	iof_file_close(file_of(h));
}

/* ---- contexts and devices ---- */

static int context_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return iof_dispatch_context(file_of(h)->ctx, cmd, (uintptr_t)arg, nowait);
}

static int device_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	return nowait ? -EAGAIN : iof_dispatch_device(file_of(h), cmd, (uintptr_t)arg);
}

/* R8.7.2, up to where the regions are looked at. */
static int context_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	if (!(flags & MAP_SHARED))
		return -EINVAL;
	if (prot & PROT_EXEC)
		return -EPERM;
	return iof_context_mmap(file_of(h)->ctx, offset, length, prot, out);
}

static const struct iof_provider context_provider = {
	.name = "engine",
	.ioctl = context_ioctl,
	.mmap = context_mmap,
	.fileno = number,
	.close = close_file,
	.map_many = iofi_engine_map_many,
	.unmap_many = iofi_engine_unmap_many,
	.translate = iofi_engine_translate,
	.endpoints = iofi_engine_endpoints,
	.ioas_stats = iofi_engine_ioas_stats,
	.hwpt_stats = iofi_engine_hwpt_stats,
	.ioas_mapping = iofi_engine_mapping,
	.leaves = iofi_engine_leaves,
	.dirty = iofi_engine_dirty,
	.digest = iofi_engine_digest,
	.access_open = iofi_engine_access_open,
};

static const struct iof_provider device_provider = {
	.name = "engine",
	.ioctl = device_ioctl,
	.fileno = number,
	.close = close_file,
	.dma = iofi_engine_dma,
};

/* ---- files that commands open ---- */

static int no_ioctl(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait)
{
	(void)h, (void)cmd, (void)arg, (void)nowait;
	return -ENOTTY;
}

static int no_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	(void)h, (void)length, (void)flags, (void)offset, (void)out;
	return prot & PROT_EXEC ? -EPERM : -ENODEV;
}

/* As the kernel bounds every read and write before the file sees it. */
static int64_t bounded(int64_t (*move)(struct iof_file *, uint64_t, size_t), struct iof_file *f, const void *at, size_t n)
{
	if (!move || n > INT64_MAX)
		return -EINVAL;
	return move(f, (uintptr_t)at, n < MOST ? n : MOST);
}

static int64_t event_read(struct iof_handle *h, void *to, size_t n)
{
	return bounded(file_of(h)->ops->read, file_of(h), to, n);
}

static int64_t event_write(struct iof_handle *h, const void *from, size_t n)
{
	return bounded(file_of(h)->ops->write, file_of(h), from, n);
}

/*
 * A position that is not the start: the file must be able to move data at all, then it says that it cannot be sought
 * in (R8.1.1).
 */
static int position_error(const void *move, uint64_t offset)
{
	return !move || offset > INT64_MAX ? -EINVAL : -ESPIPE;
}

static int64_t event_pread(struct iof_handle *h, void *to, size_t n, uint64_t offset)
{
	return offset ? position_error((const void *)file_of(h)->ops->read, offset) : event_read(h, to, n);
}

static int64_t event_pwrite(struct iof_handle *h, const void *from, size_t n, uint64_t offset)
{
	return offset ? position_error((const void *)file_of(h)->ops->write, offset) : event_write(h, from, n);
}

static unsigned event_poll(struct iof_handle *h)
{
	struct iof_file *f = file_of(h);

	return f->ops->poll ? f->ops->poll(f) : IOFI_POLL_ALWAYS;
}

static int event_poll_fd(struct iof_handle *h)
{
	return file_of(h)->ops->poll ? file_of(h)->number : -EOPNOTSUPP;
}

static const struct iof_provider event_provider = {
	.name = "engine",
	.ioctl = no_ioctl,
	.read = event_read,
	.write = event_write,
	.pread = event_pread,
	.pwrite = event_pwrite,
	.mmap = no_mmap,
	.poll = event_poll,
	.poll_fd = event_poll_fd,
	.fileno = number,
	.close = close_file,
};

/* ---- handles ---- */

static const struct iof_provider *provider_of(const struct iof_file *f)
{
	switch (f->ops->kind) {
	case IOF_FILE_CONTEXT:
		return &context_provider;
	case IOF_FILE_DEVICE:
		return &device_provider;
	default:
		return &event_provider;
	}
}

/* The first to ask writes the door; two at once write the same. */
struct iof_handle *iofi_engine_handle(struct iof_file *f)
{
	union iof_engine *e = (union iof_engine *)f;

	iof_lock_take(&f->machine->lock);
	e->handle.provider = provider_of(f);
	iof_lock_drop(&f->machine->lock);
	return &e->handle;
}

int iof_engine_open(struct iof_machine *m, struct iof_handle **out)
{
	struct iof_file *f;
	int rc = iof_file_open_context(m, &f);

	if (!rc)
		*out = iofi_engine_handle(f);
	return rc;
}

int iof_engine_open_device(struct iof_machine *m, uint32_t index, struct iof_handle **out)
{
	struct iof_file *f;
	int rc = iof_file_open_device(m, index, &f);

	if (!rc)
		*out = iofi_engine_handle(f);
	return rc;
}

int iof_file_handle(struct iof_machine *m, int file, struct iof_handle **out)
{
	struct iof_file *f = iof_file_find(m, file);

	if (!f)
		return -EBADF;
	*out = iofi_engine_handle(f);
	return 0;
}
