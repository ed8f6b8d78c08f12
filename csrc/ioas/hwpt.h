/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paging HWPT: one hardware page table, fed by one IOAS (behaviour.md chapter 5).
 *
 * Made by HWPT_ALLOC, or automatically by an attach to the IOAS; an automatic one goes with its last attachment. It joins its IOAS when made, which replays
 * every mapping into it, and leaves when destroyed.
 *
 * Users (R1.4.3): the table, and every device attached. Locks: made and destroyed under the context's control lock; its page table is changed by whoever holds
 * the IOAS's domains lock and read by anyone inside `rsec`.
 */
#ifndef IOF_IOAS_HWPT_H
#define IOF_IOAS_HWPT_H

#include "ioas/ioas.h"

struct iof_hwpt {
	struct iof_object object;
	struct iof_ioas *ioas; /* one user of it */
	struct iof_iommu *iommu;
	struct iof_pt *pt;
	struct iof_hwpt *next; /* control lock: the IOAS's list, in order of creation */
	uint32_t domain; /* IOTLB tag, unique on the machine */
	uint32_t index; /* domains lock: place in ioas->domains */
	uint32_t attached; /* control lock: devices attached; each is a user */
	bool automatic;
	_Atomic bool used; /* some DMA went through: the IOTLB may hold entries */
	struct iof_rsec rsec; /* walks and DMA through `pt` */
};

/* Makes a HWPT for a device's IOMMU, id reserved, not yet in its IOAS. -ENOMEM and iof_pt_create()'s. Control lock. */
int iof_hwpt_create(struct iof_ioas *ioas, struct iof_iommu *iommu, bool automatic, struct iof_hwpt **out);
void iof_hwpt_abort(struct iof_hwpt *hwpt); /* undoes create */

/* Joins the IOAS (R3.8.1): -EINVAL alignment above PAGE, -EADDRINUSE, -EFAULT, -ENOMEM…; all rolled back. The caller publishes it or discards it. */
int iof_hwpt_join(struct iof_hwpt *hwpt);
void iof_hwpt_discard(struct iof_hwpt *hwpt); /* undoes create and join */

/* It is out of the object table: leaves the IOAS (R3.8.2) and is freed. Control lock. */
void iof_hwpt_dispose(struct iof_hwpt *hwpt);

/* One more device is attached, or one fewer; an automatic HWPT goes with its last (R6.6.3). Control lock. */
void iof_hwpt_get_user(struct iof_hwpt *hwpt);
void iof_hwpt_put_user(struct iof_hwpt *hwpt);

/* For fill.c: one run. unmap is quiet when it returns: nobody reads the old entries any more. */
int iofi_hwpt_map(struct iof_hwpt *hwpt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot);
void iofi_hwpt_unmap(struct iof_hwpt *hwpt, struct iof_range r);

#endif
