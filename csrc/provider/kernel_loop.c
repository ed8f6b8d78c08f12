/* SPDX-License-Identifier: Apache-2.0 */
/* An engine in the kernel's place: the system calls of the kernel provider, answered by files of a machine in this process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/file.h"
#include "provider/kernel.h"

#define DEVICES "/dev/vfio/devices/"

static int number_after(const char *text, const char *prefix, uint32_t *out)
{
	size_t n = strlen(prefix);
	char *end;

	if (strncmp(text, prefix, n) || text[n] < '0' || text[n] > '9')
		return -ENOENT;
	*out = (uint32_t)strtoul(text + n, &end, 10);
	return *end ? -ENOENT : 0;
}

static int loop_open(void *data, const char *path)
{
	struct iof_handle *h;
	uint32_t index;
	int rc;

	if (!strcmp(path, "/dev/iommu"))
		rc = iof_engine_open((struct iof_machine *)data, &h);
	else if (number_after(path, DEVICES "vfio", &index))
		rc = -ENOENT;
	else
		rc = iof_engine_open_device((struct iof_machine *)data, index, &h);
	return rc ? rc : iof_fileno(h);
}

static struct iof_handle *handle_of(void *data, int fd)
{
	struct iof_handle *h;

	return iof_file_handle((struct iof_machine *)data, fd, &h) ? NULL : h;
}

static int loop_close(void *data, int fd)
{
	struct iof_handle *h = handle_of(data, fd);

	if (h)
		iof_close(h);
	return h ? 0 : -EBADF;
}

static int loop_ioctl(void *data, int fd, unsigned long cmd, void *arg)
{
	struct iof_handle *h = handle_of(data, fd);

	return h ? iof_ioctl(h, cmd, arg) : -EBADF;
}

static int64_t loop_pread(void *data, int fd, void *to, size_t n, int64_t offset)
{
	struct iof_handle *h = handle_of(data, fd);

	if (!h)
		return -EBADF;
	return offset < 0 ? iof_read(h, to, n) : iof_pread(h, to, n, (uint64_t)offset);
}

static int64_t loop_pwrite(void *data, int fd, const void *from, size_t n, int64_t offset)
{
	struct iof_handle *h = handle_of(data, fd);

	if (!h)
		return -EBADF;
	return offset < 0 ? iof_write(h, from, n) : iof_pwrite(h, from, n, (uint64_t)offset);
}

static int loop_mmap(void *data, int fd, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	struct iof_handle *h = handle_of(data, fd);

	return h ? iof_mmap(h, length, prot, flags, offset, out) : -EBADF;
}

static int loop_poll(void *data, int fd)
{
	struct iof_handle *h = handle_of(data, fd);

	return h ? (int)iof_poll(h) : -EBADF;
}

static int loop_find(void *data, const char *name, char *path, size_t n)
{
	uint32_t index;
	int written;

	(void)data;
	if (strchr(name, '/'))
		written = snprintf(path, n, "%s", name);
	else if (number_after(name, "vfio", &index))
		return -ENODEV;
	else
		written = snprintf(path, n, DEVICES "%s", name);
	return (size_t)written < n ? 0 : -ENAMETOOLONG;
}

static int loop_group(void *data, int fd)
{
	struct iof_machine_device d;
	struct iof_file *f = iof_file_find((struct iof_machine *)data, fd);

	if (!f || f->ops->kind != IOF_FILE_DEVICE)
		return -ENODATA;
	return iof_machine_device_at((struct iof_machine *)data, f->mdev->index, &d) ? -ENODATA : (int)d.group;
}

void iof_sys_over_engine(struct iof_machine *m, struct iof_sys *out)
{
	*out = (struct iof_sys){
		.data = m,
		.open = loop_open,
		.close = loop_close,
		.ioctl = loop_ioctl,
		.pread = loop_pread,
		.pwrite = loop_pwrite,
		.mmap = loop_mmap,
		.poll = loop_poll,
		.find = loop_find,
		.group = loop_group,
	};
}
