/* SPDX-License-Identifier: Apache-2.0 */
/* FAULT_QUEUE_ALLOC, VEVENTQ_ALLOC and the files they open (behaviour.md 2.15, 2.20, 8.1, 8.5). */
#include <errno.h>
#include <poll.h>

#include "dispatch/call.h"
#include "ioas/fault.h"
#include "ioas/veventq.h"

#define READABLE (POLLIN | POLLRDNORM)

/* The file's number is the queue's bell. */
static void give_bell(const struct iof_file *f, struct iof_bell *bell)
{
	bell->host = f->machine->host;
	bell->at = f->at;
}

/* ---- a fault queue's file ---- */

static int64_t fault_read(struct iof_file *f, uint64_t to, size_t n)
{
	return iof_fault_read(f->object, to, n);
}

static int64_t fault_write(struct iof_file *f, uint64_t from, size_t n)
{
	return iof_fault_write(f->object, from, n);
}

static unsigned fault_poll(struct iof_file *f)
{
	return POLLOUT | (iof_fault_readable(f->object) ? READABLE : 0);
}

static void fault_renumber(struct iof_file *f, int number)
{
	iof_fault_set_bell(f->object, number);
}

static void fault_release(struct iof_file *f)
{
	struct iof_fault *fault = f->object;

	iof_object_put(&fault->object);
}

static const struct iof_file_ops fault_ops = {
	.kind = IOF_FILE_FAULT,
	.read = fault_read,
	.write = fault_write,
	.poll = fault_poll,
	.renumber = fault_renumber,
	.release = fault_release,
};

/* Everything that can fail comes first; then object and file appear together, under the control lock. */
static int fault_open(struct iof_call *call, struct iof_cmd_fault_queue_alloc *cmd, struct iof_fault *fault)
{
	struct iof_file *f;
	int rc = iof_file_make(call->ctx->machine, call->ctx, &fault_ops, &f);

	if (rc)
		return rc;
	cmd->out_fault_id = fault->object.id;
	cmd->out_fault_fd = (uint32_t)f->number;
	rc = iof_call_respond(call, cmd);
	if (rc) {
		iof_file_abort(f);
		return rc;
	}
	iof_object_publish(&fault->object);
	iof_object_ref(&fault->object);
	f->object = fault;
	give_bell(f, &fault->bell);
	iof_fault_set_bell(fault, f->number);
	iof_file_install(f);
	return 0;
}

int iofi_fault_queue_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_fault_queue_alloc *cmd = p;
	struct iof_context *ctx = call->ctx;
	struct iof_fault *fault;
	int rc;

	if (cmd->flags)
		return -EOPNOTSUPP;
	iof_lock_take(&ctx->control);
	rc = iof_fault_create(ctx, &fault);
	if (!rc) {
		rc = fault_open(call, cmd, fault);
		if (rc)
			iof_fault_abort(ctx, fault);
	}
	iof_lock_drop(&ctx->control);
	return rc;
}

/* ---- an event queue's file ---- */

static int64_t veventq_read(struct iof_file *f, uint64_t to, size_t n)
{
	return iof_veventq_read(f->object, to, n);
}

static unsigned veventq_poll(struct iof_file *f)
{
	return iof_veventq_readable(f->object) ? READABLE : 0;
}

static void veventq_renumber(struct iof_file *f, int number)
{
	iof_veventq_set_bell(f->object, number);
}

static void veventq_release(struct iof_file *f)
{
	struct iof_veventq *q = f->object;

	iof_object_put(&q->object);
}

static const struct iof_file_ops veventq_ops = {
	.kind = IOF_FILE_VEVENTQ,
	.read = veventq_read,
	.poll = veventq_poll,
	.renumber = veventq_renumber,
	.release = veventq_release,
};

static int veventq_open(struct iof_call *call, struct iof_cmd_veventq_alloc *cmd, struct iof_veventq *q)
{
	struct iof_file *f;
	int rc = iof_file_make(call->ctx->machine, call->ctx, &veventq_ops, &f);

	if (rc)
		return rc;
	cmd->out_veventq_id = q->object.id;
	cmd->out_veventq_fd = (uint32_t)f->number;
	rc = iof_call_respond(call, cmd);
	if (rc) {
		iof_file_abort(f);
		return rc;
	}
	f->object = q;
	give_bell(f, &q->bell);
	iof_veventq_set_bell(q, f->number);
	iof_veventq_publish(q);
	iof_object_ref(&q->object);
	iof_file_install(f);
	return 0;
}

static int veventq_alloc(struct iof_call *call, struct iof_cmd_veventq_alloc *cmd, struct iof_viommu *v)
{
	struct iof_veventq *q;
	int rc = iof_veventq_create(call->ctx, v, cmd->type, cmd->veventq_depth, &q);

	if (rc)
		return rc;
	rc = veventq_open(call, cmd, q);
	if (rc)
		iof_veventq_abort(call->ctx, q);
	return rc;
}

int iofi_veventq_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_veventq_alloc *cmd = p;
	struct iof_context *ctx = call->ctx;
	struct iof_object *v;
	int rc;

	if (cmd->flags || cmd->reserved || !cmd->type)
		return -EOPNOTSUPP;
	if (!cmd->veventq_depth || cmd->veventq_depth > IOF_VEVENTQ_DEPTH_MAX)
		return -EINVAL;
	v = iof_object_get(&ctx->objects, cmd->viommu_id, IOF_OBJECT_VIOMMU);
	if (!v)
		return -ENOENT;
	iof_lock_take(&ctx->control);
	rc = veventq_alloc(call, cmd, (struct iof_viommu *)v);
	iof_lock_drop(&ctx->control);
	iof_object_put(v);
	return rc;
}
