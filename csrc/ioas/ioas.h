/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The IOAS: IOVA to memory, in software, replayed into each page table that joins (behaviour.md chapter 3).
 *
 * It has areas (space + records), page tables (`domains`), an alignment and a switch for large pages. An area is put into the index *in transition*, its pages
 * are held and shown in every domain without the IOVA lock, and then it goes live; unmapping is the mirror. Others see an area in transition as used
 * space (EEXIST), as busy (unmap: EBUSY) or not at all (copy).
 *
 * Locks: the domains lock, which is the gate of the object (object.h), is held for reading by whoever fills or empties areas, for writing by a page table that joins or leaves: it then meets no area
 * in transition. Inside it, records->lock (the IOVA lock) covers space, records and counters. `alignment` is written under both. The IOVA lock is taken by
 * iofi_iova_take(): where threads met on it there may be lanes (lane.h), and then part of what it covers is in them.
 *
 * In this file's functions a request that may not wait (`nowait`) gets -EAGAIN before anything was done.
 */
#ifndef IOF_IOAS_IOAS_H
#define IOF_IOAS_IOAS_H

#include "ioas/context.h"
#include "ioas/records.h"
#include "iova/va_index.h"
#include "iova/space.h"

#define IOF_NOWAIT_BYTES (UINT64_C(64) << 10) /* about a microsecond of work */

struct iof_lanes;

/* What maps and unmaps write stands elsewhere, in `records`: threads in lanes read this all the time. */
struct iof_ioas {
	struct iof_object object;
	struct iof_context *ctx;
	struct iof_memory *memory; /* the machine's */
	struct iof_records *records;
	struct iof_space *space;
	uint64_t alignment; /* power of two: what IOVAs and lengths must be multiples of */
	struct iof_hwpt **domains; /* domains lock: dense; the last takes the place of one that leaves */
	uint32_t n_domains, room;
	struct iof_va_index *va_index; /* changed like `domains`; NULL: nobody has asked for it (va.h) */
	bool small_pages; /* large pages are off: leaves of at most a PAGE */
	struct iof_hwpt *first_hwpt, *last_hwpt; /* control lock: in order of creation */
	struct iof_access **accesses; /* by registration id, NULL: free. Changed under both, like what follows */
	uint32_t access_room, n_accesses, lowest_access; /* every registration id below lowest_access is taken */
	uint32_t n_pinning; /* accesses that pin and so ask for PAGE alignment */
	uint64_t pieces; /* IOVA lock: the sum of the areas' accesses */
	struct iof_rwlock use_lock; /* between the two locks: read by accesses at work, see access.h */
	struct iof_lanes *_Atomic lanes; /* IOVA lock; NULL: nobody has needed any */
};

int iof_ioas_create(struct iof_context *ctx, struct iof_ioas **out); /* reserved, not published: control lock. -ENOMEM */
void iof_ioas_dispose(struct iof_ioas *ioas); /* unmaps everything; it is out of the table */

struct iof_map_request {
	uint64_t user_va, length; /* user_va: the offset with `file` */
	uint64_t iova; /* in with `fixed`, out else */
	unsigned prot; /* IOF_PROT_READ | IOF_PROT_WRITE */
	bool fixed, nowait;
	bool file; /* of the file behind `fd`, a descriptor of this process */
	int fd;
	enum iof_hold_policy policy;
};

/* ---- maps and unmaps: the caller reads the gate (iof_object_enter()) ---- */

/* IOAS_MAP from R4.1.2 on (2.6), IOAS_MAP_FILE from its length on (2.16): the errnos of R3.5, R3.6bis and the page table's. */
int iof_ioas_map(struct iof_ioas *ioas, struct iof_map_request *rq);

#define IOF_BATCH 64

/*
 * n <= IOF_BATCH maps at once, equal to as many calls, but all go into the index under one lock, and then into the page tables without it. 0, or the
 * errno of the first that fails: *failed says which, and none is mapped. Not for `nowait`.
 */
int iof_ioas_map_batch(struct iof_ioas *ioas, struct iof_map_request *rq, size_t n, size_t *failed);

/*
 * Other memory for a mapping, at its IOVAs and in one step: no DMA meets neither, and none meets the old memory after another met the new. `rq` is
 * fixed, and its range exactly one mapping's. -ENOENT it is not; -EBUSY an access has it pinned; else what a map says. On errors all is as before.
 */
int iof_ioas_replace(struct iof_ioas *ioas, struct iof_map_request *rq);

struct iof_copy_request {
	uint64_t src_iova, length;
	uint64_t iova;
	unsigned prot;
	bool fixed;
};

/* IOAS_COPY in two steps, because the contract looks dst up only after the source was collected (2.4). */
struct iof_slice {
	struct iof_pages *pages; /* one reference */
	struct iof_area *area; /* once placed */
	uint64_t start_byte, length;
};

struct iof_slices {
	struct iof_slice *at;
	size_t n, room;
};

/* Collects the pieces behind [iova, iova+length): -EINVAL length 0, -EOVERFLOW, -ENOENT a gap, -ENOMEM (R3.6). */
int iof_ioas_collect(struct iof_ioas *src, uint64_t iova, uint64_t length, struct iof_slices *out);
int iof_ioas_map_slices(struct iof_ioas *dst, struct iof_slices *s, struct iof_copy_request *rq); /* takes what it uses */
void iof_slices_fini(struct iof_ioas *any, struct iof_slices *s); /* drops what was not used */

/*
 * Removes the areas inside r (R3.7): 0, -EBUSY in transition or locked, -ENOENT one sticks out, -EDEADLOCK an access does not let go. *bytes counts
 * what went, on errors too. Accesses are told about areas they have pinned, outside the gate: the caller holds no other lock.
 */
int iof_ioas_unmap(struct iof_ioas *ioas, struct iof_range r, bool nowait, uint64_t *bytes);

/*
 * Removes as many as it can of the first n <= IOF_BATCH ranges in one go, with one wait for readers: those that are one area each which may go at
 * once. Returns how many. The one it stopped at is for iof_ioas_unmap().
 */
size_t iof_ioas_unmap_batch(struct iof_ioas *ioas, const uint64_t *iovas, const uint64_t *lengths, size_t n);

/*
 * With large pages off: cuts the area at each of these IOVAs behind that byte, in order (R3.10); no area there, or its first or last byte: nothing to
 * do. -EBUSY in transition or going; -EOPNOTSUPP a dma-buf; -EINVAL misaligned, or pinned by an access; -ENOMEM. Earlier cuts stay.
 */
int iof_ioas_cut(struct iof_ioas *ioas, const uint64_t *at, size_t n);

/* ALLOW_IOVAS and IOVA_RANGES. */
int iof_ioas_allow(struct iof_ioas *ioas, const struct iof_range *ranges, size_t n);
size_t iof_ioas_ranges(struct iof_ioas *ioas, struct iof_range *out, size_t n, uint64_t *alignment);

/* OPTION HUGE_PAGES (R3.9): -EINVAL domains and areas are there; -EADDRINUSE an area is not PAGE aligned. */
int iof_ioas_set_large_pages(struct iof_ioas *ioas, bool on);
bool iof_ioas_large_pages(struct iof_ioas *ioas);

/* Would every area still do with this alignment? Under the IOVA lock. 0, -EADDRINUSE (R3.4.2). */
int iofi_ioas_check_alignment(struct iof_ioas *ioas, uint64_t alignment);

/* The alignment that follows from domains, accesses and switch (R3.4.1). */
uint64_t iofi_ioas_alignment(const struct iof_ioas *ioas);

/* Pages pinned by the containers that were mapped here (a copy's are counted where they were mapped). Under the IOVA lock. */
uint64_t iofi_ioas_pinned(struct iof_ioas *ioas);

/* Counters are written under the IOVA lock and read by anybody, so a plain sum will do: a locked instruction costs 5 ns. */
void iofi_lanes_close(struct iof_ioas *ioas); /* lane.h */

/* The domains lock; for writing see below. */
static inline struct iof_brlock *iofi_domains(const struct iof_ioas *ioas)
{
	return iof_object_gate(&ioas->object);
}

/* The IOVA lock, with everything it covers in its place. */
static inline void iofi_iova_take(struct iof_ioas *ioas)
{
	iof_lock_take(&ioas->records->lock);
	if (iof_unlikely(atomic_load_explicit(&ioas->lanes, memory_order_relaxed)))
		iofi_lanes_close(ioas);
}

static inline void iofi_iova_drop(struct iof_ioas *ioas)
{
	iof_lock_drop(&ioas->records->lock);
}

/* The domains lock for writing: nobody maps, unmaps or opens a lane, so all areas are in the index until it is dropped. */
static inline void iofi_domains_write(struct iof_ioas *ioas)
{
	iof_brlock_write(iofi_domains(ioas));
	iofi_iova_take(ioas);
	iofi_iova_drop(ioas);
}

static inline void iofi_domains_write_drop(struct iof_ioas *ioas)
{
	iof_brlock_write_drop(iofi_domains(ioas));
}

/* The counters are changed under the IOVA lock and read by anybody. */
static inline void iofi_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline struct iof_area *iofi_area_of(const struct iof_index_entry *e)
{
	return (struct iof_area *)(uintptr_t)e->value;
}

#endif
