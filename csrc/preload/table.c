/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, open files, processes: see shim.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/shim.h"

#define TABLE_FIRST 64u

static struct shim *root(void)
{
	return atomic_load_explicit(&shim_root, memory_order_acquire);
}

static struct shim_process *me(void)
{
	return atomic_load_explicit(&shim_me, memory_order_acquire);
}

/* ---- open files ---- */

struct shim_file *shim_file_new(struct shim *s, const struct shim_ops *ops)
{
	struct shim_file *f;

	iof_lock_take(&s->lock);
	f = s->free;
	if (f)
		s->free = f->next;
	iof_lock_drop(&s->lock);
	if (!f)
		f = iof_mem_zget(s->alloc, sizeof(*f), IOF_CACHELINE);
	if (!f)
		return NULL;
	f->ops = ops;
	f->object = NULL;
	f->object_release = NULL;
	atomic_store(&f->flags, O_RDWR);
	atomic_store(&f->hint, -1);
	atomic_store(&f->refs, 1);
	return f;
}

void shim_ref(struct shim_file *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

static void free_file(struct shim *s, struct shim_file *f)
{
	iof_lock_take(&s->lock);
	f->next = s->free;
	s->free = f;
	iof_lock_drop(&s->lock);
}

void shim_put(struct shim_file *f)
{
	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (f->ops->release)
		f->ops->release(f);
	free_file(root(), f);
}

static bool count_up(struct shim_file *f)
{
	uint32_t n = atomic_load_explicit(&f->refs, memory_order_relaxed);

	while (n && !atomic_compare_exchange_weak_explicit(&f->refs, &n, n + 1, memory_order_acquire, memory_order_relaxed))
		;
	return n;
}

/* The file may go, and its memory become another file's, between reading the place and counting; and the table may be replaced: then look again. */
struct shim_file *shim_get_slow(struct shim_process *p, int fd)
{
	for (;;) {
		struct shim_table *t = atomic_load_explicit(&p->table, memory_order_acquire);
		struct shim_file *f = atomic_load_explicit(&t->at[fd], memory_order_acquire);

		if (!f)
			return NULL;
		if (!count_up(f))
			continue;
		if (atomic_load_explicit(&t->at[fd], memory_order_acquire) == f && atomic_load_explicit(&p->table, memory_order_relaxed) == t)
			return f;
		shim_put(f);
	}
}

/* ---- tables ---- */

static struct shim_table *table_new(struct shim *s, uint32_t n)
{
	struct shim_table *t = iof_mem_zget(s->alloc, sizeof(*t) + n * sizeof(*t->at), IOF_CACHELINE);

	if (t)
		t->n = n;
	return t;
}

static void table_free(struct shim *s, struct shim_table *t)
{
	while (t) {
		struct shim_table *older = t->older;

		iof_mem_put(s->alloc, t, sizeof(*t) + t->n * sizeof(*t->at));
		t = older;
	}
}

/* With room for fd. Under the lock. */
static struct shim_table *table_for(struct shim *s, struct shim_process *p, int fd)
{
	struct shim_table *t = atomic_load(&p->table), *larger;
	uint32_t n = t ? t->n : TABLE_FIRST;

	if (t && (unsigned)fd < t->n)
		return t;
	while (n <= (unsigned)fd)
		n *= 2;
	larger = table_new(s, n);
	if (!larger)
		return NULL;
	for (uint32_t i = 0; t && i < t->n; i++)
		atomic_store(&larger->at[i], atomic_load(&t->at[i]));
	larger->older = t;
	atomic_store_explicit(&p->table, larger, memory_order_release);
	return larger;
}

int shim_set(int fd, struct shim_file *f, struct shim_file **old)
{
	struct shim *s = root();
	struct shim_table *t;

	iof_lock_take(&s->lock);
	t = table_for(s, me(), fd);
	if (t) {
		*old = atomic_exchange(&t->at[fd], f);
		atomic_store(&f->hint, fd);
	}
	iof_lock_drop(&s->lock);
	return t ? 0 : -ENOMEM;
}

struct shim_file *shim_take(int fd)
{
	struct shim_file *f = NULL;
	struct shim *s = root();
	struct shim_table *t;

	if (!shim_has(fd))
		return NULL;
	iof_lock_take(&s->lock);
	t = atomic_load(&me()->table);
	f = atomic_exchange(&t->at[fd], NULL);
	iof_lock_drop(&s->lock);
	return f;
}

int shim_first(int from, int last)
{
	struct shim_process *p = me();
	struct shim_table *t = p ? atomic_load(&p->table) : NULL;

	for (int64_t fd = from < 0 ? 0 : from; t && fd <= last && fd < t->n; fd++)
		if (atomic_load(&t->at[fd]))
			return (int)fd;
	return -1;
}

int shim_placeholder(bool cloexec)
{
	int saved = errno, fd = (int)syscall(SYS_eventfd2, 0, EFD_NONBLOCK | (cloexec ? EFD_CLOEXEC : 0)), rc;

	if (fd >= 0 && fd < 3) {
		rc = (int)syscall(SYS_fcntl, fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 3);
		(void)syscall(SYS_close, fd);
		fd = rc;
	}
	rc = fd < 0 ? -errno : fd;
	errno = saved;
	return rc;
}

/* ---- mappings ---- */

static struct shim_mapping *mapping_new(struct shim *s, const struct shim_mapping *like)
{
	struct shim_mapping *m = iof_mem_get(s->alloc, sizeof(*m), 16);

	if (m)
		*m = *like;
	return m;
}

static void link_mapping(struct shim_process *p, struct shim_mapping *m)
{
	m->next = atomic_load(&p->mappings);
	atomic_store(&p->mappings, m);
}

int shim_mapping_add(struct shim_file *f, void *at, size_t n, uint64_t offset)
{
	struct shim *s = root();
	struct shim_mapping *m = mapping_new(s, &(struct shim_mapping){ .file = f, .start = (uintptr_t)at, .length = n,
									 .offset = offset });

	if (!m)
		return -ENOMEM;
	shim_ref(f);
	iof_lock_take(&s->lock);
	link_mapping(me(), m);
	iof_lock_drop(&s->lock);
	return 0;
}

/* Takes [start, last] out of m. What is left behind it, when something is also left in front, becomes `rest`; m->length 0: nothing is left. */
static bool cut(struct shim_mapping *m, uint64_t start, uint64_t last, struct shim_mapping *rest)
{
	uint64_t m_last = m->start + m->length - 1;
	bool front = start > m->start, back = last < m_last;

	*rest = *m;
	if (front)
		m->length = start - m->start;
	if (back) {
		rest->start = last + 1;
		rest->length = m_last - last;
	}
	if (back && !front) {
		m->start = rest->start;
		m->length = rest->length;
	}
	if (!front && !back)
		m->length = 0;
	return front && back;
}

/* One step under the lock: the file of a piece that changed its count, and by how much. A middle that cannot be noted for want of memory stays one piece. */
static struct shim_file *cut_one(struct shim *s, uint64_t start, uint64_t last, int *by, uint64_t *offset)
{
	struct shim_process *p = me();
	struct shim_mapping *m, *before = NULL, rest, *more;

	for (m = atomic_load(&p->mappings); m; before = m, m = m->next) {
		if (m->start > last || m->start + m->length - 1 < start)
			continue;
		*offset = m->offset;
		if (cut(m, start, last, &rest)) {
			more = mapping_new(s, &rest);
			if (!more)
				continue;
			link_mapping(p, more);
			*by = 1;
			shim_ref(m->file);
			return m->file;
		}
		if (!m->length) {
			struct shim_file *f = m->file;

			if (before)
				before->next = m->next;
			else
				atomic_store(&p->mappings, m->next);
			iof_mem_put(s->alloc, m, sizeof(*m));
			*by = -1;
			return f;
		}
	}
	return NULL;
}

void shim_mapping_cut(void *at, size_t n)
{
	struct shim *s = root();
	struct shim_file *f;
	uint64_t offset, start = (uintptr_t)at;
	int by;

	do {
		iof_lock_take(&s->lock);
		f = cut_one(s, start, start + n - 1, &by, &offset);
		iof_lock_drop(&s->lock);
		if (!f)
			break;
		f->ops->remap(f, offset, by);
		if (by < 0)
			shim_put(f);
	} while (true);
}

/* ---- processes ---- */

bool shim_is_guest(void)
{
	return me() && (uint32_t)syscall(SYS_getpid) != me()->who.pid;
}

static void unlink_process(struct shim *s, struct shim_process *p)
{
	struct shim_process **at = &s->processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	atomic_fetch_sub(&s->n_processes, 1);
}

/* It is out of the list: closes all it had. */
static void dissolve(struct shim *s, struct shim_process *p)
{
	struct shim_table *t = atomic_load(&p->table);
	struct shim_mapping *m;

	while ((m = atomic_load(&p->mappings))) {
		atomic_store(&p->mappings, m->next);
		m->file->ops->remap(m->file, m->offset, -1);
		shim_put(m->file);
		iof_mem_put(s->alloc, m, sizeof(*m));
	}
	for (uint32_t i = 0; t && i < t->n; i++) {
		struct shim_file *f = atomic_load(&t->at[i]);

		if (f)
			shim_put(f);
	}
	table_free(s, t);
	iof_mem_put(s->alloc, p, sizeof(*p));
}

/* A process that is not born yet is as alive as who forks it. */
static bool is_dead(const struct shim_process *p)
{
	return p != me() && !iofi_process_lives(p->who.pid ? &p->who : &p->parent);
}

static struct shim_process *take_dead(struct shim *s)
{
	struct shim_process *p;

	iof_lock_take(&s->lock);
	for (p = s->processes; p && !is_dead(p); p = p->next)
		;
	if (p)
		unlink_process(s, p);
	iof_lock_drop(&s->lock);
	return p;
}

void shim_bury(void)
{
	struct shim *s = root();
	struct shim_process *p;

	while (s && atomic_load_explicit(&s->n_processes, memory_order_relaxed) > 1 && (p = take_dead(s)))
		dissolve(s, p);
}

/* ---- fork ---- */

static bool copy_table(struct shim *s, struct shim_process *from, struct shim_process *to)
{
	struct shim_table *old = atomic_load(&from->table), *t;

	if (!old)
		return true;
	t = table_new(s, old->n);
	if (!t)
		return false;
	for (uint32_t i = 0; i < old->n; i++) {
		struct shim_file *f = atomic_load(&old->at[i]);

		if (f)
			shim_ref(f);
		atomic_store(&t->at[i], f);
	}
	atomic_store(&to->table, t);
	return true;
}

/* The engine is told by the caller, outside the lock. */
static void copy_mappings(struct shim *s, struct shim_process *from, struct shim_process *to)
{
	for (struct shim_mapping *m = atomic_load(&from->mappings); m; m = m->next) {
		struct shim_mapping *copy = mapping_new(s, m);

		if (!copy)
			continue;
		shim_ref(m->file);
		link_mapping(to, copy);
	}
}

static struct shim_process *copy_process(struct shim *s)
{
	struct shim_process *p = iof_mem_zget(s->alloc, sizeof(*p), 16);

	if (!p)
		return NULL;
	p->parent = me()->who;
	iof_lock_take(&s->lock);
	if (!copy_table(s, me(), p)) {
		iof_lock_drop(&s->lock);
		iof_mem_put(s->alloc, p, sizeof(*p));
		return NULL;
	}
	copy_mappings(s, me(), p);
	p->next = s->processes;
	s->processes = p;
	atomic_fetch_add(&s->n_processes, 1);
	iof_lock_drop(&s->lock);
	return p;
}

struct shim_process *shim_fork_begin(void)
{
	struct shim *s = root();
	struct shim_process *p;

	if (!s || shim_is_guest())
		return NULL;
	p = copy_process(s);
	for (struct shim_mapping *m = p ? atomic_load(&p->mappings) : NULL; m; m = m->next)
		m->file->ops->remap(m->file, m->offset, 1);
	return p;
}

/* Who forked us may have died, and been buried with what was kept for us. */
static bool is_kept(struct shim *s, const struct shim_process *child)
{
	struct shim_process *p = s->processes;

	while (p && p != child)
		p = p->next;
	return p;
}

void shim_fork_child(struct shim_process *child)
{
	struct shim *s = root();
	struct iofi_process who;

	if (!s)
		return;
	iofi_process_self(&who);
	iof_lock_take(&s->lock);
	if (child && is_kept(s, child))
		child->who = who;
	else
		child = NULL;
	iof_lock_drop(&s->lock);
	atomic_store(&shim_me, child);
}

void shim_fork_parent(struct shim_process *child, pid_t pid)
{
	struct shim *s = root();

	if (!child || pid >= 0)
		return;
	iof_lock_take(&s->lock);
	unlink_process(s, child);
	iof_lock_drop(&s->lock);
	dissolve(s, child);
}
