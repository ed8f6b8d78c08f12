/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOVA spaces: the placement vectors, reserved ranges of several owners against a byte map, error order, and memory refused at
 * every point with the state compared before and after.
 */
#include "check.h"

#include "iova/space.h"

#define V UINT64_C(0x7f0000000000)
#define MOCK 1 /* an aperture of 0x1000000 .. 2^56-1 … as far as placement sees it, and 2 KiB pages */

static struct iof_alloc heap;

static struct iof_space *space(void)
{
	struct iof_space *s = NULL;

	iof_alloc_init_heap(&heap);
	iof_space_create(&heap, &s);
	return s;
}

struct vector {
	const char *name;
	int mock;
	struct iof_range area, reserved, allowed; /* last = 0: none */
	uint64_t addr, length;
	int rc;
	uint64_t iova;
};

static const struct vector vectors[] = {
	{ "page", 0, .addr = V + 0x5000, .length = 4096, .iova = 0x1000 },
	{ "3 pages, odd page", 0, .area = { 0x1000, 0x3fff }, .addr = V + 0x5000, .length = 12288, .iova = 0x4000 },
	{ "3 pages, 16 KiB", 0, .area = { 0x1000, 0x3fff }, .addr = V + 0x4000, .length = 12288, .iova = 0x4000 },
	{ "mock page", MOCK, .addr = V + 0x5000, .length = 4096, .iova = 0x1000000 },
	{ "mock half", MOCK, .addr = V + 0x5800, .length = 2048, .iova = 0x1000800 },
	{ "mock one and a half", MOCK, .addr = V + 0x5800, .length = 6144, .iova = 0x1000800 },
	{ "mock after half", MOCK, .area = { 0x1000000, 0x10007ff }, .addr = V + 0x5000, .length = 2048, .iova = 0x1000800 },
	{ "sub-page offset", 0, .addr = V + 0x5c00, .length = 0x400, .iova = 0x1c00 },
	{ "offset is or-ed in", 0, .area = { 0x1000, 0x1bff }, .addr = V + 0x5800, .length = 0x400, .iova = 0x1c00 },
	{ "one byte", 0, .addr = V + 0x5123, .length = 1, .iova = 0x1123 },
	{ "4 MiB", 0, .addr = V + 0x200000, .length = 4 << 20, .iova = 0x200000 },
	{ "1 GiB", 0, .addr = V, .length = 1 << 30, .iova = 0x200000 },
	{ "address 0", 0, .addr = 0, .length = 3 << 20, .iova = 0x200000 },
	{ "mock file", MOCK, .addr = 0, .length = 3 << 20, .iova = 0x1000000 },
	{ "below the alignment", MOCK, .addr = V, .length = 1, .rc = -EINVAL },
	{ "6 bytes left", 0, .reserved = { 6, 0xffffffffffff8006 }, .addr = V, .length = 0x5000, .rc = -ENOSPC },
	{ "6 bytes left, mock", MOCK, .reserved = { 6, 0xffffffffffff8006 }, .addr = V, .length = 0x5000, .rc = -ENOSPC },
	{ "all of the mock", MOCK, .addr = V, .length = 0x7f000000, .iova = 0x1000000 },
	{ "more than the mock", MOCK, .addr = V, .length = 0x7f001000, .rc = -ENOSPC },
	{ "allowed", MOCK, .allowed = { 0x1001000, 0x1257fff }, .addr = V + 0x4000, .length = 12288, .iova = 0x1004000 },
	{ "length too large", 0, .addr = V, .length = INT64_MAX, .rc = -EOVERFLOW },
	{ "largest length", 0, .addr = V, .length = INT64_MAX - 1, .iova = 0x200000 },
	{ "length 0", 0, .addr = V, .length = 0, .rc = -EOVERFLOW },
};

TEST(placement_vectors)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *v = &vectors[i];
		struct iof_space *s = space();
		uint64_t iova = 0;

		if (v->mock) {
			CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0, 0xffffff }, 1), 0);
			CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0x80000000, UINT64_MAX }, 1), 0);
		}
		if (v->reserved.last)
			CHECK_EQ(iof_space_reserve(s, v->reserved, 2), 0);
		if (v->allowed.last)
			CHECK_EQ(iof_space_allow(s, &v->allowed, 1), 0);
		if (v->area.last)
			CHECK_EQ(iof_space_insert(s, v->area, 5), 0);
		if (iof_space_place(s, v->addr, v->length, v->mock ? 2048 : 1, &iova) != v->rc || iova != v->iova) {
			printf("%s: 0x%llx\n", v->name, (unsigned long long)iova);
			CHECK(!"as in the table");
		}
		CHECK(iof_space_is_valid(s));
		iof_space_destroy(s);
	}
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

TEST(one_free_byte_and_two)
{
	struct iof_space *s = space();
	uint64_t iova = 0;

	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0, 0x1000 }, 1), 0);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x1003, UINT64_MAX }, 1), 0);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x1002, 0x1002 }, 1), 0);
	CHECK_EQ(iof_space_place(s, V + 0x5001, 1, 1, &iova), -ENOSPC);
	iof_space_remove(s, 0x1002);
	CHECK_EQ(iof_space_place(s, V + 0x5001, 1, 1, &iova), 0);
	CHECK_EQ(iova, 0x1001);
	iof_space_destroy(s);
}

TEST(allowed_list)
{
	const struct iof_range two[] = { { 0x5000, 0x5fff }, { 0x6000, 0x8fff } }, far[] = { { 0x20000, 0x2ffff }, { 0, 0xfff } };
	const struct iof_range bad[] = { { 0x5000, 0x5fff }, { 0x5fff, 0x7000 } }, point = { 7, 7 }, all = { 0, UINT64_MAX };
	struct iof_space *s = space();
	uint64_t iova;

	CHECK_EQ(iof_space_allow(s, two, 2), 0);
	CHECK_EQ(iof_space_place(s, 0x1000, 0x4000, 1, &iova), 0); /* adjoining ranges are one window */
	CHECK_EQ(iova, 0x5000);
	CHECK_EQ(iof_space_place(s, 0x1000, 0x5000, 1, &iova), -ENOSPC);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x100000, 0x100fff }, 1), 0); /* fixed: not restricted */
	CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0x8fff, 0x9000 }, 1), -EADDRINUSE);
	CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0x9000, 0x9fff }, 1), 0);
	CHECK_EQ(iof_space_allow(s, bad, 2), -EINVAL);
	CHECK_EQ(iof_space_allow(s, &point, 1), -EINVAL);
	CHECK_EQ(iof_space_allow(s, &all, 1), -EADDRINUSE);
	CHECK_EQ(iof_space_place(s, 0x1000, 0x4000, 1, &iova), 0); /* the old list stays */
	CHECK_EQ(iof_space_allow(s, far, 2), 0);
	CHECK_EQ(iof_space_place(s, 0x1000, 0x1000, 1, &iova), 0); /* never below the first page */
	CHECK_EQ(iova, 0x20000);
	CHECK_EQ(iof_space_allow(s, NULL, 0), 0);
	CHECK_EQ(iof_space_place(s, 0x1000, 0x1000, 1, &iova), 0);
	CHECK_EQ(iova, 0x1000);
	iof_space_unreserve(s, 1);
	CHECK_EQ(iof_space_allow(s, &all, 1), 0);
	CHECK_EQ(iof_space_place(s, 0, UINT64_C(1) << 62, 1, &iova), 0);
	CHECK_EQ(iova, 0x200000);
	CHECK(iof_space_is_valid(s));
	iof_space_destroy(s);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

/* The place that was found last is used again, by a fixed map, when its hole has grown downwards: what is below it is still free. */
TEST(a_fixed_map_where_the_last_place_was)
{
	struct iof_space *s = space();
	uint64_t iova;

	for (uint64_t i = 1; i <= 3; i++) {
		CHECK_EQ(iof_space_place(s, 0x1000, 0x1000, 1, &iova), 0);
		CHECK_EQ(iova, i * 0x1000);
		CHECK_EQ(iof_space_insert(s, (struct iof_range){ iova, iova + 0xfff }, i), 0);
	}
	iof_space_remove(s, 0x2000);
	iof_space_remove(s, 0x3000);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x3000, 0x3fff }, 3), 0);
	CHECK(iof_space_is_valid(s));
	CHECK_EQ(iof_space_place(s, 0x1000, 0x1000, 1, &iova), 0);
	CHECK_EQ(iova, 0x2000);
	iof_space_destroy(s);
}

TEST(fixed_places)
{
	struct iof_space *s = space();
	struct iof_index_entry e;

	CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0x8000, 0x8fff }, 1), 0);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x4000, 0x4fff }, 9), 0);
	CHECK_EQ(iof_space_check(s, (struct iof_range){ 0x5000, 0x7fff }), 0);
	CHECK_EQ(iof_space_check(s, (struct iof_range){ 0x4fff, 0x5000 }), -EEXIST);
	CHECK_EQ(iof_space_check(s, (struct iof_range){ 0x4000, 0x8000 }), -EINVAL); /* reserved counts first */
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x4000, 0x8000 }, 1), -EINVAL);
	CHECK_EQ(iof_space_insert(s, (struct iof_range){ 0x3000, 0x4000 }, 1), -EEXIST);
	CHECK_EQ(iof_space_reserve(s, (struct iof_range){ 0, 0x4000 }, 1), -EADDRINUSE);
	CHECK_EQ(iof_space_areas(s), 1);
	CHECK(!iof_space_find(s, 0x8000, &e));
	CHECK(iof_space_first(s, IOF_RANGE_ALL, &e) && e.value == 9);
	CHECK(!iof_space_first(s, (struct iof_range){ 0x5000, UINT64_MAX }, &e));
	CHECK_EQ(iof_space_split(s, 0x4000, 0x47ff, 10), 0);
	CHECK(iof_space_find(s, 0x4800, &e) && e.value == 10 && e.range.last == 0x4fff);
	iof_space_destroy(s);
}

/* A small space as bytes: who covers what. */
#define SMALL 256
#define OWNERS 6

struct small {
	unsigned cover[SMALL];
	struct {
		struct iof_range r;
		unsigned owner;
	} owned[400];
	unsigned n;
};

static void small_add(struct small *m, struct iof_range r, int by)
{
	for (uint64_t x = r.start; x <= r.last; x++)
		m->cover[x] += (unsigned)by;
}

static void small_drop(struct small *m, unsigned owner)
{
	unsigned keep = 0;

	for (unsigned i = 0; i < m->n; i++)
		if (m->owned[i].owner == owner)
			small_add(m, m->owned[i].r, -1);
		else
			m->owned[keep++] = m->owned[i];
	m->n = keep;
}

static void same_ranges(const struct iof_space *s, const struct small *m)
{
	struct iof_range out[SMALL];
	size_t n = iof_space_ranges(s, out, SMALL), i = 0;

	for (unsigned x = 0; x < SMALL; x++) {
		if (m->cover[x])
			continue;
		CHECK(i < n);
		CHECK_EQ(out[i].start, x);
		while (x + 1 < SMALL && !m->cover[x + 1])
			x++;
		CHECK_EQ(out[i].last, x + 1 == SMALL ? UINT64_MAX : x);
		i++;
	}
	if (m->cover[SMALL - 1]) {
		CHECK_EQ(out[i].start, SMALL);
		i++;
	}
	CHECK_EQ(i, n);
}

TEST(owners_come_and_go)
{
	static struct small m;
	struct iof_space *s = space();
	uint64_t seed = 31;

	for (unsigned step = 0; step < 6000; step++) {
		uint64_t a = check_random(&seed) % SMALL, b = a + check_random(&seed) % 40;
		unsigned owner = check_random(&seed) % OWNERS;
		struct iof_range r = { a, b < SMALL ? b : SMALL - 1 };

		if (m.n < 60 && check_random(&seed) % 8) {
			CHECK_EQ(iof_space_reserve(s, r, owner), 0);
			small_add(&m, r, 1);
			m.owned[m.n].r = r;
			m.owned[m.n++].owner = owner;
		} else {
			iof_alloc_fail_nth(&heap, 1); /* must not ask for memory */
			iof_space_unreserve(s, owner);
			CHECK_EQ(iof_alloc_fail_nth(&heap, 0), 1);
			small_drop(&m, owner);
		}
		CHECK(iof_space_is_valid(s));
		same_ranges(s, &m);
	}
	for (unsigned owner = 0; owner < OWNERS; owner++)
		iof_space_unreserve(s, owner);
	CHECK(iof_space_is_valid(s));
	CHECK_EQ(iof_space_ranges(s, NULL, 0), 1);
	iof_space_destroy(s);
}

/* Areas and reserved ranges together, in a space too small for peace. */
TEST(areas_among_owners)
{
	static struct small res, area;
	struct iof_space *s = space();
	struct iof_index_entry e;
	uint64_t seed = 33;

	for (unsigned step = 0; step < 8000; step++) {
		uint64_t a = check_random(&seed) % SMALL, b = a + check_random(&seed) % 10;
		struct iof_range r = { a, b < SMALL ? b : SMALL - 1 };
		bool in_res = false, in_area = false;
		unsigned what = check_random(&seed) % 8, owner = what;

		for (uint64_t x = r.start; x <= r.last; x++) {
			in_res |= res.cover[x] != 0;
			in_area |= area.cover[x] != 0;
		}
		CHECK_EQ(iof_space_check(s, r), in_res ? -EINVAL : in_area ? -EEXIST : 0);
		CHECK_EQ(iof_space_first(s, r, &e), in_area);
		if (what < 4) {
			CHECK_EQ(iof_space_insert(s, r, step), in_res ? -EINVAL : in_area ? -EEXIST : 0);
			if (!in_res && !in_area)
				small_add(&area, r, 1);
		} else if (what < 6) {
			CHECK_EQ(iof_space_reserve(s, r, owner), in_area ? -EADDRINUSE : 0);
			if (!in_area) {
				small_add(&res, r, 1);
				res.owned[res.n].r = r;
				res.owned[res.n++].owner = owner;
			}
		} else if (what == 6 && in_area) {
			iof_space_remove(s, e.range.start);
			small_add(&area, e.range, -1);
		}
		if (what == 7 || res.n > 20) {
			owner = 4 + check_random(&seed) % 2;
			iof_space_unreserve(s, owner);
			small_drop(&res, owner);
		}
		CHECK(iof_space_is_valid(s));
	}
	same_ranges(s, &res);
	iof_space_destroy(s);
}

/* The state as a caller can see it. */
struct seen {
	size_t n;
	struct iof_range ranges[512];
	struct iof_index_stats st;
	uint64_t placed;
};

static void look(struct iof_space *s, struct seen *out)
{
	memset(out, 0, sizeof(*out));
	out->n = iof_space_ranges(s, out->ranges, 512);
	iof_space_place(s, 0, 64, 1, &out->placed);
	iof_space_stats(s, &out->st);
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->n == b->n && !memcmp(a->ranges, b->ranges, sizeof(a->ranges)) && a->placed == b->placed &&
	       a->st.entries == b->st.entries;
}

TEST(memory_refused_at_every_point)
{
	static struct iof_range allow[100];
	struct iof_space *s = NULL;
	struct seen before, after;
	uint64_t seed = 34, refused = 0;
	int rc = -ENOMEM;

	iof_alloc_init_heap(&heap);
	for (int n = 1; rc == -ENOMEM; n++) {
		CHECK_EQ(atomic_load(&heap.live_bytes), 0);
		iof_alloc_fail_nth(&heap, n);
		rc = iof_space_create(&heap, &s);
	}
	CHECK_EQ(rc, 0);
	for (unsigned i = 0; i < 100; i++)
		allow[i] = (struct iof_range){ (i + 100) << 20, ((i + 100) << 20) + 0xfff };
	for (unsigned step = 0; step < 3000; step++) {
		uint64_t a = 0x10000 + check_random(&seed) % 200000, b = a + check_random(&seed) % 3000;
		struct iof_range r = { a, b };

		look(s, &before);
		for (int n = 1;; n++) {
			iof_alloc_fail_nth(&heap, n);
			rc = step % 100 ? iof_space_reserve(s, r, step % 400) : iof_space_allow(s, allow, 100);
			iof_alloc_fail_nth(&heap, 0);
			if (rc != -ENOMEM)
				break;
			refused++;
			look(s, &after);
			CHECK(same(&before, &after));
			CHECK(step % 16 || iof_space_is_valid(s));
		}
		CHECK_EQ(rc, 0);
		iof_space_unreserve(s, (step * 7 + 3) % 400);
	}
	CHECK(refused > 250);
	CHECK(iof_space_is_valid(s));
	iof_space_destroy(s);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}
