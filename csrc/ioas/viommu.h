/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vIOMMU, vDevice, HW queue: a guest's view of an IOMMU (behaviour.md 8.2–8.7).
 *
 * A vIOMMU stands on a nest-parent HWPT and gathers what a guest has: vDevices (its own id of a device), event queues, hardware queues, nested tables. The driver
 * does what only hardware can. A *vDevice* ties one bound device to one guest id; unbinding the device kills it and leaves a tombstone. A *HW queue* is guest memory
 * that hardware reads: pinned through an internal access that makes unmapping it EBUSY.
 *
 * Users of the VIOMMU: nested tables made through it, vDevices, event queues, HW queues, live mmaps. It is a user of its parent HWPT.
 *
 * Locks: the context's control lock; `lock` covers the list of event queues, which drivers report into from anywhere.
 */
#ifndef IOF_IOAS_VIOMMU_H
#define IOF_IOAS_VIOMMU_H

#include "ioas/hwpt.h"

struct iof_access;
struct iof_device;
struct iof_veventq;

/* Memory that can be mapped through the context's file (8.7). Its offset is unique in the context. */
struct iof_exposed {
	struct iof_viommu *viommu;
	struct iof_exposed *next; /* the context's list, ascending offsets */
	uint64_t offset, length;
	void *memory;
	uint32_t mapped; /* mmaps: each is a user of the vIOMMU */
};

struct iof_viommu {
	struct iof_object object;
	struct iof_context *ctx;
	struct iof_iommu *iommu;
	struct iof_hwpt *parent; /* one user */
	uint32_t type;
	void *priv; /* the driver's */
	struct iof_vdevice *vdevices;
	struct iof_lock lock;
	struct iof_veventq *queues; /* lock */
};

struct iof_vdevice {
	struct iof_object object;
	struct iof_viommu *viommu; /* one user */
	struct iof_device *dev; /* one user */
	struct iof_vdevice *next;
	uint64_t virt_id;
};

struct iof_hw_queue {
	struct iof_object object;
	struct iof_viommu *viommu; /* one user */
	struct iof_access *access; /* internal: the pin */
	struct iof_hw_queue *on; /* one user: the queue this one depends on; NULL */
	uint64_t iova, length;
	void *priv; /* the driver's */
};

/* VIOMMU_ALLOC from the device on (8.2). The vIOMMU is reserved, not published: the caller responds, then publishes or disposes. Control lock. */
int iof_viommu_create(struct iof_device *dev, uint32_t type, struct iof_hwpt *parent, const struct iof_user_data *data,
		      struct iof_viommu **out);
void iof_viommu_abort(struct iof_viommu *v);
void iof_viommu_dispose(struct iof_viommu *v);

/* VDEVICE_ALLOC (8.4): published. Control lock. */
int iof_vdevice_create(struct iof_viommu *v, struct iof_device *dev, uint64_t virt_id, struct iof_vdevice **out);
void iof_vdevice_dispose(struct iof_vdevice *vd);
void iof_vdevice_kill(struct iof_vdevice *vd); /* its device is being unbound: the id becomes a tombstone */

/* HW_QUEUE_ALLOC from the vIOMMU on (8.6): reserved, not published. Control lock. */
int iof_hw_queue_create(struct iof_viommu *v, uint32_t type, uint32_t index, uint64_t iova, uint64_t length,
			struct iof_hw_queue **out);
void iof_hw_queue_abort(struct iof_hw_queue *q);
void iof_hw_queue_dispose(struct iof_hw_queue *q);

void iof_viommu_conceal(struct iof_viommu *v); /* takes its exposed memory away */

/* mmap on the context's file (R8.7.2, after the checks of flags): maps the exposed region that is exactly this. -ENXIO, -ENOMEM. */
int iof_context_mmap(struct iof_context *ctx, uint64_t offset, uint64_t length, int prot, void **out);
/* One mapping of such a region ends or is doubled (munmap, fork): its owner's users follow. */
void iof_context_vma(struct iof_context *ctx, uint64_t offset, int by);

#endif
