/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel as a provider: what is remembered here about contexts that live there.
 *
 * A context has objects (IOASes, page tables, vIOMMUs, devices), each with its id, and endpoints. An IOAS has two indexes by IOVA: `maps`, the ledger of what is
 * mapped, and inside `space` and `recycle` the places that are not free. A record of the ledger knows its place. Usually the two
 * agree; they differ where the kernel has mappings that we do not know (*foreign*), or where somebody mapped FIXED into a window of `recycle`. Then a
 * place that was taken turns out to be of no use: it is *blocked*, kept taken and remembered, until there is a reason to try it again.
 *
 * Locks, outermost first:
 *   context.control   BIND, ATTACH, DETACH, HWPT_ALLOC, DESTROY, close: held during the system call, so that the ledger changes in the kernel's order
 *   ioas.gate         read: a map or an unmap that concerns one record of its own, during the system call. Written: whatever the kernel alone
 *                     knows the extent of (unmapping a range, a place of the kernel's choice, copies). Under the
 *                     written gate every record is LIVE
 *   context.lock      objects and endpoints; short
 *   ioas.lock         indexes and records; short
 */
#ifndef IOF_PROVIDER_KERNEL_H
#define IOF_PROVIDER_KERNEL_H

#include "iommufd_fast_kernel.h"
#include "iova/recycle.h"
#include "iova/va_index.h"
#include "provider/provider.h"
#include "util/lock.h"
#include "util/slab.h"

/* ---- the ledger of one IOAS (kernel_ledger.c) ---- */

enum iofi_kstate { IOFI_KMAP_MAPPING, IOFI_KMAP_LIVE, IOFI_KMAP_UNMAPPING };
enum iofi_kplace {
	IOFI_PLACE_NONE, /* nothing is taken for it: it lies in a window of recycle's, or where we take nothing */
	IOFI_PLACE_SLOT, /* recycle's */
	IOFI_PLACE_AREA, /* an area of the space */
};

struct iofi_kmap {
	struct iof_range range;
	uint64_t address; /* or the offset in the file */
	uint64_t slot, slot_bytes; /* what was taken */
	uint32_t flags; /* as struct iof_mapping_info has them */
	uint8_t state, place : 4;
	bool shown : 1; /* in the address index */
	uint16_t epoch; /* the space's, when the place was taken */
};

#define IOFI_NO_ADDRESS UINT64_MAX /* copied from what the ledger does not know */

struct iofi_kranges {
	struct iof_range *list; /* ascending */
	size_t n;
};

static inline size_t iofi_kranges_bytes(size_t n)
{
	return (n + !n) * sizeof(struct iof_range);
}

static inline bool iofi_kranges_all(const struct iofi_kranges *r)
{
	return r->n == 1 && !r->list[0].start && r->list[0].last == UINT64_MAX;
}

struct iofi_kioas {
	_Atomic uint32_t refs;
	uint32_t id;
	struct iof_alloc *alloc;
	struct iof_rwlock gate;
	struct iof_lock lock;
	struct iof_index *maps; /* values are records */
	struct iof_index *blocked; /* taken places of no use; values are what was taken: bytes, and BLOCKED_AREA */
	struct iof_space *space;
	struct iof_recycle *recycle;
	struct iof_slab records;
	struct iof_va_index *va_index; /* NULL: nobody asked for it. Changes under the written gate */
	struct iofi_kranges usable, allowed; /* as read last from the kernel; as given to it last */
	uint64_t alignment, granule, bytes, n_maps, n_unmaps, n_copies;
	struct iof_kernel_counts counts;
	uint16_t epoch; /* of the space: how often it was built */
};

/* ---- objects and endpoints (kernel_objects.c) ---- */

enum iofi_kkind { IOFI_KIOAS = 1, IOFI_KHWPT, IOFI_KVIOMMU, IOFI_KDEVICE };

struct iofi_kobject {
	uint32_t id, ioas_id; /* the IOAS below it; a device: 0 */
	uint8_t kind;
	bool automatic, nested, tracking;
	struct iofi_kioas *ioas; /* of an IOAS */
	uint32_t device, group; /* of a device */
};

struct iofi_kend {
	struct iofi_kend *next; /* ascending by device id, then PASID; IOF_NO_PASID comes first */
	uint32_t dev_id, pasid, hwpt_id;
};

struct iofi_kcontext {
	struct iof_handle handle;
	_Atomic uint32_t refs; /* the handle's, and one for each device handle */
	_Atomic int fd; /* -1: closed */
	struct iof_alloc heap, *alloc;
	struct iof_sys sys;
	enum iof_iova_choice choice;
	struct iof_lock control, lock;
	struct iof_index *objects; /* by id; values are objects */
	struct iofi_kend *ends;
	uint32_t devices; /* handles made, ever: numbers for those without one */
};

/* A device's file, or one that a command opened. */
struct iofi_kfile {
	struct iof_handle handle;
	struct iofi_kcontext *ctx;
	int fd;
	uint32_t device, group; /* group: UINT32_MAX - device when not known, so that it is one of its own */
	_Atomic uint32_t dev_id; /* 0: not bound, or elsewhere */
};

static inline struct iofi_kcontext *iofi_kcontext(const struct iof_handle *h)
{
	return (struct iofi_kcontext *)h;
}

uint32_t iofi_kioas_tables(struct iofi_kcontext *ctx, uint32_t ioas_id); /* how many page tables it feeds */
void iofi_klearn(struct iofi_kcontext *ctx, uint32_t ioas_id); /* its usable ranges may have changed; 0: none. Takes locks */
bool iofi_kcontext_is(const struct iof_handle *h);
void iofi_kcontext_put(struct iofi_kcontext *ctx);
int iofi_kcall(struct iofi_kcontext *ctx, unsigned long cmd, void *arg); /* the system call on the context */
extern const struct iof_sys iofi_sys_libc;

struct iofi_kobject *iofi_kobject_find(struct iofi_kcontext *ctx, uint32_t id); /* under context.lock */
/* Reserved before the system call that makes it, so that nothing can fail after it. */
struct iofi_kobject *iofi_kobject_new(struct iofi_kcontext *ctx, enum iofi_kkind kind);
void iofi_kobject_drop(struct iofi_kcontext *ctx, struct iofi_kobject *o); /* one that is not listed */
int iofi_kobject_add(struct iofi_kcontext *ctx, struct iofi_kobject *o, uint32_t id); /* replaces what is there; -ENOMEM */
void iofi_kobject_remove(struct iofi_kcontext *ctx, uint32_t id);
void iofi_kobjects_destroy(struct iofi_kcontext *ctx);

/* Endpoints. All under context.lock. */
struct iofi_kend *iofi_kend_find(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid);
int iofi_kend_add(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid); /* 0, also when it is there; -ENOMEM */
void iofi_kends_remove(struct iofi_kcontext *ctx, uint32_t dev_id); /* all of a device */
/* The endpoint is at another page table (0: at none), and so are those of its group that it shares a seat with. */
void iofi_kend_move(struct iofi_kcontext *ctx, uint32_t dev_id, uint32_t pasid, uint32_t hwpt_id);
void iofi_khwpt_sweep(struct iofi_kcontext *ctx); /* automatic page tables that nothing is attached to any more */
uint32_t iofi_kioas_below(struct iofi_kcontext *ctx, uint32_t pt_id); /* the IOAS that feeds a page table, or is it; 0 */

/* An IOAS by id with one user, taken in when it is the kernel's but not ours yet. NULL: there is none. */
struct iofi_kioas *iofi_kioas_get(struct iofi_kcontext *ctx, uint32_t id);
void iofi_kioas_put(struct iofi_kioas *io);

int iofi_kioas_create(struct iof_alloc *a, uint32_t id, struct iofi_kioas **out);
struct iofi_kmap *iofi_kmap_new(struct iofi_kioas *io); /* under the lock, like all below; NULL: no memory */
int iofi_kmap_insert(struct iofi_kioas *io, struct iofi_kmap *m); /* -EEXIST, -ENOMEM */
void iofi_kmap_remove(struct iofi_kioas *io, struct iofi_kmap *m); /* out of the ledger; its place is free again */
struct iofi_kmap *iofi_kmap_first(struct iofi_kioas *io, struct iof_range r);
void iofi_kmap_evict(struct iofi_kioas *io, struct iof_range r); /* LIVE records that cannot be: gone behind our back */

/* ---- places (kernel_space.c), under the lock ---- */

/* Finds room for [address, address + length) and takes it for the record: range, slot, place. -ENOSPC, -ENOMEM, -EOVERFLOW. */
int iofi_kspace_take(struct iofi_kioas *io, struct iofi_kmap *m, uint64_t address, uint64_t length);
/* Room for several records in a row, of `length` together: where. Nothing is taken. */
int iofi_kspace_row(struct iofi_kioas *io, uint64_t address, uint64_t length, uint64_t *iova);
int iofi_kspace_claim(struct iofi_kioas *io, struct iofi_kmap *m); /* the place of a range that somebody else chose; -ENOMEM */
void iofi_kspace_give(struct iofi_kioas *io, struct iofi_kmap *m);
void iofi_kspace_block(struct iofi_kioas *io, struct iofi_kmap *m); /* what was taken is of no use */
/* Without the lock: reads the usable ranges. True: they have changed. Errors are ignored, the old ones stay. */
bool iofi_kspace_read(struct iofi_kcontext *ctx, struct iofi_kioas *io);
int iofi_kspace_build(struct iofi_kioas *io); /* anew, from the usable and the allowed ranges; -ENOMEM: as it was */
void iofi_kspace_allow(struct iofi_kioas *io, const struct iof_range *ranges, size_t n); /* takes the lock itself */
void iofi_kspace_destroy(struct iofi_kioas *io);

/* ---- the address index (kernel_va.c) ---- */

/* With the gate, read or written; without the lock or with it. Nothing happens without an index. */
int iofi_kva_add(struct iofi_kioas *io, const struct iofi_kmap *m); /* its system call is done; -ENOMEM */
void iofi_kva_drop(struct iofi_kioas *io, const struct iofi_kmap *m); /* added, but it does not go live */
/* Under the lock. */
void iofi_kva_added(const struct iofi_kioas *io, struct iofi_kmap *m); /* it was added, and goes live */
void iofi_kva_hide(struct iofi_kioas *io, struct iofi_kmap *m);
int iofi_kva_show(struct iofi_kioas *io, struct iofi_kmap *m); /* -ENOMEM: it is not found */
/* Under the written gate. They take the lock. */
void iofi_kva_hide_range(struct iofi_kioas *io, struct iof_range r);
int iofi_kva_show_range(struct iofi_kioas *io, struct iof_range r);
void iofi_kva_fini(struct iofi_kioas *io);
int iofi_kernel_va_index(struct iof_handle *h, uint32_t ioas_id, struct iof_va_index **out);

/* ---- commands ---- */

int iofi_kpeek(void *to, size_t known, const void *arg); /* the caller's struct, zero where it ends early; -EFAULT */

int iofi_kernel_control(struct iofi_kcontext *ctx, unsigned long cmd, void *arg); /* kernel_control.c */
/* MAP, MAP_FILE; `place`: an IOVA that is left open is chosen here. */
int iofi_kernel_map(struct iofi_kcontext *ctx, unsigned long cmd, void *arg, bool place);
int iofi_kernel_copy(struct iofi_kcontext *ctx, void *arg, bool place);
int iofi_kernel_unmap(struct iofi_kcontext *ctx, void *arg);

/* ---- one map in steps (kernel_map.c): a batch takes them side by side ---- */

#define IOFI_EXCLUSIVE 1 /* nothing was done: the whole IOAS is needed (the written gate), for the kernel to choose */

struct iofi_krequest {
	unsigned long cmd;
	union {
		struct iof_cmd_ioas_map map;
		struct iof_cmd_ioas_map_file file;
	} c;
	uint64_t address, length, iova; /* iova: with FIXED */
	uint32_t flags;
	bool own; /* the IOVA is ours to choose */
};

int iofi_kmap_begin(struct iofi_kioas *io, const struct iofi_krequest *rq, struct iofi_kmap **out); /* under ioas.lock */
int iofi_kmap_submit(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, struct iofi_kmap *m);
void iofi_kmap_finish(struct iofi_kioas *io, struct iofi_kmap *m, int rc, bool own); /* under ioas.lock */
/* Under the written gate: the kernel chooses, or takes a FIXED one that our ledger believes taken. */
int iofi_kmap_exclusive(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, void *arg);
int iofi_kernel_unmap_range(struct iofi_kcontext *ctx, uint32_t ioas_id, struct iof_range r); /* the system call alone */

/* Unmapping (kernel_unmap.c). mark: under ioas.lock; the record if it is this range, now UNMAPPING. */
struct iofi_kmap *iofi_kunmap_mark(struct iofi_kioas *io, uint64_t iova, uint64_t length);
void iofi_kunmap_finish(struct iofi_kioas *io, struct iofi_kmap *m, int rc); /* under ioas.lock */
/* Under the written gate, any range. `c` is the command as it is given to the kernel. */
int iofi_kunmap_exclusive(struct iofi_kcontext *ctx, struct iofi_kioas *io, void *c, uint64_t iova, uint64_t length);

int iofi_kernel_map_many(struct iof_handle *h, struct iof_map_many *many);
int64_t iofi_kernel_unmap_many(struct iof_handle *h, struct iof_unmap_many *many);

/* ---- queries (kernel_query.c) ---- */

int64_t iofi_kernel_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
			      uint8_t *prots);
int64_t iofi_kernel_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n,
			      struct iof_endpoint_info *out);
int iofi_kernel_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out);
int iofi_kernel_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out);
int iofi_kernel_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out);
int iofi_kernel_entries(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_entries *out);
int iofi_kernel_place(struct iof_handle *h, uint32_t ioas_id, uint64_t address, uint64_t length, uint64_t *iova);

/* ---- devices (kernel_device.c) ---- */

int iofi_kdevice_command(struct iofi_kfile *f, unsigned long cmd, void *arg);
void iofi_kdevice_close(struct iofi_kfile *f); /* the descriptor; the handle stays */

#endif
