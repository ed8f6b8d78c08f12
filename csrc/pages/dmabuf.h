/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine dma-bufs: memory that a device of the engine's lends out (behaviour.md 4.8).
 *
 * The memory is a sealed memfd, so its descriptor can be passed on, duplicated and mapped like a dma-buf's; an import
 * recognises it by its inode, whatever the descriptor's number and process. The exporter can *revoke* it: every import
 * made so far is then dead for good, and new ones are refused until the exporter un-revokes. Any change of mind, also
 * the one back, kills the imports there are (R4.8.3).
 *
 * Here imports are only marked. Taking them out of page tables is the floor above's, which knows where they are shown.
 *
 * One lock for the list and everything in it; it comes after a container's.
 */
#ifndef IOF_PAGES_DMABUF_H
#define IOF_PAGES_DMABUF_H

#include "pages/pages.h"
#include "util/range.h"

struct iof_dmabuf;

int iof_dmabufs_create(struct iof_alloc *a, struct iof_dmabufs **out); /* -ENOMEM */
void iof_dmabufs_destroy(struct iof_dmabufs *t); /* none may be left; NULL is fine */

/* `size` bytes, rounded up to pages, zero. -EINVAL size 0; -ENOMEM, -EMFILE. */
int iof_dmabuf_make(struct iof_memory *m, uint64_t size, struct iof_dmabuf **out);
/* The exporter lets go. The memory lives on while it is imported, mapped or open somewhere. */
void iof_dmabuf_drop(struct iof_memory *m, struct iof_dmabuf *d);

/* A descriptor of this process, the caller's to close, close-on-exec. -EMFILE, -EFAULT out of reach. */
int iof_dmabuf_open(struct iof_dmabuf *d);
/* The dma-buf behind a descriptor: -EBADF; -EINVAL it is none; -EOPNOTSUPP it is one of the system's. */
int iof_dmabuf_find(struct iof_memory *m, int fd, struct iof_dmabuf **out);

uint64_t iof_dmabuf_size(const struct iof_dmabuf *d);
uint64_t iof_dmabuf_imports(struct iof_memory *m, struct iof_dmabuf *d); /* containers that have it, dead ones too */
/* Stores the flag, and marks every import revoked. The caller then unmaps them. */
void iof_dmabuf_set_revoked(struct iof_memory *m, struct iof_dmabuf *d, bool revoked);

struct iofi_backing;

/*
 * Is fd a dma-buf, and may r of it be imported? 1: `b` is now an import; 0: no dma-buf; -EINVAL, -ENODEV, -EOPNOTSUPP
 * as iof_pages_init_file().
 */
int iofi_dmabuf_import(struct iof_dmabufs *t, int fd, struct iof_range r, struct iofi_backing *b);
void iofi_dmabuf_leave(struct iof_dmabufs *t, struct iofi_backing *b);

#endif
