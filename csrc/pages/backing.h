/* SPDX-License-Identifier: Apache-2.0 */
/* What a container of file pages has beyond the struct that all containers are. Private to this folder. */
#ifndef IOF_PAGES_BACKING_H
#define IOF_PAGES_BACKING_H

#include "pages/files.h"
#include "pages/pages.h"

struct iof_dmabuf;

struct iofi_backing {
	struct iof_account *account; /* who is charged; under the container's lock; NULL: nobody */
	struct iofi_file *file;
	uint64_t offset; /* of slot 0 */
	struct iofi_window *window; /* the container's lock: while held */
	struct iof_dmabuf *dmabuf; /* NULL: a file */
	struct iofi_backing *next; /* the dma-buf's list, under its lock */
	_Atomic bool revoked;
	bool marked; /* CHANGE_PROCESS is counting */
};

static inline bool iofi_is_user(const struct iof_pages *p)
{
	return p->kind == IOF_PAGES_USER;
}

static inline struct iof_account *iofi_pages_account(const struct iof_pages *p)
{
	return iofi_is_user(p) ? p->account : p->backing->account;
}

/* Slots first..last may be pinned, and have an address; -EINVAL, -EFAULT, -ENOMEM. */
int iofi_backing_pin(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last);
void iofi_backing_idle(struct iof_pages *p, struct iof_memory *m); /* no slot is held */
void iofi_backing_fini(struct iof_pages *p, struct iof_memory *m);
int iofi_backing_rw(struct iof_pages *p, struct iof_memory *m, uint64_t byte, void *buf, uint64_t n, bool write);

#endif
