/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: I/O address spaces for userspace. The public C API.
 *
 * A *machine* is the hardware: an IOMMU, groups, devices. A *handle* is an open file: the iommufd itself (a context), or one device. What a handle can do
 * is what the file could do: ioctl, read, write, mmap, poll, close, with the numbered commands and structs of dispatch/uapi.h and
 * the kernel's errnos, plus a few verbs that a file has no words for (batches, DMA by a soft device, lists). Which provider is behind a handle is decided when it is opened; nothing else
 * depends on it.
 *
 *	struct iof_machine *m;
 *	struct iof_handle *ctx, *dev;
 *	iof_machine_create(&(struct iof_machine_config){ .size = sizeof(struct iof_machine_config), .preset = IOF_PRESET_INTEL }, &m);
 *	iof_engine_open(m, &ctx);
 *	iof_engine_open_device(m, 0, &dev);
 *	iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &(struct iof_cmd_bind){ .argsz = 16, .iommufd = iof_fileno(ctx) });
 *
 * Errors: every function that returns int gives 0 (or a count) or a negative errno; errno itself is never touched.
 * Threads: all functions may be called from any thread, except that a handle must not be used while or after iof_close() on it runs.
 * Fork: heap machines are not shared with a child; use them in the process that made them.
 */
#ifndef IOMMUFD_FAST_H
#define IOMMUFD_FAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispatch/uapi.h"
#include "dispatch/uapi_guest.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IOF_VERSION "0.1.0"

typedef uint64_t iof_iova_t; /* an I/O virtual address: what a device puts on the bus */

struct iof_alloc; /* util/alloc.h: where memory comes from */
struct iof_machine;
struct iof_handle;

/* ---- machine ---------------------------------------------------------------------------------------------------------- */

enum iof_preset {
	IOF_PRESET_INTEL = 1, /* VT-d second stage, 48-bit IOVAs, MSI window 0xfee00000–0xfeefffff */
	IOF_PRESET_AMD = 2, /* AMDv1 with growing top, 64-bit IOVAs, MSI window, HyperTransport hole 0xfd00000000–0xffffffffff */
	IOF_PRESET_ARM = 3, /* SMMUv3: LPAE stage 1 (stage 2 for nest parents), 4K granule, 48-bit IOVAs, translated MSIs at 0x8000000–0x80fffff */
	IOF_PRESET_RISCV = 4, /* Sv48 with 64 KiB pages, 47-bit IOVAs; no PASIDs, dirty tracking, information or nesting, as in Linux 7.2 */
};

enum iof_policy { IOF_POLICY_DEFAULT = 0, IOF_POLICY_TRUST = 1, IOF_POLICY_PROBE = 2 };
enum iof_addresses { IOF_ADDRESSES_VA = 0, IOF_ADDRESSES_SYNTHETIC = 1 };
enum iof_accounting { IOF_ACCOUNTING_NONE = 0, IOF_ACCOUNTING_USER = 1, IOF_ACCOUNTING_PROCESS = 2, IOF_ACCOUNTING_KERNEL = 3 };

struct iof_machine_config {
	size_t size; /* sizeof(struct iof_machine_config) of the caller */
	enum iof_preset preset;
	const uint32_t *groups; /* devices per group, n_groups of them */
	size_t n_groups; /* 0: a machine with no devices yet */
	struct iof_alloc *alloc; /* must outlive the machine; NULL: the heap */
	enum iof_policy policy; /* how MAP holds memory; DEFAULT is TRUST */
	enum iof_addresses addresses; /* what goes into page tables */
	enum iof_accounting accounting; /* who pays for pins; KERNEL follows R4.1.3 */
};

/* 0; -EINVAL: size, preset, an empty group, policy…; -ENOMEM. The caller owns one reference. */
int iof_machine_create(const struct iof_machine_config *cfg, struct iof_machine **out);
/* Drops the caller's reference. Open handles keep the machine alive until they are closed. */
void iof_machine_put(struct iof_machine *m);

struct iof_machine_device {
	uint32_t index, group;
	enum iof_preset preset;
	bool open, bound; /* bound: the group's DMA is owned by a context */
	char name[32]; /* "intel-soft-0" */
};
/* Hot-plugs one more device: into `group`, or a new group with UINT32_MAX. A machine may hold devices behind IOMMUs of several presets, one IOMMU each. 0; -EINVAL; -ENODEV no such group; -ENOMEM. */
int iof_machine_plug(struct iof_machine *m, enum iof_preset preset, uint32_t group, uint32_t *index);
uint32_t iof_machine_device_count(struct iof_machine *m);
int iof_machine_device_at(struct iof_machine *m, uint32_t index, struct iof_machine_device *out); /* -ENODEV */
uint32_t iof_machine_group_count(struct iof_machine *m);
/* Re-derives the whole engine (indexes, page tables, counts, references). For tests; no call may run meanwhile. */
bool iof_machine_is_valid(struct iof_machine *m);
/* Pin count of the page behind an address of this process (synthetic machines; -EOPNOTSUPP else, -EFAULT not mapped). */
int64_t iof_machine_pins(struct iof_machine *m, uint64_t va);

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

int iof_engine_open(struct iof_machine *m, struct iof_handle **out); /* open("/dev/iommu"): -ENOMEM, -EMFILE, -ENFILE */
/* open of a device's file: -ENODEV no such device, -ENOMEM, -EMFILE, -ENFILE. Every other ioctl is -EINVAL until BIND (behaviour.md 2.23). */
int iof_engine_open_device(struct iof_machine *m, uint32_t index, struct iof_handle **out);
/* Closes. A device is detached and unbound first (there is no unbind call). A context lives on while bound devices hold it. NULL is fine. */
void iof_close(struct iof_handle *h);
/*
 * The number by which BIND names this handle: a descriptor of this process, never 0, 1 or 2, that the handle owns until it is closed. Do not
 * read, write or close it; poll(2) and epoll may wait on it, see iof_poll_fd().
 */
int iof_fileno(const struct iof_handle *h);
/*
 * The handle of an open file of the machine by its number: what FAULT_QUEUE_ALLOC and VEVENTQ_ALLOC return in out_fault_fd and out_veventq_fd.
 * A file has one handle, the same each time. iof_close() on it is what close(2) on the number is to the kernel: it closes the file,
 * number included, for everybody. Whoever ran the ioctl has to see to that: an open queue keeps its object busy (DESTROY: -EBUSY) and its context alive. 0, or -EBADF.
 */
int iof_file_handle(struct iof_machine *m, int number, struct iof_handle **out);

/*
 * The raw door. `arg` is read and written through guard: a bad pointer is -EFAULT. >= 0 or -errno of the contract.
 * -ENOTTY: no such command; commands of the contract that are not built yet answer so too (docs/architecture.md lists them).
 */
int iof_ioctl(struct iof_handle *h, unsigned long cmd, void *arg);
/* The same, but never blocks and never works for more than about a microsecond: -EAGAIN (nothing was done) asks the caller
 * to drop what it holds (the GIL) and to use iof_ioctl(). IOAS_MAP and IOAS_UNMAP of up to 64 KiB can succeed here. */
int iof_ioctl_nowait(struct iof_handle *h, unsigned long cmd, void *arg);

/*
 * The rest of what a file can do. 0 or more, or -errno as the file would answer: a context and a soft device have nothing to read or write (-EINVAL), nothing to map
 * (-EINVAL private, -EPERM executable, -ENXIO else) and nothing to poll (-EOPNOTSUPP). Fault and event queues are read in whole records (struct
 * iof_fault_record, struct iof_vevent_header), fault queues answered by writing struct iof_fault_response; neither ever waits: an empty queue reads 0 bytes.
 */
int64_t iof_read(struct iof_handle *h, void *to, size_t n);
int64_t iof_write(struct iof_handle *h, const void *from, size_t n);
int64_t iof_pread(struct iof_handle *h, void *to, size_t n, uint64_t offset);
int64_t iof_pwrite(struct iof_handle *h, const void *from, size_t n, uint64_t offset);
int iof_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out);
/* poll(2)'s bits that hold now: POLLIN | POLLRDNORM with something to read, POLLOUT (fault queues, always); all four for a file that is not polled. */
unsigned iof_poll(struct iof_handle *h);
/* A descriptor that is readable exactly while the queue has something to read, for poll(2), epoll and event loops; it is iof_fileno(). */
int iof_poll_fd(struct iof_handle *h);

/* ---- verbs on a context ----------------------------------------------------------------------------------------------- */

struct iof_map_many {
	uint32_t ioas_id;
	uint32_t flags; /* enum iof_map_flag; FIXED: iovas[] are inputs */
	enum iof_policy policy;
	size_t n;
	const uint64_t *addresses, *lengths;
	uint64_t *iovas; /* out (in with FIXED) */
	size_t failed; /* out: index of the entry that failed */
};
/* Maps n ranges, all or nothing: 0, or the errno of entry `failed` with every earlier one undone. Equal to n IOAS_MAPs. */
int iof_map_many(struct iof_handle *h, struct iof_map_many *many);

struct iof_unmap_many {
	uint32_t ioas_id;
	size_t n;
	const uint64_t *iovas, *lengths;
	uint64_t *unmapped; /* out: bytes removed, may be NULL */
	int32_t *errors; /* out: 0 or -errno of each, may be NULL */
};
/* Unmaps n ranges and goes on past errors: how many succeeded, or -ENOENT (no such IOAS). Equal to n IOAS_UNMAPs. */
int64_t iof_unmap_many(struct iof_handle *h, struct iof_unmap_many *many);

/*
 * Translates n IOVAs through a page table: pt_id is a HWPT, or an IOAS (its first HWPT). addresses[i]: UINT64_MAX for a hole. prots (IOF_PROT_READ 1 | WRITE 2) may be NULL.
 * How many were found; -ENOENT no such id; -EINVAL other type; -ENODEV the IOAS has no page table.
 */
int64_t iof_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses, uint8_t *prots);

#define IOF_NO_PASID UINT32_MAX
struct iof_endpoint_info {
	uint32_t dev_id, pasid; /* IOF_NO_PASID: the device's own requester id */
	uint32_t hwpt_id, ioas_id; /* 0: blocked (bound, not attached) */
	uint32_t device, group; /* index on the machine */
};
/* Lists the context's endpoints ascending by (dev_id, pasid); ids of 0 filter nothing. Writes at most n; how many there are. */
int64_t iof_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n, struct iof_endpoint_info *out);

struct iof_ioas_stats {
	uint64_t mappings, bytes_mapped; /* bytes modulo 2^64 */
	uint64_t maps, unmaps, copies; /* calls that succeeded since creation */
	uint64_t pinned_pages, alignment;
	uint32_t hwpts, endpoints, large_pages, pad;
	uint64_t index_bytes, record_bytes, table_bytes;
};
int iof_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out); /* -ENOENT */

struct iof_hwpt_stats {
	uint32_t ioas_id, automatic, endpoints, tracking; /* of dirty pages, now */
	uint32_t format; /* enum iof_pt_format */
	uint64_t aperture_start, aperture_last, page_sizes;
	uint64_t leaves[64]; /* by log2 of size */
	uint64_t tables, table_bytes;
};
int iof_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out); /* -ENOENT */

struct iof_mapping_info {
	uint64_t iova, last, address; /* source address of the first byte; in a file: its offset */
	uint32_t flags, pad; /* READABLE, WRITEABLE, and IOF_MAPPING_FILE: a file's memory, or a dma-buf's */
};
#define IOF_MAPPING_FILE 0x100u
/* The lowest mapping of an IOAS that intersects [start, last]: 0, -ENOENT. */
int iof_ioas_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out);

struct iof_dirty {
	uint32_t hwpt_id;
	bool keep, more; /* keep: nothing becomes clean. out, more: there was no room for all; ask again, with `start` as it is now */
	uint64_t start, last;
	size_t n;
	struct iof_uapi_range *ranges;
};
/* What devices wrote to since it was asked last, exactly: ascending closed ranges of whole page table entries, adjacent ones joined, holes passed over. At most
 * `n`; only those become clean. An entry that sticks out of [start, last] is told by its part inside and stays dirty. How many; -ENOENT; -EOPNOTSUPP
 * made without DIRTY_TRACKING; -EINVAL n 0 or start > last. */
int64_t iof_dirty(struct iof_handle *h, struct iof_dirty *dirty);

struct iof_leaf_info {
	uint64_t iova, address; /* of its first byte */
	uint8_t size_lg2, prot; /* IOF_PROT_READ 1 | WRITE 2 */
};
/* The entries of a page table that intersect [start, last], ascending, at most n: how many. pt_id and errors as for iof_translate(); -EINVAL start > last. */
int64_t iof_leaves(struct iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n, struct iof_leaf_info *out);

/* A digest of everything observable about a context's state: equal states give equal digests. For tests. */
int iof_digest(struct iof_handle *h, uint64_t *out);

#ifdef __cplusplus
}
#endif

#include "iommufd_fast_dma.h"

#endif
