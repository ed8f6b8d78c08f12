/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * The address index alone: against a list of ranges that is searched from end to end, at every size of slot and above 2^48;
 * memory refused at every point; and readers beside writers.
 */
#include "check.h"

#include <errno.h>
#include <pthread.h>

#include "iova/va_index.h"
#include "util/alloc.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define V UINT64_C(0x7f0000000000)
#define MOST 400

static struct iof_alloc heap;

static struct iof_va_index *fresh(void)
{
	struct iof_va_index *ix = NULL;

	iof_alloc_init_heap(&heap);
	iof_va_index_create(&heap, NULL, NULL, &ix);
	return ix;
}

static void check_gone(struct iof_va_index *ix)
{
	iof_va_index_put(ix);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

struct range {
	uint64_t va, length, iova;
};

struct model {
	struct range at[MOST];
	size_t n;
};

static uint64_t expected(const struct model *m, uint64_t va, uint64_t *length)
{
	const struct range *best = NULL;

	for (size_t i = 0; i < m->n; i++)
		if (va >= m->at[i].va && va - m->at[i].va < m->at[i].length && (!best || m->at[i].iova < best->iova))
			best = &m->at[i];
	*length = best ? best->length - (va - best->va) : 0;
	return best ? best->iova + (va - best->va) : IOF_NO_IOVA;
}

static void check_at(const struct iof_va_index *ix, const struct model *m, uint64_t va)
{
	uint64_t want_length, length, want = expected(m, va, &want_length), iovas[1], lengths[1];

	CHECK_EQ(iof_va_to_iova(ix, va, &length), want);
	CHECK_EQ(length, want_length);
	CHECK_EQ(iof_va_to_iova_many(ix, 1, &va, iovas, lengths), want_length != 0);
	CHECK_EQ(iovas[0], want);
	CHECK_EQ(lengths[0], want_length);
}

/* At the ends of every range, a byte further, and in its middle. */
static void check_all(const struct iof_va_index *ix, const struct model *m)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct range *r = &m->at[i];

		check_at(ix, m, r->va - 1);
		check_at(ix, m, r->va);
		check_at(ix, m, r->va + r->length / 2);
		check_at(ix, m, r->va + r->length - 1);
		check_at(ix, m, r->va + r->length);
	}
}

static void add(struct iof_va_index *ix, struct model *m, struct range r)
{
	CHECK_EQ(iof_va_index_insert(ix, r.va, r.length, r.iova), 0);
	m->at[m->n++] = r;
}

static void take(struct iof_va_index *ix, struct model *m, size_t i)
{
	CHECK(iof_va_index_remove(ix, m->at[i].va, m->at[i].length, m->at[i].iova));
	CHECK(!iof_va_index_has(ix, m->at[i].va, m->at[i].length, m->at[i].iova));
	m->at[i] = m->at[--m->n];
}

TEST(nothing_is_mapped)
{
	struct iof_va_index *ix = fresh();
	uint64_t length = 1;

	CHECK_EQ(iof_va_to_iova(ix, V, &length), IOF_NO_IOVA);
	CHECK_EQ(length, 0);
	CHECK_EQ(iof_va_to_iova(ix, UINT64_MAX, &length), IOF_NO_IOVA);
	CHECK(!iof_va_index_remove(ix, V, 4096, 0));
	CHECK_EQ(iof_va_index_insert(ix, V, 0, 0), -EINVAL);
	CHECK_EQ(iof_va_index_insert(ix, UINT64_MAX, 2, 0), -EINVAL);
	CHECK(iof_va_index_is_valid(ix));
	check_gone(ix);
}

/* Every size of slot, whole and with ragged ends, and addresses that no process of today has. */
static const struct range shapes[] = {
	{ V, KIB(4), 0x1000 },
	{ V + MIB(2), MIB(2), MIB(2) },
	{ V + GIB(1), GIB(1), GIB(1) },
	{ V + GIB(2) + KIB(4), GIB(1) + MIB(2) - KIB(4), GIB(4) },
	{ V + GIB(8) + 5, 7, 12345 },
	{ V + GIB(8) + 12, 9000, 20000 },
	{ 0, KIB(4), GIB(64) },
	{ (UINT64_C(1) << 48) - KIB(4), KIB(12), GIB(65) },
	{ UINT64_C(1) << 56, MIB(3), GIB(66) },
	{ UINT64_MAX - KIB(4) + 1, KIB(4), GIB(67) },
	{ UINT64_C(3) << 49, UINT64_C(5) << 48, UINT64_C(1) << 51 },
	{ V + GIB(12), 1, UINT64_MAX },
};

TEST(shapes_alone_and_together)
{
	struct iof_va_index *ix = fresh();
	struct model m = { .n = 0 };

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		add(ix, &m, shapes[i]);
		check_all(ix, &m);
		take(ix, &m, 0);
		check_at(ix, &m, shapes[i].va);
		CHECK(iof_va_index_is_valid(ix));
	}
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		add(ix, &m, shapes[i]);
	check_all(ix, &m);
	CHECK(iof_va_index_is_valid(ix));
	check_gone(ix);
}

/* The lowest IOVA answers; its going uncovers the next, whichever came first and whatever its size. */
TEST(overlaps_uncover)
{
	static const struct range over[] = {
		{ V, GIB(1), GIB(30) },	      { V, KIB(4), GIB(20) },		{ V + 100, 50, GIB(10) },
		{ V, MIB(2), GIB(25) },	      { V + KIB(4), KIB(8), GIB(40) },	{ V + MIB(1), MIB(2), GIB(5) },
		{ V, GIB(1), GIB(50) },	      { V + 100, 50, GIB(60) },		{ V + 120, 5000, GIB(15) },
	};
	size_t n = sizeof(over) / sizeof(*over);

	for (size_t first = 0; first < n; first++) {
		struct iof_va_index *ix = fresh();
		struct model m = { .n = 0 };

		for (size_t i = 0; i < n; i++) {
			add(ix, &m, over[(i + first) % n]);
			check_all(ix, &m);
			CHECK(iof_va_index_is_valid(ix));
		}
		while (m.n) {
			take(ix, &m, first % m.n);
			check_all(ix, &m);
			CHECK(iof_va_index_is_valid(ix));
		}
		check_gone(ix);
	}
}

/* A padding page that is mapped over and over. */
TEST(one_page_very_often)
{
	struct iof_va_index *ix = fresh();
	struct iof_va_stats stats;
	uint64_t length, n = 100000;

	for (uint64_t i = 0; i < n; i++)
		CHECK_EQ(iof_va_index_insert(ix, V, KIB(4), KIB(4) * (i * 7919 % n)), 0);
	iof_va_index_stats(ix, &stats);
	CHECK_EQ(stats.runs, n);
	CHECK_EQ(stats.knots, 1);
	CHECK_EQ(iof_va_to_iova(ix, V + 8, &length), 8);
	for (uint64_t i = 0; i < n - 1; i++) {
		CHECK(iof_va_index_remove(ix, V, KIB(4), KIB(4) * i));
		if (i % 1000 == 0)
			CHECK_EQ(iof_va_to_iova(ix, V, &length), KIB(4) * (i + 1));
	}
	iof_va_index_stats(ix, &stats);
	CHECK_EQ(stats.knots, 0);
	CHECK(iof_va_index_is_valid(ix));
	check_gone(ix);
}

static struct range random_range(uint64_t *seed, uint64_t iova)
{
	static const uint64_t grains[] = { 1, 64, KIB(4), KIB(4), KIB(4), MIB(2), MIB(2), GIB(1) };
	uint64_t grain = grains[check_random(seed) % 8];
	/* Few places, so that much overlaps. */
	uint64_t va = V + check_random(seed) % (grain == 1 ? KIB(8) : grain * 6) / grain * grain;

	return (struct range){ va, grain * (1 + check_random(seed) % 4), iova };
}

TEST(random_changes_against_a_list)
{
	struct iof_va_index *ix = fresh();
	static struct model m;
	uint64_t seed = 20260101;

	m.n = 0;
	for (unsigned i = 0; i < 6000; i++) {
		if (m.n < MOST && (!m.n || check_random(&seed) % 5 < (i / 1000 % 2 ? 2 : 3)))
			add(ix, &m, random_range(&seed, GIB(8) * (i * 7919 % 8192)));
		else
			take(ix, &m, check_random(&seed) % m.n);
		for (unsigned k = 0; k < 4; k++)
			check_at(ix, &m, V + check_random(&seed) % (k % 2 ? KIB(16) : GIB(7)));
		if (i % 300 == 0) {
			check_all(ix, &m);
			CHECK(iof_va_index_is_valid(ix));
		}
	}
	while (m.n)
		take(ix, &m, m.n - 1);
	CHECK(iof_va_index_is_valid(ix));
	check_gone(ix);
}

/* Every step refused once: nothing has changed then, and the next try succeeds. */
TEST(memory_refused_at_every_point)
{
	static const struct range over[] = {
		{ V + KIB(4), GIB(2), GIB(30) }, { V, GIB(4), GIB(20) }, { V + 50, KIB(300), GIB(40) }, { V + MIB(4), KIB(4), GIB(10) },
		{ UINT64_C(1) << 60, MIB(2) + 1, GIB(60) },
	};

	for (size_t k = 0; k < sizeof(over) / sizeof(*over); k++) {
		for (int64_t nth = 1;; nth++) {
			struct iof_va_index *ix = fresh();
			struct model m = { .n = 0 };
			bool failed;

			for (size_t i = 0; i < k; i++)
				add(ix, &m, over[i]);
			iof_alloc_fail_nth(&heap, nth);
			failed = iof_va_index_insert(ix, over[k].va, over[k].length, over[k].iova) == -ENOMEM;
			iof_alloc_fail_nth(&heap, 0);
			CHECK(iof_va_index_is_valid(ix));
			if (failed) {
				check_all(ix, &m);
				CHECK_EQ(iof_va_index_insert(ix, over[k].va, over[k].length, over[k].iova), 0);
			}
			m.at[m.n++] = over[k];
			check_all(ix, &m);
			check_gone(ix);
			if (!failed)
				break;
		}
	}
}

TEST(no_memory_for_the_index)
{
	struct iof_va_index *ix;

	iof_alloc_init_heap(&heap);
	for (int64_t nth = 1; nth <= 2; nth++) {
		iof_alloc_fail_nth(&heap, nth);
		CHECK_EQ(iof_va_index_create(&heap, NULL, NULL, &ix), -ENOMEM);
		iof_alloc_fail_nth(&heap, 0);
		CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	}
}

/* ---- threads ---- */

#define KEPT UINT64_C(64) /* pages that stay mapped, between others that come and go */

static struct iof_va_index *shared;
static _Atomic bool stop;
static _Atomic uint64_t wrong, misses, hits;

/* Page i is mapped at IOVA i * 4096 + GIB(1), or at + GIB(2) too; never otherwise. */
static void read_page(uint64_t page)
{
	uint64_t va = V + KIB(4) * page + 24, length, iova = iof_va_to_iova(shared, va, &length);

	if (!length) {
		atomic_fetch_add(page % 2 ? &misses : &wrong, 1);
	} else {
		atomic_fetch_add(&hits, 1);
		if (iova % GIB(1) != KIB(4) * page + 24 || length > MIB(2))
			atomic_fetch_add(&wrong, 1);
	}
}

static void *reader(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		read_page(check_random(&seed) % (2 * KEPT));
	return NULL;
}

/* Odd pages come and go. Even ones always stay, but are mapped a second time and replaced meanwhile. */
static void *writer(void *arg)
{
	uint64_t seed = 77 + (uintptr_t)arg, at = GIB(1) * (1 + (uintptr_t)arg), page;

	for (unsigned i = 0; i < 20000; i++) {
		page = check_random(&seed) % (2 * KEPT);
		if (!(page & 1) || (page >> 1) % 2 == (uintptr_t)arg) {
			if (iof_va_index_insert(shared, V + KIB(4) * page, KIB(4), at + GIB(2) * (1 + i) + KIB(4) * page))
				atomic_fetch_add(&wrong, 1);
			if (!iof_va_index_remove(shared, V + KIB(4) * page, KIB(4), at + GIB(2) * (1 + i) + KIB(4) * page))
				atomic_fetch_add(&wrong, 1);
		}
	}
	return NULL;
}

TEST(readers_beside_writers)
{
	pthread_t readers[2], writers[2];

	shared = fresh();
	atomic_store(&stop, false);
	for (uint64_t page = 0; page < 2 * KEPT; page += 2)
		CHECK_EQ(iof_va_index_insert(shared, V + KIB(4) * page, KIB(4), GIB(1) + KIB(4) * page), 0);
	for (uintptr_t i = 0; i < 2; i++) {
		pthread_create(&readers[i], NULL, reader, (void *)(i + 1));
		pthread_create(&writers[i], NULL, writer, (void *)i);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(writers[i], NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	CHECK_EQ(wrong, 0);
	CHECK(hits);
	CHECK(iof_va_index_is_valid(shared));
	check_gone(shared);
}

/* A page is mapped at all times, but where changes: the new mapping comes before the old one goes, also as part of a large one. */
static void *mover(void *arg)
{
	uint64_t from = GIB(1), to = GIB(5);

	(void)arg;
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t length = i % 3 ? KIB(4) : MIB(2), old = i % 3 == 1 ? MIB(2) : KIB(4);

		if (!i)
			old = KIB(4);
		if (iof_va_index_insert(shared, V, length, to) || !iof_va_index_remove(shared, V, old, from))
			atomic_fetch_add(&wrong, 1);
		from = to;
		to = GIB(1) * (1 + i % 40) + GIB(100);
		if (to == from)
			to += GIB(1);
	}
	atomic_store(&stop, true);
	return NULL;
}

static void *watcher(void *arg)
{
	uint64_t length, iova;

	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		iova = iof_va_to_iova(shared, V + 24, &length);
		if (!length || iova % GIB(1) != 24)
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

TEST(a_mapping_that_moves_is_never_missed)
{
	pthread_t a, b;

	shared = fresh();
	atomic_store(&stop, false);
	atomic_store(&wrong, 0);
	CHECK_EQ(iof_va_index_insert(shared, V, KIB(4), GIB(1)), 0);
	pthread_create(&a, NULL, watcher, NULL);
	pthread_create(&b, NULL, mover, NULL);
	pthread_join(b, NULL);
	pthread_join(a, NULL);
	CHECK_EQ(wrong, 0);
	CHECK(iof_va_index_is_valid(shared));
	check_gone(shared);
}
