/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers share: reading an input, and a driver for compilers without libFuzzer.
 *
 * LLVMFuzzerTestOneInput() is libFuzzer's entry (build with -DIOF_LIBFUZZER and -fsanitize=fuzzer). Without it the driver
 * here does the same job with -fsanitize-coverage=trace-pc: it keeps inputs that reach new edges, mutates them, and
 * tells executions, calls and edges. Its arguments:
 *
 *	[-seconds=N] [-calls=N] [-seed=N]	how long; where the random numbers begin
 *	[-corpus=DIR]				inputs to start from
 *	[-save=DIR]				write there the inputs that were kept, the shortest that reach every edge
 *	[FILE…]					run once each, and that is all
 */
#ifndef IOF_TESTS_FUZZ_H
#define IOF_TESTS_FUZZ_H

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t n_calls; /* what was asked of the code under test; the fuzzer counts */

#define MUST(cond)                                                                                                     \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- the input ---- */

struct input {
	const uint8_t *at, *end;
};

static uint8_t u8(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static uint64_t u64(struct input *in)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)u8(in) << 8 * i;
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a driver for compilers without libFuzzer ---- */

#ifndef IOF_LIBFUZZER

/* Of the driver itself nothing is traced or checked: it runs at every edge. */
#if defined(__clang__)
#define NOT_TRACED __attribute__((no_sanitize("coverage", "address", "undefined")))
#else
#define NOT_TRACED __attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"), optimize("O2")))
#endif

#define MAP_SIZE (1u << 16)
#define INPUT_MAX 1024
#define CORPUS_MAX 8192

static _Alignas(8) uint8_t hits[MAP_SIZE], seen[MAP_SIZE];
static uintptr_t previous;
static struct item {
	uint8_t *bytes;
	size_t size;
} corpus[CORPUS_MAX];
static unsigned n_corpus, n_edges;
static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
static uint8_t current[INPUT_MAX];
static size_t current_size;

void __sanitizer_cov_trace_pc(void);

/* An edge is where we are and where we were. */
NOT_TRACED void __sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t)__builtin_return_address(0), at = (pc >> 2 ^ previous << 1) * UINT64_C(0x9e3779b97f4a7c15) >> 48;

	hits[at % MAP_SIZE]++;
	previous = pc >> 2;
}

/* How often, in eight steps as fuzzers do. */
NOT_TRACED static uint8_t bucket(uint8_t n)
{
	return n < 3 ? n : n == 3 ? 4 : n < 8 ? 8 : n < 16 ? 16 : n < 32 ? 32 : n < 128 ? 64 : 128;
}

NOT_TRACED static bool news(void)
{
	bool any_new = false;

	for (unsigned i = 0; i < MAP_SIZE; i++) {
		uint8_t b;

		if (!(i % 8) && !*(const uint64_t *)(const void *)&hits[i]) {
			i += 7;
			continue;
		}
		b = hits[i] ? bucket(hits[i]) : 0;
		if (b & ~seen[i]) {
			n_edges += !seen[i];
			seen[i] |= b;
			any_new = true;
		}
	}
	return any_new;
}

NOT_TRACED static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

NOT_TRACED static uint64_t pick(uint64_t n)
{
	return random_next() % n;
}

NOT_TRACED static void mutate(void)
{
	const struct item *other;
	size_t at, n;

	for (uint64_t rounds = 1 + pick(6); rounds; rounds--) {
		at = current_size ? pick(current_size) : 0;
		n = 1 + pick(24);
		switch (pick(7)) {
		case 0:
			current[at] ^= (uint8_t)(1u << pick(8));
			break;
		case 1:
			current[at] = (uint8_t)pick(256);
			break;
		case 2: /* new calls */
			for (; n && current_size < INPUT_MAX; n--)
				current[current_size++] = (uint8_t)pick(256);
			break;
		case 3: /* a part goes */
			n = n < current_size - at ? n : current_size - at;
			memmove(current + at, current + at + n, current_size - at - n);
			current_size -= n;
			break;
		case 4: /* a part comes twice */
			if (current_size + n > INPUT_MAX || at + n > current_size)
				break;
			memmove(current + at + n, current + at, current_size - at);
			current_size += n;
			break;
		case 5: /* a part of another */
			other = &corpus[pick(n_corpus)];
			if (!other->size)
				break;
			n = other->size < INPUT_MAX - at ? other->size : INPUT_MAX - at;
			n = 1 + pick(n);
			memcpy(current + at, other->bytes + pick(other->size - n + 1), n);
			if (at + n > current_size)
				current_size = at + n;
			break;
		default:
			current[at] = (uint8_t)(current[at] + pick(9) - 4);
		}
	}
	if (!current_size)
		current[current_size++] = (uint8_t)pick(256);
}

NOT_TRACED static bool keep(void)
{
	if (n_corpus == CORPUS_MAX)
		return false;
	corpus[n_corpus].bytes = malloc(current_size);
	memcpy(corpus[n_corpus].bytes, current, current_size);
	corpus[n_corpus++].size = current_size;
	return true;
}

NOT_TRACED static void run_current(void)
{
	memset(hits, 0, sizeof(hits));
	previous = 0;
	LLVMFuzzerTestOneInput(current, current_size);
}

/* What was running when it went wrong: run it again with its file's name. */
NOT_TRACED static void save(void)
{
	FILE *f = fopen("fuzz-crash.bin", "wb");

	if (f && fwrite(current, 1, current_size, f) == current_size)
		fprintf(stderr, "the input is in fuzz-crash.bin\n");
	if (f)
		fclose(f);
}

void __asan_set_death_callback(void (*callback)(void)) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_abort(int sig)
{
	(void)sig;
	save();
	_exit(1);
}

static int replay(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		return 1;
	}
	current_size = fread(current, 1, sizeof(current), f);
	fclose(f);
	run_current();
	return 0;
}

/* What to start from: the files of a folder, or one byte. */
static void begin(const char *folder)
{
	DIR *d = folder ? opendir(folder) : NULL;
	char path[4096];

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		if (e->d_name[0] != '.' && !replay(path) && news())
			keep();
	}
	if (d)
		closedir(d);
	if (n_corpus)
		return;
	current_size = 1;
	current[0] = 0x60;
	keep();
}

static int by_size(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return (x->size > y->size) - (x->size < y->size);
}

/* The shortest inputs that reach every edge between them, as files 00, 01, … */
static void save_corpus(const char *folder)
{
	char path[4096];
	unsigned n = 0;

	qsort(corpus, n_corpus, sizeof(*corpus), by_size);
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0, before; i < n_corpus; i++) {
		FILE *f;

		memcpy(current, corpus[i].bytes, corpus[i].size);
		current_size = corpus[i].size;
		before = n_edges;
		run_current();
		for (unsigned k = 0; k < MAP_SIZE; k++) {
			n_edges += hits[k] && !seen[k];
			seen[k] |= hits[k] != 0;
		}
		if (n_edges == before)
			continue;
		snprintf(path, sizeof(path), "%s/%02u", folder, n++);
		f = fopen(path, "wb");
		if (!f || fwrite(current, 1, current_size, f) != current_size)
			perror(path);
		if (f)
			fclose(f);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void report_progress(uint64_t executions, double seconds)
{
	printf("%llu executions, %llu calls, %u edges, %u inputs kept, %.0f s (%.0f calls/s)\n", (unsigned long long)executions,
	       (unsigned long long)n_calls, n_edges, n_corpus, seconds, (double)n_calls / seconds);
	fflush(stdout);
}

static void fuzz(double seconds, uint64_t calls, const char *from_folder)
{
	double start = now(), told = start;
	uint64_t executions = 0;

	begin(from_folder);
	while (now() - start < seconds && n_calls < calls) {
		const struct item *from = &corpus[pick(2) ? pick(n_corpus) : n_corpus - 1 - pick(1 + n_corpus / 4)];

		memcpy(current, from->bytes, from->size);
		current_size = from->size;
		mutate();
		run_current();
		executions++;
		if (news())
			keep();
		if (now() - told > 20) {
			told = now();
			report_progress(executions, told - start);
		}
	}
	report_progress(executions, now() - start);
}

int main(int argc, char **argv)
{
	const char *from = NULL, *to = NULL;
	uint64_t calls = UINT64_MAX;
	double seconds = 1e9;
	unsigned files = 0;

	signal(SIGABRT, on_abort);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(save);
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "-seconds=", 9))
			seconds = strtod(argv[i] + 9, NULL);
		else if (!strncmp(argv[i], "-calls=", 7))
			calls = strtoull(argv[i] + 7, NULL, 10);
		else if (!strncmp(argv[i], "-seed=", 6))
			seed = strtoull(argv[i] + 6, NULL, 10) | 1;
		else if (!strncmp(argv[i], "-corpus=", 8))
			from = argv[i] + 8;
		else if (!strncmp(argv[i], "-save=", 6))
			to = argv[i] + 6;
		else if (++files && replay(argv[i]))
			return 1;
	}
	if (!files)
		fuzz(seconds, calls, from);
	if (to)
		save_corpus(to);
	for (unsigned i = 0; i < n_corpus; i++)
		free(corpus[i].bytes);
	return 0;
}

#endif

#endif
