/* SPDX-License-Identifier: Apache-2.0 */
/* open and its family, fopen, opendir, closedir. */
#define _GNU_SOURCE
#include <fcntl.h>

#include "preload/calls.h"

#define MODE_OF(flags, mode)                                                                                           \
	do {                                                                                                           \
		if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                                         \
			va_list ap;                                                                                    \
			va_start(ap, flags);                                                                           \
			mode = va_arg(ap, mode_t);                                                                     \
			va_end(ap);                                                                                    \
		}                                                                                                      \
	} while (0)

#define OPEN_OR_ELSE(dir, path, flags, otherwise)                                                                      \
	int shim_rc = shim_open(dir, path, flags);                                                                     \
	return shim_rc == SHIM_NOT_OURS ? shim_fresh(otherwise) : (int)shim_result(shim_rc)

SHIM_EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	OPEN_OR_ELSE(AT_FDCWD, path, flags, real()->open(path, flags, mode));
}

SHIM_EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	OPEN_OR_ELSE(AT_FDCWD, path, flags, real()->open64(path, flags, mode));
}

SHIM_EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	OPEN_OR_ELSE(dir, path, flags, real()->openat(dir, path, flags, mode));
}

SHIM_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	OPEN_OR_ELSE(dir, path, flags, real()->openat64(dir, path, flags, mode));
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

SHIM_EXPORT int __open_2(const char *path, int flags)
{
	OPEN_OR_ELSE(AT_FDCWD, path, flags, real()->__open_2(path, flags));
}

SHIM_EXPORT int __open64_2(const char *path, int flags)
{
	OPEN_OR_ELSE(AT_FDCWD, path, flags, real()->__open64_2(path, flags));
}

SHIM_EXPORT int __openat_2(int dir, const char *path, int flags)
{
	OPEN_OR_ELSE(dir, path, flags, real()->__openat_2(dir, path, flags));
}

SHIM_EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	OPEN_OR_ELSE(dir, path, flags, real()->__openat64_2(dir, path, flags));
}

SHIM_EXPORT FILE *fopen(const char *path, const char *mode)
{
	FILE *f = shim_status_file(path, mode);

	return f ? f : real()->fopen(path, mode);
}

SHIM_EXPORT FILE *fopen64(const char *path, const char *mode)
{
	FILE *f = shim_status_file(path, mode);

	return f ? f : real()->fopen64(path, mode);
}

SHIM_EXPORT DIR *opendir(const char *path)
{
	DIR *d = shim_debugfs_dir(path);

	return d ? d : real()->opendir(path);
}

SHIM_EXPORT int closedir(DIR *d)
{
	struct shim_file *f = atomic_load_explicit(&shim_me, memory_order_relaxed) ? shim_take(dirfd(d)) : NULL;
	int rc = real()->closedir(d);

	if (f)
		shim_put(f);
	return rc;
}
