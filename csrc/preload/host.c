/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's files as the program's descriptors, and the mock's.
 *
 * The engine asks its host for a number when it opens a file: it gets a placeholder and an open file of the shim (`at`), which has no engine file in it
 * until that is installed. When the last reference of the open file goes, the engine's file is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "preload/shim.h"

static struct shim *root(void)
{
	return atomic_load_explicit(&shim_root, memory_order_acquire);
}

/* ---- what the engine's files do ---- */

static bool is_mock_cmd(unsigned long cmd)
{
	unsigned nr = cmd & 0xff;

	return nr >= MOCK_FIRST_NR && nr <= MOCK_LAST_NR;
}

/* A dead process may still have what a BIND asks for. */
static int engine_ioctl(struct shim_file *f, unsigned long cmd, uint64_t arg)
{
	if (cmd == IOF_CMD_DEVICE_BIND_IOMMUFD)
		shim_bury();
	return iof_ioctl(f->handle, cmd, (void *)(uintptr_t)arg);
}

static int context_ioctl(struct shim_file *f, unsigned long cmd, uint64_t arg)
{
	if (__builtin_expect(is_mock_cmd(cmd), 0) && root()->kind == SHIM_MOCK)
		return mock_ioctl(&root()->mock, f->handle, cmd, arg);
	return iof_ioctl(f->handle, cmd, (void *)(uintptr_t)arg);
}

static int64_t engine_read(struct shim_file *f, void *to, size_t n, int64_t offset)
{
	return offset < 0 ? iof_read(f->handle, to, n) : iof_pread(f->handle, to, n, (uint64_t)offset);
}

static int64_t engine_write(struct shim_file *f, const void *from, size_t n, int64_t offset)
{
	return offset < 0 ? iof_write(f->handle, from, n) : iof_pwrite(f->handle, from, n, (uint64_t)offset);
}

static int engine_mmap(struct shim_file *f, size_t n, int prot, int flags, uint64_t offset, void **out)
{
	return iof_mmap(f->handle, n, prot, flags, offset, out);
}

static void engine_remap(struct shim_file *f, uint64_t offset, int by)
{
	iof_mmap_count(f->handle, offset, by);
}

static unsigned engine_poll(struct shim_file *f)
{
	return iof_poll(f->handle);
}

static void engine_release(struct shim_file *f)
{
	if (f->handle)
		iof_close(f->handle);
}

#define ENGINE_OPS                                                                                                     \
	.read = engine_read, .write = engine_write, .mmap = engine_mmap, .remap = engine_remap, .poll = engine_poll,   \
	.release = engine_release

const struct shim_ops shim_engine_ops = { .ioctl = engine_ioctl, ENGINE_OPS };
static const struct shim_ops context_ops = { .ioctl = context_ioctl, ENGINE_OPS };
const struct shim_ops shim_dmabuf_ops = { .through = true, .release = engine_release };

/* ---- what the engine asks ---- */

static int host_open(void **at)
{
	struct shim_file *f;
	int fd = shim_new_descriptor(&shim_engine_ops, O_RDWR | O_CLOEXEC, &f);

	if (fd >= 0)
		*at = f;
	return fd;
}

static void host_close(void *at)
{
	struct shim_file *f = at;
	int fd = atomic_load(&f->hint);

	if (shim_take(fd) == f)
		shim_put(f);
	(void)real()->close(fd);
}

static void host_install(void *at, void *file)
{
	struct shim_file *f = at;
	enum iof_handle_kind kind;

	f->handle = iof_host_handle(file, &kind);
	if (kind == IOF_KIND_CONTEXT)
		f->ops = &context_ops;
	if (kind == IOF_KIND_MEMORY)
		f->ops = &shim_dmabuf_ops;
}

/*
 * The engine asks under a lock that closing a file takes too: so what is in the table now stays what it is until the engine is done, and no reference is needed.
 */
static void *host_find(int number)
{
	struct shim_process *me = atomic_load_explicit(&shim_me, memory_order_acquire);
	struct shim_table *t = me ? atomic_load(&me->table) : NULL;
	struct shim_file *f;
	void *handle;

	do {
		f = t && (unsigned)number < t->n ? atomic_load(&t->at[number]) : NULL;
		handle = f && f->ops->release == engine_release ? f->handle : NULL; /* a handle is its file: iof_host_handle() */
	} while (f && atomic_load(&t->at[number]) != f);
	return handle;
}

/* Descriptors of one open file are one event: any will do. A process that has none cannot be waiting for it in a system call of its own: poll.c looks again. */
static void host_ring(void *at, bool readable)
{
	struct shim_file *f = at;
	struct shim_process *me = atomic_load_explicit(&shim_me, memory_order_acquire);
	struct shim_table *t = me ? atomic_load(&me->table) : NULL;
	int fd = atomic_load(&f->hint);

	if (t && (fd < 0 || (unsigned)fd >= t->n || atomic_load(&t->at[fd]) != f))
		for (fd = 0; (unsigned)fd < t->n && atomic_load(&t->at[fd]) != f; fd++)
			;
	if (!t || (unsigned)fd >= t->n)
		return;
	if (readable)
		iof_event_set(fd);
	else
		iof_event_clear(fd);
}

const struct iof_event_host shim_host = {
	.open = host_open,
	.close = host_close,
	.install = host_install,
	.find = host_find,
	.ring = host_ring,
};

/* ---- what the mock asks ---- */

static void object_release(struct shim_file *f)
{
	if (f->object_release)
		f->object_release(f->object);
}

const struct shim_ops shim_object_ops = { .release = object_release };

static int object_open(void *object, void (*release)(void *object))
{
	struct shim_file *f;
	int fd = shim_new_descriptor(&shim_object_ops, O_RDWR | O_CLOEXEC, &f);

	if (fd >= 0) {
		f->object = object;
		f->object_release = release;
	}
	return fd;
}

static void object_forget(int number)
{
	struct shim_file *f = shim_take(number);

	if (f) {
		f->object_release = NULL;
		shim_put(f);
	}
	(void)real()->close(number);
}

static void *object_get(int number, void (*release)(void *object), void **object)
{
	struct shim_file *f = shim_get(number);

	if (!f)
		return NULL;
	*object = f->object;
	if (f->ops == &shim_object_ops && f->object_release == release)
		return f;
	shim_put(f);
	return NULL;
}

static void object_put(void *file)
{
	shim_put(file);
}

const struct mock_files shim_mock_files = { .open = object_open, .forget = object_forget, .get = object_get, .put = object_put };
