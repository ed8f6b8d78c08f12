/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: touching memory that may not be there.
 *
 * ioctl structs, pointers inside them and every byte a soft device reads or writes belong to somebody else, who may
 * have unmapped or truncated them. These functions copy to and from such memory and report -EFAULT instead of dying.
 * The copy loops are a few instructions of assembly whose addresses are known; a SIGSEGV or SIGBUS handler that finds
 * the program counter inside one of them sends it to that loop's fix-up. Every other signal goes to the handler that
 * was there before.
 *
 * The handler is installed on first use. It is the only process-wide state in csrc/, because a signal's disposition is
 * the process's. A host that forbids handlers asks for IOF_GUARD_SYSCALL: the kernel then copies (process_vm_readv,
 * about 1 us a call).
 *
 * Threads that use guard must not block SIGSEGV or SIGBUS: the kernel kills a thread that faults with them blocked. A
 * handler installed later on top of ours has to pass faults on.
 *
 * Thread-safety: any thread. Async-signal-safety: not claimed.
 */
#ifndef IOF_UTIL_GUARD_H
#define IOF_UTIL_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sigaction;

enum iof_guard_mode {
	IOF_GUARD_SIGNAL = 0, /* the default */
	IOF_GUARD_SYSCALL = 1,
};

/* Chooses how; before or after first use. 0, or -errno of sigaction. */
int iof_guard_setup(enum iof_guard_mode mode);

/*
 * Puts the previous handlers back if ours are still the installed ones; -EBUSY (nothing changed) when someone chained
 * on top. The next use installs them anew. For tests and unloading; no guarded call may be under way.
 */
int iof_guard_teardown(void);

/*
 * sigaction() for SIGSEGV and SIGBUS as the rest of the process should see it, for who stands between the process and libc: while ours is installed,
 * `now` (may be NULL) becomes the handler behind it and `old` (may be NULL) is what that was. 1: done; 0: ours is not installed, sigaction() is right.
 */
int iof_guard_sigaction(int sig, const struct sigaction *now, struct sigaction *old);

/*
 * 0 or -EFAULT. On a fault a leading part may have been copied; iof_copy_out() has written all that lies in front of the first page that cannot be
 * written. `from` and `to` are addresses in this process; a range
 * that passes or reaches 2^64-1 is a fault, n = 0 never is. Naturally aligned 1, 2, 4 and 8 bytes are one access each
 * (not so under IOF_GUARD_SYSCALL).
 */
int iof_copy_in(void *to, uint64_t from, size_t n);
int iof_copy_out(uint64_t to, const void *from, size_t n);

/* Both sides foreign (device copy). 0 or -EFAULT. What overlapping sides end up with is not said. */
int iof_copy_across(uint64_t to, uint64_t from, size_t n);

/* Fills foreign memory with a byte. 0 or -EFAULT, and then what lies in front of the page is filled, as with iof_copy_out(). */
int iof_fill_out(uint64_t to, uint8_t byte, size_t n);

/* Is every byte of [at, at+n) zero? 1 yes, 0 no, -EFAULT. */
int iof_is_zero_in(uint64_t at, size_t n);

/*
 * Touches every page of [start, last] so that it is there: reads one byte a page, and with `write` also writes it back
 * unchanged in one atomic step. 0, or -EFAULT with *bad (may be NULL) the first address that failed.
 */
int iof_touch(uint64_t start, uint64_t last, bool write, uint64_t *bad);

#endif
