/* SPDX-License-Identifier: Apache-2.0 */
/* DESTROY and OPTION (behaviour.md 2.1, 2.8). */
#include <errno.h>
#include <stddef.h>

#include "dispatch/call.h"

int iofi_destroy(struct iof_call *call, void *p)
{
	struct iof_cmd_destroy *cmd = p;

	return iof_context_destroy(call->ctx, cmd->id);
}

/* ---- OPTION ---- */

static int rlimit_mode(struct iof_call *call, struct iof_cmd_option *cmd)
{
	if (cmd->object_id)
		return -EOPNOTSUPP;
	if (cmd->op == IOF_OPTION_GET) {
		cmd->val64 = atomic_load(&call->ctx->mm_mode);
		return 0;
	}
	if (cmd->op == IOF_OPTION_SET)
		return iof_context_set_rlimit_mode(call->ctx, cmd->val64);
	return -EOPNOTSUPP;
}

static int huge_pages_of(struct iof_ioas *ioas, struct iof_cmd_option *cmd)
{
	if (cmd->op == IOF_OPTION_GET) {
		cmd->val64 = iof_ioas_large_pages(ioas);
		return 0;
	}
	if (cmd->op != IOF_OPTION_SET)
		return -EOPNOTSUPP;
	return cmd->val64 > 1 ? -EINVAL : iof_ioas_set_large_pages(ioas, cmd->val64);
}

static int huge_pages(struct iof_call *call, struct iof_cmd_option *cmd)
{
	struct iof_ioas *ioas = iof_call_ioas(call, cmd->object_id);
	int rc;

	if (!ioas)
		return -ENOENT;
	rc = huge_pages_of(ioas, cmd);
	iof_object_put(&ioas->object);
	return rc;
}

/* Only val64 goes back, for SET too. */
int iofi_option(struct iof_call *call, void *p)
{
	struct iof_cmd_option *cmd = p;
	int rc;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	switch (cmd->option_id) {
	case IOF_OPTION_RLIMIT_MODE:
		rc = rlimit_mode(call, cmd);
		break;
	case IOF_OPTION_HUGE_PAGES:
		rc = huge_pages(call, cmd);
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (rc)
		return rc;
	return iof_copy_out(call->arg + offsetof(struct iof_cmd_option, val64), &cmd->val64, sizeof(cmd->val64));
}
