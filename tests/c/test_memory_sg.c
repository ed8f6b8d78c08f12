/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter lists: one range for many pieces, all or nothing, also on a provider that does not tell where it would map. */
#include "memory_rig.h"
#include "provider/provider.h"

#define MANY 300

static int map_sg(struct rig *r, struct iof_map_sg *sg, const uint64_t *addresses, const uint64_t *lengths, size_t n)
{
	*sg = (struct iof_map_sg){ .ioas_id = r->ioas, .flags = sg->flags ? sg->flags : RW, .iova = sg->iova, .iovas = sg->iovas, .n = n,
				   .addresses = addresses, .lengths = lengths, .policy = IOF_POLICY_PROBE };
	return iof_map_sg(r->ctx, sg);
}

static int unmap_all(struct rig *r)
{
	return unmap(r->ctx, r->ioas, 0, UINT64_MAX, NULL);
}

static void pieces(struct rig *r)
{
	char *buf = pages_of(16), text[32];
	uint64_t iovas[3], at[] = { (uintptr_t)buf + 4000, (uintptr_t)buf + 8 * PAGE, (uintptr_t)buf + 4 * PAGE };
	uint64_t n[] = { 96, 2 * PAGE, 10 };
	struct iof_map_sg sg = { .iovas = iovas };

	CHECK_EQ(map_sg(r, &sg, at, n, 3), 0);
	CHECK_EQ(sg.iova % PAGE, 4000);
	CHECK_EQ(sg.iova, iovas[0]);
	CHECK_EQ(iovas[1], sg.iova + 96);
	CHECK_EQ(iovas[2], sg.iova + 96 + 2 * PAGE);
	strcpy(buf + 4090, "before");
	memcpy(buf + 8 * PAGE, "behind", 7);
	CHECK_EQ(dma(r->dev, IOF_DMA_READ, sg.iova + 90, text, 13, NULL), 0);
	CHECK(!memcmp(text, "beforebehind", 13));
	CHECK_EQ(rig_mappings(r), 3);

	sg = (struct iof_map_sg){ .flags = RW | IOF_MAP_FIXED_IOVA, .iova = sg.iova };
	CHECK_EQ(map_sg(r, &sg, at, n, 3), -EEXIST);
	CHECK_EQ(sg.failed, 0);
	sg = (struct iof_map_sg){ .flags = RW | IOF_MAP_FIXED_IOVA, .iova = sg.iova - PAGE };
	CHECK_EQ(map_sg(r, &sg, at, n, 3), -EEXIST); /* the second: the first is undone */
	CHECK_EQ(sg.failed, 1);
	CHECK_EQ(rig_mappings(r), 3);
	CHECK_EQ(unmap_all(r), 0);
	munmap(buf, 16 * PAGE);
}

TEST(pieces)
{
	struct rig r;

	rig_open(&r);
	pieces(&r);
	rig_close(&r);
}

TEST(arguments)
{
	char *buf = pages_of(8);
	uint64_t a = (uintptr_t)buf;
	struct iof_map_sg sg = { 0 };
	struct rig r;

	rig_open(&r);
#define REFUSED(rc, n, at, ...)                                                                                        \
	do {                                                                                                           \
		CHECK_EQ(map_sg(&r, &sg, (uint64_t[]){ __VA_ARGS__ }, (uint64_t[]){ PAGE, PAGE, PAGE }, n), rc);      \
		CHECK_EQ(sg.failed, at);                                                                               \
	} while (0)
	REFUSED(-EINVAL, 0, 0, a);
	REFUSED(-EINVAL, 3, 0, a + 1, a, a);
	REFUSED(-EINVAL, 3, 1, a, a + 1, a);
	REFUSED(-EINVAL, 3, 2, a, a, a + 1);
	REFUSED(-EOVERFLOW, 2, 1, a, UINT64_MAX - 100);
	REFUSED(-EFAULT, 3, 1, a, 4096, a + PAGE);
	CHECK_EQ(map_sg(&r, &sg, &a, &(uint64_t){ 0 }, 1), -EINVAL);
	CHECK_EQ(map_sg(&r, &sg, (uint64_t[]){ 0, 0, 0 }, (uint64_t[]){ UINT64_C(1) << 63, UINT64_C(1) << 63, PAGE }, 3), -EOVERFLOW);
	sg.flags = RW | 0x40;
	REFUSED(-EINVAL, 1, 1, a);
	sg.flags = IOF_MAP_FIXED_IOVA;
	REFUSED(-EINVAL, 1, 1, a);
	sg.flags = RW | IOF_MAP_FIXED_IOVA, sg.iova = 0x100001;
	REFUSED(-EINVAL, 1, 1, a);
	sg.iova = UINT64_MAX & ~(PAGE - 1);
	CHECK_EQ(map_sg(&r, &sg, &a, &(uint64_t){ 2 * PAGE }, 1), -EOVERFLOW);
	munmap(buf, 8 * PAGE);
	rig_close(&r);
}

static void many(struct rig *r)
{
	char *buf = pages_of(2 * MANY);
	uint64_t at[MANY], n[MANY], back, before = rig_mappings(r);
	struct iof_map_sg sg = { 0 };

	for (unsigned i = 0; i < MANY; i++) {
		at[i] = (uintptr_t)buf + 2 * i * PAGE;
		n[i] = PAGE;
	}
	CHECK_EQ(map_sg(r, &sg, at, n, MANY), 0);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK_EQ(iof_translate(r->ctx, r->ioas, 1, &(uint64_t){ sg.iova + i * PAGE }, &back, NULL), 1);
		CHECK_EQ(back, at[i]);
	}
	at[MANY - 1] = 4096; /* in the third chunk */
	CHECK_EQ(map_sg(r, &sg, at, n, MANY), -EFAULT);
	CHECK_EQ(sg.failed, MANY - 1);
	CHECK_EQ(rig_mappings(r), before + MANY);
	CHECK_EQ(unmap_all(r), 0);
	munmap(buf, 2 * MANY * PAGE);
}

TEST(many)
{
	struct rig r;

	rig_open(&r);
	many(&r);
	rig_close(&r);
}

TEST(a_provider_that_does_not_tell)
{
	struct iof_provider silent;
	const struct iof_provider *real;
	char *buf = pages_of(4);
	uint64_t iova = 0;
	struct rig r;

	rig_open(&r);
	real = r.ctx->provider;
	silent = *real;
	silent.place = NULL;
	CHECK_EQ(iof_iova_place(r.ctx, r.ioas, 0, PAGE, &iova), 0);
	CHECK_EQ(iof_iova_place(r.ctx, 999, 0, PAGE, &iova), -ENOENT);
	CHECK_EQ(iof_iova_place(r.dev, r.ioas, 0, PAGE, &iova), -EOPNOTSUPP);
	r.ctx->provider = &silent;
	CHECK_EQ(iof_iova_place(r.ctx, r.ioas, 0, PAGE, &iova), -EOPNOTSUPP);
	pieces(&r);
	many(&r);
	iova = 2 * PAGE; /* in the way of the lowest place */
	CHECK_EQ(map_at(r.ctx, r.ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	many(&r);
	r.ctx->provider = real;
	munmap(buf, 4 * PAGE);
	rig_close(&r);
}
