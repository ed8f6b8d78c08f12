/* SPDX-License-Identifier: Apache-2.0 */
/* What guard.c, its assembly and its syscall variant share. All return 0 or -EFAULT if nothing else is said. */
#ifndef IOF_UTIL_GUARD_PRIV_H
#define IOF_UTIL_GUARD_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Assembly. Code in [begin, touches) that faults goes on at fault, code in [touches, end) at fault_at. */
extern const char iofi_guard_begin[], iofi_guard_touches[], iofi_guard_end[], iofi_guard_fault[], iofi_guard_fault_at[];
int iofi_guard_copy(uint64_t to, uint64_t from, size_t n);
int iofi_guard_fill(uint64_t to, uint8_t byte, size_t n);
int iofi_guard_is_zero(uint64_t at, size_t n); /* 1 or 0 */
/* Touch `at`, then the starts of the pages that follow, `pages` >= 1 in all; on a fault *bad is where. */
int iofi_guard_read(uint64_t at, uint64_t pages, uint64_t *bad);
int iofi_guard_write(uint64_t at, uint64_t pages, uint64_t *bad);

/* The kernel does the same. */
int iofi_guard_sys_probe(void); /* -errno when this system refuses */
int iofi_guard_sys_copy_in(uint64_t to, uint64_t from, size_t n); /* `to` may be foreign too */
int iofi_guard_sys_copy_out(uint64_t to, uint64_t from, size_t n); /* `from` may be foreign too */
int iofi_guard_sys_fill(uint64_t to, uint8_t byte, size_t n);
int iofi_guard_sys_is_zero(uint64_t at, size_t n);
int iofi_guard_sys_touch(uint64_t at, uint64_t pages, bool write, uint64_t *bad);

#pragma GCC visibility pop

#endif
