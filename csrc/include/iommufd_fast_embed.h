/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast for embedders: bring your own devices, page-table choices, DMA, accesses, faults and events. The public C API, second part.
 *
 * A *driver* (ioas/driver.h) says what an IOMMU can do; devices are plugged behind it; a context binds and attaches them like any other. What a device does is the embedder's: it
 * translates and moves data through iof_translate(), iof_dma() or an access, and raises faults and events here.
 *
 * Errors, threads and ownership as in iommufd_fast.h.
 */
#ifndef IOMMUFD_FAST_EMBED_H
#define IOMMUFD_FAST_EMBED_H

#include "ioas/driver.h"
#include "iommufd_fast.h"
#include "iommufd_fast_access.h"
#include "util/event.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iof_iommu;
struct iof_foreign;

/* ---- IOMMUs and devices ---- */

/* Adds an IOMMU with a driver; both `driver` and `drv` must outlive the machine. -ENOMEM. */
int iof_machine_add_driver(struct iof_machine *m, const struct iof_driver *driver, void *drv, struct iof_iommu **out);
/*
 * Who keeps the numbers of the machine's open files: for embedders that are several processes, or a table of descriptors of their own. Before
 * anything is opened; `host` must outlive the machine. Of the `file` that its functions speak of, iof_host_handle() makes a handle, which the host closes with
 * iof_close() once the number is gone.
 */
void iof_machine_set_host(struct iof_machine *m, const struct iof_event_host *host);
/* Plugs a device behind it, into `group` or a new one (UINT32_MAX). -EINVAL, -ENODEV, -ENOMEM. */
int iof_machine_plug_device(struct iof_machine *m, struct iof_iommu *iommu, uint32_t group, const struct iof_device_caps *caps,
			    uint32_t *index);
/* Takes it out: -ENODEV, -EBUSY while a handle is open on it. Its index is free again. */
int iof_machine_unplug(struct iof_machine *m, uint32_t index);

/* BIND without files: opens a device of the context's machine, under no number, and binds it. -ENODEV, -EPERM, -EINVAL bound already, -ENOMEM. */
int iof_engine_bind(struct iof_handle *ctx, uint32_t index, struct iof_handle **dev);

enum iof_attach_mode {
	IOF_ATTACH_MODE_NEW = 0, /* -EBUSY when attached */
	IOF_ATTACH_MODE_REPLACE = 1, /* -EINVAL when not attached */
	IOF_ATTACH_MODE_EITHER = 2,
};
/* The kernel-side forms of ATTACH and DETACH, on an open and bound device. pasid 0: the requester id. -EINVAL not bound. */
int iof_attach(struct iof_handle *dev, uint32_t pasid, enum iof_attach_mode mode, uint32_t *pt_id);
int iof_detach(struct iof_handle *dev, uint32_t pasid);
uint32_t iof_device_id(struct iof_handle *dev); /* the DEVICE id; 0: not bound */
/*
 * Where the device has to write for the interrupt whose doorbell is at physical address `doorbell` (R6.8): in its window of translated MSIs
 * (caps.sw_msi), or `doorbell` itself without one. -EINVAL not attached; -EOVERFLOW 64 pages are in use, or the window is full; -ENOMEM.
 */
int iof_msi_address(struct iof_handle *dev, uint64_t doorbell, uint64_t *iova);
/* The HWPT a (device, pasid) is attached to: its id, or 0. */
uint32_t iof_attached_hwpt(struct iof_handle *dev, uint32_t pasid);

enum iof_handle_kind {
	IOF_KIND_CONTEXT = 1,
	IOF_KIND_DEVICE = 2,
	IOF_KIND_QUEUE = 3, /* of faults or events */
	IOF_KIND_MEMORY = 4, /* a dma-buf */
};
/* The handle of the `file` that a host is given (iof_machine_set_host()), and what it is. */
struct iof_handle *iof_host_handle(void *file, enum iof_handle_kind *kind);

/* ---- ids of your own ---- */

/* Takes the context's lowest free id for an object of yours; `end` is called once, without locks, by DESTROY or with the context. */
int iof_foreign_new(struct iof_handle *ctx, void (*end)(void *data), void *data, struct iof_foreign **out, uint32_t *id);
void iof_foreign_show(struct iof_foreign *f); /* from now on DESTROY finds it */
void iof_foreign_drop(struct iof_foreign *f); /* instead of show: gives the id back, `end` is not called */
void *iof_foreign_data(struct iof_handle *ctx, uint32_t id, void (*end)(void *data)); /* NULL: not such an object */

/* ---- looking at objects: fn runs under the context's lock and may call what ioas/driver.h lets a driver call ---- */

/* -ENOENT; for an object of another type -EINVAL (hwpt) or -ENOENT too (device); else what fn returns. */
int iof_with_hwpt(struct iof_handle *ctx, uint32_t id, int (*fn)(void *arg, struct iof_hwpt *hwpt), void *arg);
int iof_with_device(struct iof_handle *ctx, uint32_t id, int (*fn)(void *arg, struct iof_mdev *dev), void *arg);
const struct iof_driver *iof_hwpt_driver(const struct iof_hwpt *hwpt);
const struct iof_driver *iof_mdev_driver(const struct iof_mdev *dev);
/* A device wrote there: 0, -ENOENT, -EINVAL (tracking is off). For paging ones. */
int iof_hwpt_set_dirty(struct iof_hwpt *hwpt, uint64_t iova);

/* The device address of the page behind an address of this process (synthetic machines): 0, -EFAULT, -EOVERFLOW the last page of all, -EOPNOTSUPP. */
int iof_machine_identify(struct iof_machine *m, uint64_t va, uint64_t *address);
/* The same for the n pages from the one behind va on, all of them or an error; one look at this process's mappings. Also -ENOMEM. */
int iof_machine_identify_many(struct iof_machine *m, uint64_t va, size_t n, uint64_t *addresses);
/* The pin count of the page with this device address: what iof_machine_pins() says of an address that leads there. -EOPNOTSUPP. */
int64_t iof_machine_pins_at(struct iof_machine *m, uint64_t address);

/* ---- memory ---- */

/* Reserves [start, start + length) of an IOAS for as long as it lives: -ENOENT, -EINVAL length 0, -EOVERFLOW, -EADDRINUSE, -ENOMEM (R9.3.1). */
int iof_ioas_reserve(struct iof_handle *ctx, uint32_t ioas_id, uint64_t start, uint64_t length);
/*
 * What was mapped by iof_mmap() at this offset is there once more (by 1: a fork, a mapping cut in two) or once less (-1: it was unmapped). The handle is that of
 * iof_mmap(). As long as it is there, its vIOMMU cannot be destroyed.
 */
void iof_mmap_count(struct iof_handle *h, uint64_t offset, int by);

/*
 * A dma-buf of a device of yours: `size` bytes, rounded up to pages, zero. The handle is the exporter's; iof_fileno() of it is a descriptor that can be
 * mapped, duplicated and given to IOAS_MAP_FILE, for which it is a dma-buf (behaviour.md 4.8). Closing the handle leaves imports and mappings as they are.
 * -EINVAL size 0; -ENOMEM, -EMFILE.
 */
int iof_dmabuf_create(struct iof_machine *m, uint64_t size, struct iof_handle **out);
/* Takes the memory back, or allows imports again; both end every import there is, for good. -EINVAL not a dma-buf. Not from within a driver's functions. */
int iof_dmabuf_revoke(struct iof_handle *dmabuf, bool revoked);
int64_t iof_dmabuf_import_count(struct iof_handle *dmabuf); /* mappings that have it, ended ones too; -EINVAL */

/*
 * What /proc/PID/status would say of a process, in pages: VmPin (negative after quirk R4.6.3) and what the `process` mode adds to VmLck. Counted by
 * machines with accounting user, process or kernel.
 */
void iof_machine_process_pages(struct iof_machine *m, uint32_t pid, int64_t *pinned, uint64_t *locked);
/* For a child right after fork() that goes on using a shared machine: whoever had its pid before is forgotten. */
void iof_machine_forked(struct iof_machine *m);
/* The scratch memory of one pin call (R4.3.4, R9.3.10). It changes how many steps a pin takes, not its result. -EINVAL below 12 bytes. */
int iof_machine_set_scratch(struct iof_machine *m, uint32_t bytes);

/* ---- faults and events ---- */

struct iof_page_request {
	uint32_t pasid; /* with pasid_valid */
	bool pasid_valid, last;
	uint32_t group; /* of requests that are answered together */
	uint32_t perm; /* 1 read, 2 write, 4 exec, 8 privileged */
	uint64_t addr;
	void (*answer)(void *data, uint32_t pasid, uint32_t group, uint32_t code); /* may be NULL */
	void *data;
};
/* A device asks for a page (R8.1.6). 0: queued; -EINVAL nobody handles its faults, and the answer is "invalid"; -ENOENT no such DEVICE id; -ENOMEM. */
int iof_report_page_request(struct iof_handle *ctx, uint32_t dev_id, const struct iof_page_request *rq);

/* An event for a guest, in `v`'s queue of that type: 0, -EOPNOTSUPP no such queue. Any thread. */
int iof_report_event(struct iof_viommu *v, uint32_t type, const void *data, size_t n);

#ifdef __cplusplus
}
#endif

#endif
