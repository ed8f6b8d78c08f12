/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the two event queues share: queues opened through the raw door, descriptors looked at, memory
 * that is not all there.
 */
#ifndef IOF_TESTS_EVENTS_H
#define IOF_TESTS_EVENTS_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "engine.h"
#include "ioas/fault.h"
#include "ioas/veventq.h"
#include "provider/engine.h"

#define READABLE (POLLIN | POLLRDNORM)

static inline int fault_alloc(struct iof_handle *ctx, uint32_t *id, int *fd)
{
	struct iof_cmd_fault_queue_alloc c = { .size = sizeof(c) };
	int rc = iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c);

	*id = c.out_fault_id;
	*fd = (int)c.out_fault_fd;
	return rc;
}

static inline int veventq_alloc(struct iof_handle *ctx, uint32_t viommu, uint32_t type, uint32_t depth, uint32_t *id,
				int *fd)
{
	struct iof_cmd_veventq_alloc c = { .size = sizeof(c), .viommu_id = viommu, .type = type,
					   .veventq_depth = depth };
	int rc = iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, &c);

	*id = c.out_veventq_id;
	*fd = (int)c.out_veventq_fd;
	return rc;
}

static inline struct iof_context *context_behind(struct iof_handle *h)
{
	return iofi_engine(h)->file.ctx;
}

/* The object itself; the test keeps it alive by not destroying it. */
static inline void *object_of(struct iof_handle *ctx, uint32_t id, enum iof_object_type type)
{
	struct iof_object *o = iof_object_get(&context_behind(ctx)->objects, id, type);

	if (o)
		iof_object_put(o);
	return o;
}

/* What poll(2) itself says of a descriptor, POLLIN only. */
static inline bool rings(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && p.revents == POLLIN;
}

static inline unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* A page with nothing behind it: memory up to the returned address is there, from it on is not. */
static inline char *edge_new(void)
{
	char *p = pages_of(2);

	munmap(p + PAGE, PAGE);
	return p + PAGE;
}

static inline void edge_free(char *edge)
{
	munmap(edge - PAGE, PAGE);
}

/* A copy of a command that can be read but not written: what it answers is lost. */
static inline void *read_only(const void *cmd, size_t n)
{
	void *p = pages_of(1);

	memcpy(p, cmd, n);
	mprotect(p, PAGE, PROT_READ);
	return p;
}

#endif
