// SPDX-License-Identifier: Apache-2.0
/* The compiler's built-ins ask the processor, and whether the system keeps the registers. */
#define _GNU_SOURCE
#include "util/cpu.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
	[IOF_VECTORS_PLAIN] = "plain",
	[IOF_VECTORS_AVX2] = "avx2",
	[IOF_VECTORS_AVX512] = "avx512",
};

bool iof_cpu_has(enum iof_vectors v)
{
#if defined(__x86_64__)
	if (v == IOF_VECTORS_AVX2)
		return __builtin_cpu_supports("avx2");
	if (v == IOF_VECTORS_AVX512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
	return v == IOF_VECTORS_PLAIN;
}

enum iof_vectors iof_cpu_vectors(void)
{
	const char *asked = secure_getenv("IOMMUFD_FAST_VECTORS");
	enum iof_vectors best = IOF_VECTORS_AVX512;

	for (unsigned v = 0; asked && v <= IOF_VECTORS_AVX512; v++)
		if (!strcmp(asked, names[v]) && iof_cpu_has((enum iof_vectors)v))
			return (enum iof_vectors)v;
	while (!iof_cpu_has(best))
		best--;
	return best;
}
