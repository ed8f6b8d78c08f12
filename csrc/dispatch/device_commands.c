/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands on a device file (behaviour.md 2.23). VFIO's rules, not iommufd's: argsz instead of size, a fixed prefix is read, and unknown flags
 * are EINVAL. Until BIND every other command is EINVAL.
 */
#include <errno.h>
#include <stddef.h>

#include "dispatch/call.h"

#define BIND_MIN 16
#define INFO_MIN 16
#define ATTACH_MIN 12
#define DETACH_MIN 8

/* ---- BIND ---- */

static int bind_to(struct iof_file *f, int number, struct iof_device **dev)
{
	struct iof_context *ctx;
	int rc = iof_file_context(f->machine, number, &ctx);

	if (rc)
		return rc;
	rc = iof_device_bind(ctx, f->mdev, dev);
	iof_context_unref(ctx);
	return rc;
}

static int bind(struct iof_file *f, uint64_t arg)
{
	struct iof_cmd_bind cmd;
	struct iof_device *dev;
	uint32_t argsz;
	int rc = iof_copy_in(&argsz, arg, sizeof(argsz));

	if (rc)
		return rc;
	if (argsz < BIND_MIN)
		return -EINVAL;
	rc = iofi_copy_extensible(&cmd, arg, argsz, sizeof(cmd));
	if (rc)
		return rc;
	/* A soft device knows no tokens, so that flag is as unknown as any. */
	if (cmd.iommufd < 0 || cmd.flags || f->dev)
		return -EINVAL;
	rc = bind_to(f, cmd.iommufd, &dev);
	if (rc)
		return rc;
	rc = iof_copy_out(arg + offsetof(struct iof_cmd_bind, out_devid), &dev->object.id, sizeof(dev->object.id));
	if (rc)
		iof_device_unbind(dev);
	else
		f->dev = dev;
	return rc;
}

/* ---- ATTACH, DETACH, GET_INFO ---- */

/* The PASID of a command: 0 without the flag, else the field that follows `min` bytes of the struct (2.23.3). */
static int read_pasid(struct iof_file *f, uint64_t arg, uint32_t argsz, uint32_t flags, uint32_t min, uint32_t *pasid)
{
	*pasid = 0;
	if (argsz < min || flags & ~(uint32_t)IOF_ATTACH_PASID)
		return -EINVAL;
	if (!flags)
		return 0;
	if (!f->mdev->caps.pasids)
		return -EOPNOTSUPP;
	if (argsz < min + sizeof(*pasid))
		return -EINVAL;
	if (iof_copy_in(pasid, arg + min, sizeof(*pasid)))
		return -EFAULT;
	return *pasid ? 0 : -EINVAL; /* PASID 0 is the requester id's */
}

static int attach(struct iof_file *f, uint64_t arg)
{
	struct iof_cmd_attach cmd;
	uint32_t pasid;
	int rc = iof_copy_in(&cmd, arg, ATTACH_MIN);

	if (!rc)
		rc = read_pasid(f, arg, cmd.argsz, cmd.flags, ATTACH_MIN, &pasid);
	if (!rc)
		rc = iof_device_attach(f->dev, pasid, IOF_ATTACH_EITHER, &cmd.pt_id);
	if (rc)
		return rc;
	rc = iof_copy_out(arg + offsetof(struct iof_cmd_attach, pt_id), &cmd.pt_id, sizeof(cmd.pt_id));
	if (rc)
		iof_device_detach(f->dev, 0); /* the requester id, also after attaching a PASID: as the kernel does */
	return rc;
}

static int detach(struct iof_file *f, uint64_t arg)
{
	struct iof_cmd_detach cmd;
	uint32_t pasid;
	int rc = iof_copy_in(&cmd, arg, DETACH_MIN);

	if (!rc)
		rc = read_pasid(f, arg, cmd.argsz, cmd.flags, DETACH_MIN, &pasid);
	if (!rc)
		iof_device_detach(f->dev, pasid);
	return rc;
}

/* A soft device has no regions and no interrupts: it only does DMA. */
static int get_info(uint64_t arg)
{
	struct iof_cmd_device_info info = { 0 };
	uint32_t argsz;
	int rc = iof_copy_in(&info, arg, INFO_MIN);

	if (rc)
		return rc;
	argsz = info.argsz;
	if (argsz < INFO_MIN)
		return -EINVAL;
	info = (struct iof_cmd_device_info){ .argsz = argsz };
	return iof_copy_out(arg, &info, argsz < sizeof(info) ? argsz : sizeof(info));
}

static int bound_command(struct iof_file *f, uint32_t cmd, uint64_t arg)
{
	switch (cmd) {
	case IOF_CMD_DEVICE_ATTACH_PT:
		return attach(f, arg);
	case IOF_CMD_DEVICE_DETACH_PT:
		return detach(f, arg);
	case IOF_CMD_DEVICE_GET_INFO:
		return get_info(arg);
	default:
		return -ENOTTY;
	}
}

int iof_dispatch_device(struct iof_file *f, uint32_t cmd, uint64_t arg)
{
	int rc;

	iof_lock_take(&f->lock);
	if (cmd == IOF_CMD_DEVICE_BIND_IOMMUFD)
		rc = bind(f, arg);
	else
		rc = f->dev ? bound_command(f, cmd, arg) : -EINVAL;
	iof_lock_drop(&f->lock);
	return rc;
}
