/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of maps and unmaps, many of them runs, against the same calls one by one: two machines, the same requests, equal IOVAs, errnos and digests.
 * And memory refused at every point of a batch.
 */
#include "check.h"
#include "engine.h"
#include "util/alloc.h"

#define MOST 150u
#define LIVE 4000u
#define VA (UINT64_C(1) << 44) /* never touched: the memory is taken on trust */

static struct iof_alloc heap;
static uint64_t seed;

struct side {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
};

static struct side many, one;
static uint64_t live_iova[LIVE], live_length[LIVE];
static unsigned n_live;
static uint64_t va[MOST], length[MOST], iova[MOST], iova_one[MOST];

static uint64_t below(uint64_t n)
{
	return check_random(&seed) % n;
}

static void open_side(struct side *s, enum iof_preset preset)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = preset, .groups = (uint32_t[]){ 1 }, .n_groups = 1,
					  .alloc = &heap, .policy = IOF_POLICY_TRUST };
	uint32_t dev_id;

	CHECK_EQ(iof_machine_create(&cfg, &s->m), 0);
	CHECK_EQ(iof_engine_open(s->m, &s->ctx), 0);
	CHECK_EQ(iof_engine_open_device(s->m, 0, &s->dev), 0);
	CHECK_EQ(bind_device(s->dev, s->ctx, &dev_id), 0);
	CHECK_EQ(ioas_alloc(s->ctx, &s->ioas), 0);
	CHECK_EQ(attach(s->dev, s->ioas, NULL), 0);
}

static void close_side(struct side *s)
{
	CHECK(iof_machine_is_valid(s->m));
	iof_close(s->dev);
	iof_close(s->ctx);
	iof_machine_put(s->m);
}

static uint64_t digest(const struct side *s)
{
	uint64_t d = 0;

	CHECK_EQ(iof_digest(s->ctx, &d), 0);
	return d;
}

static void open_both(uint64_t s)
{
	seed = s;
	n_live = 0;
	iof_alloc_init_heap(&heap);
	open_side(&many, IOF_PRESET_INTEL);
	open_side(&one, IOF_PRESET_INTEL);
}

static void close_both(void)
{
	close_side(&many);
	close_side(&one);
	CHECK_EQ(heap.live_blocks, 0);
}

/* Requests: mostly equal pages in a row, some of other lengths, odd addresses, and a few that are refused. */
static uint32_t make_requests(unsigned n)
{
	uint64_t at = VA + below(1 << 20) * PAGE, len = (below(4) ? 1 : 1 + below(4)) * PAGE, to = below(3000) * PAGE;
	bool fixed = below(4) == 0, mixed = below(3) == 0;

	for (unsigned i = 0; i < n; i++) {
		if (mixed && below(4) == 0)
			len = (1 + below(3)) * PAGE;
		if (below(40) == 0)
			at = VA + below(1 << 20) * PAGE;
		if (below(40) == 0)
			to += below(8) * PAGE;
		va[i] = at;
		length[i] = len;
		iova[i] = to;
		at += len;
		to += len;
		if (below(400) == 0)
			length[i] = below(2) ? 0 : PAGE / 2;
		if (below(400) == 0)
			va[i] = UINT64_MAX - PAGE + 1;
		if (below(400) == 0)
			va[i] += 64;
	}
	return IOF_MAP_READABLE | IOF_MAP_WRITEABLE | (fixed ? IOF_MAP_FIXED_IOVA : 0);
}

/* One by one, and all undone at the first that is refused. */
static int map_singly(unsigned n, uint32_t flags, size_t *failed)
{
	uint64_t bytes;
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		iova_one[i] = iova[i];
		rc = map_at(one.ctx, one.ioas, (void *)(uintptr_t)va[i], length[i], flags, &iova_one[i]);
		*failed = i;
		for (unsigned k = 0; rc && k < i; k++)
			CHECK_EQ(unmap(one.ctx, one.ioas, iova_one[k], length[k], &bytes), 0);
		if (rc)
			break;
	}
	return rc;
}

static unsigned map_both(void)
{
	unsigned n = 1 + (unsigned)below(below(2) ? 8 : MOST);
	uint32_t flags = make_requests(n);
	struct iof_map_many batch = { .ioas_id = many.ioas, .flags = flags, .n = n, .addresses = va, .lengths = length, .iovas = iova };
	size_t failed = 0;
	int rc = n_live + n > LIVE ? -ENOSPC : map_singly(n, flags, &failed);

	if (n_live + n > LIVE)
		return 0;
	CHECK_EQ(iof_map_many(many.ctx, &batch), rc);
	if (rc)
		CHECK_EQ(batch.failed, failed);
	for (unsigned i = 0; i < n && !rc; i++) {
		CHECK_EQ(iova[i], iova_one[i]);
		live_iova[n_live] = iova[i];
		live_length[n_live++] = length[i];
	}
	return rc != 0;
}

/* Some that are live, in a row as they were mapped, now and then with two of them the other way round. */
static void unmap_both(void)
{
	unsigned n = 1 + (unsigned)below(below(2) ? 8 : MOST), first, k;
	struct iof_unmap_many batch = { .ioas_id = many.ioas, .iovas = iova, .lengths = length };
	uint64_t bytes;

	batch.n = n = n < n_live ? n : n_live;
	first = (unsigned)below(n_live - n + 1);
	memcpy(iova, &live_iova[first], n * sizeof(*iova));
	memcpy(length, &live_length[first], n * sizeof(*length));
	if (n > 1 && below(4) == 0) {
		k = (unsigned)below(n - 1);
		iova[k] = live_iova[first + k + 1];
		iova[k + 1] = live_iova[first + k];
		length[k] = live_length[first + k + 1];
		length[k + 1] = live_length[first + k];
	}
	n_live -= n;
	memmove(&live_iova[first], &live_iova[first + n], (n_live - first) * sizeof(live_iova[0]));
	memmove(&live_length[first], &live_length[first + n], (n_live - first) * sizeof(live_length[0]));
	CHECK_EQ(iof_unmap_many(many.ctx, &batch), n);
	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(unmap(one.ctx, one.ioas, iova[i], length[i], &bytes), 0);
}

TEST(batches_equal_single_calls)
{
	unsigned refused = 0;

	open_both(51);
	for (unsigned i = 0; i < 1200; i++) {
		if (below(8) < (i / 100 % 2 ? 3 : 5) || !n_live)
			refused += map_both();
		else
			unmap_both();
		if (i % 8 == 0)
			CHECK_EQ(digest(&many), digest(&one));
		CHECK(i % 64 || iof_machine_is_valid(many.m));
	}
	CHECK(refused > 50);
	while (n_live)
		unmap_both();
	CHECK_EQ(digest(&many), digest(&one));
	close_both();
}

/* For every n: the n-th step of a batch that needs memory is refused, and nothing has changed. */
TEST(memory_refused_at_every_point)
{
	struct iof_map_many batch = { .n = 100, .addresses = va, .lengths = length, .iovas = iova };
	unsigned refused = 0;
	uint64_t before;
	int rc = -1;

	open_both(52);
	batch.ioas_id = many.ioas;
	for (unsigned round = 0; round < 4; round++, rc = -1) {
		for (unsigned i = 0; i < batch.n; i++) {
			va[i] = VA + i * PAGE;
			length[i] = round == 1 && i % 7 == 0 ? 2 * PAGE : PAGE;
			iova[i] = i ? iova[i - 1] + length[i - 1] : UINT64_C(0x40000000) * (round + 1);
		}
		batch.flags = IOF_MAP_READABLE | (round & 1 ? IOF_MAP_FIXED_IOVA : 0);
		for (int n = 1; rc; n++) {
			before = digest(&many);
			iof_alloc_fail_nth(&heap, n);
			rc = iof_map_many(many.ctx, &batch);
			iof_alloc_fail_nth(&heap, 0);
			CHECK(!rc || rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT); /* the last: refused to a pin */
			refused += rc != 0;
			CHECK(iof_machine_is_valid(many.m));
			if (rc)
				CHECK_EQ(digest(&many), before);
		}
	}
	CHECK(refused > 200);
	close_both();
}

/* The caller's lists name one area twice, one that is none, and one that is larger than was mapped. */
TEST(lists_with_mistakes)
{
	uint64_t unmapped[5];
	int32_t errors[5];
	struct iof_unmap_many batch = { .n = 5, .iovas = iova, .lengths = length, .unmapped = unmapped, .errors = errors };

	open_both(53);
	batch.ioas_id = many.ioas;
	for (unsigned i = 0; i < 4; i++) {
		iova[i] = 0x100000 + i * PAGE;
		CHECK_EQ(map_at(many.ctx, many.ioas, (void *)(uintptr_t)(VA + i * PAGE), PAGE, IOF_MAP_READABLE | IOF_MAP_FIXED_IOVA, &iova[i]),
			 0);
	}
	for (unsigned i = 0; i < 5; i++)
		length[i] = PAGE;
	iova[1] = iova[0];
	iova[4] = 0x101000;
	length[4] = 3 * PAGE;
	CHECK_EQ(iof_unmap_many(many.ctx, &batch), 4);
	CHECK(errors[0] == 0 && errors[1] == -ENOENT && errors[2] == 0 && errors[3] == 0 && errors[4] == 0);
	CHECK(unmapped[0] == PAGE && unmapped[2] == PAGE && unmapped[3] == PAGE && unmapped[4] == PAGE);
	CHECK_EQ(digest(&many), digest(&one));
	close_both();
}
