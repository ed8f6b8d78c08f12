/* SPDX-License-Identifier: Apache-2.0 */
/* The commands on an IOAS: argument checks in the contract's order, then the floor below (behaviour.md 2.2–2.7). */
#include <errno.h>

#include "dispatch/call.h"

#define MAP_FLAGS (IOF_MAP_FIXED_IOVA | IOF_MAP_WRITEABLE | IOF_MAP_READABLE)

int iofi_ioas_alloc(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_alloc *cmd = p;
	struct iof_context *ctx = call->ctx;
	struct iof_ioas *ioas;
	int rc;

	if (cmd->flags)
		return -EOPNOTSUPP;
	iof_lock_take(&ctx->control);
	rc = iof_ioas_create(ctx, &ioas);
	if (!rc) {
		cmd->out_ioas_id = ioas->object.id;
		rc = iof_call_respond(call, cmd);
		if (rc) {
			iof_object_abort(&ctx->objects, &ioas->object);
			iof_ioas_dispose(ioas);
		} else {
			iof_object_publish(&ioas->object);
		}
	}
	iof_lock_drop(&ctx->control);
	return rc;
}

/* ---- ALLOW_IOVAS ---- */

struct range_list {
	struct iof_range *at;
	size_t n, room;
};

static int range_push(struct iof_alloc *a, struct range_list *l, struct iof_range r)
{
	size_t room = l->room ? l->room * 2 : 16;
	struct iof_range *at;

	if (l->n == l->room) {
		at = iof_mem_get(a, room * sizeof(*at), 16);
		if (!at)
			return -ENOMEM;
		for (size_t i = 0; i < l->n; i++)
			at[i] = l->at[i];
		iof_mem_put(a, l->at, l->room * sizeof(*at));
		l->at = at;
		l->room = room;
	}
	l->at[l->n++] = r;
	return 0;
}

static int load_ranges(struct iof_alloc *a, struct range_list *l, uint64_t from, uint32_t n)
{
	struct iof_uapi_range r;
	int rc = 0;

	for (uint32_t i = 0; i < n && !rc; i++) {
		uint64_t at = from + (uint64_t)i * sizeof(r);

		rc = at < from ? -EFAULT : iof_copy_in(&r, at, sizeof(r));
		if (!rc && r.start >= r.last)
			rc = -EINVAL;
		if (!rc)
			rc = range_push(a, l, (struct iof_range){ r.start, r.last });
	}
	return rc;
}

/* Entries are judged one by one, so an overlap among those before a bad pointer wins over the pointer. */
static int prefix_error(struct iof_alloc *a, const struct range_list *l, int rc)
{
	struct iof_space *scratch;

	if (iof_space_create(a, &scratch))
		return -ENOMEM;
	if (iof_space_allow(scratch, l->at, l->n) == -EINVAL)
		rc = -EINVAL;
	iof_space_destroy(scratch);
	return rc;
}

int iofi_ioas_allow_iovas(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_allow_iovas *cmd = p;
	struct iof_alloc *a = call->ctx->machine->memory.alloc;
	struct range_list l = { 0 };
	struct iof_ioas *ioas;
	int rc;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	ioas = iof_call_ioas(call, cmd->ioas_id);
	if (!ioas)
		return -ENOENT;
	rc = load_ranges(a, &l, cmd->allowed_iovas, cmd->num_iovas);
	if (rc == -EFAULT)
		rc = prefix_error(a, &l, rc);
	if (!rc)
		rc = iof_ioas_allow(ioas, l.at, l.n);
	iof_mem_put(a, l.at, l.room * sizeof(*l.at));
	iof_object_put(&ioas->object);
	return rc;
}

/* ---- IOVA_RANGES ---- */

static int write_ranges(struct iof_ioas *ioas, struct iof_cmd_ioas_iova_ranges *cmd)
{
	struct iof_alloc *a = ioas->memory->alloc;
	size_t total = iof_ioas_ranges(ioas, NULL, 0, &cmd->out_iova_alignment);
	size_t n = total < cmd->num_iovas ? total : cmd->num_iovas;
	struct iof_range *r = iof_mem_get(a, (n + 1) * sizeof(*r), 16);
	int rc;

	_Static_assert(sizeof(struct iof_range) == sizeof(struct iof_uapi_range), "written out as they are");
	if (!r)
		return -ENOMEM;
	total = iof_ioas_ranges(ioas, r, n, &cmd->out_iova_alignment);
	rc = n ? iof_copy_out(cmd->allowed_iovas, r, (n < total ? n : total) * sizeof(*r)) : 0;
	iof_mem_put(a, r, (n + 1) * sizeof(*r));
	cmd->num_iovas = (uint32_t)total;
	return rc;
}

int iofi_ioas_iova_ranges(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_iova_ranges *cmd = p;
	uint32_t room = cmd->num_iovas;
	struct iof_ioas *ioas;
	int rc;

	if (cmd->reserved)
		return -EOPNOTSUPP;
	ioas = iof_call_ioas(call, cmd->ioas_id);
	if (!ioas)
		return -ENOENT;
	rc = write_ranges(ioas, cmd);
	if (!rc)
		rc = iof_call_respond(call, cmd);
	iof_object_put(&ioas->object);
	return !rc && cmd->num_iovas > room ? -EMSGSIZE : rc;
}

/* ---- MAP, COPY, UNMAP ---- */

int iofi_ioas_map(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_map *cmd = p;
	struct iof_map_request rq;
	struct iof_ioas *ioas;
	int rc;

	if (iof_unlikely(cmd->flags & ~MAP_FLAGS || cmd->reserved))
		return -EOPNOTSUPP;
	if (iof_unlikely(cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX))
		return -EOVERFLOW;
	if (iof_unlikely(!(cmd->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE))))
		return -EINVAL;
	if (iof_unlikely(call->nowait && cmd->length > IOF_NOWAIT_BYTES))
		return -EAGAIN;
	rc = iof_call_enter(call, cmd->ioas_id, &ioas);
	if (iof_unlikely(rc))
		return rc;
	rq = (struct iof_map_request){ .user_va = cmd->user_va, .length = cmd->length, .iova = cmd->iova,
				       .prot = iofi_prot_of(cmd->flags), .fixed = cmd->flags & IOF_MAP_FIXED_IOVA,
				       .nowait = call->nowait, .policy = call->ctx->machine->memory.policy };
	rc = iof_ioas_map(ioas, &rq);
	iof_object_leave(&ioas->object);
	if (iof_unlikely(rc))
		return rc;
	cmd->iova = rq.iova;
	return iof_call_respond(call, cmd);
}

static int copy_into(struct iof_call *call, struct iof_cmd_ioas_copy *cmd, struct iof_slices *s)
{
	struct iof_copy_request rq = { .src_iova = cmd->src_iova, .length = cmd->length, .iova = cmd->dst_iova,
				       .prot = iofi_prot_of(cmd->flags), .fixed = cmd->flags & IOF_MAP_FIXED_IOVA };
	struct iof_ioas *dst = iof_call_ioas(call, cmd->dst_ioas_id);
	int rc;

	if (!dst)
		return -ENOENT;
	rc = iof_ioas_map_slices(dst, s, &rq);
	iof_object_put(&dst->object);
	cmd->dst_iova = rq.iova;
	return rc ? rc : iof_call_respond(call, cmd);
}

int iofi_ioas_copy(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_copy *cmd = p;
	struct iof_slices slices;
	struct iof_ioas *src;
	int rc;

	if (cmd->flags & ~MAP_FLAGS)
		return -EOPNOTSUPP;
	if (cmd->length == UINT64_MAX || cmd->src_iova == UINT64_MAX || cmd->dst_iova == UINT64_MAX)
		return -EOVERFLOW;
	if (!(cmd->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE)))
		return -EINVAL;
	src = iof_call_ioas(call, cmd->src_ioas_id);
	if (!src)
		return -ENOENT;
	rc = iof_ioas_collect(src, cmd->src_iova, cmd->length, &slices);
	if (!rc) {
		rc = copy_into(call, cmd, &slices);
		iof_slices_fini(src, &slices);
	}
	iof_object_put(&src->object);
	return rc;
}

/* The whole space is asked for by a length that is no length; it may be empty. */
int iof_unmap_request(struct iof_ioas *ioas, uint64_t iova, uint64_t length, bool nowait, uint64_t *bytes)
{
	struct iof_range r;
	int rc;

	*bytes = 0;
	if (!iova && length == UINT64_MAX)
		return iof_ioas_unmap(ioas, IOF_RANGE_ALL, nowait, bytes);
	if (iova == UINT64_MAX || length == UINT64_MAX)
		return -EOVERFLOW;
	rc = iof_range_make(iova, length, &r);
	if (!rc)
		rc = iof_ioas_unmap(ioas, r, nowait, bytes);
	if (iof_unlikely(rc))
		return rc;
	return *bytes ? 0 : -ENOENT;
}

int iofi_ioas_unmap(struct iof_call *call, void *p)
{
	struct iof_cmd_ioas_unmap *cmd = p;
	struct iof_ioas *ioas;
	uint64_t bytes;
	int rc = iof_call_enter(call, cmd->ioas_id, &ioas);

	if (iof_unlikely(rc))
		return rc;
	rc = iof_unmap_request(ioas, cmd->iova, cmd->length, call->nowait, &bytes);
	iof_object_leave(&ioas->object);
	if (iof_unlikely(rc))
		return rc;
	cmd->length = bytes;
	return iof_call_respond(call, cmd);
}
