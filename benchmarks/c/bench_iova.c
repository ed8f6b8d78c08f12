// SPDX-License-Identifier: Apache-2.0
/*
 * IOVA spaces: placing, freeing and finding, by how much is live and how it lies.
 *
 *   bench_iova [part of a case's name] [rounds]
 *
 * `dense`: 4 KiB ranges side by side, mapped in ascending order. `shuffled`: the same ranges, inserted in random order, which leaves
 * nodes two thirds full and scattered over memory. One operation is one call, or what the case's name joins with a plus sign.
 * `magazine`: recycle for several threads. …threads: each takes 96 slots and gives them back, over and over; `deep`: 1024, more than magazines hold;
 * `across`: each gives what the other took, and the time of two barriers is in it. There, an operation is a take and its give, of each thread.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "iova/magazine.h"
#include "iova/space.h"

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x100000000)
#define OPS 1024u
#define LOOKUPS 262144u

struct world {
	struct iof_alloc alloc;
	struct iof_space *space;
	struct iof_recycle *recycle;
	uint64_t live;
	uint64_t seed;
	uint64_t length;
	uint64_t got[OPS];
	uint64_t at[LOOKUPS];
	uint64_t values[LOOKUPS];
};

static void must(int err)
{
	if (err) {
		fprintf(stderr, "bench_iova: error %d\n", err);
		exit(1);
	}
}

static uint64_t rnd(struct world *w)
{
	w->seed ^= w->seed >> 12;
	w->seed ^= w->seed << 25;
	w->seed ^= w->seed >> 27;
	return w->seed * UINT64_C(2685821657736338717);
}

static void add(struct world *w, uint64_t start, uint64_t length)
{
	must(iof_space_insert(w->space, (struct iof_range){ start, start + length - 1 }, start));
}

static uint64_t take(struct world *w, uint64_t length)
{
	uint64_t iova;

	must(iof_space_place(w->space, 0, length, PAGE, &iova));
	add(w, iova, length);
	return iova;
}

static void open_world(struct world *w, uint64_t live)
{
	memset(w, 0, sizeof(*w));
	w->seed = 88172645463325252u;
	w->live = live;
	w->length = PAGE;
	iof_alloc_init_heap(&w->alloc);
	must(iof_space_create(&w->alloc, &w->space));
}

static void close_world(struct world *w)
{
	iof_space_destroy(w->space);
}

/* Everything below BASE is reserved, so that `live` ranges lie densely from there. */
static void fill_dense(struct world *w, uint64_t live)
{
	open_world(w, live);
	must(iof_space_reserve(w->space, (struct iof_range){ 0, BASE - 1 }, 1));
	for (uint64_t i = 0; i < live; i++)
		add(w, BASE + i * PAGE, PAGE);
	for (unsigned i = 0; i < LOOKUPS; i++)
		w->at[i] = live ? BASE + rnd(w) % (live * PAGE) : BASE;
}

static void fill_shuffled(struct world *w, uint64_t live)
{
	uint64_t *order = malloc(live * sizeof(*order)), j, t;

	open_world(w, live);
	must(iof_space_reserve(w->space, (struct iof_range){ 0, BASE - 1 }, 1));
	for (uint64_t i = 0; i < live; i++)
		order[i] = i;
	for (uint64_t i = live; i > 1; i--) {
		j = rnd(w) % i;
		t = order[j];
		order[j] = order[i - 1];
		order[i - 1] = t;
	}
	for (uint64_t i = 0; i < live; i++)
		add(w, BASE + order[i] * PAGE, PAGE);
	free(order);
	for (unsigned i = 0; i < LOOKUPS; i++)
		w->at[i] = BASE + rnd(w) % (live * PAGE);
}

/* `live` ranges of 8 KiB with as many holes of 8 KiB between them: on 8 KiB alignment, or 4 KiB off it. */
static void fill_holes(struct world *w, uint64_t live, uint64_t off)
{
	open_world(w, live);
	w->length = 2 * PAGE;
	must(iof_space_reserve(w->space, (struct iof_range){ 0, BASE + off - 1 }, 1));
	for (uint64_t i = 0; i < live; i++)
		add(w, BASE + i * 4 * PAGE + 2 * PAGE + off, 2 * PAGE);
}

static void run_alloc(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		w->got[i] = take(w, w->length);
}

static void run_free(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		iof_space_remove(w->space, w->got[i]);
}

static void run_pair(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		iof_space_remove(w->space, take(w, w->length));
}

/* Frees a range chosen at random and places it anew: the lowest hole is the one just made. */
static void run_churn(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++) {
		iof_space_remove(w->space, BASE + rnd(w) % w->live * PAGE);
		take(w, PAGE);
	}
}

static void run_find(void *ctx)
{
	struct world *w = ctx;
	struct iof_index_entry e;
	uint64_t sum = 0;

	for (unsigned i = 0; i < LOOKUPS; i++) {
		iof_space_find(w->space, w->at[i], &e);
		sum += e.value;
	}
	bench_keep(sum);
}

static void run_find_dependent(void *ctx)
{
	struct world *w = ctx;
	struct iof_index_entry e = { { 0, 0 }, 0 };

	for (unsigned i = 0; i < LOOKUPS; i++)
		iof_space_find(w->space, w->at[i] + (e.value & 1), &e);
	bench_keep(e.value);
}

static void run_find_many(void *ctx)
{
	struct world *w = ctx;

	iof_space_find_many(w->space, w->at, LOOKUPS, w->values);
	bench_keep(w->values[0]);
}

static void run_take(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		must(iof_recycle_take(w->recycle, w->length, &w->got[i]));
}

static void run_give(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < OPS; i++)
		must(iof_recycle_give(w->recycle, w->got[i], w->length));
}

static void run_take_give(void *ctx)
{
	struct world *w = ctx;
	uint64_t iova;

	for (unsigned i = 0; i < OPS; i++) {
		must(iof_recycle_take(w->recycle, w->length, &iova));
		must(iof_recycle_give(w->recycle, iova, w->length));
	}
}

static const char *named(const char *what, uint64_t live)
{
	static char name[80];

	snprintf(name, sizeof(name), "%s/%llu", what, (unsigned long long)live);
	return name;
}

static void first_fit(const struct bench *b, struct world *w)
{
	bench_run(b, named("first_fit/dense/alloc+free", w->live), OPS, run_pair, NULL, w);
	run_alloc(w);
	bench_run(b, named("first_fit/dense/alloc", w->live), OPS, run_alloc, run_free, w);
	run_free(w);
	bench_run(b, named("first_fit/dense/free", w->live), OPS, run_free, run_alloc, w);
}

static void finds(const struct bench *b, const char *how, struct world *w)
{
	char name[64];

	snprintf(name, sizeof(name), "find/%s/random", how);
	bench_run(b, named(name, w->live), LOOKUPS, run_find, NULL, w);
	snprintf(name, sizeof(name), "find/%s/random_dependent", how);
	bench_run(b, named(name, w->live), LOOKUPS, run_find_dependent, NULL, w);
	snprintf(name, sizeof(name), "find/%s/find_many", how);
	bench_run(b, named(name, w->live), LOOKUPS, run_find_many, NULL, w);
}

static void memory(const struct bench *b, const char *how, const struct world *w)
{
	struct iof_index_stats st;

	iof_space_stats(w->space, &st);
	if (w->live && !b->only)
		printf("{\"bench\": \"iova\", \"case\": \"memory/%s/%llu\", \"bytes_per_entry\": %.1f}\n", how,
		       (unsigned long long)w->live, (double)st.bytes / (double)st.entries);
}

static void recycle(const struct bench *b, struct world *w, uint64_t granule)
{
	open_world(w, 0);
	must(iof_recycle_create(&w->alloc, w->space, granule, &w->recycle));
	bench_run(b, "recycle/take+give", OPS, run_take_give, NULL, w);
	run_take(w);
	bench_run(b, "recycle/take", OPS, run_take, run_give, w);
	run_give(w);
	bench_run(b, "recycle/give", OPS, run_give, run_take, w);
	w->length = 3 * PAGE;
	bench_run(b, "recycle/take+give/12k", OPS, run_take_give, NULL, w);
	iof_recycle_destroy(w->recycle);
	close_world(w);
}

/* ---- several threads ---- */

#define BURST 96u /* what a thread has out at once, if not all of OPS */

struct team {
	struct world *w;
	struct iof_lock lock;
	struct iof_magazines *m;
	pthread_barrier_t start;
	uint64_t lists[2][OPS]; /* what each member has, or leaves for the other */
	uint64_t began[2], ended[2];
	unsigned burst;
	bool across;
};

struct member {
	struct team *t;
	unsigned self;
};

static void team_take(struct team *t, uint64_t *list)
{
	for (unsigned i = 0; i < t->burst; i++)
		must(iof_magazine_take(t->m, PAGE, &list[i]));
}

static void team_give(struct team *t, const uint64_t *list)
{
	for (unsigned i = 0; i < t->burst; i++)
		must(iof_magazine_give(t->m, list[i], PAGE));
}

#define TEAM_OPS (64u * OPS)

/* A burst taken, a burst given, over and over; `across`: the lists change hands between, and nobody gives what it took. */
static void *work(void *arg)
{
	const struct member *me = arg;
	struct team *t = me->t;

	pthread_barrier_wait(&t->start);
	t->began[me->self] = bench_now();
	for (unsigned i = 0; i < TEAM_OPS / t->burst; i++) {
		team_take(t, t->lists[me->self]);
		if (t->across)
			pthread_barrier_wait(&t->start);
		team_give(t, t->lists[t->across ? !me->self : me->self]);
		if (t->across)
			pthread_barrier_wait(&t->start);
	}
	t->ended[me->self] = bench_now();
	return NULL;
}

/* Nanoseconds from the first to begin to the last to end, for each take and give of one member. */
static double run_team(struct team *t, unsigned n)
{
	struct member members[2] = { { t, 0 }, { t, 1 } };
	pthread_t threads[2];
	uint64_t began, ended;

	pthread_barrier_init(&t->start, NULL, n);
	for (unsigned i = 0; i < n; i++)
		must(pthread_create(&threads[i], NULL, work, &members[i]));
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&t->start);
	began = n == 2 && t->began[1] < t->began[0] ? t->began[1] : t->began[0];
	ended = n == 2 && t->ended[1] > t->ended[0] ? t->ended[1] : t->ended[0];
	return (double)(ended - began) / (TEAM_OPS / t->burst * t->burst);
}

static void run_magazine_take(void *ctx)
{
	struct team *t = ctx;

	team_take(t, t->lists[0]);
}

static void run_magazine_give(void *ctx)
{
	struct team *t = ctx;

	team_give(t, t->lists[0]);
}

static void run_magazine_pair(void *ctx)
{
	struct team *t = ctx;

	for (unsigned i = 0; i < OPS; i++) {
		must(iof_magazine_take(t->m, PAGE, t->lists[0]));
		must(iof_magazine_give(t->m, t->lists[0][0], PAGE));
	}
}

static double magazine_threads(const struct bench *b, struct team *t, const char *name, unsigned n, unsigned burst, bool across)
{
	static double samples[BENCH_ROUNDS_MAX];

	if (!bench_wanted(b, name))
		return 0;
	t->burst = burst;
	t->across = across;
	for (unsigned r = 0; r < b->rounds; r++)
		samples[r] = run_team(t, n);
	return bench_report(b, name, samples, b->rounds, TEAM_OPS);
}

static void magazine_scaling(const struct bench *b, struct team *t)
{
	double one = magazine_threads(b, t, "magazine/1_thread", 1, BURST, false);
	double two = magazine_threads(b, t, "magazine/2_threads", 2, BURST, false);

	if (one > 0 && two > 0)
		printf("{\"bench\": \"%s\", \"case\": \"magazine/scaling\", \"ratio\": %.2f}\n", b->name, 2 * one / two);
	magazine_threads(b, t, "magazine/1_thread/deep", 1, OPS, false);
	magazine_threads(b, t, "magazine/2_threads/deep", 2, OPS, false);
	magazine_threads(b, t, "magazine/2_threads/across", 2, BURST, true);
}

static void magazines(const struct bench *b, struct world *w)
{
	static struct team t;

	open_world(w, 0);
	t.w = w;
	t.burst = OPS;
	iof_lock_init(&t.lock, false);
	must(iof_recycle_create(&w->alloc, w->space, PAGE, &w->recycle));
	must(iof_magazines_create(&w->alloc, w->recycle, &t.lock, &t.m));
	bench_run(b, "magazine/take+give", OPS, run_magazine_pair, NULL, &t);
	run_magazine_take(&t);
	bench_run(b, "magazine/take", OPS, run_magazine_take, run_magazine_give, &t);
	run_magazine_give(&t);
	bench_run(b, "magazine/give", OPS, run_magazine_give, run_magazine_take, &t);
	magazine_scaling(b, &t);
	must(iof_magazines_is_valid(t.m) && iof_recycle_taken(w->recycle) == iof_magazines_held(t.m) ? 0 : -1);
	iof_magazines_destroy(t.m);
	iof_recycle_destroy(w->recycle);
	close_world(w);
}

int main(int argc, char **argv)
{
	const struct bench b = { "iova", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 51 };
	const uint64_t counts[] = { 0, 1000, 20000, 1000000 };
	static struct world w;

	for (unsigned i = 0; i < 4; i++) {
		fill_dense(&w, counts[i]);
		memory(&b, "dense", &w);
		finds(&b, "dense", &w);
		if (counts[i])
			bench_run(&b, named("first_fit/dense/churn", w.live), OPS, run_churn, NULL, &w);
		first_fit(&b, &w);
		close_world(&w);
	}
	for (unsigned i = 2; i < 4; i++) {
		fill_shuffled(&w, counts[i]);
		memory(&b, "shuffled", &w);
		finds(&b, "shuffled", &w);
		bench_run(&b, named("first_fit/shuffled/churn", w.live), OPS, run_churn, NULL, &w);
		close_world(&w);
	}
	fill_holes(&w, 1000000, 0);
	bench_run(&b, "first_fit/holes/aligned/1000000", OPS, run_pair, NULL, &w);
	close_world(&w);
	fill_holes(&w, 1000000, PAGE);
	bench_run(&b, "first_fit/holes/misaligned/1000000", OPS, run_pair, NULL, &w);
	close_world(&w);
	recycle(&b, &w, PAGE);
	magazines(&b, &w);
	return 0;
}
