// SPDX-License-Identifier: Apache-2.0
/*
 * GLib's balanced tree used as emulators use it for IOVAs: a tree of closed ranges whose comparison calls overlapping ones equal.
 * Insert, find and remove in random order, and the allocation of a hole by walking the tree in order.
 *
 *   gtree [live ...]
 *
 * JSON lines as those of benchmarks/c. Compiled by `make peers` where glib-2.0 is there.
 */
#include <glib.h>

#include "../c/bench.h"

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x100000000)
#define LOOKUPS 65536u

struct range {
	uint64_t start, last;
};

static gint compare(gconstpointer a, gconstpointer b, gpointer unused)
{
	const struct range *x = a, *y = b;

	(void)unused;
	return x->start > y->last ? 1 : x->last < y->start ? -1 : 0;
}

struct search {
	uint64_t at, length;
};

/* In ascending order: stops at the first gap that is long enough. */
static gboolean visit(gpointer key, gpointer value, gpointer data)
{
	const struct range *r = key;
	struct search *s = data;

	(void)value;
	if (r->start - s->at >= s->length)
		return TRUE;
	s->at = r->last + 1;
	return FALSE;
}

static uint64_t random_of(uint64_t *state)
{
	*state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
	return *state;
}

static void print(const char *case_, uint64_t live, uint64_t ns, uint64_t ops)
{
	printf("{\"bench\": \"gtree\", \"case\": \"%s/%llu\", \"ns_median\": %.2f}\n", case_, (unsigned long long)live,
	       (double)ns / (double)ops);
	fflush(stdout);
}

static void shuffle(struct range *r, uint64_t n, uint64_t *seed)
{
	for (uint64_t i = 0; i < n; i++)
		r[i] = (struct range){ BASE + i * PAGE, BASE + i * PAGE + PAGE - 1 };
	for (uint64_t i = n; i > 1; i--) {
		uint64_t j = random_of(seed) % i;
		struct range t = r[j];

		r[j] = r[i - 1];
		r[i - 1] = t;
	}
}

static void run(uint64_t live)
{
	GTree *tree = g_tree_new_full(compare, NULL, NULL, NULL);
	struct range *ranges = malloc(live * sizeof(*ranges));
	uint64_t seed = 88172645463325252u, start, sum = 0;
	unsigned walks = live > 100000 ? 5 : 200;

	shuffle(ranges, live, &seed);
	start = bench_now();
	for (uint64_t i = 0; i < live; i++)
		g_tree_insert(tree, &ranges[i], &ranges[i]);
	print("insert", live, bench_now() - start, live);
	start = bench_now();
	for (unsigned i = 0; i < LOOKUPS; i++) {
		struct range at;

		at.start = at.last = BASE + random_of(&seed) % (live * PAGE);
		sum += ((struct range *)g_tree_lookup(tree, &at))->start;
	}
	bench_keep(sum);
	print("find", live, bench_now() - start, LOOKUPS);
	start = bench_now();
	for (unsigned i = 0; i < walks; i++) {
		struct search s = { BASE, PAGE };

		g_tree_foreach(tree, visit, &s);
		bench_keep(s.at);
	}
	print("allocate", live, bench_now() - start, walks);
	start = bench_now();
	for (uint64_t i = 0; i < live; i++)
		g_tree_remove(tree, &ranges[i]);
	print("remove", live, bench_now() - start, live);
	g_tree_unref(tree);
	free(ranges);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		run(strtoull(argv[i], NULL, 0));
	return 0;
}
