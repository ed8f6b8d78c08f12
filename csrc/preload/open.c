/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths are ours, and what opening them gives. */
#define _GNU_SOURCE /* O_PATH */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "preload/shim.h"

#define DEVICE_PATH "/dev/vfio/devices/vfio"
#define CREATION (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)

/*
 * A descriptor whose number was closed behind our back (by a function that the shim does not know) leaves a stale place. That file's end is then left to the
 * end of the process: we may be under one of the engine's locks here.
 */
int shim_new_descriptor(const struct shim_ops *ops, int flags, struct shim_file **out)
{
	struct shim *s = shim_start();
	struct shim_file *f = s ? shim_file_new(s, ops) : NULL, *stale;
	int fd, rc;

	if (!f)
		return -ENOMEM;
	fd = shim_placeholder(flags & O_CLOEXEC);
	rc = fd < 0 ? fd : shim_set(fd, f, &stale);
	if (!rc) {
		atomic_store(&f->flags, (uint32_t)(flags & ~CREATION));
		*out = f;
		return fd;
	}
	if (fd >= 0)
		(void)syscall(SYS_close, fd);
	atomic_store(&f->refs, 1);
	shim_put(f);
	return rc;
}

/* The index in /dev/vfio/devices/vfioN, or -1. */
static int64_t device_index(const char *path)
{
	char *end;
	unsigned long n;

	if (strncmp(path, DEVICE_PATH, strlen(DEVICE_PATH)))
		return -1;
	path += strlen(DEVICE_PATH);
	if (*path < '0' || *path > '9' || (*path == '0' && path[1]))
		return -1;
	n = strtoul(path, &end, 10);
	return *end || n >= UINT32_MAX ? -1 : (int64_t)n;
}

static int open_handle(struct shim *s, int64_t device, int flags)
{
	struct iof_handle *h;
	struct shim_file *f;
	int rc = device < 0 ? iof_engine_open(s->machine, &h) : iof_engine_open_device(s->machine, (uint32_t)device, &h), fd;

	if (rc)
		return rc;
	fd = iof_fileno(h);
	f = shim_get(fd);
	if (f) {
		atomic_store(&f->flags, (uint32_t)(flags & ~CREATION));
		shim_put(f);
	}
	if (!(flags & O_CLOEXEC))
		(void)real()->fcntl(fd, F_SETFD, 0);
	return fd;
}

int shim_open(int dir, const char *path, int flags)
{
	struct shim *s;
	int64_t device = -1;

	if (!path)
		return SHIM_NOT_OURS;
	if (strcmp(path, "/dev/iommu")) {
		if (strncmp(path, "/dev/vfio/", 10) || (device = device_index(path)) < 0)
			return shim_knob_open(dir, path, flags);
		if (shim_kind() == SHIM_MOCK)
			return SHIM_NOT_OURS;
	}
	if (flags & O_PATH || shim_is_guest())
		return SHIM_NOT_OURS;
	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	s = shim_start();
	if (!s)
		return -ENOMEM;
	shim_bury();
	if (device >= 0 && device >= iof_machine_device_count(s->machine))
		return SHIM_NOT_OURS;
	return open_handle(s, device, flags);
}
