/* SPDX-License-Identifier: Apache-2.0 */
/* What this floor asks of the system: calls that leave errno alone and return -errno, and constants that older headers lack. */
#ifndef IOF_MEMORY_OS_H
#define IOF_MEMORY_OS_H

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/bits.h"

#define iofi_os(call)                                                                                                  \
	({                                                                                                             \
		int iofi_saved = errno;                                                                                \
		long iofi_rc = (long)(call);                                                                           \
		iofi_rc = iofi_rc == -1 ? -errno : iofi_rc;                                                            \
		errno = iofi_saved;                                                                                    \
		iofi_rc;                                                                                               \
	})

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

/* mmap(2) of an address range or -errno. */
static inline int iofi_mmap(void *at, uint64_t length, int prot, int flags, int fd, void **out)
{
	long rc = iofi_os(mmap(at, length, prot, flags, fd, 0));

	/* Addresses are not negative; the last page of all is never mapped, and there the errnos are. */
	if (rc < 0 && rc > -4096)
		return (int)rc;
	*out = (void *)rc;
	return 0;
}

/* Address space and nothing in it. */
static inline int iofi_reserve(void *at, uint64_t length, void **out)
{
	return iofi_mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, out);
}

#endif
