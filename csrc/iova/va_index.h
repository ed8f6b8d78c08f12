/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address index: from an address of the process to the IOVA that a device has to be told, the question of every I/O.
 *
 * What is mapped is a *run*: [start, last] of addresses, shown from `iova` on. A radix tree over 64-bit addresses has slots of 4 KiB,
 * 2 MiB, 1 GiB and 2^48 bytes; a run stands in the largest slots that it fills, and at its ends in the 4 KiB slots that it touches.
 * A slot is one word: 0, a run, a table of smaller slots, or a *knot*, where several things meet (va_index.c). So the
 * common answer takes two to four loads and the run's own line.
 *
 * Overlaps. One address may be mapped at several IOVAs. The lowest IOVA is the answer; when that mapping goes, the next lowest is.
 *
 * Reading takes no lock and may run beside every change. Runs, tables and knots are reused for their own kind only, never given
 * back before the index goes. A run carries a version, so that one that is being rewritten is not believed; and its own addresses,
 * so that one that was reached by an old path is. What a reader cannot tell that way, and everything that looks unmapped, is
 * asked again under the index's lock: a hit is a mapping that was there at some moment of the call, a miss likewise.
 *
 * Integers only: who feeds it says what the numbers mean. Changes take the index's own lock, which comes after every lock of the
 * floors above but the allocator's.
 *
 * This file is also read by programs in C++, hence the builtins instead of stdatomic.h.
 */
#ifndef IOF_IOVA_VA_INDEX_H
#define IOF_IOVA_VA_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iof_alloc;

#define IOF_NO_IOVA UINT64_MAX

/* ---- what the inline reader has to know; not for other use ---- */

struct iof_va_run {
	uint64_t version; /* odd while it is being written */
	uint64_t start, last, iova; /* start > last: free */
} __attribute__((aligned(32)));

struct iof_va_table {
	struct iof_va_table *next; /* the index's lock: free list, or list of roots */
	uint64_t used; /* the index's lock: slots that are not 0 */
	uint64_t slot[] __attribute__((aligned(64)));
};

struct iof_va_index {
	uint64_t low; /* the slot of addresses below 2^48; its table has slots of 1 GiB */
	uint64_t knots; /* 0: no address is mapped twice */
};

#define IOF_VA_SLOT_TABLE 1u
#define IOF_VA_SLOT_KNOT 2u
#define IOF_VA_SLOT_TAG 3u

static inline uint64_t iof_va_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* The slot number i below a slot that is a table. */
static inline uint64_t iof_va_below(uint64_t slot, uint64_t i)
{
	return iof_va_load(&((const struct iof_va_table *)(uintptr_t)(slot - IOF_VA_SLOT_TABLE))->slot[i]);
}

/* The run's answer for va: false when it has none, or is being rewritten. The loads are in order because each acquires. */
static inline bool iof_va_run_read(const struct iof_va_run *run, uint64_t va, uint64_t *iova, uint64_t *length)
{
	uint64_t version = iof_va_load(&run->version), start = iof_va_load(&run->start), last = iof_va_load(&run->last);

	*iova = iof_va_load(&run->iova) + (va - start);
	*length = last - va + 1;
	return !((va < start) | (va > last) | (version & 1) | (version != iof_va_load(&run->version)));
}

/* What the walk below leaves open. The same answers as iof_va_to_iova(). */
uint64_t iof_va_index_ask(const struct iof_va_index *ix, uint64_t va, uint64_t *length);

/* ---- reading ---- */

/*
 * The IOVA of address va, and in *length how many bytes from there on, to the end of its mapping, are contiguous in both. Nothing
 * is mapped there: IOF_NO_IOVA and length 0. From any thread; takes no lock where va is mapped once, whole pages, and below 2^48.
 */
static inline uint64_t iof_va_to_iova(const struct iof_va_index *ix, uint64_t va, uint64_t *length)
{
	uint64_t slot = iof_va_load(&ix->low), iova;

	if (__builtin_expect(!(va >> 48) && (slot & IOF_VA_SLOT_TABLE), 1)) {
		slot = iof_va_below(slot, va >> 30);
		if (slot & IOF_VA_SLOT_TABLE) {
			slot = iof_va_below(slot, va >> 21 & 511);
			if (slot & IOF_VA_SLOT_TABLE)
				slot = iof_va_below(slot, va >> 12 & 511);
		}
		if (__builtin_expect(slot && !(slot & IOF_VA_SLOT_TAG), 1) &&
		    iof_va_run_read((const struct iof_va_run *)(uintptr_t)slot, va, &iova, length))
			return iova;
	}
	return iof_va_index_ask(ix, va, length);
}

/* The same for n addresses, with loads of different addresses side by side. lengths may be NULL. How many are mapped. */
size_t iof_va_to_iova_many(const struct iof_va_index *ix, size_t n, const uint64_t *vas, uint64_t *iovas, uint64_t *lengths);

struct iof_va_stats {
	uint64_t runs, bytes; /* mapped ranges; memory of the index */
	uint64_t tables, knots; /* in use */
};
void iof_va_index_stats(const struct iof_va_index *ix, struct iof_va_stats *out);

/* One reference less; with the last the index goes. NULL is fine. */
void iof_va_index_put(struct iof_va_index *ix);

/* ---- feeding: for providers ---- */

/* With one reference. `end` (may be NULL) is called when everything is gone. -ENOMEM. */
int iof_va_index_create(struct iof_alloc *a, void (*end)(void *arg), void *arg, struct iof_va_index **out);
void iof_va_index_get(struct iof_va_index *ix);

/* Addresses [va, va+length) are at IOVAs from `iova` on. 0; -EINVAL length 0 or va wraps; -ENOMEM, nothing changed. */
int iof_va_index_insert(struct iof_va_index *ix, uint64_t va, uint64_t length, uint64_t iova);
/* Exactly as inserted: false when there is no such run. Needs no memory. */
bool iof_va_index_remove(struct iof_va_index *ix, uint64_t va, uint64_t length, uint64_t iova);

/* Is there exactly this run? Is everything as it should be? For tests. */
bool iof_va_index_has(const struct iof_va_index *ix, uint64_t va, uint64_t length, uint64_t iova);
bool iof_va_index_is_valid(const struct iof_va_index *ix);

#ifdef __cplusplus
}
#endif

#endif
