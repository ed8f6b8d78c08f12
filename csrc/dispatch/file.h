/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open file of the engine: the iommufd (a context) or a device, with the number by which BIND names it.
 *
 * Locks: `lock` covers `dev` of a device file: BIND sets it, close takes it away.
 */
#ifndef IOF_DISPATCH_FILE_H
#define IOF_DISPATCH_FILE_H

#include "ioas/context.h"
#include "ioas/device.h"

struct iof_file {
	struct iof_machine *machine; /* one reference */
	int number;
	struct iof_context *ctx; /* the iommufd; NULL: a device file */
	struct iof_mdev *mdev; /* a device file's device */
	struct iof_device *dev; /* once bound */
	struct iof_lock lock;
};

int iof_file_open_context(struct iof_machine *m, struct iof_file *f); /* 0, -ENOMEM */
int iof_file_open_device(struct iof_machine *m, uint32_t index, struct iof_file *f); /* 0, -ENODEV, -ENOMEM */
void iof_file_close(struct iof_file *f);

/* The context behind a number, with one reference: -EBADF nothing is open there; -EBADFD it is a device. */
int iof_file_context(struct iof_machine *m, int number, struct iof_context **out);

#endif
