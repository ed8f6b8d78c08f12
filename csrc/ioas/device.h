/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bound device, its group and its endpoint (behaviour.md chapter 6).
 *
 * Binding claims the DMA of the whole group for one context; there is no unbind call: the device's file closes, and that detaches and unbinds. The
 * device's requester id is one endpoint; attached, it belongs to exactly one HWPT and through it to one IOAS. All attached devices of a group
 * are at the same HWPT, so a replace moves them all (R6.9.1).
 *
 * Users of the DEVICE object: the table, the open file (2 in all), one more while attached.
 *
 * Locks: all of this under the context's control lock; DMA reads mdev->hwpt inside mdev->rsec.
 */
#ifndef IOF_IOAS_DEVICE_H
#define IOF_IOAS_DEVICE_H

#include "ioas/context.h"
#include "ioas/hwpt.h"

struct iof_device {
	struct iof_object object;
	struct iof_context *ctx; /* one reference */
	struct iof_mdev *mdev;
	bool attached; /* to mdev->group->hwpt */
	struct iof_device *next_attached; /* the group's list */
};

/* 0; -EPERM the group is another context's; -ENOMEM. The device is blocked until attached. */
int iof_device_bind(struct iof_context *ctx, struct iof_mdev *mdev, struct iof_device **out);
/* Detaches, releases the group, frees. The context may go with it. */
void iof_device_unbind(struct iof_device *dev);

/*
 * Attaches to a HWPT or, through an automatic one, to an IOAS; replaces when already attached (2.23.3). *pt_id comes back as the HWPT's id.
 * -ENOENT, -EINVAL other type or another IOMMU's table, -EADDRINUSE a mapping or allowed range meets a reserved region, and what the replay met.
 */
int iof_device_attach(struct iof_device *dev, uint32_t *pt_id);
void iof_device_detach(struct iof_device *dev); /* nothing when not attached */

void iofi_detach(struct iof_device *dev); /* the same under the control lock */

/* HWPT_ALLOC on an IOAS (5.1): makes a table for the device's IOMMU and joins it. Not published. Control lock. */
int iof_device_alloc_hwpt(struct iof_device *dev, struct iof_ioas *ioas, struct iof_hwpt **out);

#endif
