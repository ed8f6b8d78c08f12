/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * The address index of an IOAS: every way in and out of a mapping keeps it true. iof_machine_is_valid() compares it with the areas.
 */
#define _GNU_SOURCE
#include "check.h"
#include "engine.h"

#include <pthread.h>
#include <unistd.h>

#include "iommufd_fast_va.h"
#include "util/alloc.h"

static const uint32_t one_group[] = { 1 };

struct rig {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	struct iof_va_index *ix;
	char *memory;
};

static struct iof_alloc heap;
static struct rig r;

static void open_rig(size_t pages, bool with_index)
{
	iof_alloc_init_heap(&heap);
	r = (struct rig){ .m = machine_with(IOF_PRESET_INTEL, one_group, 1, &heap), .memory = pages_of(pages) };
	CHECK_EQ(iof_engine_open(r.m, &r.ctx), 0);
	CHECK_EQ(iof_engine_open_device(r.m, 0, &r.dev), 0);
	CHECK_EQ(bind_device(r.dev, r.ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(r.ctx, &r.ioas), 0);
	CHECK_EQ(attach(r.dev, r.ioas, NULL), 0);
	if (with_index)
		CHECK_EQ(iof_va_index_open(r.ctx, r.ioas, &r.ix), 0);
}

static void close_rig(size_t pages)
{
	CHECK(iof_machine_is_valid(r.m));
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_va_index_put(r.ix);
	iof_machine_put(r.m);
	munmap(r.memory, pages * PAGE);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

static uint64_t ask(const void *at, uint64_t *length)
{
	return iof_va_to_iova(r.ix, (uintptr_t)at, length);
}

static void check_maps_to(const void *at, uint64_t iova, uint64_t length)
{
	uint64_t rest;

	CHECK_EQ(ask(at, &rest), iova);
	CHECK_EQ(rest, length);
}

static void check_unmapped(const void *at)
{
	check_maps_to(at, IOF_NO_IOVA, 0);
}

TEST(map_and_unmap)
{
	uint64_t iova;

	open_rig(16, true);
	check_unmapped(r.memory);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 8 * PAGE, RW, &iova), 0);
	check_maps_to(r.memory, iova, 8 * PAGE);
	check_maps_to(r.memory + 3 * PAGE + 5, iova + 3 * PAGE + 5, 5 * PAGE - 5);
	check_unmapped(r.memory + 8 * PAGE);
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(unmap(r.ctx, r.ioas, iova, 8 * PAGE, NULL), 0);
	check_unmapped(r.memory);
	close_rig(16);
}

TEST(takes_in_what_is_mapped_already)
{
	uint64_t a, b;

	open_rig(16, false);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, PAGE, RW, &a), 0);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory + 4 * PAGE, 2 * PAGE, RW, &b), 0);
	CHECK_EQ(iof_va_index_open(r.ctx, r.ioas, &r.ix), 0);
	check_maps_to(r.memory, a, PAGE);
	check_maps_to(r.memory + 5 * PAGE, b + PAGE, PAGE);
	close_rig(16);
}

TEST(a_second_asker_gets_the_same)
{
	struct iof_va_index *again;

	open_rig(1, true);
	CHECK_EQ(iof_va_index_open(r.ctx, r.ioas, &again), 0);
	CHECK(again == r.ix);
	iof_va_index_put(again);
	CHECK_EQ(iof_va_index_open(r.ctx, 12345, &again), -ENOENT);
	CHECK_EQ(iof_va_index_open(r.dev, r.ioas, &again), -EOPNOTSUPP);
	close_rig(1);
}

TEST(mapped_twice_and_copied)
{
	uint64_t low = 0x100000, high = 0x900000, copied = 0x50000;

	open_rig(8, true);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 8 * PAGE, RW | IOF_MAP_FIXED_IOVA, &high), 0);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, PAGE, RW | IOF_MAP_FIXED_IOVA, &low), 0);
	check_maps_to(r.memory, low, PAGE);
	check_maps_to(r.memory + PAGE, high + PAGE, 7 * PAGE);
	CHECK_EQ(copy(r.ctx, r.ioas, r.ioas, high + 2 * PAGE, 3 * PAGE, RW | IOF_MAP_FIXED_IOVA, &copied), 0);
	check_maps_to(r.memory + 2 * PAGE, copied, 3 * PAGE);
	check_maps_to(r.memory + 5 * PAGE, high + 5 * PAGE, 3 * PAGE);
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(unmap(r.ctx, r.ioas, high, 8 * PAGE, NULL), 0);
	check_maps_to(r.memory + 3 * PAGE, copied + PAGE, 2 * PAGE);
	check_unmapped(r.memory + 6 * PAGE);
	CHECK_EQ(unmap(r.ctx, r.ioas, low, PAGE, NULL), 0);
	check_unmapped(r.memory);
	close_rig(8);
}

TEST(batches_and_all_at_once)
{
	uint64_t addresses[4], lengths[4], iovas[4], bytes;
	struct iof_map_many many;

	open_rig(16, true);
	for (unsigned i = 0; i < 4; i++) {
		addresses[i] = (uintptr_t)r.memory + 2 * PAGE * i;
		lengths[i] = PAGE;
	}
	many = (struct iof_map_many){ .ioas_id = r.ioas, .flags = RW, .n = 4, .addresses = addresses, .lengths = lengths, .iovas = iovas };
	CHECK_EQ(iof_map_many(r.ctx, &many), 0);
	for (unsigned i = 0; i < 4; i++)
		check_maps_to((void *)addresses[i], iovas[i], PAGE);
	lengths[3] = 0; /* fails, so that the three before are undone */
	CHECK_EQ(iof_map_many(r.ctx, &many), -EINVAL);
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(unmap(r.ctx, r.ioas, 0, UINT64_MAX, &bytes), 0);
	for (unsigned i = 0; i < 4; i++)
		check_unmapped((void *)addresses[i]);
	close_rig(16);
}

TEST(files_have_no_address)
{
	int fd = memfd_create("test", 0);
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = RW, .fd = fd, .length = PAGE };
	struct iof_va_stats stats;

	open_rig(1, true);
	CHECK_EQ(ftruncate(fd, PAGE), 0);
	c.ioas_id = r.ioas;
	CHECK_EQ(iof_ioctl(r.ctx, IOF_CMD_IOAS_MAP_FILE, &c), 0);
	iof_va_index_stats(r.ix, &stats);
	CHECK_EQ(stats.runs, 0);
	close(fd);
	close_rig(1);
}

TEST(outlives_everything)
{
	uint64_t iova, length;

	open_rig(1, true);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, PAGE, RW, &iova), 0);
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_machine_put(r.m);
	CHECK_EQ(ask(r.memory, &length), IOF_NO_IOVA);
	iof_va_index_put(r.ix);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	munmap(r.memory, PAGE);
}

/* MAP, COPY and the making of the index, refused at every step: nothing of it is left. */
TEST(memory_refused_at_every_point)
{
	uint64_t iova = 0x10000, copied = 0x1000000;
	int64_t nth;
	int rc;

	open_rig(400, true);
	for (nth = 1;; nth++) {
		iof_alloc_fail_nth(&heap, nth);
		rc = map_at(r.ctx, r.ioas, r.memory, 400 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova);
		if (!rc)
			rc = copy(r.ctx, r.ioas, r.ioas, iova, 250 * PAGE, RW | IOF_MAP_FIXED_IOVA, &copied);
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		CHECK(rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT); /* the look-up of an id and a pin can be refused too */
		CHECK(iof_machine_is_valid(r.m));
		unmap(r.ctx, r.ioas, 0, UINT64_MAX, NULL);
		check_unmapped(r.memory);
	}
	CHECK_EQ(rc, 0);
	CHECK(nth > 500); /* the copy makes a knot for every page */
	check_maps_to(r.memory, iova, 400 * PAGE);
	close_rig(400);
}

TEST(no_memory_for_the_index)
{
	uint64_t iova;

	open_rig(4, false);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 4 * PAGE, RW, &iova), 0);
	for (int64_t nth = 1;; nth++) {
		int rc;

		iof_alloc_fail_nth(&heap, nth);
		rc = iof_va_index_open(r.ctx, r.ioas, &r.ix);
		if (iof_alloc_fail_nth(&heap, 0) > 0) {
			CHECK_EQ(rc, 0);
			CHECK(nth > 3);
			break;
		}
		CHECK(rc == -ENOMEM || rc == -ENOENT);
		r.ix = NULL;
		CHECK(iof_machine_is_valid(r.m));
	}
	check_maps_to(r.memory, iova, 4 * PAGE);
	close_rig(4);
}

/* ---- threads: what the index says may be used for DMA at once ---- */

static _Atomic bool stop;
static _Atomic uint64_t wrong, found;

static void *mapper(void *arg)
{
	char *at = r.memory + (uintptr_t)arg * 8 * PAGE;
	uint64_t iova;

	for (unsigned i = 0; i < 2000; i++) {
		if (map_at(r.ctx, r.ioas, at + i % 4 * PAGE, (1 + i % 4) * PAGE, RW, &iova) ||
		    unmap(r.ctx, r.ioas, iova, (1 + i % 4) * PAGE, NULL))
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

/* The first 8 pages are mapped all the time. */
static void *asker(void *arg)
{
	uint64_t seed = 5 + (uintptr_t)arg, length, iova, at;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		at = check_random(&seed) % 24 * PAGE;
		iova = ask(r.memory + at, &length);
		if (length && iova % PAGE)
			atomic_fetch_add(&wrong, 1);
		if (!length && at < 8 * PAGE)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&found, !!length);
	}
	return NULL;
}

TEST(asking_beside_map_and_unmap)
{
	pthread_t mappers[2], askers[1];
	uint64_t iova;

	open_rig(24, true);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 8 * PAGE, RW, &iova), 0);
	atomic_store(&stop, false);
	pthread_create(&askers[0], NULL, asker, NULL);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&mappers[i], NULL, mapper, (void *)(i + 1));
	for (unsigned i = 0; i < 2; i++)
		pthread_join(mappers[i], NULL);
	atomic_store(&stop, true);
	pthread_join(askers[0], NULL);
	CHECK_EQ(wrong, 0);
	CHECK(found);
	close_rig(24);
}
