/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/bitset.h"

static uint64_t words_for(uint64_t n)
{
	return (n + 63) / 64;
}

size_t iofi_bitset_words(uint64_t n)
{
	size_t total = 0;

	do {
		n = words_for(n);
		total += n;
	} while (n > 1);
	return total;
}

uint64_t *iofi_bitset_init(struct iofi_bitset *s, uint64_t *words, uint64_t n)
{
	s->levels = 0;
	do {
		n = words_for(n);
		s->level[s->levels++] = words;
		words += n;
	} while (n > 1);
	return words;
}
