/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim: what a foreign program does with /dev/iommu reaches an engine in its own process.
 *
 * The engine's memory is one arena, shared with every process that the program forks, and so is everything here but two pointers. It is made when the program
 * first opens something of ours; until then the shim only compares paths, and it never touches a descriptor that is not its own.
 *
 * An *open file* (struct shim_file) is what open(2) makes: descriptors of any of the processes refer to it, and its end comes when the last of them is closed. A
 * *descriptor* is a place in a process's table. Behind each stands a real descriptor, a placeholder, so that the number is taken, poll(2) and epoll
 * can wait on it, and close-on-exec and the like are the system's business. A *process* has its table, and the mappings of ours that it has.
 *
 * References of an open file: one per descriptor, per mapping and per running call. Its memory is never given back, only used again for another: so a
 * look-up needs no lock (shim_get()).
 *
 * A process that dies does not say so. Whoever opens, closes or binds next notices, and closes what the dead one left (table.c).
 *
 * Locks: `lock` covers the list of processes, their tables and mappings, and the free list; look-ups go without. It is not held while the engine is called, with
 * one exception: the engine's bell (host.c) is rung under the engine's locks, and takes none.
 */
#ifndef IOF_PRELOAD_SHIM_H
#define IOF_PRELOAD_SHIM_H

#include "pages/process.h"
#include "preload/mock.h"
#include "preload/real.h"
#include "util/arena.h"

struct shim_file;

/* What an open file can do. NULL: the system's answer for the placeholder, with `through`; else what a file without that operation says. */
struct shim_ops {
	bool through; /* the placeholder is the real thing: only its life is ours */
	int (*ioctl)(struct shim_file *f, unsigned long cmd, uint64_t arg);
	int64_t (*read)(struct shim_file *f, void *to, size_t n, int64_t offset); /* offset -1: read(2) */
	int64_t (*write)(struct shim_file *f, const void *from, size_t n, int64_t offset);
	int (*mmap)(struct shim_file *f, size_t n, int prot, int flags, uint64_t offset, void **out);
	void (*remap)(struct shim_file *f, uint64_t offset, int by); /* pieces of such a mapping come (1) and go (-1) */
	unsigned (*poll)(struct shim_file *f);
	void (*release)(struct shim_file *f); /* the last reference is gone */
};

struct shim_file {
	const struct shim_ops *ops;
	_Atomic uint32_t refs; /* 0: free */
	_Atomic uint32_t flags; /* what F_GETFL says */
	_Atomic int hint; /* a descriptor that it once had */
	union {
		struct iof_handle *handle;
		void *object;
	};
	void (*object_release)(void *object); /* of an object that is not the engine's */
	struct shim_file *next; /* free */
};

struct shim_table {
	uint32_t n;
	struct shim_table *older; /* look-ups may still read it */
	struct shim_file *_Atomic at[];
};

struct shim_mapping {
	struct shim_mapping *next;
	struct shim_file *file;
	uint64_t start, length, offset; /* offset: of the region that was mapped, not of this piece */
};

struct shim_process {
	struct shim_process *next;
	struct iofi_process parent; /* who forked it */
	struct iofi_process who; /* pid 0: it is not born yet, and as alive as its parent */
	struct shim_table *_Atomic table;
	struct shim_mapping *_Atomic mappings;
};

enum shim_machine { SHIM_MOCK, SHIM_INTEL, SHIM_AMD, SHIM_ARM, SHIM_RISCV }; /* after mock: numbers of enum iof_preset */

struct shim {
	struct iof_alloc *alloc;
	struct iof_machine *machine;
	enum shim_machine kind;
	struct mock mock;
	struct iof_lock lock;
	struct shim_process *processes;
	struct shim_file *free;
	_Atomic uint32_t n_processes;
};

/* This process's two pointers: NULL until something of ours was opened, here or before the fork. */
extern struct shim *_Atomic shim_root;
extern struct shim_process *_Atomic shim_me;

/* start.c: the engine, made if it is not there. NULL: no memory. */
struct shim *shim_start(void);
void shim_start_anew(void); /* in a forked child: another thread may have been inside shim_start() */
enum shim_machine shim_kind(void); /* as the environment asks */

/* ---- table.c ---- */

/* A new open file with one reference and no descriptor. NULL: no memory. */
struct shim_file *shim_file_new(struct shim *s, const struct shim_ops *ops);
void shim_ref(struct shim_file *f);
void shim_put(struct shim_file *f);
struct shim_file *shim_get_slow(struct shim_process *p, int fd);

/* The open file behind a descriptor, with one reference; NULL: not ours. */
static inline struct shim_file *shim_get(int fd)
{
	struct shim_process *me = atomic_load_explicit(&shim_me, memory_order_acquire);
	struct shim_table *t;

	if (__builtin_expect(!me, 1))
		return NULL;
	t = atomic_load_explicit(&me->table, memory_order_acquire);
	if (!t || (unsigned)fd >= t->n || !atomic_load_explicit(&t->at[fd], memory_order_relaxed))
		return NULL;
	return shim_get_slow(me, fd);
}

static inline bool shim_has(int fd)
{
	struct shim_process *me = atomic_load_explicit(&shim_me, memory_order_acquire);
	struct shim_table *t = me ? atomic_load_explicit(&me->table, memory_order_acquire) : NULL;

	return t && (unsigned)fd < t->n && atomic_load_explicit(&t->at[fd], memory_order_acquire);
}

/* Puts f, with one reference that becomes the table's, at descriptor fd; what was there is returned with its reference. -ENOMEM. */
int shim_set(int fd, struct shim_file *f, struct shim_file **old);
struct shim_file *shim_take(int fd); /* out of the table; NULL */
int shim_first(int from, int last); /* the lowest descriptor of ours in [from, last], or -1 */
bool shim_is_guest(void); /* this is a vfork()ed child, in its parent's memory: hands off the table */
void shim_bury(void); /* closes what dead processes left */

int shim_placeholder(bool cloexec); /* a new eventfd that is never 0, 1 or 2; -errno */

struct shim_process *shim_fork_begin(void);
void shim_fork_child(struct shim_process *child);
void shim_fork_parent(struct shim_process *child, pid_t pid);

/* mappings */
int shim_mapping_add(struct shim_file *f, void *at, size_t n, uint64_t offset);
void shim_mapping_cut(void *at, size_t n); /* [at, at + n) is not ours any more */

/* ---- host.c ---- */

extern const struct iof_event_host shim_host;
extern const struct mock_files shim_mock_files;
extern const struct shim_ops shim_engine_ops, shim_dmabuf_ops, shim_object_ops;

/* ---- open.c, knobs.c: each gives a descriptor, -errno, or SHIM_NOT_OURS ---- */

#define SHIM_NOT_OURS INT32_MIN
int shim_open(int dir, const char *path, int flags);
int shim_knob_open(int dir, const char *path, int flags);
int shim_new_descriptor(const struct shim_ops *ops, int flags, struct shim_file **out); /* the file has the table's reference */
void *shim_debugfs_dir(const char *path); /* opendir(); NULL: not ours, or no such folder */
bool shim_may_fail(struct iof_alloc *a); /* the injector's question, per thread */
void shim_knobs_forget(void); /* a forked child begins without countdowns */
void *shim_status_file(const char *path, const char *mode); /* fopen(); NULL: not ours */

/* A result of ours as libc's functions give it. */
static inline int64_t shim_result(int64_t rc)
{
	extern int *__errno_location(void) __attribute__((const));

	if (rc >= 0)
		return rc;
	*__errno_location() = (int)-rc;
	return -1;
}

#endif
