/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: what contexts are opened on. IOMMUs, groups, devices, open files, page identities, pin counts, accounts.
 *
 * It is where two contexts meet: a group's DMA belongs to one context at a time (behaviour.md 6.2), and that is decided here, under the machine's
 * lock. Groups and devices are only ever added, and stay where they are until the machine goes.
 *
 * A reference is held by the creator and by every open file. The last one frees everything.
 *
 * Lock order of this floor: context control lock, machine lock, IOAS domains lock, records lock (the IOVA lock). The control lock of one
 * context at a time.
 */
#ifndef IOF_IOAS_MACHINE_H
#define IOF_IOAS_MACHINE_H

#include "ioas/driver.h"
#include "ioas/iotlb.h"
#include "ioas/preset.h"
#include "pages/pages.h"
#include "util/event.h"
#include "util/lock.h"
#include "util/rsec.h"

struct iof_context;
struct iof_device;
struct iof_endpoint;

/* One IOMMU: a driver, its own context, an IOTLB. Page tables fit the devices of the IOMMU they were made for. */
struct iof_iommu {
	const struct iof_driver *driver;
	void *drv; /* the driver's */
	struct iof_iotlb iotlb;
};

/* Where a PASID (0: the requester ids) of a group is attached. One for each PASID in use (behaviour.md 6.1). */
struct iof_seat {
	uint32_t pasid;
	struct iof_hwpt *hwpt; /* owner's control lock */
	struct iof_endpoint *endpoints; /* the devices of the group attached there */
	struct iof_seat *next;
};

/* An isolation group: devices that cannot be told apart by the IOMMU, so one owner has all. */
struct iof_group {
	uint32_t index, n_devices;
	struct iof_iommu *iommu;
	struct iof_context *owner; /* machine lock; NULL: nobody's */
	uint32_t bound; /* machine lock: devices bound to the owner */
	struct iof_seat *seats; /* owner's control lock */
	uint64_t msi_needed; /* owner's control lock: doorbell pages of its devices, bits of the context's table (msi.h) */
};

/* A device as the machine knows it; a context's handle on it is struct iof_device. */
struct iof_mdev {
	uint32_t index;
	struct iof_group *group; /* NULL: unplugged */
	struct iof_iommu *iommu;
	struct iof_device_caps caps;
	uint32_t opens; /* machine lock: open files */
	bool bound; /* machine lock */
	struct iof_rsec rsec; /* DMA reads the list below inside it; whoever changes it waits for it */
	struct iof_endpoint *_Atomic endpoints; /* what is attached; not in the list: DMA is blocked */
	_Atomic uint64_t guest_id; /* a soft driver's: the guest's id of it, plus 1, as of the last attach; 0: none */
	_Atomic uint32_t next_request; /* group of its next page request */
	char name[32];
};

struct iof_file; /* an open file on the machine */
#define IOF_FILE_BUCKETS 64

struct iof_table { /* a growing array of pointers; never shrinks */
	void **at;
	uint32_t n, room;
};

struct iof_machine {
	_Atomic uint32_t refs;
	struct iof_lock lock;
	struct iof_alloc heap; /* used when none was given */
	struct iof_memory memory;
	struct iof_accounts *accounts;
	unsigned accounting; /* enum iof_accounting of the public API */
	struct iof_iommu *soft[IOF_PRESETS]; /* made on first use; also among iommus */
	struct iof_table iommus, groups, devices; /* machine lock */
	const struct iof_event_host *host; /* who keeps the numbers of open files; NULL: `files` */
	struct iof_file *files[IOF_FILE_BUCKETS]; /* machine lock: open files by number, chained by the floor above */
	struct iof_context *contexts; /* machine lock: every living context */
	_Atomic uint32_t next_domain; /* IOTLB tags */
};

struct iof_machine_options {
	struct iof_alloc *alloc; /* NULL: the heap, by an allocator inside the machine */
	unsigned preset, policy, addresses, accounting;
	const uint32_t *groups;
	size_t n_groups;
};

int iof_machine_make(const struct iof_machine_options *opt, struct iof_machine **out);
void iof_machine_ref(struct iof_machine *m);
void iof_machine_unref(struct iof_machine *m);

/* A further IOMMU with a driver of the caller's. -ENOMEM. */
int iof_machine_add_iommu(struct iof_machine *m, const struct iof_driver *driver, void *drv, struct iof_iommu **out);
/* The soft IOMMU of a preset. NULL: no such preset, or no memory. */
struct iof_iommu *iof_machine_soft(struct iof_machine *m, unsigned preset);

/* group UINT32_MAX: a new one. -EINVAL the group is behind another IOMMU; -ENODEV no such group; -ENOMEM. */
int iof_machine_add_device(struct iof_machine *m, struct iof_iommu *iommu, uint32_t group, const struct iof_device_caps *caps,
			   struct iof_mdev **out);
/* The device goes, its index is free again: nobody may have it open. Its group goes with its last device. */
void iof_machine_remove_device(struct iof_machine *m, struct iof_mdev *d);
struct iof_mdev *iof_machine_mdev(struct iof_machine *m, uint32_t index); /* NULL: none */

/* Group ownership: -EINVAL the device is bound already (2.23.2); -EPERM another context has the group (R6.2 step 4). release: the last device gives the group back. */
int iof_group_claim(struct iof_machine *m, struct iof_mdev *d, struct iof_context *ctx);
void iof_group_release(struct iof_machine *m, struct iof_mdev *d);
/* The smallest PASID limit among the group's devices that have one; UINT32_MAX: none has. */
uint32_t iof_group_max_pasids(struct iof_machine *m, const struct iof_group *g);

#endif
