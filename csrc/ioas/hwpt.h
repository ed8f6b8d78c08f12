/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HWPT: one hardware page table (behaviour.md chapter 5).
 *
 * A *paging* one is fed by one IOAS. It is made by HWPT_ALLOC, or automatically by an attach to the IOAS; an automatic one goes with its
 * last attachment. It joins its IOAS when made, which replays every mapping into it, and leaves when destroyed. A *nested* one belongs to a guest: the engine
 * knows its parent and asks the driver for what stands in front of it (guest.h).
 *
 * Users (R1.4.3): the table's own, every attachment, every nested HWPT made directly on it, every vIOMMU.
 *
 * Locks: made and destroyed under the context's control lock; a paging one's page table is changed by whoever holds the IOAS's domains lock
 * and read by anyone inside `rsec`.
 */
#ifndef IOF_IOAS_HWPT_H
#define IOF_IOAS_HWPT_H

#include "ioas/ioas.h"

struct iof_fault;
struct iof_viommu;

/* HWPT_ALLOC's flags (behaviour.md 2.10). */
enum iof_hwpt_kind {
	IOF_HWPT_KIND_NEST_PARENT = 1,
	IOF_HWPT_KIND_DIRTY = 2,
	IOF_HWPT_KIND_FAULT = 4,
	IOF_HWPT_KIND_PASID = 8,
};

struct iof_hwpt {
	struct iof_object object; /* HWPT (paging) or NESTED */
	struct iof_context *ctx;
	struct iof_ioas *ioas; /* paging: one user of it; nested: the parent's */
	struct iof_iommu *iommu;
	struct iof_fault *fault; /* one user; NULL: faults are not handled */
	uint32_t kind; /* enum iof_hwpt_kind */
	bool automatic;
	uint32_t attached; /* control lock: endpoints attached; each is a user */
	/* nested */
	struct iof_hwpt *parent; /* one user of it, unless `viommu` holds it */
	struct iof_viommu *viommu; /* one user; NULL: made directly on the parent */
	void *priv; /* the driver's */
	/* paging */
	struct iof_pt *pt;
	struct iof_range aperture;
	struct iof_hwpt *next; /* control lock: the IOAS's list, in order of creation */
	uint32_t domain; /* IOTLB tag, unique on the machine */
	uint64_t msi_shown; /* control lock: doorbell pages that `pt` shows (msi.h) */
	uint32_t index; /* domains lock: place in ioas->domains */
	_Atomic bool tracking; /* dirty tracking is on */
	_Atomic bool used; /* some DMA went through: the IOTLB may hold entries */
	_Atomic bool used_nested; /* some with a guest's table in front: entries of two stages too */
	_Atomic bool gate; /* closed: nobody new comes into `rsec`, because a range is being replaced */
	struct iof_rsec rsec; /* walks and DMA through `pt`, by iofi_hwpt_enter() */
};

struct iof_hwpt_request {
	struct iof_mdev *dev;
	uint32_t flags; /* enum iof_hwpt_kind */
	const struct iof_user_data *data; /* NULL: none */
	bool automatic;
};

/* Makes a paging HWPT, id reserved, not yet in its IOAS: 5.1 steps 1–7. Control lock. */
int iof_hwpt_create(struct iof_ioas *ioas, const struct iof_hwpt_request *rq, struct iof_hwpt **out);
void iof_hwpt_abort(struct iof_hwpt *hwpt); /* undoes create */

/* Joins the IOAS (R3.8.1): -EINVAL alignment above PAGE, -EADDRINUSE, -EFAULT, -ENOMEM…; all rolled back. The caller publishes it
 * or discards it. */
int iof_hwpt_join(struct iof_hwpt *hwpt);
void iof_hwpt_discard(struct iof_hwpt *hwpt); /* undoes create and join, or the making of a nested one */

/* Nested, on a paging parent (5.2) or through a vIOMMU (5.3). The caller publishes it or discards it. Control lock. */
int iof_hwpt_create_nested(struct iof_hwpt *parent, const struct iof_hwpt_request *rq, struct iof_hwpt **out);
int iof_hwpt_create_on_viommu(struct iof_viommu *v, const struct iof_hwpt_request *rq, struct iof_hwpt **out);

/* They are out of the object table: leaves the IOAS (R3.8.2) and is freed. Control lock. */
void iof_hwpt_dispose(struct iof_hwpt *hwpt);
void iof_hwpt_dispose_nested(struct iof_hwpt *hwpt);

/* One more endpoint is attached, or one fewer; an automatic HWPT goes with its last (R6.6.3). Control lock. */
void iof_hwpt_get_user(struct iof_hwpt *hwpt);
void iof_hwpt_put_user(struct iof_hwpt *hwpt);

/* For fill.c: one run, of leaves of at most a PAGE while the IOAS's large pages are off (R3.9.1). unmap is quiet when it returns: nobody reads the old entries any more. */
int iofi_hwpt_map(struct iof_hwpt *hwpt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot);
void iofi_hwpt_unmap(struct iof_hwpt *hwpt, struct iof_range r);
struct iof_shown;
void iofi_hwpt_unmap_many(struct iof_hwpt *hwpt, const struct iof_shown *at, size_t n); /* those of them that are held */

/* Waits for readers of what was cleared in r, and for those who hit the IOTLB's copy of it. */
void iofi_hwpt_quiesce(struct iof_hwpt *hwpt, struct iof_range r);

/*
 * Into the read section of a page table. The section comes first and the gate is read then, so whoever closes the gate and waits for the readers has
 * none inside, and gets none before opening it.
 */
unsigned iofi_hwpt_enter_slow(struct iof_hwpt *hwpt, unsigned token);

static inline unsigned iofi_hwpt_enter(struct iof_hwpt *hwpt)
{
	unsigned token = iof_rsec_enter(&hwpt->rsec);

	return iof_likely(!atomic_load_explicit(&hwpt->gate, memory_order_acquire)) ? token : iofi_hwpt_enter_slow(hwpt, token);
}

/* Domains lock held for writing. Between the two nobody reads the page table, and it is changed as if in one step. */
void iofi_hwpt_shut(struct iof_hwpt *hwpt);
void iofi_hwpt_open(struct iof_hwpt *hwpt);

static inline bool iofi_hwpt_nested(const struct iof_hwpt *hwpt)
{
	return hwpt->object.type == IOF_OBJECT_NESTED;
}

#endif
