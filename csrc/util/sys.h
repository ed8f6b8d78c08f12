/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that leave errno alone and return -errno, and the pieces of waiting built on them.
 *
 * For the .c files of util/ only. The names start with iofi_ because none of this is a contract for the floors above.
 */
#ifndef IOF_UTIL_SYS_H
#define IOF_UTIL_SYS_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define iofi_syscall(...)                                                                                              \
	({                                                                                                             \
		int iofi_saved = errno;                                                                                \
		long iofi_rc = syscall(__VA_ARGS__);                                                                   \
		iofi_rc = iofi_rc < 0 ? -errno : iofi_rc;                                                              \
		errno = iofi_saved;                                                                                    \
		iofi_rc;                                                                                               \
	})

/* How long a sleeper on shared memory trusts that whoever has to wake it is alive. */
#define IOFI_SHARED_NAP_NS 50000000L

/* The calling thread's id, 0 until somebody asked; lock.c owns it and clears it in a forked child. */
extern __thread uint32_t iofi_self_tid __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Sleeps while *word is `value`. On shared memory not longer than IOFI_SHARED_NAP_NS: -ETIMEDOUT then. */
static inline int iofi_futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits, bool shared)
{
	struct timespec until, *deadline = NULL;

	if (shared) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += IOFI_SHARED_NAP_NS;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		deadline = &until;
	}
	return (int)iofi_syscall(SYS_futex, word, FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG), value,
				 deadline, NULL, bits);
}

static inline void iofi_futex_wake(_Atomic uint32_t *word, int how_many, uint32_t bits, bool shared)
{
	(void)iofi_syscall(SYS_futex, word, FUTEX_WAKE_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG), how_many, NULL, NULL,
			   bits);
}

/* Tells the CPU that this is a busy wait. */
static inline void iofi_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

#endif
