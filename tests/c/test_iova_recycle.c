/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recycle against a list of what is out: nothing overlaps, everything is aligned and lies inside what the space allows, wrong
 * gives are refused, idle windows go back when the space is full, and refused memory changes nothing.
 */
#include "check.h"

#include "iova/recycle.h"

#define OUT_MAX 600

struct out {
	uint64_t iova, length;
};

static struct iof_alloc heap;
static struct iof_space *space;
static struct iof_recycle *rec;
static struct out out[OUT_MAX];
static unsigned n_out;

static void start(uint64_t granule, struct iof_range usable)
{
	iof_alloc_init_heap(&heap);
	CHECK_EQ(iof_space_create(&heap, &space), 0);
	if (usable.start)
		CHECK_EQ(iof_space_reserve(space, (struct iof_range){ 0, usable.start - 1 }, 1), 0);
	if (usable.last != UINT64_MAX)
		CHECK_EQ(iof_space_reserve(space, (struct iof_range){ usable.last + 1, UINT64_MAX }, 1), 0);
	CHECK_EQ(iof_recycle_create(&heap, space, granule, &rec), 0);
	n_out = 0;
}

static void finish(void)
{
	CHECK(iof_recycle_is_valid(rec));
	iof_recycle_destroy(rec);
	CHECK_EQ(iof_space_areas(space), 0);
	CHECK(iof_space_is_valid(space));
	iof_space_destroy(space);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

static void check_new(struct out o, uint64_t granule, struct iof_range usable)
{
	uint64_t size = iof_recycle_size(rec, o.length), align = iof_pow2_ceil(size);
	struct iof_range r = { o.iova, o.iova + size - 1 }, found;

	CHECK(size >= o.length && size % granule == 0);
	CHECK_EQ(o.iova % (align > IOF_SPACE_CAP ? IOF_SPACE_CAP : align), 0);
	CHECK(iof_range_contains(usable, r));
	for (unsigned i = 0; i < n_out; i++) {
		uint64_t other = iof_recycle_size(rec, out[i].length);

		CHECK(!iof_range_intersects(r, (struct iof_range){ out[i].iova, out[i].iova + other - 1 }));
	}
	CHECK(iof_recycle_find(rec, r.last, &found) && found.start == r.start && found.last == r.last);
}

/* What is out, in order, is what first() walks over. */
static void same_out(void)
{
	struct iof_range rest = IOF_RANGE_ALL, got;
	unsigned n = 0;

	for (; iof_recycle_first(rec, rest, &got); rest.start = got.last + 1, n++) {
		unsigned i = 0;

		while (i < n_out && out[i].iova != got.start)
			i++;
		CHECK(i < n_out);
		CHECK_EQ(iof_range_length(got), iof_recycle_size(rec, out[i].length));
	}
	CHECK_EQ(n, n_out);
}

static void run_model(uint64_t seed, uint64_t granule, struct iof_range usable, uint64_t longest, bool full)
{
	unsigned refused = 0;

	start(granule, usable);
	for (unsigned step = 0; step < 20000; step++) {
		struct out o = { 0, 1 + (check_random(&seed) % longest >> check_random(&seed) % 22) };
		unsigned i = n_out ? check_random(&seed) % n_out : 0;
		int rc;

		if (n_out < OUT_MAX && check_random(&seed) % 100 < (step / 2000 % 2 ? 40 : 60)) {
			rc = iof_recycle_take(rec, o.length, &o.iova);
			CHECK(rc == 0 || rc == -ENOSPC);
			refused += rc != 0;
			if (!rc) {
				check_new(o, granule, usable);
				out[n_out++] = o;
			}
		} else if (n_out) {
			CHECK_EQ(iof_recycle_give(rec, out[i].iova, out[i].length), 0);
			CHECK(iof_recycle_give(rec, out[i].iova, out[i].length) < 0);
			out[i] = out[--n_out];
		}
		CHECK_EQ(iof_recycle_taken(rec), n_out);
		if (step % 500 == 0)
			iof_recycle_trim(rec);
		CHECK(step % 8 || iof_recycle_is_valid(rec));
		if (step % 64 == 0)
			same_out();
	}
	CHECK_EQ(refused > 0, full);
	CHECK(iof_space_is_valid(space));
	finish();
}

TEST(model_roomy)
{
	run_model(41, 4096, IOF_RANGE_ALL, UINT64_C(8) << 20, false);
}

TEST(model_tight)
{
	run_model(42, 4096, (struct iof_range){ 0x1000000, 0x3ffffff }, UINT64_C(4) << 20, true);
}

TEST(model_smaller_than_a_window)
{
	run_model(43, 4096, (struct iof_range){ 0x1001000, 0x10fffff }, 64 << 10, true);
}

TEST(model_other_granules)
{
	run_model(44, 64, (struct iof_range){ 0x1000000, 0x2ffffff }, UINT64_C(4) << 20, true);
	run_model(45, 1 << 20, (struct iof_range){ 0x1000000, 0x4ffffff }, UINT64_C(4) << 20, true);
	run_model(46, UINT64_C(4) << 20, (struct iof_range){ 0x1000000, 0x3fffffff }, UINT64_C(4) << 20, true);
}

TEST(wrong_gives)
{
	uint64_t a, b, big;

	start(4096, IOF_RANGE_ALL);
	CHECK_EQ(iof_recycle_take(rec, 0, &a), -EINVAL);
	CHECK_EQ(iof_recycle_take(rec, UINT64_MAX, &a), -EOVERFLOW);
	CHECK_EQ(iof_recycle_take(rec, UINT64_C(1) << 63, &a), -EOVERFLOW);
	CHECK_EQ(iof_recycle_take(rec, 4096, &a), 0);
	CHECK_EQ(iof_recycle_take(rec, 8192, &b), 0);
	CHECK_EQ(iof_recycle_take(rec, 5 << 20, &big), 0);
	CHECK_EQ(iof_recycle_give(rec, a, 0), -EINVAL);
	CHECK_EQ(iof_recycle_give(rec, a, 8192), -ENOENT);
	CHECK_EQ(iof_recycle_give(rec, a + 1, 4096), -ENOENT);
	CHECK_EQ(iof_recycle_give(rec, a + 4096, 4096), -EINVAL);
	CHECK_EQ(iof_recycle_give(rec, UINT64_C(1) << 50, 4096), -ENOENT);
	CHECK_EQ(iof_recycle_give(rec, big + 4096, 5 << 20), -ENOENT);
	CHECK_EQ(iof_recycle_give(rec, big, 4 << 20), -ENOENT);
	CHECK_EQ(iof_recycle_give(rec, a, 1), 0); /* the same class */
	CHECK_EQ(iof_recycle_give(rec, a, 4096), -EINVAL);
	CHECK_EQ(iof_recycle_give(rec, big, 5 << 20), 0);
	CHECK_EQ(iof_recycle_give(rec, big, 5 << 20), -ENOENT);
	finish(); /* b is still out */
	iof_alloc_init_heap(&heap);
	CHECK_EQ(iof_space_create(&heap, &space), 0);
	CHECK_EQ(iof_recycle_create(&heap, space, 0, &rec), -EINVAL);
	CHECK_EQ(iof_recycle_create(&heap, space, 4097, &rec), -EINVAL);
	iof_space_destroy(space);
}

/* Idle windows of one class make room for another, and for the caller's own areas by trim(). */
TEST(idle_windows_go_back)
{
	const struct iof_range usable = { 0x1000000, 0x17fffff }; /* four windows */
	static uint64_t got[2048];
	uint64_t big;

	start(4096, usable);
	for (unsigned i = 0; i < 2048; i++)
		CHECK_EQ(iof_recycle_take(rec, 4096, &got[i]), 0);
	CHECK_EQ(iof_recycle_take(rec, 4096, &big), -ENOSPC);
	for (unsigned i = 0; i < 1536; i++)
		CHECK_EQ(iof_recycle_give(rec, got[i], 4096), 0);
	CHECK_EQ(iof_space_areas(space), 4);
	CHECK_EQ(iof_recycle_take(rec, 6 << 20, &big), 0);
	CHECK_EQ(iof_space_areas(space), 2);
	CHECK_EQ(iof_recycle_give(rec, big, 6 << 20), 0);
	for (unsigned i = 1536; i < 2048; i++)
		CHECK_EQ(iof_recycle_give(rec, got[i], 4096), 0);
	CHECK_EQ(iof_space_areas(space), 1);
	iof_recycle_trim(rec);
	CHECK_EQ(iof_space_areas(space), 0);
	finish();
}

/* What is taken after a change of the allowed list lies inside it; what was taken before can still be given. */
TEST(retired_windows)
{
	const struct iof_range allowed = { 0x40000000, 0x4fffffff };
	static uint64_t got[600];
	uint64_t iova;

	start(4096, IOF_RANGE_ALL);
	for (unsigned i = 0; i < 600; i++)
		CHECK_EQ(iof_recycle_take(rec, 4096, &got[i]), 0);
	CHECK_EQ(iof_recycle_give(rec, got[0], 4096), 0);
	CHECK_EQ(iof_space_allow(space, &allowed, 1), 0);
	iof_recycle_retire(rec);
	CHECK(iof_recycle_is_valid(rec));
	CHECK_EQ(iof_recycle_take(rec, 4096, &iova), 0);
	CHECK(iof_range_has(allowed, iova));
	CHECK_EQ(iof_space_areas(space), 3);
	CHECK_EQ(iof_recycle_give(rec, got[0], 4096), -EINVAL);
	for (unsigned i = 1; i < 600; i++) {
		CHECK_EQ(iof_recycle_give(rec, got[i], 4096), 0);
		CHECK(iof_recycle_is_valid(rec));
	}
	CHECK_EQ(iof_space_areas(space), 1);
	CHECK_EQ(iof_recycle_give(rec, got[5], 4096), -ENOENT);
	finish();
}

TEST(memory_refused_at_every_point)
{
	uint64_t iova, areas, seed = 47;
	unsigned refused = 0;
	int rc = -ENOMEM;

	iof_alloc_init_heap(&heap);
	CHECK_EQ(iof_space_create(&heap, &space), 0);
	for (int n = 1; rc == -ENOMEM; n++) {
		iof_alloc_fail_nth(&heap, n);
		rc = iof_recycle_create(&heap, space, 4096, &rec);
		iof_alloc_fail_nth(&heap, 0);
	}
	CHECK_EQ(rc, 0);
	for (unsigned i = 0; i < 600; i++) {
		uint64_t length = i % 3 ? UINT64_C(2) << 20 : 1 + check_random(&seed) % (UINT64_C(8) << 20);

		for (int n = 1;; n++) {
			areas = iof_space_areas(space);
			iof_alloc_fail_nth(&heap, n);
			rc = iof_recycle_take(rec, length, &iova);
			iof_alloc_fail_nth(&heap, 0);
			if (rc != -ENOMEM)
				break;
			refused++;
			CHECK_EQ(iof_space_areas(space), areas);
			CHECK_EQ(iof_recycle_taken(rec), i);
			CHECK(iof_recycle_is_valid(rec));
		}
		CHECK_EQ(rc, 0);
	}
	CHECK(refused > 300);
	finish();
}
