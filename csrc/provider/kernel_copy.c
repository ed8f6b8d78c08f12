/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COPY in the kernel. A copy of several mappings is several mappings in a row, so the ledger gets a record for each part. Both IOASes are held
 * still meanwhile, the one with the lower id first.
 */
#include <errno.h>
#include <stddef.h>

#include "provider/kernel.h"
#include "util/guard.h"

/* One part of the source: the next record in r, clipped; what the ledger does not know counts as one part up to the next record. */
struct part {
	struct iof_range range;
	uint64_t address;
	uint32_t flags;
};

static struct part next_part(struct iofi_kioas *src, struct iof_range r)
{
	struct iofi_kmap *m = iofi_kmap_first(src, r);
	struct part p = { .range = r, .address = IOFI_NO_ADDRESS };

	if (!m)
		return p;
	if (m->range.start > r.start) {
		p.range.last = m->range.start - 1;
		return p;
	}
	p.range = iof_range_clip(m->range, r);
	p.address = m->address == IOFI_NO_ADDRESS ? m->address : m->address + (p.range.start - m->range.start);
	p.flags = m->flags & IOF_MAPPING_FILE;
	return p;
}

static size_t count_parts(struct iofi_kioas *src, struct iof_range r)
{
	struct part p;
	size_t n = 0;

	for (;; r.start = p.range.last + 1) {
		p = next_part(src, r);
		n++;
		if (p.range.last == r.last)
			return n;
	}
}

/* Fills records for what is copied to `to`. They are in no index yet. */
static void fill(struct iofi_kioas *src, struct iof_range r, uint64_t to, uint32_t rw, struct iofi_kmap **records)
{
	uint64_t shift = to - r.start;
	struct part p;

	for (size_t i = 0;; i++, r.start = p.range.last + 1) {
		p = next_part(src, r);
		records[i]->range = (struct iof_range){ p.range.start + shift, p.range.last + shift };
		records[i]->address = p.address;
		records[i]->flags = p.flags | rw;
		if (p.range.last == r.last)
			return;
	}
}

struct copy {
	struct iof_cmd_ioas_copy c;
	struct iofi_kioas *dst, *src;
	struct iof_range from;
	struct iofi_kmap **records;
	size_t n;
};

static void drop_records(struct copy *y, size_t n)
{
	while (n--)
		iof_slab_put(&y->dst->records, y->records[n]);
	iof_mem_put(y->dst->alloc, y->records, y->n * sizeof(*y->records));
}

static int make_records(struct copy *y)
{
	y->n = count_parts(y->src, y->from);
	y->records = (struct iofi_kmap **)iof_mem_get(y->dst->alloc, y->n * sizeof(*y->records), 16);
	if (!y->records)
		return -ENOMEM;
	for (size_t i = 0; i < y->n; i++) {
		y->records[i] = iofi_kmap_new(y->dst);
		if (!y->records[i]) {
			drop_records(y, i);
			return -ENOMEM;
		}
	}
	return 0;
}

static void unlist_one(struct iofi_kioas *io, struct iofi_kmap *m)
{
	iof_index_remove(io->maps, m->range.start);
	iofi_kva_hide(io, m);
	iofi_kspace_give(io, m);
}

static int claim_one(struct iofi_kioas *io, struct iofi_kmap *m)
{
	int rc = iofi_kspace_claim(io, m);

	if (!rc)
		rc = iofi_kva_show(io, m);
	if (rc)
		unlist_one(io, m);
	return rc;
}

static int list_records(struct copy *y)
{
	struct iofi_kioas *io = y->dst;
	int rc = 0;

	for (size_t i = 0; i < y->n && !rc; i++) {
		rc = iofi_kmap_insert(io, y->records[i]);
		if (!rc)
			rc = claim_one(io, y->records[i]);
		for (size_t k = 0; rc && k < i; k++)
			unlist_one(io, y->records[k]);
	}
	return rc;
}

/* The copy is there: into the ledger with it, or away again. */
static int take_in(struct iofi_kcontext *ctx, struct copy *y)
{
	struct iofi_kioas *io = y->dst;
	struct iof_range to = { y->c.dst_iova, y->c.dst_iova + (y->c.length - 1) };
	uint32_t rw = y->c.flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE);
	int rc;

	iof_lock_take(&io->lock);
	fill(y->src, y->from, to.start, rw, y->records);
	iofi_kmap_evict(io, to);
	rc = list_records(y);
	for (size_t i = 0; i < y->n && !rc; i++)
		y->records[i]->state = IOFI_KMAP_LIVE;
	if (!rc) {
		io->bytes += y->c.length;
		io->n_copies++;
	}
	iof_lock_drop(&io->lock);
	if (rc)
		iofi_kernel_unmap_range(ctx, io->id, to);
	return rc;
}

/* Asks at a place of ours, then lets the kernel choose. Without `place` the caller's own struct is the question. */
static int ask(struct iofi_kcontext *ctx, struct copy *y, void *arg, bool place)
{
	struct part first = next_part(y->src, y->from);
	struct iof_cmd_ioas_copy c = y->c;
	int rc = -ENOSPC;

	if (place) {
		iof_lock_take(&y->dst->lock);
		rc = iofi_kspace_row(y->dst, first.address == IOFI_NO_ADDRESS ? y->from.start : first.address, c.length, &c.dst_iova);
		iof_lock_drop(&y->dst->lock);
	}
	c.flags |= IOF_MAP_FIXED_IOVA;
	if (!rc)
		rc = iofi_kcall(ctx, IOF_CMD_IOAS_COPY, &c);
	if (!rc) {
		y->c.dst_iova = c.dst_iova;
		return 0;
	}
	rc = iofi_kcall(ctx, IOF_CMD_IOAS_COPY, arg);
	return rc ? rc : iofi_kpeek(&y->c, sizeof(y->c), arg);
}

static int copy(struct iofi_kcontext *ctx, struct copy *y, void *arg, bool place)
{
	int rc;

	iof_lock_take(&y->dst->lock);
	rc = make_records(y);
	iof_lock_drop(&y->dst->lock);
	if (rc)
		return rc;
	rc = ask(ctx, y, arg, place);
	if (!rc)
		rc = take_in(ctx, y);
	iof_lock_take(&y->dst->lock);
	drop_records(y, rc ? y->n : 0);
	iof_lock_drop(&y->dst->lock);
	/* As with the kernel itself, a copy that cannot be told of stays (behaviour.md R1.6.4). */
	if (!rc && place)
		rc = iof_copy_out((uintptr_t)arg + offsetof(struct iof_cmd_ioas_copy, dst_iova), &y->c.dst_iova, sizeof(uint64_t));
	return rc;
}

static int copy_still(struct iofi_kcontext *ctx, struct copy *y, void *arg, bool place)
{
	struct iofi_kioas *low = y->dst->id < y->src->id ? y->dst : y->src, *high = low == y->dst ? y->src : y->dst;
	int rc;

	iof_rwlock_write(&low->gate);
	if (high != low)
		iof_rwlock_write(&high->gate);
	rc = copy(ctx, y, arg, place);
	if (high != low)
		iof_rwlock_write_drop(&high->gate);
	iof_rwlock_write_drop(&low->gate);
	return rc;
}

int iofi_kernel_copy(struct iofi_kcontext *ctx, void *arg, bool place)
{
	struct copy y = { .n = 0 };
	int rc = iofi_kpeek(&y.c, sizeof(y.c), arg);

	place &= !rc && y.c.size == sizeof(y.c) && !(y.c.flags & IOF_MAP_FIXED_IOVA) && ctx->choice != IOF_IOVA_KERNEL;
	if (!rc && !iof_range_make(y.c.src_iova, y.c.length, &y.from)) {
		y.dst = iofi_kioas_get(ctx, y.c.dst_ioas_id);
		y.src = iofi_kioas_get(ctx, y.c.src_ioas_id);
	}
	rc = y.dst && y.src ? copy_still(ctx, &y, arg, place) : iofi_kcall(ctx, IOF_CMD_IOAS_COPY, arg);
	if (y.dst)
		iofi_kioas_put(y.dst);
	if (y.src)
		iofi_kioas_put(y.src);
	return rc;
}
