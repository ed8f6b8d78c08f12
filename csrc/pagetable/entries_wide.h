/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole tables in vectors of one width. Included by entries.c once for each, which defines before
 *   V_BYTES, V_TARGET       the width, and what the compiler may use
 *   V_NAME(name)            what a function is called
 *   V_COUNT                 { 0, 1, 2, … }
 *   V_TEST(v, mask)         any bit of the mask in a vector
 * Compiled for every x86-64: whoever calls has asked iof_cpu_vectors() before.
 */

#define V_ITEMS (V_BYTES / 8)
#define V_STEP (256 / V_BYTES) /* vectors of four lines */

typedef uint64_t V_NAME(vector) __attribute__((vector_size(V_BYTES), aligned(8), may_alias));

static inline __attribute__((always_inline, target(V_TARGET))) V_NAME(vector) V_NAME(all)(uint64_t value)
{
	return (V_NAME(vector)){ 0 } + value;
}

/*
 * `next` is NULL, or a block that is scanned after this one. It is asked for as this one is read: the machine's own
 * prefetcher, which follows a scan, does not cross into another table.
 */
static inline __attribute__((always_inline, target(V_TARGET))) uint64_t V_NAME(scan_and)(const uint64_t *block,
											 const char *next)
{
	const V_NAME(vector) *e = (const void *)block, *end = e + IOFI_BLOCK_ITEMS / V_ITEMS;
	V_NAME(vector) a = V_NAME(all)(UINT64_MAX), b = a, c = a, d = a;
	uint64_t both = UINT64_MAX;

	for (; e < end; e += V_STEP) {
		for (unsigned line = 0; next && line < V_STEP * V_BYTES; line += 64)
			__builtin_prefetch(next + line);
		next = next ? next + V_STEP * V_BYTES : NULL;
		for (unsigned i = 0; i < V_STEP; i += 4) {
			a &= e[i];
			b &= e[i + 1];
			c &= e[i + 2];
			d &= e[i + 3];
		}
	}
	a &= b & c & d;
	for (unsigned i = 0; i < V_ITEMS; i++)
		both &= a[i];
	return both;
}

__attribute__((target(V_TARGET))) uint64_t V_NAME(iofi_table_and)(const uint64_t *block, const uint64_t *next)
{
	return next ? V_NAME(scan_and)(block, (const char *)next) : V_NAME(scan_and)(block, NULL);
}

__attribute__((target(V_TARGET))) void V_NAME(iofi_table_fill)(uint64_t *block, uint64_t value, uint64_t step)
{
	const V_NAME(vector) by = V_NAME(all)(V_ITEMS * step);
	V_NAME(vector) *e = (void *)block, *end = e + IOFI_BLOCK_ITEMS / V_ITEMS;
	const V_NAME(vector) count = V_COUNT;
	V_NAME(vector) v = count * step + value, w = v + by;

	for (; e < end; e += 2, v += by + by, w += by + by) {
		e[0] = v;
		e[1] = w;
	}
}

__attribute__((target(V_TARGET))) unsigned V_NAME(iofi_entries_scan)(const uint64_t *e, unsigned from, unsigned end,
								     uint64_t mask)
{
	for (; from + IOFI_SCAN_ITEMS <= end; from += IOFI_SCAN_ITEMS) {
		const V_NAME(vector) *at = (const void *)(e + from);
		V_NAME(vector) any = at[0] | at[1];

		for (unsigned i = 2; i < IOFI_SCAN_ITEMS / V_ITEMS; i++)
			any |= at[i];
		if (V_TEST(any, V_NAME(all)(mask)))
			break;
	}
	return from;
}

#undef V_ITEMS
#undef V_STEP
#undef V_BYTES
#undef V_TARGET
#undef V_NAME
#undef V_COUNT
#undef V_TEST
