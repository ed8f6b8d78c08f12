/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bound device, its group and its endpoints (behaviour.md chapter 6).
 *
 * Binding claims the DMA of the whole group for one context; there is no unbind call: the device's file closes, and that detaches and unbinds. An *endpoint* is one
 * (device, PASID) that can issue DMA, PASID 0 standing for the device's own requester id. Attached, it belongs to exactly one HWPT and through it to one IOAS.
 * A *seat* is where a PASID of a group is attached: all devices of the group that use this PASID sit at the same HWPT, so a replace moves them all (R6.9.1).
 *
 * Users of the DEVICE object: the table, the open file (2 in all), one per endpoint, one for its vDevice.
 *
 * Locks: all of this under the context's control lock. DMA reads mdev->endpoints and endpoint->hwpt inside mdev->rsec.
 */
#ifndef IOF_IOAS_DEVICE_H
#define IOF_IOAS_DEVICE_H

#include "ioas/context.h"
#include "ioas/hwpt.h"

struct iof_vdevice;

struct iof_endpoint {
	struct iof_device *dev;
	uint32_t pasid; /* 0: the requester id */
	struct iof_seat *seat;
	struct iof_endpoint *next; /* at the seat */
	struct iof_endpoint *_Atomic sibling; /* of the device */
	struct iof_hwpt *_Atomic hwpt; /* what DMA goes through */
};

struct iof_device {
	struct iof_object object;
	struct iof_context *ctx; /* one reference, unless caps.weak */
	struct iof_mdev *mdev;
	struct iof_vdevice *vdevice; /* made from it; NULL */
};

/* 0; -EPERM the group is another context's; -ENOMEM. The device is blocked until attached. */
int iof_device_bind(struct iof_context *ctx, struct iof_mdev *mdev, struct iof_device **out);
/* Detaches every endpoint, kills the vDevice (its id becomes a tombstone), releases the group, frees. The context may go with it. */
void iof_device_unbind(struct iof_device *dev);

enum iof_attach_how {
	IOF_ATTACH_NEW, /* -EBUSY when attached */
	IOF_ATTACH_REPLACE, /* -EINVAL when not attached */
	IOF_ATTACH_EITHER, /* as VFIO does (2.23.3) */
};

/*
 * Attaches (device, pasid) to a HWPT or, through an automatic one, to an IOAS. *pt_id comes back as the HWPT's id. -ENOENT, -EINVAL other type or
 * another driver's table or PASID rules (6.7), -EOPNOTSUPP no PASIDs, -EADDRINUSE a mapping or allowed range meets a reserved region, and what the
 * replay met. Control lock is taken.
 */
int iof_device_attach(struct iof_device *dev, uint32_t pasid, enum iof_attach_how how, uint32_t *pt_id);
void iof_device_detach(struct iof_device *dev, uint32_t pasid); /* nothing when not attached */
void iofi_detach(struct iof_device *dev, uint32_t pasid); /* the same under the control lock */

/* The endpoint, NULL when not attached. Control lock, or inside mdev->rsec. */
struct iof_endpoint *iof_mdev_endpoint(struct iof_mdev *mdev, uint32_t pasid);

#endif
