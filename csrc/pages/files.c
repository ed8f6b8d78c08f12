/* SPDX-License-Identifier: Apache-2.0 */
/* The list of open files; see files.h. Everything is under the one lock, mapping and opening included. */
#define _GNU_SOURCE
#include "pages/files.h"

#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "pages/os.h"
#include "pages/process.h"
#include "util/bits.h"
#include "util/lock.h"

#define BIG (UINT64_C(1) << 30)
#define LARGE (UINT64_C(2) << 20)
#define REACHABLE (UINT64_C(1) << 47) /* more is never mapped */

struct iofi_window {
	struct iofi_window *next;
	struct iofi_file *file;
	struct iofi_process owner;
	struct iof_range at; /* offsets */
	uint64_t address; /* of at.start */
	uint64_t users;
	bool writable;
};

struct iofi_file {
	struct iofi_file *next;
	struct iofi_file_id id;
	struct iofi_process owner; /* of fd */
	int fd;
	uint64_t users; /* containers */
	struct iofi_window *windows;
};

struct iof_files {
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iofi_file *first;
};

/* ---- descriptors ---- */

static int stat_of(int fd, struct stat *st)
{
	int saved = errno, rc = fstat(fd, st) ? -errno : 0;

	errno = saved;
	return rc;
}

int iofi_file_identify(int fd, struct iofi_file_id *out)
{
	long flags = iofi_os(SYS_fcntl, fd, F_GETFL);
	struct stat st;
	int rc;

	if (flags < 0 || flags & O_PATH)
		return -EBADF;
	rc = stat_of(fd, &st);
	if (!rc)
		*out = (struct iofi_file_id){ (uint32_t)(major(st.st_dev) << 20 | minor(st.st_dev)), st.st_ino };
	return rc;
}

static bool is_file(int fd, struct iofi_file_id id)
{
	struct iofi_file_id now;

	return !iofi_file_identify(fd, &now) && iofi_same_file(now, id);
}

static bool is_for_both(int fd)
{
	return (iofi_os(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* The same file opened again. pid 0: this process. */
static int reopen(uint32_t pid, int fd, int how)
{
	char path[48];

	if (pid)
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", pid, fd);
	else
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return iofi_os_open(path, how | O_NONBLOCK);
}

/* A duplicate in the upper quarter of the numbers this process may use, or anywhere. */
static int dup_high(int fd)
{
	uint64_t limit[2] = { 256, 256 };
	long rc;

	(void)iofi_os(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, limit);
	if (limit[0] > 65536)
		limit[0] = 65536;
	rc = iofi_os(SYS_fcntl, fd, F_DUPFD_CLOEXEC, (long)(limit[0] - limit[0] / 4));
	if (rc == -EINVAL || rc == -EMFILE)
		rc = iofi_os(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3L);
	return (int)rc;
}

/* Our own descriptor for the caller's file: for reading and writing if at all possible. */
static int keep(int fd, struct iofi_file_id id)
{
	struct stat st;
	int again = -1, kept;

	if (!is_for_both(fd) && !stat_of(fd, &st) && S_ISREG(st.st_mode))
		again = reopen(0, fd, O_RDWR);
	if (again >= 0 && is_file(again, id)) {
		kept = dup_high(again);
	} else {
		kept = dup_high(fd);
	}
	if (again >= 0)
		iofi_os_close(again);
	return kept;
}

/* A descriptor of this process for the file; *opened: to be closed again. -EFAULT. */
static int reach(const struct iofi_file *f, bool *opened)
{
	int fd;

	*opened = false;
	if (is_file(f->fd, f->id))
		return f->fd;
	if (iofi_process_is_self(&f->owner) || !iofi_process_lives(&f->owner))
		return -EFAULT;
	fd = reopen(f->owner.pid, f->fd, O_RDWR);
	if (fd < 0)
		fd = reopen(f->owner.pid, f->fd, O_RDONLY);
	if (fd < 0)
		return -EFAULT;
	*opened = true;
	if (is_file(fd, f->id))
		return fd;
	iofi_os_close(fd);
	return -EFAULT;
}

/* ---- the list ---- */

int iof_files_create(struct iof_alloc *a, struct iof_files **out)
{
	struct iof_files *t = iof_mem_zget(a, sizeof(*t), 16);

	if (!t)
		return -ENOMEM;
	t->alloc = a;
	iof_lock_init(&t->lock, a->shared);
	*out = t;
	return 0;
}

void iofi_files_forked(struct iof_files *t)
{
	uint32_t mine = iofi_os_pid();

	iof_lock_take(&t->lock);
	for (struct iofi_file *f = t->first; f; f = f->next) {
		iofi_process_bury(&f->owner, mine);
		for (struct iofi_window *w = f->windows; w; w = w->next)
			iofi_process_bury(&w->owner, mine);
	}
	iof_lock_drop(&t->lock);
}

static void window_free(struct iof_files *t, struct iofi_window *w)
{
	if (iofi_process_is_self(&w->owner))
		(void)iofi_os(SYS_munmap, w->address, iof_range_length(w->at));
	iof_mem_put(t->alloc, w, sizeof(*w));
}

static void file_free(struct iof_files *t, struct iofi_file *f)
{
	if (iofi_process_is_self(&f->owner) && is_file(f->fd, f->id))
		iofi_os_close(f->fd);
	iof_mem_put(t->alloc, f, sizeof(*f));
}

void iof_files_destroy(struct iof_files *t)
{
	struct iofi_window *w;
	struct iofi_file *f;

	if (!t)
		return;
	while ((f = t->first)) {
		t->first = f->next;
		while ((w = f->windows)) {
			f->windows = w->next;
			window_free(t, w);
		}
		file_free(t, f);
	}
	iof_mem_put(t->alloc, t, sizeof(*t));
}

/* Can what nobody uses any more be given back, or forgotten, from here? */
static bool is_ours_to_free(const struct iofi_process *owner)
{
	return iofi_process_is_self(owner) || !iofi_process_lives(owner);
}

/* A window without users stays for the next one, until a larger one takes its place or the file has no users. */
static void reap_windows(struct iof_files *t, struct iofi_file *f)
{
	struct iofi_window **at = &f->windows, *w;

	while ((w = *at)) {
		if (w->users || !is_ours_to_free(&w->owner)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		window_free(t, w);
	}
}

/* Everybody who comes by clears away what is theirs and nobody's. */
static void reap(struct iof_files *t)
{
	struct iofi_file **at = &t->first, *f;

	while ((f = *at)) {
		if (!f->users)
			reap_windows(t, f);
		if (f->users || f->windows || !is_ours_to_free(&f->owner)) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		file_free(t, f);
	}
}

static struct iofi_file *file_find(struct iof_files *t, struct iofi_file_id id)
{
	struct iofi_file *f = t->first;

	while (f && (!iofi_same_file(f->id, id) || !iofi_process_is_self(&f->owner)))
		f = f->next;
	return f;
}

static int file_add(struct iof_files *t, int fd, struct iofi_file_id id, struct iofi_file **out)
{
	struct iofi_file *f = iof_mem_zget(t->alloc, sizeof(*f), 16);

	if (!f)
		return -ENOMEM;
	f->id = id;
	f->fd = keep(fd, id);
	if (f->fd < 0) {
		int rc = f->fd;

		iof_mem_put(t->alloc, f, sizeof(*f));
		return rc;
	}
	iofi_process_self(&f->owner);
	f->next = t->first;
	t->first = f;
	*out = f;
	return 0;
}

/* The descriptor we kept may have been closed by somebody, or be for reading only where this one is for both. */
static int file_renew(struct iofi_file *f, int fd)
{
	bool good = is_file(f->fd, f->id);
	int better;

	if (good && (is_for_both(f->fd) || !is_for_both(fd)))
		return 0;
	better = keep(fd, f->id);
	if (better < 0)
		return better;
	if (good)
		iofi_os_close(f->fd);
	f->fd = better;
	return 0;
}

int iofi_file_get(struct iof_files *t, int fd, struct iofi_file **out)
{
	struct iofi_file_id id;
	int rc = iofi_file_identify(fd, &id);

	if (rc)
		return rc;
	iof_lock_take(&t->lock);
	reap(t);
	*out = file_find(t, id);
	rc = *out ? file_renew(*out, fd) : file_add(t, fd, id, out);
	if (!rc)
		(*out)->users++;
	iof_lock_drop(&t->lock);
	return rc;
}

void iofi_file_put(struct iof_files *t, struct iofi_file *f)
{
	iof_lock_take(&t->lock);
	f->users--;
	reap(t);
	iof_lock_drop(&t->lock);
}

struct iofi_file_id iofi_file_id(const struct iofi_file *f)
{
	return f->id;
}

int iofi_file_open(struct iofi_file *f)
{
	bool opened;
	int fd = reach(f, &opened);

	return fd < 0 || opened ? fd : (int)iofi_os(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3L);
}

/* ---- sizes ---- */

static int memory_file(int fd, struct stat *st)
{
	struct statfs fs;

	if (iofi_os(SYS_fstatfs, fd, &fs) || (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC) ||
	    stat_of(fd, st) || !S_ISREG(st->st_mode))
		return -EINVAL;
	return 0;
}

int iofi_file_check(struct iofi_file *f, struct iof_range r)
{
	bool opened;
	struct stat st;
	int fd = reach(f, &opened), rc;

	if (fd < 0)
		return fd;
	rc = memory_file(fd, &st);
	if (!rc && (st.st_size <= 0 || r.last >= (uint64_t)st.st_size))
		rc = -EINVAL;
	if (opened)
		iofi_os_close(fd);
	return rc;
}

/* ---- windows ---- */

static struct iofi_window *window_find(struct iofi_file *f, struct iof_range r, bool write)
{
	struct iofi_window *w = f->windows;

	while (w && (!iofi_process_is_self(&w->owner) || !iof_range_contains(w->at, r) || (write && !w->writable)))
		w = w->next;
	return w;
}

/* The whole file when that can be, so that the next container finds it there. Huge pages of hugetlbfs stay whole. */
static struct iof_range window_range(int fd, struct iof_range r, uint64_t *unit)
{
	struct stat st = { 0 };

	*unit = IOF_PAGE_SIZE;
	if (!stat_of(fd, &st) && (uint64_t)st.st_size < REACHABLE && r.last < REACHABLE) {
		r.start = 0;
		if (r.last < (uint64_t)st.st_size)
			r.last = (uint64_t)st.st_size - 1;
	}
	if (st.st_blksize > (long)IOF_PAGE_SIZE && iof_is_pow2((uint64_t)st.st_blksize))
		*unit = (uint64_t)st.st_blksize;
	return (struct iof_range){ iof_align_down(r.start, *unit), r.last | (*unit - 1) };
}

/*
 * Address and offset agree modulo 1 GiB in large windows and modulo 2 MiB in others, because IOVAs are chosen by the
 * offset, and large leaves need all three to agree. So a larger place is reserved first.
 */
static int window_place(struct iofi_window *w, int fd, uint64_t unit, int prot)
{
	uint64_t n = iof_range_length(w->at), align = n >= BIG ? BIG : unit > LARGE ? unit : LARGE, pad;
	long rc = iofi_os(SYS_mmap, NULL, n + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
	uint64_t place;

	if (rc < 0 && rc > -4096)
		return -ENOMEM;
	place = (uint64_t)rc;
	pad = (w->at.start - place) & (align - 1);
	rc = iofi_os(SYS_mmap, place + pad, n, prot, MAP_SHARED | MAP_FIXED, fd, w->at.start);
	if (rc < 0 && rc > -4096) {
		(void)iofi_os(SYS_munmap, place, n + align);
		return (int)rc;
	}
	if (pad)
		(void)iofi_os(SYS_munmap, place, pad);
	(void)iofi_os(SYS_munmap, place + pad + n, align - pad);
	w->address = place + pad;
	return 0;
}

/* Sealed against writing, or kept for reading only: then a window for reading is the best there is. */
static int window_map(struct iofi_window *w, int fd, uint64_t unit)
{
	int rc = window_place(w, fd, unit, PROT_READ | PROT_WRITE);

	w->writable = !rc;
	if (rc == -EACCES || rc == -EPERM)
		rc = window_place(w, fd, unit, PROT_READ);
	return rc == -ENOMEM ? rc : rc ? -EFAULT : 0;
}

static int window_make(struct iof_files *t, struct iofi_file *f, struct iof_range r, struct iofi_window **out)
{
	struct iofi_window *w = iof_mem_zget(t->alloc, sizeof(*w), 16);
	uint64_t unit;
	bool opened;
	int fd, rc;

	if (!w)
		return -ENOMEM;
	reap_windows(t, f);
	fd = reach(f, &opened);
	rc = fd < 0 ? fd : 0;
	if (!rc) {
		w->file = f;
		w->at = window_range(fd, r, &unit);
		rc = iof_range_span(w->at) >= REACHABLE ? -E2BIG : window_map(w, fd, unit);
		if (opened)
			iofi_os_close(fd);
	}
	if (rc) {
		iof_mem_put(t->alloc, w, sizeof(*w));
		return rc;
	}
	iofi_process_self(&w->owner);
	w->next = f->windows;
	f->windows = w;
	*out = w;
	return 0;
}

int iofi_window_get(struct iof_files *t, struct iofi_file *f, struct iof_range r, bool write, struct iofi_window **out)
{
	int rc = 0;

	iof_lock_take(&t->lock);
	*out = window_find(f, r, write);
	if (!*out && write)
		*out = window_find(f, r, false); /* made writable if it could be */
	if (!*out)
		rc = window_make(t, f, r, out);
	if (rc)
		*out = NULL;
	else
		(*out)->users++;
	iof_lock_drop(&t->lock);
	return rc;
}

void iofi_window_put(struct iof_files *t, struct iofi_window *w)
{
	iof_lock_take(&t->lock);
	w->users--;
	iof_lock_drop(&t->lock);
}

uint64_t iofi_window_address(const struct iofi_window *w, uint64_t offset)
{
	return w->address + (offset - w->at.start);
}

bool iofi_window_is_here(const struct iofi_window *w)
{
	return iofi_process_is_self(&w->owner);
}

/* ---- for tests ---- */

uint64_t iofi_files_count(struct iof_files *t)
{
	uint64_t n = 0;

	iof_lock_take(&t->lock);
	for (struct iofi_file *f = t->first; f; f = f->next) {
		n += iofi_process_is_self(&f->owner);
		for (struct iofi_window *w = f->windows; w; w = w->next)
			n += iofi_process_is_self(&w->owner);
	}
	iof_lock_drop(&t->lock);
	return n;
}

static bool file_is_valid(const struct iofi_file *f)
{
	for (const struct iofi_window *w = f->windows; w; w = w->next)
		if (w->file != f || w->users > UINT64_MAX / 2 || w->at.start > w->at.last)
			return false;
	for (const struct iofi_file *o = f->next; o; o = o->next)
		if (f->owner.pid && iofi_same_file(o->id, f->id) && o->owner.pid == f->owner.pid &&
		    o->owner.since == f->owner.since)
			return false;
	return f->users <= UINT64_MAX / 2;
}

bool iofi_files_is_valid(struct iof_files *t)
{
	bool ok = true;

	iof_lock_take(&t->lock);
	for (struct iofi_file *f = t->first; ok && f; f = f->next)
		ok = file_is_valid(f);
	iof_lock_drop(&t->lock);
	return ok;
}
