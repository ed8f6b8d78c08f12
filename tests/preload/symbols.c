/* SPDX-License-Identifier: Apache-2.0 */
/* One test for each function that the shim interposes, under its name; with the mock machine. What is not ours has to be as it was. */
#define _GNU_SOURCE
#include <linux/close_range.h>
#include <pthread.h>

#include "program.h"

/* ---- opening ---- */

static void check_iommu(int fd)
{
	CHECK(fd > 2);
	CHECK_EQ(ioas_alloc(fd), 1);
	CHECK_EQ(ioas_alloc(fd), 2);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	CHECK_EQ(close(fd), 0);
	FAILS(ioctl(fd, IOF_CMD_DESTROY, NULL), EBADF);
}

#define OPENS(name, ...)                                                                                               \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		const char *path = "/dev/iommu";                                                                       \
		int fd = name(__VA_ARGS__), other;                                                                     \
		check_iommu(fd);                                                                                       \
		path = "/dev/null";                                                                                    \
		other = name(__VA_ARGS__);                                                                             \
		CHECK(other >= 0);                                                                                     \
		CHECK_EQ(write(other, "x", 1), 1);                                                                     \
		FAILS(ioctl(other, IOF_CMD_DESTROY, NULL), ENOTTY);                                                    \
		close(other);                                                                                          \
		path = "/dev/iommu-not";                                                                               \
		FAILS(name(__VA_ARGS__), ENOENT);                                                                      \
	}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

OPENS(open, path, O_RDWR)
OPENS(open64, path, O_RDWR)
OPENS(openat, AT_FDCWD, path, O_RDWR)
OPENS(openat64, AT_FDCWD, path, O_RDWR)
OPENS(__open_2, path, O_RDWR)
OPENS(__open64_2, path, O_RDWR)
OPENS(__openat_2, AT_FDCWD, path, O_RDWR)
OPENS(__openat64_2, AT_FDCWD, path, O_RDWR)

#define PINNED(name)                                                                                                   \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		int fd = iommu();                                                                                      \
		uint32_t ioas = ioas_alloc(fd);                                                                        \
		char *at = shared_pages(3), path[64];                                                                  \
		uint64_t iova;                                                                                         \
		FILE *f;                                                                                               \
		CHECK(mock_device(fd, ioas, NULL, NULL));                                                              \
		CHECK_EQ(map(fd, ioas, at, 3 * PAGE, &iova), 0);                                                       \
		f = name("/proc/self/status", "r");                                                                    \
		CHECK_EQ(status(f, "VmPin:"), 12);                                                                     \
		fclose(f);                                                                                             \
		snprintf(path, sizeof(path), "/proc/%d/status", getpid());                                             \
		f = name(path, "r");                                                                                   \
		CHECK_EQ(status(f, "Pid:"), getpid());                                                                 \
		fclose(f);                                                                                             \
		CHECK_EQ(unmap(fd, ioas, iova, 3 * PAGE), 0);                                                          \
		f = name("/proc/self/status", "r");                                                                    \
		CHECK_EQ(status(f, "VmPin:"), 0);                                                                      \
		fclose(f);                                                                                             \
		FAILS((long)name("/proc/self/status-not", "r") - 1, ENOENT);                                           \
	}

PINNED(fopen)
PINNED(fopen64)

TEST(opendir)
{
	DIR *d = opendir("/sys/kernel/debug/");
	int fd;

	CHECK(d);
	fd = openat(dirfd(d), "failslab/ignore-gfp-wait", O_WRONLY);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "N", 1), 1);
	close(fd);
	FAILS(openat(dirfd(d), "failslab/no-such-switch", O_WRONLY), ENOENT);
	closedir(d);
	d = opendir("/sys/kernel/no-such-folder");
	CHECK(!d);
}

TEST(closedir)
{
	DIR *d = opendir("/sys/kernel/debug"), *other;
	int number = dirfd(d), fd = openat(number, "failslab/verbose", O_WRONLY);

	CHECK(fd >= 0);
	close(fd);
	CHECK_EQ(closedir(d), 0);
	other = opendir("/");
	CHECK_EQ(dirfd(other), number); /* the same number, and not the folder any more */
	FAILS(openat(number, "failslab/verbose", O_WRONLY), ENOENT);
	closedir(other);
}

/* ---- ioctl, read, write ---- */

TEST(ioctl)
{
	int fd = iommu();

	FAILS(ioctl(fd, IOF_CMD_DESTROY, NULL), EFAULT);
	FAILS(ioctl(fd, IOF_CMD_DESTROY, (void *)1), EFAULT);
	FAILS(ioctl(fd, IOF_CMD(0x7f)), ENOTTY);
	FAILS(destroy(fd, 77), ENOENT);
	CHECK_EQ(ioctl(fd, IOF_CMD_CONTAINER_GET_API_VERSION), 0);
	CHECK_EQ(ioctl(fd, FIOCLEX), 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	errno = 17; /* a call that succeeds leaves it */
	CHECK_EQ(ioas_alloc(fd), 1);
	CHECK_EQ(errno, 17);
	close(fd);
}

ssize_t __read_chk(int fd, void *to, size_t n, size_t room);
ssize_t __pread_chk(int fd, void *to, size_t n, off_t at, size_t room);
ssize_t __pread64_chk(int fd, void *to, size_t n, off_t at, size_t room);

#define READS(name, ...)                                                                                               \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		struct iof_fault_record r = { 0 };                                                                     \
		struct faulty f;                                                                                       \
		int fd, null = open("/dev/zero", O_RDONLY);                                                            \
		CHECK((fd = faulty(&f)) > 2);                                                                          \
		CHECK_EQ(name(__VA_ARGS__), 0);                                                                        \
		CHECK_EQ(trigger(f.fd, f.dev, 9), 0);                                                                  \
		CHECK_EQ(name(__VA_ARGS__), sizeof(r));                                                                \
		CHECK_EQ(r.dev_id, f.dev);                                                                             \
		CHECK_EQ(r.grpid, 9);                                                                                  \
		fd = f.fd;                                                                                             \
		FAILS(name(__VA_ARGS__), EINVAL); /* a context cannot be read */                                       \
		fd = null;                                                                                             \
		CHECK_EQ(name(__VA_ARGS__), sizeof(r));                                                                \
		CHECK_EQ(r.dev_id, 0);                                                                                 \
		close(null), close(f.queue), close(f.fd);                                                              \
	}

READS(read, fd, &r, sizeof(r))
READS(pread, fd, &r, sizeof(r), 0)
READS(pread64, fd, &r, sizeof(r), 0)
READS(__read_chk, fd, &r, sizeof(r), sizeof(r))
READS(__pread_chk, fd, &r, sizeof(r), 0, sizeof(r))
READS(__pread64_chk, fd, &r, sizeof(r), 0, sizeof(r))

TEST(position)
{
	struct iof_fault_record r;
	struct faulty f;

	CHECK(faulty(&f) > 2);
	FAILS(pread(f.queue, &r, sizeof(r), 40), ESPIPE);
	FAILS(pwrite(f.queue, &r, 8, 8), ESPIPE);
	FAILS(pread(f.queue, &r, sizeof(r), -1), EINVAL);
	close(f.queue), close(f.fd);
}

#define WRITES(name, ...)                                                                                              \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		struct iof_fault_record r = { 0 };                                                                     \
		struct iof_fault_response answer = { 0 };                                                              \
		struct faulty f;                                                                                       \
		int fd;                                                                                                \
		CHECK((fd = faulty(&f)) > 2);                                                                          \
		FAILS(name(__VA_ARGS__), EINVAL); /* no such cookie */                                                 \
		CHECK_EQ(trigger(f.fd, f.dev, 3), 0);                                                                  \
		CHECK_EQ(read(f.queue, &r, sizeof(r)), sizeof(r));                                                     \
		answer.cookie = r.cookie;                                                                              \
		CHECK_EQ(name(__VA_ARGS__), sizeof(answer));                                                           \
		FAILS(name(__VA_ARGS__), EINVAL); /* answered */                                                       \
		fd = open("/dev/full", O_WRONLY);                                                                      \
		FAILS(name(__VA_ARGS__), ENOSPC);                                                                      \
		close(fd), close(f.queue), close(f.fd);                                                                \
	}

WRITES(write, fd, &answer, sizeof(answer))
WRITES(pwrite, fd, &answer, sizeof(answer), 0)
WRITES(pwrite64, fd, &answer, sizeof(answer), 0)

/* ---- poll ---- */

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room);

static void *trigger_soon(void *arg)
{
	struct faulty *f = arg;

	usleep(20000);
	(void)trigger(f->fd, f->dev, 5);
	return NULL;
}

/* Alone, beside a pipe, with a context (which is always ready), and waiting for another thread. */
static void check_poll(int (*ask)(struct pollfd *, nfds_t, int))
{
	struct iof_fault_record r;
	struct pollfd p[3];
	struct faulty f;
	pthread_t thread;
	int ends[2];

	CHECK(faulty(&f) > 2);
	CHECK_EQ(pipe(ends), 0);
	p[0] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = f.queue, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = 77 };
	CHECK_EQ(ask(p, 1, 0), 0);
	CHECK_EQ(ask(p, 3, 10), 0);
	CHECK_EQ(p[1].revents | p[2].revents, 0);
	CHECK_EQ(pthread_create(&thread, NULL, trigger_soon, &f), 0);
	CHECK_EQ(ask(p, 3, 5000), 1);
	CHECK_EQ(p[1].revents, POLLIN);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(write(ends[1], "x", 1), 1);
	p[1].events = POLLIN | POLLOUT;
	p[2] = (struct pollfd){ .fd = f.fd, .events = POLLIN };
	CHECK_EQ(ask(p, 3, -1), 3);
	CHECK_EQ(p[0].revents, POLLIN);
	CHECK_EQ(p[1].revents, POLLIN | POLLOUT);
	CHECK_EQ(read(f.queue, &r, sizeof(r)), sizeof(r));
	p[1].events = POLLIN;
	CHECK_EQ(ask(p + 1, 1, 0), 0);
	close(ends[0]), close(ends[1]), close(f.queue), close(f.fd);
}

static int by_chk(struct pollfd *p, nfds_t n, int timeout)
{
	return __poll_chk(p, n, timeout, n * sizeof(*p));
}

static int by_ppoll(struct pollfd *p, nfds_t n, int timeout)
{
	struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };

	return ppoll(p, n, timeout < 0 ? NULL : &t, NULL);
}

static int by_ppoll_chk(struct pollfd *p, nfds_t n, int timeout)
{
	struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };

	return __ppoll_chk(p, n, timeout < 0 ? NULL : &t, NULL, n * sizeof(*p));
}

TEST(poll)
{
	check_poll(poll);
}

TEST(__poll_chk)
{
	check_poll(by_chk);
}

TEST(ppoll)
{
	check_poll(by_ppoll);
}

TEST(__ppoll_chk)
{
	check_poll(by_ppoll_chk);
}

/* ---- mmap ---- */

struct window {
	int fd;
	uint32_t viommu;
	uint64_t offset, length;
};

static int open_window(struct window *w)
{
	struct faulty f;
	struct {
		uint32_t in, out;
		uint64_t offset, length;
	} data = { .in = 0x1234567 };
	struct iof_cmd_viommu_alloc c = { .size = sizeof(c), .type = MOCK_VIOMMU, .data_len = sizeof(data),
					  .data_uptr = (uintptr_t)&data };

	if (faulty(&f) < 0)
		return -1;
	c.dev_id = f.dev;
	c.hwpt_id = f.parent;
	if (ioctl(f.fd, IOF_CMD_VIOMMU_ALLOC, &c))
		return -1;
	*w = (struct window){ f.fd, c.out_viommu_id, data.offset, data.length };
	return data.out == data.in ? 0 : -1;
}

#define MAPS(name)                                                                                                     \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		struct window w;                                                                                       \
		uint32_t *at;                                                                                          \
		void *want;                                                                                            \
		CHECK_EQ(open_window(&w), 0);                                                                          \
		FAILS((long)name(NULL, w.length, PROT_READ, MAP_PRIVATE, w.fd, (off_t)w.offset), EINVAL);              \
		FAILS((long)name(NULL, w.length, PROT_EXEC, MAP_SHARED, w.fd, (off_t)w.offset), EPERM);                \
		FAILS((long)name(NULL, w.length, PROT_READ, MAP_SHARED, w.fd, 0x900000), ENXIO);                       \
		at = name(NULL, w.length, PROT_READ | PROT_WRITE, MAP_SHARED, w.fd, (off_t)w.offset);                  \
		CHECK(at != MAP_FAILED);                                                                               \
		CHECK_EQ(*at, 0x1234567);                                                                              \
		want = name(NULL, w.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);                            \
		CHECK(name(want, w.length, PROT_READ, MAP_SHARED | MAP_FIXED, w.fd, (off_t)w.offset) == want);         \
		at[1] = 5;                                                                                             \
		CHECK_EQ(((volatile uint32_t *)want)[1], 5); /* the same memory twice */                               \
		FAILS(destroy(w.fd, w.viommu), EBUSY);                                                                 \
		munmap(want, w.length);                                                                                \
		FAILS(destroy(w.fd, w.viommu), EBUSY);                                                                 \
		CHECK(name(at, w.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);            \
		CHECK_EQ(destroy(w.fd, w.viommu), 0); /* mapped over: gone */                                          \
		close(w.fd);                                                                                           \
	}

MAPS(mmap)
MAPS(mmap64)

TEST(munmap)
{
	struct window w;
	char *at;

	CHECK_EQ(open_window(&w), 0);
	CHECK_EQ(w.length, 2 * PAGE);
	at = mmap(NULL, w.length, PROT_READ, MAP_SHARED, w.fd, (off_t)w.offset);
	FAILS(munmap(at + 1, PAGE), EINVAL);
	FAILS(destroy(w.fd, w.viommu), EBUSY);
	CHECK_EQ(munmap(at, PAGE), 0);
	FAILS(destroy(w.fd, w.viommu), EBUSY); /* half of it is there */
	CHECK_EQ(munmap(at + PAGE, PAGE), 0);
	CHECK_EQ(destroy(w.fd, w.viommu), 0);
	close(w.fd);
}

/* A mapping keeps what it is of, as the kernel's does. */
TEST(mapping_outlives_descriptor)
{
	struct window w;
	volatile uint32_t *at;

	CHECK_EQ(open_window(&w), 0);
	at = mmap(NULL, w.length, PROT_READ, MAP_SHARED, w.fd, (off_t)w.offset);
	close(w.fd);
	CHECK_EQ(*at, 0x1234567);
	munmap((void *)at, w.length);
}

/* ---- descriptors ---- */

TEST(close)
{
	char *at = shared_pages(1);
	uint64_t iova;
	int fd = iommu(), then = iommu();
	uint32_t ioas = ioas_alloc(fd);

	CHECK(mock_device(fd, ioas, NULL, NULL));
	CHECK_EQ(map(fd, ioas, at, PAGE, &iova), 0);
	CHECK_EQ(pins(then, at, 1), 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(pins(then, at, 0), 0);
	FAILS(close(fd), EBADF);
	CHECK_EQ(iommu(), fd); /* the lowest number that is free */
	close(fd), close(then);
}

/* `copy` is the context of fd, which lives as long as either. */
static void check_copy(int fd, int copy, int flags)
{
	CHECK(copy > 2);
	CHECK(copy != fd);
	CHECK_EQ(fcntl(copy, F_GETFD), flags);
	CHECK_EQ(ioas_alloc(fd), 1);
	CHECK_EQ(ioas_alloc(copy), 2);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(ioas_alloc(copy), 3);
	CHECK_EQ(close(copy), 0);
	FAILS(ioctl(copy, IOF_CMD_DESTROY, NULL), EBADF);
}

TEST(dup)
{
	int fd = iommu();

	check_copy(fd, dup(fd), 0);
	FAILS(dup(fd), EBADF);
}

TEST(dup2)
{
	int fd = iommu(), other = iommu();

	CHECK_EQ(ioas_alloc(other), 1);
	CHECK_EQ(dup2(fd, fd), fd);
	check_copy(fd, dup2(fd, other), 0); /* what was there is closed */
	fd = iommu();
	other = open("/dev/zero", O_RDONLY);
	CHECK_EQ(dup2(other, fd), fd);
	FAILS(ioctl(fd, IOF_CMD_DESTROY, NULL), ENOTTY); /* not ours any more */
	close(other), close(fd);
}

TEST(dup3)
{
	int fd = iommu();

	check_copy(fd, dup3(fd, 300, O_CLOEXEC), FD_CLOEXEC);
	fd = iommu();
	FAILS(dup3(fd, fd, 0), EINVAL);
	check_copy(fd, dup3(fd, 5000 < getdtablesize() ? 5000 : 200, 0), 0); /* far behind the others */
}

#define CONTROLS(name)                                                                                                 \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		int fd = iommu();                                                                                      \
		check_copy(fd, name(fd, F_DUPFD, 100), 0);                                                             \
		fd = iommu();                                                                                          \
		check_copy(fd, name(fd, F_DUPFD_CLOEXEC, 100), FD_CLOEXEC);                                            \
		fd = open("/dev/iommu", O_RDONLY | O_CLOEXEC);                                                         \
		CHECK_EQ(name(fd, F_GETFD), FD_CLOEXEC);                                                               \
		CHECK_EQ(name(fd, F_SETFD, 0), 0);                                                                     \
		CHECK_EQ(name(fd, F_GETFD), 0);                                                                        \
		CHECK_EQ(name(fd, F_GETFL) & ~0100000, O_RDONLY);                                                      \
		CHECK_EQ(name(fd, F_SETFL, O_NONBLOCK), 0);                                                            \
		CHECK_EQ(name(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);                                                  \
		close(fd);                                                                                             \
		FAILS(name(fd, F_GETFL), EBADF);                                                                       \
	}

CONTROLS(fcntl)
CONTROLS(fcntl64)

TEST(close_range)
{
	int a = iommu(), b = dup2(a, 50), c = dup2(a, 60), d = dup2(a, 70);

	CHECK_EQ(close_range(50, 60, CLOSE_RANGE_CLOEXEC), 0);
	CHECK_EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(ioas_alloc(b), 1);
	CHECK_EQ(close_range(50, 60, 0), 0);
	FAILS(ioctl(b, IOF_CMD_DESTROY, NULL), EBADF);
	FAILS(ioctl(c, IOF_CMD_DESTROY, NULL), EBADF);
	CHECK_EQ(ioas_alloc(d), 2);
	CHECK_EQ(close_range(70, ~0u, 0), 0);
	CHECK_EQ(ioas_alloc(a), 3);
	close(a);
}

TEST(closefrom)
{
	int a = iommu(), b = dup2(a, 90);

	closefrom(80);
	FAILS(ioctl(b, IOF_CMD_DESTROY, NULL), EBADF);
	CHECK_EQ(ioas_alloc(a), 1);
	close(a);
}

/* ---- processes and signals ---- */

static int exit_code(pid_t child)
{
	int state;

	return waitpid(child, &state, 0) == child && WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

TEST(fork)
{
	int fd = iommu(), then = iommu();
	char *at = shared_pages(1);
	uint32_t ioas = ioas_alloc(fd);
	uint64_t iova;
	pid_t child;

	CHECK(mock_device(fd, ioas, NULL, NULL));
	child = fork();
	if (!child) {
		close(then); /* its copy */
		_exit(map(fd, ioas, at, PAGE, &iova) || ioas_alloc(fd) != 5);
	}
	CHECK_EQ(exit_code(child), 0);
	CHECK_EQ(pins(then, at, 1), 0); /* one engine */
	CHECK_EQ(ioas_alloc(fd), 6);
	close(fd);
	CHECK_EQ(pins(then, at, 0), 0); /* the child's copy went with it */
	close(then);
}

static volatile int faults;

static void on_fault(int sig)
{
	(void)sig;
	faults++;
	mprotect((void *)0x100000000, PAGE, PROT_READ | PROT_WRITE);
}

static void on_fault_again(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_addr == (void *)0x100000000)
		on_fault(sig);
}

static void fault_once(void)
{
	volatile char *at = mmap((void *)0x100000000, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	*at = 1;
}

TEST(sigaction)
{
	struct sigaction mine = { .sa_sigaction = on_fault_again, .sa_flags = SA_SIGINFO }, seen;
	int fd = iommu();

	FAILS(ioctl(fd, IOF_CMD_DESTROY, (void *)16), EFAULT); /* now the engine's handler is there */
	CHECK_EQ(sigaction(SIGSEGV, NULL, &seen), 0);
	CHECK(seen.sa_handler == SIG_DFL);
	CHECK_EQ(sigaction(SIGSEGV, &mine, &seen), 0);
	CHECK(seen.sa_handler == SIG_DFL);
	CHECK_EQ(sigaction(SIGSEGV, NULL, &seen), 0);
	CHECK(seen.sa_sigaction == on_fault_again);
	fault_once();
	CHECK_EQ(faults, 1);
	FAILS(ioctl(fd, IOF_CMD_DESTROY, (void *)16), EFAULT); /* and still works */
	CHECK_EQ(faults, 1);
	CHECK_EQ(sigaction(SIGUSR1, &mine, &seen), 0);
	CHECK_EQ(sigaction(SIGUSR1, NULL, &seen), 0);
	CHECK(seen.sa_sigaction == on_fault_again);
	close(fd);
}

TEST(signal)
{
	int fd = iommu(), before = faults;

	CHECK(signal(SIGBUS, on_fault) == SIG_DFL); /* before the engine's */
	FAILS(ioctl(fd, IOF_CMD_DESTROY, (void *)16), EFAULT);
	CHECK(signal(SIGBUS, SIG_DFL) == on_fault);
	signal(SIGSEGV, on_fault);
	fault_once();
	CHECK_EQ(faults, before + 1);
	FAILS(ioctl(fd, IOF_CMD_DESTROY, (void *)16), EFAULT);
	CHECK_EQ(faults, before + 1);
	CHECK(signal(SIGSEGV, SIG_DFL) == on_fault);
	close(fd);
}
