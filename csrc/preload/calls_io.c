/* SPDX-License-Identifier: Apache-2.0 */
/* ioctl, read, write, mmap, munmap: what a file can do. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "preload/calls.h"
#include "util/bits.h"

/* ---- ioctl ---- */

/* What the system does for any descriptor, before its file is asked. */
static bool is_general(unsigned long cmd)
{
	return cmd == FIOCLEX || cmd == FIONCLEX;
}

SHIM_EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	struct shim_file *f = shim_get(fd);
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!f)
		return real()->ioctl(fd, cmd, arg);
	cmd &= UINT32_MAX; /* the system call's own type; libc's is wider */
	if (__builtin_expect(f->ops->through || is_general(cmd), 0))
		rc = real()->ioctl(fd, cmd, arg);
	else
		rc = (int)shim_result(f->ops->ioctl ? f->ops->ioctl(f, cmd, (uintptr_t)arg) : -ENOTTY);
	shim_put(f);
	return rc;
}

/* ---- read and write ---- */

static int64_t do_read(struct shim_file *f, void *to, size_t n, int64_t offset)
{
	if ((atomic_load(&f->flags) & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	return f->ops->read ? f->ops->read(f, to, n, offset) : -EINVAL;
}

static int64_t do_write(struct shim_file *f, const void *from, size_t n, int64_t offset)
{
	if ((atomic_load(&f->flags) & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	return f->ops->write ? f->ops->write(f, from, n, offset) : -EINVAL;
}

/* Runs `ours` on a file of ours; what is not is for the next in line. */
#define ON_FILE(fd, ours, otherwise)                                                                                   \
	struct shim_file *f = shim_get(fd);                                                                            \
	ssize_t rc;                                                                                                    \
                                                                                                                       \
	if (__builtin_expect(!f, 1))                                                                                   \
		return otherwise;                                                                                      \
	rc = f->ops->through ? (otherwise) : (ssize_t)shim_result(ours);                                               \
	shim_put(f);                                                                                                   \
	return rc

SHIM_EXPORT ssize_t read(int fd, void *to, size_t n)
{
	ON_FILE(fd, do_read(f, to, n, -1), real()->read(fd, to, n));
}

SHIM_EXPORT ssize_t write(int fd, const void *from, size_t n)
{
	ON_FILE(fd, do_write(f, from, n, -1), real()->write(fd, from, n));
}

#define POSITIONED(at, call) ((at) < 0 ? -EINVAL : (call))

SHIM_EXPORT ssize_t pread(int fd, void *to, size_t n, off_t at)
{
	ON_FILE(fd, POSITIONED(at, do_read(f, to, n, at)), real()->pread(fd, to, n, at));
}

SHIM_EXPORT ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
	ON_FILE(fd, POSITIONED(at, do_read(f, to, n, at)), real()->pread64(fd, to, n, at));
}

SHIM_EXPORT ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
	ON_FILE(fd, POSITIONED(at, do_write(f, from, n, at)), real()->pwrite(fd, from, n, at));
}

SHIM_EXPORT ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
	ON_FILE(fd, POSITIONED(at, do_write(f, from, n, at)), real()->pwrite64(fd, from, n, at));
}

/* The fortified forms: a buffer that is too small is for libc to complain about. */
ssize_t __read_chk(int fd, void *to, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *to, size_t n, off_t at, size_t room);
ssize_t __pread64_chk(int fd, void *to, size_t n, off64_t at, size_t room);

SHIM_EXPORT ssize_t __read_chk(int fd, void *to, size_t n, size_t room)
{
	return n > room ? real()->__read_chk(fd, to, n, room) : read(fd, to, n);
}

SHIM_EXPORT ssize_t __pread_chk(int fd, void *to, size_t n, off_t at, size_t room)
{
	return n > room ? real()->__pread_chk(fd, to, n, at, room) : pread(fd, to, n, at);
}

SHIM_EXPORT ssize_t __pread64_chk(int fd, void *to, size_t n, off64_t at, size_t room)
{
	return n > room ? real()->__pread64_chk(fd, to, n, at, room) : pread64(fd, to, n, at);
}

/* ---- mmap ---- */

static bool has_mappings(void)
{
	struct shim_process *me = atomic_load_explicit(&shim_me, memory_order_acquire);

	return me && atomic_load_explicit(&me->mappings, memory_order_acquire) && !shim_is_guest();
}

/* Where the program wants it has to be free, with MAP_FIXED_NOREPLACE; that decides before the file does. */
static int reserve(void *want, size_t n, int flags)
{
	const int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) && (uintptr_t)want & IOF_PAGE_MASK)
		return -EINVAL;
	if (!(flags & MAP_FIXED_NOREPLACE))
		return 0;
	return real()->mmap(want, n, PROT_NONE, how, -1, 0) == MAP_FAILED ? -errno : 0;
}

static void unreserve(void *want, size_t n, int flags)
{
	if (flags & MAP_FIXED_NOREPLACE)
		real()->munmap(want, n);
}

/* The engine chooses where; a program that knows better gets it moved there. */
static int place(void **at, size_t n, void *want, int flags)
{
	void *moved;

	if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || *at == want)
		return 0;
	if (has_mappings())
		shim_mapping_cut(want, n);
	moved = mremap(*at, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, want);
	if (moved == MAP_FAILED)
		return -errno;
	*at = moved;
	return 0;
}

static int map_ours(struct shim_file *f, void *want, size_t n, int prot, int flags, uint64_t offset, void **at)
{
	int saved = errno, rc;

	if (!n || offset & IOF_PAGE_MASK || n + IOF_PAGE_MASK < n)
		return -EINVAL;
	n = (n + IOF_PAGE_MASK) & ~IOF_PAGE_MASK;
	rc = reserve(want, n, flags);
	if (rc)
		return rc;
	rc = f->ops->mmap ? f->ops->mmap(f, n, prot, flags, offset, at) : -ENODEV;
	if (rc) {
		unreserve(want, n, flags);
		return rc;
	}
	rc = place(at, n, want, flags);
	if (!rc)
		rc = shim_mapping_add(f, *at, n, offset);
	if (rc) {
		real()->munmap(*at, n);
		if (*at != want)
			unreserve(want, n, flags);
		f->ops->remap(f, offset, -1);
	}
	errno = saved;
	return rc;
}

static void *map(void *(*next)(void *, size_t, int, int, int, off_t), void *want, size_t n, int prot, int flags, int fd, off_t offset)
{
	struct shim_file *f = flags & MAP_ANONYMOUS ? NULL : shim_get(fd);
	void *at = MAP_FAILED;

	if (f && !f->ops->through) {
		if (shim_result(map_ours(f, want, n, prot, flags, (uint64_t)offset, &at)) < 0)
			at = MAP_FAILED;
	} else {
		at = next(want, n, prot, flags, fd, offset);
		if (flags & MAP_FIXED && at != MAP_FAILED && n && has_mappings())
			shim_mapping_cut(at, n);
	}
	if (f)
		shim_put(f);
	return at;
}

SHIM_EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	return map(real()->mmap, at, n, prot, flags, fd, offset);
}

SHIM_EXPORT void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t offset)
{
	return map(real()->mmap64, at, n, prot, flags, fd, offset);
}

/* What goes is taken off the books first: once the system has it back, another thread may get a new mapping of ours there. */
SHIM_EXPORT int munmap(void *at, size_t n)
{
	if (__builtin_expect(has_mappings(), 0) && n && !((uintptr_t)at & IOF_PAGE_MASK))
		shim_mapping_cut(at, (n + IOF_PAGE_MASK) & ~IOF_PAGE_MASK);
	return real()->munmap(at, n);
}
