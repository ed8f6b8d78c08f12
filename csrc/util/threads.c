// SPDX-License-Identifier: Apache-2.0
#include "util/threads.h"

#include <linux/membarrier.h>

#include "util/sys.h"

bool iof_threads_fence_prepare(void)
{
	return !iofi_syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0);
}

bool iof_threads_fence(void)
{
	return !iofi_syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
}

bool iof_thread_lives(uint32_t tid)
{
	return iofi_syscall(SYS_tgkill, (int)getpid(), (int)tid, 0) != -ESRCH;
}
