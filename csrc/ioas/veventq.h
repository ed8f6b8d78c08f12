/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event queue of a vIOMMU: events of one type on their way to the program that plays the guest's IOMMU
 * (behaviour.md 8.5).
 *
 * A report takes the next sequence number whether or not its event finds room. What finds none is *lost*: a marker
 * with the number of the last lost event stands behind all stored ones, and goes when an event is stored again,
 * because the gap in the numbers then tells the same. So the marker is always the last entry, and a flag and a number
 * are all it needs.
 *
 * Users of the VEVENTQ object: the table, its open file. It is a user of its vIOMMU.
 *
 * Locks: the vIOMMU's lock covers the list of its queues, and is held while an event is put into one; `lock` covers
 * the queue. The reader takes only `lock`.
 */
#ifndef IOF_IOAS_VEVENTQ_H
#define IOF_IOAS_VEVENTQ_H

#include "dispatch/uapi.h"
#include "ioas/eventq.h"
#include "ioas/viommu.h"
#include "util/slab.h"

struct iof_vevent;

struct iof_veventq {
	struct iof_object object;
	struct iof_viommu *viommu; /* one user of it, once published */
	struct iof_veventq *next; /* of the vIOMMU */
	struct iof_alloc *alloc;
	uint32_t type, depth;
	struct iof_lock lock;
	struct iof_bell bell;
	struct iof_vevent *first, *last;
	uint32_t stored; /* events in the list, <= depth */
	uint32_t sequence; /* of the next report */
	bool lost; /* the marker is there */
	uint32_t lost_sequence;
	struct iof_slab slab; /* events with little data; others come from the allocator */
};

/*
 * Id reserved, not published and not yet found by reports. -EEXIST the vIOMMU has a queue of this type; -ENOMEM,
 * -EBUSY. The caller has a user of the vIOMMU. Control lock; so are the next three.
 */
int iof_veventq_create(struct iof_context *ctx, struct iof_viommu *v, uint32_t type, uint32_t depth,
		       struct iof_veventq **out);
void iof_veventq_abort(struct iof_context *ctx, struct iof_veventq *q); /* undoes create */
void iof_veventq_publish(struct iof_veventq *q); /* cannot fail */
/* It is out of the object table: forgets its events, leaves the vIOMMU, is freed. */
void iof_veventq_dispose(struct iof_veventq *q);

/*
 * An event of n bytes for the queue of `type`. 0: stored, or lost because the queue is full; -EOPNOTSUPP no such
 * queue; -ENOMEM lost for want of memory. Any thread, no lock of this floor held; the caller keeps the vIOMMU alive.
 */
int iof_veventq_report(struct iof_viommu *v, uint32_t type, const void *data, size_t n);

/* The file (R8.5.4): bytes done, or -EINVAL, -EFAULT. Never waits for an event. */
int64_t iof_veventq_read(struct iof_veventq *q, uint64_t at, size_t n);
bool iof_veventq_readable(struct iof_veventq *q);
void iof_veventq_set_bell(struct iof_veventq *q, int fd); /* the file's descriptor, from open to close (-1) */

struct iof_veventq_stats {
	uint32_t stored, depth, sequence; /* of the next report */
	bool lost;
};
void iof_veventq_stats(struct iof_veventq *q, struct iof_veventq_stats *out);
bool iof_veventq_is_valid(struct iof_veventq *q); /* for tests */

#endif
