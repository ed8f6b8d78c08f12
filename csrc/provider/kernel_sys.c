/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of libc as the provider wants them: with negative errnos; and where sysfs says that devices are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "provider/kernel.h"

static int sys_open(void *data, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)data;
	return fd < 0 ? -errno : fd;
}

static int sys_close(void *data, int fd)
{
	(void)data;
	return close(fd) ? -errno : 0;
}

static int sys_ioctl(void *data, int fd, unsigned long cmd, void *arg)
{
	int rc = ioctl(fd, cmd, arg);

	(void)data;
	return rc < 0 ? -errno : rc;
}

static int64_t sys_pread(void *data, int fd, void *to, size_t n, int64_t offset)
{
	ssize_t got = offset < 0 ? read(fd, to, n) : pread(fd, to, n, offset);

	(void)data;
	return got < 0 ? -errno : got;
}

static int64_t sys_pwrite(void *data, int fd, const void *from, size_t n, int64_t offset)
{
	ssize_t put = offset < 0 ? write(fd, from, n) : pwrite(fd, from, n, offset);

	(void)data;
	return put < 0 ? -errno : put;
}

static int sys_mmap(void *data, int fd, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	void *p = offset > INT64_MAX ? MAP_FAILED : mmap(NULL, length, prot, flags, fd, (off_t)offset);

	(void)data;
	if (p == MAP_FAILED)
		return offset > INT64_MAX ? -EINVAL : -errno;
	*out = p;
	return 0;
}

static int sys_poll(void *data, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	(void)data;
	return poll(&p, 1, 0) < 0 ? -errno : p.revents;
}

/* ---- devices ---- */

#define VFIO_DEVICES "/dev/vfio/devices/"
#define PCI_DEVICES "/sys/bus/pci/devices/"

static int fits(int written, size_t n)
{
	return written < 0 || (size_t)written >= n ? -ENAMETOOLONG : 0;
}

/* The first entry of a folder whose name begins with `vfio`. */
static int find_in(const char *folder, char *path, size_t n)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	int rc = -ENXIO;

	if (!d)
		return -ENXIO;
	while (rc == -ENXIO && (e = readdir(d)))
		if (!strncmp(e->d_name, "vfio", 4))
			rc = fits(snprintf(path, n, VFIO_DEVICES "%s", e->d_name), n);
	closedir(d);
	return rc;
}

static int find_pci(const char *name, char *path, size_t n)
{
	char folder[PATH_MAX];
	int rc = fits(snprintf(folder, sizeof(folder), PCI_DEVICES "%s", name), sizeof(folder));

	if (!rc && access(folder, F_OK))
		rc = -ENODEV;
	if (!rc)
		rc = fits(snprintf(folder, sizeof(folder), PCI_DEVICES "%s/vfio-dev", name), sizeof(folder));
	return rc ? rc : find_in(folder, path, n);
}

static int sys_find(void *data, const char *name, char *path, size_t n)
{
	(void)data;
	if (strchr(name, '/'))
		return fits(snprintf(path, n, "%s", name), n);
	if (!strncmp(name, "vfio", 4))
		return fits(snprintf(path, n, VFIO_DEVICES "%s", name), n);
	return find_pci(name, path, n);
}

/* Of the character device behind a descriptor: …/device/iommu_group is a link whose last word is the number. */
static int sys_group(void *data, int fd)
{
	char link[128], target[PATH_MAX];
	struct stat st;
	ssize_t n;

	(void)data;
	if (fstat(fd, &st) || !S_ISCHR(st.st_mode))
		return -ENODATA;
	snprintf(link, sizeof(link), "/sys/dev/char/%u:%u/device/iommu_group", major(st.st_rdev), minor(st.st_rdev));
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return -ENODATA;
	target[n] = 0;
	return atoi(strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
}

const struct iof_sys iofi_sys_libc = {
	.open = sys_open,
	.close = sys_close,
	.ioctl = sys_ioctl,
	.pread = sys_pread,
	.pwrite = sys_pwrite,
	.mmap = sys_mmap,
	.poll = sys_poll,
	.find = sys_find,
	.group = sys_group,
};
