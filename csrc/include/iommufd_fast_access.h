/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: accesses, using an IOAS without an IOMMU. The public C API, a part of its own.
 *
 * An access is what an emulated device has instead of an endpoint: it pins, reads and writes the memory of one IOAS
 * at a time, in this process. It has an id in its context, which no DESTROY can take away, keeps its IOAS busy while
 * attached, and keeps the context alive until iof_access_destroy().
 *
 * Whoever unmaps memory that is pinned waits for the pins to go, and says so by the call-back: `unmap` is called in
 * the thread that unmaps, with none of the engine's locks held, and must unpin everything that intersects [iova, iova
 * + length) before it returns (a pin that another thread is about to note down has to be waited for). Every access of
 * the IOAS is told, also one that has nothing pinned there. Before an attached access leaves its IOAS (replace,
 * detach, destroy), its own call-back is called with iova 0 and length 2^64-1. In the call-back only
 * iof_access_unpin() may be called on accesses. An access that does not let go makes the unmap fail with -EDEADLOCK
 * after 100 rounds.
 *
 * Accesses exist on engine handles only. Rules: behaviour.md chapter 7. Errors and threads as in iommufd_fast.h.
 */
#ifndef IOMMUFD_FAST_ACCESS_H
#define IOMMUFD_FAST_ACCESS_H

#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iof_access;

struct iof_access_config {
	size_t size; /* sizeof(struct iof_access_config) of the caller */
	bool needs_pin; /* may pin; its IOAS then has page alignment at least */
	void (*unmap)(void *data, uint64_t iova, uint64_t length); /* NULL: cannot pin either */
	void *data;
};

enum iof_access_rw_flag {
	IOF_ACCESS_READ = 0, /* from the IOAS to the buffer */
	IOF_ACCESS_WRITE = 1,
	IOF_ACCESS_SLOW = 4, /* not through this process's own addresses, as if the memory were another's */
};

/* A new access, attached nowhere. 0; -EINVAL size; -ENOMEM; -EOPNOTSUPP no handle of an engine's context. */
int iof_access_open(struct iof_handle *ctx, const struct iof_access_config *cfg, struct iof_access **out);

/*
 * Detaches, gives back pins that are left, frees. Waits for a call-back that another thread is in. Not in the
 * call-back.
 */
void iof_access_destroy(struct iof_access *a);

uint32_t iof_access_id(const struct iof_access *a);

/*
 * 0; -EINVAL attached already; -ENOENT; -EBUSY 65536 accesses are there, or it is leaving another IOAS; -EADDRINUSE a
 * mapping is not page aligned; -ENOMEM.
 */
int iof_access_attach(struct iof_access *a, uint32_t ioas_id);

/*
 * Moves to another IOAS, or stays where it is: 0; -ENOENT not attached or no such IOAS; else as attach, and nothing
 * changed. Pins of the old IOAS are gone afterwards.
 */
int iof_access_replace(struct iof_access *a, uint32_t ioas_id);

/* Nothing when not attached. */
void iof_access_detach(struct iof_access *a);

/*
 * Pins [iova, iova + length), all of it or nothing. `addresses` (may be NULL) gets the address of each page, as a
 * page table would have it: a virtual address of this process, or a synthetic one. The same range may be pinned again
 * and is then unpinned as often. 0; -EINVAL length 0, an access without needs_pin or call-back, memory that an unmap
 * waits for, or IOVAs that do not begin and end source pages; -EOVERFLOW; -ENOENT not attached, or not all mapped;
 * -EPERM not mapped for this; -EFAULT, -ENOMEM as a MAP with a page table.
 */
int iof_access_pin(struct iof_access *a, uint64_t iova, uint64_t length, bool write, uint64_t *addresses);

/* Gives one pin of exactly this range back. 0; -ENOENT there is none. */
int iof_access_unpin(struct iof_access *a, uint64_t iova, uint64_t length);

/*
 * Copies `length` bytes, of any alignment, without pinning; flags are enum iof_access_rw_flag. 0; -EINVAL length 0,
 * or memory that an unmap waits for; -EOVERFLOW; -ENOENT not attached, or a gap; -EPERM; -EFAULT. The part before an
 * error has been copied.
 */
int iof_access_rw(struct iof_access *a, uint64_t iova, void *buffer, uint64_t length, uint32_t flags);

#ifdef __cplusplus
}
#endif

#endif
