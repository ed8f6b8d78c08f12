/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes and one engine: who is charged, CHANGE_PROCESS, memory of a process that lives, lingers or is gone.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "file_rig.h"
#include "pages/account.h"

#define N 4

struct counts {
	int64_t pinned;
	uint64_t locked;
};

static struct counts counts_of(struct world *w, pid_t pid)
{
	struct counts c;

	iof_machine_process_pages(w->m, (uint32_t)pid, &c.pinned, &c.locked);
	return c;
}

#define CHECK_COUNTS(w, pid, p, l)                                                                                     \
	do {                                                                                                           \
		struct counts check_c = counts_of(w, pid);                                                             \
		CHECK_EQ(check_c.pinned, p);                                                                           \
		CHECK_EQ(check_c.locked, l);                                                                           \
	} while (0)

static char *shared_pages(size_t n)
{
	return mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* ---- counting ---- */

/* Only what is newly pinned counts: not a second table, a copy, or an access on top. */
TEST(pages_are_charged_once)
{
	struct world w;
	uint64_t iova, again;
	char *at = shared_pages(N);
	pid_t me = getpid();

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_PROCESS, false);
	CHECK_EQ(map_at(w.ctx, w.ioas, at, N * PAGE, RW, &iova), 0);
	CHECK_COUNTS(&w, me, 0, 0);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_COUNTS(&w, me, N, N);
	CHECK_EQ(copy(w.ctx, w.ioas, w.ioas, iova, 2 * PAGE, RW, &again), 0);
	CHECK_COUNTS(&w, me, N, N);
	CHECK_EQ(unmap(w.ctx, w.ioas, iova, N * PAGE, NULL), 0);
	CHECK_COUNTS(&w, me, 2, 2); /* the copy has them still */
	CHECK_EQ(map_at(w.ctx, w.ioas, at, PAGE, RW, &iova), 0);
	CHECK_EQ(map_at(w.ctx, w.ioas, at, PAGE, RW, &iova), 0);
	CHECK_COUNTS(&w, me, 4, 4); /* a second MAP pins again */
	CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_COUNTS(&w, me, 0, 0);
	munmap(at, N * PAGE);
	world_close(&w);
}

static int with_limit(struct world *w)
{
	struct rlimit two = { 2 * PAGE + 100, 2 * PAGE + 100 };
	uint64_t iova;
	char *at = shared_pages(N);

	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &two), 0);
	CHECK_EQ(attach_ioas(w), 0);
	CHECK_EQ(map_at(w->ctx, w->ioas, at, 3 * PAGE, RW, &iova), -ENOMEM);
	CHECK_EQ(map_at(w->ctx, w->ioas, at, 2 * PAGE, RW, &iova), 0);
	CHECK_EQ(map_at(w->ctx, w->ioas, at, PAGE, RW, &iova), -ENOMEM);
	CHECK_COUNTS(w, getpid(), 2, counts_of(w, getpid()).locked);
	CHECK(iof_machine_is_valid(w->m));
	return 0;
}

TEST(limits_are_the_mappers)
{
	for (int accounting = IOF_ACCOUNTING_USER; accounting <= IOF_ACCOUNTING_PROCESS; accounting++) {
		struct world w;

		world_open_with(&w, IOF_ADDRESSES_VA, (enum iof_accounting)accounting, true);
		CHECK_EQ(in_child(with_limit, &w), 0);
		CHECK(iof_machine_is_valid(w.m));
		world_close(&w);
	}
}

/* As root nothing is limited, and still everything is counted (R4.6.3). */
TEST(the_kernels_way_counts_without_a_limit)
{
	struct world w;
	uint64_t iova;
	char *at = shared_pages(N);

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_KERNEL, false);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_at(w.ctx, w.ioas, at, N * PAGE, RW, &iova), 0);
	CHECK_EQ(counts_of(&w, getpid()).pinned, N);
	CHECK_EQ(counts_of(&w, getpid()).locked, 0);
	CHECK_EQ(counts_of(&w, 1).pinned, 0);
	munmap(at, N * PAGE);
	world_close(&w);
}

/* ---- CHANGE_PROCESS ---- */

static int expected_locked;

static int take_over(struct world *w)
{
	pid_t parent = getppid();

	CHECK_COUNTS(w, getpid(), 0, 0);
	CHECK_COUNTS(w, parent, N + 1, expected_locked * (N + 1));
	CHECK_EQ(change_process(w), 0);
	CHECK_COUNTS(w, parent, 0, 0);
	CHECK_COUNTS(w, getpid(), N + 1, expected_locked * (N + 1));
	CHECK_EQ(change_process(w), 0); /* from the same process: nothing to do */
	CHECK_COUNTS(w, getpid(), N + 1, expected_locked * (N + 1));
	CHECK(iof_machine_is_valid(w->m));
	CHECK_EQ(unmap(w->ctx, w->ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_COUNTS(w, getpid(), 0, 0);
	return 0;
}

/* One container in two areas of two IOASes is counted once. */
static void map_two(struct world *w, int fd)
{
	uint64_t iova, copied;
	uint32_t other;

	CHECK_EQ(attach_ioas(w), 0);
	CHECK_EQ(map_file(w, fd, 0, N * PAGE, RW, &iova), 0);
	CHECK_EQ(copy(w->ctx, w->ioas, w->ioas, iova + PAGE, PAGE, RW, &copied), 0);
	CHECK_EQ(ioas_alloc(w->ctx, &other), 0);
	CHECK_EQ(copy(w->ctx, other, w->ioas, iova, PAGE, RW, &copied), 0);
	CHECK_EQ(map_file(w, fd, PAGE, PAGE, RW, &iova), 0);
}

TEST(the_child_takes_over)
{
	for (int accounting = IOF_ACCOUNTING_USER; accounting <= IOF_ACCOUNTING_PROCESS; accounting++) {
		struct world w;
		int fd = memfd(N * PAGE);

		expected_locked = accounting == IOF_ACCOUNTING_PROCESS;
		world_open_with(&w, IOF_ADDRESSES_VA, (enum iof_accounting)accounting, true);
		map_two(&w, fd);
		CHECK_EQ(in_child(take_over, &w), 0);
		CHECK_COUNTS(&w, getpid(), 0, 0);
		give_up(&w, fd);
		world_close(&w);
	}
}

/*
 * Containers without a limit change hands and their counts do not: the release is counted at the wrong process (quirk
 * of R4.6.3).
 */
static int take_over_uncharged(struct world *w)
{
	pid_t parent = getppid();

	CHECK_EQ(change_process(w), 0);
	CHECK_EQ(counts_of(w, parent).pinned, N);
	CHECK_EQ(counts_of(w, getpid()).pinned, 0);
	CHECK_EQ(unmap(w->ctx, w->ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(counts_of(w, parent).pinned, N);
	CHECK_EQ(counts_of(w, getpid()).pinned, -N);
	return 0;
}

TEST(without_a_limit_the_counts_stay)
{
	struct world w;
	uint64_t iova;
	int fd = memfd(N * PAGE);

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_KERNEL, true);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, fd, 0, N * PAGE, RW, &iova), 0);
	CHECK_EQ(in_child(take_over_uncharged, &w), 0);
	give_up(&w, fd);
	world_close(&w);
}

static int no_room(struct world *w)
{
	struct rlimit one = { PAGE, PAGE };

	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &one), 0);
	CHECK_EQ(change_process(w), -ENOMEM);
	CHECK_COUNTS(w, getppid(), N + 1, N + 1);
	CHECK_COUNTS(w, getpid(), 0, 0);
	CHECK(iof_machine_is_valid(w->m));
	return 0;
}

TEST(no_room_changes_nothing)
{
	struct world w;
	int fd = memfd(N * PAGE);

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_PROCESS, true);
	map_two(&w, fd);
	CHECK_EQ(in_child(no_room, &w), 0);
	CHECK_EQ(in_child(no_room, &w), 0); /* no mark was left behind */
	give_up(&w, fd);
	world_close(&w);
}

static int take_over_failing(struct world *w)
{
	int rc = -1, failures = 0;

	for (int64_t n = 1; rc; n++) {
		iof_alloc_fail_nth(w->alloc, n);
		rc = change_process(w);
		iof_alloc_fail_nth(w->alloc, 0);
		CHECK(rc == 0 || rc == -ENOMEM);
		CHECK_COUNTS(w, getppid(), rc ? N + 1 : 0, rc ? N + 1 : 0);
		CHECK_COUNTS(w, getpid(), rc ? 0 : N + 1, rc ? 0 : N + 1);
		failures += rc != 0;
	}
	CHECK(failures >= 3);
	return 0;
}

TEST(every_failure_is_rolled_back)
{
	struct world w;
	int fd = memfd(N * PAGE);

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_PROCESS, true);
	map_two(&w, fd);
	CHECK_EQ(in_child(take_over_failing, &w), 0);
	give_up(&w, fd);
	world_close(&w);
}

TEST(only_files_change_hands)
{
	struct iof_cmd_change_process c = { .size = sizeof(c), .reserved = 1 };
	struct world w;
	uint64_t iova;
	char *at = shared_pages(1);

	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(iof_ioctl(w.ctx, IOF_CMD_IOAS_CHANGE_PROCESS, &c), -EOPNOTSUPP);
	CHECK_EQ(change_process(&w), 0); /* nothing there */
	CHECK_EQ(map_at(w.ctx, w.ioas, at, PAGE, RW, &iova), 0);
	CHECK_EQ(change_process(&w), -EINVAL);
	munmap(at, PAGE);
	world_close(&w);
}

/* ---- another process's memory ---- */

static char *common;
static uint64_t common_iova;
static int ready[2], done[2];

static int child_maps(struct world *w)
{
	return map_at(w->ctx, w->ioas, common, N * PAGE, RW, &common_iova);
}

static int child_maps_and_stays(struct world *w)
{
	char c = 0;

	CHECK_EQ(child_maps(w), 0);
	CHECK_EQ(write(ready[1], &common_iova, sizeof(common_iova)), sizeof(common_iova));
	close(done[1]);
	return read(done[0], &c, 1) != 0;
}

static void no_unmap(void *data, uint64_t iova, uint64_t length)
{
	(void)data, (void)iova, (void)length;
}

static struct iof_access *open_access(struct world *w)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = true, .unmap = no_unmap };
	struct iof_access *a;

	CHECK_EQ(iof_access_open(w->ctx, &cfg, &a), 0);
	CHECK_EQ(iof_access_attach(a, w->ioas), 0);
	return a;
}

static void exchange(struct iof_access *a, uint64_t iova, uint32_t flags)
{
	char c[2 * PAGE];

	memset(common, 'a', N * PAGE);
	CHECK_EQ(iof_access_rw(a, iova + 100, c, sizeof(c), flags), 0);
	CHECK_EQ(c[0], 'a');
	CHECK_EQ(c[sizeof(c) - 1], 'a');
	memset(c, 'b', sizeof(c));
	CHECK_EQ(iof_access_rw(a, iova + 100, c, sizeof(c), IOF_ACCESS_WRITE | flags), 0);
	CHECK_EQ(common[99], 'a');
	CHECK_EQ(common[100], 'b');
	CHECK_EQ(common[100 + 2 * PAGE - 1], 'b');
	CHECK_EQ(common[100 + 2 * PAGE], 'a');
}

/* fork_present: the parent holds, reads and writes what its child mapped. */
TEST(a_child_that_lives)
{
	for (int synthetic = 0; synthetic < 2; synthetic++) {
		struct iof_access *a;
		struct world w;
		pid_t pid;
		int status;

		common = shared_pages(N);
		CHECK(!pipe(ready) && !pipe(done));
		world_open_with(&w, (enum iof_addresses)synthetic, IOF_ACCOUNTING_NONE, true);
		pid = fork();
		if (!pid)
			_exit(setjmp(check_out) ? 99 : child_maps_and_stays(&w));
		close(ready[1]);
		CHECK_EQ(read(ready[0], &common_iova, sizeof(common_iova)), sizeof(common_iova));
		a = open_access(&w);
		CHECK_EQ(attach_ioas(&w), 0);
		CHECK(iof_machine_is_valid(w.m));
		exchange(a, common_iova, 0);
		exchange(a, common_iova, IOF_ACCESS_SLOW);
		CHECK(!synthetic || iof_machine_pins(w.m, (uintptr_t)common) == 1);
		iof_access_destroy(a);
		close(done[1]);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		close(ready[0]);
		close(done[0]);
		w.fds -= 4;
		CHECK_EQ(unmap(w.ctx, w.ioas, common_iova, N * PAGE, NULL), 0);
		world_close(&w);
		munmap(common, N * PAGE);
	}
}

/* fork_gone: what was pinned while the child lived stays; nothing new can be had of it. */
TEST(a_child_that_is_gone)
{
	for (int pinned = 0; pinned < 2; pinned++) {
		struct iof_access *a;
		struct world w;
		char c;

		common = shared_pages(N);
		world_open_with(&w, IOF_ADDRESSES_SYNTHETIC, IOF_ACCOUNTING_NONE, true);
		a = open_access(&w);
		if (pinned)
			CHECK_EQ(attach_ioas(&w), 0);
		common_iova = 0x7000000;
		CHECK_EQ(in_child(child_maps, &w), 0);
		common_iova = 0; /* the child's variable is not ours */
		{
			struct iof_mapping_info info;

			CHECK_EQ(iof_ioas_mapping(w.ctx, w.ioas, 0, UINT64_MAX, &info), 0);
			common_iova = info.iova;
		}
		if (pinned) {
			uint32_t hwpt;
			uint32_t dev_id = iof_device_id(w.dev);

			CHECK_EQ(hwpt_alloc(w.ctx, dev_id, w.ioas, &hwpt), 0); /* a second page table */
			exchange(a, common_iova, 0);
			CHECK_EQ(iof_access_pin(a, common_iova, 2 * PAGE, true, NULL), 0); /* pinned already */
			CHECK_EQ(iof_access_unpin(a, common_iova, 2 * PAGE), 0);
			CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)common), 1);
			CHECK(iof_machine_is_valid(w.m));
			CHECK_EQ(destroy(w.ctx, hwpt), 0);
		} else {
			CHECK_EQ(attach_ioas(&w), -EFAULT);
			CHECK_EQ(iof_access_rw(a, common_iova, &c, 1, 0), -EFAULT);
			CHECK_EQ(iof_access_pin(a, common_iova, PAGE, false, NULL), -EFAULT);
			CHECK(iof_machine_is_valid(w.m));
		}
		CHECK_EQ(unmap(w.ctx, w.ioas, common_iova, N * PAGE, NULL), 0);
		if (pinned)
			CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)common), 0);
		iof_access_destroy(a);
		world_close(&w);
		munmap(common, N * PAGE);
	}
}

static void *second_thread(void *arg)
{
	struct world *w = arg;
	char c = 0;

	usleep(50000); /* the first thread has ended */
	if (child_maps(w) || write(ready[1], &common_iova, sizeof(common_iova)) != sizeof(common_iova))
		_exit(1);
	close(done[1]);
	_exit(read(done[0], &c, 1) != 0);
}

/* A process lives as long as any of its threads, and its memory is found by one that does. */
TEST(a_child_whose_first_thread_has_ended)
{
	struct iof_access *a;
	struct world w;
	pid_t pid;
	int status;

	common = shared_pages(N);
	CHECK(!pipe(ready) && !pipe(done));
	world_open_with(&w, IOF_ADDRESSES_SYNTHETIC, IOF_ACCOUNTING_NONE, true);
	pid = fork();
	if (!pid) {
		pthread_t t;

		pthread_create(&t, NULL, second_thread, &w);
		syscall(SYS_exit, 0); /* this thread only */
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &common_iova, sizeof(common_iova)), sizeof(common_iova));
	a = open_access(&w);
	exchange(a, common_iova, 0);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)common), 1);
	iof_access_destroy(a);
	close(done[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	close(ready[0]);
	close(done[0]);
	w.fds -= 4;
	CHECK_EQ(unmap(w.ctx, w.ioas, common_iova, N * PAGE, NULL), 0);
	world_close(&w);
	munmap(common, N * PAGE);
}

static int child_is_new(struct world *w)
{
	uint64_t iova;
	int fd = memfd(PAGE);

	iof_machine_forked(w->m);
	CHECK_COUNTS(w, getpid(), 0, 0);
	CHECK_EQ(map_file(w, fd, 0, PAGE, RW, &iova), 0);
	CHECK_COUNTS(w, getpid(), 1, 1);
	CHECK_COUNTS(w, getppid(), 1, 1);
	return 0;
}

/* A process that finds its pid in the records of one before it. */
TEST(a_pid_that_comes_back)
{
	struct world w;
	uint64_t iova;
	int fd = memfd(PAGE);

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_PROCESS, true);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, fd, 0, PAGE, RW, &iova), 0);
	CHECK_EQ(in_child(child_is_new, &w), 0);
	CHECK_COUNTS(&w, getpid(), 1, 1); /* of others nothing was forgotten */
	iof_machine_forked(w.m); /* as if this process had just come and found its pid used */
	CHECK_COUNTS(&w, getpid(), 0, 0);
	CHECK(iof_machine_is_valid(w.m));
	/* a dead process's window and descriptor are not ours to give back */
	CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_COUNTS(&w, getpid(), 0, 0);
	CHECK_EQ(count_fds(), w.fds + 1 + 2); /* kept open, context, device */
	w.fds++;
	give_up(&w, fd);
	world_close(&w);
}

/* Private memory of a process is that process's: its address means nothing here, and its name is not ours. */
static int child_maps_private(struct world *w)
{
	char c = 0;

	memset(common, 'x', PAGE);
	CHECK_EQ(child_maps(w), 0);
	CHECK_EQ(write(ready[1], &common_iova, sizeof(common_iova)), sizeof(common_iova));
	close(done[1]);
	CHECK_EQ(read(done[0], &c, 1), 0);
	return common[0] != 'y';
}

TEST(private_memory_of_a_child)
{
	struct iof_access *a;
	struct world w;
	char c = 'y';
	pid_t pid;
	int status;

	common = pages_of(N);
	memset(common, 'p', PAGE);
	CHECK(!pipe(ready) && !pipe(done));
	world_open_with(&w, IOF_ADDRESSES_SYNTHETIC, IOF_ACCOUNTING_NONE, true);
	pid = fork();
	if (!pid)
		_exit(setjmp(check_out) ? 99 : child_maps_private(&w));
	close(ready[1]);
	CHECK_EQ(read(ready[0], &common_iova, sizeof(common_iova)), sizeof(common_iova));
	a = open_access(&w);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)common), 0); /* ours is another page */
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, common_iova, &c, 1, NULL), -EFAULT); /* out of a soft device's reach */
	c = 0;
	CHECK_EQ(iof_access_rw(a, common_iova, &c, 1, 0), 0);
	CHECK_EQ(c, 'x');
	c = 'y';
	CHECK_EQ(iof_access_rw(a, common_iova, &c, 1, IOF_ACCESS_WRITE), 0);
	CHECK_EQ(common[0], 'p');
	CHECK_EQ(iof_access_rw(a, common_iova, (void *)8, 1, 0), -EFAULT);
	iof_access_destroy(a);
	close(done[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	close(ready[0]);
	close(done[0]);
	w.fds -= 4;
	CHECK_EQ(unmap(w.ctx, w.ioas, common_iova, N * PAGE, NULL), 0);
	world_close(&w);
	munmap(common, N * PAGE);
}
