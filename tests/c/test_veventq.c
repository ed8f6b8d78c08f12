/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * The event queue of a vIOMMU: its command, its stream to the byte, sequence numbers and losses, producers against a
 * reader.
 */
#include <pthread.h>

#include "check.h"
#include "events.h"

#define TYPE 0xbeefbeef

static struct iof_alloc heap;
static struct iof_machine *m;
static struct iof_handle *ctx, *file;
static struct iof_hwpt parent = { .kind = IOF_HWPT_KIND_NEST_PARENT };
static struct iof_viommu *v;
static struct iof_veventq *q;
static uint32_t id;
static int fd;

/* A vIOMMU with nothing in it but what a queue needs. */
static void setup_viommu(void)
{
	struct iof_objects *t;

	iof_alloc_init_heap(&heap);
	m = machine_with(IOF_PRESET_INTEL, NULL, 0, &heap);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	t = &context_behind(ctx)->objects;
	v = iof_mem_zget(&heap, sizeof(*v), 16);
	v->parent = &parent;
	iof_lock_init(&v->lock, false);
	CHECK_EQ(iof_object_reserve(t, &v->object, IOF_OBJECT_VIOMMU), 0);
	iof_object_publish(&v->object);
}

static void open_queue(uint32_t depth)
{
	CHECK_EQ(veventq_alloc(ctx, v->object.id, TYPE, depth, &id, &fd), 0);
	CHECK_EQ(iof_file_handle(m, fd, &file), 0);
	q = object_of(ctx, id, IOF_OBJECT_VEVENTQ);
	CHECK(q);
}

static void setup(uint32_t depth)
{
	setup_viommu();
	open_queue(depth);
}

static void teardown_viommu(void)
{
	CHECK(iof_machine_is_valid(m));
	CHECK(!v->queues);
	CHECK_EQ(iof_object_remove(&context_behind(ctx)->objects, &v->object), 0);
	iof_mem_put(&heap, v, sizeof(*v));
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(iof_object_users(&v->object), 2);
	iof_close(file);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(destroy(ctx, id), 0);
	teardown_viommu();
}

static int report(uint32_t value)
{
	return iof_veventq_report(v, TYPE, &value, sizeof(value));
}

struct entry {
	uint32_t flags, sequence, value;
};

/* ---- VEVENTQ_ALLOC ---- */

TEST(alloc_checks)
{
	struct iof_cmd_veventq_alloc good, c;
	struct iof_handle *h;
	uint32_t other;
	int other_fd;

	setup_viommu();
	good = (struct iof_cmd_veventq_alloc){ .size = sizeof(good), .viommu_id = v->object.id, .type = TYPE,
					       .veventq_depth = 2 };
#define EXPECT(rc, ...)                                                                                                \
	do {                                                                                                           \
		c = good;                                                                                              \
		__VA_ARGS__;                                                                                           \
		CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, &c), rc);                                               \
	} while (0)
	EXPECT(-EINVAL, c.size = 27);
	EXPECT(-EOPNOTSUPP, c.flags = 1, c.veventq_depth = 0);
	EXPECT(-EOPNOTSUPP, c.reserved = 1, c.veventq_depth = 0);
	EXPECT(-EOPNOTSUPP, c.type = 0, c.veventq_depth = 0);
	EXPECT(-EINVAL, c.veventq_depth = 0, c.viommu_id = 99);
	EXPECT(-EINVAL, c.veventq_depth = (1u << 19) + 1, c.viommu_id = 99);
	EXPECT(-ENOENT, c.viommu_id = 99);
	EXPECT(-ENOENT, c.viommu_id = 0);
	/* Beyond a size of 28, `reserved` is not looked at. */
	EXPECT(0, c.size = 28, c.reserved = 77, c.veventq_depth = 1u << 19);
	id = c.out_veventq_id;
	CHECK_EQ(id, 2);
	CHECK(c.out_veventq_fd >= 3);
	CHECK_EQ(iof_file_handle(m, (int)c.out_veventq_fd, &file), 0);
	EXPECT(-EEXIST, );
	EXPECT(-ENOENT, c.viommu_id = id);
	CHECK_EQ(veventq_alloc(ctx, v->object.id, 1, 1, &other, &other_fd), 0); /* another type */
	CHECK_EQ(iof_object_users(&v->object), 3);
	CHECK_EQ(iof_file_handle(m, other_fd, &h), 0);
	CHECK_EQ(destroy(ctx, other), -EBUSY);
	iof_close(h);
	CHECK_EQ(destroy(ctx, other), 0);
	teardown();
#undef EXPECT
}

TEST(alloc_is_undone_when_its_answer_is_lost)
{
	struct iof_cmd_veventq_alloc c;
	unsigned before;
	void *lost;

	setup_viommu();
	c = (struct iof_cmd_veventq_alloc){ .size = sizeof(c), .viommu_id = v->object.id, .type = TYPE,
					    .veventq_depth = 2 };
	lost = read_only(&c, sizeof(c));
	before = open_descriptors();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, lost), -EFAULT);
	CHECK_EQ(open_descriptors(), before);
	CHECK_EQ(iof_object_users(&v->object), 1);
	CHECK(!v->queues);
	CHECK_EQ(report(1), -EOPNOTSUPP);
	munmap(lost, PAGE);
	open_queue(1);
	CHECK_EQ(id, 2);
	teardown();
}

/* ---- the stream ---- */

TEST(events_to_the_byte)
{
	struct entry e[4];
	char got[24];

	setup(4);
	CHECK_EQ(iof_read(file, got, 8), 0);
	CHECK_EQ(iof_read(file, got, 0), -EINVAL);
	CHECK_EQ(iof_read(file, got, 7), -EINVAL);
	CHECK_EQ(report(0x99), 0);
	CHECK_EQ(iof_veventq_report(v, TYPE + 1, "", 0), -EOPNOTSUPP);
	CHECK_EQ(iof_read(file, got, 0), -EINVAL);
	CHECK_EQ(iof_read(file, got, 8), -EINVAL);
	CHECK_EQ(iof_read(file, got, 11), -EINVAL);
	memset(got, 0x5a, sizeof(got));
	CHECK_EQ(iof_read(file, got, 13), 12);
	CHECK(!memcmp(got, (uint32_t[3]){ 0, 0, 0x99 }, 12) && !memcmp(got + 12, "ZZZZZZZZZZZZ", 12));
	for (uint32_t i = 1; i <= 4; i++)
		CHECK_EQ(report(i), 0);
	CHECK_EQ(iof_read(file, e, 35), 24);
	CHECK(e[0].sequence == 1 && e[1].sequence == 2 && e[1].value == 2);
	CHECK_EQ(iof_read(file, e, sizeof(e)), 24);
	CHECK(e[0].sequence == 3 && e[1].sequence == 4 && e[1].value == 4);
	CHECK_EQ(iof_write(file, e, 8), -EINVAL);
	CHECK_EQ(iof_pwrite(file, e, 8, 8), -EINVAL);
	CHECK_EQ(iof_pread(file, e, 4, 8), -ESPIPE);
	CHECK_EQ(iof_pread(file, e, 12, 0), 0);
	teardown();
}

TEST(events_of_any_size)
{
	static const uint32_t sizes[] = { 0, 1, 16, 32, 44, 45, 300 };
	char data[300], got[1024], *at = got;
	size_t total = 0;

	setup(16);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	for (unsigned i = 0; i < 7; i++) {
		CHECK_EQ(iof_veventq_report(v, TYPE, data, sizes[i]), 0);
		total += 8 + sizes[i];
	}
	CHECK(iof_veventq_is_valid(q));
	CHECK_EQ(iof_read(file, got, total - 1), total - 308);
	CHECK_EQ(iof_read(file, got + total - 308, 307), -EINVAL);
	CHECK_EQ(iof_read(file, got + total - 308, 308), 308);
	for (uint32_t i = 0; i < 7; at += 8 + sizes[i++])
		CHECK(!memcmp(at, (uint32_t[2]){ 0, i }, 8) && !memcmp(at + 8, data, sizes[i]));
	CHECK_EQ(iof_veventq_report(v, TYPE, data, 300), 0); /* left to the destroy */
	teardown();
}

/* ---- losses ---- */

/* The rule's own example: three events in a queue of two. */
TEST(a_full_queue_loses)
{
	uint32_t got[9];

	setup(2);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(report(i), 0);
	CHECK_EQ(iof_read(file, got, sizeof(got)), 32);
	CHECK(!memcmp(got, (uint32_t[]){ 0, 0, 0, 0, 1, 1, IOF_VEVENT_LOST, 2 }, 32));
	CHECK(!rings(fd));
	CHECK_EQ(iof_read(file, got, 8), 0);
	CHECK_EQ(report(3), 0);
	CHECK_EQ(iof_read(file, got, 12), 12);
	CHECK(got[0] == 0 && got[1] == 3 && got[2] == 3);
	teardown();
}

TEST(the_marker_is_one_and_last)
{
	uint32_t got[12];

	setup(2);
	for (uint32_t i = 0; i < 6; i++)
		CHECK_EQ(report(i), 0);
	CHECK_EQ(iof_read(file, got, 31), 24); /* the marker does not fit */
	CHECK(rings(fd));
	CHECK_EQ(iof_poll(file), READABLE);
	CHECK_EQ(iof_read(file, got, 8), 8);
	CHECK(got[0] == IOF_VEVENT_LOST && got[1] == 5);
	CHECK_EQ(iof_read(file, got, 8), 0);
	for (uint32_t i = 6; i < 9; i++)
		CHECK_EQ(report(i), 0);
	CHECK_EQ(iof_read(file, got, 12), 12); /* room for one: the marker of 8 goes when 9 comes */
	CHECK_EQ(report(9), 0);
	CHECK_EQ(iof_read(file, got, sizeof(got)), 24);
	CHECK(got[1] == 7 && got[4] == 9 && !got[3]);
	teardown();
}

TEST(no_memory_loses_too)
{
	uint32_t got[8];

	setup(8);
	iof_alloc_fail_nth(&heap, 1);
	CHECK_EQ(report(0), -ENOMEM);
	CHECK(rings(fd));
	CHECK_EQ(iof_read(file, got, 12), 8);
	CHECK(got[0] == IOF_VEVENT_LOST && got[1] == 0);
	iof_alloc_fail_nth(&heap, 1);
	CHECK_EQ(report(1), -ENOMEM);
	CHECK_EQ(report(2), 0);
	CHECK_EQ(iof_read(file, got, 32), 12);
	CHECK(got[0] == 0 && got[1] == 2);
	teardown();
}

TEST(sequence_wraps)
{
	struct entry e[2];

	setup(2);
	q->sequence = INT32_MAX;
	CHECK_EQ(report(1), 0);
	CHECK_EQ(report(2), 0);
	CHECK_EQ(iof_read(file, e, sizeof(e)), 24);
	CHECK(e[0].sequence == INT32_MAX && e[1].sequence == 0);
	teardown();
}

TEST(read_faults_leave_the_event)
{
	char *edge = edge_new();
	struct entry e[2];

	setup(2);
	CHECK_EQ(report(1), 0);
	CHECK_EQ(report(2), 0);
	CHECK_EQ(iof_read(file, edge, 24), -EFAULT);
	CHECK_EQ(iof_read(file, edge - 10, 24), -EFAULT);
	CHECK_EQ(iof_read(file, edge - 20, 24), 12);
	CHECK_EQ(report(3), 0); /* one slot is free again, and only one */
	CHECK_EQ(report(4), 0);
	CHECK_EQ(iof_read(file, e, sizeof(e)), 24);
	CHECK(e[0].value == 2 && e[1].value == 3);
	CHECK_EQ(iof_read(file, edge - 4, 8), -EFAULT);
	CHECK(rings(fd));
	CHECK_EQ(iof_read(file, edge - 8, 8), 8);
	memcpy(e, edge - 8, 8);
	CHECK(e[0].flags == IOF_VEVENT_LOST && e[0].sequence == 3);
	CHECK(!rings(fd));
	edge_free(edge);
	teardown();
}

/* A model of the stream: random reports, failures and reads against a list that follows the rules in words. */
TEST(stream_against_a_model)
{
	struct entry model[64], got[64], *e;
	uint64_t seed = 0xe7e27;
	uint32_t n = 0, events = 0, sequence = 0;

	setup(5);
	for (unsigned step = 0; step < 20000; step++) {
		if (check_random(&seed) % 3) {
			bool fail = check_random(&seed) % 8 == 0 && events < 5;

			if (fail)
				iof_alloc_fail_nth(&heap, 1);
			CHECK_EQ(report(step), fail ? -ENOMEM : 0);
			n -= n && model[n - 1].flags; /* re-placed, or overtaken */
			model[n++] = events == 5 || fail ? (struct entry){ IOF_VEVENT_LOST, sequence, 0 } :
							   (struct entry){ 0, sequence, step };
			events += !model[n - 1].flags;
			sequence++;
		} else {
			size_t room = 8 + check_random(&seed) % 40, done = 0;
			uint32_t taken = 0;
			int64_t rc = iof_read(file, got, room);

			for (; taken < n && done + (model[taken].flags ? 8 : 12) <= room; taken++) {
				e = (struct entry *)((char *)got + done);
				CHECK(e->flags == model[taken].flags && e->sequence == model[taken].sequence);
				CHECK(e->flags || e->value == model[taken].value);
				done += e->flags ? 8 : 12;
				events -= !e->flags;
			}
			CHECK_EQ(rc, done ? (int64_t)done : n ? -EINVAL : 0);
			memmove(model, model + taken, (n - taken) * sizeof(*model));
			n -= taken;
		}
		CHECK_EQ(rings(fd), n != 0);
		CHECK(step % 100 || iof_veventq_is_valid(q));
	}
	teardown();
}

/* ---- failures, threads ---- */

TEST(every_step_of_alloc_can_fail)
{
	unsigned descriptors = open_descriptors();
	bool over = false;
	uint64_t before, after;
	int64_t n;
	int rc;

	for (n = 1; !over; n++) {
		setup_viommu();
		CHECK_EQ(iof_digest(ctx, &before), 0);
		iof_alloc_fail_nth(&heap, n);
		rc = veventq_alloc(ctx, v->object.id, TYPE, 2, &id, &fd);
		over = iof_alloc_fail_nth(&heap, 0) > 0;
		CHECK_EQ(rc, over ? 0 : n == 1 ? -ENOENT : -ENOMEM); /* the look-up is the first step */
		if (over) {
			CHECK_EQ(iof_file_handle(m, fd, &file), 0);
			teardown();
		} else {
			CHECK_EQ(iof_digest(ctx, &after), 0);
			CHECK(before == after);
			teardown_viommu();
		}
		CHECK_EQ(open_descriptors(), descriptors);
	}
	CHECK(n > 4);
}

TEST(the_file_keeps_the_context)
{
	struct iof_context *c;

	setup(2);
	c = context_behind(ctx);
	CHECK_EQ(report(5), 0);
	iof_close(ctx);
	CHECK_EQ(iof_read(file, (struct entry[1]){ 0 }, 12), 12);
	iof_context_ref(c);
	iof_close(file);
	CHECK_EQ(iof_context_destroy(c, id), 0);
	CHECK_EQ(iof_object_remove(&c->objects, &v->object), 0);
	iof_mem_put(&heap, v, sizeof(*v));
	iof_context_unref(c);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

#define REPORTS 20000

static void *produce(void *arg)
{
	for (uint32_t i = 0; i < REPORTS; i++)
		if (report((uint32_t)(uintptr_t)arg << 24 | i))
			abort();
	return NULL;
}

/* Sequence numbers ascend, and every gap is one that losses explain: in the end each report is an event or was lost. */
TEST(producers_and_a_reader)
{
	struct entry got[32], one;
	uint32_t next = 0, value[2] = { 0 }, events = 0;
	struct pollfd p;
	pthread_t t[2];
	char *at;

	setup(64);
	p = (struct pollfd){ .fd = iof_poll_fd(file), .events = POLLIN };
	for (uintptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, produce, (void *)i), 0);
	while (next < 2 * REPORTS) {
		int64_t n;

		CHECK_EQ(poll(&p, 1, 20000), 1);
		n = iof_read(file, got, sizeof(got));
		CHECK(n > 0);
		for (at = (char *)got; at < (char *)got + n; at += one.flags ? 8 : 12) {
			memcpy(&one, at, at + 12 <= (char *)got + n ? 12 : 8);
			CHECK(one.sequence >= next);
			next = one.sequence + 1;
			if (one.flags)
				continue;
			CHECK((one.value & 0xffffff) >= value[one.value >> 24]);
			value[one.value >> 24] = (one.value & 0xffffff) + 1;
			events++;
		}
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	CHECK(events > 0 && q->sequence == 2 * REPORTS);
	CHECK(!rings(fd));
	teardown();
}
