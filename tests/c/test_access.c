/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Accesses (behaviour.md chapter 7): every errno in its order, pin counts, notification, copies, failures, threads. */
#include <stdatomic.h>
#include <time.h>

#include "access_rig.h"
#include "ioas/access.h"
#include "provider/engine.h"

#define WRONG 999 /* an id that is nobody's */
#define READ false
#define WRITE true

static struct iof_machine *m;
static struct iof_handle *ctx;
static struct emu e1, e2;
static uint32_t ioas, other;
static struct iof_alloc heap;

static void setup(enum iof_policy policy, enum iof_addresses addresses)
{
	iof_alloc_init_heap(&heap);
	m = rig_machine(policy, addresses, &heap);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(ioas_alloc(ctx, &other), 0);
	CHECK_EQ(emu_open(&e1, ctx, true), 0);
	CHECK_EQ(emu_open(&e2, ctx, true), 0);
}

static void setup_plain(void)
{
	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_VA);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_access_destroy(e2.access);
	iof_access_destroy(e1.access);
	CHECK(iof_machine_is_valid(m));
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(heap.live_blocks, 0);
}

static int map_fixed(uint32_t id, uint64_t iova, const void *va, uint64_t length, uint32_t flags)
{
	return map_at(ctx, id, va, length, flags | IOF_MAP_FIXED_IOVA, &iova);
}

/* ---- life ---- */

TEST(an_access_is_an_object_nobody_can_destroy)
{
	struct iof_access_config bad = { .size = 8 };
	struct iof_access *a;
	uint32_t id;

	setup_plain();
	CHECK_EQ(iof_access_id(e1.access), 3);
	CHECK_EQ(iof_access_id(e2.access), 4);
	CHECK_EQ(destroy(ctx, 3), -EBUSY);
	CHECK_EQ(iof_access_open(ctx, &bad, &a), -EINVAL);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(destroy(ctx, ioas), -EBUSY);
	iof_access_detach(e1.access);
	CHECK_EQ(destroy(ctx, ioas), 0);
	iof_access_destroy(e1.access);
	CHECK_EQ(ioas_alloc(ctx, &id), 0);
	CHECK_EQ(id, 1);
	CHECK_EQ(emu_open(&e1, ctx, true), 0);
	CHECK_EQ(iof_access_id(e1.access), 3);
	teardown();
}

TEST(a_device_handle_has_no_accesses)
{
	struct iof_access_config cfg = { .size = sizeof(cfg) };
	struct iof_handle *dev;
	struct iof_access *a;

	setup_plain();
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(iof_access_open(dev, &cfg, &a), -EOPNOTSUPP);
	iof_close(dev);
	teardown();
}

/* R1.1.5: the context, its mappings and pins live on behind a closed handle. */
TEST(an_access_keeps_its_context)
{
	char *buf = pages_of(2), got[4] = "";

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(emu_pin(&e1, 0x10000, PAGE, READ, NULL), 0);
	iof_close(ctx);
	strcpy(buf, "abc");
	CHECK_EQ(iof_access_rw(e1.access, 0x10000, got, 4, IOF_ACCESS_READ), 0);
	CHECK_EQ(strcmp(got, "abc"), 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 1);
	CHECK(iof_machine_is_valid(m));
	iof_access_destroy(e1.access);
	CHECK_EQ(e1.calls, 1);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 0);
	iof_access_destroy(e2.access);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(heap.live_blocks, 0);
}

/* ---- attach, replace, detach: R7.2, R7.3 ---- */

TEST(attach_in_order_of_errors)
{
	char *buf = pages_of(2);

	setup_plain();
	CHECK_EQ(iof_access_replace(e1.access, ioas), -ENOENT);
	CHECK_EQ(iof_access_attach(e1.access, WRONG), -ENOENT);
	CHECK_EQ(iof_access_attach(e1.access, iof_access_id(e2.access)), -ENOENT);
	CHECK_EQ(map_fixed(ioas, 0x10800, buf + 0x800, 0x800, RW), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), -EADDRINUSE);
	CHECK_EQ(alignment_of(ctx, ioas), 1);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(unmap(ctx, ioas, 0x10800, 0x800, NULL), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_attach(e1.access, WRONG), -EINVAL);
	CHECK_EQ(iof_access_attach(e1.access, ioas), -EINVAL);
	CHECK_EQ(iof_access_replace(e1.access, WRONG), -ENOENT);
	CHECK_EQ(e1.calls, 0);
	iof_access_detach(e1.access);
	iof_access_detach(e1.access);
	CHECK_EQ(e1.calls, 1);
	teardown();
}

/* R3.4.1: PAGE while somebody pins, 1 else. */
TEST(alignment_goes_up_and_down)
{
	char *buf = pages_of(2);
	struct emu reader;
	uint64_t iova;

	setup_plain();
	CHECK_EQ(emu_open(&reader, ctx, false), 0);
	CHECK_EQ(iof_access_attach(reader.access, ioas), 0);
	CHECK_EQ(alignment_of(ctx, ioas), 1);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_attach(e2.access, ioas), 0);
	CHECK_EQ(alignment_of(ctx, ioas), PAGE);
	CHECK_EQ(map_at(ctx, ioas, buf, 0x800, RW, &iova), -EINVAL);
	CHECK_EQ(map_fixed(ioas, 0x10800, buf, PAGE, RW), -EINVAL);
	iof_access_detach(e1.access);
	CHECK_EQ(alignment_of(ctx, ioas), PAGE);
	CHECK_EQ(iof_access_replace(e2.access, other), 0);
	CHECK_EQ(alignment_of(ctx, ioas), 1);
	CHECK_EQ(alignment_of(ctx, other), PAGE);
	CHECK_EQ(map_fixed(ioas, 0x10800, buf, 0x800, RW), 0);
	CHECK_EQ(iof_access_pin(reader.access, 0x10800, 0x800, READ, NULL), -EINVAL);
	iof_access_destroy(reader.access);
	teardown();
}

TEST(replace_lets_go_of_the_old_ioas)
{
	char *buf = pages_of(4);

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 4 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(other, 0x10800, buf, 0x800, RW), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(emu_pin(&e1, 0x11000, PAGE, WRITE, NULL), 0);
	CHECK_EQ(iof_access_replace(e1.access, ioas), 0);
	CHECK_EQ(iof_access_replace(e1.access, other), -EADDRINUSE);
	CHECK_EQ(e1.calls, 0);
	CHECK_EQ(e1.n_pins, 1);
	CHECK_EQ(unmap(ctx, other, 0x10800, 0x800, NULL), 0);
	CHECK_EQ(iof_access_replace(e1.access, other), 0);
	CHECK_EQ(e1.calls, 1);
	CHECK_EQ(e1.last_iova, 0);
	CHECK_EQ(e1.last_length, UINT64_MAX);
	CHECK_EQ(e1.n_pins, 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf + PAGE), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	CHECK_EQ(destroy(ctx, other), -EBUSY);
	teardown();
}

/* What a replace does in another thread is seen from inside its call-back: no pins, no attach, but unpins. */
static int in_callback[4];

static void probing_unmap(void *data, uint64_t iova, uint64_t length)
{
	struct emu *e = data;
	char c;

	(void)iova;
	(void)length;
	in_callback[0] = iof_access_pin(e->access, 0x10000, PAGE, READ, NULL);
	in_callback[1] = iof_access_attach(e->access, ioas);
	in_callback[2] = iof_access_rw(e->access, 0x10000, &c, 1, 0);
	in_callback[3] = iof_access_unpin(e->access, 0x10000, PAGE);
}

TEST(an_access_that_is_leaving)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = true, .unmap = probing_unmap };
	char *buf = pages_of(1);
	struct emu e = { 0 };

	setup_plain();
	cfg.data = &e;
	CHECK_EQ(iof_access_open(ctx, &cfg, &e.access), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, PAGE, RW), 0);
	CHECK_EQ(iof_access_attach(e.access, ioas), 0);
	CHECK_EQ(iof_access_pin(e.access, 0x10000, PAGE, READ, NULL), 0);
	iof_access_detach(e.access);
	CHECK_EQ(in_callback[0], -ENOENT);
	CHECK_EQ(in_callback[1], -EBUSY);
	CHECK_EQ(in_callback[2], -ENOENT);
	CHECK_EQ(in_callback[3], 0);
	iof_access_destroy(e.access);
	teardown();
}

TEST(at_most_65536_to_an_ioas)
{
	struct iof_access_config cfg = { .size = sizeof(cfg) };
	static struct iof_access *a[IOF_ACCESS_MAX + 1];

	setup_plain();
	for (unsigned i = 0; i <= IOF_ACCESS_MAX; i++)
		CHECK_EQ(iof_access_open(ctx, &cfg, &a[i]), 0);
	for (unsigned i = 0; i < IOF_ACCESS_MAX; i++)
		CHECK_EQ(iof_access_attach(a[i], ioas), 0);
	CHECK_EQ(iof_access_attach(a[IOF_ACCESS_MAX], ioas), -EBUSY);
	iof_access_detach(a[7]);
	CHECK_EQ(iof_access_attach(a[IOF_ACCESS_MAX], ioas), 0);
	CHECK_EQ(iof_access_attach(a[7], ioas), -EBUSY);
	for (unsigned i = 0; i <= IOF_ACCESS_MAX; i++)
		iof_access_destroy(a[i]);
	teardown();
}

/* ---- pin: R7.6 ---- */

TEST(pin_in_order_of_errors)
{
	char *buf = pages_of(8);
	uint64_t iova = 0x30000;
	struct emu no_pins;

	setup_plain();
	CHECK_EQ(emu_open(&no_pins, ctx, false), 0);
	CHECK_EQ(iof_access_pin(no_pins.access, UINT64_MAX, 2, READ, NULL), -EINVAL);
	iof_access_destroy(no_pins.access);
	CHECK_EQ(iof_access_pin(e1.access, 0, 0, READ, NULL), -EINVAL);
	CHECK_EQ(iof_access_pin(e1.access, UINT64_MAX, 2, READ, NULL), -EOVERFLOW);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, PAGE, READ, NULL), -ENOENT);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, PAGE, READ, NULL), -ENOENT);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, PAGE, IOF_MAP_READABLE), 0);
	CHECK_EQ(map_fixed(ioas, 0x11000, buf, PAGE, IOF_MAP_WRITEABLE), 0);
	/* misaligned wins over permission */
	CHECK_EQ(iof_access_pin(e1.access, 0x10001, 8, WRITE, NULL), -EINVAL);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, PAGE, WRITE, NULL), -EPERM);
	CHECK_EQ(iof_access_pin(e1.access, 0x11000, PAGE, READ, NULL), -EPERM);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, 2 * PAGE, READ, NULL), -EPERM);
	/* a whole page need not be asked for, but its beginning */
	CHECK_EQ(emu_pin(&e1, 0x10000, 8, READ, NULL), 0);
	CHECK_EQ(emu_pin(&e1, 0x11000, PAGE - 1, WRITE, NULL), 0);
	/* a gap after a good piece */
	CHECK_EQ(iof_access_pin(e1.access, 0x11000, 2 * PAGE, WRITE, NULL), -ENOENT);
	/* a container that was made read-only stays so for copies; the copy itself is refused then */
	CHECK_EQ(copy(ctx, ioas, ioas, 0x10000, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), -EPERM);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(emu_unpin(&e1), 0);
	CHECK_EQ(emu_unpin(&e1), 0);
	teardown();
}

/* A pin goes on from area to area, whatever order their pages are in. */
TEST(a_pin_spans_areas)
{
	char *buf = pages_of(4);
	uint64_t address[4];

	setup_plain();
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf + 2 * PAGE, 2 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x12000, buf, PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x13000, buf + PAGE, PAGE, IOF_MAP_READABLE), 0);
	CHECK_EQ(iof_access_pin(e1.access, 0x11800, PAGE, READ, NULL), -EINVAL);
	CHECK_EQ(iof_access_pin(e1.access, 0x11000, 3 * PAGE, WRITE, NULL), -EPERM);
	CHECK_EQ(emu_pin(&e1, 0x11000, 2 * PAGE + 1, READ, address), 0);
	CHECK_EQ(address[0], (uintptr_t)buf + 3 * PAGE);
	CHECK_EQ(address[1], (uintptr_t)buf);
	CHECK_EQ(address[2], (uintptr_t)buf + PAGE);
	CHECK_EQ(unmap(ctx, ioas, 0x12000, PAGE, NULL), 0);
	CHECK_EQ(e1.n_pins, 0);
	CHECK_EQ(e1.calls, 1);
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(e1.calls, 1);
	teardown();
}

TEST(a_pin_is_all_or_nothing)
{
	char *buf = pages_of(4);

	setup(IOF_POLICY_PROBE, IOF_ADDRESSES_SYNTHETIC);
	munmap(buf + 3 * PAGE, PAGE);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x12000, buf + 2 * PAGE, 2 * PAGE, RW), 0);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, 4 * PAGE, READ, NULL), -EFAULT);
	CHECK(iof_machine_is_valid(m));
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf + i * PAGE), 0);
	/* nothing counts as pinned: an unmap asks nobody */
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(e1.calls, 0);
	teardown();
}

TEST(an_unpin_must_match)
{
	char *buf = pages_of(4);

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_attach(e2.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 4 * PAGE, RW), 0);
	CHECK_EQ(iof_access_unpin(e1.access, 0x10000, PAGE), -ENOENT);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, 2 * PAGE, READ, NULL), 0);
	CHECK_EQ(iof_access_pin(e1.access, 0x10000, 2 * PAGE, READ, NULL), 0);
	CHECK_EQ(iof_access_unpin(e1.access, 0x10000, PAGE), -ENOENT);
	CHECK_EQ(iof_access_unpin(e2.access, 0x10000, 2 * PAGE), -ENOENT);
	CHECK_EQ(iof_access_unpin(e1.access, 0x10000, 2 * PAGE), 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 1);
	CHECK_EQ(iof_access_unpin(e1.access, 0x10000, 2 * PAGE), 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 0);
	CHECK_EQ(iof_access_unpin(e1.access, 0x10000, 2 * PAGE), -ENOENT);
	teardown();
}

TEST(pins_left_behind_are_given_back)
{
	char *buf = pages_of(4);

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 4 * PAGE, RW), 0);
	e1.stubborn = true;
	for (unsigned i = 0; i < 40; i++)
		CHECK_EQ(iof_access_pin(e1.access, 0x10000 + i % 3 * PAGE, PAGE, READ, NULL), 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 1);
	CHECK_EQ(iof_access_replace(e1.access, other), 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf), 0);
	CHECK_EQ(destroy(ctx, ioas), 0);
	teardown();
}

/* ---- pin counts: appendix A.6 ---- */

static char *counted;

static int64_t pins(unsigned page)
{
	return iof_machine_pins(m, (uintptr_t)counted + page * PAGE);
}

TEST(pin_counts_of_appendix_a6)
{
	struct iof_handle *dev, *dev2;
	uint32_t dev_id, hwpt;
	uint64_t to = 0x20000;

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	counted = pages_of(4);
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(iof_engine_open_device(m, 1, &dev2), 0);
	CHECK_EQ(bind_device(dev, ctx, &dev_id), 0);
	CHECK_EQ(bind_device(dev2, ctx, NULL), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, counted, 4 * PAGE, RW), 0);
	CHECK_EQ(pins(0), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(pins(0), 1);
	CHECK_EQ(hwpt_alloc(ctx, dev_id, ioas, &hwpt), 0);
	CHECK_EQ(pins(3), 1);
	CHECK_EQ(attach(dev2, other, NULL), 0);
	CHECK_EQ(copy(ctx, other, ioas, 0x10000, 4 * PAGE, RW | IOF_MAP_FIXED_IOVA, &to), 0);
	CHECK_EQ(pins(0), 1);
	CHECK_EQ(unmap(ctx, other, to, 4 * PAGE, NULL), 0);
	CHECK_EQ(map_fixed(other, 0x10000, counted, 4 * PAGE, RW), 0);
	CHECK_EQ(pins(0), 2);
	CHECK_EQ(unmap(ctx, other, 0x10000, 4 * PAGE, NULL), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(emu_pin(&e1, 0x10000, 2 * PAGE, READ, NULL), 0);
	CHECK_EQ(pins(0), 1);
	/* R7.8: the last table leaves, the pinned pages stay */
	CHECK_EQ(destroy(ctx, hwpt), 0);
	CHECK_EQ(detach(dev), 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(pins(0), 1);
	CHECK_EQ(pins(1), 1);
	CHECK_EQ(pins(2), 0);
	CHECK_EQ(emu_unpin(&e1), 0);
	CHECK_EQ(pins(0), 0);
	/* a copy in a domain outlives the original */
	CHECK_EQ(copy(ctx, other, ioas, 0x10000, 4 * PAGE, RW | IOF_MAP_FIXED_IOVA, &to), 0);
	CHECK_EQ(unmap(ctx, ioas, 0x10000, 4 * PAGE, NULL), 0);
	CHECK_EQ(pins(0), 1);
	iof_close(dev2);
	iof_close(dev);
	teardown();
}

/* The page addresses of a pin are those a page table shows, and equal for two views of one page. */
TEST(addresses_are_the_page_tables)
{
	struct iof_handle *dev;
	uint64_t address[4], seen[4], iovas[4];
	uint32_t hwpt;

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	counted = pages_of(4);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, counted, 4 * PAGE, RW), 0);
	CHECK_EQ(emu_pin(&e1, 0x10000, 4 * PAGE, WRITE, address), 0);
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(bind_device(dev, ctx, NULL), 0);
	CHECK_EQ(attach(dev, ioas, &hwpt), 0);
	for (unsigned i = 0; i < 4; i++)
		iovas[i] = 0x10000 + i * PAGE;
	CHECK_EQ(iof_translate(ctx, hwpt, 4, iovas, seen, NULL), 4);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(address[i], seen[i]);
	CHECK_EQ(emu_unpin(&e1), 0);
	iof_close(dev);
	teardown();
}

/* ---- notification: R3.7 step 4, R7.5 ---- */

TEST(an_unmap_asks_everybody_in_order)
{
	char *buf = pages_of(4);
	uint64_t bytes;

	setup(IOF_POLICY_TRUST, IOF_ADDRESSES_SYNTHETIC);
	/* registration ids, not object ids: e2 comes first */
	CHECK_EQ(iof_access_attach(e2.access, ioas), 0);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x20000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(emu_pin(&e1, 0x21000, PAGE, READ, NULL), 0);
	CHECK_EQ(unmap(ctx, ioas, 0, 0x30000, &bytes), 0);
	CHECK_EQ(bytes, 4 * PAGE);
	CHECK_EQ(e1.calls, 1);
	CHECK_EQ(e2.calls, 1);
	CHECK_EQ(e1.last_iova, 0x20000);
	CHECK_EQ(e1.last_length, 2 * PAGE);
	CHECK(e2.order < e1.order);
	CHECK_EQ(e1.n_pins, 0);
	CHECK_EQ(iof_machine_pins(m, (uintptr_t)buf + PAGE), 0);
	teardown();
}

TEST(who_does_not_let_go)
{
	char *buf = pages_of(4), c = 0;
	uint64_t bytes;

	setup_plain();
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x20000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(emu_pin(&e1, 0x20000, PAGE, READ, NULL), 0);
	/* sticking out is said before anybody is asked */
	CHECK_EQ(unmap(ctx, ioas, 0x20000, PAGE, NULL), -ENOENT);
	CHECK_EQ(e1.calls, 0);
	e1.stubborn = true;
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, &bytes), -EDEADLOCK);
	CHECK_EQ(e1.calls, 101);
	CHECK_EQ(unmap(ctx, ioas, 0x10000, PAGE, NULL), -ENOENT);
	/* the area is there and may not be used any more */
	CHECK_EQ(iof_access_pin(e1.access, 0x21000, PAGE, READ, NULL), -EINVAL);
	CHECK_EQ(iof_access_rw(e1.access, 0x21000, &c, 1, IOF_ACCESS_READ), -EINVAL);
	CHECK_EQ(map_fixed(ioas, 0x20000, buf, PAGE, RW), -EEXIST);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(emu_unpin(&e1), 0);
	CHECK_EQ(unmap(ctx, ioas, 0x20000, 2 * PAGE, NULL), 0);
	teardown();
}

TEST(a_quick_unmap_leaves_accesses_to_the_slow_one)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .iova = 0x10000, .length = PAGE };
	char *buf = pages_of(1);

	setup_plain();
	c.ioas_id = ioas;
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, PAGE, RW), 0);
	CHECK_EQ(iof_ioctl_nowait(ctx, IOF_CMD_IOAS_UNMAP, &c), -EAGAIN);
	iof_access_detach(e1.access);
	CHECK_EQ(iof_ioctl_nowait(ctx, IOF_CMD_IOAS_UNMAP, &c), 0);
	teardown();
}

/* Internal accesses (HW queues) lock instead: through the floor below, as the engine uses them. */
TEST(an_internal_access_locks_its_areas)
{
	struct iof_access_options opt = { .needs_pin = true, .internal = true };
	struct iof_context *c;
	struct iof_access *a;
	char *buf = pages_of(4);

	setup_plain();
	c = iofi_engine(ctx)->file.ctx;
	iof_lock_take(&c->control);
	CHECK_EQ(iof_access_make(c, &opt, &a), 0);
	CHECK_EQ(iof_access_attach(a, ioas), 0);
	iof_lock_drop(&c->control);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, 0x12000, buf, PAGE, RW), 0);
	CHECK_EQ(iof_access_pin(a, 0x10000, PAGE, READ, NULL), 0);
	CHECK_EQ(emu_pin(&e1, 0x10000, PAGE, READ, NULL), 0);
	CHECK_EQ(unmap(ctx, ioas, 0x11000, PAGE, NULL), -EBUSY); /* before "sticks out" */
	CHECK_EQ(unmap(ctx, ioas, 0x12000, PAGE, NULL), 0);
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), -EBUSY);
	CHECK_EQ(e1.calls, 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(iof_access_unpin(a, 0x10000, PAGE), 0);
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(e1.calls, 1);
	iof_lock_take(&c->control);
	iof_access_destroy(a);
	iof_lock_drop(&c->control);
	teardown();
}

/* ---- read and write: R7.4 ---- */

TEST(rw_in_order_of_errors)
{
	char *buf = pages_of(4), *small = malloc(64);

	setup_plain();
	CHECK_EQ(iof_access_rw(e1.access, 0, small, 0, 0), -EINVAL);
	CHECK_EQ(iof_access_rw(e1.access, UINT64_MAX, small, 2, 0), -EOVERFLOW);
	CHECK_EQ(iof_access_rw(e1.access, 0x10000, small, 1, 0), -ENOENT);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_rw(e1.access, 0x10000, small, 1, 0), -ENOENT);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, PAGE, IOF_MAP_READABLE), 0);
	CHECK_EQ(map_fixed(ioas, 0x11000, buf + PAGE, PAGE, IOF_MAP_WRITEABLE), 0);
	CHECK_EQ(iof_access_rw(e1.access, 0x10000, small, 1, IOF_ACCESS_WRITE), -EPERM);
	CHECK_EQ(iof_access_rw(e1.access, 0x11000, small, 1, IOF_ACCESS_READ), -EPERM);
	CHECK_EQ(iof_access_rw(e1.access, 0x10000, (void *)8, 1, IOF_ACCESS_READ), -EFAULT);
	/* what came before the gap is there */
	memset(buf + PAGE, 0, PAGE);
	memset(small, 'w', 64);
	CHECK_EQ(iof_access_rw(e1.access, 0x11ff0, small, 64, IOF_ACCESS_WRITE), -ENOENT);
	CHECK_EQ(buf[PAGE + 0xfff], 'w');
	CHECK_EQ(buf[PAGE + 0xfef], 0);
	munmap(buf + PAGE, PAGE);
	CHECK_EQ(iof_access_rw(e1.access, 0x11000, small, 1, IOF_ACCESS_WRITE), -EFAULT);
	free(small);
	teardown();
}

/*
 * Every offset around a page's edge, small lengths, both ways and both directions; the areas are not congruent to the
 * pages.
 */
static void sweep_edges(uint64_t shift)
{
	char *buf = pages_of(4), want[64], got[64];
	uint64_t seed = 77 + shift, base = 0x10000;

	/* two areas that meet in the middle; an access that does not pin leaves the alignment at 1 */
	struct emu reader;

	setup_plain();
	CHECK_EQ(emu_open(&reader, ctx, false), 0);
	CHECK_EQ(map_fixed(ioas, base + shift, buf, 2 * PAGE, RW), 0);
	CHECK_EQ(map_fixed(ioas, base + shift + 2 * PAGE, buf + 2 * PAGE, 2 * PAGE, RW), 0);
	CHECK_EQ(iof_access_attach(reader.access, ioas), 0);
	for (uint64_t at = 2 * PAGE - 50; at < 2 * PAGE + 50; at++)
		for (unsigned n = 1; n < 64; n++) {
			uint32_t slow = n & 1 ? IOF_ACCESS_SLOW : 0;

			for (unsigned i = 0; i < n; i++)
				want[i] = (char)check_random(&seed);
			CHECK_EQ(iof_access_rw(reader.access, base + shift + at, want, n, IOF_ACCESS_WRITE | slow), 0);
			CHECK(!memcmp(buf + at, want, n));
			CHECK_EQ(iof_access_rw(reader.access, base + shift + at, got, n, IOF_ACCESS_READ | slow), 0);
			CHECK(!memcmp(got, want, n));
		}
	iof_access_destroy(reader.access);
	munmap(buf, 4 * PAGE);
	teardown();
}

TEST(rw_at_every_offset)
{
	sweep_edges(0);
	sweep_edges(2048);
	sweep_edges(1);
}

TEST(rw_of_a_whole_buffer)
{
	enum { N = 900 };
	char *buf = pages_of(N), *got = malloc(N * PAGE);
	uint64_t seed = 5;

	setup_plain();
	for (size_t i = 0; i < N * PAGE; i += 8)
		*(uint64_t *)(buf + i) = check_random(&seed);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(map_fixed(ioas, 0x10000, buf, N * PAGE, RW), 0);
	CHECK_EQ(iof_access_rw(e1.access, 0x10001, got, N * PAGE - 1, IOF_ACCESS_READ), 0);
	CHECK(!memcmp(buf + 1, got, N * PAGE - 1));
	free(got);
	munmap(buf, N * PAGE);
	teardown();
}

/* ---- the log of pins against a plain table ---- */

TEST(pinlog_model)
{
	enum { KEYS = 200, STEPS = 20000 };
	static uint64_t model[KEYS];
	struct iof_pinlog log = { 0 };
	uint64_t seed = 42;

	memset(model, 0, sizeof(model));
	iof_alloc_init_heap(&heap);
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t r = check_random(&seed), k = r % (1 + step % KEYS);

		/* few different IOVAs: long chains */
		if (r >> 63) {
			CHECK_EQ(iofi_pinlog_reserve(&log, &heap), 0);
			iofi_pinlog_add(&log, k / 16 * PAGE, k);
			model[k]++;
		} else {
			CHECK_EQ(iofi_pinlog_remove(&log, k / 16 * PAGE, k), model[k] > 0);
			model[k] -= model[k] > 0;
		}
		for (unsigned i = 0; step % 97 == 0 && i < KEYS; i++)
			CHECK_EQ(iofi_pinlog_count(&log, i / 16 * PAGE, i), model[i]);
	}
	iofi_pinlog_fini(&log, &heap);
	CHECK_EQ(heap.live_blocks, 0);
}

/* ---- every failure ---- */

static int pin_steps(char *buf)
{
	uint64_t digest, after, address[6];
	char got[32];
	int rc;

	rc = iof_access_attach(e1.access, ioas);
	rc = rc ? rc : iof_access_attach(e2.access, ioas);
	rc = rc ? rc : map_fixed(ioas, 0x10000, buf, 3 * PAGE, RW);
	rc = rc ? rc : map_fixed(ioas, 0x13000, buf + 3 * PAGE, 3 * PAGE, RW);
	if (rc)
		return rc;
	iof_digest(ctx, &digest);
	rc = emu_pin(&e1, 0x11000, 4 * PAGE, READ, address);
	iof_digest(ctx, &after);
	CHECK_EQ(rc == 0, digest != after);
	rc = rc ? rc : emu_pin(&e1, 0x10000, 6 * PAGE, READ, address);
	rc = rc ? rc : emu_pin(&e2, 0x10000, PAGE, WRITE, address);
	rc = rc ? rc : iof_access_rw(e2.access, 0x12ff0, got, 32, IOF_ACCESS_READ);
	rc = rc ? rc : iof_access_rw(e2.access, 0x12ff0, got, 32, IOF_ACCESS_WRITE | IOF_ACCESS_SLOW);
	rc = rc ? rc : iof_access_rw(e2.access, 0x12000, got, 32, IOF_ACCESS_WRITE | IOF_ACCESS_SLOW);
	rc = rc ? rc : emu_unpin(&e1);
	rc = rc ? rc : iof_access_replace(e2.access, other);
	return rc ? rc : unmap(ctx, ioas, 0x10000, 3 * PAGE, NULL);
}

static void sweep(enum iof_addresses addresses)
{
	char *buf = pages_of(6);
	int failures = 0, rc = -1, injected = 0;

	for (int64_t n = 1; rc; n++) {
		setup(IOF_POLICY_PROBE, addresses);
		iof_alloc_fail_nth(&heap, n);
		rc = pin_steps(buf);
		injected += rc == -EINVAL;
		iof_alloc_fail_nth(&heap, 0);
		CHECK(rc == 0 || rc == -ENOMEM || rc == -ENOENT || rc == -EFAULT || rc == -EINVAL);
		failures += rc != 0;
		teardown();
	}
	CHECK(failures > 15);
	CHECK(injected >= 3); /* half-way through noting pages, and a single page's slow copy */
	munmap(buf, 6 * PAGE);
}

TEST(every_failure_is_rolled_back)
{
	sweep(IOF_ADDRESSES_VA);
	sweep(IOF_ADDRESSES_SYNTHETIC);
}

/* ---- threads ---- */

static atomic_bool stop;
static _Atomic unsigned long done[4];
static char *shared_buf;

/* Pins, looks, unpins: whatever it got must be all there, and every errno one of the contract's. */
static void *pinner(void *arg)
{
	struct emu *e = arg;
	uint64_t seed = (uintptr_t)e | 1, address[4];
	int rc;

	while (!atomic_load(&stop)) {
		uint64_t page = check_random(&seed) % 4, n = 1 + check_random(&seed) % (4 - page);

		rc = emu_pin(e, 0x10000 + page * PAGE, n * PAGE, WRITE, address);
		if (!rc)
			atomic_fetch_add(&done[0], 1);
		else if (rc != -ENOENT && rc != -EINVAL)
			return (void *)1;
		for (uint64_t i = 0; !rc && i < n; i++)
			if (address[i] != (uintptr_t)shared_buf + (page + i) * PAGE)
				return (void *)2;
		if (!rc && (page || n == 4))
			emu_unpin(e);
	}
	return NULL;
}

static void *copier(void *arg)
{
	struct emu *e = arg;
	static char got[3 * PAGE], w[3 * PAGE];
	int rc;

	memset(w, 'w', sizeof(w));
	for (uint64_t at = 0; !atomic_load(&stop); at = (at + 509) % (4 * PAGE - sizeof(w))) {
		rc = iof_access_rw(e->access, 0x10000 + at, at & 1 ? got : w, sizeof(w),
				   at & 1 ? IOF_ACCESS_READ : IOF_ACCESS_WRITE);
		if (!rc)
			atomic_fetch_add(&done[1], 1);
		else if (rc != -ENOENT && rc != -EINVAL)
			return (void *)3;
	}
	return NULL;
}

/* The page after an unmap belongs to us alone: what we put there stays. */
static bool is_quiet(void)
{
	for (unsigned i = 4; i--;) /* backwards: a late copy writes forwards and meets it */
		memset(shared_buf + i * PAGE, 'q', PAGE);
	for (volatile int i = 0; i < 500; i++)
		;
	for (size_t i = 0; i < 4 * PAGE; i++)
		if (shared_buf[i] != 'q')
			return false;
	return true;
}

/*
 * Two mappings side by side, so that pins span areas; an unmap must always get its way, and is quiet when it returns.
 */
static void *mapper(void *arg)
{
	uint64_t bytes;

	(void)arg;
	while (!atomic_load(&stop)) {
		if (map_fixed(ioas, 0x10000, shared_buf, 2 * PAGE, RW) ||
		    map_fixed(ioas, 0x12000, shared_buf + 2 * PAGE, 2 * PAGE, RW))
			return (void *)4;
		for (volatile int i = 0; i < 2000; i++)
			;
		if (unmap(ctx, ioas, 0x10000, 4 * PAGE, &bytes) || bytes != 4 * PAGE)
			return (void *)5;
		if (!is_quiet())
			return (void *)8;
		atomic_fetch_add(&done[2], 1);
	}
	return NULL;
}

/* Sends the copier's access to another IOAS and back. */
static void *mover(void *arg)
{
	struct emu *e = arg;

	for (unsigned i = 0; !atomic_load(&stop); i++) {
		if (iof_access_replace(e->access, i & 1 ? ioas : other))
			return (void *)6;
		atomic_fetch_add(&done[3], 1);
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL); /* let the copier have it for a while */
	}
	return iof_access_replace(e->access, ioas) ? (void *)7 : NULL;
}

TEST(unmap_against_pins_and_copies)
{
	void *(*const fn[])(void *) = { pinner, copier, mapper, mover };
	pthread_t thread[4];
	void *result[4];

	setup_plain();
	shared_buf = pages_of(4);
	atomic_store(&stop, false);
	CHECK_EQ(iof_access_attach(e1.access, ioas), 0);
	CHECK_EQ(iof_access_attach(e2.access, ioas), 0);
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&done[i], 0);
		CHECK_EQ(pthread_create(&thread[i], NULL, fn[i], i == 0 ? &e1 : &e2), 0);
	}
	for (unsigned tries = 0; tries < 2000; tries++) {
		struct timespec t = { .tv_nsec = 10000000 };

		nanosleep(&t, NULL);
		if (done[0] > 3000 && done[1] > 3000 && done[2] > 1000 && done[3] > 200)
			break;
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], &result[i]);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ((uintptr_t)result[i], 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK(atomic_load(&done[i]) > 20);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(unmap(ctx, ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(e1.n_pins, 0);
	munmap(shared_buf, 4 * PAGE);
	teardown();
}
