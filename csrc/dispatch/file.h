/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open files of the engine: the iommufd itself (a context), devices, and what commands open: fault queues, event
 * queues and more.
 *
 * A file has a *kind*, which is its table of operations; what a kind cannot do is NULL and answered as the kernel
 * does. A new kind is one such table and a function that fills `object`.
 *
 * The *number* is a real descriptor of the process, never 0, 1 or 2: an eventfd that the file owns. It is what BIND
 * and the out_…_fd fields name, what poll(2) may wait on, and it keeps its place in the process's table while the
 * file is open. Two of them are never equal, whatever the machine. A file is *made*, then *installed*: only then its
 * number finds it. In between the caller has time to fail (abort).
 *
 * Closing is iof_file_close(): release, number, references, memory, in this order. A file keeps its machine and,
 * where the kernel's does, its context (R1.1.5).
 *
 * Locks: the machine's lock covers the chains of its `files`. `lock` covers `dev` of a device file: BIND sets it,
 * close takes it away.
 */
#ifndef IOF_DISPATCH_FILE_H
#define IOF_DISPATCH_FILE_H

#include "ioas/context.h"
#include "ioas/device.h"

struct iof_file;

enum iof_file_kind {
	IOF_FILE_CONTEXT,
	IOF_FILE_DEVICE,
	IOF_FILE_FAULT,
	IOF_FILE_VEVENTQ,
	IOF_FILE_ACCESS,
	IOF_FILE_DMABUF,
	IOF_FILE_FOREIGN, /* an embedder's */
};

#define IOF_FILE_NO_NUMBER (-1)

struct iof_file_ops {
	enum iof_file_kind kind;
	/*
	 * At the caller's memory: bytes, or -errno. The position is always 0: these files cannot be sought in. NULL:
	 * -EINVAL.
	 */
	int64_t (*read)(struct iof_file *f, uint64_t to, size_t n);
	int64_t (*write)(struct iof_file *f, uint64_t from, size_t n);
	/* poll(2)'s bits that hold now. NULL: always ready, as a file without that operation is. */
	unsigned (*poll)(struct iof_file *f);
	/*
	 * The number is another one now, or -1: closing. Before this returns, who rings it has to know. NULL: nobody
	 * rings it.
	 */
	void (*renumber)(struct iof_file *f, int number);
	/* The last step of the file's life that may use it: lets go of `object`. No lock is held. */
	void (*release)(struct iof_file *f);
};

struct iof_file {
	const void *door; /* the provider floor's: a handle is a file whose first word says how to use it */
	const struct iof_file_ops *ops;
	struct iof_machine *machine; /* one reference */
	struct iof_context *ctx; /* one reference; NULL: a device file, or a file that keeps none */
	struct iof_file *next; /* machine lock: same bucket */
	int number; /* IOF_FILE_NO_NUMBER: nobody can name it */
	bool installed;
	void *at; /* the machine's host's name for it */
	void *object; /* the kind's own */
	struct iof_mdev *mdev; /* a device file's device */
	struct iof_device *dev; /* once bound */
	struct iof_lock lock;
};

/* Makes a file. ctx may be NULL. -ENOMEM, and -EMFILE, -ENFILE from the number. */
int iof_file_make(struct iof_machine *m, struct iof_context *ctx, const struct iof_file_ops *ops, struct iof_file **out);
void iof_file_install(struct iof_file *f); /* its number finds it from now on; cannot fail */
void iof_file_abort(struct iof_file *f); /* undoes make, without release */

int iof_file_open_context(struct iof_machine *m, struct iof_file **out); /* installed; iof_file_make()'s */
int iof_file_open_device(struct iof_machine *m, uint32_t index, struct iof_file **out); /* also -ENODEV */
/* The same without a number: for who binds it to a context by other means than BIND. */
int iof_file_open_unnamed_device(struct iof_machine *m, uint32_t index, struct iof_file **out);
int iof_file_open_dmabuf(struct iof_machine *m, uint64_t size, struct iof_file **out); /* also -EINVAL size 0 */
void iof_file_close(struct iof_file *f); /* not under any lock */

/*
 * The installed file with this number; NULL. It stays what it is as long as nobody closes it: that is the caller's to
 * know.
 */
struct iof_file *iof_file_find(struct iof_machine *m, int number);
/* The context behind a number, with one reference: -EBADF nothing is open there; -EBADFD it is another kind of file. */
int iof_file_context(struct iof_machine *m, int number, struct iof_context **out);

/*
 * The file goes by another descriptor from now on: a duplicate of its number, made by the caller. The old number is
 * the caller's to close. For a program whose dup2() or close() took the number away while a duplicate lives.
 */
void iof_file_renumber(struct iof_file *f, int number);

#endif
