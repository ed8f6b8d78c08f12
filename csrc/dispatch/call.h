/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running ioctl: who asks, where the struct is, and the way back (behaviour.md 1.6).
 *
 * A handler gets a zero-extended copy of the struct and answers through iof_call_respond(), which writes back as much as the
 * caller's struct has room for, input fields included (R1.6.3).
 */
#ifndef IOF_DISPATCH_CALL_H
#define IOF_DISPATCH_CALL_H

#include "dispatch/file.h"
#include "dispatch/uapi.h"
#include "util/guard.h"

#define IOF_CMD_MAX_SIZE 72

struct iof_call {
	struct iof_context *ctx;
	struct iof_file *file; /* device commands */
	uint64_t arg; /* the caller's struct */
	uint32_t user_size, known_size;
	bool nowait;
};

typedef int (*iof_handler)(struct iof_call *call, void *cmd);

struct iof_command {
	uint32_t cmd;
	uint16_t size, min;
	bool quick; /* may answer a caller that cannot wait */
	iof_handler handler;
};

static inline int iof_call_respond(const struct iof_call *call, const void *cmd)
{
	return iof_copy_out(call->arg, cmd, call->user_size < call->known_size ? call->user_size : call->known_size);
}

/* The object as its type, with one user (put with iof_object_put()). NULL: absent or of another type. */
static inline struct iof_ioas *iof_call_ioas(const struct iof_call *call, uint32_t id)
{
	return (struct iof_ioas *)iof_object_get(&call->ctx->objects, id, IOF_OBJECT_IOAS);
}

/* For the commands that come all the time: the IOAS, its gate read until iof_object_leave(). -ENOENT; -EAGAIN for a caller that cannot wait. */
static inline int iof_call_enter(const struct iof_call *call, uint32_t id, struct iof_ioas **out)
{
	return iof_object_enter(&call->ctx->objects, id, call->nowait, (struct iof_object **)out);
}

/*
 * The raw door of a context and of a device file. -ENOTTY: no such command, or one that is not built yet. With nowait: -EAGAIN unless the
 * command can be done without waiting, nothing done. A command has 32 bits, as in the kernel; what a C program passes above them is lost there too.
 */
int iof_dispatch_context(struct iof_context *ctx, uint32_t cmd, uint64_t arg, bool nowait);
int iof_dispatch_device(struct iof_file *file, uint32_t cmd, uint64_t arg);

/* Copies an extensible struct: -E2BIG a non-zero byte beyond `known`; -EFAULT. The missing tail is zero (R1.6.2 step 5). */
int iofi_copy_extensible(void *to, uint64_t from, uint32_t user_size, uint32_t known);

/* Reads the handlers' shared flags: IOF_MAP_* to protection bits. */
unsigned iofi_prot_of(uint32_t map_flags);

/* The VFIO container's commands (behaviour.md 2.22); nothing is read from `arg` of an unknown one. */
int iofi_container_ioctl(struct iof_context *ctx, unsigned long cmd, uint64_t arg);

/* UNMAP from the look-up on (2.7). *bytes: what went, on errors too. */
int iof_unmap_request(struct iof_ioas *ioas, uint64_t iova, uint64_t length, bool nowait, uint64_t *bytes);

/* handlers */
int iofi_ioas_alloc(struct iof_call *call, void *cmd);
int iofi_ioas_allow_iovas(struct iof_call *call, void *cmd);
int iofi_ioas_iova_ranges(struct iof_call *call, void *cmd);
int iofi_ioas_map(struct iof_call *call, void *cmd);
int iofi_ioas_map_file(struct iof_call *call, void *cmd);
int iofi_change_process(struct iof_call *call, void *cmd);
int iofi_ioas_copy(struct iof_call *call, void *cmd);
int iofi_ioas_unmap(struct iof_call *call, void *cmd);
int iofi_destroy(struct iof_call *call, void *cmd);
int iofi_vfio_ioas(struct iof_call *call, void *cmd);
int iofi_option(struct iof_call *call, void *cmd);
int iofi_hwpt_alloc(struct iof_call *call, void *cmd);
int iofi_set_dirty_tracking(struct iof_call *call, void *cmd);
int iofi_get_dirty_bitmap(struct iof_call *call, void *cmd);
int iofi_hwpt_invalidate(struct iof_call *call, void *cmd);
int iofi_get_hw_info(struct iof_call *call, void *cmd);
int iofi_viommu_alloc(struct iof_call *call, void *cmd);
int iofi_vdevice_alloc(struct iof_call *call, void *cmd);
int iofi_hw_queue_alloc(struct iof_call *call, void *cmd);
int iofi_fault_queue_alloc(struct iof_call *call, void *cmd);
int iofi_veventq_alloc(struct iof_call *call, void *cmd);

#endif
