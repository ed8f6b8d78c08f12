/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address index of an IOAS that lives in the kernel: which IOVA shows an address (iova/va_index.h), as the ledger knows it.
 *
 * Made when somebody asks for it, then kept to the end of the IOAS. A record enters it after its system call, before it goes live, and leaves it before
 * the system call that ends it. When that one fails the record comes back; should there be no memory for that, it is not found until
 * somebody asks for the index again, which takes in whatever is missing. `shown` of a record says whether it is there.
 *
 * The pointer changes under the written gate only, so whoever has the gate may follow it. An index may be kept longer than its context, so its memory is
 * not the context's.
 */
#include <errno.h>

#include "provider/kernel.h"

static bool has_address(const struct iofi_kmap *m)
{
	return !(m->flags & IOF_MAPPING_FILE) && m->address != IOFI_NO_ADDRESS;
}

/* ---- one record ---- */

int iofi_kva_add(struct iofi_kioas *io, const struct iofi_kmap *m)
{
	if (!io->va_index || !has_address(m))
		return 0;
	return iof_va_index_insert(io->va_index, m->address, iof_range_length(m->range), m->range.start);
}

void iofi_kva_drop(struct iofi_kioas *io, const struct iofi_kmap *m)
{
	if (io->va_index && has_address(m))
		iof_va_index_remove(io->va_index, m->address, iof_range_length(m->range), m->range.start);
}

void iofi_kva_added(const struct iofi_kioas *io, struct iofi_kmap *m)
{
	m->shown = io->va_index && has_address(m);
}

void iofi_kva_hide(struct iofi_kioas *io, struct iofi_kmap *m)
{
	if (m->shown)
		iofi_kva_drop(io, m);
	m->shown = false;
}

int iofi_kva_show(struct iofi_kioas *io, struct iofi_kmap *m)
{
	int rc = m->shown ? 0 : iofi_kva_add(io, m);

	if (!rc)
		iofi_kva_added(io, m);
	return rc;
}

/* ---- those of a range, under the written gate ---- */

/* The next record in *r, which becomes what lies behind it; NULL: none. */
static struct iofi_kmap *next_in(struct iofi_kioas *io, struct iof_range *r, bool *more)
{
	struct iofi_kmap *m = *more ? iofi_kmap_first(io, *r) : NULL;

	*more = m && m->range.last < r->last;
	if (*more)
		r->start = m->range.last + 1;
	return m;
}

void iofi_kva_hide_range(struct iofi_kioas *io, struct iof_range r)
{
	bool more = io->va_index;
	struct iofi_kmap *m;

	iof_lock_take(&io->lock);
	while ((m = next_in(io, &r, &more)))
		iofi_kva_hide(io, m);
	iof_lock_drop(&io->lock);
}

int iofi_kva_show_range(struct iofi_kioas *io, struct iof_range r)
{
	bool more = io->va_index;
	struct iofi_kmap *m;
	int rc = 0;

	iof_lock_take(&io->lock);
	while (!rc && (m = next_in(io, &r, &more)))
		rc = iofi_kva_show(io, m);
	iof_lock_drop(&io->lock);
	return rc;
}

/* ---- the index ---- */

/* The allocator of an index, with what it was allocated by: itself, or the one that the context was given. */
static struct iof_alloc *memory_get(struct iofi_kcontext *ctx)
{
	struct iof_alloc heap, *a;

	if (ctx->alloc != &ctx->heap)
		return ctx->alloc;
	iof_alloc_init_heap(&heap);
	a = (struct iof_alloc *)iof_mem_get(&heap, sizeof(*a), 16);
	if (a)
		iof_alloc_init_heap(a);
	return a;
}

static void memory_put(void *arg)
{
	struct iof_alloc heap;

	iof_alloc_init_heap(&heap);
	iof_mem_put(&heap, arg, sizeof(heap));
}

static int create(struct iofi_kcontext *ctx, struct iof_va_index **out)
{
	struct iof_alloc *a = memory_get(ctx);
	void *own = a == ctx->alloc ? NULL : a;
	int rc = a ? iof_va_index_create(a, own ? memory_put : NULL, own, out) : -ENOMEM;

	if (rc)
		memory_put(own);
	return rc;
}

/* Nothing of the IOAS is mapped any more: what others keep of its index is empty. */
void iofi_kva_fini(struct iofi_kioas *io)
{
	if (!io->va_index)
		return;
	iofi_kva_hide_range(io, IOF_RANGE_ALL);
	iof_va_index_put(io->va_index);
	io->va_index = NULL;
}

/* Under the written gate. */
static int open_still(struct iofi_kcontext *ctx, struct iofi_kioas *io, struct iof_va_index **out)
{
	bool made = !io->va_index;
	int rc = made ? create(ctx, &io->va_index) : 0;

	if (rc)
		return rc;
	rc = iofi_kva_show_range(io, IOF_RANGE_ALL);
	if (rc && made)
		iofi_kva_fini(io);
	if (rc)
		return rc;
	iof_va_index_get(io->va_index);
	*out = io->va_index;
	return 0;
}

int iofi_kernel_va_index(struct iof_handle *h, uint32_t ioas_id, struct iof_va_index **out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kioas *io = iofi_kioas_get(ctx, ioas_id);
	int rc;

	if (!io)
		return -ENOENT;
	iof_rwlock_write(&io->gate);
	rc = open_still(ctx, io, out);
	iof_rwlock_write_drop(&io->gate);
	iofi_kioas_put(io);
	return rc;
}
