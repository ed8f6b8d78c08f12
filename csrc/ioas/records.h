/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of an IOAS's mappings, and the lock they share with its index.
 *
 * A mapping is an *area*: a stretch of IOVAs showing a slice of a page container. MAP makes area and container as one record of 56 bytes, in which
 * nothing stands that follows from where the record is; COPY makes a bare area that shares the container of another record. A record lives until its container's last area is gone, which may be later than its own IOAS: so the pool
 * of records is an object of its own that outlives the IOAS while records do. The pool's lock is the IOAS's IOVA lock, so the map
 * path takes one lock for index and record.
 *
 * Two dangerous words: `start_byte` counts from the container's slot 0, not from the area; a *bare* area has no container inside.
 */
#ifndef IOF_IOAS_RECORDS_H
#define IOF_IOAS_RECORDS_H

#include "pages/pages.h"
#include "util/lock.h"
#include "util/slab.h"

enum iof_area_state {
	IOF_AREA_FILLING = 0, /* in transition: in the index, not usable yet */
	IOF_AREA_LIVE = 1,
	IOF_AREA_REMOVING = 2, /* in transition: on its way out */
};

#define IOF_AREA_ACCESSES_MAX ((UINT32_C(1) << 23) - 1)

struct iof_area {
	uint32_t accesses : 23; /* IOVA lock: pieces that accesses have pinned; while there are any, the area stays (access.h) */
	uint32_t locks : 8; /* IOVA lock: those of internal accesses: unmap is refused */
	uint32_t prevent : 1; /* IOVA lock: an unmap waits for these pieces, no new ones */
	/* What follows has no bits in common with the three above, so that they may be written under different locks. */
	_Atomic uint8_t state; /* enum iof_area_state; changed under the IOVA lock, or by the owner of a transition */
	uint8_t held; /* its slots are held: a page table shows them; owner of a transition, or domains lock for writing */
	/* Never changed. `first_byte` is iof_area_byte() of an area that is not bare: less than a PAGE. */
	uint16_t bare : 1, prot : 3, first_byte : 12; /* no container inside; IOF_PROT_READ | IOF_PROT_WRITE */
};

/* Without a container of its own. */
struct iof_bare {
	struct iof_area area;
	struct iof_pages *pages;
	uint64_t start_byte;
};

struct iof_record {
	struct iof_area area;
	struct iof_pages pages;
};

_Static_assert(sizeof(struct iof_record) == 56, "every mapping has one");

static inline struct iof_pages *iof_area_pages(const struct iof_area *area)
{
	return iof_unlikely(area->bare) ? iof_container_of(area, struct iof_bare, area)->pages :
					  &iof_container_of(area, struct iof_record, area)->pages;
}

/* The container's byte that is shown at the area's first IOVA. */
static inline uint64_t iof_area_byte(const struct iof_area *area)
{
	return iof_unlikely(area->bare) ? iof_container_of(area, struct iof_bare, area)->start_byte : area->first_byte;
}

/* Free records that batches of a few threads have at hand without the IOVA lock. */
struct iof_stock {
	_Alignas(IOF_CACHELINE) struct iof_lock lock; /* inside the IOVA lock, if both */
	uint32_t n;
	struct iof_record *free; /* a chain through their first words */
};

/* Of calls that succeeded; bytes that are mapped, modulo 2^64. */
struct iof_counters {
	_Atomic uint64_t maps, unmaps, copies, bytes;
};

struct iof_records {
	struct iof_lock lock; /* the IOAS's IOVA lock; protects everything below and the IOAS's space */
	struct iof_counters count; /* the IOAS's: on the line that whoever has the lock has too */
	struct iof_slab whole, bare; /* struct iof_record, struct iof_bare; what is in a stock is live here */
	struct iof_memory *memory;
	bool orphan; /* the IOAS is gone */
	struct iof_stock stock[IOF_STRIPES];
};

int iof_records_create(struct iof_memory *m, struct iof_records **out); /* 0, -ENOMEM */
void iof_records_orphan(struct iof_records *r); /* the IOAS lets go; freed with the last record */

/* Under the lock. NULL: no memory. The container of a whole record is not initialised. */
struct iof_record *iof_records_get(struct iof_records *r);
struct iof_bare *iof_records_get_bare(struct iof_records *r);

/* Under the lock: gives a record back whose container was never initialised or is finished. */
void iof_records_put(struct iof_records *r, struct iof_record *rec);

uint64_t iof_records_in_use(struct iof_records *r); /* under the lock: whole ones that are in no stock */

/*
 * Without the lock, for batches: n uninitialised records, or as many as there is memory for; and back, finished or never initialised. A stock takes so many and no more.
 */
size_t iof_records_draw(struct iof_records *r, struct iof_record **out, size_t n);
void iof_records_return(struct iof_records *r, struct iof_record *const *rec, size_t n);

/*
 * Under the lock of `r`: an area leaves the IOAS. What remains to be done without the lock (the container's last reference
 * was in another pool) comes back as a record for iof_record_retire(); NULL: nothing.
 */
struct iof_record *iof_area_put(struct iof_records *r, struct iof_area *area);
/*
 * The same for an area that is not bare, under the lock of whatever it was in: the record, finished, is the caller's to keep or to put. NULL: its container has other areas.
 */
struct iof_record *iof_area_end(struct iof_records *r, struct iof_area *area);
void iof_stock_empty(struct iof_records *r); /* back to the slab; under the lock */
void iof_record_retire(struct iof_record *rec); /* under no records lock; NULL is fine */

#endif
