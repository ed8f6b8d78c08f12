/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of small integers that knows its lowest member: words of 64 bits, and above them words that say which words below are not empty,
 * up to a single one. Everything takes as many steps as there are levels: three for 262 144 numbers.
 *
 * The words are the owner's. Not locked.
 */
#ifndef IOF_MEMORY_BITSET_H
#define IOF_MEMORY_BITSET_H

#include "util/bits.h"

#define IOFI_BITSET_LEVELS 5 /* up to 2^30 numbers */

struct iofi_bitset {
	uint64_t *level[IOFI_BITSET_LEVELS]; /* 0: the numbers themselves */
	unsigned levels;
};

/* How many words a set of the numbers 0 to n-1 has, n at least 1. */
size_t iofi_bitset_words(uint64_t n);
/* An empty set in zeroed words; where its words end. */
uint64_t *iofi_bitset_init(struct iofi_bitset *s, uint64_t *words, uint64_t n);

static inline bool iofi_bitset_has(const struct iofi_bitset *s, uint64_t i)
{
	return s->level[0][i / 64] >> (i % 64) & 1;
}

static inline bool iofi_bitset_empty(const struct iofi_bitset *s)
{
	return !*s->level[s->levels - 1];
}

static inline void iofi_bitset_add(struct iofi_bitset *s, uint64_t i)
{
	uint64_t was;

	for (unsigned l = 0; l < s->levels; l++, i /= 64) {
		was = s->level[l][i / 64];
		s->level[l][i / 64] = was | UINT64_C(1) << (i % 64);
		if (was)
			return;
	}
}

static inline void iofi_bitset_remove(struct iofi_bitset *s, uint64_t i)
{
	for (unsigned l = 0; l < s->levels; l++, i /= 64) {
		s->level[l][i / 64] &= ~(UINT64_C(1) << (i % 64));
		if (s->level[l][i / 64])
			return;
	}
}

/* The lowest member of a set that is not empty. */
static inline uint64_t iofi_bitset_first(const struct iofi_bitset *s)
{
	uint64_t i = 0;

	for (unsigned l = s->levels; l-- > 0;)
		i = i * 64 + iof_ctz(s->level[l][i]);
	return i;
}

#endif
