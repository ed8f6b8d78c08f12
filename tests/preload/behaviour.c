/* SPDX-License-Identifier: Apache-2.0 */
/* What a program may expect beside the single functions: processes, threads, exec, things that it must not see. With the mock machine. */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>

#include "program.h"

extern char **environ;

static int exit_code(pid_t child)
{
	int state;

	return waitpid(child, &state, 0) == child && WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

/* ---- nothing to see ---- */

TEST(no_descriptor_too_many)
{
	int before = descriptors(), fd = iommu();
	uint32_t ioas = ioas_alloc(fd);
	uint64_t iova;

	CHECK_EQ(descriptors(), before + 1);
	CHECK(mock_device(fd, ioas, NULL, NULL));
	CHECK_EQ(map(fd, ioas, shared_pages(4), 4 * PAGE, &iova), 0);
	CHECK_EQ(descriptors(), before + 1);
	close(fd);
	CHECK_EQ(descriptors(), before);
}

TEST(queues_are_one_descriptor)
{
	int before = descriptors();
	struct faulty f;

	CHECK(faulty(&f) > 2);
	CHECK_EQ(descriptors(), before + 2);
	close(f.queue), close(f.fd);
	CHECK_EQ(descriptors(), before);
}

TEST(signal_mask_and_pending)
{
	sigset_t before, after, pending;
	struct faulty f;

	sigprocmask(SIG_SETMASK, NULL, &before);
	CHECK(faulty(&f) > 2);
	FAILS(ioctl(f.fd, IOF_CMD_DESTROY, (void *)1), EFAULT);
	sigprocmask(SIG_SETMASK, NULL, &after);
	sigpending(&pending);
	for (int i = 1; i < 32; i++) {
		CHECK_EQ(sigismember(&before, i), sigismember(&after, i));
		CHECK_EQ(sigismember(&pending, i), 0);
	}
	close(f.queue), close(f.fd);
}

TEST(closing_queue_is_part_of_the_program)
{
	struct faulty f;
	struct mock_cmd c = { 0 };

	CHECK(faulty(&f) > 2);
	c.replace.pt_id = f.parent;
	CHECK_EQ(mock(f.fd, 10, f.stdev, &c), 0);
	CHECK_EQ(destroy(f.fd, f.nested), 0);
	FAILS(destroy(f.fd, f.fault), EBUSY);
	close(f.queue);
	CHECK_EQ(destroy(f.fd, f.fault), 0);
	close(f.fd);
}

/* A queue keeps its context (R1.1.5), whichever number is closed first. */
TEST(queue_keeps_context)
{
	char *at = shared_pages(1);
	struct faulty f;
	uint64_t iova;
	int then = iommu();

	CHECK(faulty(&f) > 2);
	CHECK_EQ(map(f.fd, f.ioas, at, PAGE, &iova), 0);
	close(f.fd);
	CHECK_EQ(pins(then, at, 1), 0);
	close(f.queue);
	CHECK_EQ(pins(then, at, 0), 0);
	close(then);
}

/* ---- processes ---- */

static void pin_page(int fd, char *at)
{
	uint32_t ioas = ioas_alloc(fd);
	uint64_t iova;

	if (!mock_device(fd, ioas, NULL, NULL) || map(fd, ioas, at, PAGE, &iova))
		_exit(9);
}

TEST(killed_child_is_cleaned_up)
{
	int fd = iommu();
	char *at = shared_pages(1);
	pid_t child = fork();

	if (!child) {
		pin_page(iommu(), at);
		kill(getpid(), SIGKILL);
	}
	CHECK(waitpid(child, NULL, 0) == child);
	close(iommu()); /* somebody opens */
	CHECK_EQ(pins(fd, at, 0), 0);
	close(fd);
}

TEST(descriptor_lives_in_the_child)
{
	int fd = iommu(), then = iommu(), go[2];
	char *at = shared_pages(1), c;
	pid_t child;

	CHECK_EQ(pipe(go), 0);
	pin_page(fd, at);
	child = fork();
	if (!child) {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0 || !ioas_alloc(fd));
	}
	close(go[0]);
	close(fd);
	CHECK_EQ(pins(then, at, 1), 0);
	close(go[1]);
	CHECK_EQ(exit_code(child), 0);
	close(iommu());
	CHECK_EQ(pins(then, at, 0), 0);
	close(then);
}

/* Both open something afterwards, under the same number. */
TEST(numbers_are_per_process)
{
	int fd = iommu(), mine, go[2];
	char c = 0;
	pid_t child;

	CHECK_EQ(pipe(go), 0);
	child = fork();
	if (!child) {
		int other = iommu();

		if (ioas_alloc(other) != 1 || ioas_alloc(other) != 2 || write(go[1], &c, 1) != 1)
			_exit(1);
		_exit(ioas_alloc(other) != 3);
	}
	CHECK_EQ(read(go[0], &c, 1), 1);
	mine = iommu();
	CHECK_EQ(ioas_alloc(mine), 1);
	CHECK_EQ(exit_code(child), 0);
	CHECK_EQ(ioas_alloc(mine), 2);
	CHECK_EQ(ioas_alloc(fd), 1);
	close(mine), close(fd), close(go[0]), close(go[1]);
}

TEST(child_without_exec_of_vfork)
{
	int fd = iommu();
	volatile int rc = 0;
	pid_t child = vfork();

	if (!child) {
		rc = close(fd); /* the child's: the table of numbers is the parent's memory, the number is not */
		_exit(0);
	}
	CHECK_EQ(rc, 0);
	CHECK_EQ(exit_code(child), 0);
	CHECK_EQ(ioas_alloc(fd), 1);
	close(fd);
}

TEST(other_programs_run)
{
	char *argv[] = { "true", NULL };
	int fd = iommu();
	pid_t child;

	CHECK_EQ(system("exit 7") >> 8, 7);
	CHECK_EQ(posix_spawnp(&child, "true", NULL, NULL, argv, environ), 0);
	CHECK_EQ(exit_code(child), 0);
	CHECK_EQ(ioas_alloc(fd), 1);
	close(fd);
}

TEST(many_generations)
{
	int fd = iommu();

	for (int i = 0; i < 20; i++) {
		pid_t child = fork();

		if (!child) {
			pid_t grandchild = fork();

			if (!grandchild)
				_exit(!ioas_alloc(fd));
			_exit(exit_code(grandchild) || !ioas_alloc(fd));
		}
		CHECK_EQ(exit_code(child), 0);
	}
	CHECK_EQ(ioas_alloc(fd), 41);
	close(fd);
}

/* The parent waits for an event that the child's device raises. */
TEST(event_from_a_child)
{
	struct faulty f;
	struct pollfd p;
	struct iof_fault_record r;
	pid_t child;

	CHECK((p.fd = faulty(&f)) > 2);
	p.events = POLLIN;
	child = fork();
	if (!child) {
		close(f.queue); /* not even the number of the queue is there */
		usleep(20000);
		_exit(trigger(f.fd, f.dev, 4) != 0);
	}
	CHECK_EQ(poll(&p, 1, 5000), 1);
	CHECK_EQ(read(f.queue, &r, sizeof(r)), sizeof(r));
	CHECK_EQ(exit_code(child), 0);
	close(f.queue), close(f.fd);
}

/* ---- threads ---- */

static int shared_fd;
static _Atomic bool stop;

static void *use(void *arg)
{
	long good = 0;

	(void)arg;
	while (!stop) {
		uint32_t id = ioas_alloc(shared_fd);

		good += id && !destroy(shared_fd, id);
	}
	return (void *)good;
}

/* Numbers are opened and closed under the feet of calls: every call works on one context or finds none. */
TEST(closed_while_in_use)
{
	pthread_t threads[2];
	void *good;
	long all = 0;

	shared_fd = iommu();
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use, NULL), 0);
	for (int i = 0; i < 3000; i++) {
		int other = iommu();

		CHECK(other > 0);
		CHECK_EQ(dup2(other, shared_fd), shared_fd);
		close(other);
	}
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &good);
		all += (long)good;
	}
	CHECK(all > 100);
	close(shared_fd);
}

TEST(fork_while_in_use)
{
	pthread_t thread;
	void *good;

	stop = false;
	shared_fd = iommu();
	CHECK_EQ(pthread_create(&thread, NULL, use, NULL), 0);
	for (int i = 0; i < 50; i++) {
		pid_t child = fork();

		if (!child)
			_exit(!ioas_alloc(shared_fd));
		CHECK_EQ(exit_code(child), 0);
	}
	stop = true;
	pthread_join(thread, &good);
	CHECK((long)good > 10);
	close(shared_fd);
}

/* ---- numbers that go by ways the shim does not see ---- */

TEST(number_taken_over)
{
	int fd = iommu(), zero;

	syscall(3 /* close */, fd);
	zero = open("/dev/zero", O_RDONLY);
	CHECK_EQ(zero, fd);
	FAILS(ioctl(zero, IOF_CMD_DESTROY, NULL), ENOTTY);
	close(zero);
}

/* ---- failures ---- */

static int nth_fd;

static int body(char *at)
{
	struct faulty f = { .fd = -1, .queue = -1 };
	uint64_t iova;
	int rc = -1;

	f.fd = iommu();
	f.ioas = f.fd < 0 ? 0 : ioas_alloc(f.fd);
	f.dev = f.ioas ? mock_device(f.fd, f.ioas, &f.stdev, NULL) : 0;
	if (f.dev && !map(f.fd, f.ioas, at, 64 * PAGE, &iova) && !unmap(f.fd, f.ioas, iova, 64 * PAGE))
		rc = 0;
	close(f.fd);
	return rc;
}

/* Every step of `body` fails once; what is left of the countdown says when there is none left. */
TEST(fail_nth)
{
	char path[64], left[16] = "", *at = shared_pages(64);
	int n, rc = -1, failed = 0;

	for (int i = 0; i < 64; i++)
		at[i * PAGE] = 1;
	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", getpid());
	nth_fd = open(path, O_RDWR);
	CHECK(nth_fd > 2);
	CHECK_EQ(pread(nth_fd, left, sizeof(left), 0), 2);
	CHECK(!strcmp(left, "0\n"));
	FAILS(write(nth_fd, "x", 1), EINVAL);
	for (n = 1; n < 1000; n++) {
		int fd, length = snprintf(left, sizeof(left), "%d", n);

		CHECK_EQ(pwrite(nth_fd, left, (size_t)length, 0), length);
		rc = body(at);
		memset(left, 0, sizeof(left));
		CHECK(pread(nth_fd, left, sizeof(left) - 1, 0) > 1);
		CHECK_EQ(pwrite(nth_fd, "0", 1, 0), 1);
		failed += rc != 0;
		fd = iommu();
		CHECK_EQ(pins(fd, at, 0), 0); /* whatever failed, nothing stayed */
		close(fd);
		if (strcmp(left, "0\n"))
			break;
	}
	CHECK_EQ(rc, 0);
	printf("%d steps, %d of them failed\n", n - 1, failed);
	CHECK(failed > 20);
	CHECK(n < 1000);
	close(nth_fd);
	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", 0x3ffffff);
	FAILS(open(path, O_RDWR), ENOENT);
}
