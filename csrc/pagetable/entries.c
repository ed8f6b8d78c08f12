// SPDX-License-Identifier: Apache-2.0
/* Whole tables with vectors of 32 and of 64 bytes, for machines that have them. */
#include "pagetable/entries.h"

#ifdef IOFI_ENTRIES_WIDE

#define V_BYTES 32
#define V_TARGET "avx2"
#define V_NAME(name) name##_avx2
#define V_COUNT { 0, 1, 2, 3 }
#define V_TEST(v, mask)                                                                                                \
	(!__builtin_ia32_ptestz256((__attribute__((vector_size(32))) long long)(v),                                    \
				   (__attribute__((vector_size(32))) long long)(mask)))
#include "pagetable/entries_wide.h"

#define V_BYTES 64
#define V_TARGET "avx512f,avx512bw,avx512dq,avx512vl"
#define V_NAME(name) name##_avx512
#define V_COUNT { 0, 1, 2, 3, 4, 5, 6, 7 }
#define V_TEST(v, mask)                                                                                                \
	__builtin_ia32_ptestmq512((__attribute__((vector_size(64))) long long)(v),                                     \
				  (__attribute__((vector_size(64))) long long)(mask), 0xff)
#include "pagetable/entries_wide.h"

#endif
