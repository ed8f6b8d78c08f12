/* SPDX-License-Identifier: Apache-2.0 */
/* DESTROY, OPTION, HWPT_ALLOC (behaviour.md 2.1, 2.8, 2.10). */
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

/* ---- HWPT_ALLOC ---- */

/* By what pt_id is. Flags and driver data are for tables that are not built yet: a driver without them (5.1 step 1, 5.2). */
static int alloc_on(struct iof_device *dev, struct iof_object *pt, const struct iof_cmd_hwpt_alloc *cmd, struct iof_hwpt **out)
{
	switch (pt->type) {
	case IOF_OBJECT_IOAS:
		if (cmd->flags || cmd->data_len)
			return -EOPNOTSUPP;
		return iof_device_alloc_hwpt(dev, (struct iof_ioas *)pt, out);
	case IOF_OBJECT_HWPT:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

static int hwpt_alloc(struct iof_call *call, struct iof_device *dev, struct iof_cmd_hwpt_alloc *cmd)
{
	struct iof_object *pt = iof_object_get(&call->ctx->objects, cmd->pt_id, IOF_OBJECT_ANY);
	struct iof_hwpt *hwpt;
	int rc;

	if (!pt)
		return -EINVAL;
	rc = alloc_on(dev, pt, cmd, &hwpt);
	iof_object_put(pt);
	if (rc)
		return rc;
	cmd->out_hwpt_id = hwpt->object.id;
	rc = iof_call_respond(call, cmd);
	if (rc)
		iof_hwpt_discard(hwpt);
	else
		iof_object_publish(&hwpt->object);
	return rc;
}

/* The lock comes before the look-up of the device: one who closes it waits for its users while holding that lock. */
int iofi_hwpt_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_hwpt_alloc *cmd = p;
	struct iof_object *dev;
	int rc = -ENOENT;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	if (!cmd->data_type != !cmd->data_len)
		return -EINVAL;
	iof_lock_take(&call->ctx->control);
	dev = iof_object_get(&call->ctx->objects, cmd->dev_id, IOF_OBJECT_DEVICE);
	if (dev) {
		rc = hwpt_alloc(call, (struct iof_device *)dev, cmd);
		iof_object_put(dev);
	}
	iof_lock_drop(&call->ctx->control);
	return rc;
}
