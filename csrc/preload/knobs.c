/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's files that the tests read and write beside the device: fault injection, and the locked memory of a process.
 *
 * Fault injection exists on the mock machine only. Its switches under /sys/kernel/debug are accepted and mean nothing: every allocation, and every other step that
 * can fail, is subject to it. /proc/self/task/TID/fail-nth is a countdown for one thread: what is written is how many such steps of that thread
 * from now on end with a failure of the last; what is read is what is left of it.
 *
 * VmPin and VmLck of /proc/PID/status get what the machine's accounts say of the process added; everything else in the file is the system's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "preload/shim.h"
#include "util/guard.h"

#define DEBUGFS "/sys/kernel/debug"
#define COUNTDOWNS 64 /* threads of one process that ever asked for failures; a further one is refused */

/* ---- countdowns ---- */

/* This process's: threads are not shared. `thread` is 0 for a free place, and then never changes but in a forked child, which begins with none. */
static struct countdown {
	_Atomic uint32_t thread;
	_Atomic uint32_t left;
} countdowns[COUNTDOWNS];

static uint32_t this_thread(void)
{
	return iof_lock_self_shared();
}

static struct countdown *countdown_of(uint32_t thread, bool make)
{
	for (unsigned i = 0; i < COUNTDOWNS; i++) {
		uint32_t now = atomic_load_explicit(&countdowns[i].thread, memory_order_relaxed);

		if (!now && !make)
			return NULL;
		if (!now && atomic_compare_exchange_strong(&countdowns[i].thread, &now, thread))
			return &countdowns[i];
		if (now == thread)
			return &countdowns[i];
	}
	return NULL;
}

void shim_knobs_forget(void)
{
	for (unsigned i = 0; i < COUNTDOWNS; i++) {
		atomic_store(&countdowns[i].thread, 0);
		atomic_store(&countdowns[i].left, 0);
	}
}

bool shim_may_fail(struct iof_alloc *a)
{
	struct countdown *c = countdown_of(this_thread(), false);
	uint32_t left = c ? atomic_load(&c->left) : 0;

	(void)a;
	if (!left)
		return false;
	atomic_store(&c->left, left - 1);
	return left == 1;
}

static int64_t nth_read(struct shim_file *f, void *to, size_t n, int64_t offset)
{
	struct countdown *c = f->object;
	char text[16];
	int64_t length = snprintf(text, sizeof(text), "%u\n", (unsigned)atomic_load(&c->left)), from = offset < 0 ? 0 : offset;

	if (from >= length || !n)
		return 0;
	if (n > (size_t)(length - from))
		n = (size_t)(length - from);
	return iof_copy_out((uintptr_t)to, text + from, n) ? -EFAULT : (int64_t)n;
}

static int64_t nth_write(struct shim_file *f, const void *from, size_t n, int64_t offset)
{
	struct countdown *c = f->object;
	char text[16] = "", *end;
	unsigned long value;

	(void)offset;
	if (iof_copy_in(text, (uintptr_t)from, n < sizeof(text) - 1 ? n : sizeof(text) - 1))
		return -EFAULT;
	value = strtoul(text, &end, 0);
	if (end == text || (*end && *end != '\n') || value > UINT32_MAX)
		return -EINVAL;
	atomic_store(&c->left, (uint32_t)value);
	if (value)
		iof_alloc_fail_by(atomic_load(&shim_root)->alloc, shim_may_fail);
	return (int64_t)n;
}

static const struct shim_ops nth_ops = { .read = nth_read, .write = nth_write };

/* ---- switches ---- */

static int64_t switch_read(struct shim_file *f, void *to, size_t n, int64_t offset)
{
	(void)f;
	if (offset > 0 || !n)
		return 0;
	if (n > 2)
		n = 2;
	return iof_copy_out((uintptr_t)to, "0\n", n) ? -EFAULT : (int64_t)n;
}

static int64_t switch_write(struct shim_file *f, const void *from, size_t n, int64_t offset)
{
	(void)f, (void)from, (void)offset;
	return (int64_t)n;
}

static const struct shim_ops switch_ops = { .read = switch_read, .write = switch_write };

/* The folder: a real one, so that it can be read; what is opened relative to it is looked at here. */
static const struct shim_ops debugfs_ops = { .through = true };

static bool is_debugfs(int dir)
{
	struct shim_file *f = shim_get(dir);
	bool yes = f && f->ops == &debugfs_ops;

	if (f)
		shim_put(f);
	return yes;
}

static bool has_word(const char *text, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(text, words[i]))
			return true;
	return false;
}

/* "failslab/verbose" and its like, as the kernel lays them out. */
static bool is_switch(const char *path)
{
	static const char *const folders[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	static const char *const files[] = { "ignore-gfp-wait", "ignore-gfp-highmem", "verbose", "probability", "interval",
					     "times", "space", "task-filter", "cache-filter", "min-order" };
	const char *slash = strchr(path, '/');
	char folder[32];

	if (!slash || (size_t)(slash - path) >= sizeof(folder))
		return false;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = 0;
	return has_word(folder, folders, 3) && has_word(slash + 1, files, 10);
}

void *shim_debugfs_dir(const char *path)
{
	struct shim *s;
	struct shim_file *f, *stale = NULL;
	DIR *d;

	if (!path || strncmp(path, DEBUGFS, strlen(DEBUGFS)) || (path[strlen(DEBUGFS)] && strcmp(path + strlen(DEBUGFS), "/")) ||
	    shim_kind() != SHIM_MOCK || !(s = shim_start()))
		return NULL;
	d = real()->opendir(path);
	if (!d)
		d = real()->opendir("/sys"); /* any folder in which nothing begins with "fail" */
	if (!d)
		return NULL;
	f = shim_file_new(s, &debugfs_ops);
	if (f && shim_set(dirfd(d), f, &stale))
		shim_put(f);
	if (stale)
		shim_put(stale);
	return d;
}

/* ---- opening ---- */

/* The thread in "/proc/self/task/TID/fail-nth", 0: another path. */
static uint32_t nth_thread(const char *path)
{
	static const char front[] = "/proc/self/task/", own[] = "/proc/thread-self/fail-nth";
	char *end;
	unsigned long tid;

	if (!strcmp(path, own))
		return this_thread();
	if (strncmp(path, front, sizeof(front) - 1))
		return 0;
	tid = strtoul(path + sizeof(front) - 1, &end, 10);
	return strcmp(end, "/fail-nth") || tid > INT32_MAX ? 0 : (uint32_t)tid;
}

static int open_nth(uint32_t thread, int flags)
{
	struct countdown *c;
	struct shim_file *f;
	int fd;

	if (syscall(SYS_tgkill, getpid(), thread, 0))
		return -ENOENT;
	c = countdown_of(thread, true);
	if (!c)
		return -ENOMEM;
	fd = shim_new_descriptor(&nth_ops, flags, &f);
	if (fd >= 0)
		f->object = c;
	return fd;
}

int shim_knob_open(int dir, const char *path, int flags)
{
	struct shim_file *f;
	uint32_t thread;

	if (*path == '/') {
		if (strncmp(path, "/proc/", 6) && strncmp(path, DEBUGFS "/", sizeof(DEBUGFS)))
			return SHIM_NOT_OURS;
		thread = nth_thread(path);
		if (!thread && (strncmp(path, DEBUGFS "/", sizeof(DEBUGFS)) || !is_switch(path + sizeof(DEBUGFS))))
			return SHIM_NOT_OURS;
	} else {
		if (!shim_has(dir) || !is_debugfs(dir) || !is_switch(path))
			return SHIM_NOT_OURS;
		thread = 0;
	}
	if (shim_kind() != SHIM_MOCK || shim_is_guest())
		return SHIM_NOT_OURS;
	return thread ? open_nth(thread, flags) : shim_new_descriptor(&switch_ops, flags, &f);
}

/* ---- /proc/PID/status ---- */

#define STATUS_MOST 8192

static uint32_t status_pid(const char *path)
{
	char *end;
	unsigned long pid;

	if (strncmp(path, "/proc/", 6))
		return 0;
	if (!strcmp(path + 6, "self/status"))
		return (uint32_t)getpid();
	if (path[6] < '1' || path[6] > '9')
		return 0;
	pid = strtoul(path + 6, &end, 10);
	return strcmp(end, "/status") || pid > INT32_MAX ? 0 : (uint32_t)pid;
}

static size_t read_all(const char *path, char *to, size_t room)
{
	long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC), got;
	size_t n = 0;

	while (fd >= 0 && n < room && (got = syscall(SYS_read, (int)fd, to + n, room - n)) > 0)
		n += (size_t)got;
	if (fd >= 0)
		(void)syscall(SYS_close, (int)fd);
	return n;
}

/* One line of the file: its number gets `pages` added, and the layout stays. */
static int write_line(FILE *to, const char *line, size_t n, const char *name, int64_t pages)
{
	size_t length = strlen(name);
	char *end;
	uint64_t kib;

	if (n <= length || strncmp(line, name, length))
		return fwrite(line, 1, n, to) == n ? 0 : -EIO;
	kib = strtoull(line + length, &end, 10) + ((uint64_t)pages << (IOF_PAGE_SHIFT - 10));
	return fprintf(to, "%s\t%8llu kB\n", name, (unsigned long long)kib) < 0 ? -EIO : 0;
}

static int write_status(FILE *to, const char *text, size_t n, int64_t pinned, uint64_t locked)
{
	for (const char *line = text, *end; line < text + n; line = end) {
		bool pin = !strncmp(line, "VmPin:", 6);

		end = memchr(line, '\n', (size_t)(text + n - line));
		end = end ? end + 1 : text + n;
		if (write_line(to, line, (size_t)(end - line), pin ? "VmPin:" : "VmLck:", pin ? pinned : (int64_t)locked))
			return -EIO;
	}
	return 0;
}

void *shim_status_file(const char *path, const char *mode)
{
	struct shim *s = atomic_load_explicit(&shim_root, memory_order_acquire);
	uint32_t pid = s && path && mode && *mode == 'r' && !strchr(mode, '+') ? status_pid(path) : 0;
	char text[STATUS_MOST];
	int64_t pinned;
	uint64_t locked;
	size_t n;
	int fd;
	FILE *to;

	if (!pid)
		return NULL;
	iof_machine_process_pages(s->machine, pid, &pinned, &locked);
	n = pinned || locked ? read_all(path, text, sizeof(text)) : 0;
	fd = n ? memfd_create("status", MFD_CLOEXEC) : -1;
	if (fd < 0)
		return NULL;
	to = fdopen(fd, "r+");
	if (!to) {
		real()->close(fd);
		return NULL;
	}
	if (write_status(to, text, n, pinned, locked) || fflush(to)) {
		fclose(to);
		return NULL;
	}
	rewind(to);
	if (!strchr(mode, 'e'))
		real()->fcntl(fd, F_SETFD, 0);
	return to;
}
