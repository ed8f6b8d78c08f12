/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UNMAP in the kernel.
 *
 * Most unmaps are of one record, whole: it is marked, the system call is made, it leaves the ledger. Its place is taken until then, so nobody
 * is given an IOVA that is still mapped. Any other range needs the whole IOAS. The kernel removes from the lowest mapping on until one cannot go, and
 * on errors does not say how far it came: then each record in the range is asked for, by copying it.
 */
#include <errno.h>

#include "provider/kernel.h"
#include "util/guard.h"

struct iofi_kmap *iofi_kunmap_mark(struct iofi_kioas *io, uint64_t iova, uint64_t length)
{
	struct iof_range r;
	struct iofi_kmap *m;

	if (iof_range_make(iova, length, &r))
		return NULL;
	m = iofi_kmap_first(io, r);
	if (!m || m->range.start != r.start || m->range.last != r.last || m->state != IOFI_KMAP_LIVE)
		return NULL;
	m->state = IOFI_KMAP_UNMAPPING;
	iofi_kva_hide(io, m);
	return m;
}

static void drop_record(struct iofi_kioas *io, struct iofi_kmap *m)
{
	io->bytes -= iof_range_length(m->range);
	iofi_kmap_remove(io, m);
}

/* ENOENT: the kernel had no such mapping any more. */
void iofi_kunmap_finish(struct iofi_kioas *io, struct iofi_kmap *m, int rc)
{
	io->n_unmaps += !rc;
	if (rc && rc != -ENOENT) {
		m->state = IOFI_KMAP_LIVE;
		iofi_kva_show(io, m); /* no memory: kernel_va.c */
	} else {
		drop_record(io, m);
	}
}

/* ---- any range ---- */

/* Is the record's mapping there? What cannot be found out is believed to be. */
static bool is_there(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iofi_kmap *m)
{
	struct iof_cmd_ioas_copy c = { .size = sizeof(c), .flags = m->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE),
				       .dst_ioas_id = io->id, .src_ioas_id = io->id, .src_iova = m->range.start,
				       .length = iof_range_length(m->range) };
	int rc = iofi_kcall(ctx, IOF_CMD_IOAS_COPY, &c);

	if (!rc)
		iofi_kernel_unmap_range(ctx, io->id, (struct iof_range){ c.dst_iova, c.dst_iova + (c.length - 1) });
	return rc != -ENOENT;
}

/* Nobody else changes the ledger now, so the lock is for those who only look. */
static void drop_gone(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_range r, bool all)
{
	struct iofi_kmap *m;
	uint64_t last;

	while ((m = iofi_kmap_first(io, r))) {
		last = m->range.last;
		if (all || (iof_range_contains(r, m->range) && !is_there(ctx, io, m))) {
			iof_lock_take(&io->lock);
			drop_record(io, m);
			iof_lock_drop(&io->lock);
		}
		if (last >= r.last)
			return;
		r.start = last + 1;
	}
}

int iofi_kunmap_exclusive(struct iofi_kcontext *ctx, struct iofi_kioas *io, void *c, uint64_t iova, uint64_t length)
{
	struct iof_range r = IOF_RANGE_ALL;
	int rc, bad = 0;

	if (length != UINT64_MAX || iova)
		bad = iof_range_make(iova, length, &r);
	if (!bad)
		iofi_kva_hide_range(io, r);
	rc = iofi_kcall(ctx, IOF_CMD_IOAS_UNMAP, c);
	if (!bad) {
		drop_gone(ctx, io, r, !rc);
		iofi_kva_show_range(io, r);
	}
	if (!rc) {
		iof_lock_take(&io->lock);
		io->n_unmaps++;
		iof_lock_drop(&io->lock);
	}
	return rc;
}

/* ---- the command ---- */

static int unmap_shared(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iof_cmd_ioas_unmap *c, void *arg)
{
	struct iofi_kmap *m;
	int rc;

	iof_lock_take(&io->lock);
	m = iofi_kunmap_mark(io, c->iova, c->length);
	iof_lock_drop(&io->lock);
	if (!m)
		return IOFI_EXCLUSIVE;
	rc = iofi_kcall(ctx, IOF_CMD_IOAS_UNMAP, arg);
	iof_lock_take(&io->lock);
	iofi_kunmap_finish(io, m, rc);
	iof_lock_drop(&io->lock);
	return rc;
}

int iofi_kernel_unmap(struct iofi_kcontext *ctx, void *arg)
{
	struct iof_cmd_ioas_unmap c;
	struct iofi_kioas *io = NULL;
	int rc;

	if (!iofi_kpeek(&c, sizeof(c), arg))
		io = iofi_kioas_get(ctx, c.ioas_id);
	if (!io)
		return iofi_kcall(ctx, IOF_CMD_IOAS_UNMAP, arg);
	iof_rwlock_read(&io->gate);
	rc = unmap_shared(ctx, io, &c, arg);
	iof_rwlock_read_drop(&io->gate);
	if (rc == IOFI_EXCLUSIVE) {
		iof_rwlock_write(&io->gate);
		rc = iofi_kunmap_exclusive(ctx, io, arg, c.iova, c.length);
		iof_rwlock_write_drop(&io->gate);
	}
	iofi_kioas_put(io);
	return rc;
}
