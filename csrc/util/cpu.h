/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vectors the machine has.
 *
 * Plain ones are 16 bytes wide and need no asking: every x86-64 has SSE2, every 64-bit ARM has NEON, and elsewhere the
 * compiler makes two words of them. The wider ones are asked for when the program runs, so one build serves all
 * machines.
 *
 * For tests and for doubtful machines the environment variable IOMMUFD_FAST_VECTORS says "plain", "avx2" or "avx512"
 * and is read each time; what the machine does not have, and any other word, changes nothing.
 */
#ifndef IOF_UTIL_CPU_H
#define IOF_UTIL_CPU_H

#include <stdbool.h>

enum iof_vectors {
	IOF_VECTORS_PLAIN,
	IOF_VECTORS_AVX2, /* 32 bytes */
	IOF_VECTORS_AVX512, /* 64 bytes: F, BW, DQ and VL */
};

bool iof_cpu_has(enum iof_vectors v);

/* The widest, or what the environment asks for. Thread-safe as far as getenv() is. */
enum iof_vectors iof_cpu_vectors(void);

#endif
