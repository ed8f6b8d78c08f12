/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: how memory is held while it is mapped. In C.
 *
 * A device that reaches memory must find it there. What an engine does about that is the *policy* of a mapping: the machine's
 * (iof_machine_config), or another for a batch (iof_map_many).
 *
 * IOF_POLICY_TRUST	bookkeeping only: the caller keeps the memory. A soft DMA to memory that is gone is a fault, never a crash.
 * IOF_POLICY_PROBE	every page is touched (written to where the mapping is writable) when it is pinned; -EFAULT where that fails.
 * IOF_POLICY_MLOCK	the same, and locked into memory by mlock(2). Locks are counted page by page over all mappings of the machine; pages
 *			that the program had locked by itself before stay locked afterwards. (A lock that the program takes or drops while
 *			the page is mapped cannot be told from ours.) -ENOMEM: more than RLIMIT_MEMLOCK.
 * IOF_POLICY_IO_URING	the same, and pinned for good: a registered buffer of an io_uring. Charged to the user, against RLIMIT_MEMLOCK
 *			(-ENOMEM). Memory must be writable, and not of a file on disk (-EFAULT, -EOPNOTSUPP). -EPERM where io_uring is
 *			forbidden, -EOPNOTSUPP on kernels before 5.19; a machine with this policy says so when it is made.
 *
 * Memory is pinned once however many page tables show it, from when the first does until the last has ceased to. Machines whose memory is
 * shared between processes have trust and probe only (-EOPNOTSUPP); two machines in one process do not know of each other's locks.
 *
 * A *held region* is memory that is held in advance. Mapping a part of it with its policy, or with PROBE, then costs what TRUST costs.
 */
#ifndef IOMMUFD_FAST_HOLD_H
#define IOMMUFD_FAST_HOLD_H

#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iof_held;

struct iof_hold {
	size_t size; /* sizeof(struct iof_hold) of the caller */
	uint64_t address, length; /* the whole pages in which this lies */
	enum iof_policy policy; /* DEFAULT: the machine's */
	bool writable; /* devices are going to write to it */
};

/*
 * Holds a region until iof_held_release(). The region keeps its machine. 0; -EINVAL size, policy, length 0; -EOVERFLOW the range wraps; -EFAULT
 * the memory is not there, or read-only; -ENOMEM; -EPERM, -EOPNOTSUPP the policy cannot be had. From any thread.
 */
int iof_machine_hold(struct iof_machine *m, const struct iof_hold *hold, struct iof_held **out);
/* The region ends. What is mapped of it stays held by its own mapping; with PROBE, a mapping of it that joins a page table later is looked at again. NULL is fine. */
void iof_held_release(struct iof_held *held);

#ifdef __cplusplus
}
#endif

#endif
