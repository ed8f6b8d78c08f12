/* SPDX-License-Identifier: Apache-2.0 */
/* Engine dma-bufs: a list by inode, each with the list of its imports. */
#define _GNU_SOURCE
#include "pages/dmabuf.h"

#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/vfs.h>

#include "pages/backing.h"
#include "pages/os.h"

#define MOST_PAGES UINT64_C(0xffffffff) /* an import has fewer */

struct iof_dmabuf {
	struct iof_dmabuf *next;
	struct iofi_file *file;
	uint64_t size;
	struct iofi_backing *imports;
	bool revoked;
	bool dropped; /* by the exporter: goes with the last import */
};

struct iof_dmabufs {
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iof_dmabuf *first;
};

int iof_dmabufs_create(struct iof_alloc *a, struct iof_dmabufs **out)
{
	struct iof_dmabufs *t = iof_mem_zget(a, sizeof(*t), 16);

	if (!t)
		return -ENOMEM;
	t->alloc = a;
	iof_lock_init(&t->lock, a->shared);
	*out = t;
	return 0;
}

void iof_dmabufs_destroy(struct iof_dmabufs *t)
{
	struct iof_dmabuf *d;

	if (!t)
		return;
	while ((d = t->first)) { /* their files go with the list of files */
		t->first = d->next;
		iof_mem_put(t->alloc, d, sizeof(*d));
	}
	iof_mem_put(t->alloc, t, sizeof(*t));
}

/* A memfd that can neither grow nor shrink. */
static int memory_make(uint64_t size)
{
	long fd = iofi_os(SYS_memfd_create, "dmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return (int)fd;
	rc = iofi_os(SYS_ftruncate, fd, size);
	if (!rc)
		rc = iofi_os(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK);
	if (rc)
		iofi_os_close((int)fd);
	return rc ? -ENOMEM : (int)fd;
}

int iof_dmabuf_make(struct iof_memory *m, uint64_t size, struct iof_dmabuf **out)
{
	struct iof_dmabuf *d;
	int fd, rc;

	if (!size || !iof_align_up(size, IOF_PAGE_SIZE, &size) || size > INT64_MAX)
		return -EINVAL;
	d = iof_mem_zget(m->alloc, sizeof(*d), 16);
	if (!d)
		return -ENOMEM;
	fd = memory_make(size);
	rc = fd < 0 ? fd : iofi_file_get(m->files, fd, &d->file);
	if (fd >= 0)
		iofi_os_close(fd);
	if (rc) {
		iof_mem_put(m->alloc, d, sizeof(*d));
		return rc;
	}
	d->size = size;
	iof_lock_take(&m->dmabufs->lock);
	d->next = m->dmabufs->first;
	m->dmabufs->first = d;
	iof_lock_drop(&m->dmabufs->lock);
	*out = d;
	return 0;
}

/* Under the lock. */
static void unlist(struct iof_dmabufs *t, struct iof_dmabuf *d)
{
	struct iof_dmabuf **at = &t->first;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	iof_mem_put(t->alloc, d, sizeof(*d));
}

/* An import has a reference on the file of its own. */
void iof_dmabuf_drop(struct iof_memory *m, struct iof_dmabuf *d)
{
	struct iofi_file *file = d->file;

	iof_lock_take(&m->dmabufs->lock);
	d->dropped = true;
	if (!d->imports)
		unlist(m->dmabufs, d);
	iof_lock_drop(&m->dmabufs->lock);
	iofi_file_put(m->files, file);
}

int iof_dmabuf_open(struct iof_dmabuf *d)
{
	return iofi_file_open(d->file);
}

static struct iof_dmabuf *find(struct iof_dmabufs *t, struct iofi_file_id id)
{
	struct iof_dmabuf *d = t->first;

	while (d && !iofi_same_file(iofi_file_id(d->file), id))
		d = d->next;
	return d;
}

static bool is_foreign(int fd)
{
	struct statfs fs;

	return !iofi_os(SYS_fstatfs, fd, &fs) && fs.f_type == DMA_BUF_MAGIC;
}

int iof_dmabuf_find(struct iof_memory *m, int fd, struct iof_dmabuf **out)
{
	struct iofi_file_id id;
	int rc = iofi_file_identify(fd, &id);

	if (rc)
		return rc;
	iof_lock_take(&m->dmabufs->lock);
	*out = find(m->dmabufs, id);
	iof_lock_drop(&m->dmabufs->lock);
	if (*out)
		return 0;
	return is_foreign(fd) ? -EOPNOTSUPP : -EINVAL;
}

uint64_t iof_dmabuf_size(const struct iof_dmabuf *d)
{
	return d->size;
}

uint64_t iof_dmabuf_imports(struct iof_memory *m, struct iof_dmabuf *d)
{
	uint64_t n = 0;

	iof_lock_take(&m->dmabufs->lock);
	for (struct iofi_backing *b = d->imports; b; b = b->next)
		n++;
	iof_lock_drop(&m->dmabufs->lock);
	return n;
}

void iof_dmabuf_set_revoked(struct iof_memory *m, struct iof_dmabuf *d, bool revoked)
{
	iof_lock_take(&m->dmabufs->lock);
	d->revoked = revoked;
	for (struct iofi_backing *b = d->imports; b; b = b->next)
		atomic_store_explicit(&b->revoked, true, memory_order_release);
	iof_lock_drop(&m->dmabufs->lock);
}

static bool fits(struct iof_range r, uint64_t size)
{
	return r.last < size && iof_range_length(r) >> IOF_PAGE_SHIFT < MOST_PAGES;
}

/* A dma-buf of the system's tells its size by its end. */
static int refuse_foreign(int fd, struct iof_range r)
{
	long size = iofi_os(SYS_lseek, fd, 0L, SEEK_END);

	return size < 0 || fits(r, (uint64_t)size) ? -EOPNOTSUPP : -EINVAL;
}

int iofi_dmabuf_import(struct iof_dmabufs *t, int fd, struct iof_range r, struct iofi_backing *b)
{
	struct iof_dmabuf *d;
	int rc = 1;

	iof_lock_take(&t->lock);
	d = find(t, iofi_file_id(b->file));
	if (!d)
		rc = 0;
	else if (!fits(r, d->size))
		rc = -EINVAL;
	else if (d->revoked)
		rc = -ENODEV;
	if (rc > 0) {
		b->dmabuf = d;
		b->next = d->imports;
		d->imports = b;
	}
	iof_lock_drop(&t->lock);
	return !rc && is_foreign(fd) ? refuse_foreign(fd, r) : rc;
}

void iofi_dmabuf_leave(struct iof_dmabufs *t, struct iofi_backing *b)
{
	struct iof_dmabuf *d = b->dmabuf;
	struct iofi_backing **at = &d->imports;

	iof_lock_take(&t->lock);
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	if (d->dropped && !d->imports)
		unlist(t, d);
	iof_lock_drop(&t->lock);
}
