/* SPDX-License-Identifier: Apache-2.0 */
/* Short words for programs that use /dev/iommu as any program would: through libc. They know nothing of the library but its numbers and structs. */
#ifndef IOF_TESTS_PROGRAM_H
#define IOF_TESTS_PROGRAM_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../c/check.h"
#include "dispatch/uapi_container.h"
#include "preload/mock_priv.h"

#define PAGE 4096ul
#define FAILS(call, with)                                                                                              \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		CHECK_EQ((long)(call), -1);                                                                            \
		CHECK_EQ(errno, with);                                                                                 \
	} while (0)

static inline int iommu(void)
{
	return open("/dev/iommu", O_RDWR);
}

static inline uint32_t ioas_alloc(int fd)
{
	struct iof_cmd_ioas_alloc c = { .size = sizeof(c) };

	return ioctl(fd, IOF_CMD_IOAS_ALLOC, &c) ? 0 : c.out_ioas_id;
}

static inline int destroy(int fd, uint32_t id)
{
	struct iof_cmd_destroy c = { .size = sizeof(c), .id = id };

	return ioctl(fd, IOF_CMD_DESTROY, &c);
}

static inline int map(int fd, uint32_t ioas, void *at, uint64_t n, uint64_t *iova)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .ioas_id = ioas,
				      .user_va = (uintptr_t)at, .length = n };
	int rc = ioctl(fd, IOF_CMD_IOAS_MAP, &c);

	*iova = c.iova;
	return rc;
}

static inline int unmap(int fd, uint32_t ioas, uint64_t iova, uint64_t n)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = ioas, .iova = iova, .length = n };

	return ioctl(fd, IOF_CMD_IOAS_UNMAP, &c);
}

/* ---- the mock's command ---- */

static inline int mock(int fd, uint32_t op, uint32_t id, struct mock_cmd *c)
{
	c->size = sizeof(*c);
	c->op = op;
	c->id = id;
	return ioctl(fd, MOCK_CMD, c);
}

/* A mock device on pt_id: its DEVICE id, 0: none. */
static inline uint32_t mock_device(int fd, uint32_t pt_id, uint32_t *stdev, uint32_t *hwpt)
{
	struct mock_cmd c = { 0 };

	if (mock(fd, 2, pt_id, &c))
		return 0;
	if (stdev)
		*stdev = c.domain.out_stdev;
	if (hwpt)
		*hwpt = c.domain.out_hwpt;
	return c.domain.out_dev;
}

static inline int pins(int fd, void *at, uint32_t n)
{
	struct mock_cmd c = { .check_refs = { .length = PAGE, .uptr = (uintptr_t)at, .refs = n } };

	return mock(fd, 4, 0, &c);
}

static inline int trigger(int fd, uint32_t dev, uint32_t group)
{
	struct mock_cmd c = { .fault = { .dev = dev, .pasid = 1, .group = group, .perm = 2, .addr = 0x5000 } };

	return mock(fd, 15, 0, &c);
}

/* A device whose faults go to a queue: the queue's descriptor, -1 when something does not work. */
struct faulty {
	int fd, queue;
	uint32_t ioas, dev, stdev, fault, parent, nested;
};

static inline uint32_t hwpt(struct faulty *f, uint32_t pt, uint32_t flags, uint32_t fault)
{
	struct hwpt_data {
		uint32_t iotlb;
	} data = { 7 };
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = f->dev, .pt_id = pt, .fault_id = fault };

	if (flags & IOF_HWPT_FAULT_ID_VALID) {
		c.data_type = MOCK_DATA_HWPT;
		c.data_len = sizeof(data);
		c.data_uptr = (uintptr_t)&data;
	}
	return ioctl(f->fd, IOF_CMD_HWPT_ALLOC, &c) ? 0 : c.out_hwpt_id;
}

static inline int faulty(struct faulty *f)
{
	struct iof_cmd_fault_queue_alloc q = { .size = sizeof(q) };
	struct mock_cmd c = { 0 };

	f->fd = iommu();
	f->ioas = ioas_alloc(f->fd);
	f->dev = mock_device(f->fd, f->ioas, &f->stdev, NULL);
	if (!f->dev || ioctl(f->fd, IOF_CMD_FAULT_QUEUE_ALLOC, &q))
		return -1;
	f->fault = q.out_fault_id;
	f->queue = (int)q.out_fault_fd;
	f->parent = hwpt(f, f->ioas, IOF_HWPT_NEST_PARENT, 0);
	f->nested = f->parent ? hwpt(f, f->parent, IOF_HWPT_FAULT_ID_VALID, f->fault) : 0;
	if (!f->nested)
		return -1;
	c.replace.pt_id = f->nested;
	return mock(f->fd, 10, f->stdev, &c) ? -1 : f->queue;
}

static inline void *shared_pages(size_t n)
{
	return mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* The lines of this process's status that have this name, as KiB; -1: none. */
static inline long status(FILE *f, const char *name)
{
	char line[256];
	long value = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)))
			value = atol(line + strlen(name));
	return value;
}

static inline int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#endif
