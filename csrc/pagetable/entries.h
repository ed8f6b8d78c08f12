/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single entries and runs of entries.
 *
 * Entries are read and written by walkers and writers at the same time, each as one aligned 8-byte access. Single ones
 * go through the atomic built-ins, which are plain moves. Runs use 16-byte vectors, which the machine splits at 8-byte
 * boundaries at worst, so no walker sees half an entry. ThreadSanitizer cannot know that, so its build takes the atomic
 * loop.
 */
#ifndef IOF_PAGETABLE_ENTRIES_H
#define IOF_PAGETABLE_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cpu.h"

#define IOFI_BLOCK_ITEMS 512 /* of a 4 KiB table; larger ones are several of these */

#if defined(__SANITIZE_THREAD__)
#define IOFI_ENTRIES_ATOMIC 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IOFI_ENTRIES_ATOMIC 1
#endif
#endif
#if defined(__x86_64__) && !defined(IOFI_ENTRIES_ATOMIC)
#define IOFI_ENTRIES_WIDE 1
#endif

/* Acquire: what an entry points to was written before the entry. */
static inline uint64_t iofi_entry_load(const uint64_t *e)
{
	return __atomic_load_n(e, __ATOMIC_ACQUIRE);
}

static inline void iofi_entry_store(uint64_t *e, uint64_t value)
{
	__atomic_store_n(e, value, __ATOMIC_RELAXED);
}

/* Installs a table: it must be visible whole before its entry is. */
static inline bool iofi_entry_install(uint64_t *e, uint64_t value)
{
	uint64_t empty = 0;

	return __atomic_compare_exchange_n(e, &empty, value, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

#ifdef IOFI_ENTRIES_ATOMIC

static inline uint64_t iofi_entries_or(const uint64_t *e, size_t n)
{
	uint64_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= iofi_entry_load(&e[i]);
	return any;
}

static inline uint64_t iofi_entries_and(const uint64_t *e, size_t n)
{
	uint64_t all = UINT64_MAX;

	for (size_t i = 0; i < n; i++)
		all &= iofi_entry_load(&e[i]);
	return all;
}

static inline void iofi_entries_fill(uint64_t *e, size_t n, uint64_t value, uint64_t step)
{
	for (size_t i = 0; i < n; i++, value += step)
		iofi_entry_store(&e[i], value);
}

#else

typedef uint64_t iofi_v2 __attribute__((vector_size(16), aligned(8), may_alias));

static inline iofi_v2 iofi_entries_load(const uint64_t *e)
{
	return *(const iofi_v2 *)(const void *)e;
}

static inline uint64_t iofi_entries_or(const uint64_t *e, size_t n)
{
	iofi_v2 any = { 0, 0 };
	const uint64_t *end = e + n;

	for (; end - e >= 8; e += 8)
		any |= (iofi_entries_load(e) | iofi_entries_load(e + 2)) |
		       (iofi_entries_load(e + 4) | iofi_entries_load(e + 6));
	for (; end - e >= 2; e += 2)
		any |= iofi_entries_load(e);
	return any[0] | any[1] | (e < end ? *e : 0);
}

/* n is a multiple of 16. */
static inline uint64_t iofi_entries_and(const uint64_t *e, size_t n)
{
	const iofi_v2 ones = { UINT64_MAX, UINT64_MAX };
	iofi_v2 a = ones, b = ones, c = ones, d = ones;

	for (const uint64_t *end = e + n; e < end; e += 16) {
		a &= iofi_entries_load(e);
		b &= iofi_entries_load(e + 2);
		c &= iofi_entries_load(e + 4);
		d &= iofi_entries_load(e + 6);
		a &= iofi_entries_load(e + 8);
		b &= iofi_entries_load(e + 10);
		c &= iofi_entries_load(e + 12);
		d &= iofi_entries_load(e + 14);
	}
	a &= b & c & d;
	return a[0] & a[1];
}

/* e[i] = value + i * step. */
static inline void iofi_entries_fill(uint64_t *e, size_t n, uint64_t value, uint64_t step)
{
	iofi_v2 v = { value, value + step }, by = { 2 * step, 2 * step }, by4 = by + by;
	iofi_v2 w = v + by;
	uint64_t *end = e + n;

	for (; end - e >= 4; e += 4, v += by4, w += by4) {
		*(iofi_v2 *)(void *)e = v;
		*(iofi_v2 *)(void *)(e + 2) = w;
	}
	for (value = v[0]; e < end; e++, value += step)
		*e = value;
}

#endif

/*
 * Moves `from` (a multiple of IOFI_SCAN_ITEMS) on over blocks of that many entries in which nobody has a bit of `mask`; where it stops, there may be one
 * in the block, or too few are left before `end`.
 */
#define IOFI_SCAN_ITEMS 16

static inline unsigned iofi_entries_scan_narrow(const uint64_t *e, unsigned from, unsigned end, uint64_t mask)
{
	while (from + IOFI_SCAN_ITEMS <= end && !(iofi_entries_or(e + from, IOFI_SCAN_ITEMS) & mask))
		from += IOFI_SCAN_ITEMS;
	return from;
}

/* Whole tables: `items` is a multiple of 512, and a constant where this is called. `vectors` is iof_cpu_vectors(). */
#ifdef IOFI_ENTRIES_WIDE
#define IOFI_ENTRIES_VARIANT(v)                                                                                        \
	uint64_t iofi_table_and_##v(const uint64_t *block, const uint64_t *next);                                      \
	void iofi_table_fill_##v(uint64_t *block, uint64_t value, uint64_t step);                                      \
	unsigned iofi_entries_scan_##v(const uint64_t *e, unsigned from, unsigned end, uint64_t mask);
IOFI_ENTRIES_VARIANT(avx2)
IOFI_ENTRIES_VARIANT(avx512)
#define IOFI_ENTRIES_BY(vectors, wide, wider, plain)                                                                   \
	((vectors) == IOF_VECTORS_AVX512 ? (wider) : (vectors) == IOF_VECTORS_AVX2 ? (wide) : (plain))
#else
#define IOFI_ENTRIES_BY(vectors, wide, wider, plain) ((void)(vectors), (plain))
#endif

static inline unsigned iofi_entries_scan(const uint64_t *e, unsigned from, unsigned end, uint64_t mask,
					 enum iof_vectors vectors)
{
	return IOFI_ENTRIES_BY(vectors, iofi_entries_scan_avx2(e, from, end, mask),
			       iofi_entries_scan_avx512(e, from, end, mask),
			       iofi_entries_scan_narrow(e, from, end, mask));
}

/* `next`: the table that will be asked about after this one, or NULL. */
static inline uint64_t iofi_table_and(const uint64_t *table, const uint64_t *next, size_t items,
				      enum iof_vectors vectors)
{
	uint64_t all = UINT64_MAX;

	for (size_t i = 0; i < items; i += IOFI_BLOCK_ITEMS) {
		const uint64_t *then = next ? next + i : NULL;

		(void)then;
		all &= IOFI_ENTRIES_BY(vectors, iofi_table_and_avx2(table + i, then),
				       iofi_table_and_avx512(table + i, then),
				       iofi_entries_and(table + i, IOFI_BLOCK_ITEMS));
	}
	return all;
}

static inline void iofi_table_fill(uint64_t *table, size_t items, uint64_t value, uint64_t step,
				   enum iof_vectors vectors)
{
	for (size_t i = 0; i < items; i += IOFI_BLOCK_ITEMS)
		IOFI_ENTRIES_BY(vectors, iofi_table_fill_avx2(table + i, value + i * step, step),
				iofi_table_fill_avx512(table + i, value + i * step, step),
				iofi_entries_fill(table + i, IOFI_BLOCK_ITEMS, value + i * step, step));
}

#endif
