/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many entries in one step against one by one: two indexes, two spaces, the same requests, and everything that can be asked compared after each
 * step, with the structures checked from inside; and memory refused at every point.
 */
#include "check.h"

#include "iova/space.h"

#define MOST 100
#define RUNS 3000

static struct iof_alloc heap;
static struct iof_index *many, *one;
static uint64_t seed;

static uint64_t below(uint64_t n)
{
	return check_random(&seed) % n;
}

static void open_indexes(uint64_t s)
{
	seed = s;
	iof_alloc_init_heap(&heap);
	CHECK_EQ(iof_index_create(&heap, &many), 0);
	CHECK_EQ(iof_index_create(&heap, &one), 0);
}

static void close_indexes(void)
{
	iof_index_destroy(many);
	iof_index_destroy(one);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

static bool next_entry(const struct iof_index *ix, struct iof_range *rest, struct iof_index_entry *e)
{
	if (rest->start > rest->last || !iof_index_first(ix, *rest, e))
		return false;
	*rest = e->range.last == UINT64_MAX ? (struct iof_range){ 1, 0 } : (struct iof_range){ e->range.last + 1, UINT64_MAX };
	return true;
}

static void same_indexes(void)
{
	struct iof_range a = IOF_RANGE_ALL, b = IOF_RANGE_ALL;
	struct iof_index_entry x, y;
	bool more;

	CHECK_EQ(iof_index_count(many), iof_index_count(one));
	do {
		more = next_entry(many, &a, &x);
		CHECK_EQ(next_entry(one, &b, &y), more);
		if (more)
			CHECK(!memcmp(&x, &y, sizeof(x)));
	} while (more);
}

/* A search tightens bounds and moves the floor and the cursor; both have to find the same. */
static void same_holes(uint64_t base, uint64_t space, uint64_t grain)
{
	const struct iof_range w = { base + below(4) * grain, base + (space - 1) };
	uint64_t length = (1 + below(40)) * grain, align = UINT64_C(1) << below(22), a = 0, b = 0;
	bool there = iof_index_hole(one, w, length, align, 0, &b);

	CHECK_EQ(iof_index_hole(many, w, length, align, 0, &a), there);
	CHECK_EQ(a, b);
}

/* n entries side by side from `start`, of one length or of several; the last one may end at the end of everything. */
static size_t make_run(struct iof_index_entry *e, size_t n, uint64_t start, uint64_t grain)
{
	uint64_t length = (1 + below(3)) * grain;
	bool mixed = below(4) == 0;

	for (size_t i = 0; i < n; i++) {
		if (length - 1 > UINT64_MAX - start)
			return i;
		e[i] = (struct iof_index_entry){ { start, start + (length - 1) }, check_random(&seed) >> 1 };
		start += length;
		if (!start)
			return i + 1;
		length = mixed ? (1 + below(3)) * grain : length;
	}
	return n;
}

static void insert_both(struct iof_index_entry *e, size_t n)
{
	int rc, want = 0;
	size_t in = iof_index_insert_run(many, e, n, &rc), i;

	for (i = 0; i < n && !want; i += !want)
		want = iof_index_insert(one, e[i].range, e[i].value);
	CHECK_EQ(in, i);
	CHECK_EQ(rc, want);
}

/* Starts of entries from a random one on: in order, with one that is missing or twice there, or shuffled. */
static size_t pick(uint64_t *starts, uint64_t *lengths, size_t n, uint64_t base, uint64_t space)
{
	struct iof_range rest = { base + below(space), UINT64_MAX };
	struct iof_index_entry e;
	size_t got = 0, i, k;
	uint64_t t;

	for (; got < n && next_entry(one, &rest, &e); got++) {
		starts[got] = e.range.start;
		lengths[got] = iof_range_length(e.range);
	}
	if (got && below(3) == 0)
		starts[below(got)] = below(2) ? base + below(space) : starts[below(got)];
	for (i = got; below(4) == 0 && i > 1; i--) {
		k = below(i);
		t = starts[k], starts[k] = starts[i - 1], starts[i - 1] = t;
		t = lengths[k], lengths[k] = lengths[i - 1], lengths[i - 1] = t;
	}
	if (got && below(4) == 0)
		lengths[below(got)] = below(3);
	return got;
}

static void match_both(const uint64_t *starts, const uint64_t *lengths, size_t n)
{
	uint64_t values[MOST];
	struct iof_index_entry e;
	size_t found = iof_index_match(many, starts, lengths, n, values), i;

	for (i = 0; i < n && lengths[i] && iof_index_find(one, starts[i], &e) && e.range.start == starts[i] &&
		    iof_range_length(e.range) == lengths[i];
	     i++)
		CHECK(i >= found || values[i] == e.value);
	CHECK_EQ(found, i);
}

static void remove_both(const uint64_t *starts, size_t n)
{
	size_t gone = iof_index_remove_many(many, starts, n), i;

	for (i = 0; i < n && iof_index_remove(one, starts[i]); i++)
		;
	CHECK_EQ(gone, i);
}

static void run_indexes(uint64_t s, uint64_t base, uint64_t space, uint64_t grain)
{
	static struct iof_index_entry e[MOST];
	uint64_t starts[MOST], lengths[MOST];
	size_t n;

	open_indexes(s);
	for (unsigned i = 0; i < RUNS; i++) {
		bool grow = below(8) < (i / 500 % 2 ? 3 : 5);

		if (grow) {
			n = make_run(e, 1 + below(below(4) ? 8 : MOST), base + below(space) / grain * grain, grain);
			insert_both(e, n);
		} else {
			n = pick(starts, lengths, 1 + below(below(4) ? 8 : MOST), base, space);
			match_both(starts, lengths, n);
			remove_both(starts, n);
		}
		CHECK(iof_index_is_valid(many) && iof_index_is_valid(one));
		same_holes(base, space, grain);
		CHECK(iof_index_is_valid(many));
		if (i % 8 == 0)
			same_indexes();
	}
	while (iof_index_count(one)) {
		n = pick(starts, lengths, MOST, base, 1 + below(space));
		remove_both(starts, n);
		CHECK(iof_index_is_valid(many));
	}
	same_indexes();
	close_indexes();
}

TEST(indexes_bytes)
{
	run_indexes(31, 0, 4000, 1);
}

TEST(indexes_pages)
{
	static const uint64_t seeds[] = { 32, 2, 5, 8 }; /* some lead to a late hole in a leaf that is split under a node that is not */

	for (unsigned i = 0; i < sizeof(seeds) / sizeof(*seeds); i++)
		run_indexes(seeds[i], 0, UINT64_C(6000) * 4096, 4096);
}

TEST(indexes_sparse)
{
	run_indexes(33, UINT64_C(1) << 40, UINT64_C(1) << 32, 4096);
}

TEST(indexes_top_of_space)
{
	run_indexes(34, UINT64_MAX - 3999, 4000, 1);
}

TEST(a_run_that_is_upside_down)
{
	struct iof_index_entry e = { { 5, 4 }, 1 };
	int rc;

	open_indexes(35);
	CHECK_EQ(iof_index_insert_run(many, &e, 1, &rc), 0);
	CHECK_EQ(rc, -EINVAL);
	CHECK_EQ(iof_index_insert_run(many, &e, 0, &rc), 0);
	CHECK_EQ(rc, 0);
	CHECK_EQ(iof_index_remove_many(many, &e.range.start, 1), 0);
	close_indexes();
}

/* Runs leave full leaves behind, as single insertions do. */
TEST(runs_fill_leaves)
{
	static struct iof_index_entry e[64];
	struct iof_index_stats st;
	int rc;

	open_indexes(36);
	for (uint64_t i = 0; i < 40000; i += 64) {
		for (uint64_t k = 0; k < 64; k++)
			e[k] = (struct iof_index_entry){ { (i + k) * 4096, (i + k) * 4096 + 4095 }, i };
		CHECK_EQ(iof_index_insert_run(many, e, 64, &rc), 64);
	}
	CHECK(iof_index_is_valid(many));
	iof_index_stats(many, &st);
	CHECK(st.bytes <= 36 * st.entries);
	close_indexes();
}

/* Every run is first tried with its n-th allocation refused, for every n: what is told to be in is in. */
TEST(memory_refused_at_every_point)
{
	static struct iof_index_entry e[MOST];
	uint64_t starts[MOST];
	unsigned refused = 0;
	int rc;

	open_indexes(37);
	for (unsigned i = 0; i < 1500; i++) {
		size_t n = make_run(e, 1 + below(MOST), below(UINT64_C(1) << 34) / 4096 * 4096, 4096), in;

		for (int k = 1;; k++) {
			iof_alloc_fail_nth(&heap, k);
			in = iof_index_insert_run(many, e, n, &rc);
			iof_alloc_fail_nth(&heap, 0);
			CHECK(iof_index_is_valid(many));
			CHECK(rc || in == n);
			if (rc != -ENOMEM)
				break;
			refused++;
			CHECK_EQ(iof_index_count(many), iof_index_count(one) + in);
			for (size_t j = 0; j < in; j++)
				starts[j] = e[j].range.start;
			iof_alloc_fail_nth(&heap, 1); /* going back takes no step that could fail */
			CHECK_EQ(iof_index_remove_many(many, starts, in), in);
			CHECK_EQ(iof_alloc_fail_nth(&heap, 0), 1);
			CHECK(iof_index_is_valid(many));
		}
		for (size_t j = 0; j < in; j++)
			CHECK_EQ(iof_index_insert(one, e[j].range, e[j].value), 0);
		if (i % 16 == 0)
			same_indexes();
	}
	CHECK(refused > 1000);
	close_indexes();
}

/* ---- spaces ---- */

static struct iof_space *spaces[2];

static void open_spaces(uint64_t s, bool walls)
{
	const struct iof_range allowed[] = { { 0x100000, 0x2fffff }, { 0x300000, 0x4fefff }, { 0x600123, 0x9fffff } };

	seed = s;
	iof_alloc_init_heap(&heap);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(iof_space_create(&heap, &spaces[i]), 0);
		if (!walls)
			continue;
		CHECK_EQ(iof_space_allow(spaces[i], allowed, 3), 0);
		CHECK_EQ(iof_space_reserve(spaces[i], (struct iof_range){ 0, 0x4321 }, 1), 0);
		CHECK_EQ(iof_space_reserve(spaces[i], (struct iof_range){ 0x500001, 0x5fffff }, 2), 0);
	}
}

static void close_spaces(void)
{
	for (unsigned i = 0; i < 2; i++) {
		CHECK(iof_space_is_valid(spaces[i]));
		iof_space_destroy(spaces[i]);
	}
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

/* The same wishes one by one, into the other space. */
static size_t take_singly(uint64_t addr, uint64_t length, uint64_t alignment, const struct iof_index_entry *e, size_t n, int *rc)
{
	uint64_t iova;
	size_t i;

	for (i = 0, *rc = 0; i < n; i++) {
		*rc = iof_space_place(spaces[1], addr, length, alignment, &iova);
		if (*rc)
			break;
		CHECK_EQ(iof_space_insert(spaces[1], (struct iof_range){ iova, iova + (length - 1) }, e[i].value), 0);
		if (iova != e[i].range.start || iova + (length - 1) != e[i].range.last)
			return n + 1;
	}
	return i;
}

static void take_both(uint64_t unit)
{
	static struct iof_index_entry e[MOST];
	uint64_t length = (1 + below(4)) * unit, addr = below(2) ? below(64) * unit : below(1 << 20) / 512 * 512;
	size_t n = 1 + below(below(4) ? 8 : MOST), in;
	uint64_t alignment = UINT64_C(1) << below(13);
	int rc, want;

	if (below(16) == 0)
		length = check_random(&seed) >> below(64);
	for (size_t i = 0; i < n; i++)
		e[i].value = 1 + below(1000);
	in = iof_space_take_run(spaces[0], addr, length, alignment, e, n, &rc);
	CHECK_EQ(take_singly(addr, length, alignment, e, n, &want), in);
	CHECK_EQ(rc, want);
}

static void drop_both(uint64_t from)
{
	struct iof_range rest = { from, UINT64_MAX };
	uint64_t starts[MOST], lengths[MOST], values[MOST];
	struct iof_index_entry e;
	size_t n = 0, most = 1 + below(MOST);

	while (n < most && iof_space_first(spaces[1], rest, &e)) {
		starts[n] = e.range.start;
		lengths[n++] = iof_range_length(e.range);
		rest.start = e.range.last + 1;
	}
	CHECK_EQ(iof_space_match(spaces[0], starts, lengths, n, values), n);
	iof_space_remove_many(spaces[0], starts, n);
	for (size_t i = 0; i < n; i++)
		iof_space_remove(spaces[1], starts[i]);
}

static void same_spaces(void)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry a, b;

	CHECK_EQ(iof_space_areas(spaces[0]), iof_space_areas(spaces[1]));
	for (; iof_space_first(spaces[1], rest, &b); rest.start = b.range.last + 1) {
		CHECK(iof_space_first(spaces[0], rest, &a));
		CHECK(!memcmp(&a, &b, sizeof(a)));
	}
}

static void run_spaces(uint64_t s, bool walls, uint64_t unit)
{
	open_spaces(s, walls);
	for (unsigned i = 0; i < RUNS; i++) {
		if (below(8) < (i / 400 % 2 ? 3 : 5))
			take_both(unit);
		else
			drop_both(below(UINT64_C(1200) * unit));
		if (i % 8 == 0) {
			CHECK(iof_space_is_valid(spaces[0]));
			same_spaces();
		}
	}
	close_spaces();
}

TEST(spaces_pages)
{
	run_spaces(41, false, 4096);
}

TEST(spaces_with_walls)
{
	run_spaces(42, true, 4096);
}

TEST(spaces_parts_of_pages)
{
	run_spaces(43, true, 512);
}

TEST(spaces_bytes)
{
	run_spaces(44, false, 1);
}

/* One free page after the other, each with another hole behind it: a run is cut where the hole ends, never put across. */
TEST(a_run_over_many_holes)
{
	struct iof_index_entry e[40];
	int rc;

	open_spaces(45, false);
	for (unsigned s = 0; s < 2; s++)
		for (uint64_t i = 0; i < 64; i++)
			CHECK_EQ(iof_space_insert(spaces[s], (struct iof_range){ i * 0x4000, i * 0x4000 + 0xfff + i % 3 * 0x1000 }, 1), 0);
	for (unsigned i = 0; i < 40; i++)
		e[i].value = i;
	CHECK_EQ(iof_space_take_run(spaces[0], 0x1000, 0x1000, 1, e, 40, &rc), 40);
	CHECK_EQ(e[3].range.start, 0x6000);
	CHECK_EQ(take_singly(0x1000, 0x1000, 1, e, 40, &rc), 40);
	same_spaces();
	close_spaces();
}

/* Fixed runs: what is in the way is named as one by one. */
TEST(fixed_runs)
{
	struct iof_index_entry e[8];
	int rc;

	open_spaces(46, true);
	for (unsigned i = 0; i < 8; i++)
		e[i] = (struct iof_index_entry){ { 0x4fd000 + i * 0x1000, 0x4fdfff + i * 0x1000 }, i };
	CHECK_EQ(iof_space_insert_run(spaces[0], e, 8, &rc), 3);
	CHECK_EQ(rc, -EINVAL); /* reserved from 0x500001 on */
	CHECK_EQ(iof_space_insert_run(spaces[0], e + 2, 1, &rc), 0);
	CHECK_EQ(rc, -EEXIST);
	close_spaces();
}
