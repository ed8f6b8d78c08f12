/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches equal single calls; a call that may not wait either does all or nothing; and what a failure half-way leaves behind.
 *
 * Some of these need another call at one exact moment. The allocator is ours, so it can make that call: `hook` runs when the engine asks for memory.
 */
#include <sys/mman.h>

#include "check.h"
#include "engine.h"
#include "util/alloc.h"

static struct iof_machine *m;
static struct iof_handle *ctx, *dev;
static uint32_t dev_id, ioas;
static struct iof_alloc heap, hooked;
static bool (*hook)(void); /* false: no memory */

static void *hooked_get(struct iof_alloc *a, size_t size, size_t align)
{
	(void)a;
	return hook && !hook() ? NULL : heap.get(&heap, size, align);
}

static void hooked_put(struct iof_alloc *a, void *p, size_t size)
{
	(void)a;
	heap.put(&heap, p, size);
}

static void open_with(enum iof_policy policy, enum iof_addresses addresses, enum iof_accounting accounting)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1, .alloc = &hooked, .policy = policy, .addresses = addresses,
					  .accounting = accounting };

	hook = NULL;
	iof_alloc_init_heap(&heap);
	iof_alloc_init_heap(&hooked);
	hooked.get = hooked_get;
	hooked.put = hooked_put;
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
}

static void open_plain(void)
{
	open_with(IOF_POLICY_TRUST, IOF_ADDRESSES_VA, IOF_ACCOUNTING_NONE);
}

static void close_all(void)
{
	hook = NULL;
	CHECK(iof_machine_is_valid(m));
	iof_close(dev);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(hooked.live_blocks, 0);
}

static uint64_t digest(void)
{
	uint64_t d;

	CHECK_EQ(iof_digest(ctx, &d), 0);
	return d;
}

/* ---- batches ---- */

#define N 8

static uint64_t addresses[N], lengths[N], iovas[N];

static void fill_list(const char *buf)
{
	for (unsigned i = 0; i < N; i++) {
		addresses[i] = (uintptr_t)buf + i * PAGE;
		lengths[i] = (1 + i % 3) * PAGE;
	}
}

static void single_maps(uint32_t flags)
{
	for (unsigned i = 0; i < N; i++)
		CHECK_EQ(map_at(ctx, ioas, (void *)(uintptr_t)addresses[i], lengths[i], flags, &iovas[i]), 0);
}

static int many_maps(uint32_t flags, struct iof_map_many *out)
{
	struct iof_map_many many = { .ioas_id = ioas, .flags = flags, .n = N, .addresses = addresses, .lengths = lengths,
				     .iovas = iovas };
	int rc = iof_map_many(ctx, &many);

	if (out)
		*out = many;
	return rc;
}

TEST(map_many_equals_maps)
{
	char *buf = pages_of(N + 3);
	uint64_t want, chosen[N];

	fill_list(buf);
	open_plain();
	single_maps(RW);
	want = digest();
	memcpy(chosen, iovas, sizeof(chosen));
	close_all();
	open_plain();
	CHECK_EQ(many_maps(RW, NULL), 0);
	CHECK(!memcmp(chosen, iovas, sizeof(chosen)));
	CHECK_EQ(digest(), want);
	close_all();
	open_plain();
	CHECK_EQ(many_maps(RW | IOF_MAP_FIXED_IOVA, NULL), 0);
	CHECK_EQ(digest(), want);
	close_all();
}

TEST(map_many_is_all_or_nothing)
{
	char *buf = pages_of(N + 3);
	struct iof_map_many many;
	uint64_t before;

	fill_list(buf);
	open_plain();
	single_maps(RW);
	before = digest();
	for (unsigned i = 0; i < N; i++)
		iovas[i] = 0x10000000 + i * 4 * PAGE;
	iovas[5] = iovas[4];
	CHECK_EQ(many_maps(RW | IOF_MAP_FIXED_IOVA, &many), -EEXIST);
	CHECK_EQ(many.failed, 5);
	CHECK_EQ(digest(), before);
	lengths[6] = 0;
	CHECK_EQ(many_maps(RW, &many), -EINVAL);
	CHECK_EQ(many.failed, 6);
	CHECK_EQ(digest(), before);
	lengths[6] = UINT64_MAX;
	CHECK_EQ(many_maps(RW, &many), -EOVERFLOW);
	CHECK_EQ(digest(), before);
	CHECK_EQ(many_maps(0, NULL), -EINVAL);
	CHECK_EQ(many_maps(RW | 8, NULL), -EOPNOTSUPP);
	close_all();
}

/* Every way an UNMAP can end, twice: one by one, and as a batch. */
TEST(unmap_many_equals_unmaps)
{
	static const uint64_t froms[] = { 0, 0x1000, 1, UINT64_MAX, UINT64_MAX - 1, 0x2000, 0x5000, 0xdead000, 0 };
	static const uint64_t ns[] = { 0, 0x1000, UINT64_MAX, 1, 4, 0x1000, 0x2000, 0x1000, UINT64_MAX };
	enum { CALLS = sizeof(froms) / sizeof(*froms) };
	struct iof_unmap_many many = { .n = CALLS, .iovas = froms, .lengths = ns };
	uint64_t bytes[CALLS], want_digest, want_bytes[CALLS];
	int32_t errors[CALLS], want[CALLS];
	int64_t good = 0;
	char *buf = pages_of(N + 3);

	fill_list(buf);
	open_plain();
	single_maps(RW);
	for (unsigned i = 0; i < CALLS; i++) {
		want[i] = unmap(ctx, ioas, froms[i], ns[i], &want_bytes[i]);
		good += !want[i];
	}
	want_digest = digest();
	close_all();
	open_plain();
	single_maps(RW);
	many.ioas_id = ioas;
	many.unmapped = bytes;
	many.errors = errors;
	CHECK_EQ(iof_unmap_many(ctx, &many), good);
	for (unsigned i = 0; i < CALLS; i++) {
		CHECK_EQ(errors[i], want[i]);
		if (!want[i])
			CHECK_EQ(bytes[i], want_bytes[i]);
	}
	CHECK_EQ(digest(), want_digest);
	CHECK_EQ(iof_unmap_many(ctx, &many), 1); /* only "everything" finds nothing to complain about */
	many.ioas_id = dev_id;
	CHECK_EQ(iof_unmap_many(ctx, &many), -ENOENT);
	close_all();
}

/* In any order, some twice, some across several mappings or beside them: what is unmapped, and what each answers, is as call by call. */
enum { MAPS = 150 };
static void random_unmaps(char *buf, uint64_t seed, bool as_batch, uint64_t *digest_out, int32_t *errors, uint64_t *bytes)
{
	enum { CALLS = 200 };
	static uint64_t froms[CALLS], ns[CALLS];
	struct iof_unmap_many many = { .n = CALLS, .iovas = froms, .lengths = ns, .unmapped = bytes, .errors = errors };

	open_plain();
	many.ioas_id = ioas;
	for (uint64_t i = 0; i < MAPS; i++) {
		uint64_t iova = 0x100000 + i * PAGE;

		CHECK_EQ(map_at(ctx, ioas, buf + i * PAGE, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	}
	for (unsigned i = 0; i < CALLS; i++) {
		froms[i] = 0x100000 + check_random(&seed) % (MAPS + 8) * PAGE;
		ns[i] = check_random(&seed) % 20 ? PAGE : check_random(&seed) % 4 * PAGE / 2;
	}
	if (as_batch)
		CHECK(iof_unmap_many(ctx, &many) > 50);
	for (unsigned i = 0; i < CALLS && !as_batch; i++)
		errors[i] = unmap(ctx, ioas, froms[i], ns[i], &bytes[i]);
	*digest_out = digest();
	close_all();
}

TEST(unmap_many_in_any_order)
{
	uint64_t digests[2], bytes[2][200];
	int32_t errors[2][200];
	char *buf = pages_of(MAPS); /* the same for both: digests tell where memory is */

	for (uint64_t seed = 1; seed <= 20; seed++) {
		printf("seed %llu\n", (unsigned long long)seed);
		for (int batch = 0; batch < 2; batch++)
			random_unmaps(buf, seed * 0x9e3779b97f4a7c15, batch, &digests[batch], errors[batch], bytes[batch]);
		CHECK_EQ(digests[0], digests[1]);
		for (int i = 0; i < 200; i++) {
			CHECK_EQ(errors[0][i], errors[1][i]);
			CHECK(errors[0][i] || bytes[0][i] == bytes[1][i]);
		}
	}
	munmap(buf, MAPS * PAGE);
}

TEST(translate_in_sections)
{
	enum { MANY = 5000 };
	static uint64_t at[MANY], to[MANY];
	static uint8_t prots[MANY];
	uint64_t iova = 0x400000;
	char *buf = pages_of(4);

	open_plain();
	CHECK_EQ(map_at(ctx, ioas, buf, 4 * PAGE, IOF_MAP_READABLE | IOF_MAP_FIXED_IOVA, &iova), 0);
	for (unsigned i = 0; i < MANY; i++)
		at[i] = iova + i * 7 % 0x8000;
	CHECK_EQ(iof_translate(ctx, ioas, 0, at, to, prots), 0);
	iof_translate(ctx, ioas, MANY, at, to, prots);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK_EQ(to[i], at[i] - iova < 4 * PAGE ? (uintptr_t)buf + (at[i] - iova) : UINT64_MAX);
		if (to[i] != UINT64_MAX)
			CHECK_EQ(prots[i], 1);
	}
	CHECK_EQ(iof_translate(ctx, dev_id, 1, at, to, NULL), -EINVAL);
	CHECK_EQ(iof_translate(ctx, 99, 1, at, to, NULL), -ENOENT);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(iof_translate(ctx, ioas, 1, at, to, NULL), -ENODEV);
	close_all();
}

/* ---- calls that may not wait ---- */

static int map_nowait(const void *va, uint64_t length, uint64_t *iova)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = RW, .ioas_id = ioas, .user_va = (uintptr_t)va,
				      .length = length };
	int rc = iof_ioctl_nowait(ctx, IOF_CMD_IOAS_MAP, &c);

	*iova = c.iova;
	return rc;
}

static int unmap_nowait(uint64_t iova, uint64_t length)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = ioas, .iova = iova, .length = length };

	return iof_ioctl_nowait(ctx, IOF_CMD_IOAS_UNMAP, &c);
}

TEST(nowait_does_small_things)
{
	char *buf = pages_of(32);
	uint64_t iova, before;

	open_plain();
	before = digest();
	CHECK_EQ(map_nowait(buf, 16 * PAGE, &iova), 0);
	CHECK_EQ(dma(dev, IOF_DMA_WRITE, iova, "x", 1, NULL), 0);
	CHECK_EQ(unmap_nowait(iova, PAGE), -ENOENT);
	CHECK_EQ(unmap_nowait(iova, 16 * PAGE), 0);
	CHECK_EQ(dma(dev, IOF_DMA_WRITE, iova, "x", 1, NULL), -EFAULT);
	CHECK_EQ(map_nowait(buf, 0, &iova), -EINVAL);
	CHECK_EQ(digest(), before);
	CHECK_EQ(map_nowait(buf, 17 * PAGE, &iova), -EAGAIN);
	CHECK_EQ(unmap_nowait(0, UINT64_MAX), -EAGAIN);
	CHECK_EQ(iof_ioctl_nowait(ctx, IOF_CMD_IOAS_ALLOC, &(struct iof_cmd_ioas_alloc){ .size = 12 }), -EAGAIN);
	CHECK_EQ(digest(), before);
	close_all();
}

/* Touching memory, looking it up, asking for an account: all of it may take long. */
TEST(nowait_leaves_slow_memory_alone)
{
	char *buf = pages_of(1);
	uint64_t iova, before;

	for (int kind = 0; kind < 3; kind++) {
		open_with(kind == 0 ? IOF_POLICY_PROBE : IOF_POLICY_TRUST, kind == 1 ? IOF_ADDRESSES_SYNTHETIC : IOF_ADDRESSES_VA,
			  kind == 2 ? IOF_ACCOUNTING_USER : IOF_ACCOUNTING_NONE);
		before = digest();
		CHECK_EQ(map_nowait(buf, PAGE, &iova), -EAGAIN);
		CHECK_EQ(digest(), before);
		CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW, &iova), 0);
		close_all();
	}
}

static int from_hook[2];
static char *hook_buf;

/* The engine is inside a MAP and has its locks. */
static bool call_from_inside(void)
{
	uint64_t iova;

	hook = NULL;
	from_hook[0] = map_nowait(hook_buf, PAGE, &iova);
	from_hook[1] = unmap_nowait(0x1000, PAGE);
	return true;
}

TEST(nowait_does_not_wait_for_locks)
{
	uint64_t iova;

	hook_buf = pages_of(2);
	open_plain();
	from_hook[0] = from_hook[1] = 1;
	hook = call_from_inside;
	CHECK_EQ(map_at(ctx, ioas, hook_buf, PAGE, RW, &iova), 0); /* the first map of an IOAS needs memory for its record */
	CHECK_EQ(from_hook[0], -EAGAIN);
	CHECK_EQ(from_hook[1], -EAGAIN);
	close_all();
}

/* ---- a map that fails half-way ---- */

static int seen_inside;

/* The second table is asked for when the first page is already shown: a device gets in between. */
static bool dma_then_fail(void)
{
	char c;

	if (!dma(dev, IOF_DMA_READ, 0x200000 - PAGE, &c, 1, NULL))
		seen_inside++;
	return false;
}

TEST(a_failed_map_leaves_no_iotlb_entry)
{
	uint64_t iova = 0x200000 - PAGE, low = 0x1000;
	char *buf = pages_of(3), c;
	struct iof_iotlb_stats stats;

	open_plain();
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &low), 0);
	seen_inside = 0;
	hook = dma_then_fail;
	CHECK_EQ(map_at(ctx, ioas, buf + PAGE, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), -ENOMEM);
	hook = NULL;
	CHECK_EQ(iof_iotlb_stats(m, &stats), 0);
	CHECK_EQ(stats.live, 0);
	CHECK_EQ(dma(dev, IOF_DMA_READ, iova, &c, 1, NULL), -EFAULT);
	CHECK(seen_inside > 0); /* else this proves nothing */
	close_all();
}

/* ---- injected failures in calls that look things up on their way ---- */

static int automatic_life(const char *buf)
{
	uint64_t iova, to;
	struct iof_hwpt_stats stats;
	uint32_t hwpt = 0, manual;
	int rc = attach(dev, ioas, &hwpt);

	rc = rc ? rc : map_at(ctx, ioas, buf, PAGE, RW, &iova);
	if (!rc && iof_translate(ctx, hwpt, 1, &iova, &to, NULL) < 0)
		rc = -ENOENT;
	rc = rc ? rc : iof_hwpt_stats(ctx, hwpt, &stats);
	rc = rc ? rc : hwpt_alloc(ctx, dev_id, ioas, &manual);
	rc = rc ? rc : attach(dev, manual, NULL);
	rc = rc ? rc : attach(dev, ioas, NULL);
	rc = rc ? rc : destroy(ctx, manual);
	return rc ? rc : detach(dev);
}

TEST(no_table_stays_behind_when_a_look_up_fails)
{
	struct iof_hwpt_stats stats;
	char *buf = pages_of(1);
	int rc = -1, failures = 0;

	for (int64_t n = 1; rc; n++) {
		open_plain();
		CHECK_EQ(detach(dev), 0);
		iof_alloc_fail_nth(&hooked, n);
		rc = automatic_life(buf);
		iof_alloc_fail_nth(&hooked, 0);
		failures += rc != 0;
		CHECK(iof_machine_is_valid(m));
		CHECK_EQ(detach(dev), 0);
		for (uint32_t id = 1; id < 8; id++)
			CHECK(iof_hwpt_stats(ctx, id, &stats) == -ENOENT || !stats.automatic);
		close_all();
	}
	CHECK(failures > 10);
}
