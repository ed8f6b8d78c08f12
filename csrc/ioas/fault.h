/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fault queue: page requests of devices on their way to a program, and its answers on their way back
 * (behaviour.md 8.1).
 *
 * A device raises page requests in *groups*; the last request of a group carries LAST_PAGE, and the group is answered
 * as one. So a group is in one of three places: *partial* (its last page has not come), *queued* (to be read),
 * *outstanding* (read, its cookie handed out, not answered). Leaving the last two always means an answer to whoever
 * raised it; a partial group is nobody's to answer yet.
 *
 * Two dangerous words: *endpoint* names the attachment that the requests came through and is only ever compared;
 * *answer* is the raiser's function, called once per group without the queue's lock: it may raise the next request.
 * It must not wait for the context's control lock, which whoever drops or destroys holds. When it is called, the
 * group is neither queued nor outstanding any more.
 *
 * Users of the FAULT object: the table, its open file, every page table that it serves.
 *
 * Locks: `lock` covers everything here; no other lock is taken under it.
 */
#ifndef IOF_IOAS_FAULT_H
#define IOF_IOAS_FAULT_H

#include "dispatch/uapi.h"
#include "ioas/context.h"
#include "ioas/cookie.h"
#include "ioas/eventq.h"
#include "util/slab.h"

/* How a group ends: code is enum iof_fault_code. */
typedef void (*iof_fault_answer)(void *who, uint32_t pasid, uint32_t grpid, uint32_t code);

/* One page request. */
struct iof_fault_request {
	const void *endpoint; /* what iof_fault_drop() is told */
	iof_fault_answer answer; /* of the last page; NULL: nobody wants to know */
	void *who;
	uint32_t dev_id; /* the DEVICE's id */
	uint32_t flags; /* enum iof_fault_flag */
	uint32_t pasid, grpid;
	uint32_t perm; /* enum iof_fault_perm */
	uint64_t addr;
};

struct iof_fault_group;

struct iof_fault_list { /* singly linked, by group->next */
	struct iof_fault_group *first, *last;
};

#define IOF_FAULT_PARTIAL_BUCKETS 32

struct iof_fault {
	struct iof_object object;
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iof_bell bell;
	struct iof_fault_list queued; /* first in, first out */
	struct iof_cookies outstanding; /* cookie -> group */
	struct iof_fault_group *partial[IOF_FAULT_PARTIAL_BUCKETS]; /* by endpoint and group id */
	struct iof_slab groups, pages;
};

/* Id reserved, not published. -ENOMEM, -EBUSY. Control lock; so are abort and dispose. */
int iof_fault_create(struct iof_context *ctx, struct iof_fault **out);
void iof_fault_abort(struct iof_context *ctx, struct iof_fault *f); /* undoes create */
/* It is out of the object table: answers INVALID to all (R1.5.6), frees. */
void iof_fault_dispose(struct iof_fault *f);

/*
 * Takes one request: queues the group when it is the last page, keeps it for later else. -ENOMEM: not taken, and with
 * a last page the group's earlier pages are gone too; the caller answers for it (INVALID).
 */
int iof_fault_report(struct iof_fault *f, const struct iof_fault_request *rq);

/*
 * The attachment ends (R8.1.8): answers INVALID to its groups, queued and outstanding; their cookies are unknown from
 * now on, its partial groups forgotten. Whoever reports has to be out first: DMA faults are reported inside the
 * device's read section, and that is waited for before this.
 */
void iof_fault_drop(struct iof_fault *f, const void *endpoint);

/*
 * The file (R8.1.3, R8.1.4). `at` is the caller's memory. Bytes done, or -ESPIPE n is no multiple of the record,
 * -EINVAL, -EFAULT, -ENOMEM. Never waits for an entry.
 */
int64_t iof_fault_read(struct iof_fault *f, uint64_t at, size_t n);
int64_t iof_fault_write(struct iof_fault *f, uint64_t at, size_t n);
bool iof_fault_readable(struct iof_fault *f);
/* The file's descriptor, from open to close (-1). */
void iof_fault_set_bell(struct iof_fault *f, int fd);

struct iof_fault_stats {
	uint64_t queued, partial; /* groups */
	uint64_t outstanding; /* groups */
	uint64_t records; /* of the queued groups */
};
void iof_fault_stats(struct iof_fault *f, struct iof_fault_stats *out);
bool iof_fault_is_valid(struct iof_fault *f); /* for tests */

#endif
