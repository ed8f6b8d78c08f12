/* SPDX-License-Identifier: Apache-2.0 */
/*
 * needs: tsan
 * Many threads on one context of the kernel provider, over an engine: maps of our places and of the kernel's, batches, ranges, copies, a device that
 * comes and goes, and somebody who asks all the time. In the end the ledger says what the engine says.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "kernel_rig.h"

#define ROUNDS 400

static struct rig *r;
static uint32_t ioas[2];
static char *memory;
static _Atomic bool over;

static void *own_places(void *seed)
{
	uint64_t random = (uintptr_t)seed, iovas[8];

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t id = ioas[check_random(&random) % 2];

		for (int k = 0; k < 8; k++)
			if (submit_map(r, id, memory + k * PAGE, PAGE, &iovas[k]))
				iovas[k] = 0;
		for (int k = 0; k < 8; k++)
			unmap(r->ctx, id, iovas[k], PAGE, NULL); /* a range may have been faster */
	}
	return NULL;
}

static void *batches(void *seed)
{
	uint64_t iovas[16], addresses[16], lengths[16];
	struct iof_map_many many = { .flags = RW, .n = 16, .addresses = addresses, .lengths = lengths, .iovas = iovas };
	struct iof_unmap_many un = { .n = 16, .iovas = iovas, .lengths = lengths };

	(void)seed;
	for (int i = 0; i < 16; i++) {
		addresses[i] = (uintptr_t)memory + (uint64_t)i * PAGE;
		lengths[i] = PAGE;
	}
	for (int i = 0; i < ROUNDS / 4; i++) {
		many.ioas_id = un.ioas_id = ioas[i % 2];
		if (!iof_map_many(r->ctx, &many))
			iof_unmap_many(r->ctx, &un);
	}
	return NULL;
}

static void *ranges_and_copies(void *seed)
{
	uint64_t random = (uintptr_t)seed, iova, to = 0;

	for (int i = 0; i < ROUNDS; i++) {
		iova = 0x40000000 + check_random(&random) % 64 * PAGE;
		map_at(r->ctx, ioas[0], memory, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova);
		copy(r->ctx, ioas[1], ioas[0], iova, PAGE, RW, &to);
		map_at(r->ctx, ioas[1], memory, PAGE, RW, &to);
		if (i % 8 == 7) {
			unmap(r->ctx, ioas[0], 0x40000000, 64 * PAGE, NULL);
			unmap(r->ctx, ioas[1], 0, UINT64_MAX, NULL);
		}
	}
	return NULL;
}

static void *a_device(void *seed)
{
	struct iof_handle *dev;

	(void)seed;
	for (int i = 0; i < ROUNDS / 16; i++) {
		if (iof_vfio_open(r->ctx, "vfio0", &dev))
			continue;
		bind_device(dev, r->ctx, NULL);
		attach(dev, ioas[0], NULL);
		attach(dev, ioas[1], NULL);
		if (i % 2)
			detach(dev);
		iof_close(dev);
	}
	return NULL;
}

static void *asks(void *seed)
{
	struct iof_endpoint_info ends[8];
	struct iof_mapping_info m;
	struct iof_ioas_stats s;
	uint64_t iova = 0x40000000, address, length;
	struct iof_va_index *ix;

	(void)seed;
	while (!atomic_load(&over)) {
		iof_endpoints(r->ctx, 0, 0, 8, ends);
		iof_ioas_mapping(r->ctx, ioas[0], 0, UINT64_MAX, &m);
		iof_ioas_stats(r->ctx, ioas[1], &s);
		iof_translate(r->ctx, ioas[0], 1, &iova, &address, NULL);
		if (iof_va_index_open(r->ctx, ioas[0], &ix))
			abort(); /* CHECK is for the main thread */
		for (uint64_t i = 0; i < 64; i++)
			iof_va_to_iova(ix, (uintptr_t)memory + i * PAGE, &length);
		iof_va_index_put(ix);
	}
	return NULL;
}

static void compare_index(int which)
{
	struct iof_va_index *ix;

	CHECK_EQ(iof_va_index_open(r->ctx, ioas[which], &ix), 0);
	rig_compare_index(r, ioas[which], ix);
	iof_va_index_put(ix);
}

TEST(many_threads_on_one_context)
{
	static void *(*const work[])(void *) = { own_places, own_places, batches, ranges_and_copies, a_device };
	pthread_t t[5], asker;

	memory = (char *)pages_of(64);
	r = rig_open_with(IOF_IOVA_OWN);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(ioas_alloc(r->ctx, &ioas[i]), 0);
	pthread_create(&asker, NULL, asks, NULL);
	for (uintptr_t i = 0; i < 5; i++)
		pthread_create(&t[i], NULL, work[i], (void *)(i + 1));
	for (int i = 0; i < 5; i++)
		pthread_join(t[i], NULL);
	atomic_store(&over, true);
	pthread_join(asker, NULL);
	rig_compare_ends(r);
	rig_compare_maps(r, ioas[0]);
	rig_compare_maps(r, ioas[1]);
	compare_index(0);
	compare_index(1);
	rig_close_all(r);
}
