/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an IOMMU driver is to the engine: a table of functions that an embedder can fill, as the soft IOMMUs of this library do (softdrv.c).
 *
 * The engine owns ids, counts, address spaces, page tables and queues, and asks the driver what only hardware can know: which page table a device wants, whether it may
 * be attached there, what a guest's data means. An operation that is NULL is one the hardware does not have; the engine then answers as the contract says (mostly -EOPNOTSUPP).
 *
 * Every function is called with the context's control lock held, except where it says otherwise, and may not call back into the engine except for the functions
 * declared here. Driver errnos go to the caller as they are.
 */
#ifndef IOF_IOAS_DRIVER_H
#define IOF_IOAS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagetable/pagetable.h"
#include "util/range.h"

struct iof_mdev; /* a device of the machine */
struct iof_hwpt; /* a page table, paging or nested */
struct iof_viommu;
struct iof_vdevice;
struct iof_hw_queue;
struct iof_guest; /* a guest's memory, through the parent's page table */
struct iof_first_stage;
struct iof_dma_fault;

#define IOF_HW_INFO_MAX 64

/* A caller's driver data: a type, a length and an address in the caller's memory. */
struct iof_user_data {
	uint32_t type, len;
	uint64_t uptr;
};

struct iof_user_array {
	uint32_t type, entry_len, entry_num;
	uint64_t uptr;
};

/* R5.4. -EINVAL: another type, shorter than min, longer than size; -EFAULT. The missing tail is zero. */
int iof_user_data_get(const struct iof_user_data *d, uint32_t type, void *to, uint32_t size, uint32_t min);
/* Writes min(size, d->len) bytes back. -EFAULT. */
int iof_user_data_put(const struct iof_user_data *d, const void *from, uint32_t size);
/* Entry i of an array (5.4): of the known length, copied; else by the extensible rules. -E2BIG, -EFAULT. The type is the caller's to check. */
int iof_user_array_get(const struct iof_user_array *a, uint32_t i, void *to, uint32_t size);

/* What a device can do; given when it is plugged. */
struct iof_device_caps {
	uint32_t max_pasids; /* 0: PASIDs are not spoken of; 1: none but the requester id */
	bool pasids; /* has PASID operations at all (else -EOPNOTSUPP) */
	bool dirty_tracking;
	bool no_ats;
	bool user_pasids; /* a guest's PASID table may be behind its nested HWPT: faults of unknown PASIDs are its (R8.1.6) */
	bool weak; /* bound, it does not keep its context open: a FOREIGN object of the context unbinds it (mock devices) */
	const struct iof_range *reserved; /* regions reserved in the IOAS of its requester id; must outlive the machine */
	uint32_t n_reserved;
	bool hw_msi; /* one of them is a window whose writes are interrupts, untranslated */
	struct iof_range sw_msi; /* IOVAs set aside for interrupts that are translated (R6.8), reserved as well; last == 0: none */
	void *priv; /* the driver's own */
};

/* The page table a driver chose for a paging HWPT. */
struct iof_paging_plan {
	struct iof_pt_config table;
	struct iof_range aperture; /* start == last == 0: the table's own */
	bool dirty; /* can track dirty pages */
};

struct iof_driver {
	const char *name;
	bool paging_flags; /* paging_alloc looks at flags and data; else both must be empty (5.1 step 1) */
	/* Which table? flags are IOF_HWPT_* without FAULT_ID_VALID. */
	int (*paging_alloc)(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data,
			    struct iof_paging_plan *plan);
	/* A guest's table on a paging parent: directly (viommu NULL) or through a vIOMMU. *priv is the driver's. */
	int (*nested_alloc)(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *viommu, uint32_t flags,
			    const struct iof_user_data *data, void **priv);
	void (*nested_free)(void *drv, void *priv);
	int (*nested_invalidate)(void *drv, void *priv, const struct iof_user_array *a, uint32_t *done);
	bool nested_needs_viommu; /* directly on a parent: -EOPNOTSUPP before anything is looked at */
	/*
	 * For drivers of this library (ioas/guest.h); NULL: DMA of soft devices through a nested table is blocked. What stands in front of the parent's table for a
	 * PASID (0: requester id)? 0; -EFAULT with the guest's fault filled in. No lock is held, inside read sections; priv is a nested table's. Then: a DMA
	 * through it faulted.
	 */
	int (*first_stage)(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out);
	void (*dma_faulted)(void *drv, void *priv, struct iof_mdev *dev, uint32_t pasid, const struct iof_dma_fault *fault);
	/*
	 * May `dev` (pasid 0: its requester id) go from `old` to `hwpt`? NULL is blocked. A group's devices go together: all of them are asked (for a PASID,
	 * all that have any), and those that went are sent back when one refuses. Going to blocked or back must succeed.
	 */
	int (*attach)(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old);
	/* *type in: what the caller asked for (0: any), out: what it is. At most IOF_HW_INFO_MAX bytes to `to`. */
	int (*hw_info)(void *drv, struct iof_mdev *dev, uint32_t *type, void *to, uint32_t *length);
	/* Is this vIOMMU type known? 0, -EOPNOTSUPP. NULL: no vIOMMUs. Then its life. */
	int (*viommu_supported)(void *drv, struct iof_mdev *dev, uint32_t type);
	int (*viommu_init)(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data);
	void (*viommu_free)(void *drv, struct iof_viommu *v);
	int (*viommu_invalidate)(void *drv, struct iof_viommu *v, const struct iof_user_array *a, uint32_t *done);
	int (*vdevice_init)(void *drv, struct iof_vdevice *vd);
	void (*vdevice_free)(void *drv, struct iof_vdevice *vd);
	int (*hw_queue_supported)(void *drv, struct iof_viommu *v, uint32_t type);
	int (*hw_queue_init)(void *drv, struct iof_hw_queue *q, uint32_t index, uint64_t address);
	void (*hw_queue_free)(void *drv, struct iof_hw_queue *q);
};

/* What a driver may ask. */
void *iof_mdev_priv(const struct iof_mdev *dev);
void *iof_hwpt_priv(const struct iof_hwpt *hwpt); /* nested: what nested_alloc gave; paging: NULL */
bool iof_hwpt_is_nested(const struct iof_hwpt *hwpt);
bool iof_hwpt_tracks_dirty(const struct iof_hwpt *hwpt); /* was allocated with DIRTY_TRACKING */
struct iof_viommu *iof_hwpt_viommu(const struct iof_hwpt *hwpt); /* the vIOMMU it was made through; NULL */
uint64_t iof_hwpt_page_sizes(const struct iof_hwpt *hwpt); /* paging: a bit for each */
uint64_t iof_hwpt_lookup(const struct iof_hwpt *hwpt, uint64_t iova); /* paging: the address, or UINT64_MAX */

void *iof_viommu_priv(const struct iof_viommu *v);
void iof_viommu_set_priv(struct iof_viommu *v, void *priv);
struct iof_hwpt *iof_viommu_parent(const struct iof_viommu *v);
/* The device behind a guest's id on this vIOMMU; NULL. */
struct iof_mdev *iof_viommu_device(const struct iof_viommu *v, uint64_t virt_id);
/* `dev`'s id on this vIOMMU: 0, or -ENOENT when it has no vDevice there. */
int iof_viommu_virt_id(const struct iof_viommu *v, const struct iof_mdev *dev, uint64_t *virt_id);
/* Memory that the guest may map: page multiple, zeroed. The offset for mmap. -ENOMEM. Freed with the vIOMMU. */
int iof_viommu_expose(struct iof_viommu *v, size_t length, void **memory, uint64_t *offset);

struct iof_viommu *iof_vdevice_viommu(const struct iof_vdevice *vd);
struct iof_mdev *iof_vdevice_device(const struct iof_vdevice *vd);
uint64_t iof_vdevice_virt_id(const struct iof_vdevice *vd);

struct iof_viommu *iof_hw_queue_viommu(const struct iof_hw_queue *q);
uint64_t iof_hw_queue_iova(const struct iof_hw_queue *q);
void *iof_hw_queue_priv(const struct iof_hw_queue *q);
void iof_hw_queue_set_priv(struct iof_hw_queue *q, void *priv);
/* `on` stays busy, and so cannot be destroyed, while q lives (R1.4.3). */
void iof_hw_queue_depend(struct iof_hw_queue *q, struct iof_hw_queue *on);

#endif
