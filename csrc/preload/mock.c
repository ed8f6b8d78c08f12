/* SPDX-License-Identifier: Apache-2.0 */
/* The command: its envelope (behaviour.md 9.1, R1.6.2), the table of operations, and those that need no device. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload/mock_priv.h"

int mock_respond(const struct mock_call *call, const struct mock_cmd *cmd)
{
	return iof_copy_out(call->arg, cmd, call->user_size < sizeof(*cmd) ? call->user_size : sizeof(*cmd));
}

/* ---- operations on the address space and the machine ---- */

static int add_reserved(struct mock_call *call, struct mock_cmd *cmd)
{
	return iof_ioas_reserve(call->ctx, cmd->id, cmd->reserve.start, cmd->reserve.length);
}

static int set_scratch(struct mock_call *call, struct mock_cmd *cmd)
{
	return iof_machine_set_scratch(call->mock->machine, cmd->scratch.limit);
}

static int dmabuf_get(struct mock_call *call, struct mock_cmd *cmd)
{
	uint64_t pages = ((uint64_t)cmd->dmabuf.length + IOF_PAGE_MASK) >> IOF_PAGE_SHIFT;
	struct iof_handle *h;
	int rc;

	if (!pages || pages > MOCK_DMABUF_PAGES)
		return -EINVAL;
	rc = iof_dmabuf_create(call->mock->machine, pages << IOF_PAGE_SHIFT, &h);
	return rc ? rc : iof_fileno(h);
}

static int dmabuf_revoke(struct mock_call *call, struct mock_cmd *cmd)
{
	struct iof_handle *h;

	if (iof_file_handle(call->mock->machine, cmd->revoke.fd, &h)) {
		int saved = errno, rc = fcntl(cmd->revoke.fd, F_GETFD) < 0 ? -EBADF : -EINVAL;

		errno = saved;
		return rc;
	}
	return iof_dmabuf_revoke(h, cmd->revoke.revoked);
}

/* ---- the envelope ---- */

static const mock_op ops[] = {
	[1] = add_reserved,
	[2] = mock_domain,
	[3] = mock_check_map,
	[4] = mock_check_refs,
	[5] = mock_access_create,
	[6] = mock_access_unpin,
	[7] = mock_access_pin,
	[8] = mock_access_rw,
	[9] = set_scratch,
	[10] = mock_domain_replace,
	[11] = mock_access_move,
	[12] = mock_domain_flags,
	[13] = mock_dirty,
	[14] = mock_check_iotlb,
	[15] = mock_trigger_fault,
	[16] = mock_check_cache,
	[17] = mock_trigger_event,
	[18] = mock_pasid_attach,
	[19] = mock_pasid_replace,
	[20] = mock_pasid_detach,
	[21] = mock_pasid_check,
	[22] = dmabuf_get,
	[23] = dmabuf_revoke,
};

static int copy_in(struct mock_cmd *cmd, uint64_t from, uint32_t size)
{
	int zero;

	if (size <= sizeof(*cmd)) {
		memset((char *)cmd + size, 0, sizeof(*cmd) - size);
		return iof_copy_in(cmd, from, size);
	}
	if (from + sizeof(*cmd) < from)
		return -EFAULT;
	zero = iof_is_zero_in(from + sizeof(*cmd), size - sizeof(*cmd));
	if (zero < 0)
		return zero;
	return zero ? iof_copy_in(cmd, from, sizeof(*cmd)) : -E2BIG;
}

int mock_ioctl(struct mock *m, struct iof_handle *ctx, unsigned long cmd, uint64_t arg)
{
	struct mock_call call = { .mock = m, .ctx = ctx, .arg = arg };
	struct mock_cmd c;
	int rc = iof_copy_in(&call.user_size, arg, sizeof(call.user_size));

	if (rc)
		return rc;
	if (cmd != MOCK_CMD)
		return -ENOTTY;
	if (call.user_size < MOCK_CMD_MIN)
		return -EINVAL;
	rc = copy_in(&c, arg, call.user_size);
	if (rc)
		return rc;
	if (c.op >= sizeof(ops) / sizeof(*ops) || !ops[c.op])
		return -EOPNOTSUPP;
	return ops[c.op](&call, &c);
}

int mock_init(struct mock *m, struct iof_machine *machine, struct iof_alloc *alloc, const struct mock_files *files)
{
	m->machine = machine;
	m->alloc = alloc;
	m->files = files;
	iof_lock_init(&m->lock, alloc->shared);
	return iof_machine_add_driver(machine, &mock_driver, m, &m->iommu);
}
