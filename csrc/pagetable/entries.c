// SPDX-License-Identifier: Apache-2.0
/*
 * Whole tables with 32-byte vectors, for machines that have them: half the time of the 16-byte ones while a table is in
 * a cache. Compiled for any x86-64; whoever calls has asked iofi_entries_wide() before.
 */
#include "pagetable/entries.h"

#ifdef IOFI_ENTRIES_WIDE

typedef uint64_t v4 __attribute__((vector_size(32), aligned(8), may_alias));

bool iofi_entries_wide(void)
{
	return __builtin_cpu_supports("avx2");
}

/*
 * `next` is NULL, or a block that is scanned after this one. It is asked for as this one is read:
 * the machine's own prefetcher, which follows a scan, does not cross into another table.
 */
static inline __attribute__((always_inline, target("avx2"))) uint64_t table_and(const uint64_t *block, const char *next)
{
	const v4 ones = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
	const v4 *e = (const void *)block, *end = e + IOFI_BLOCK_ITEMS / 4;
	v4 a = ones, b = ones, c = ones, d = ones;

	for (; e < end; e += 8) {
		for (unsigned line = 0; next && line < 8 * sizeof(*e); line += 64)
			__builtin_prefetch(next + line);
		next = next ? next + 8 * sizeof(*e) : NULL;
		a &= e[0];
		b &= e[1];
		c &= e[2];
		d &= e[3];
		a &= e[4];
		b &= e[5];
		c &= e[6];
		d &= e[7];
	}
	a &= b & c & d;
	return a[0] & a[1] & a[2] & a[3];
}

__attribute__((target("avx2"))) uint64_t iofi_table_and_wide(const uint64_t *block, const uint64_t *next)
{
	return next ? table_and(block, (const char *)next) : table_and(block, NULL);
}

__attribute__((target("avx2"))) void iofi_table_fill_wide(uint64_t *block, uint64_t value, uint64_t step)
{
	const v4 by = { 4 * step, 4 * step, 4 * step, 4 * step };
	v4 *e = (void *)block, *end = e + IOFI_BLOCK_ITEMS / 4;
	v4 v = { value, value + step, value + 2 * step, value + 3 * step }, w = v + by;

	for (; e < end; e += 2, v += by + by, w += by + by) {
		e[0] = v;
		e[1] = w;
	}
}

__attribute__((target("avx2"))) unsigned iofi_entries_scan_wide(const uint64_t *e, unsigned from, unsigned end, uint64_t mask)
{
	typedef long long v4s __attribute__((vector_size(32)));
	const v4s m = { (long long)mask, (long long)mask, (long long)mask, (long long)mask };

	for (; from + IOFI_SCAN_ITEMS <= end; from += IOFI_SCAN_ITEMS) {
		const v4 *at = (const void *)(e + from);

		if (!__builtin_ia32_ptestz256((v4s)((at[0] | at[1]) | (at[2] | at[3])), m))
			break;
	}
	return from;
}

#endif
