/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock hardware of Linux's own iommufd selftests: an IOMMU, its devices, and the one command by which a test program plays them (behaviour.md
 * chapter 9).
 *
 * It is an embedder like any other: it stands outside the engine and uses the public C API only (iommufd_fast.h, iommufd_fast_embed.h and
 * what they include). What it needs from its surroundings is a machine and somebody who keeps file descriptors.
 *
 * Locks: `lock` covers the devices, from finding one by its id until the command is through with it, and is held while such a device is closed. It is taken before
 * every lock of the engine; the driver's functions, which run under the engine's, never take it. An access has a lock of its own.
 */
#ifndef IOF_PRELOAD_MOCK_H
#define IOF_PRELOAD_MOCK_H

#include "iommufd_fast_embed.h"
#include "util/alloc.h"
#include "util/lock.h"

#define MOCK_CMD 0x3ba0ul
#define MOCK_FIRST_NR 0x95u /* numbers from here to MOCK_LAST_NR are behind the same checks as the engine's */
#define MOCK_LAST_NR 0xa0u

/* Who keeps descriptors: `release` is what becomes of the object when the last of them is closed, and names its type. */
struct mock_files {
	int (*open)(void *object, void (*release)(void *object)); /* a new number, close-on-exec; -errno */
	void (*forget)(int number); /* closes it without a release */
	/* The open file, which stays until put, and its object; NULL: not one of this type. */
	void *(*get)(int number, void (*release)(void *object), void **object);
	void (*put)(void *file);
};

struct mock {
	struct iof_machine *machine;
	struct iof_alloc *alloc;
	struct iof_iommu *iommu;
	const struct mock_files *files;
	struct iof_lock lock;
};

/* The machine gets one more IOMMU. `m`, in memory that the machine's processes share, has to outlive it. -ENOMEM. */
int mock_init(struct mock *m, struct iof_machine *machine, struct iof_alloc *alloc, const struct mock_files *files);

/* ioctl() on a context with a number from MOCK_FIRST_NR to MOCK_LAST_NR: 0 (or a descriptor), -errno. */
int mock_ioctl(struct mock *m, struct iof_handle *ctx, unsigned long cmd, uint64_t arg);

#endif
