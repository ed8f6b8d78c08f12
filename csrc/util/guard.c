// SPDX-License-Identifier: Apache-2.0
/*
 * The guarded calls, and the handler behind them.
 *
 * A fault counts as ours when the kernel raised it (si_code > 0; a SIGSEGV that somebody sent is not a fault) and the
 * program counter stands in the assembly. The address is not looked at: for a non-canonical one the kernel reports 0.
 *
 * Everything else goes to the handler that was there before, under the mask and flags that it was installed with. The
 * kernel puts the mask back when we return. A default action is reached by installing it and returning into the same
 * fault.
 *
 * A thread that has SIGSEGV or SIGBUS blocked is killed by the kernel at a fault before any handler could run; threads
 * that use guard must not block them. Somebody who installs a handler on top of ours later sees our faults first and
 * has to pass them on; who does not want that, asks for IOF_GUARD_SYSCALL.
 */
#define _GNU_SOURCE /* REG_RIP */
#include "util/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include "util/bits.h"
#include "util/guard_priv.h"
#include "util/lock.h"

#if defined(__x86_64__)
#include "util/guard_asm_x86_64.h"
#define CONTEXT_PC(uc) ((uc)->uc_mcontext.gregs[REG_RIP])
#elif defined(__aarch64__)
#include "util/guard_asm_aarch64.h"
#define CONTEXT_PC(uc) ((uc)->uc_mcontext.pc)
#else
#error "guard needs its copy loops written for this processor"
#endif

enum { STATE_COLD, STATE_SIGNAL, STATE_SYSCALL };
enum { SIGNALS = 2 };

static const int signals[SIGNALS] = { SIGSEGV, SIGBUS };

/* The process's signal dispositions are process-wide, and so is this. All zero is a good start. */
static struct {
	_Atomic int state;
	struct iof_lock lock; /* for the fields below, except that the handler reads `before` */
	bool installed;
	struct sigaction before[SIGNALS];
	_Atomic bool spent[SIGNALS]; /* an SA_RESETHAND handler that has had its one call */
} guard;

static bool fix_up(ucontext_t *uc)
{
	uintptr_t pc = (uintptr_t)CONTEXT_PC(uc);
	const char *to = pc < (uintptr_t)iofi_guard_touches ? iofi_guard_fault : iofi_guard_fault_at;

	if (pc < (uintptr_t)iofi_guard_begin || pc >= (uintptr_t)iofi_guard_end)
		return false;
	CONTEXT_PC(uc) = (__typeof__(CONTEXT_PC(uc)))(uintptr_t)to;
	return true;
}

static void take_default(int sig, bool fault)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	(void)sigaction(sig, &dfl, NULL);
	if (!fault)
		(void)raise(sig);
}

static void pass_on(int sig, siginfo_t *info, void *context)
{
	unsigned i = sig == SIGBUS;
	const struct sigaction *old = &guard.before[i];
	bool fault = info->si_code > 0;

	(void)atomic_load_explicit(&guard.state, memory_order_acquire); /* `before` was written in front of it */
	if (old->sa_handler == SIG_IGN && !fault)
		return;
	if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN ||
	    ((old->sa_flags & (int)SA_RESETHAND) && atomic_exchange(&guard.spent[i], true))) {
		take_default(sig, fault);
		return;
	}
	(void)pthread_sigmask(SIG_BLOCK, &old->sa_mask, NULL);
	if (!(old->sa_flags & SA_NODEFER)) {
		sigset_t self;

		sigemptyset(&self);
		sigaddset(&self, sig);
		(void)pthread_sigmask(SIG_BLOCK, &self, NULL);
	}
	if (old->sa_flags & SA_SIGINFO)
		old->sa_sigaction(sig, info, context);
	else
		old->sa_handler(sig);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	if (info->si_code <= 0 || !fix_up(context))
		pass_on(sig, info, context);
	errno = saved;
}

static bool is_ours(int sig)
{
	struct sigaction now;

	return !sigaction(sig, NULL, &now) && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault;
}

/* `before` is filled in first: a fault elsewhere may come the moment our handler is there. */
static int install_one(unsigned i)
{
	struct sigaction ours = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };
	int saved = errno, rc = 0;

	sigemptyset(&ours.sa_mask);
	atomic_store(&guard.spent[i], false);
	if (sigaction(signals[i], NULL, &guard.before[i]) || sigaction(signals[i], &ours, NULL))
		rc = -errno;
	errno = saved;
	return rc;
}

/* Under the lock. */
static int install(void)
{
	int rc;

	if (guard.installed)
		return 0;
	for (unsigned i = 0; i < SIGNALS; i++) {
		rc = install_one(i);
		if (rc) {
			while (i--)
				(void)sigaction(signals[i], &guard.before[i], NULL);
			return rc;
		}
	}
	guard.installed = true;
	return 0;
}

int iof_guard_setup(enum iof_guard_mode mode)
{
	int rc;

	if (mode != IOF_GUARD_SIGNAL && mode != IOF_GUARD_SYSCALL)
		return -EINVAL;
	iof_lock_take(&guard.lock);
	rc = mode == IOF_GUARD_SYSCALL ? iofi_guard_sys_probe() : install();
	if (!rc)
		atomic_store_explicit(&guard.state, mode == IOF_GUARD_SYSCALL ? STATE_SYSCALL : STATE_SIGNAL,
				      memory_order_release);
	iof_lock_drop(&guard.lock);
	return rc;
}

/* A fault of this moment may still go to the handler that was there, or meet one half: the same happens where two threads install handlers. */
int iof_guard_sigaction(int sig, const struct sigaction *now, struct sigaction *old)
{
	unsigned i = sig == SIGBUS;
	int done;

	iof_lock_take(&guard.lock);
	done = guard.installed;
	if (done && old)
		*old = guard.before[i];
	if (done && now) {
		guard.before[i] = *now;
		atomic_store(&guard.spent[i], false);
	}
	iof_lock_drop(&guard.lock);
	return done;
}

int iof_guard_teardown(void)
{
	int saved = errno, rc = 0;

	iof_lock_take(&guard.lock);
	if (guard.installed && !(is_ours(SIGSEGV) && is_ours(SIGBUS)))
		rc = -EBUSY;
	for (unsigned i = 0; guard.installed && !rc && i < SIGNALS; i++)
		(void)sigaction(signals[i], &guard.before[i], NULL);
	if (!rc) {
		guard.installed = false;
		atomic_store(&guard.state, STATE_COLD);
	}
	iof_lock_drop(&guard.lock);
	errno = saved;
	return rc;
}

/* The first use decides for handlers, unless it finds that somebody chose, or that handlers are refused. */
static __attribute__((noinline, cold)) int warm_up(void)
{
	int state;

	iof_lock_take(&guard.lock);
	state = atomic_load_explicit(&guard.state, memory_order_relaxed);
	if (state == STATE_COLD) {
		state = install() ? STATE_SYSCALL : STATE_SIGNAL;
		atomic_store_explicit(&guard.state, state, memory_order_release);
	}
	iof_lock_drop(&guard.lock);
	return state;
}

static inline bool by_signal(void)
{
	int state = atomic_load_explicit(&guard.state, memory_order_relaxed);

	if (iof_likely(state == STATE_SIGNAL))
		return true;
	return state == STATE_COLD && warm_up() == STATE_SIGNAL;
}

/* A fork must not copy the lock while another thread holds it. */
static void fork_prepare(void)
{
	iof_lock_take(&guard.lock);
}

static void fork_done(void)
{
	iof_lock_drop(&guard.lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
	(void)pthread_atfork(fork_prepare, fork_done, fork_done);
}

/* The last byte of the address space is nobody's memory, so what reaches it is refused with what passes it. */
static inline bool wraps(uint64_t at, size_t n)
{
	return iof_unlikely(n > UINT64_MAX - at);
}

int iof_copy_in(void *to, uint64_t from, size_t n)
{
	if (wraps(from, n))
		return -EFAULT;
	if (by_signal())
		return iofi_guard_copy((uintptr_t)to, from, n);
	return iofi_guard_sys_copy_in((uintptr_t)to, from, n);
}

/* The loop may have begun anywhere. What can be written in front of the page that is not there is written, as a kernel does. */
static size_t to_page_end(uint64_t at, size_t n)
{
	size_t piece = IOF_PAGE_SIZE - (at & IOF_PAGE_MASK);

	return piece < n ? piece : n;
}

static __attribute__((noinline, cold)) int copy_leading(uint64_t to, uintptr_t from, size_t n)
{
	for (size_t piece; n; to += piece, from += piece, n -= piece) {
		piece = to_page_end(to, n);
		if (iofi_guard_copy(to, from, piece))
			return -EFAULT;
	}
	return 0;
}

static __attribute__((noinline, cold)) int fill_leading(uint64_t to, uint8_t byte, size_t n)
{
	for (size_t piece; n; to += piece, n -= piece) {
		piece = to_page_end(to, n);
		if (iofi_guard_fill(to, byte, piece))
			return -EFAULT;
	}
	return 0;
}

int iof_copy_out(uint64_t to, const void *from, size_t n)
{
	if (wraps(to, n))
		return -EFAULT;
	if (!by_signal())
		return iofi_guard_sys_copy_out(to, (uintptr_t)from, n);
	if (iof_likely(!iofi_guard_copy(to, (uintptr_t)from, n)))
		return 0;
	return copy_leading(to, (uintptr_t)from, n);
}

int iof_copy_across(uint64_t to, uint64_t from, size_t n)
{
	if (wraps(to, n) || wraps(from, n))
		return -EFAULT;
	return by_signal() ? iofi_guard_copy(to, from, n) : iofi_guard_sys_copy_in(to, from, n);
}

int iof_fill_out(uint64_t to, uint8_t byte, size_t n)
{
	if (wraps(to, n))
		return -EFAULT;
	if (!by_signal())
		return iofi_guard_sys_fill(to, byte, n);
	return iof_likely(!iofi_guard_fill(to, byte, n)) ? 0 : fill_leading(to, byte, n);
}

int iof_is_zero_in(uint64_t at, size_t n)
{
	if (wraps(at, n))
		return -EFAULT;
	return by_signal() ? iofi_guard_is_zero(at, n) : iofi_guard_sys_is_zero(at, n);
}

int iof_touch(uint64_t start, uint64_t last, bool write, uint64_t *bad)
{
	uint64_t pages = (last >> IOF_PAGE_SHIFT) - (start >> IOF_PAGE_SHIFT) + 1, where;

	if (!bad)
		bad = &where;
	if (!by_signal())
		return iofi_guard_sys_touch(start, pages, write, bad);
	return write ? iofi_guard_write(start, pages, bad) : iofi_guard_read(start, pages, bad);
}
