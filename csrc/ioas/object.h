/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object table of a context: ids, types and reference counts (behaviour.md 1.2–1.5).
 *
 * An id is the lowest free number from 1. It is *reserved* first (lookups do not see it), then *published*, or given back by
 * abort. The count of users lives in the table's slot, not in the object: slots are never freed while the context lives, so a
 * lookup needs no lock: it raises a count that is not zero, and only then looks at what the slot holds. A count of 1 is the
 * table's own; removing an object takes the count from 1 to 0 in one step, which is what makes a busy object EBUSY and a
 * removed one ENOENT to everybody at once.
 *
 * An IOAS has a *gate* beside: the lock that covers its list of page tables (ioas.h). The commands that come all the time, from several threads, are no users; each
 * reads the gate, which counts it on a line of its thread's. Removing such an object marks it as leaving, looks at the gate's readers, and either takes it or takes the mark
 * back; whoever looks it up meanwhile waits for the outcome. So a running call makes it EBUSY like any user. A gate stays with its slot, as users do.
 *
 * Two dangerous words: a *reserved* id has no object yet; a *user* is a reference that makes DESTROY say EBUSY, also the short one that a running
 * call holds (R1.5.2).
 *
 * Locks: get and put need none. reserve, publish, abort and remove are under the context's control lock. Whoever needs that lock as well as a
 * DEVICE or a HWPT takes the lock first (iof_object_remove_wait() says why).
 */
#ifndef IOF_IOAS_OBJECT_H
#define IOF_IOAS_OBJECT_H

#include <stdatomic.h>

#include "util/alloc.h"
#include "util/brlock.h"

enum iof_object_type {
	IOF_OBJECT_ANY = 0,
	IOF_OBJECT_DEVICE = 1,
	IOF_OBJECT_HWPT = 2, /* paging */
	IOF_OBJECT_NESTED = 3,
	IOF_OBJECT_IOAS = 4,
	IOF_OBJECT_ACCESS = 5,
	IOF_OBJECT_FAULT = 6,
	IOF_OBJECT_VIOMMU = 7,
	IOF_OBJECT_VDEVICE = 8,
	IOF_OBJECT_VEVENTQ = 9,
	IOF_OBJECT_HW_QUEUE = 10,
	IOF_OBJECT_FOREIGN = 11, /* an embedder's */
	IOF_OBJECT_TYPES
};

struct iof_object;

#define IOF_OBJECT_LEAVING UINT32_C(0x80000000)

struct iof_slot {
	_Atomic uint32_t users; /* 0: free or reserved; IOF_OBJECT_LEAVING | 1 while it is found out whether calls run */
	_Atomic uint16_t type;
	uint16_t reserved; /* the id is taken, published or not */
	struct iof_object *_Atomic object;
	struct iof_brlock *_Atomic gate; /* of ids that an IOAS has had; freed with the table */
};

/* Embedded first in every object. */
struct iof_object {
	struct iof_slot *slot;
	uint32_t id;
	enum iof_object_type type;
};

#define IOF_OBJECT_CHUNKS 26 /* chunk k holds 64 << k slots */

struct iof_objects {
	struct iof_alloc *alloc;
	struct iof_slot *_Atomic chunk[IOF_OBJECT_CHUNKS];
	uint32_t lowest; /* every id below is taken */
	uint32_t taken; /* ids reserved or published, tombstones too */
	uint32_t tombstones;
};

void iof_objects_init(struct iof_objects *t, struct iof_alloc *a);
void iof_objects_fini(struct iof_objects *t);

/* Takes the lowest free id for `o`. 0, -ENOMEM, -EBUSY (2^31-1 ids). */
int iof_object_reserve(struct iof_objects *t, struct iof_object *o, enum iof_object_type type);
void iof_object_publish(struct iof_object *o); /* users = 1 */
void iof_object_abort(struct iof_objects *t, struct iof_object *o); /* gives a reserved id back */

/* The object with one more user; NULL: absent, unpublished or of another type. */
struct iof_object *iof_object_get(struct iof_objects *t, uint32_t id, enum iof_object_type type);

static inline struct iof_brlock *iof_object_gate(const struct iof_object *o)
{
	return atomic_load_explicit(&o->slot->gate, memory_order_relaxed);
}

/* The IOAS, its gate read. -ENOENT: absent, unpublished or of another type; -EAGAIN with nowait: somebody changes it. Ended by iof_object_leave() in the same thread. */
int iof_object_enter(struct iof_objects *t, uint32_t id, bool nowait, struct iof_object **out);

static inline void iof_object_leave(struct iof_object *o)
{
	iof_brlock_read_drop(iof_object_gate(o));
}

/* For a long call, between two steps: lets through whoever waits to change the object. The caller stays a user meanwhile. */
void iof_object_give_way(struct iof_object *o);

static inline void iof_object_ref(struct iof_object *o)
{
	atomic_fetch_add_explicit(&o->slot->users, 1, memory_order_relaxed);
}

static inline void iof_object_put(struct iof_object *o)
{
	atomic_fetch_sub_explicit(&o->slot->users, 1, memory_order_release);
}

/* Without running calls. */
static inline uint32_t iof_object_users(const struct iof_object *o)
{
	return atomic_load_explicit(&o->slot->users, memory_order_acquire) & ~IOF_OBJECT_LEAVING;
}

/* Takes a published object out of the table, its id free again. -EBUSY: someone else uses it. The object itself is the caller's now. */
int iof_object_remove(struct iof_objects *t, struct iof_object *o);
/*
 * The same for teardown: waits for the short users of running calls, so that it cannot fail. The caller has dropped all long ones. It waits under the
 * control lock: hence nobody may wait for that lock while being a short user of an object that is torn down so (DEVICE, HWPT).
 */
void iof_object_remove_wait(struct iof_objects *t, struct iof_object *o);

/* As remove_wait, but the id stays taken for good: a tombstone (R1.3.5). */
void iof_object_bury(struct iof_objects *t, struct iof_object *o);

/* The published object with the lowest id >= `from`; NULL: none. No reference is taken: control lock only. */
struct iof_object *iof_object_next(struct iof_objects *t, uint32_t from);

#endif
