/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw door under bytes that nobody meant: every command with random structs, sizes, pointers into holes and read-only memory, and all verbs with
 * random ids. Nothing may crash, the engine stays valid, and a call that failed left the state as it was, except where R1.6.4 says that it stays.
 */
#include "check.h"
#include "engine.h"
#include "util/alloc.h"

#define ROUNDS 20000
#define SEED 0x1dea5eedul

static struct iof_machine *m;
static struct iof_handle *ctx, *dev[3];
static struct iof_alloc heap;
static uint64_t seed;
static char *arena; /* six pages: rw, hole, rw, read-only, rw, hole */

static uint64_t pick(uint64_t n)
{
	return check_random(&seed) % n;
}

/* Random lengths ask for page tables without end; this much is all there is, and then -ENOMEM has to work. */
#define BUDGET (2ul << 20)

static void *get_within_budget(struct iof_alloc *a, size_t size, size_t align)
{
	static struct iof_alloc plain;

	if (atomic_load(&a->live_bytes) + size > BUDGET)
		return NULL;
	if (!plain.get)
		iof_alloc_init_heap(&plain);
	return plain.get(&plain, size, align);
}

static void open_all(enum iof_policy policy, enum iof_addresses addresses, uint64_t with)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_AMD, .groups = (uint32_t[]){ 2, 1 },
					  .n_groups = 2, .alloc = &heap, .policy = policy, .addresses = addresses };

	seed = with;
	iof_alloc_init_heap(&heap);
	heap.get = get_within_budget;
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(iof_engine_open_device(m, i, &dev[i]), 0);
	arena = pages_of(6);
	munmap(arena + PAGE, PAGE);
	munmap(arena + 5 * PAGE, PAGE);
	mprotect(arena + 3 * PAGE, PAGE, PROT_READ);
}

static void close_all(void)
{
	CHECK(iof_machine_is_valid(m));
	for (unsigned i = 0; i < 3; i++)
		iof_close(dev[i]);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(heap.live_blocks, 0);
	munmap(arena, 6 * PAGE);
}

static uint64_t digest(void)
{
	uint64_t d;

	CHECK_EQ(iof_digest(ctx, &d), 0);
	return d;
}

/* Numbers that mean something somewhere: small ids, sizes, page-sized things, ends of the space, addresses of the arena. */
static uint64_t number(void)
{
	static const uint64_t edges[] = { 0, 1, 2, 3, 4, 5, 8, 16, 24, 40, 48, 4095, 4096, 4097, 8192, 0x10000, 0x200000, 0xfee00000,
					  0xfd00000000, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 4095, INT64_MAX, UINT32_MAX };

	switch (pick(8)) {
	case 0:
		return check_random(&seed);
	case 1:
		return (uintptr_t)arena + pick(6 * PAGE);
	case 2:
		return (uintptr_t)arena + pick(6) * PAGE;
	case 3:
		return pick(64) * PAGE;
	default:
		return edges[pick(sizeof(edges) / sizeof(*edges))];
	}
}

static void fill_random(char *at, size_t n)
{
	uint64_t v;

	for (size_t i = 0; i + 4 <= n; i += 4) {
		v = number();
		if (i % 8 == 0 && i + 8 <= n && pick(2)) {
			memcpy(at + i, &v, 8);
			i += 4;
		} else {
			memcpy(at + i, &v, 4);
		}
	}
}

/* Where the struct is: mostly whole, sometimes up against a hole, read-only, or nowhere. */
static void *place(const char *bytes, size_t n)
{
	char *at;

	switch (pick(12)) {
	case 0:
		return (void *)(uintptr_t)number();
	case 1:
		at = arena + 5 * PAGE - pick(64);
		for (size_t i = 0; i < n && at + i < arena + 5 * PAGE; i++)
			at[i] = bytes[i];
		return at;
	case 2:
		mprotect(arena + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE);
		memcpy(arena + 3 * PAGE, bytes, n);
		mprotect(arena + 3 * PAGE, PAGE, PROT_READ);
		return arena + 3 * PAGE;
	default:
		memcpy(arena + 2 * PAGE, bytes, n);
		return arena + 2 * PAGE;
	}
}

/* R1.6.4 and R3.7.1: calls that may fail with something done. */
static bool may_have_acted(unsigned long cmd, int rc)
{
	if (cmd == IOF_CMD_IOAS_UNMAP)
		return rc == -EFAULT || rc == -ENOENT;
	if (cmd == IOF_CMD_DEVICE_ATTACH_PT)
		return rc == -EFAULT || rc == -EINVAL; /* 2.23.3; R6.9.3 */
	return rc == -EFAULT && (cmd == IOF_CMD_IOAS_MAP || cmd == IOF_CMD_IOAS_COPY || cmd == IOF_CMD_OPTION);
}

static const struct {
	uint32_t cmd, full;
} commands[] = {
	{ IOF_CMD_DESTROY, 8 }, { IOF_CMD_IOAS_ALLOC, 12 }, { IOF_CMD_IOAS_ALLOW_IOVAS, 24 }, { IOF_CMD_IOAS_COPY, 40 },
	{ IOF_CMD_IOAS_IOVA_RANGES, 32 }, { IOF_CMD_IOAS_MAP, 40 }, { IOF_CMD_IOAS_MAP, 40 }, { IOF_CMD_IOAS_UNMAP, 24 },
	{ IOF_CMD_OPTION, 24 }, { IOF_CMD_HWPT_ALLOC, 48 }, { IOF_CMD_GET_HW_INFO, 40 }, { IOF_CMD_VFIO_IOAS, 12 },
	{ IOF_CMD_DEVICE_BIND_IOMMUFD, 24 }, { IOF_CMD_DEVICE_ATTACH_PT, 16 }, { IOF_CMD_DEVICE_DETACH_PT, 12 },
	{ IOF_CMD_DEVICE_GET_INFO, 24 },
};

#define KINDS (sizeof(commands) / sizeof(*commands))
#define FIRST_DEVICE_COMMAND 12

/* Fields set so that a good part of the calls gets past the first checks. */
static void be_plausible(unsigned kind, char *bytes)
{
	uint32_t *w = (uint32_t *)bytes;
	uint64_t *q = (uint64_t *)bytes;

	w[0] = pick(8) ? commands[kind].full : (uint32_t)number();
	for (unsigned i = 1; i < 5; i++)
		if (pick(3))
			w[i] = (uint32_t)pick(8);
	if (!pick(4))
		return;
	switch (commands[kind].cmd) {
	case IOF_CMD_IOAS_MAP:
		w[1] = 1 + (uint32_t)pick(7);
		w[2] = 1 + (uint32_t)pick(4);
		w[3] = 0;
		q[2] = (uintptr_t)arena + pick(5) * PAGE;
		q[3] = (1 + pick(4)) * PAGE;
		q[4] = (1 + pick(16)) * PAGE;
		break;
	case IOF_CMD_IOAS_COPY:
		w[1] = 1 + (uint32_t)pick(7);
		w[2] = 1 + (uint32_t)pick(4);
		w[3] = 1 + (uint32_t)pick(4);
		q[2] = (1 + pick(2)) * PAGE;
		q[3] = (1 + pick(16)) * PAGE;
		q[4] = (1 + pick(16)) * PAGE;
		break;
	case IOF_CMD_DESTROY:
		w[1] = 1 + (uint32_t)pick(40);
		break;
	case IOF_CMD_IOAS_ALLOC:
		w[1] = 0;
		break;
	case IOF_CMD_HWPT_ALLOC:
		w[2] = 1 + (uint32_t)pick(8);
		w[3] = 1 + (uint32_t)pick(8);
		w[1] = w[5] = w[6] = w[7] = 0;
		break;
	case IOF_CMD_OPTION:
		w[1] = 1;
		w[2] = (uint32_t)pick(2);
		w[3] = 1 + (uint32_t)pick(4);
		q[2] = pick(2);
		break;
	case IOF_CMD_IOAS_UNMAP:
		q[1] = pick(16) * PAGE;
		q[2] = pick(8) * PAGE;
		break;
	case IOF_CMD_IOAS_ALLOW_IOVAS:
		w[2] = (uint32_t)pick(3);
		w[3] = 0;
		q[2] = (uintptr_t)arena + 2 * PAGE + 2048;
		for (unsigned i = 0; i < 4; i++)
			((uint64_t *)(uintptr_t)q[2])[i] = i * 8 * PAGE + pick(9 * PAGE);
		break;
	case IOF_CMD_IOAS_IOVA_RANGES:
		w[3] = 0;
		q[2] = (uintptr_t)arena + 4 * PAGE;
		break;
	case IOF_CMD_DEVICE_BIND_IOMMUFD:
		w[1] = 0;
		w[2] = (uint32_t)iof_fileno(ctx);
		break;
	default:
		break;
	}
}

static void one(unsigned *good)
{
	unsigned kind = (unsigned)pick(KINDS);
	struct iof_handle *h = kind < FIRST_DEVICE_COMMAND ? ctx : dev[pick(3)];
	unsigned long cmd = pick(50) ? commands[kind].cmd : check_random(&seed);
	_Alignas(8) char bytes[64];
	uint64_t before = digest();
	bool nowait = !pick(6);
	void *at;
	int rc;

	fill_random(bytes, sizeof(bytes));
	be_plausible(kind, bytes);
	at = place(bytes, sizeof(bytes));
	rc = nowait ? iof_ioctl_nowait(h, cmd, at) : iof_ioctl(h, cmd, at);
	CHECK(rc > -4096 && rc <= 0);
	if (rc && !may_have_acted((uint32_t)cmd, rc) && digest() != before) {
		printf("cmd 0x%lx failed with %d and changed something\n", cmd, rc);
		CHECK(false);
	}
	good[kind] += !rc;
}

static void storm(enum iof_policy policy, enum iof_addresses addresses, uint64_t with)
{
	unsigned good[KINDS] = { 0 };

	printf("seed 0x%lx\n", (unsigned long)with);
	open_all(policy, addresses, with);
	for (int i = 0; i < ROUNDS; i++) {
		one(good);
		if (i % 500 == 0)
			CHECK(iof_machine_is_valid(m));
		if (i % 2000 == 1999) {
			/* not too many objects, so that ids are met; a device is bound only once, so open it again */
			for (uint32_t id = 1; id < 64; id++)
				destroy(ctx, id);
			iof_close(dev[i / 2000 % 3]);
			CHECK_EQ(iof_engine_open_device(m, i / 2000 % 3, &dev[i / 2000 % 3]), 0);
		}
	}
	for (unsigned kind = 0; kind < KINDS; kind++) {
		bool built = commands[kind].cmd != IOF_CMD_GET_HW_INFO && commands[kind].cmd != IOF_CMD_VFIO_IOAS;

		if (built != (good[kind] >= 5))
			printf("cmd 0x%x succeeded %u times\n", commands[kind].cmd, good[kind]);
		CHECK(built ? good[kind] >= 5 : !good[kind]); /* else the storm is too weak to say much */
	}
	close_all();
}

TEST(storm_of_ioctls)
{
	storm(IOF_POLICY_TRUST, IOF_ADDRESSES_VA, SEED);
}

TEST(storm_of_ioctls_on_probed_memory)
{
	storm(IOF_POLICY_PROBE, IOF_ADDRESSES_VA, SEED + 1);
}

TEST(random_numbers_of_commands)
{
	open_all(IOF_POLICY_TRUST, IOF_ADDRESSES_VA, SEED + 2);
	for (int i = 0; i < 20000; i++) {
		unsigned long cmd = pick(2) ? 0x3b00 | pick(256) : check_random(&seed);

		CHECK(iof_ioctl(pick(2) ? ctx : dev[0], cmd, (void *)(uintptr_t)(pick(2) ? 8 : UINT64_MAX - pick(64))) < 0);
	}
	close_all();
}

/* ---- the verbs ---- */

TEST(verbs_with_random_ids)
{
	struct iof_mapping_info info;
	struct iof_endpoint_info ends[4];
	struct iof_ioas_stats stats;
	struct iof_hwpt_stats hwpt;
	uint64_t iovas[8], addresses[8], lengths[8], before;
	uint32_t ioas;
	uint8_t prots[8];
	int32_t errors[8];

	open_all(IOF_POLICY_TRUST, IOF_ADDRESSES_VA, SEED + 3);
	CHECK_EQ(bind_device(dev[0], ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(attach(dev[0], ioas, NULL), 0);
	for (int i = 0; i < 5000; i++) {
		struct iof_map_many many = { .ioas_id = (uint32_t)pick(5), .flags = (uint32_t)pick(9), .policy = (uint32_t)pick(5),
					     .n = pick(9), .addresses = addresses, .lengths = lengths, .iovas = iovas };
		struct iof_unmap_many un = { .ioas_id = (uint32_t)pick(5), .n = pick(9), .iovas = iovas, .lengths = lengths,
					     .unmapped = pick(2) ? addresses : NULL, .errors = pick(2) ? errors : NULL };
		uint32_t id = pick(2) ? (uint32_t)pick(5) : (uint32_t)number();

		for (unsigned k = 0; k < 8; k++) {
			iovas[k] = number();
			addresses[k] = number();
			lengths[k] = number();
		}
		before = digest();
		if (iof_map_many(ctx, &many))
			CHECK_EQ(digest(), before); /* all or nothing */
		iof_unmap_many(ctx, &un);
		before = digest();
		iof_translate(ctx, id, pick(9), iovas, addresses, pick(2) ? prots : NULL);
		iof_endpoints(ctx, id, (uint32_t)pick(5), pick(5), ends);
		iof_ioas_stats(ctx, id, &stats);
		iof_hwpt_stats(ctx, id, &hwpt);
		iof_ioas_mapping(ctx, id, number(), number(), &info);
		CHECK_EQ(digest(), before);
	}
	close_all();
}

/* Transfers of random shape; the memory behind the mappings has holes and read-only parts. */
TEST(random_dma)
{
	static const uint32_t flags[] = { IOF_MAP_READABLE, IOF_MAP_WRITEABLE, RW };
	unsigned reasons[5] = { 0 };
	char *buffer = pages_of(8);
	uint32_t ioas;

	open_all(IOF_POLICY_TRUST, IOF_ADDRESSES_VA, SEED + 4);
	CHECK_EQ(bind_device(dev[0], ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	for (int i = 0; i < 20000; i++) {
		struct iof_dma_segment s[3];
		struct iof_dma d = { .op = (enum iof_dma_op)pick(6), .pasid = pick(9) ? IOF_NO_PASID : 1, .segments = s,
				     .n_segments = pick(4), .buffer = pick(9) ? buffer : (void *)8, .source = number() };
		uint64_t iova = pick(16) * PAGE, total = 0;
		int rc;

		for (unsigned k = 0; k < 3; k++) {
			s[k] = (struct iof_dma_segment){ pick(4) ? pick(16 * PAGE) : number(), pick(2) ? pick(9000) : number() };
			if (d.op <= IOF_DMA_WRITE && s[k].length > 9000)
				s[k].length = 9000; /* `buffer` has room for three of these */
			total += s[k].length;
		}
		rc = iof_dma(dev[0], &d);
		CHECK(rc == 0 || rc == -EFAULT || rc == -EINVAL || rc == -ENODEV);
		CHECK_EQ(rc == -EFAULT, d.reason != IOF_DMA_OK);
		CHECK(rc || !d.n_segments || d.done);
		CHECK(d.done <= total);
		reasons[d.reason]++;
		if (i % 3 == 0)
			map_at(ctx, ioas, arena + pick(5) * PAGE, PAGE, flags[pick(3)] | IOF_MAP_FIXED_IOVA, &iova);
		else if (i % 3 == 1)
			unmap(ctx, ioas, iova, PAGE, NULL);
		else if (i % 7 == 0)
			detach(dev[0]);
		else
			attach(dev[0], ioas, NULL);
	}
	for (unsigned i = 0; i < 5; i++)
		CHECK(reasons[i]);
	munmap(buffer, 8 * PAGE);
	close_all();
}
