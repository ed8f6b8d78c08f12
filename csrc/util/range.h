/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closed ranges: [start, last], both ends inside.
 *
 * A closed range can name every byte up to 2^64-1, which a start/end pair cannot; its length, on the other hand, does
 * not fit 64 bits for the whole space. So lengths are taken in at the edge, once, by iof_range_make(), and everything
 * below speaks start and last.
 */
#ifndef IOF_UTIL_RANGE_H
#define IOF_UTIL_RANGE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

struct iof_range {
	uint64_t start;
	uint64_t last;
};

#define IOF_RANGE_ALL ((struct iof_range){ 0, UINT64_MAX })

/* -EINVAL: length 0. -EOVERFLOW: start + length - 1 passes 2^64-1. */
static inline int iof_range_make(uint64_t start, uint64_t length, struct iof_range *out)
{
	if (!length)
		return -EINVAL;
	if (length - 1 > UINT64_MAX - start)
		return -EOVERFLOW;
	*out = (struct iof_range){ start, start + (length - 1) };
	return 0;
}

/* Length minus one: exact for every range, the whole space included. */
static inline uint64_t iof_range_span(struct iof_range r)
{
	return r.last - r.start;
}

/* The length; 0 stands for 2^64. */
static inline uint64_t iof_range_length(struct iof_range r)
{
	return r.last - r.start + 1;
}

static inline bool iof_range_intersects(struct iof_range a, struct iof_range b)
{
	return a.start <= b.last && b.start <= a.last;
}

static inline bool iof_range_contains(struct iof_range outer, struct iof_range inner)
{
	return outer.start <= inner.start && inner.last <= outer.last;
}

static inline bool iof_range_has(struct iof_range r, uint64_t at)
{
	return r.start <= at && at <= r.last;
}

/* The common part; only for ranges that intersect. */
static inline struct iof_range iof_range_clip(struct iof_range a, struct iof_range b)
{
	return (struct iof_range){ a.start > b.start ? a.start : b.start, a.last < b.last ? a.last : b.last };
}

#endif
