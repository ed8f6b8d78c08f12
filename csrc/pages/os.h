/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls of this folder: they leave errno alone, return -errno, and go around libc's functions, which may be
 * interposed. Private to this folder.
 */
#ifndef IOF_PAGES_OS_H
#define IOF_PAGES_OS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define iofi_os(...)                                                                                                   \
	({                                                                                                             \
		int iofi_saved = errno;                                                                                \
		long iofi_rc = syscall(__VA_ARGS__);                                                                   \
		iofi_rc = iofi_rc < 0 ? -errno : iofi_rc;                                                              \
		errno = iofi_saved;                                                                                    \
		iofi_rc;                                                                                               \
	})

static inline int iofi_os_open(const char *path, int flags)
{
	return (int)iofi_os(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
}

static inline ssize_t iofi_os_read(int fd, void *to, size_t n)
{
	ssize_t got;

	do
		got = iofi_os(SYS_read, fd, to, n);
	while (got == -EINTR);
	return got;
}

static inline void iofi_os_close(int fd)
{
	(void)iofi_os(SYS_close, fd);
}

static inline uint32_t iofi_os_pid(void)
{
	return (uint32_t)getpid();
}

#endif
