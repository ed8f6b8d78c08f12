/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches in the kernel: places and records for all under one lock, then the system calls, then all go live under one lock.
 *
 * Where an entry needs the whole IOAS (no place of ours will do, or the ledger has something else there) what was mapped is undone, and the
 * batch is done again entry by entry under the written gate.
 */
#include <errno.h>

#include "provider/kernel.h"

static struct iofi_krequest request(const struct iofi_kcontext *ctx, const struct iof_map_many *many, size_t i)
{
	bool fixed = many->flags & IOF_MAP_FIXED_IOVA, va = !fixed && ctx->choice == IOF_IOVA_VA;
	struct iofi_krequest rq = { .cmd = IOF_CMD_IOAS_MAP, .flags = many->flags | (va ? IOF_MAP_FIXED_IOVA : 0),
				    .address = many->addresses[i], .length = many->lengths[i],
				    .own = !fixed && ctx->choice == IOF_IOVA_OWN };

	rq.iova = fixed ? many->iovas[i] : va ? rq.address : 0;
	rq.c.map = (struct iof_cmd_ioas_map){ .size = sizeof(rq.c.map), .flags = rq.flags, .ioas_id = many->ioas_id,
					      .user_va = rq.address, .length = rq.length, .iova = rq.iova };
	return rq;
}

/* ---- map_many, side by side with others ---- */

/* Records for all. On an error those before entry *n are there. */
static int begin_all(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iof_map_many *many,
		     struct iofi_kmap **records, size_t *n)
{
	int rc = 0;

	iof_lock_take(&io->lock);
	for (*n = 0; *n < many->n; ++*n) {
		struct iofi_krequest rq = request(ctx, many, *n);

		rc = iofi_kmap_begin(io, &rq, &records[*n]);
		if (rc)
			break;
	}
	iof_lock_drop(&io->lock);
	return rc;
}

/* Maps the first n. On an error the ones before *done are mapped. */
static int submit_all(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iof_map_many *many,
		      struct iofi_kmap **records, size_t n, size_t *done)
{
	int rc = 0;

	for (*done = 0; *done < n; ++*done) {
		struct iofi_krequest rq = request(ctx, many, *done);

		rc = iofi_kmap_submit(ctx, io, &rq, records[*done]);
		if (rc)
			break;
	}
	return rc;
}

static void finish_all(struct iofi_kioas *io, struct iof_map_many *many, struct iofi_kmap **records, size_t n, int rc, bool own)
{
	iof_lock_take(&io->lock);
	for (size_t i = 0; i < n; i++) {
		if (!rc)
			many->iovas[i] = records[i]->range.start;
		iofi_kmap_finish(io, records[i], rc, own);
	}
	iof_lock_drop(&io->lock);
}

static int map_shared(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_map_many *many, struct iofi_kmap **records)
{
	bool own = !(many->flags & IOF_MAP_FIXED_IOVA) && ctx->choice == IOF_IOVA_OWN;
	size_t n, done = 0;
	int first = begin_all(ctx, io, many, records, &n);
	int rc = first ? first : submit_all(ctx, io, many, records, n, &done);

	if (rc)
		for (size_t i = 0; i < done; i++) {
			iofi_kva_drop(io, records[i]);
			iofi_kernel_unmap_range(ctx, io->id, records[i]->range);
		}
	many->failed = first ? n : done;
	finish_all(io, many, records, n, rc, own);
	return rc;
}

/* ---- map_many, alone ---- */

static void undo(struct iofi_kcontext *ctx, struct iofi_kioas *io, const struct iof_map_many *many, const uint64_t *iovas, size_t n)
{
	struct iof_range r;

	while (n--)
		if (!iof_range_make(iovas[n], many->lengths[n], &r)) {
			iofi_kva_hide_range(io, r);
			iofi_kernel_unmap_range(ctx, io->id, r);
			iof_lock_take(&io->lock);
			iofi_kmap_evict(io, r);
			iof_lock_drop(&io->lock);
		}
}

static int map_one_alone(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iofi_krequest *rq)
{
	struct iofi_kmap *m;
	int rc = IOFI_EXCLUSIVE;

	if (!rq->own)
		return iofi_kmap_exclusive(ctx, io, rq, &rq->c.map);
	iof_lock_take(&io->lock);
	rc = iofi_kmap_begin(io, rq, &m);
	iof_lock_drop(&io->lock);
	if (!rc) {
		rc = iofi_kmap_submit(ctx, io, rq, m);
		rq->c.map.iova = m->range.start;
		iof_lock_take(&io->lock);
		iofi_kmap_finish(io, m, rc, true);
		iof_lock_drop(&io->lock);
	}
	if (rc != IOFI_EXCLUSIVE)
		return rc;
	rq->c.map.flags = rq->flags;
	return iofi_kmap_exclusive(ctx, io, rq, &rq->c.map);
}

static int map_alone(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_map_many *many, uint64_t *iovas)
{
	int rc = 0;

	for (size_t i = 0; i < many->n && !rc; i++) {
		struct iofi_krequest rq = request(ctx, many, i);

		rc = map_one_alone(ctx, io, &rq);
		iovas[i] = rq.c.map.iova;
		if (rc) {
			many->failed = i;
			undo(ctx, io, many, iovas, i);
		}
	}
	for (size_t i = 0; i < many->n && !rc; i++)
		many->iovas[i] = iovas[i];
	return rc;
}

static int map_both(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_map_many *many, void *room)
{
	int rc = IOFI_EXCLUSIVE;

	if (ctx->choice != IOF_IOVA_KERNEL) {
		iof_rwlock_read(&io->gate);
		rc = map_shared(ctx, io, many, (struct iofi_kmap **)room);
		iof_rwlock_read_drop(&io->gate);
	}
	if (rc != IOFI_EXCLUSIVE)
		return rc;
	iof_rwlock_write(&io->gate);
	rc = map_alone(ctx, io, many, (uint64_t *)room);
	iof_rwlock_write_drop(&io->gate);
	return rc;
}

int iofi_kernel_map_many(struct iof_handle *h, struct iof_map_many *many)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kioas *io;
	uint64_t one[4];
	void *room = one;
	size_t bytes;
	int rc;

	many->failed = 0;
	if (many->flags & ~(uint32_t)(IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE))
		return -EOPNOTSUPP;
	if (many->policy > IOF_POLICY_PROBE || !(many->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE)))
		return -EINVAL;
	io = iofi_kioas_get(ctx, many->ioas_id);
	if (!io)
		return -ENOENT;
	bytes = many->n > SIZE_MAX / 16 ? SIZE_MAX / 2 : many->n * sizeof(one[0]);
	if (bytes > sizeof(one))
		room = iof_mem_get(ctx->alloc, bytes, 16);
	rc = room ? map_both(ctx, io, many, room) : -ENOMEM;
	if (bytes > sizeof(one))
		iof_mem_put(ctx->alloc, room, bytes);
	iofi_kioas_put(io);
	return rc;
}

/* ---- unmap_many ---- */

#define PART 64 /* records marked under one lock */

static void answer(struct iof_unmap_many *many, size_t i, int rc, uint64_t bytes, int64_t *good)
{
	*good += !rc;
	if (many->unmapped)
		many->unmapped[i] = rc ? 0 : bytes;
	if (many->errors)
		many->errors[i] = rc;
}

/* As many as are whole records, from entry i on and at most PART. Zero: the next is something else. */
static size_t unmap_part(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_unmap_many *many, size_t i, int64_t *good)
{
	struct iofi_kmap *marked[PART];
	size_t n = 0;
	int rcs[PART];

	iof_lock_take(&io->lock);
	while (n < PART && i + n < many->n && (marked[n] = iofi_kunmap_mark(io, many->iovas[i + n], many->lengths[i + n])))
		n++;
	iof_lock_drop(&io->lock);
	for (size_t k = 0; k < n; k++)
		rcs[k] = iofi_kernel_unmap_range(ctx, io->id, marked[k]->range);
	iof_lock_take(&io->lock);
	for (size_t k = 0; k < n; k++) {
		answer(many, i + k, rcs[k], many->lengths[i + k], good);
		iofi_kunmap_finish(io, marked[k], rcs[k]);
	}
	iof_lock_drop(&io->lock);
	return n;
}

static void unmap_alone(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_unmap_many *many, size_t i, int64_t *good)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = io->id, .iova = many->iovas[i], .length = many->lengths[i] };
	int rc;

	iof_rwlock_write(&io->gate);
	rc = iofi_kunmap_exclusive(ctx, io, &c, many->iovas[i], many->lengths[i]);
	iof_rwlock_write_drop(&io->gate);
	answer(many, i, rc, c.length, good);
}

int64_t iofi_kernel_unmap_many(struct iof_handle *h, struct iof_unmap_many *many)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kioas *io = iofi_kioas_get(ctx, many->ioas_id);
	int64_t good = 0;
	size_t i = 0, n;

	if (!io)
		return -ENOENT;
	while (i < many->n) {
		iof_rwlock_read(&io->gate);
		n = unmap_part(ctx, io, many, i, &good);
		iof_rwlock_read_drop(&io->gate);
		if (!n)
			unmap_alone(ctx, io, many, i++, &good);
		i += n;
	}
	iofi_kioas_put(io);
	return good;
}
