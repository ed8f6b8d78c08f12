/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MAP and MAP_FILE in the kernel.
 *
 * The usual way: a record with its place goes into the ledger, the system call maps there FIXED, the record goes live. EEXIST says that the place
 * has a mapping that is not ours: it is blocked and the next one tried, eight times at the most. EINVAL makes us read the usable
 * ranges again, and try once more if they have changed. All this is done under the read gate, many at a time.
 *
 * Where that does not help, and in the raw door, the kernel chooses, under the written gate, and what it chose is taken in. A record that stands there
 * already cannot be true any more: it was unmapped behind our back, and is dropped.
 */
#include <errno.h>
#include <stddef.h>

#include "provider/kernel.h"
#include "util/guard.h"

#define TRIES 8

/* ---- steps ---- */

static uint32_t shown_flags(const struct iofi_krequest *rq)
{
	uint32_t rw = rq->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE);

	return rq->cmd == IOF_CMD_IOAS_MAP_FILE ? rw | IOF_MAPPING_FILE : rw;
}

/* A record for the request, in the ledger and in transition. IOFI_EXCLUSIVE: no place, or somebody has it already. */
static int enlist(struct iofi_kioas *io, const struct iofi_krequest *rq, struct iofi_kmap *m)
{
	int rc;

	if (rq->own)
		rc = iofi_kspace_take(io, m, rq->address, rq->length);
	else
		rc = iof_range_make(rq->iova, rq->length, &m->range);
	if (!rc)
		rc = iofi_kmap_insert(io, m);
	if (!rc && !rq->own) {
		rc = iofi_kspace_claim(io, m);
		if (rc)
			iof_index_remove(io->maps, m->range.start);
	} else if (rc) {
		iofi_kspace_give(io, m);
	}
	return rc && rc != -ENOMEM ? IOFI_EXCLUSIVE : rc;
}

int iofi_kmap_begin(struct iofi_kioas *io, const struct iofi_krequest *rq, struct iofi_kmap **out)
{
	struct iofi_kmap *m = iofi_kmap_new(io);
	int rc;

	*out = NULL;
	if (!m)
		return -ENOMEM;
	m->address = rq->address;
	m->flags = shown_flags(rq);
	rc = enlist(io, rq, m);
	if (rc)
		iof_slab_put(&io->records, m);
	else
		*out = m;
	return rc;
}

/* Another place for a record in the ledger. When there is none it is out of the ledger: its range is empty. */
static int again(struct iofi_kioas *io, const struct iofi_krequest *rq, struct iofi_kmap *m, bool blocked)
{
	int rc;

	iof_lock_take(&io->lock);
	iof_index_remove(io->maps, m->range.start);
	io->counts.foreign += blocked;
	if (blocked && m->place != IOFI_PLACE_NONE)
		iofi_kspace_block(io, m);
	else
		iofi_kspace_give(io, m);
	rc = enlist(io, rq, m);
	if (rc)
		m->range = (struct iof_range){ 1, 0 };
	iof_lock_drop(&io->lock);
	return rc;
}

static int call(struct iofi_kcontext *ctx, struct iofi_krequest *rq, uint64_t iova)
{
	if (rq->cmd == IOF_CMD_IOAS_MAP) {
		rq->c.map.flags |= IOF_MAP_FIXED_IOVA;
		rq->c.map.iova = iova;
		return iofi_kcall(ctx, rq->cmd, &rq->c.map);
	}
	rq->c.file.flags |= IOF_MAP_FIXED_IOVA;
	rq->c.file.iova = iova;
	return iofi_kcall(ctx, rq->cmd, &rq->c.file);
}

/* After eight refusals the windows that were tried are left for good: what lies beyond the foreign mappings is found sooner. */
static int give_up(struct iofi_kioas *io)
{
	iof_lock_take(&io->lock);
	if (io->recycle)
		iof_recycle_retire(io->recycle);
	iof_lock_drop(&io->lock);
	return IOFI_EXCLUSIVE;
}

/* Was the place chosen by ranges that do not hold any more? Another thread, or another entry of a batch, may have read them anew already. */
static bool is_outdated(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iofi_kmap *m)
{
	bool outdated = iofi_kspace_read(ctx, io);

	iof_lock_take(&io->lock);
	outdated |= m->epoch != io->epoch;
	iof_lock_drop(&io->lock);
	return outdated;
}

/* It is mapped; without the memory to find it, it is not. */
static int show(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iofi_kmap *m)
{
	int rc = iofi_kva_add(io, m);

	if (rc)
		iofi_kernel_unmap_range(ctx, io->id, m->range);
	return rc;
}

int iofi_kmap_submit(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, struct iofi_kmap *m)
{
	bool read = false;
	int rc, next;

	for (unsigned tries = 1;; tries++) {
		rc = call(ctx, rq, m->range.start);
		if (!rc)
			return show(ctx, io, m);
		if (!rq->own || (rc != -EEXIST && rc != -EINVAL))
			return rc;
		if (rc == -EEXIST && tries >= TRIES)
			return give_up(io);
		if (rc == -EINVAL && (read || !is_outdated(ctx, io, m)))
			return rc;
		read |= rc == -EINVAL;
		next = again(io, rq, m, rc == -EEXIST);
		if (next)
			return next;
	}
}

void iofi_kmap_finish(struct iofi_kioas *io, struct iofi_kmap *m, int rc, bool own)
{
	if (m->range.start > m->range.last) {
		iof_slab_put(&io->records, m);
	} else if (rc) {
		iofi_kmap_remove(io, m);
	} else {
		m->state = IOFI_KMAP_LIVE;
		iofi_kva_added(io, m);
		io->bytes += iof_range_length(m->range);
		io->n_maps++;
		io->counts.own += own;
	}
}

/* ---- what only the kernel knows the place of ---- */

static int take_in(struct iofi_kioas *io, struct iofi_kmap *m)
{
	int rc;

	iofi_kmap_evict(io, m->range);
	rc = iofi_kmap_insert(io, m);
	if (rc)
		return rc;
	rc = iofi_kspace_claim(io, m);
	if (!rc)
		rc = iofi_kva_add(io, m);
	if (rc) {
		iof_index_remove(io->maps, m->range.start);
		iofi_kspace_give(io, m);
	}
	return rc;
}

int iofi_kernel_unmap_range(struct iofi_kcontext *ctx, uint32_t ioas_id, struct iof_range r)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = ioas_id, .iova = r.start, .length = iof_range_length(r) };

	return iofi_kcall(ctx, IOF_CMD_IOAS_UNMAP, &c);
}

static uint64_t answered_iova(unsigned long cmd, const void *arg, uint64_t otherwise)
{
	size_t at = cmd == IOF_CMD_IOAS_MAP ? offsetof(struct iof_cmd_ioas_map, iova) : offsetof(struct iof_cmd_ioas_map_file, iova);
	uint64_t iova;

	return iof_copy_in(&iova, (uintptr_t)arg + at, sizeof(iova)) ? otherwise : iova;
}

static struct iofi_kmap *new_record(struct iofi_kioas *io, const struct iofi_krequest *rq)
{
	struct iofi_kmap *m;

	iof_lock_take(&io->lock);
	m = iofi_kmap_new(io);
	iof_lock_drop(&io->lock);
	if (m) {
		m->address = rq->address;
		m->flags = shown_flags(rq);
	}
	return m;
}

int iofi_kmap_exclusive(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, void *arg)
{
	struct iofi_kmap *m = new_record(io, rq);
	struct iof_range r = { 1, 0 };
	int rc, undone = 0;

	if (!m)
		return -ENOMEM;
	rc = iofi_kcall(ctx, rq->cmd, arg);
	if (!rc) {
		r.start = answered_iova(rq->cmd, arg, rq->iova);
		r.last = r.start + (rq->length - 1);
		m->range = r;
	}
	iof_lock_take(&io->lock);
	if (!rc)
		undone = take_in(io, m);
	if (rc || undone) {
		iof_slab_put(&io->records, m);
	} else {
		iofi_kmap_finish(io, m, 0, false);
		io->counts.kernel += !(rq->flags & IOF_MAP_FIXED_IOVA);
	}
	iof_lock_drop(&io->lock);
	if (undone)
		iofi_kernel_unmap_range(ctx, io->id, r); /* the record is somebody else's by now */
	return rc ? rc : undone;
}

/* ---- the command ---- */

static int read_request(struct iofi_krequest *rq, unsigned long cmd, const void *arg, uint32_t *ioas_id, bool *exact)
{
	size_t known = cmd == IOF_CMD_IOAS_MAP ? sizeof(rq->c.map) : sizeof(rq->c.file);
	int rc = iofi_kpeek(&rq->c, known, arg);

	if (rc)
		return rc;
	rq->cmd = cmd;
	*exact = rq->c.map.size == known;
	rq->flags = rq->c.map.flags;
	*ioas_id = rq->c.map.ioas_id;
	rq->address = cmd == IOF_CMD_IOAS_MAP ? rq->c.map.user_va : rq->c.file.start;
	rq->length = cmd == IOF_CMD_IOAS_MAP ? rq->c.map.length : rq->c.file.length;
	rq->iova = cmd == IOF_CMD_IOAS_MAP ? rq->c.map.iova : rq->c.file.iova;
	return 0;
}

_Static_assert(offsetof(struct iof_cmd_ioas_map, ioas_id) == offsetof(struct iof_cmd_ioas_map_file, ioas_id) &&
	       offsetof(struct iof_cmd_ioas_map, flags) == offsetof(struct iof_cmd_ioas_map_file, flags), "read as one");

static int map_shared(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq)
{
	struct iofi_kmap *m;
	int rc;

	iof_lock_take(&io->lock);
	rc = iofi_kmap_begin(io, rq, &m);
	iof_lock_drop(&io->lock);
	if (rc)
		return rc;
	rc = iofi_kmap_submit(ctx, io, rq, m);
	rq->iova = m->range.start;
	iof_lock_take(&io->lock);
	iofi_kmap_finish(io, m, rc, rq->own);
	iof_lock_drop(&io->lock);
	return rc;
}

static int write_back(unsigned long cmd, void *arg, uint64_t iova)
{
	size_t at = cmd == IOF_CMD_IOAS_MAP ? offsetof(struct iof_cmd_ioas_map, iova) : offsetof(struct iof_cmd_ioas_map_file, iova);

	return iof_copy_out((uintptr_t)arg + at, &iova, sizeof(iova));
}

/* Who chooses: false, the kernel. Structs of other sizes than ours are the kernel's business. */
static bool choose(const struct iofi_kcontext *ctx, struct iofi_krequest *rq, bool place, bool exact)
{
	if (!exact)
		return false;
	if (rq->flags & IOF_MAP_FIXED_IOVA)
		return true;
	if (!place || ctx->choice == IOF_IOVA_KERNEL)
		return false;
	rq->own = ctx->choice == IOF_IOVA_OWN || rq->cmd == IOF_CMD_IOAS_MAP_FILE;
	rq->iova = rq->address;
	return true;
}

/* IOVA = address stays so: the kernel is not asked to choose another. */
static int map_alone(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, void *arg, bool va)
{
	int rc;

	if (va) {
		rq->c.map.flags |= IOF_MAP_FIXED_IOVA;
		rq->c.map.iova = rq->iova;
		arg = &rq->c.map;
	}
	iof_rwlock_write(&io->gate);
	rc = iofi_kmap_exclusive(ctx, io, rq, arg);
	iof_rwlock_write_drop(&io->gate);
	return rc;
}

static int map_here(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq, void *arg, bool here)
{
	bool fixed = rq->flags & IOF_MAP_FIXED_IOVA, va = here && !fixed && !rq->own;
	int rc = IOFI_EXCLUSIVE;

	if (here) {
		iof_rwlock_read(&io->gate);
		rc = map_shared(ctx, io, rq);
		iof_rwlock_read_drop(&io->gate);
	}
	if (rc == IOFI_EXCLUSIVE) {
		rc = map_alone(ctx, io, rq, arg, va);
		return va && !rc ? write_back(rq->cmd, arg, rq->iova) : rc;
	}
	return rc || fixed ? rc : write_back(rq->cmd, arg, rq->iova);
}

int iofi_kernel_map(struct iofi_kcontext *ctx, unsigned long cmd, void *arg, bool place)
{
	struct iofi_krequest rq = { .own = false };
	struct iofi_kioas *io = NULL;
	uint32_t id;
	bool exact;
	int rc;

	if (!read_request(&rq, cmd, arg, &id, &exact))
		io = iofi_kioas_get(ctx, id);
	if (!io)
		return iofi_kcall(ctx, cmd, arg);
	rc = map_here(ctx, io, &rq, arg, choose(ctx, &rq, place, exact));
	iofi_kioas_put(io);
	return rc;
}
