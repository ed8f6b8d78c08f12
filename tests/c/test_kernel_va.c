/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address index on the kernel provider, over an engine: after each step it must have what the engine has mapped. Random steps are in
 * test_kernel_model.c, threads in test_kernel_threads.c.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "kernel_rig.h"

#define N 16

static struct {
	struct rig *r;
	uint32_t ioas, other;
	struct iof_va_index *ix;
	char *memory;
} w;

static void start(enum iof_iova_choice choice)
{
	w.memory = (char *)pages_of(64);
	w.r = rig_open_with(choice);
	CHECK_EQ(ioas_alloc(w.r->ctx, &w.ioas), 0);
	CHECK_EQ(ioas_alloc(w.r->ctx, &w.other), 0);
	CHECK_EQ(iof_va_index_open(w.r->ctx, w.ioas, &w.ix), 0);
}

static void end(void)
{
	rig_compare_index(w.r, w.ioas, w.ix);
	iof_close(w.r->ctx);
	rig_put_index(w.ix);
	rig_end(w.r);
	munmap(w.memory, 64 * PAGE);
}

static uint64_t ask(uint64_t page)
{
	uint64_t length;

	return iof_va_to_iova(w.ix, (uintptr_t)w.memory + page * PAGE, &length);
}

static int map_file_of(uint32_t ioas, uint64_t *iova)
{
	int fd = memfd_create("test", 0), rc;
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = RW, .ioas_id = ioas, .fd = fd, .length = PAGE };

	CHECK(fd >= 0 && !ftruncate(fd, PAGE));
	rc = iof_submit(w.r->ctx, IOF_CMD_IOAS_MAP_FILE, &c);
	*iova = c.iova;
	close(fd);
	return rc;
}

static void every_way(enum iof_iova_choice choice)
{
	uint64_t at, raw, fixed = 0x70000000, to = 0, of_file;

	start(choice);
	CHECK_EQ(submit_map(w.r, w.ioas, w.memory, PAGE, &at), 0);
	CHECK_EQ(ask(0), at);
	CHECK_EQ(map_at(w.r->ctx, w.ioas, w.memory + PAGE, PAGE, RW, &raw), 0);
	CHECK_EQ(ask(1), raw);
	CHECK_EQ(map_at(w.r->ctx, w.ioas, w.memory + 2 * PAGE, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &fixed), 0);
	CHECK_EQ(ask(3), fixed + PAGE);
	CHECK_EQ(map_file_of(w.ioas, &of_file), 0);
	CHECK_EQ(ask(10), IOF_NO_IOVA);
	rig_compare_index(w.r, w.ioas, w.ix);
	CHECK_EQ(unmap(w.r->ctx, w.ioas, at, PAGE, NULL), 0);
	CHECK_EQ(ask(0), IOF_NO_IOVA);
	CHECK_EQ(copy(w.r->ctx, w.other, w.ioas, fixed + PAGE, PAGE, RW, &to), 0);
	CHECK_EQ(unmap(w.r->ctx, w.ioas, fixed & ~0xfffffull, 0x200000, NULL), 0);
	CHECK_EQ(ask(3), IOF_NO_IOVA);
	CHECK_EQ(copy(w.r->ctx, w.ioas, w.other, to, PAGE, RW, &at), 0);
	CHECK_EQ(ask(3), at);
	end();
}

TEST(every_way_in_and_out)
{
	every_way(IOF_IOVA_OWN);
	every_way(IOF_IOVA_KERNEL);
	every_way(IOF_IOVA_VA);
}

static struct iof_map_many many_of(uint64_t *addresses, uint64_t *lengths, uint64_t *iovas)
{
	for (uint64_t i = 0; i < N; i++) {
		addresses[i] = (uintptr_t)w.memory + 2 * i * PAGE;
		lengths[i] = PAGE;
		iovas[i] = 0;
	}
	return (struct iof_map_many){ .ioas_id = w.ioas, .flags = RW, .n = N, .addresses = addresses, .lengths = lengths, .iovas = iovas };
}

TEST(batches)
{
	uint64_t addresses[N], lengths[N], iovas[N];
	struct iof_map_many many;
	struct iof_unmap_many un;

	start(IOF_IOVA_OWN);
	many = many_of(addresses, lengths, iovas);
	un = (struct iof_unmap_many){ .ioas_id = w.ioas, .n = N, .iovas = iovas, .lengths = lengths };
	CHECK_EQ(iof_map_many(w.r->ctx, &many), 0);
	for (uint64_t i = 0; i < N; i++)
		CHECK_EQ(ask(2 * i), iovas[i]);
	rig_compare_index(w.r, w.ioas, w.ix);
	CHECK_EQ(iof_unmap_many(w.r->ctx, &un), N);
	CHECK_EQ(ask(0), IOF_NO_IOVA);
	w.r->map_after = 7;
	w.r->map_error = -EIO;
	CHECK_EQ(iof_map_many(w.r->ctx, &many), -EIO);
	CHECK_EQ(many.failed, 6);
	CHECK_EQ(ask(0), IOF_NO_IOVA);
	end();
}

TEST(an_unmap_that_fails)
{
	uint64_t at;

	start(IOF_IOVA_OWN);
	CHECK_EQ(submit_map(w.r, w.ioas, w.memory, PAGE, &at), 0);
	w.r->unmap_error = -EBUSY;
	CHECK_EQ(unmap(w.r->ctx, w.ioas, at, PAGE, NULL), -EBUSY);
	CHECK_EQ(ask(0), at);
	w.r->unmap_error = -EBUSY;
	CHECK_EQ(unmap(w.r->ctx, w.ioas, 0, UINT64_MAX, NULL), -EBUSY);
	CHECK_EQ(ask(0), at);
	end();
}

/* It failed, and there was no memory to find the mapping again. The next who asks for the index finds it. */
TEST(an_unmap_that_fails_without_memory)
{
	struct iof_va_index *again;
	uint64_t at;

	start(IOF_IOVA_OWN);
	CHECK_EQ(submit_map(w.r, w.ioas, w.memory, PAGE, &at), 0);
	w.r->unmap_error = -EBUSY;
	iof_alloc_fail_nth(&w.r->memory, 1);
	CHECK_EQ(unmap(w.r->ctx, w.ioas, at, PAGE, NULL), -EBUSY);
	CHECK_EQ(iof_alloc_fail_nth(&w.r->memory, 0), 0);
	CHECK_EQ(ask(0), IOF_NO_IOVA);
	CHECK_EQ(iof_va_index_open(w.r->ctx, w.ioas, &again), 0);
	CHECK(again == w.ix);
	iof_va_index_put(again);
	CHECK_EQ(ask(0), at);
	end();
}

static int work(void)
{
	uint64_t addresses[N], lengths[N], iovas[N], at = 0x70000000, to = 0x80000000, any;
	struct iof_map_many many = many_of(addresses, lengths, iovas);
	int rc = submit_map(w.r, w.ioas, w.memory, 3 * PAGE, &any);

	rc |= map_at(w.r->ctx, w.ioas, w.memory + PAGE, PAGE, RW, &any);
	rc |= map_at(w.r->ctx, w.ioas, w.memory, PAGE, RW | IOF_MAP_FIXED_IOVA, &at);
	rc |= iof_map_many(w.r->ctx, &many);
	rc |= copy(w.r->ctx, w.ioas, w.ioas, at, PAGE, RW | IOF_MAP_FIXED_IOVA, &to);
	rig_compare_maps(w.r, w.ioas);
	rig_compare_index(w.r, w.ioas, w.ix);
	unmap(w.r->ctx, w.ioas, 0, UINT64_MAX, NULL);
	rig_compare_index(w.r, w.ioas, w.ix);
	return rc;
}

/* What could not be put into the index is not mapped. */
TEST(memory_refused_at_every_point)
{
	int64_t nth;
	int rc = 0;
	bool left = false;

	start(IOF_IOVA_OWN);
	for (nth = 1; !left; nth++) {
		iof_alloc_fail_nth(&w.r->memory, nth);
		rc = work();
		left = iof_alloc_fail_nth(&w.r->memory, 0) > 0;
		CHECK(left ? !rc : rc < 0 || nth > 1);
	}
	printf("%lld points\n", (long long)nth);
	CHECK(nth > 40);
	end();
}

TEST(no_memory_for_the_index)
{
	struct iof_va_index *ix = NULL;
	uint64_t at;
	int64_t nth;
	int rc;

	start(IOF_IOVA_OWN);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(submit_map(w.r, w.other, w.memory + 2 * i * PAGE, PAGE, &at), 0);
	for (nth = 1;; nth++) {
		iof_alloc_fail_nth(&w.r->memory, nth);
		rc = iof_va_index_open(w.r->ctx, w.other, &ix);
		if (iof_alloc_fail_nth(&w.r->memory, 0) > 0)
			break;
		CHECK_EQ(rc, -ENOMEM);
		CHECK_EQ(submit_map(w.r, w.other, w.memory, PAGE, &at), 0);
		CHECK_EQ(unmap(w.r->ctx, w.other, at, PAGE, NULL), 0);
	}
	CHECK(!rc && nth > 6);
	rig_compare_index(w.r, w.other, ix);
	CHECK_EQ(iof_va_index_open(w.r->ctx, 999, &ix), -ENOENT);
	iof_va_index_put(ix);
	end();
}

/* Without an allocator from outside, the index has its own: it may outlive the context. */
TEST(kept_longer_than_the_context)
{
	struct rig *r = rig_make((uint32_t[]){ 1 }, 1);
	struct iof_kernel_config cfg = { .size = sizeof(cfg), .iova = IOF_IOVA_OWN, .sys = &r->sys };
	struct iof_va_index *ix;
	uint64_t at;
	uint32_t ioas;

	w.memory = (char *)pages_of(1);
	CHECK_EQ(iof_kernel_open(NULL, &cfg, &r->ctx), 0);
	CHECK_EQ(ioas_alloc(r->ctx, &ioas), 0);
	CHECK_EQ(submit_map(r, ioas, w.memory, PAGE, &at), 0);
	CHECK_EQ(iof_va_index_open(r->ctx, ioas, &ix), 0);
	CHECK_EQ(iof_va_to_iova(ix, (uintptr_t)w.memory, &(uint64_t){ 0 }), at);
	iof_close(r->ctx);
	CHECK_EQ(iof_va_to_iova(ix, (uintptr_t)w.memory, &(uint64_t){ 0 }), IOF_NO_IOVA);
	rig_put_index(ix);
	rig_end(r);
}
