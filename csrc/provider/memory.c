/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a machine for embedders: dma-bufs to lend out, what processes have pinned, the scratch limit. */
#include <errno.h>

#include "ioas/revoke.h"
#include "iommufd_fast_embed.h"
#include "provider/engine.h"

int iof_dmabuf_create(struct iof_machine *m, uint64_t size, struct iof_handle **out)
{
	struct iof_file *f;
	int rc = iof_file_open_dmabuf(m, size, &f);

	return rc ? rc : iof_file_handle(m, f->number, out);
}

/* NULL: the handle is something else. */
static struct iof_file *dmabuf_of(struct iof_handle *h)
{
	struct iof_file *f = &iofi_engine(h)->file;

	return f->ops->kind == IOF_FILE_DMABUF ? f : NULL;
}

int iof_dmabuf_revoke(struct iof_handle *dmabuf, bool revoked)
{
	struct iof_file *f = dmabuf_of(dmabuf);

	if (!f)
		return -EINVAL;
	iof_machine_revoke(f->machine, f->object, revoked);
	return 0;
}

int64_t iof_dmabuf_import_count(struct iof_handle *dmabuf)
{
	struct iof_file *f = dmabuf_of(dmabuf);

	return f ? (int64_t)iof_dmabuf_imports(&f->machine->memory, f->object) : -EINVAL;
}

void iof_machine_process_pages(struct iof_machine *m, uint32_t pid, int64_t *pinned, uint64_t *locked)
{
	iof_account_of_pid(m->accounts, pid, pinned, locked);
}

void iof_machine_forked(struct iof_machine *m)
{
	iof_memory_forked(&m->memory);
	iof_accounts_forked(m->accounts);
}

int iof_machine_set_scratch(struct iof_machine *m, uint32_t bytes)
{
	if (bytes < IOF_SCRATCH_MIN)
		return -EINVAL;
	atomic_store_explicit(&m->memory.scratch, bytes, memory_order_relaxed);
	return 0;
}
