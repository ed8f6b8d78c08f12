/* SPDX-License-Identifier: Apache-2.0 */
/* The run map against an array of counts. */
#include "check.h"
#include "pages/runmap.h"

#include <errno.h>

#define SLOTS 96
#define MAX_HELD 40

struct model {
	uint32_t count[SLOTS + 1];
	struct {
		uint64_t first, last;
	} held[MAX_HELD];
	unsigned n;
};

/* Every run the map names is maximal and has the model's count. */
static void compare(const struct iofi_runmap *map, const struct model *m)
{
	unsigned edges = 0;

	CHECK(iofi_runmap_is_valid(map));
	CHECK_EQ(map->reserved, 2 * m->n);
	for (unsigned at = 0; at < SLOTS; at++) {
		struct iofi_span s = iofi_runmap_span(map, at, SLOTS - 1);
		unsigned last = at;

		while (last + 1 < SLOTS && m->count[last + 1] == m->count[at])
			last++;
		CHECK_EQ(s.count, m->count[at]);
		CHECK_EQ(s.last, last);
		CHECK_EQ(iofi_runmap_span(map, at, at).last, at);
		edges += m->count[at] != (at ? m->count[at - 1] : 0);
	}
	edges += m->count[SLOTS - 1] != 0;
	CHECK_EQ(map->used, edges);
}

/* find() names exactly the model's runs of this count, in order. */
static void compare_find(const struct iofi_runmap *map, const struct model *m, uint32_t count, unsigned from,
			 unsigned to)
{
	uint64_t first = from, last = to;

	for (unsigned at = from; at <= to;) {
		unsigned end = at;

		if (m->count[at] != count) {
			at++;
			continue;
		}
		while (end < to && m->count[end + 1] == count)
			end++;
		last = to;
		CHECK(iofi_runmap_find(map, count, &first, &last));
		CHECK_EQ(first, at);
		CHECK_EQ(last, end);
		first = last + 1;
		at = end + 1;
	}
	last = to;
	CHECK(first > to || !iofi_runmap_find(map, count, &first, &last));
}

static void model_add(struct iofi_runmap *map, struct model *m, uint64_t first, uint64_t last)
{
	CHECK_EQ(iofi_runmap_reserve(map, 2), 0);
	iofi_runmap_add(map, first, last);
	for (uint64_t i = first; i <= last; i++)
		m->count[i]++;
	m->held[m->n].first = first;
	m->held[m->n++].last = last;
}

static void model_remove(struct iofi_runmap *map, struct model *m, unsigned which)
{
	uint64_t first = m->held[which].first, last = m->held[which].last;

	m->held[which] = m->held[--m->n];
	iofi_runmap_remove(map, first, last);
	iofi_runmap_unreserve(map, 2);
	for (uint64_t i = first; i <= last; i++)
		m->count[i]--;
}

TEST(random_intervals)
{
	struct iof_alloc a;
	struct iofi_runmap map;
	uint64_t seed = 0x1234567;

	iof_alloc_init_heap(&a);
	for (int round = 0; round < 40; round++) {
		struct model m = { .n = 0 };

		iofi_runmap_init(&map, &a);
		for (int step = 0; step < 200; step++) {
			uint64_t x = check_random(&seed) % SLOTS, y = check_random(&seed) % SLOTS;

			if (m.n < MAX_HELD && (!m.n || check_random(&seed) % 2))
				model_add(&map, &m, x < y ? x : y, x < y ? y : x);
			else
				model_remove(&map, &m, (unsigned)(check_random(&seed) % m.n));
			compare(&map, &m);
			compare_find(&map, &m, (uint32_t)(check_random(&seed) % 3), x < y ? x : y, x < y ? y : x);
		}
		while (m.n)
			model_remove(&map, &m, (unsigned)(check_random(&seed) % m.n));
		compare(&map, &m);
		CHECK_EQ(map.used, 0);
		iofi_runmap_fini(&map);
		CHECK_EQ(a.live_blocks, 0);
	}
}

/* Added as one interval, taken away slot by slot in any order: the reservation covers the pieces there are at most. */
TEST(removed_in_other_pieces)
{
	struct iof_alloc a;
	struct iofi_runmap map;

	iof_alloc_init_heap(&a);
	iofi_runmap_init(&map, &a);
	CHECK_EQ(iofi_runmap_reserve(&map, 22), 0); /* 20 edges at most, and two during a change */
	iofi_runmap_add(&map, 0, 19);
	CHECK_EQ(map.used, 2);
	for (uint64_t i = 1; i < 20; i += 2) {
		iofi_runmap_remove(&map, i, i);
		CHECK(iofi_runmap_is_valid(&map));
	}
	CHECK_EQ(map.used, 20);
	for (uint64_t i = 18; i < 20; i -= 2) {
		iofi_runmap_remove(&map, i, i);
		CHECK(iofi_runmap_is_valid(&map));
	}
	CHECK_EQ(map.used, 0);
	iofi_runmap_fini(&map);
	CHECK_EQ(a.live_blocks, 0);
}

TEST(equal_neighbours_are_one_run)
{
	struct iof_alloc a;
	struct iofi_runmap map;

	iof_alloc_init_heap(&a);
	iofi_runmap_init(&map, &a);
	CHECK_EQ(iofi_runmap_reserve(&map, 4), 0);
	iofi_runmap_add(&map, 10, 19);
	iofi_runmap_add(&map, 20, 29);
	CHECK_EQ(map.used, 2);
	CHECK_EQ(iofi_runmap_span(&map, 10, 100).last, 29);
	iofi_runmap_remove(&map, 10, 19);
	CHECK_EQ(map.used, 2);
	CHECK_EQ(iofi_runmap_span(&map, 0, 100).last, 19);
	iofi_runmap_fini(&map);
}

TEST(reserve_is_all_or_nothing)
{
	struct iof_alloc a;
	struct iofi_runmap map;

	iof_alloc_init_heap(&a);
	iofi_runmap_init(&map, &a);
	for (int n = 1; n <= 5; n++) {
		iof_alloc_fail_nth(&a, n);
		CHECK_EQ(iofi_runmap_reserve(&map, 5), -ENOMEM);
		CHECK_EQ(map.reserved, 0);
		CHECK_EQ(a.live_blocks, 0);
	}
	iof_alloc_fail_nth(&a, 6);
	CHECK_EQ(iofi_runmap_reserve(&map, 5), 0);
	CHECK_EQ(iof_alloc_fail_nth(&a, 0), 1);
	iofi_runmap_fini(&map);
	CHECK_EQ(a.live_blocks, 0);
}

/* Ascending intervals are the worst case of an unbalanced tree: 2^17 edges take no time when it is balanced. */
TEST(many_ascending)
{
	enum { N = 1 << 16 };
	struct iof_alloc a;
	struct iofi_runmap map;

	iof_alloc_init_heap(&a);
	iofi_runmap_init(&map, &a);
	CHECK_EQ(iofi_runmap_reserve(&map, 2 * N), 0);
	for (uint64_t i = 0; i < N; i++)
		iofi_runmap_add(&map, 4 * i, 4 * i + 1);
	CHECK_EQ(map.used, 2 * N);
	CHECK(iofi_runmap_is_valid(&map));
	for (uint64_t i = 0; i < N; i++)
		iofi_runmap_remove(&map, 4 * i, 4 * i + 1);
	CHECK_EQ(map.used, 0);
	iofi_runmap_fini(&map);
	CHECK_EQ(a.live_blocks, 0);
}
