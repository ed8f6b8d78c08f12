/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Other memory in one step: what a device sees before, meanwhile and after; failures; entries counted. */
#include "check.h"
#include "engine.h"

#include <pthread.h>

#include "iommufd_fast_reshape.h"
#include "iommufd_fast_va.h"
#include "util/alloc.h"

#define MIB (UINT64_C(1) << 20)
#define IOVA UINT64_C(0x40000000)

static const uint32_t one_group[] = { 1 };
static struct iof_alloc heap;

struct rig {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *a, *b;
};

static struct rig r;

static void open_rig(size_t pages)
{
	iof_alloc_init_heap(&heap);
	r = (struct rig){ .m = machine_with(IOF_PRESET_INTEL, one_group, 1, &heap), .a = pages_of(pages), .b = pages_of(pages) };
	CHECK_EQ(iof_engine_open(r.m, &r.ctx), 0);
	CHECK_EQ(iof_engine_open_device(r.m, 0, &r.dev), 0);
	CHECK_EQ(bind_device(r.dev, r.ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(r.ctx, &r.ioas), 0);
	CHECK_EQ(attach(r.dev, r.ioas, NULL), 0);
	memset(r.a, 'a', pages * PAGE);
	memset(r.b, 'b', pages * PAGE);
}

static void close_rig(size_t pages)
{
	CHECK(iof_machine_is_valid(r.m));
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_machine_put(r.m);
	munmap(r.a, pages * PAGE);
	munmap(r.b, pages * PAGE);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

static int replace(uint64_t iova, const void *memory, uint64_t length, enum iof_policy policy)
{
	struct iof_replace rq = { .size = sizeof(rq), .ioas_id = r.ioas, .flags = RW, .policy = policy, .iova = iova, .length = length,
				  .address = (uintptr_t)memory };

	return iof_replace(r.ctx, &rq);
}

static char seen(uint64_t iova)
{
	char c = 0;

	CHECK_EQ(dma(r.dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	return c;
}

static void map_a(uint64_t pages)
{
	uint64_t iova = IOVA;

	CHECK_EQ(map_at(r.ctx, r.ioas, r.a, pages * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
}

TEST(another_memory)
{
	struct iof_va_index *ix;
	uint64_t length;

	open_rig(8);
	CHECK_EQ(iof_va_index_open(r.ctx, r.ioas, &ix), 0);
	map_a(8);
	CHECK_EQ(seen(IOVA + 7 * PAGE), 'a');
	CHECK_EQ(replace(IOVA, r.b, 8 * PAGE, IOF_POLICY_DEFAULT), 0);
	CHECK_EQ(seen(IOVA + 7 * PAGE), 'b');
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(iof_va_to_iova(ix, (uintptr_t)r.b, &length), IOVA);
	CHECK_EQ(iof_va_to_iova(ix, (uintptr_t)r.a, &length), IOF_NO_IOVA);
	CHECK_EQ(unmap(r.ctx, r.ioas, IOVA, 8 * PAGE, NULL), 0);
	iof_va_index_put(ix);
	close_rig(8);
}

TEST(exactly_one_mapping)
{
	open_rig(8);
	map_a(4);
	CHECK_EQ(replace(IOVA, r.b, 2 * PAGE, IOF_POLICY_DEFAULT), -ENOENT);
	CHECK_EQ(replace(IOVA, r.b, 8 * PAGE, IOF_POLICY_DEFAULT), -ENOENT);
	CHECK_EQ(replace(IOVA + PAGE, r.b, 3 * PAGE, IOF_POLICY_DEFAULT), -ENOENT);
	CHECK_EQ(replace(IOVA, r.b + 1, 4 * PAGE, IOF_POLICY_DEFAULT), -EINVAL);
	CHECK_EQ(replace(IOVA, (void *)PAGE, 4 * PAGE, IOF_POLICY_PROBE), -EFAULT);
	CHECK_EQ(replace(IOVA, r.b, 0, IOF_POLICY_DEFAULT), -EINVAL);
	CHECK_EQ(seen(IOVA), 'a');
	close_rig(8);
}

TEST(of_a_copy_and_of_its_source)
{
	uint64_t copied = IOVA + 0x1000000;

	open_rig(8);
	map_a(8);
	CHECK_EQ(copy(r.ctx, r.ioas, r.ioas, IOVA, 4 * PAGE, RW | IOF_MAP_FIXED_IOVA, &copied), 0);
	CHECK_EQ(replace(IOVA, r.b, 8 * PAGE, IOF_POLICY_DEFAULT), 0);
	CHECK_EQ(seen(copied), 'a');
	CHECK_EQ(replace(copied, r.b, 4 * PAGE, IOF_POLICY_DEFAULT), 0);
	CHECK_EQ(seen(copied), 'b');
	close_rig(8);
}

TEST(memory_refused_at_every_point)
{
	int rc;

	open_rig(1100);
	map_a(1100);
	for (int64_t nth = 1;; nth++) {
		iof_alloc_fail_nth(&heap, nth);
		rc = replace(IOVA, r.b + PAGE, 1099 * PAGE, IOF_POLICY_DEFAULT);
		CHECK(rc);
		rc = replace(IOVA, r.b, 1100 * PAGE, IOF_POLICY_DEFAULT);
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		if (!rc) { /* the first of the two took it */
			CHECK_EQ(replace(IOVA, r.a, 1100 * PAGE, IOF_POLICY_DEFAULT), 0);
			continue;
		}
		CHECK(rc == -ENOMEM || rc == -EFAULT || rc == -ENOENT);
		CHECK(iof_machine_is_valid(r.m));
		CHECK_EQ(seen(IOVA + 1099 * PAGE), 'a');
	}
	CHECK_EQ(rc, 0);
	CHECK_EQ(seen(IOVA), 'b');
	close_rig(1100);
}

/* ---- a device at work meanwhile ---- */

static _Atomic bool stop;
static _Atomic uint64_t wrong, reads;

/* Reads two pages in turn: neither fault nor step back: after the new memory was seen, the old is not. */
static void *device(void *arg)
{
	char last = 0, c;

	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (dma(r.dev, IOF_DMA_READ, IOVA + (atomic_load(&reads) % 8) * PAGE, &c, 1, NULL))
			atomic_fetch_add(&wrong, 1);
		else if (c < last)
			atomic_fetch_add(&wrong, 1);
		last = c;
		atomic_fetch_add(&reads, 1);
	}
	return NULL;
}

TEST(no_device_sees_it_half_done)
{
	pthread_t t;
	char *generations[20];

	open_rig(8);
	map_a(8);
	for (unsigned i = 0; i < 20; i++) {
		generations[i] = pages_of(8);
		memset(generations[i], 'b' + (int)i, 8 * PAGE);
	}
	pthread_create(&t, NULL, device, NULL);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t until = atomic_load(&reads) + 20;

		CHECK_EQ(replace(IOVA, generations[i], 8 * PAGE, IOF_POLICY_DEFAULT), 0);
		while (atomic_load(&reads) < until)
			;
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	CHECK_EQ(wrong, 0);
	close_rig(8);
	for (unsigned i = 0; i < 20; i++)
		munmap(generations[i], 8 * PAGE);
}

/* ---- entries ---- */

TEST(entries_are_counted)
{
	struct iof_ioas_entries e;
	uint64_t iova;

	open_rig(8);
	for (unsigned i = 0; i < 4; i++) {
		iova = IOVA + i * PAGE;
		CHECK_EQ(map_at(r.ctx, r.ioas, r.a + i * PAGE, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	}
	iova = IOVA + 4 * PAGE;
	CHECK_EQ(map_at(r.ctx, r.ioas, r.a + 4 * PAGE, PAGE, IOF_MAP_READABLE | IOF_MAP_FIXED_IOVA, &iova), 0);
	iova = 2 * IOVA;
	CHECK_EQ(map_at(r.ctx, r.ioas, (void *)0x7f0000000000, 4 * MIB, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(iof_ioas_entries(r.ctx, r.ioas, &e), 0);
	CHECK_EQ(e.mappings, 6);
	CHECK_EQ(e.coalesced, 3);
	CHECK_EQ(e.leaves[12], 5);
	CHECK_EQ(e.leaves[21], 2);
	CHECK_EQ(e.fewest, 7);
	CHECK_EQ(e.limit, UINT64_MAX);
	CHECK_EQ(iof_ioas_entries(r.ctx, 999, &e), -ENOENT);
	CHECK_EQ(iof_ioas_entries(r.dev, r.ioas, &e), -EOPNOTSUPP);
	close_rig(8);
}
