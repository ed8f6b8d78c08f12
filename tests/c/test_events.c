/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Open files as descriptors, and the fault queue: to the byte, every failure, producers against a reader. */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "check.h"
#include "events.h"

static struct iof_alloc heap;
static struct iof_machine *m;
static struct iof_handle *ctx, *file;
static struct iof_fault *fault;
static uint32_t fault_id;
static int fault_fd;

static void setup_machine(void)
{
	uint32_t groups[] = { 1, 1 };

	iof_alloc_init_heap(&heap);
	m = machine_with(IOF_PRESET_INTEL, groups, 2, &heap);
	CHECK(m);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
}

static void setup(void)
{
	setup_machine();
	CHECK_EQ(fault_alloc(ctx, &fault_id, &fault_fd), 0);
	CHECK_EQ(iof_file_handle(m, fault_fd, &file), 0);
	fault = object_of(ctx, fault_id, IOF_OBJECT_FAULT);
	CHECK(fault);
}

static void teardown_machine(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	CHECK_EQ(atomic_load(&heap.live_bytes), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(file);
	teardown_machine();
}

/* ---- raising faults ---- */

struct raiser { /* what one raiser has heard */
	unsigned answers;
	uint32_t pasid, grpid, code;
};

static void heard(void *who, uint32_t pasid, uint32_t grpid, uint32_t code)
{
	*(struct raiser *)who = (struct raiser){ ((struct raiser *)who)->answers + 1, pasid, grpid, code };
}

static struct iof_fault_request request(struct raiser *who, uint32_t grpid, uint64_t addr, bool last)
{
	return (struct iof_fault_request){ .endpoint = who, .answer = heard, .who = who, .dev_id = 77,
					   .flags = last ? IOF_FAULT_LAST_PAGE : 0, .grpid = grpid,
					   .perm = IOF_FAULT_READ | IOF_FAULT_WRITE, .addr = addr };
}

static int raise_page(struct raiser *who, uint32_t grpid, uint64_t addr, bool last)
{
	struct iof_fault_request rq = request(who, grpid, addr, last);

	return iof_fault_report(fault, &rq);
}

static int raise_group(struct raiser *who, uint32_t grpid, unsigned pages)
{
	int rc = 0;

	for (unsigned i = 1; i <= pages && !rc; i++)
		rc = raise_page(who, grpid, i * PAGE, i == pages);
	return rc;
}

static int64_t answer(uint32_t cookie, uint32_t code)
{
	struct iof_fault_response r = { cookie, code };

	return iof_write(file, &r, sizeof(r));
}

/* ---- numbers ---- */

TEST(numbers_are_descriptors)
{
	struct iof_handle *dev, *found;
	int numbers[3];

	setup();
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	numbers[0] = iof_fileno(ctx);
	numbers[1] = iof_fileno(dev);
	numbers[2] = iof_fileno(file);
	CHECK_EQ(numbers[2], fault_fd);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(numbers[i] >= 3);
		CHECK_EQ(fcntl(numbers[i], F_GETFD), FD_CLOEXEC);
		CHECK(fcntl(numbers[i], F_GETFL) & O_NONBLOCK);
		CHECK(numbers[i] != numbers[(i + 1) % 3]);
	}
	CHECK_EQ(iof_file_handle(m, numbers[0], &found), 0);
	CHECK(found == ctx);
	CHECK_EQ(iof_file_handle(m, numbers[1], &found), 0);
	CHECK(found == dev);
	CHECK_EQ(iof_file_handle(m, numbers[2], &found), 0);
	CHECK(found == file);
	iof_close(dev);
	CHECK_EQ(fcntl(numbers[1], F_GETFD), -1);
	CHECK_EQ(iof_file_handle(m, numbers[1], &found), -EBADF);
	CHECK_EQ(iof_file_handle(m, -1, &found), -EBADF);
	CHECK_EQ(iof_file_handle(m, INT32_MAX, &found), -EBADF);
	teardown();
}

TEST(numbers_are_never_the_standard_streams)
{
	int saved = dup(0);
	struct iof_handle *second;

	setup_machine();
	close(0);
	CHECK_EQ(fault_alloc(ctx, &fault_id, &fault_fd), 0);
	CHECK_EQ(iof_engine_open(m, &second), 0);
	CHECK_EQ(fcntl(0, F_GETFD), -1);
	CHECK_EQ(dup2(saved, 0), 0);
	close(saved);
	CHECK(fault_fd >= 3 && iof_fileno(second) >= 3);
	CHECK_EQ(fcntl(fault_fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(iof_file_handle(m, fault_fd, &file), 0);
	iof_close(second);
	teardown();
}

TEST(bind_wants_a_context)
{
	struct iof_handle *dev;
	struct iof_cmd_bind c = { .argsz = sizeof(c) };
	int gone;

	setup();
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	c.iommufd = fault_fd;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EBADFD);
	gone = fault_fd;
	iof_close(file);
	c.iommufd = gone;
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), -EBADF);
	c.iommufd = iof_fileno(ctx);
	CHECK_EQ(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &c), 0);
	iof_close(dev);
	teardown_machine();
}

TEST(many_files_find_themselves)
{
	struct iof_handle *h[300], *found;

	setup_machine();
	for (unsigned i = 0; i < 300; i++)
		CHECK_EQ(iof_engine_open(m, &h[i]), 0);
	for (unsigned i = 0; i < 300; i += 2)
		iof_close(h[i]);
	for (unsigned i = 1; i < 300; i += 2) {
		CHECK_EQ(iof_file_handle(m, iof_fileno(h[i]), &found), 0);
		CHECK(found == h[i]);
		iof_close(h[i]);
	}
	teardown_machine();
}

/* A program's dup() and close(): the file goes on under the duplicate's number. */
TEST(renumber)
{
	struct raiser a = { 0 };
	struct iof_handle *found;
	int other;

	setup();
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	other = fcntl(fault_fd, F_DUPFD_CLOEXEC, 100);
	iof_file_renumber(&iofi_engine(file)->file, other);
	close(fault_fd);
	CHECK_EQ(iof_fileno(file), other);
	CHECK_EQ(iof_file_handle(m, fault_fd, &found), -EBADF);
	CHECK_EQ(iof_file_handle(m, other, &found), 0);
	CHECK(found == file && rings(other));
	CHECK_EQ(iof_fault_read(fault, (uintptr_t)&(struct iof_fault_record){ 0 }, 40), 40);
	CHECK(!rings(other));
	CHECK_EQ(raise_group(&a, 2, 1), 0);
	CHECK(rings(other));
	teardown();
	CHECK_EQ(fcntl(other, F_GETFD), -1);
}

/* ---- FAULT_QUEUE_ALLOC ---- */

TEST(alloc_checks_its_struct)
{
	struct {
		struct iof_cmd_fault_queue_alloc c;
		uint32_t more[2];
	} c = { .c = { .size = sizeof(c.c), .flags = 1 } };

	setup_machine();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), -EOPNOTSUPP);
	c.c = (struct iof_cmd_fault_queue_alloc){ .size = sizeof(c.c) - 1 };
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), -EINVAL);
	c.c.size = sizeof(c);
	c.more[1] = 1;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), -E2BIG);
	c.more[1] = 0;
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), 0);
	CHECK_EQ(c.c.out_fault_id, 1);
	CHECK_EQ(iof_file_handle(m, (int)c.c.out_fault_fd, &file), 0);
	teardown();
}

TEST(alloc_is_undone_when_its_answer_is_lost)
{
	struct iof_cmd_fault_queue_alloc c = { .size = sizeof(c) };
	void *lost = read_only(&c, sizeof(c));
	unsigned before;
	uint64_t d1, d2;

	setup_machine();
	CHECK_EQ(iof_digest(ctx, &d1), 0);
	before = open_descriptors();
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, lost), -EFAULT);
	CHECK_EQ(open_descriptors(), before);
	CHECK_EQ(iof_digest(ctx, &d2), 0);
	CHECK(d1 == d2);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), 0);
	CHECK_EQ(c.out_fault_id, 1);
	CHECK_EQ(iof_file_handle(m, (int)c.out_fault_fd, &file), 0);
	munmap(lost, PAGE);
	teardown();
}

TEST(alloc_when_descriptors_run_out)
{
	struct rlimit few = { 128, 128 }, before;
	int last = 3, first, fd;

	setup_machine();
	getrlimit(RLIMIT_NOFILE, &before);
	few.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &few);
	first = fcntl(0, F_DUPFD, 0);
	for (fd = first; fd >= 0; fd = fcntl(0, F_DUPFD, 0))
		last = fd;
	CHECK_EQ(fault_alloc(ctx, &fault_id, &fault_fd), -EMFILE);
	CHECK_EQ(iof_engine_open(m, &file), -EMFILE);
	CHECK_EQ(iof_engine_open_device(m, 0, &file), -EMFILE);
	for (fd = first; fd <= last; fd++)
		if (fd != iof_fileno(ctx))
			close(fd);
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK_EQ(fault_alloc(ctx, &fault_id, &fault_fd), 0);
	CHECK_EQ(fault_id, 1);
	CHECK_EQ(iof_file_handle(m, fault_fd, &file), 0);
	teardown();
}

TEST(destroy_wants_the_file_closed)
{
	setup();
	CHECK_EQ(destroy(ctx, fault_id), -EBUSY);
	iof_close(file);
	CHECK_EQ(destroy(ctx, fault_id), 0);
	CHECK_EQ(destroy(ctx, fault_id), -ENOENT);
	teardown_machine();
}

/* R1.1.5: the context lives as long as the file, and goes with it. */
TEST(the_file_keeps_the_context)
{
	struct raiser a = { 0 };

	setup();
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	iof_close(ctx);
	iof_machine_put(m);
	CHECK_EQ(iof_read(file, &(struct iof_fault_record){ 0 }, 40), 40);
	CHECK_EQ(a.answers, 0);
	iof_close(file);
	CHECK_EQ(a.answers, 1);
	CHECK_EQ(a.code, IOF_FAULT_INVALID);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

/* ---- reading ---- */

TEST(one_record_to_the_byte)
{
	struct raiser a = { 0 };
	struct iof_fault_request rq = request(&a, 0x01020304, 0x1112131415161718, true);
	const uint32_t want[10] = { 3, 0x55, 0xabcde, 0x01020304, 13, 0, 0x15161718, 0x11121314, 0, 1 };
	char got[48];

	setup();
	rq.flags |= IOF_FAULT_PASID_VALID;
	rq.dev_id = 0x55;
	rq.pasid = 0xabcde;
	rq.perm = IOF_FAULT_READ | IOF_FAULT_EXEC | IOF_FAULT_PRIV;
	CHECK_EQ(iof_fault_report(fault, &rq), 0);
	memset(got, 0x5a, sizeof(got));
	CHECK_EQ(iof_read(file, got, 40), 40);
	CHECK(!memcmp(got, want, 40));
	CHECK(!memcmp(got + 40, "ZZZZZZZZ", 8));
	CHECK_EQ(answer(1, IOF_FAULT_SUCCESS), 8);
	CHECK_EQ(a.answers, 1);
	CHECK_EQ(a.pasid, 0xabcde);
	CHECK_EQ(a.grpid, 0x01020304);
	CHECK_EQ(a.code, IOF_FAULT_SUCCESS);
	teardown();
}

TEST(read_sizes)
{
	struct iof_fault_record r[8];
	struct raiser a = { 0 };

	setup();
	CHECK_EQ(iof_read(file, r, 0), 0);
	CHECK_EQ(iof_read(file, r, 40), 0);
	CHECK_EQ(iof_read(file, r, 39), -ESPIPE);
	CHECK_EQ(raise_group(&a, 1, 3), 0);
	CHECK_EQ(raise_group(&a, 2, 1), 0);
	CHECK_EQ(raise_group(&a, 3, 2), 0);
	CHECK_EQ(iof_read(file, r, 0), -EINVAL);
	CHECK_EQ(iof_read(file, r, 41), -ESPIPE);
	CHECK_EQ(iof_read(file, r, 40), -EINVAL);
	CHECK_EQ(iof_read(file, r, 80), -EINVAL);
	CHECK_EQ(iof_read(file, r, 200), 160); /* 3 + 1, and the 2 do not fit */
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(r[i].addr, (i + 1) * PAGE);
		CHECK_EQ(r[i].flags, i == 2 ? IOF_FAULT_LAST_PAGE : 0);
		CHECK_EQ(r[i].cookie, 1);
		CHECK_EQ(r[i].grpid, 1);
	}
	CHECK_EQ(r[3].grpid, 2);
	CHECK_EQ(r[3].cookie, 2);
	CHECK_EQ(iof_read(file, r, 40), -EINVAL);
	CHECK_EQ(iof_read(file, r, sizeof(r)), 80);
	CHECK_EQ(r[1].cookie, 3);
	CHECK_EQ(iof_read(file, r, 40), 0);
	CHECK_EQ(answer(1, 0), 8);
	CHECK_EQ(a.answers, 1); /* one for the three */
	teardown();
}

TEST(pages_wait_for_the_last)
{
	struct iof_fault_record r[6];
	struct raiser a = { 0 }, b = { 0 };

	setup();
	CHECK_EQ(raise_page(&a, 1, 0x1000, false), 0);
	CHECK_EQ(raise_page(&b, 1, 0x2000, false), 0); /* another endpoint, same id */
	CHECK_EQ(raise_page(&a, 2, 0x3000, false), 0); /* another id */
	CHECK_EQ(raise_page(&a, 1, 0x4000, false), 0);
	CHECK(!rings(fault_fd));
	CHECK_EQ(iof_poll(file), POLLOUT);
	CHECK_EQ(iof_read(file, r, 40), 0);
	CHECK(iof_fault_is_valid(fault));
	CHECK_EQ(raise_page(&a, 1, 0x5000, true), 0);
	CHECK(rings(fault_fd));
	CHECK_EQ(raise_page(&b, 1, 0x6000, true), 0);
	CHECK_EQ(iof_read(file, r, sizeof(r)), 200);
	CHECK(r[0].addr == 0x1000 && r[1].addr == 0x4000 && r[2].addr == 0x5000);
	CHECK(r[3].addr == 0x2000 && r[4].addr == 0x6000);
	CHECK(r[2].cookie == 1 && r[3].cookie == 2);
	teardown();
}

/* More endpoints and groups than there are places to keep them in: nobody's pages end up in another's group. */
TEST(many_partial_groups_stay_apart)
{
	struct raiser who[50] = { 0 };
	struct iof_fault_record r[3];

	setup();
	for (uint32_t page = 0; page < 3; page++)
		for (uint32_t i = 0; i < 400; i++)
			CHECK_EQ(raise_page(&who[i / 8], i % 8 * 32, i * PAGE + page, page == 2), 0);
	for (uint32_t i = 0; i < 400; i++) {
		CHECK_EQ(iof_read(file, r, sizeof(r)), 120);
		for (uint32_t page = 0; page < 3; page++)
			CHECK(r[page].addr == i * PAGE + page && r[page].grpid == i % 8 * 32);
		CHECK_EQ(answer(r[0].cookie, 0), 8);
		CHECK_EQ(who[i / 8].answers, i % 8 + 1);
	}
	teardown();
}

TEST(read_faults_leave_the_group_queued)
{
	struct iof_fault_record r[4];
	char *edge = edge_new();
	struct raiser a = { 0 };

	setup();
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	CHECK_EQ(raise_group(&a, 2, 2), 0);
	CHECK_EQ(iof_read(file, edge, 400), -EFAULT);
	CHECK_EQ(iof_read(file, edge - 20, 400), -EFAULT);
	CHECK(rings(fault_fd));
	CHECK_EQ(iof_read(file, edge - 80, 400), 40); /* the second's first record fits, its second does not */
	memcpy(r, edge - 80, 40);
	CHECK(r[0].grpid == 1 && r[0].cookie == 1);
	CHECK(rings(fault_fd));
	CHECK_EQ(iof_read(file, (void *)(UINT64_MAX - 39), 400), -EFAULT);
	CHECK_EQ(iof_read(file, r, sizeof(r)), 80);
	CHECK(r[0].grpid == 2 && r[0].cookie == 2 && r[1].cookie == 2); /* the lowest, in spite of the attempts */
	edge_free(edge);
	teardown();
}

/* ---- cookies ---- */

TEST(cookies_are_the_lowest_free)
{
	struct iof_fault_record r[8];
	struct raiser a = { 0 };

	setup();
	for (uint32_t i = 0; i < 5; i++)
		CHECK_EQ(raise_group(&a, i, 1), 0);
	CHECK_EQ(iof_read(file, r, 200), 200);
	CHECK_EQ(answer(4, 0), 8);
	CHECK_EQ(answer(2, 0), 8);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(raise_group(&a, i, 1), 0);
	CHECK_EQ(iof_read(file, r, 120), 120);
	CHECK(r[0].cookie == 2 && r[1].cookie == 4 && r[2].cookie == 6);
	teardown();
}

TEST(cookies_against_a_model)
{
	static bool out[2000];
	uint64_t seed = 0x5eed;
	struct raiser a = { 0 };
	uint32_t live = 0, want, pick;

	memset(out, 0, sizeof(out));
	setup();
	for (unsigned step = 0; step < 20000; step++) {
		struct iof_fault_record r;
		bool more = check_random(&seed) % 16 < (step / 2500 % 2 ? 6 : 10);

		if (more && live < 1500) {
			for (want = 1; out[want]; want++)
				;
			CHECK_EQ(raise_group(&a, step, 1), 0);
			CHECK_EQ(iof_read(file, &r, 40), 40);
			CHECK_EQ(r.cookie, want);
			out[want] = true;
			live++;
		} else if (live) {
			for (pick = 1 + (uint32_t)(check_random(&seed) % 1999); !out[pick]; pick = pick % 1999 + 1)
				;
			CHECK_EQ(answer(pick, 0), 8);
			CHECK_EQ(answer(pick, 0), -EINVAL);
			out[pick] = false;
			live--;
		}
		CHECK(step % 500 || iof_fault_is_valid(fault));
	}
	CHECK_EQ(iofi_cookies_live(&fault->outstanding), live);
	teardown();
}

/* ---- answering ---- */

TEST(write_rules)
{
	struct iof_fault_record r[4];
	struct iof_fault_response w[4] = { { 1, IOF_FAULT_SUCCESS }, { 2, IOF_FAULT_INVALID }, { 3, 2 }, { 3, 0 } };
	char *edge = edge_new();
	struct raiser a = { 0 }, b = { 0 }, c = { 0 };

	setup();
	CHECK_EQ(iof_write(file, w, 0), 0);
	CHECK_EQ(iof_write(file, NULL, 0), 0);
	CHECK_EQ(iof_write(file, w, 7), -ESPIPE);
	CHECK_EQ(iof_write(file, w, 9), -ESPIPE);
	CHECK_EQ(iof_write(file, NULL, 8), -EFAULT);
	CHECK_EQ(iof_write(file, w, 8), -EINVAL); /* nothing is outstanding */
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	CHECK_EQ(raise_group(&b, 2, 1), 0);
	CHECK_EQ(raise_group(&c, 3, 1), 0);
	CHECK_EQ(iof_write(file, w, 8), -EINVAL); /* queued is not outstanding */
	CHECK_EQ(iof_read(file, r, sizeof(r)), 120);
	CHECK_EQ(answer(0, 0), -EINVAL);
	CHECK_EQ(answer(4, 0), -EINVAL);
	CHECK_EQ(answer(UINT32_MAX, 0), -EINVAL);
	CHECK_EQ(answer(1, 2), -EINVAL);
	CHECK_EQ(a.answers, 0);
	CHECK_EQ(iof_write(file, w, sizeof(w)), 16); /* the third has a bad code, the fourth is not looked at */
	CHECK(a.answers == 1 && a.code == IOF_FAULT_SUCCESS);
	CHECK(b.answers == 1 && b.code == IOF_FAULT_INVALID);
	CHECK_EQ(c.answers, 0);
	memcpy(edge - 8, &w[3], 8);
	CHECK_EQ(iof_write(file, edge - 8, 16), 8); /* then the memory ends */
	CHECK_EQ(c.answers, 1);
	CHECK_EQ(iof_write(file, edge, 16), -EFAULT);
	edge_free(edge);
	teardown();
}

/* A raiser's function runs with no lock held: it may raise the next fault into the same queue. */
static void raise_again(void *who, uint32_t pasid, uint32_t grpid, uint32_t code)
{
	heard(who, pasid, grpid, code);
	if (raise_page(who, grpid + 1, 0, true))
		abort();
}

TEST(answers_come_without_a_lock)
{
	struct raiser a = { 0 };
	struct iof_fault_request rq = request(&a, 1, 0, true);
	struct iof_fault_record r;

	setup();
	rq.answer = raise_again;
	CHECK_EQ(iof_fault_report(fault, &rq), 0);
	CHECK_EQ(iof_read(file, &r, 40), 40);
	CHECK_EQ(answer(1, 0), 8);
	CHECK_EQ(iof_read(file, &r, 40), 40);
	CHECK_EQ(r.grpid, 2);
	CHECK_EQ(iof_fault_report(fault, &rq), 0);
	iof_fault_drop(fault, &a);
	CHECK_EQ(a.answers, 3);
	CHECK(rings(fault_fd));
	CHECK_EQ(iof_read(file, &r, 40), 40);
	CHECK(r.grpid == 2 && r.cookie == 1);
	teardown();
}

TEST(nobody_wants_to_know)
{
	struct raiser a = { 0 };
	struct iof_fault_request rq = request(&a, 1, 0, true);

	setup();
	rq.answer = NULL;
	CHECK_EQ(iof_fault_report(fault, &rq), 0);
	CHECK_EQ(iof_fault_report(fault, &rq), 0);
	CHECK_EQ(iof_read(file, &(struct iof_fault_record){ 0 }, 40), 40);
	CHECK_EQ(answer(1, 0), 8);
	iof_fault_drop(fault, &a);
	CHECK_EQ(a.answers, 0);
	teardown();
}

/* ---- dropping ---- */

TEST(drop_answers_and_forgets_one_endpoint)
{
	struct iof_fault_record r[8];
	struct raiser a = { 0 }, b = { 0 };

	setup();
	for (uint32_t i = 0; i < 4; i++)
		CHECK_EQ(raise_group(i % 2 ? &b : &a, i, 2), 0);
	CHECK_EQ(iof_read(file, r, 160), 160); /* one of each */
	CHECK_EQ(raise_page(&a, 9, 0, false), 0);
	CHECK_EQ(raise_page(&b, 9, 0x7000, false), 0);
	iof_fault_drop(fault, &a);
	CHECK(iof_fault_is_valid(fault));
	CHECK_EQ(a.answers, 2);
	CHECK_EQ(a.code, IOF_FAULT_INVALID);
	CHECK_EQ(b.answers, 0);
	CHECK_EQ(answer(1, 0), -EINVAL);
	CHECK_EQ(answer(2, 0), 8);
	CHECK_EQ(b.answers, 1);
	CHECK(rings(fault_fd));
	CHECK_EQ(raise_page(&a, 9, 0x8000, true), 0); /* its first page was dropped */
	CHECK_EQ(raise_page(&b, 9, 0x9000, true), 0);
	CHECK_EQ(iof_read(file, r, sizeof(r)), 200);
	CHECK(r[0].grpid == 3 && r[2].addr == 0x8000 && r[3].addr == 0x7000 && r[4].addr == 0x9000);
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	CHECK(rings(fault_fd));
	iof_fault_drop(fault, &a);
	CHECK(!rings(fault_fd));
	CHECK_EQ(iof_poll(file), POLLOUT);
	CHECK_EQ(iof_read(file, r, 40), 0);
	iof_fault_drop(fault, &fault);
	teardown();
}

TEST(destroy_answers_all)
{
	struct raiser a = { 0 }, b = { 0 };

	setup();
	CHECK_EQ(raise_group(&a, 1, 3), 0);
	CHECK_EQ(raise_group(&b, 2, 1), 0);
	CHECK_EQ(raise_page(&b, 3, 0, false), 0);
	CHECK_EQ(iof_read(file, (struct iof_fault_record[3]){ 0 }, 120), 120);
	iof_close(file);
	CHECK_EQ(a.answers + b.answers, 0);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(destroy(ctx, fault_id), 0);
	CHECK(a.answers == 1 && a.code == IOF_FAULT_INVALID);
	CHECK(b.answers == 1 && b.code == IOF_FAULT_INVALID && b.grpid == 2);
	teardown_machine();
}

/* ---- the descriptor ---- */

TEST(the_descriptor_follows_the_queue)
{
	struct iof_fault_record r[4];
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	struct raiser a = { 0 };
	int ep = epoll_create1(0);

	setup();
	CHECK_EQ(iof_poll_fd(file), fault_fd);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fault_fd, &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, 0), 0);
	for (unsigned round = 0; round < 3; round++) {
		CHECK(!rings(fault_fd));
		CHECK_EQ(iof_poll(file), POLLOUT);
		CHECK_EQ(raise_group(&a, 1, 1), 0);
		CHECK_EQ(raise_group(&a, 2, 1), 0);
		CHECK_EQ(epoll_wait(ep, &e, 1, 0), 1);
		CHECK(rings(fault_fd));
		CHECK_EQ(iof_poll(file), POLLOUT | READABLE);
		CHECK_EQ(iof_read(file, r, 40), 40);
		CHECK(rings(fault_fd));
		CHECK_EQ(iof_read(file, r, 160), 40);
		CHECK(!rings(fault_fd));
	}
	close(ep);
	teardown();
}

TEST(files_without_that)
{
	struct iof_handle *dev;
	uint64_t word = 0;
	void *p;

	setup();
	CHECK_EQ(iof_engine_open_device(m, 0, &dev), 0);
	CHECK_EQ(iof_poll(ctx), READABLE | POLLOUT | POLLWRNORM);
	CHECK_EQ(iof_poll(dev), READABLE | POLLOUT | POLLWRNORM);
	CHECK_EQ(iof_poll_fd(ctx), -EOPNOTSUPP);
	CHECK_EQ(iof_read(ctx, &word, 8), -EINVAL);
	CHECK_EQ(iof_write(dev, &word, 8), -EINVAL);
	CHECK_EQ(iof_ioctl(file, IOF_CMD_IOAS_ALLOC, &word), -ENOTTY);
	CHECK_EQ(iof_ioctl_nowait(file, IOF_CMD_IOAS_MAP, &word), -ENOTTY);
	CHECK_EQ(iof_mmap(file, PAGE, PROT_READ, MAP_SHARED, 0, &p), -ENODEV);
	CHECK_EQ(iof_mmap(file, PAGE, PROT_EXEC, MAP_SHARED, 0, &p), -EPERM);
	CHECK_EQ(iof_digest(file, &word), -EOPNOTSUPP);
	iof_close(dev);
	teardown();
}

TEST(positions)
{
	struct iof_fault_record r;
	struct iof_fault_response w = { 1, 0 };
	struct raiser a = { 0 };

	setup();
	CHECK_EQ(raise_group(&a, 1, 1), 0);
	CHECK_EQ(iof_pread(file, &r, 40, 40), -ESPIPE);
	CHECK_EQ(iof_pread(file, &r, 40, UINT64_MAX), -EINVAL);
	CHECK_EQ(iof_pread(file, &r, 40, 0), 40);
	CHECK_EQ(iof_pwrite(file, &w, 8, 1), -ESPIPE);
	CHECK_EQ(iof_pwrite(file, &w, 8, 0), 8);
	CHECK_EQ(iof_read(file, &r, SIZE_MAX - 15), -EINVAL); /* a negative count, to the kernel */
	CHECK_EQ(iof_write(file, &r, SIZE_MAX - 7), -EINVAL);
	CHECK_EQ(iof_read(file, &r, (size_t)INT64_MAX / 40 * 40), -ESPIPE); /* cut to no multiple of 40 */
	teardown();
}

/* ---- failures ---- */

/* A passing sequence with its n-th fallible step failing. What failed left the state as it was; repeated, it passes. */
static void passing_sequence(struct raiser *a)
{
	struct iof_fault_record r[70];
	uint64_t before, after;
	int rc;

#define TRY(expr)                                                                                                      \
	do {                                                                                                           \
		CHECK_EQ(iof_digest(ctx, &before), 0);                                                                 \
		rc = (int)(expr);                                                                                      \
		if (rc < 0) {                                                                                          \
			CHECK_EQ(rc, -ENOMEM);                                                                         \
			CHECK_EQ(iof_digest(ctx, &after), 0);                                                          \
			CHECK(before == after && iof_machine_is_valid(m));                                             \
			rc = (int)(expr);                                                                              \
		}                                                                                                      \
		CHECK(rc >= 0);                                                                                        \
	} while (0)

	TRY(fault_alloc(ctx, &fault_id, &fault_fd));
	CHECK_EQ(iof_file_handle(m, fault_fd, &file), 0);
	fault = iofi_engine(file)->file.object;
	for (uint32_t i = 0; i < 70; i++) {
		if (i % 16 == 0)
			TRY(raise_page(a, i, 0x1000, false));
		if (i % 16)
			TRY(raise_page(a, i, 0x2000, true));
	}
	for (uint32_t n = 0; n < 65 * 40; n += (uint32_t)rc)
		TRY(iof_read(file, r, 40 * 13));
	CHECK_EQ(iofi_cookies_live(&fault->outstanding), 65);
	for (uint32_t c = 1; c <= 65; c++)
		CHECK_EQ(answer(c, 0), 8);
#undef TRY
}

TEST(every_step_can_fail)
{
	unsigned descriptors = open_descriptors();
	bool over = false;
	int64_t n;

	for (n = 1; !over; n++) {
		struct raiser a = { 0 };

		setup_machine();
		iof_alloc_fail_nth(&heap, n);
		passing_sequence(&a);
		over = iof_alloc_fail_nth(&heap, 0) > 0;
		CHECK_EQ(a.answers, 65);
		teardown();
		CHECK_EQ(open_descriptors(), descriptors);
	}
	CHECK(n > 70);
}

/* With its last page, a group that cannot be taken is gone: whoever raised it answers. */
TEST(a_last_page_without_memory_takes_the_group_with_it)
{
	struct raiser a = { 0 };
	struct iof_fault_stats s;

	setup();
	CHECK_EQ(raise_page(&a, 1, 0x1000, false), 0);
	CHECK_EQ(raise_page(&a, 1, 0x2000, false), 0);
	iof_alloc_fail_nth(&heap, 1);
	CHECK_EQ(raise_page(&a, 1, 0x3000, true), -ENOMEM);
	iof_fault_stats(fault, &s);
	CHECK_EQ(s.partial + s.queued, 0);
	CHECK_EQ(a.answers, 0);
	CHECK(!rings(fault_fd));
	teardown();
}

/* ---- threads ---- */

#define PRODUCERS 3
#define GROUPS 3000

struct producer {
	pthread_t thread;
	_Atomic uint32_t answered;
	uint32_t index;
};

static void count_answer(void *who, uint32_t pasid, uint32_t grpid, uint32_t code)
{
	(void)pasid, (void)grpid, (void)code;
	atomic_fetch_add(&((struct producer *)who)->answered, 1);
}

static void *produce(void *arg)
{
	struct producer *p = arg;

	for (uint32_t i = 0; i < GROUPS; i++)
		for (uint32_t page = 0; page <= i % 3; page++) {
			struct iof_fault_request rq = { .endpoint = p, .answer = count_answer, .who = p,
							.dev_id = p->index, .grpid = i, .addr = page,
							.flags = page == i % 3 ? IOF_FAULT_LAST_PAGE : 0 };

			if (iof_fault_report(fault, &rq))
				abort();
		}
	return NULL;
}

/*
 * Reads and answers all that comes, sleeping in poll(2): a missed bell would be a time-out. Groups are whole, and in
 * order.
 */
static bool consume(uint32_t want)
{
	struct iof_fault_record r[64];
	struct iof_fault_response w[64];
	struct pollfd p = { .fd = iof_poll_fd(file), .events = POLLIN };
	uint32_t next[PRODUCERS] = { 0 }, page[PRODUCERS] = { 0 }, seen = 0;

	while (seen < want) {
		uint32_t answers = 0;
		int64_t n;

		if (poll(&p, 1, 20000) != 1)
			return false;
		n = iof_read(file, r, sizeof(r)) / 40;
		for (int64_t i = 0; i < n; i++) {
			uint32_t who = r[i].dev_id;

			if (r[i].grpid != next[who] || r[i].addr != page[who]++)
				return false;
			if (!(r[i].flags & IOF_FAULT_LAST_PAGE))
				continue;
			next[who]++;
			page[who] = 0;
			w[answers++] = (struct iof_fault_response){ r[i].cookie, IOF_FAULT_SUCCESS };
		}
		if (iof_write(file, w, answers * 8) != answers * 8)
			return false;
		seen += answers;
	}
	return true;
}

TEST(producers_and_a_reader)
{
	static struct producer p[PRODUCERS];
	bool ok;

	setup();
	for (uint32_t i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){ .index = i };
		CHECK_EQ(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
	}
	ok = consume(PRODUCERS * GROUPS);
	for (uint32_t i = 0; i < PRODUCERS; i++)
		pthread_join(p[i].thread, NULL);
	CHECK(ok);
	for (uint32_t i = 0; i < PRODUCERS; i++)
		CHECK_EQ(atomic_load(&p[i].answered), GROUPS);
	CHECK(!rings(fault_fd));
	teardown();
}

/* Everything at once: two readers that answer at random, drops of an endpoint. Every group is answered exactly once. */
static void *read_and_answer(void *arg)
{
	_Atomic bool *stop = arg;
	struct iof_fault_record r[16];
	uint64_t seed = (uintptr_t)&seed;

	while (!atomic_load(stop)) {
		int64_t n = iof_read(file, r, sizeof(r)) / 40;

		for (int64_t i = 0; i < n; i++)
			if (r[i].flags & IOF_FAULT_LAST_PAGE && check_random(&seed) % 4)
				(void)answer(r[i].cookie, check_random(&seed) & 1);
	}
	return NULL;
}

TEST(drops_among_readers)
{
	static struct producer p[2];
	pthread_t readers[2];
	_Atomic bool stop = false;

	setup();
	for (uint32_t i = 0; i < 2; i++) {
		p[i] = (struct producer){ .index = i };
		CHECK_EQ(pthread_create(&readers[i], NULL, read_and_answer, &stop), 0);
		CHECK_EQ(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
	}
	for (unsigned i = 0; i < 200; i++)
		iof_fault_drop(fault, &p[i % 2]);
	for (uint32_t i = 0; i < 2; i++)
		pthread_join(p[i].thread, NULL);
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < 2; i++) {
		pthread_join(readers[i], NULL);
		iof_fault_drop(fault, &p[i]);
	}
	CHECK_EQ(atomic_load(&p[0].answered) + atomic_load(&p[1].answered), 2 * GROUPS);
	teardown();
}

/* Contexts, queues and files come and go while others look for them. */
static void *open_and_close(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 300; i++) {
		struct iof_handle *c, *f;
		uint32_t id;
		int fd;

		if (iof_engine_open(m, &c) || fault_alloc(c, &id, &fd) || iof_file_handle(m, fd, &f) ||
		    iof_fileno(f) != fd)
			abort();
		iof_close(i % 2 ? f : c);
		iof_close(i % 2 ? c : f);
	}
	return NULL;
}

TEST(files_of_many_threads)
{
	unsigned descriptors = open_descriptors();
	pthread_t t[3];

	setup();
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, open_and_close, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	teardown();
	CHECK_EQ(open_descriptors(), descriptors);
}
