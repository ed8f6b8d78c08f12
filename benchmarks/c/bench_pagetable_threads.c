// SPDX-License-Identifier: Apache-2.0
/*
 * One page table, two threads in disjoint windows: does one writer slow the other down?
 *
 *   bench_pagetable_threads [part of a case's name] [rounds]
 *
 * A round is short: it begins at a signal that both threads spin on and lasts from the first to begin to the last to
 * end. A row `…/scaling` says how many times the work of one thread two did in the time; 2 is all there is. Two threads
 * need two idle processors: the best rounds are compared.
 *
 *   4k       a map and its unmap of single pages; windows of 2 MiB side by side, all tables are there
 *   512x4k   the same of 512 pages in one call: each unmap frees a table, each map takes one; windows of 1 GiB
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "pagetable/pagetable.h"

#define PAGE UINT64_C(4096)
#define MIB UINT64_C(0x100000)
#define BASE (UINT64_C(1) << 40)
#define MEMORY (UINT64_C(1) << 44)
#define RW (IOF_PROT_READ | IOF_PROT_WRITE)
#define PAGES 256u
#define REPEATS 16u

struct scenario {
	const char *name;
	uint64_t window, length;
	unsigned steps; /* places in the window, `length` apart; all are mapped before the first is unmapped */
};

struct worker {
	_Alignas(IOF_CACHELINE) struct iof_pt_gather g;
	struct iof_pt *pt;
	const struct scenario *what;
	unsigned self;
	_Atomic unsigned *go; /* the round to run; UINT_MAX ends */
	_Atomic unsigned done; /* the last round that was run */
	uint64_t began, ended;
};

static void must(int err)
{
	if (err) {
		fprintf(stderr, "bench_pagetable_threads: error %d\n", err);
		exit(1);
	}
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" : : : "memory");
#endif
}

/* No walker is about: what an unmap frees can be given back at once. */
static void work(struct worker *w)
{
	uint64_t start = BASE + w->self * w->what->window, length = w->what->length;

	for (unsigned n = 0; n < REPEATS; n++) {
		for (unsigned i = 0; i < w->what->steps; i++)
			must(iof_pt_map(w->pt, start + i * length, MEMORY + start + PAGE + i * length, length, RW, &w->g));
		for (unsigned i = 0; i < w->what->steps; i++) {
			must(iof_pt_unmap(w->pt, start + i * length, length, &w->g) == length ? 0 : -EFAULT);
			iof_pt_release(w->pt, &w->g);
		}
	}
}

static void one_round(struct worker *w, unsigned round)
{
	w->began = bench_now();
	work(w);
	w->ended = bench_now();
	atomic_store_explicit(&w->done, round, memory_order_release);
}

static void *other(void *arg)
{
	struct worker *w = arg;

	for (unsigned round, last = 0;; last = round) {
		while ((round = atomic_load_explicit(w->go, memory_order_acquire)) == last)
			relax();
		if (round == UINT32_MAX)
			return NULL;
		one_round(w, round);
	}
}

static double time_round(struct worker *w, unsigned n, unsigned round)
{
	uint64_t began, ended;

	if (n == 2)
		atomic_store_explicit(w[0].go, round, memory_order_release);
	one_round(&w[0], round);
	while (n == 2 && atomic_load_explicit(&w[1].done, memory_order_acquire) != round)
		relax();
	began = n == 2 && w[1].began < w[0].began ? w[1].began : w[0].began;
	ended = n == 2 && w[1].ended > w[0].ended ? w[1].ended : w[0].ended;
	return (double)(ended - began) / (REPEATS * w->what->steps);
}

static double rounds(const struct bench *b, const struct scenario *s, struct worker *w, unsigned n)
{
	static double samples[BENCH_ROUNDS_MAX];
	pthread_t thread;
	char row[64];

	atomic_store(w[0].go, 0);
	w[1].done = 0;
	if (n == 2)
		must(pthread_create(&thread, NULL, other, &w[1]));
	for (unsigned i = 0; i < b->rounds; i++)
		samples[i] = time_round(w, n, i + 1);
	atomic_store(w[0].go, UINT32_MAX);
	if (n == 2)
		pthread_join(thread, NULL);
	snprintf(row, sizeof(row), "vtdss/%s/threads%u", s->name, n);
	return bench_report(b, row, samples, b->rounds, (uint64_t)REPEATS * s->steps);
}

static void scenario(const struct bench *b, const struct scenario *s)
{
	const struct iof_pt_config cfg = { .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	static struct worker w[2];
	static _Alignas(IOF_CACHELINE) _Atomic unsigned go;
	struct iof_alloc alloc;
	struct iof_pt *pt;
	double ns[3];

	if (!bench_wanted(b, s->name))
		return;
	iof_alloc_init_heap(&alloc);
	must(iof_pt_create(&cfg, &alloc, &pt));
	for (unsigned i = 0; i < 2; i++) {
		w[i] = (struct worker){ .pt = pt, .what = s, .self = i, .go = &go };
		work(&w[i]);
	}
	for (unsigned n = 1; n <= 2; n++)
		ns[n] = rounds(b, s, w, n);
	must(iof_pt_is_valid(pt) ? 0 : -EIO);
	printf("{\"bench\": \"%s\", \"case\": \"vtdss/%s/scaling\", \"ratio\": %.2f}\n", b->name, s->name, 2 * ns[1] / ns[2]);
	iof_pt_destroy(pt);
}

int main(int argc, char **argv)
{
	struct bench b = { "pagetable_threads", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 501 };
	static const struct scenario scenarios[] = {
		{ "windows_2m/4k", 2 * MIB, PAGE, PAGES },
		{ "windows_1g/512x4k", 1024 * MIB, 2 * MIB, 8 },
	};

	b.rounds = b.rounds && b.rounds < BENCH_ROUNDS_MAX ? b.rounds : BENCH_ROUNDS_MAX;
	for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		scenario(&b, &scenarios[i]);
	return 0;
}
