/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/caller.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

bool iof_caller_may(enum iof_may what)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct set[2] = { 0 };
	unsigned cap = what == IOF_MAY_LOCK_FREELY ? CAP_IPC_LOCK : CAP_SYS_RESOURCE;

	if (syscall(SYS_capget, &head, set))
		return false;
	return set[cap / 32].effective & (1u << cap % 32);
}
