/* SPDX-License-Identifier: Apache-2.0 */
#include "util/event.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include "util/sys.h"

#define FIRST_NUMBER 3 /* below are the standard streams, and callers who take 0 for "none" */

int iof_event_open(void)
{
	int fd = (int)iofi_syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK), moved;

	if (fd < 0 || fd >= FIRST_NUMBER)
		return fd;
	moved = (int)iofi_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FIRST_NUMBER);
	iof_event_close(fd);
	return moved;
}

void iof_event_close(int fd)
{
	(void)iofi_syscall(SYS_close, fd);
}

int iof_event_exchange(int to, int from)
{
	long rc = iofi_syscall(SYS_dup3, from, to, O_CLOEXEC);

	return rc < 0 ? (int)rc : 0;
}

void iof_event_set(int fd)
{
	uint64_t one = 1;

	(void)iofi_syscall(SYS_write, fd, &one, sizeof(one));
}

void iof_event_clear(int fd)
{
	uint64_t count;

	(void)iofi_syscall(SYS_read, fd, &count, sizeof(count));
}
