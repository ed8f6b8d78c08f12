/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Touching memory that is not there, in both modes, and being polite to other handlers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "util/guard.h"

#define PAGE 4096
#define NON_CANONICAL UINT64_C(0x8000000000001000)

/* Three pages; the last one is not there. */
static unsigned char *two_and_a_hole(void)
{
	unsigned char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	munmap(p + 2 * PAGE, PAGE);
	return p;
}

static uint64_t addr(const void *p)
{
	return (uintptr_t)p;
}

/* User-mode emulators have no process_vm_readv(). */
static bool have_syscalls(void)
{
	int rc = iof_guard_setup(IOF_GUARD_SYSCALL);

	if (rc != -ENOSYS)
		CHECK_EQ(rc, 0);
	else
		printf("no process_vm_readv here: only signals are tested\n");
	return !rc;
}

static void for_both_modes(void (*fn)(void))
{
	CHECK_EQ(iof_guard_setup(IOF_GUARD_SIGNAL), 0);
	fn();
	if (!have_syscalls())
		return;
	fn();
	CHECK_EQ(iof_guard_setup(IOF_GUARD_SIGNAL), 0);
}

/* All sizes up to 200 and some large ones at odd offsets, with sentinels on both sides. */
static void copies_exactly(void)
{
	static unsigned char from[20000], to[20000];
	uint64_t seed = 7;

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)check_random(&seed);
	for (size_t n = 0; n < 12000; n += n < 200 ? 1 : 397) {
		size_t f = check_random(&seed) % 64 + 1, t = check_random(&seed) % 64 + 1;

		for (int how = 0; how < 3; how++) {
			memset(to, 0x5a, n + 200);
			if (how == 0)
				CHECK_EQ(iof_copy_in(to + t, addr(from + f), n), 0);
			else if (how == 1)
				CHECK_EQ(iof_copy_out(addr(to + t), from + f, n), 0);
			else
				CHECK_EQ(iof_copy_across(addr(to + t), addr(from + f), n), 0);
			CHECK(!memcmp(to + t, from + f, n));
			CHECK_EQ(to[t - 1], 0x5a);
			CHECK_EQ(to[t + n], 0x5a);
		}
	}
}

static void fills_and_finds_zeros(void)
{
	static unsigned char to[20000];

	for (size_t n = 0; n < 12000; n += n < 140 ? 1 : 397) {
		memset(to, 0x5a, n + 3);
		CHECK_EQ(iof_fill_out(addr(to + 1), 0xc3, n), 0);
		for (size_t i = 1; i <= n; i++)
			CHECK_EQ(to[i], 0xc3);
		CHECK_EQ(to[0], 0x5a);
		CHECK_EQ(to[n + 1], 0x5a);
		CHECK_EQ(iof_fill_out(addr(to + 1), 0, n), 0);
		CHECK_EQ(iof_is_zero_in(addr(to + 1), n), 1);
		for (size_t i = 0; i < n; i += n < 140 ? 1 : 101) {
			to[1 + i] = 0x80;
			CHECK_EQ(iof_is_zero_in(addr(to + 1), n), 0);
			to[1 + i] = 0;
		}
	}
}

static void reports_holes(void)
{
	unsigned char *p = two_and_a_hole(), buf[3 * PAGE];

	memset(p, 0, 2 * PAGE);
	memset(buf, 1, sizeof(buf));
	for (size_t n = 1; n <= 2 * PAGE; n += n < 70 ? 1 : 411) {
		uint64_t hole = addr(p + 2 * PAGE);

		CHECK_EQ(iof_copy_in(buf, hole - n, n), 0); /* up to the edge */
		CHECK_EQ(iof_copy_out(hole - n, buf, n), 0);
		CHECK_EQ(iof_is_zero_in(hole - n, n), 1);
		CHECK_EQ(iof_copy_in(buf, hole - n + 1, n), -EFAULT); /* one beyond */
		CHECK_EQ(iof_copy_out(hole - n + 1, buf, n), -EFAULT);
		CHECK_EQ(iof_copy_across(hole - n + 1, addr(buf), n), -EFAULT);
		CHECK_EQ(iof_copy_across(addr(buf), hole - n + 1, n), -EFAULT);
		CHECK_EQ(iof_fill_out(hole - n + 1, 0, n), -EFAULT);
		CHECK_EQ(iof_is_zero_in(hole - n + 1, n), -EFAULT);
	}
	munmap(p, 2 * PAGE);
}

static void refuses_bad_addresses(void)
{
	static const uint64_t bad[] = {
		0, 1, 4095, NON_CANONICAL, UINT64_C(0xffff800000000000), UINT64_MAX - 7, UINT64_MAX,
	};
	char buf[64] = { 0 };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_EQ(iof_copy_in(buf, bad[i], 40), -EFAULT);
		CHECK_EQ(iof_copy_in(buf, bad[i], 1), -EFAULT);
		CHECK_EQ(iof_copy_out(bad[i], buf, 8), -EFAULT);
		CHECK_EQ(iof_copy_across(bad[i], addr(buf), 64), -EFAULT);
		CHECK_EQ(iof_copy_across(addr(buf), bad[i], 64), -EFAULT);
		CHECK_EQ(iof_fill_out(bad[i], 1, 17), -EFAULT);
		CHECK_EQ(iof_is_zero_in(bad[i], 3), -EFAULT);
		CHECK_EQ(iof_copy_in(buf, bad[i], 0), 0);
		CHECK_EQ(iof_is_zero_in(bad[i], 0), 1);
	}
	CHECK_EQ(iof_copy_in(buf, addr(buf), SIZE_MAX), -EFAULT); /* wraps */
	CHECK_EQ(iof_copy_in(buf, UINT64_MAX - 3, 8), -EFAULT);
}

static void respects_protection(void)
{
	unsigned char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char buf[64] = { 0 };
	uint64_t bad = 0;

	memset(p, 0x11, PAGE);
	mprotect(p, PAGE, PROT_READ);
	CHECK_EQ(iof_copy_in(buf, addr(p), 40), 0);
	CHECK_EQ(buf[39], 0x11);
	CHECK_EQ(iof_touch(addr(p), addr(p) + PAGE - 1, false, &bad), 0);
	CHECK_EQ(iof_copy_out(addr(p), buf, 40), -EFAULT);
	CHECK_EQ(iof_fill_out(addr(p), 0, 1), -EFAULT);
	CHECK_EQ(iof_touch(addr(p) + 5, addr(p) + 6, true, &bad), -EFAULT);
	CHECK_EQ(bad, addr(p) + 5);
	mprotect(p, PAGE, PROT_NONE);
	CHECK_EQ(iof_copy_in(buf, addr(p), 1), -EFAULT);
	CHECK_EQ(iof_touch(addr(p), addr(p), false, NULL), -EFAULT);
	munmap(p, PAGE);
}

static void survives_truncation(void)
{
	int fd = memfd_create("guard", 0);
	unsigned char *p;
	char buf[64] = { 0 };
	uint64_t bad = 0;

	CHECK_EQ(ftruncate(fd, 2 * PAGE), 0);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 3, 2 * PAGE);
	CHECK_EQ(iof_copy_in(buf, addr(p) + PAGE - 20, 40), 0);
	CHECK_EQ(ftruncate(fd, PAGE), 0);
	CHECK_EQ(iof_copy_in(buf, addr(p) + PAGE - 20, 40), -EFAULT);
	CHECK_EQ(iof_copy_out(addr(p) + PAGE, buf, 8), -EFAULT);
	CHECK_EQ(iof_touch(addr(p), addr(p) + 2 * PAGE - 1, true, &bad), -EFAULT);
	CHECK_EQ(bad, addr(p) + PAGE);
	CHECK_EQ(iof_touch(addr(p), addr(p) + 2 * PAGE - 1, false, &bad), -EFAULT);
	CHECK_EQ(bad, addr(p) + PAGE);
	munmap(p, 2 * PAGE);
	close(fd);
}

static void touches_every_page_once(void)
{
	enum { PAGES = 9 };
	unsigned char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char there[PAGES];
	uint64_t bad = 7;

	CHECK_EQ(iof_touch(addr(p) + PAGE + 4095, addr(p) + 7 * PAGE, true, &bad), 0);
	CHECK_EQ(bad, 7);
	CHECK_EQ(mincore(p, PAGES * PAGE, there), 0);
	for (int i = 0; i < PAGES; i++)
		CHECK_EQ(there[i] & 1, i >= 1 && i <= 7);
	for (int i = 0; i < PAGES; i++)
		memset(p + i * PAGE, 0xe0 + i, PAGE);
	CHECK_EQ(iof_touch(addr(p), addr(p) + PAGES * PAGE - 1, true, NULL), 0);
	for (int i = 0; i < PAGES * PAGE; i++)
		CHECK_EQ(p[i], 0xe0 + i / PAGE);
	munmap(p + 4 * PAGE, PAGE);
	CHECK_EQ(iof_touch(addr(p) + 100, addr(p) + 6 * PAGE, false, &bad), -EFAULT);
	CHECK_EQ(bad, addr(p) + 4 * PAGE);
	CHECK_EQ(iof_touch(addr(p) + 100, addr(p) + 4 * PAGE - 1, true, &bad), 0);
	CHECK_EQ(iof_touch(NON_CANONICAL, UINT64_MAX, false, &bad), -EFAULT);
	CHECK_EQ(bad, NON_CANONICAL);
	CHECK_EQ(iof_touch(UINT64_MAX, UINT64_MAX, true, &bad), -EFAULT);
	CHECK_EQ(iof_touch(0, UINT64_MAX, false, &bad), -EFAULT);
	CHECK_EQ(bad, 0);
	munmap(p, PAGES * PAGE);
}

TEST(guard_copies_exactly) { for_both_modes(copies_exactly); }
TEST(guard_fills_and_finds_zeros) { for_both_modes(fills_and_finds_zeros); }
TEST(guard_reports_holes) { for_both_modes(reports_holes); }
TEST(guard_refuses_bad_addresses) { for_both_modes(refuses_bad_addresses); }
TEST(guard_respects_protection) { for_both_modes(respects_protection); }
TEST(guard_survives_truncation) { for_both_modes(survives_truncation); }
TEST(guard_touches_every_page_once) { for_both_modes(touches_every_page_once); }

/* Whatever order the loop takes: all in front of the hole is written, and nothing else. */
static void writes_up_to_the_hole(void)
{
	unsigned char *p = two_and_a_hole(), from[600];
	const unsigned char *end = p + 2 * PAGE;

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i + 1);
	for (size_t n = 1; n < sizeof(from); n += n < 40 ? 1 : 53) {
		for (size_t there = 0; there < n; there += there < 20 ? 1 : 31) {
			memset(p, 0, 2 * PAGE);
			CHECK_EQ(iof_copy_out(addr(end - there), from, n), -EFAULT);
			CHECK_EQ(memcmp(end - there, from, there), 0);
			CHECK_EQ(end[-(ptrdiff_t)there - 1], 0);
			CHECK_EQ(iof_fill_out(addr(end - there), 0xee, n), -EFAULT);
			CHECK(!there || (end[-1] == 0xee && end[-(ptrdiff_t)there] == 0xee));
			CHECK_EQ(end[-(ptrdiff_t)there - 1], 0);
		}
	}
	munmap(p, 2 * PAGE);
}

TEST(guard_writes_up_to_the_hole) { for_both_modes(writes_up_to_the_hole); }

TEST(guard_leaves_the_leading_part)
{
	unsigned char *p = two_and_a_hole(), buf[2 * PAGE];

	memset(p, 0x77, 2 * PAGE);
	memset(buf, 0, sizeof(buf));
	CHECK_EQ(iof_guard_setup(IOF_GUARD_SIGNAL), 0);
	CHECK_EQ(iof_copy_in(buf, addr(p) + PAGE, 2 * PAGE), -EFAULT);
	for (int i = 0; i < PAGE; i++)
		CHECK_EQ(buf[i], 0x77);
	CHECK_EQ(buf[PAGE], 0);
	munmap(p, 2 * PAGE);
}

/* The write touch adds nothing to and loses nothing from what another thread counts in the same byte's word. */
static unsigned char *counted;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200000; i++)
		__atomic_fetch_add((uint32_t *)counted, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void touch_is_atomic(void)
{
	pthread_t t;
	uint32_t n;

	counted = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(pthread_create(&t, NULL, count, NULL), 0);
	for (int i = 0; i < 100000; i++)
		CHECK_EQ(iof_touch(addr(counted), addr(counted), true, NULL), 0);
	pthread_join(t, NULL);
	n = *(uint32_t *)counted;
	CHECK_EQ(n, 200000);
	munmap(counted, PAGE);
}

TEST(guard_touch_is_atomic) { for_both_modes(touch_is_atomic); }

/* Each of these runs in a child, since it plays with the process's handlers and mostly dies. */
static int in_a_child(void (*fn)(void))
{
	int status;
	pid_t child = fork();

	if (!child) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		fn();
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child)
		return -1;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void handlers_default(void)
{
	if (iof_guard_teardown())
		_exit(90);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

static void guard_works(void)
{
	char buf[40];

	if (iof_copy_in(buf, 16, 40) != -EFAULT)
		_exit(91);
}

/* Not for the compiler to see through, nor for a sanitizer to judge. */
__attribute__((no_sanitize("address", "undefined", "thread"))) static void fault(void)
{
	volatile uintptr_t at = 16;

	*(volatile char *)at = 1;
}

static void fault_with_default(void)
{
	handlers_default();
	guard_works();
	fault();
}

static void fault_while_ignored(void)
{
	handlers_default();
	signal(SIGSEGV, SIG_IGN);
	guard_works();
	raise(SIGSEGV); /* sent, hence ignored */
	guard_works();
	fault(); /* a real one cannot be ignored */
}

static void sent_with_default(void)
{
	handlers_default();
	guard_works();
	raise(SIGBUS);
	_exit(1);
}

static void exit_plain(int sig)
{
	sigset_t now;

	pthread_sigmask(SIG_BLOCK, NULL, &now);
	_exit(sig == SIGSEGV && sigismember(&now, SIGSEGV) && sigismember(&now, SIGUSR2) ? 42 : 43);
}

static void fault_with_plain_handler(void)
{
	struct sigaction user = { .sa_handler = exit_plain };

	handlers_default();
	sigaddset(&user.sa_mask, SIGUSR2);
	sigaction(SIGSEGV, &user, NULL);
	guard_works();
	fault();
}

static void exit_info(int sig, siginfo_t *info, void *context)
{
	_exit(sig == SIGSEGV && info->si_addr == (void *)16 && context ? 44 : 45);
}

static void fault_with_info_handler(void)
{
	struct sigaction user = { .sa_sigaction = exit_info, .sa_flags = SA_SIGINFO };

	handlers_default();
	sigaction(SIGSEGV, &user, NULL);
	guard_works();
	fault();
}

static volatile sig_atomic_t calls;

static void count_call(int sig)
{
	(void)sig;
	calls = calls + 1;
}

static void reset_hand_is_kept(void)
{
	struct sigaction user = { .sa_handler = count_call, .sa_flags = (int)SA_RESETHAND };

	handlers_default();
	sigaction(SIGSEGV, &user, NULL);
	guard_works();
	raise(SIGSEGV);
	if (calls != 1)
		_exit(2);
	guard_works();
	raise(SIGSEGV); /* the second one is deadly */
	_exit(3);
}

static sigjmp_buf back;

static void jump_back(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static void jumps_out_of_a_handler(void)
{
	struct sigaction user = { .sa_handler = jump_back };

	handlers_default();
	sigaction(SIGSEGV, &user, NULL);
	for (volatile int i = 0; i < 3; i++) {
		guard_works();
		if (!sigsetjmp(back, 1)) {
			fault();
			_exit(4);
		}
	}
	guard_works();
	_exit(46);
}

static void teardown_gives_back(void)
{
	struct sigaction user = { .sa_handler = count_call }, now;

	handlers_default();
	sigaction(SIGSEGV, &user, NULL);
	guard_works();
	sigaction(SIGSEGV, NULL, &now);
	if (now.sa_handler == count_call || iof_guard_teardown())
		_exit(5);
	sigaction(SIGSEGV, NULL, &now);
	if (now.sa_handler != count_call || iof_guard_teardown())
		_exit(6);
	guard_works();
	signal(SIGBUS, SIG_DFL); /* somebody on top of one of them */
	if (iof_guard_teardown() != -EBUSY)
		_exit(7);
	guard_works();
	_exit(47);
}

static void syscall_mode_installs_nothing(void)
{
	struct sigaction now;

	handlers_default();
	if (!have_syscalls())
		_exit(48);
	guard_works();
	sigaction(SIGSEGV, NULL, &now);
	_exit(now.sa_handler == SIG_DFL ? 48 : 9);
}

TEST(guard_passes_other_faults_on)
{
	CHECK_EQ(in_a_child(fault_with_default), -SIGSEGV);
	CHECK_EQ(in_a_child(fault_while_ignored), -SIGSEGV);
	CHECK_EQ(in_a_child(sent_with_default), -SIGBUS);
	CHECK_EQ(in_a_child(fault_with_plain_handler), 42);
	CHECK_EQ(in_a_child(fault_with_info_handler), 44);
	CHECK_EQ(in_a_child(reset_hand_is_kept), -SIGSEGV);
	CHECK_EQ(in_a_child(jumps_out_of_a_handler), 46);
}

TEST(guard_setup_and_teardown)
{
	CHECK_EQ(in_a_child(teardown_gives_back), 47);
	CHECK_EQ(in_a_child(syscall_mode_installs_nothing), 48);
	CHECK_EQ(iof_guard_setup((enum iof_guard_mode)7), -EINVAL);
}

/* Many threads use it first at the same time, and fault. */
static void *first_use(void *arg)
{
	char buf[40];

	for (int i = 0; i < 200; i++)
		if (iof_copy_in(buf, 16, 40) != -EFAULT || iof_copy_in(buf, addr(arg), 40))
			return arg;
	return NULL;
}

TEST(guard_first_use_by_many)
{
	static char there[40];
	pthread_t t[4];
	void *out;

	for (int round = 0; round < 20; round++) {
		CHECK_EQ(iof_guard_teardown(), 0);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(pthread_create(&t[i], NULL, first_use, there), 0);
		for (int i = 0; i < 4; i++) {
			pthread_join(t[i], &out);
			CHECK(!out);
		}
	}
}
