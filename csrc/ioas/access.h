/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The access: somebody in this process who uses an IOAS without an IOMMU (behaviour.md chapter 7). An emulated
 * device, or the engine itself for the memory of a HW queue (then it is *internal*).
 *
 * It pins pieces: the part of a pin that lies in one area is one hold on the area's container and one count on the
 * area. An area with counts cannot go: an unmap first *prevents* further use of it and tells every access, outside
 * all locks of the IOAS, until the counts are gone. A piece of an internal access also *locks* its area: then the
 * unmap is refused.
 *
 * Pins and copies run with the IOAS's use_lock held for reading, without the IOVA lock while they touch memory. An
 * unmap takes use_lock for writing, for a moment, where it has to wait for them: after it prevented an area, so that
 * no pin is half-way when it tells, and after it claimed an area, so that no copy is still in it when it returns.
 *
 * Users of the object: the table, the creator (so that no DESTROY succeeds), and each running unmap call-back. An
 * attached access is a user of its IOAS. One that is not internal holds its context open.
 *
 * Lock order: control lock, access lock, domains lock, use_lock, IOVA lock. The call-back runs under none of them; it
 * may call unpin on its own access, but not destroy, attach, replace or detach, and must not wait for the thread that
 * unmaps.
 */
#ifndef IOF_IOAS_ACCESS_H
#define IOF_IOAS_ACCESS_H

#include "ioas/ioas.h"
#include "ioas/pinlog.h"

#define IOF_ACCESS_MAX 65536 /* per IOAS (R7.2) */
#define IOF_ACCESS_ROUNDS 100 /* how often an unmap asks for the same area before it gives up (R3.7 step 4) */

struct iof_access {
	struct iof_object object;
	struct iof_context *ctx; /* one reference unless internal */
	bool needs_pin, internal;
	void (*unmap)(void *data, uint64_t iova, uint64_t length);
	void *data;
	uint32_t registration; /* `lock`: index in the IOAS's accesses */
	struct iof_lock lock;
	struct iof_ioas *ioas; /* `lock`: NULL also while a replace or detach runs the call-back */
	struct iof_ioas *ioas_unpin; /* `lock`: what pins are on; until the call-back returned */
	struct iof_pinlog pins; /* `lock` */
};

struct iof_access_options {
	bool needs_pin, internal;
	void (*unmap)(void *data, uint64_t iova, uint64_t length);
	void *data;
};

/*
 * Makes an access with its id (R7.1): -ENOMEM, -EBUSY no ids. Takes the control lock unless internal: then the caller
 * has it.
 */
int iof_access_make(struct iof_context *ctx, const struct iof_access_options *opt, struct iof_access **out);

/* Detaches and frees. An internal one with the control lock held. The context may go with another one. */
void iof_access_destroy(struct iof_access *a);

/* -EINVAL attached; -ENOENT; -EADDRINUSE; -EBUSY; -ENOMEM (R7.2). replace: -ENOENT also when not attached (R7.3) */
int iof_access_attach(struct iof_access *a, uint32_t ioas_id);
int iof_access_replace(struct iof_access *a, uint32_t ioas_id);
void iof_access_detach(struct iof_access *a);
int iofi_access_attach_ioas(struct iof_access *a, struct iof_ioas *ioas); /* attach for who has the IOAS already */

/*
 * Pins [iova, iova + length), all or nothing (R7.6): -EINVAL an access that cannot pin, length 0, prevented, not page
 * aligned in its container; -EOVERFLOW; -ENOENT not attached, a gap; -EPERM; what holding pages fails with; -ENOMEM.
 * addresses (may be NULL) gets one page address for each page.
 */
int iof_access_pin(struct iof_access *a, uint64_t iova, uint64_t length, bool write, uint64_t *addresses);
int iof_access_unpin(struct iof_access *a, uint64_t iova, uint64_t length); /* -ENOENT: there is no such pin */

/*
 * Copies between `buffer` and the IOAS (R7.4): -EINVAL, -EOVERFLOW, -ENOENT, -EPERM, -EFAULT; what was copied before
 * an error stays.
 */
int iof_access_rw(struct iof_access *a, uint64_t iova, void *buffer, uint64_t length, uint32_t flags);

enum { IOFI_ACCESS_WRITE = 1, IOFI_ACCESS_SLOW = 4 }; /* the public enum iof_access_rw_flag */

/* Tells every access that is not internal, ascending by registration, that an area goes. Under no lock. */
void iofi_access_notify(struct iof_ioas *ioas, struct iof_range r);
/* Gives back everything an access has pinned in `ioas`. Access lock. */
void iofi_access_unpin_all(struct iof_access *a, struct iof_ioas *ioas);

bool iofi_access_is_valid(const struct iof_access *a);

#endif
