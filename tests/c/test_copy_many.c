/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many copies: equal to single ones in turn, and nothing is left of a batch with an entry that cannot be. On the engine by digests; on the
 * kernel provider by what the engine below it has mapped.
 */
#include <sys/mman.h>

#include "iommufd_fast_reshape.h"
#include "kernel_rig.h"

#define N 150 /* more than two batches of unmaps */
#define FROM UINT64_C(0x100000000)

static struct {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	struct iof_alloc heap;
	uint32_t src, dst;
	uint64_t from[N], lengths[N], to[N];
	char *memory;
	struct iof_copy_many many;
} w;

/* N mappings of one to three pages, side by side; entry i copies [i-th page, i-th page + 1 or 2). */
static void fill(struct iof_handle *ctx)
{
	uint64_t iova;

	CHECK_EQ(ioas_alloc(ctx, &w.src), 0);
	CHECK_EQ(ioas_alloc(ctx, &w.dst), 0);
	for (uint64_t i = 0; i < 2 * N; i += 2) {
		iova = FROM + i * PAGE;
		CHECK_EQ(map_at(ctx, w.src, w.memory + i * PAGE, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	}
	for (uint64_t i = 0; i < N; i++) {
		w.from[i] = FROM + i * PAGE;
		w.lengths[i] = (1 + i % 3) * PAGE;
		w.to[i] = FROM / 2 + 4 * i * PAGE;
	}
	w.many = (struct iof_copy_many){ .size = sizeof(w.many), .dst_ioas_id = w.dst, .src_ioas_id = w.src, .flags = RW, .n = N,
					 .src_iovas = w.from, .lengths = w.lengths, .iovas = w.to };
}

static void open_engine(void)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .alloc = &w.heap };

	iof_alloc_init_heap(&w.heap);
	CHECK_EQ(iof_machine_create(&cfg, &w.m), 0);
	CHECK_EQ(iof_engine_open(w.m, &w.ctx), 0);
	fill(w.ctx);
	CHECK_EQ(iof_engine_open_device(w.m, 0, &w.dev), 0);
	CHECK_EQ(bind_device(w.dev, w.ctx, NULL), 0);
	CHECK_EQ(attach(w.dev, w.dst, NULL), 0);
}

static void close_engine(void)
{
	CHECK(iof_machine_is_valid(w.m));
	iof_close(w.dev);
	iof_close(w.ctx);
	iof_machine_put(w.m);
	CHECK_EQ(atomic_load(&w.heap.live_blocks), 0);
}

static uint64_t digest(void)
{
	uint64_t out;

	CHECK_EQ(iof_digest(w.ctx, &out), 0);
	return out;
}

static void one_by_one(uint32_t flags)
{
	for (size_t i = 0; i < N; i++)
		CHECK_EQ(copy(w.ctx, w.dst, w.src, w.from[i], w.lengths[i], flags, &w.to[i]), 0);
}

static void equal_with(uint32_t flags)
{
	uint64_t single, to[N];

	open_engine();
	one_by_one(flags);
	single = digest();
	memcpy(to, w.to, sizeof(to));
	close_engine();
	open_engine();
	w.many.flags = flags;
	CHECK_EQ(iof_copy_many(w.ctx, &w.many), 0);
	CHECK_EQ(digest(), single);
	CHECK(!memcmp(to, w.to, sizeof(to)));
	close_engine();
}

TEST(equal_to_single_copies)
{
	w.memory = (char *)pages_of(2 * N + 2);
	equal_with(RW);
	equal_with(RW | IOF_MAP_FIXED_IOVA);
	equal_with(IOF_MAP_READABLE);
}

static void refused(size_t entry, int error)
{
	uint64_t before = digest();

	CHECK_EQ(iof_copy_many(w.ctx, &w.many), error);
	CHECK_EQ(w.many.failed, entry);
	CHECK_EQ(digest(), before);
}

TEST(all_or_nothing)
{
	open_engine();
	w.many.flags = RW | IOF_MAP_FIXED_IOVA;
	w.from[100] = FROM / 4;
	refused(100, -ENOENT);
	w.from[100] = FROM;
	w.lengths[99] = 0;
	refused(99, -EINVAL);
	w.lengths[99] = PAGE;
	w.to[149] = w.to[0];
	refused(149, -EEXIST);
	w.to[149] = UINT64_MAX;
	refused(149, -EOVERFLOW);
	w.many.flags = IOF_MAP_FIXED_IOVA;
	refused(0, -EINVAL);
	w.many.flags = RW | 64;
	refused(0, -EOPNOTSUPP);
	w.many.flags = RW;
	w.many.dst_ioas_id = 999;
	refused(0, -ENOENT);
	w.many.n = 0;
	refused(0, -ENOENT);
	w.many.dst_ioas_id = w.dst;
	refused(0, 0);
	w.many.size--;
	refused(0, -EINVAL);
	close_engine();
}

/* An entry may copy what an earlier one made. */
TEST(in_turn)
{
	open_engine();
	w.many.flags = RW | IOF_MAP_FIXED_IOVA;
	w.many.dst_ioas_id = w.src;
	w.many.n = 2;
	w.from[1] = w.to[0];
	w.lengths[0] = w.lengths[1] = PAGE;
	CHECK_EQ(iof_copy_many(w.ctx, &w.many), 0);
	close_engine();
}

TEST(memory_refused_at_every_point)
{
	int64_t nth;
	int rc;

	open_engine();
	w.many.n = 70;
	w.many.flags = RW | IOF_MAP_FIXED_IOVA;
	for (nth = 1;; nth++) {
		uint64_t before = digest();

		iof_alloc_fail_nth(&w.heap, nth);
		rc = iof_copy_many(w.ctx, &w.many);
		if (iof_alloc_fail_nth(&w.heap, 0) > 0)
			break;
		CHECK(rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT); /* the look-up of an id and a pin can be refused too */
		CHECK_EQ(digest(), before);
	}
	CHECK_EQ(rc, 0);
	CHECK(nth > 100);
	close_engine();
}

TEST(on_the_kernel_provider)
{
	struct rig *r = rig_open_with(IOF_IOVA_OWN);
	struct iof_va_index *ix;
	struct iof_ioas_stats s;

	fill(r->ctx);
	CHECK_EQ(iof_va_index_open(r->ctx, w.dst, &ix), 0);
	CHECK_EQ(iof_copy_many(r->ctx, &w.many), 0);
	rig_compare_maps(r, w.dst);
	rig_compare_index(r, w.dst, ix);
	w.from[140] = FROM / 4;
	CHECK_EQ(iof_copy_many(r->ctx, &w.many), -ENOENT);
	CHECK_EQ(w.many.failed, 140);
	rig_compare_maps(r, w.dst);
	rig_compare_index(r, w.dst, ix);
	CHECK_EQ(iof_ioas_stats(r->ctx, w.dst, &s), 0);
	CHECK_EQ(s.copies, N + 140);
	CHECK_EQ(s.mappings, N + N / 3 + N / 3 / 2); /* two pages at an odd place are two mappings, and three always are */
	CHECK_EQ(iof_unmap_many(r->ctx, &(struct iof_unmap_many){ .ioas_id = w.dst }), 0);
	iof_va_index_put(ix);
	rig_close_all(r);
	munmap(w.memory, (2 * N + 2) * PAGE);
}
