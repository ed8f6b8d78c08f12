/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timing for the C benchmarks: a case is a function that does `ops` operations; it is run for a number of rounds and
 * the best and the median round are printed, per operation, as one JSON line:
 *
 *   {"bench": "pagetable", "case": "vtdss/map_4k", "ns_min": 4.71, "ns_median": 4.80, "unit_ops": 512}
 *
 * A case that needs a state brought back between two rounds gives `reset`, which is not timed. Machines are shared:
 * ns_min is the figure.
 */
#ifndef IOF_BENCHMARKS_BENCH_H
#define IOF_BENCHMARKS_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_ROUNDS_MAX 1001

static inline uint64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int bench_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct bench {
	const char *name; /* of the program */
	const char *only; /* run cases whose name contains this; NULL: all */
	unsigned rounds; /* at most BENCH_ROUNDS_MAX */
};

/* Keeps a result, and the work behind it, from being optimised away. */
static inline void bench_keep(uint64_t v)
{
	__asm__ volatile("" : : "r"(v) : "memory");
}

/* Prints one line for samples given in nanoseconds per operation; sorts them. The best one. */
static inline double bench_report(const struct bench *b, const char *name, double *samples, unsigned n, uint64_t ops)
{
	qsort(samples, n, sizeof(*samples), bench_compare);
	printf("{\"bench\": \"%s\", \"case\": \"%s\", \"ns_min\": %.2f, \"ns_median\": %.2f, \"unit_ops\": %llu}\n",
	       b->name, name, samples[0], samples[n / 2], (unsigned long long)ops);
	fflush(stdout);
	return samples[0];
}

static inline int bench_wanted(const struct bench *b, const char *name)
{
	return !b->only || strstr(name, b->only);
}

/* The best round, in nanoseconds per operation; 0 when the case is not wanted. */
static inline double bench_run(const struct bench *b, const char *name, uint64_t ops, void (*run)(void *ctx),
			     void (*reset)(void *ctx), void *ctx)
{
	static double samples[BENCH_ROUNDS_MAX];
	unsigned n = b->rounds < BENCH_ROUNDS_MAX ? b->rounds : BENCH_ROUNDS_MAX;

	if (!bench_wanted(b, name))
		return 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t start;

		if (reset)
			reset(ctx);
		start = bench_now();
		run(ctx);
		samples[i] = (double)(bench_now() - start) / (double)ops;
	}
	return bench_report(b, name, samples, n, ops);
}

#endif
