/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that containers keep open, and where this process sees them.
 *
 * The kernel's containers hold a reference on the file. A process can hold one only by a descriptor, so a file is a
 * duplicate of the caller's descriptor: close-on-exec, with a high number, opened again for writing where that is
 * allowed and the caller's was not. One descriptor serves all containers of one file (device, inode) in one process,
 * and it is closed with the last.
 *
 * It is a descriptor of the process that mapped. With an allocator shared over fork() other processes meet the same
 * record: they use their inherited copy of the descriptor, or open /proc/PID/fd/N anew. Either is taken only if it is
 * the same inode, so that a process that closed what it does not know does no harm. If neither is possible, the file is
 * out of this process's reach (-EFAULT). A child's inherited copies stay open until it ends or execs.
 *
 * A *window* is a mapping of the file in one process. Containers that are pinned there share it, so n containers of one
 * file need one mapping; the device address of a file page in va mode is an address inside it. What a process cannot
 * give back because the last user was another process (a descriptor, a window) is kept in the list, and given back when
 * its own process comes by next, or forgotten when that process is gone.
 *
 * One lock, taken after a container's.
 */
#ifndef IOF_PAGES_FILES_H
#define IOF_PAGES_FILES_H

#include "util/alloc.h"
#include "util/range.h"

struct iof_files; /* a machine's list */

struct iofi_file;
struct iofi_window;

struct iofi_file_id {
	uint32_t device; /* major << 20 | minor, as in maps.h */
	uint64_t inode;
};

/* A child right after fork(): what has its pid in the list is a dead process's. */
void iofi_files_forked(struct iof_files *t);

int iof_files_create(struct iof_alloc *a, struct iof_files **out); /* -ENOMEM */
void iof_files_destroy(struct iof_files *t); /* closes and unmaps what this process has; NULL is fine */

/* What a descriptor is of. -EBADF (O_PATH too: it is no open file). */
int iofi_file_identify(int fd, struct iofi_file_id *out);

/* One reference on the file behind fd. -EBADF, -EMFILE, -ENOMEM. */
int iofi_file_get(struct iof_files *t, int fd, struct iofi_file **out);
void iofi_file_put(struct iof_files *t, struct iofi_file *f);
struct iofi_file_id iofi_file_id(const struct iofi_file *f);
int iofi_file_open(struct iofi_file *f); /* a descriptor for the caller, close-on-exec. -EFAULT out of reach, -EMFILE */

static inline bool iofi_same_file(struct iofi_file_id a, struct iofi_file_id b)
{
	return a.device == b.device && a.inode == b.inode;
}

/*
 * May the bytes of r be pinned? -EINVAL not a file of shmem or hugetlbfs, or r goes past its size (R4.7.1); -EFAULT out
 * of reach.
 */
int iofi_file_check(struct iofi_file *f, struct iof_range r);

/*
 * A window that has at least r, writable if `write` and the file allows it. -ENOMEM no memory, no address space, an
 * injected failure; -E2BIG more than a process can ever map; -EFAULT out of reach.
 */
int iofi_window_get(struct iof_files *t, struct iofi_file *f, struct iof_range r, bool write, struct iofi_window **out);
void iofi_window_put(struct iof_files *t, struct iofi_window *w);
uint64_t iofi_window_address(const struct iofi_window *w, uint64_t offset); /* may lie below the window: modulo 2^64 */
bool iofi_window_is_here(const struct iofi_window *w); /* made by this process */

bool iofi_files_is_valid(struct iof_files *t); /* no users below zero, ids unlike in one process */
uint64_t iofi_files_count(struct iof_files *t); /* descriptors and windows this process has in it */

#endif
