/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Maps over threads: equal to one map, in pieces; errors and cancellations leave nothing behind; what others mapped stays. */
#include "check.h"
#include "engine.h"

#include <pthread.h>

#include "iommufd_fast_parallel.h"
#include "util/alloc.h"

#define MIB (UINT64_C(1) << 20)

static const uint32_t one_group[] = { 1 };
static struct iof_alloc heap;

struct rig {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
};

static struct rig r;

static void open_rig(void)
{
	iof_alloc_init_heap(&heap);
	r = (struct rig){ .m = machine_with(IOF_PRESET_INTEL, one_group, 1, &heap) };
	CHECK_EQ(iof_engine_open(r.m, &r.ctx), 0);
	CHECK_EQ(iof_engine_open_device(r.m, 0, &r.dev), 0);
	CHECK_EQ(bind_device(r.dev, r.ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(r.ctx, &r.ioas), 0);
	CHECK_EQ(attach(r.dev, r.ioas, NULL), 0);
}

static void close_rig(void)
{
	CHECK(iof_machine_is_valid(r.m));
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_machine_put(r.m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

static struct iof_map_parallel request(uint64_t address, uint64_t length, uint32_t threads)
{
	return (struct iof_map_parallel){ .size = sizeof(struct iof_map_parallel), .ioas_id = r.ioas, .flags = RW, .threads = threads,
					  .address = address, .length = length };
}

static uint64_t mappings(void)
{
	struct iof_ioas_stats s;

	CHECK_EQ(iof_ioas_stats(r.ctx, r.ioas, &s), 0);
	return s.mappings;
}

/* Every page of the range translates to its own address. */
static void check_shown(const struct iof_map_parallel *m)
{
	for (uint64_t at = 0; at < m->length; at += m->length / 97 / PAGE * PAGE + PAGE) {
		uint64_t iova = m->iova + at, address;

		CHECK_EQ(iof_translate(r.ctx, r.ioas, 1, &iova, &address, NULL), 1);
		CHECK_EQ(address, m->address + at);
	}
}

TEST(pieces_are_one_range)
{
	open_rig();
	for (uint32_t threads = 1; threads <= 4; threads++) {
		struct iof_map_parallel m = request(0x7f0000003000, 70 * MIB + 5 * PAGE, threads);
		uint64_t bytes;

		CHECK_EQ(iof_map_parallel(r.ctx, &m), 0);
		CHECK_EQ(m.threads, threads);
		CHECK(m.pieces >= threads && !(m.piece % (2 * MIB)));
		CHECK_EQ(mappings(), m.pieces);
		check_shown(&m);
		CHECK(iof_machine_is_valid(r.m));
		CHECK_EQ(unmap(r.ctx, r.ioas, m.iova, m.length, &bytes), 0);
		CHECK_EQ(bytes, m.length);
	}
	close_rig();
}

TEST(a_place_that_is_given)
{
	struct iof_map_parallel m = request(0x7f0000000000, 16 * MIB, 2);

	open_rig();
	m.ioas_id = r.ioas;
	m.flags |= IOF_MAP_FIXED_IOVA;
	m.iova = 0x40000000;
	m.piece = 4 * MIB;
	CHECK_EQ(iof_map_parallel(r.ctx, &m), 0);
	CHECK_EQ(m.iova, 0x40000000);
	CHECK_EQ(m.pieces, 4);
	check_shown(&m);
	close_rig();
}

TEST(a_small_one_is_one_piece)
{
	struct iof_map_parallel m;

	open_rig();
	m = request(0x7f0000000000, PAGE, 0);
	CHECK_EQ(iof_map_parallel(r.ctx, &m), 0);
	CHECK_EQ(m.pieces, 1);
	close_rig();
}

TEST(wrong_requests)
{
	struct iof_map_parallel m;

	open_rig();
	m = request(0x7f0000000000, 0, 2);
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -EINVAL);
	m = request(UINT64_MAX, 4096, 2);
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -EOVERFLOW);
	m = request(0x7f0000000000, 4096, 2000);
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -EINVAL);
	m = request(0x7f0000000000, 4096, 2);
	m.piece = 3 * MIB;
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -EINVAL);
	m.piece = 0;
	m.ioas_id = 999;
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -ENOENT);
	CHECK_EQ(mappings(), 0);
	close_rig();
}

/* Somebody else's mapping in the middle: ours go, theirs stays. */
TEST(what_others_mapped_stays)
{
	uint64_t theirs = 0x40000000 + 20 * MIB;
	struct iof_map_parallel m;

	open_rig();
	CHECK_EQ(map_at(r.ctx, r.ioas, (void *)0x7e0000000000, PAGE, RW | IOF_MAP_FIXED_IOVA, &theirs), 0);
	m = request(0x7f0000000000, 64 * MIB, 3);
	m.flags |= IOF_MAP_FIXED_IOVA;
	m.iova = 0x40000000;
	CHECK_EQ(iof_map_parallel(r.ctx, &m), -EEXIST);
	CHECK_EQ(mappings(), 1);
	close_rig();
}

static uint64_t last_done;

static int watch(void *arg, uint64_t done, uint64_t total)
{
	CHECK(done <= total && done >= last_done);
	last_done = done;
	return arg && done > *(uint64_t *)arg;
}

TEST(progress_and_cancelling)
{
	struct iof_map_parallel m;
	uint64_t enough = 10 * MIB;

	open_rig();
	for (uint32_t threads = 1; threads <= 3; threads++) {
		m = request(0x7f0000000000, 64 * MIB, threads);
		m.progress = watch;
		last_done = 0;
		CHECK_EQ(iof_map_parallel(r.ctx, &m), 0);
		CHECK_EQ(last_done, m.length);
		CHECK_EQ(unmap(r.ctx, r.ioas, m.iova, m.length, NULL), 0);
		m = request(0x7f0000000000, 64 * MIB, threads);
		m.progress = watch;
		m.arg = &enough;
		last_done = 0;
		CHECK_EQ(iof_map_parallel(r.ctx, &m), -ECANCELED);
		CHECK_EQ(mappings(), 0);
	}
	close_rig();
}

TEST(memory_refused_at_every_point)
{
	struct iof_map_parallel m;
	int rc;

	open_rig();
	for (int64_t nth = 1;; nth++) {
		m = request(0x7f0000001000, 12 * MIB, 2);
		iof_alloc_fail_nth(&heap, nth);
		rc = iof_map_parallel(r.ctx, &m);
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		CHECK(rc == -ENOMEM || rc == -EFAULT || rc == -ENOENT);
		CHECK_EQ(mappings(), 0);
		CHECK(iof_machine_is_valid(r.m));
	}
	CHECK_EQ(rc, 0);
	close_rig();
}

/* Two of them and a stranger at once, all choosing their places. */
static void *one_of_two(void *arg)
{
	struct iof_map_parallel m = request(0x7f0000000000 + (uintptr_t)arg, 32 * MIB, 2);
	int rc = 0;

	for (unsigned i = 0; i < 20 && !rc; i++) {
		rc = iof_map_parallel(r.ctx, &m);
		if (!rc)
			rc = unmap(r.ctx, r.ioas, m.iova, m.length, NULL);
	}
	return (void *)(intptr_t)(rc == -EEXIST ? 0 : rc); /* eight places were taken from under it: allowed */
}

TEST(several_at_once)
{
	pthread_t t[2];
	void *rc[2];

	open_rig();
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, one_of_two, (void *)(i * MIB * 512));
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[i], &rc[i]);
		CHECK(!rc[i]);
	}
	CHECK_EQ(mappings(), 0);
	close_rig();
}
