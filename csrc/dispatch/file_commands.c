/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about files as memory: MAP_FILE (behaviour.md 2.16) and CHANGE_PROCESS (2.19). */
#include <errno.h>

#include "dispatch/call.h"
#include "ioas/process.h"

#define MAP_FLAGS (IOF_MAP_FIXED_IOVA | IOF_MAP_WRITEABLE | IOF_MAP_READABLE)

static int check_map(const struct iof_cmd_ioas_map_file *cmd)
{
	if (cmd->flags & ~MAP_FLAGS)
		return -EOPNOTSUPP;
	if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX)
		return -EOVERFLOW;
	return cmd->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE) ? 0 : -EINVAL;
}

int iofi_ioas_map_file(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_map_file *cmd = p;
	struct iof_map_request rq;
	struct iof_ioas *ioas;
	int rc = check_map(cmd);

	if (rc)
		return rc;
	rc = iof_call_enter(call, cmd->ioas_id, &ioas);
	if (rc)
		return rc;
	rq = (struct iof_map_request){ .file = true, .fd = cmd->fd, .user_va = cmd->start, .length = cmd->length,
				       .iova = cmd->iova, .prot = iofi_prot_of(cmd->flags),
				       .fixed = cmd->flags & IOF_MAP_FIXED_IOVA,
				       .policy = call->ctx->machine->memory.policy };
	rc = iof_ioas_map(ioas, &rq);
	iof_object_leave(&ioas->object);
	if (rc)
		return rc;
	cmd->iova = rq.iova;
	return iof_call_respond(call, cmd);
}

int iofi_change_process(struct iof_call *call, void *p)
{
	const struct iof_cmd_change_process *cmd = p;

	return cmd->reserved ? -EOPNOTSUPP : iof_context_change_process(call->ctx);
}
