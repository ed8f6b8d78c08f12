/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The range index against a sorted array that does everything the slow way, with iof_index_is_valid() after each step; memory
 * refused at every point; the fill of leaves; and how many nodes a search looks into, whatever the holes look like.
 */
#include "check.h"

#include "iova/index.h"

#define MODEL_MAX 4096

struct model {
	struct iof_index_entry e[MODEL_MAX];
	unsigned n;
};

static unsigned model_pos(const struct model *m, uint64_t x)
{
	unsigned i = 0;

	while (i < m->n && m->e[i].range.start <= x)
		i++;
	return i;
}

static int model_insert(struct model *m, struct iof_range r, uint64_t value)
{
	unsigned i = model_pos(m, r.start);

	if ((i && m->e[i - 1].range.last >= r.start) || (i < m->n && m->e[i].range.start <= r.last))
		return -EEXIST;
	memmove(&m->e[i + 1], &m->e[i], (m->n - i) * sizeof(m->e[0]));
	m->e[i] = (struct iof_index_entry){ r, value };
	m->n++;
	return 0;
}

static bool model_remove(struct model *m, uint64_t start)
{
	unsigned i = model_pos(m, start);

	if (!i || m->e[i - 1].range.start != start)
		return false;
	memmove(&m->e[i - 1], &m->e[i], (m->n - i) * sizeof(m->e[0]));
	m->n--;
	return true;
}

static bool model_first(const struct model *m, struct iof_range r, struct iof_index_entry *out)
{
	for (unsigned i = 0; i < m->n; i++)
		if (iof_range_intersects(m->e[i].range, r)) {
			*out = m->e[i];
			return true;
		}
	return false;
}

/* The rule, word for word, over 128 bits so that nothing can wrap. */
static bool model_fits(struct iof_range hole, struct iof_range w, uint64_t length, uint64_t align, uint64_t or_bits,
		       uint64_t *start)
{
	unsigned __int128 a;

	if (!iof_range_intersects(hole, w))
		return false;
	hole = iof_range_clip(hole, w);
	a = ((unsigned __int128)hole.start + align - 1) / align * align;
	if (a > UINT64_MAX)
		return false;
	a |= or_bits;
	if (a >= hole.last || hole.last - a < (unsigned __int128)length - 1)
		return false;
	*start = (uint64_t)a;
	return true;
}

static bool model_hole(const struct model *m, struct iof_range w, uint64_t length, uint64_t align, uint64_t or_bits,
		       uint64_t *start)
{
	uint64_t from = 0;

	for (unsigned i = 0; i < m->n; i++) {
		struct iof_range used = m->e[i].range;

		if (used.start > from &&
		    model_fits((struct iof_range){ from, used.start - 1 }, w, length, align, or_bits, start))
			return true;
		if (used.last == UINT64_MAX)
			return false;
		from = used.last + 1;
	}
	return model_fits((struct iof_range){ from, UINT64_MAX }, w, length, align, or_bits, start);
}

static struct iof_range random_range(uint64_t *seed, uint64_t space, uint64_t base, uint64_t grain)
{
	uint64_t start = base + check_random(seed) % space / grain * grain;
	uint64_t length = (1 + check_random(seed) % 6) * grain;

	if (length - 1 > UINT64_MAX - start)
		length = UINT64_MAX - start + 1;
	return (struct iof_range){ start, start + length - 1 };
}

static void same_entries(const struct iof_index *ix, const struct model *m)
{
	struct iof_index_entry e;
	uint64_t from = 0;

	CHECK_EQ(iof_index_count(ix), m->n);
	for (unsigned i = 0; i < m->n; i++) {
		CHECK(iof_index_first(ix, (struct iof_range){ from, UINT64_MAX }, &e));
		CHECK_EQ(e.range.start, m->e[i].range.start);
		CHECK_EQ(e.range.last, m->e[i].range.last);
		CHECK_EQ(e.value, m->e[i].value);
		from = e.range.last + 1;
	}
}

static void same_answers(struct iof_index *ix, const struct model *m, uint64_t *seed, uint64_t space, uint64_t base,
			 uint64_t grain)
{
	struct iof_range r = random_range(seed, space, base, 1);
	struct iof_index_entry a, b;
	uint64_t got = 0, want = 0, align = UINT64_C(1) << check_random(seed) % 22, bits, v;
	uint64_t length = 1 + check_random(seed) % (8 * grain);
	bool there;

	there = model_first(m, (struct iof_range){ r.start, r.start }, &b);
	CHECK_EQ(iof_index_find(ix, r.start, &a), there);
	if (there)
		CHECK_EQ(a.range.start, b.range.start);
	iof_index_find_many(ix, &r.start, 1, 77, &v);
	CHECK_EQ(v, there ? b.value : 77);
	there = model_first(m, r, &b);
	CHECK_EQ(iof_index_first(ix, r, &a), there);
	if (there)
		CHECK_EQ(a.range.start, b.range.start);
	if (check_random(seed) % 8 == 0)
		length = 1 + (check_random(seed) >> check_random(seed) % 64) / 2 * 2;
	bits = check_random(seed) % 4 ? 0 : check_random(seed) % 4096 & ~(align - 1);
	if (check_random(seed) % 2)
		r = (struct iof_range){ base, base + (space - 1) };
	else
		r.last = r.last > UINT64_MAX - 64 * grain ? UINT64_MAX : r.last + 64 * grain;
	there = model_hole(m, r, length, align, bits, &want);
	CHECK_EQ(iof_index_hole(ix, r, length, align, bits, &got), there);
	CHECK_EQ(got, want);
}

/* grow: out of 8, how many steps insert. */
static void run_model(uint64_t seed, unsigned steps, uint64_t base, uint64_t space, uint64_t grain)
{
	static struct model m;
	struct iof_index *ix;
	struct iof_alloc a;
	unsigned grow = 6;

	m.n = 0;
	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	for (unsigned i = 0; i < steps; i++) {
		struct iof_range r = random_range(&seed, space, base, grain);

		if (i % 1500 == 0)
			grow = grow == 6 ? 2 : 6;
		if (check_random(&seed) % 8 < (i < 1000 ? 7 : grow)) {
			CHECK_EQ(iof_index_insert(ix, r, i), model_insert(&m, r, i));
		} else {
			uint64_t start = m.n ? m.e[check_random(&seed) % m.n].range.start : r.start;

			start += check_random(&seed) % 16 == 0;
			CHECK_EQ(iof_index_remove(ix, start), model_remove(&m, start));
		}
		CHECK(iof_index_is_valid(ix));
		same_answers(ix, &m, &seed, space, base, grain);
	}
	same_entries(ix, &m);
	while (m.n) {
		uint64_t start = m.e[check_random(&seed) % m.n].range.start;

		CHECK(model_remove(&m, start) && iof_index_remove(ix, start));
		CHECK(iof_index_is_valid(ix));
		same_answers(ix, &m, &seed, space, base, grain);
	}
	iof_index_destroy(ix);
	CHECK_EQ(atomic_load(&a.live_bytes), 0);
}

TEST(model_bytes)
{
	run_model(11, 6000, 0, 3000, 1);
}

TEST(model_pages)
{
	run_model(12, 6000, 0, UINT64_C(3000) * 4096, 4096);
}

TEST(model_sparse)
{
	run_model(13, 6000, UINT64_C(1) << 40, UINT64_C(1) << 34, 4096);
}

TEST(model_top_of_space)
{
	run_model(14, 6000, UINT64_MAX - 2999, 3000, 1);
	run_model(15, 3000, UINT64_MAX - UINT64_C(600) * 4096 + 1, UINT64_C(600) * 4096, 4096);
}

TEST(model_wide_ranges)
{
	static struct model m;
	struct iof_index *ix;
	struct iof_alloc a;
	uint64_t seed = 16;

	m.n = 0;
	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t x = check_random(&seed), y = x + (check_random(&seed) >> (check_random(&seed) % 64));
		struct iof_range r = { x, y < x ? UINT64_MAX : y };

		if (m.n < 600 || i % 2)
			CHECK_EQ(iof_index_insert(ix, r, i), model_insert(&m, r, i));
		else
			CHECK(iof_index_remove(ix, m.e[x % m.n].range.start) &&
			      model_remove(&m, m.e[x % m.n].range.start));
		CHECK(i % 16 || iof_index_is_valid(ix));
		same_answers(ix, &m, &seed, UINT64_MAX, 0, 4096);
	}
	same_entries(ix, &m);
	iof_index_destroy(ix);
}

TEST(ends_of_the_space)
{
	struct iof_index *ix;
	struct iof_index_entry e;
	struct iof_alloc a;
	uint64_t s;

	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	CHECK(!iof_index_find(ix, UINT64_MAX, &e) && !iof_index_first(ix, IOF_RANGE_ALL, &e));
	CHECK(iof_index_hole(ix, IOF_RANGE_ALL, UINT64_MAX, 1, 0, &s) && s == 0);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 5, 4 }, 1), -EINVAL);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ UINT64_MAX, UINT64_MAX }, 1), 0);
	CHECK(iof_index_find(ix, UINT64_MAX, &e) && e.value == 1);
	CHECK(!iof_index_find(ix, UINT64_MAX - 1, &e));
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0, 0 }, 2), 0);
	CHECK_EQ(iof_index_insert(ix, IOF_RANGE_ALL, 3), -EEXIST);
	CHECK(iof_index_hole(ix, IOF_RANGE_ALL, 1, 1, 0, &s) && s == 1);
	CHECK(iof_index_remove(ix, 0) && iof_index_remove(ix, UINT64_MAX));
	CHECK_EQ(iof_index_insert(ix, IOF_RANGE_ALL, 3), 0);
	CHECK(!iof_index_hole(ix, IOF_RANGE_ALL, 1, 1, 0, &s));
	CHECK(iof_index_find(ix, 1234, &e) && e.range.last == UINT64_MAX);
	CHECK(iof_index_is_valid(ix));
	iof_index_destroy(ix);
}

/* A hole of one byte takes nothing, not even one byte; two bytes take one. */
TEST(one_byte_holes_do_not_fit)
{
	struct iof_index *ix;
	struct iof_alloc a;
	uint64_t s = 0;

	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0, 0x1000 }, 0), 0);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0x1002, UINT64_MAX }, 0), 0);
	CHECK(!iof_index_hole(ix, IOF_RANGE_ALL, 1, 1, 1, &s));
	CHECK(iof_index_remove(ix, 0x1002));
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0x1003, UINT64_MAX }, 0), 0);
	CHECK(iof_index_hole(ix, IOF_RANGE_ALL, 1, 1, 1, &s));
	CHECK_EQ(s, 0x1001);
	CHECK(!iof_index_hole(ix, (struct iof_range){ 0x1002, 0x1002 }, 1, 1, 0, &s));
	iof_index_destroy(ix);
}

TEST(split_join_set)
{
	struct iof_index *ix;
	struct iof_index_entry e;
	struct iof_alloc a;

	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0, 99999 }, 7), 0);
	CHECK_EQ(iof_index_split(ix, 0, 99999, 8), -EINVAL);
	CHECK_EQ(iof_index_split(ix, 1, 50, 8), -ENOENT);
	for (uint64_t i = 0; i < 999; i++) {
		CHECK_EQ(iof_index_split(ix, i * 100, i * 100 + 99, i + 1), 0);
		CHECK(iof_index_is_valid(ix));
	}
	CHECK_EQ(iof_index_count(ix), 1000);
	CHECK(iof_index_find(ix, 55555, &e) && e.value == 555 && e.range.start == 55500 && e.range.last == 55599);
	CHECK(iof_index_set(ix, 55500, 1) && !iof_index_set(ix, 55501, 1));
	CHECK(iof_index_find(ix, 55555, &e) && e.value == 1);
	CHECK(!iof_index_join(ix, 0) && !iof_index_join(ix, 50));
	for (uint64_t i = 999; i; i--) {
		CHECK(iof_index_join(ix, (i * 371) % 999 * 100 + 100));
		CHECK(iof_index_is_valid(ix));
	}
	CHECK(iof_index_count(ix) == 1 && iof_index_find(ix, 1, &e) && e.range.last == 99999 && e.value == 7);
	CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 100001, 100002 }, 7), 0);
	CHECK(!iof_index_join(ix, 100001)); /* not adjacent */
	iof_index_destroy(ix);
}

/* Every insertion of a long mixed run is first tried with its n-th allocation refused, for every n. */
TEST(memory_refused_at_every_point)
{
	static struct model m;
	struct iof_index_stats before, after;
	struct iof_index *ix;
	struct iof_alloc a;
	uint64_t seed = 21, refused = 0;
	int rc;

	m.n = 0;
	iof_alloc_init_heap(&a);
	iof_alloc_fail_nth(&a, 1);
	CHECK_EQ(iof_index_create(&a, &ix), -ENOMEM);
	iof_alloc_fail_nth(&a, 2);
	CHECK_EQ(iof_index_create(&a, &ix), -ENOMEM);
	CHECK_EQ(atomic_load(&a.live_bytes), 0);
	iof_alloc_fail_nth(&a, 0);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	for (unsigned i = 0; m.n < MODEL_MAX - 8; i++) {
		struct iof_range r = random_range(&seed, UINT64_C(1) << 30, 0, 4096);

		if (i % 3 == 0)
			r = (struct iof_range){ (UINT64_C(1) << 40) + i * 4096, (UINT64_C(1) << 40) + i * 4096 + 4095 };
		for (int n = 1;; n++) {
			iof_index_stats(ix, &before);
			iof_alloc_fail_nth(&a, n);
			rc = iof_index_insert(ix, r, i);
			iof_alloc_fail_nth(&a, 0);
			if (rc != -ENOMEM)
				break;
			refused++;
			iof_index_stats(ix, &after);
			CHECK(before.entries == after.entries && before.leaves == after.leaves);
			CHECK(before.inner_nodes == after.inner_nodes && before.height == after.height);
			CHECK(iof_index_is_valid(ix));
			if (refused % 16 == 0)
				same_entries(ix, &m);
		}
		CHECK_EQ(rc, model_insert(&m, r, i));
	}
	CHECK(refused > 200);
	CHECK(iof_index_is_valid(ix));
	same_entries(ix, &m);
	iof_alloc_fail_nth(&a, 1); /* removal and searches take no step that could fail */
	while (m.n) {
		uint64_t start = m.e[check_random(&seed) % m.n].range.start;

		CHECK(iof_index_remove(ix, start) && model_remove(&m, start));
		CHECK(iof_index_is_valid(ix));
	}
	CHECK_EQ(iof_alloc_fail_nth(&a, 0), 1);
	iof_index_destroy(ix);
	CHECK_EQ(atomic_load(&a.live_bytes), 0);
}

static double bytes_per_entry(const struct iof_index *ix)
{
	struct iof_index_stats st;

	iof_index_stats(ix, &st);
	return (double)st.bytes / (double)st.entries;
}

/* Runs leave full leaves behind: upwards, downwards, in the middle, and below a reserved top. */
TEST(runs_fill_leaves)
{
	struct iof_index *ix;
	struct iof_alloc a;
	const uint64_t n = 40000;

	iof_alloc_init_heap(&a);
	for (int kind = 0; kind < 4; kind++) {
		CHECK_EQ(iof_index_create(&a, &ix), 0);
		if (kind >= 2)
			CHECK_EQ(iof_index_insert(ix, (struct iof_range){ UINT64_C(1) << 48, UINT64_MAX }, 0), 0);
		if (kind == 3)
			for (uint64_t i = 0; i < 100; i++)
				CHECK_EQ(iof_index_insert(ix, (struct iof_range){ i * 8192, i * 8192 + 4095 }, 0), 0);
		for (uint64_t i = 0; i < n; i++) {
			uint64_t s = 0x1000000 + (kind == 1 ? n - i : i) * 4096;

			CHECK_EQ(iof_index_insert(ix, (struct iof_range){ s, s + 4095 }, i), 0);
		}
		CHECK(iof_index_is_valid(ix));
		CHECK(bytes_per_entry(ix) <= 36);
		iof_index_destroy(ix);
	}
}

static uint64_t visited(const struct iof_index *ix)
{
	struct iof_index_stats st;

	iof_index_stats(ix, &st);
	return st.visited;
}

/* n holes of 8 KiB, at 8 KiB alignment or 4 KiB off it. */
static struct iof_index *with_holes(struct iof_alloc *a, uint64_t n, uint64_t off)
{
	struct iof_index *ix;

	if (iof_index_create(a, &ix))
		return NULL;
	for (uint64_t i = 0; i < n; i++)
		if (iof_index_insert(ix, (struct iof_range){ i * 16384 + 8192 + off, i * 16384 + 16383 + off }, i))
			return NULL;
	return ix;
}

/* Counted, not timed: placing and removing 8 KiB-aligned ranges among n misaligned holes looks into a handful of nodes. */
TEST(misaligned_holes_are_not_walked)
{
	struct iof_alloc a;

	iof_alloc_init_heap(&a);
	for (uint64_t n = 1000; n <= 100000; n *= 10) {
		struct iof_index *ix = with_holes(&a, n, 4096);
		uint64_t seed = n, before, s, i;

		CHECK(ix);
		/* The very first hole begins at 0 and is aligned. */
		CHECK(iof_index_hole(ix, IOF_RANGE_ALL, 8192, 8192, 0, &s) && s == 0);
		CHECK_EQ(iof_index_insert(ix, (struct iof_range){ 0, 8191 }, 0), 0);
		before = visited(ix);
		for (unsigned k = 0; k < 1000; k++) {
			CHECK(iof_index_hole(ix, IOF_RANGE_ALL, 8192, 8192, 0, &s));
			CHECK(s >= n * 16384);
			CHECK_EQ(iof_index_insert(ix, (struct iof_range){ s, s + 8191 }, 0), 0);
		}
		CHECK((visited(ix) - before) / 1000 <= 12);
		/* Neighbours come and go, so that misaligned holes grow, fit, and are filled again. */
		before = visited(ix);
		for (unsigned k = 0; k < 1000; k++) {
			i = check_random(&seed) % n;
			CHECK(iof_index_remove(ix, i * 16384 + 12288));
			CHECK(iof_index_hole(ix, IOF_RANGE_ALL, 8192, 8192, 0, &s) && s == i * 16384 + 8192);
			CHECK_EQ(iof_index_insert(ix, (struct iof_range){ i * 16384 + 12288, i * 16384 + 20479 }, i), 0);
		}
		CHECK((visited(ix) - before) / 1000 <= 24);
		CHECK(iof_index_is_valid(ix));
		iof_index_destroy(ix);
	}
}

TEST(find_many_agrees_with_find)
{
	struct iof_index_entry e;
	struct iof_index *ix;
	struct iof_alloc a;
	static struct iof_index_entry whole[1000];
	static uint64_t at[1000], v[1000];
	uint64_t seed = 5;

	iof_alloc_init_heap(&a);
	CHECK_EQ(iof_index_create(&a, &ix), 0);
	iof_index_find_many(ix, at, 3, 9, v);
	CHECK(v[0] == 9 && v[2] == 9);
	for (unsigned i = 0; i < 20000; i++)
		iof_index_insert(ix, random_range(&seed, 1 << 20, 0, 1), i);
	for (unsigned i = 0; i < 1000; i++)
		at[i] = i % 100 ? check_random(&seed) % (1 << 20) : UINT64_MAX;
	for (size_t n = 0; n <= 1000; n += 333) {
		iof_index_find_many(ix, at, n, 123456789, v);
		iof_index_find_entries(ix, at, n, whole);
		for (size_t i = 0; i < n; i++) {
			bool there = iof_index_find(ix, at[i], &e);

			CHECK_EQ(v[i], there ? e.value : 123456789);
			CHECK_EQ(whole[i].range.start, there ? e.range.start : 1);
			CHECK_EQ(whole[i].range.last, there ? e.range.last : 0);
		}
	}
	iof_index_destroy(ix);
}
