/* SPDX-License-Identifier: Apache-2.0 */
/* The soft machines: devices are files under /dev/vfio/devices, bound and attached as the kernel's are. */
#define _GNU_SOURCE
#include "program.h"

static int bind_to(int dev, int fd, uint32_t *id)
{
	struct iof_cmd_bind c = { .argsz = sizeof(c), .iommufd = fd };
	int rc = ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &c);

	*id = c.out_devid;
	return rc;
}

static int attach(int dev, uint32_t pt)
{
	struct iof_cmd_attach c = { .argsz = sizeof(c), .pt_id = pt };

	return ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, &c);
}

TEST(bind_attach_map)
{
	int fd = iommu(), dev = open("/dev/vfio/devices/vfio0", O_RDWR);
	uint32_t ioas = ioas_alloc(fd), id;
	char *at = shared_pages(2);
	uint64_t iova;

	CHECK(dev > 2);
	FAILS(attach(dev, ioas), EINVAL);
	FAILS(bind_to(dev, dev, &id), EBADFD);
	FAILS(bind_to(dev, 1, &id), EBADF);
	CHECK_EQ(bind_to(dev, fd, &id), 0);
	CHECK(id > ioas);
	CHECK_EQ(attach(dev, ioas), 0);
	CHECK_EQ(map(fd, ioas, at, 2 * PAGE, &iova), 0);
	FAILS(map(fd, ioas, (void *)PAGE, PAGE, &iova), EFAULT);
	FAILS(destroy(fd, ioas), EBUSY);
	close(dev);
	CHECK_EQ(destroy(fd, ioas), 0);
	close(fd);
}

TEST(no_other_device)
{
	FAILS(open("/dev/vfio/devices/vfio7", O_RDWR), ENOENT);
	FAILS(open("/dev/vfio/devices/vfio00", O_RDWR), ENOENT);
	FAILS(open("/dev/vfio/devices/vfio", O_RDWR), ENOENT);
}

TEST(mock_command_is_the_mock_machine_only)
{
	struct mock_cmd c = { 0 };
	int fd = iommu();

	FAILS(mock(fd, 2, 1, &c), ENOTTY);
	close(fd);
}

/* A device's group is one context's, in whichever process; a dead owner does not keep it. */
TEST(owner_in_another_process)
{
	int fd = iommu(), dev = open("/dev/vfio/devices/vfio0", O_RDWR), ready[2];
	uint32_t id;
	char c = 0;
	pid_t child;

	CHECK_EQ(pipe(ready), 0);
	child = fork();
	if (!child) {
		int other = iommu(), again = open("/dev/vfio/devices/vfio1", O_RDWR);

		if (bind_to(again, other, &id) || write(ready[1], &c, 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	FAILS(bind_to(dev, fd, &id), EPERM);
	kill(child, SIGKILL);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK_EQ(bind_to(dev, fd, &id), 0);
	close(dev), close(fd), close(ready[0]);
}
