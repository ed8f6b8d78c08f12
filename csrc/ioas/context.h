/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A context: one open of the iommufd. It owns all ids (behaviour.md 1.1).
 *
 * References: one by its handle, one by every device bound to it. When the last goes, every object is destroyed in ascending order of ids, round
 * after round, until none is left (R1.1.6).
 *
 * Locks: `control` is held by every command that makes, destroys, attaches or configures; MAP, UNMAP, COPY and translation do not
 * take it and find their objects without it.
 */
#ifndef IOF_IOAS_CONTEXT_H
#define IOF_IOAS_CONTEXT_H

#include "ioas/machine.h"
#include "ioas/object.h"

struct iof_context {
	struct iof_machine *machine;
	struct iof_context *next; /* machine lock */
	_Atomic uint32_t refs;
	struct iof_lock control;
	struct iof_objects objects;
	struct iof_msi_table *msi; /* control lock: doorbell pages (msi.h); made on first use */
	struct iof_exposed *exposed; /* control lock: what mmap on the file can reach (viommu.h), ascending offsets */
	_Atomic bool mm_mode; /* OPTION RLIMIT_MODE (2.8) */
	_Atomic uint32_t compat_ioas; /* what the VFIO container's commands mean (VFIO_IOAS, 2.9); 0: none. No reference */
};

int iof_context_create(struct iof_machine *m, struct iof_context **out); /* 0, -ENOMEM */
void iof_context_ref(struct iof_context *ctx);
void iof_context_unref(struct iof_context *ctx); /* not under any lock */

/* IOMMU_DESTROY: -ENOENT, -EBUSY. */
int iof_context_destroy(struct iof_context *ctx, uint32_t id);

/* OPTION RLIMIT_MODE: -EPERM without CAP_SYS_RESOURCE, -EBUSY while any id is in use, -EINVAL. */
int iof_context_set_rlimit_mode(struct iof_context *ctx, uint64_t value);

/* Who pays for what the caller maps now (R4.1.3, or the machine's fixed choice). NULL in *out: nobody. */
int iof_context_account(struct iof_context *ctx, struct iof_account **out);

#endif
