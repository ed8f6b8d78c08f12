/* SPDX-License-Identifier: Apache-2.0 */
/* Powers of two, logarithms and alignment on 64-bit integers. */
#ifndef IOF_UTIL_BITS_H
#define IOF_UTIL_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The CPU page: the granule of pinning and accounting. Only 4 KiB; other page sizes are refused at start-up. */
#define IOF_PAGE_SHIFT 12
#define IOF_PAGE_SIZE (UINT64_C(1) << IOF_PAGE_SHIFT)
#define IOF_PAGE_MASK (IOF_PAGE_SIZE - 1)

#define IOF_CACHELINE 64
#define iof_likely(x) __builtin_expect(!!(x), 1)
#define iof_unlikely(x) __builtin_expect(!!(x), 0)
#define iof_container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

static inline bool iof_is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* floor(log2(v)); v != 0. */
static inline unsigned iof_log2(uint64_t v)
{
	return 63 - (unsigned)__builtin_clzll(v);
}

/* Index of the lowest set bit; 64 for v = 0. */
static inline unsigned iof_ctz(uint64_t v)
{
	return v ? (unsigned)__builtin_ctzll(v) : 64;
}

/* 2^n - 1, for n up to 64. */
static inline uint64_t iof_low_mask(unsigned n)
{
	return n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/* The smallest power of two >= v, for 1 <= v <= 2^63. */
static inline uint64_t iof_pow2_ceil(uint64_t v)
{
	return v <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(v - 1));
}

static inline uint64_t iof_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* False when rounding up passes 2^64-1; align is a power of two. */
static inline bool iof_align_up(uint64_t v, uint64_t align, uint64_t *out)
{
	*out = (v + (align - 1)) & ~(align - 1);
	return *out >= v;
}

#endif
