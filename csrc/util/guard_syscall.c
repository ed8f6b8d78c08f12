// SPDX-License-Identifier: Apache-2.0
/*
 * guard without handlers: the kernel touches the memory and reports what is not there.
 *
 * Copies are process_vm_readv() and process_vm_writev() on ourselves; both also check the near side, so either serves
 * when both sides are foreign. A write touch needs one atomic step that changes nothing: FUTEX_WAKE_OP or-ing 0 into
 * the word. Device memory that the kernel cannot reference by page (VM_PFNMAP) is -EFAULT here although the CPU could
 * read it.
 */
#include "util/guard_priv.h"

#include <string.h>
#include <sys/uio.h>

#include "util/bits.h"
#include "util/sys.h"

#define CHUNK 4096

static long transfer(long number, uint64_t near, uint64_t far, size_t n)
{
	struct iovec here = { (void *)(uintptr_t)near, n }, there = { (void *)(uintptr_t)far, n };

	return iofi_syscall(number, (int)iofi_syscall(SYS_getpid), &here, 1UL, &there, 1UL, 0UL);
}

static int transfer_all(long number, uint64_t near, uint64_t far, size_t n)
{
	while (n) {
		long done = transfer(number, near, far, n);

		if (done <= 0)
			return -EFAULT;
		near += (uint64_t)done;
		far += (uint64_t)done;
		n -= (size_t)done;
	}
	return 0;
}

int iofi_guard_sys_probe(void)
{
	uint64_t a = 1, b = 0;
	long rc = transfer(SYS_process_vm_readv, (uintptr_t)&b, (uintptr_t)&a, sizeof(a));

	if (rc >= 0)
		rc = transfer(SYS_process_vm_writev, (uintptr_t)&a, (uintptr_t)&b, sizeof(a));
	return rc < 0 ? (int)rc : 0;
}

int iofi_guard_sys_copy_in(uint64_t to, uint64_t from, size_t n)
{
	return transfer_all(SYS_process_vm_readv, to, from, n);
}

int iofi_guard_sys_copy_out(uint64_t to, uint64_t from, size_t n)
{
	return transfer_all(SYS_process_vm_writev, from, to, n);
}

int iofi_guard_sys_fill(uint64_t to, uint8_t byte, size_t n)
{
	unsigned char chunk[CHUNK];
	int rc = 0;

	memset(chunk, byte, n < CHUNK ? n : CHUNK);
	while (n && !rc) {
		size_t part = n < CHUNK ? n : CHUNK;

		rc = iofi_guard_sys_copy_out(to, (uintptr_t)chunk, part);
		to += part;
		n -= part;
	}
	return rc;
}

int iofi_guard_sys_is_zero(uint64_t at, size_t n)
{
	unsigned char chunk[CHUNK];

	while (n) {
		size_t part = n < CHUNK ? n : CHUNK;

		if (iofi_guard_sys_copy_in((uintptr_t)chunk, at, part))
			return -EFAULT;
		if (chunk[0] || memcmp(chunk, chunk + 1, part - 1))
			return 0;
		at += part;
		n -= part;
	}
	return 1;
}

static bool write_touch(uint64_t at)
{
	uint32_t nobody = 0, *word = (uint32_t *)(uintptr_t)(at & ~UINT64_C(3));

	return iofi_syscall(SYS_futex, &nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, NULL, word,
			    FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

int iofi_guard_sys_touch(uint64_t at, uint64_t pages, bool write, uint64_t *bad)
{
	for (; pages; pages--, at = (at & ~IOF_PAGE_MASK) + IOF_PAGE_SIZE) {
		unsigned char byte;

		if (write ? write_touch(at) : !iofi_guard_sys_copy_in((uintptr_t)&byte, at, 1))
			continue;
		*bad = at;
		return -EFAULT;
	}
	return 0;
}
