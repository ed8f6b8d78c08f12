/* SPDX-License-Identifier: Apache-2.0 */
/* HW queues: guest memory that hardware reads, pinned and locked while the queue lives (behaviour.md 8.6). */
#include <errno.h>

#include "ioas/access.h"
#include "ioas/viommu.h"

/* Where its pages lie; the table is made before anything else is. */
struct page_table {
	uint64_t n, *at;
};

static int table_init(const struct iof_hw_queue *q, struct page_table *t)
{
	uint64_t offset = q->iova & IOF_PAGE_MASK, bytes;

	if (__builtin_add_overflow(offset + IOF_PAGE_MASK, q->length, &bytes))
		return -ERANGE;
	t->n = bytes >> IOF_PAGE_SHIFT;
	if (t->n > INT32_MAX / sizeof(*t->at)) /* the kernel makes no table above 2 GiB either */
		return -ENOMEM;
	t->at = iof_mem_get(q->viommu->ctx->machine->memory.alloc, t->n * sizeof(*t->at), 16);
	return t->at ? 0 : -ENOMEM;
}

static void table_fini(const struct iof_hw_queue *q, const struct page_table *t)
{
	iof_mem_put(q->viommu->ctx->machine->memory.alloc, t->at, t->n * sizeof(*t->at));
}

/* Pins the pages of [iova, iova+length) and looks whether they lie one after the other. *base: the address of `iova`. */
static int pin(struct iof_hw_queue *q, const struct page_table *t, uint64_t *base)
{
	uint64_t offset = q->iova & IOF_PAGE_MASK;
	int rc = iof_access_pin(q->access, q->iova - offset, t->n << IOF_PAGE_SHIFT, false, t->at);

	for (uint64_t i = 1; !rc && i < t->n; i++)
		if (t->at[i] != t->at[i - 1] + IOF_PAGE_SIZE) {
			iof_access_unpin(q->access, q->iova - offset, t->n << IOF_PAGE_SHIFT);
			rc = -EFAULT;
		}
	if (!rc)
		*base = t->at[0] + offset;
	return rc;
}

static void unpin(struct iof_hw_queue *q)
{
	uint64_t offset = q->iova & IOF_PAGE_MASK;

	iof_access_unpin(q->access, q->iova - offset, iof_align_down(offset + q->length + IOF_PAGE_MASK, IOF_PAGE_SIZE));
}

static int attach_and_pin(struct iof_hw_queue *q, const struct page_table *t, uint64_t *base)
{
	int rc = iofi_access_attach_ioas(q->access, q->viommu->parent->ioas);

	return rc ? rc : pin(q, t, base);
}

static int init_driver(struct iof_hw_queue *q, uint32_t index, uint64_t base)
{
	struct iof_iommu *iommu = q->viommu->iommu;

	if (iof_alloc_may_fail(q->viommu->ctx->machine->memory.alloc))
		return -ENOMEM;
	return iommu->driver->hw_queue_init(iommu->drv, q, index, base);
}

/* The order of ids is observable: the queue's, then the access's (R1.3.4). */
static int build(struct iof_hw_queue *q, uint32_t index)
{
	struct iof_context *ctx = q->viommu->ctx;
	struct page_table table;
	uint64_t base;
	int rc = table_init(q, &table);

	if (rc)
		return rc;
	rc = iof_access_make(ctx, &(struct iof_access_options){ .needs_pin = true, .internal = true }, &q->access);
	if (rc)
		goto no_access;
	rc = attach_and_pin(q, &table, &base);
	if (rc)
		goto no_pin;
	rc = init_driver(q, index, base);
	if (!rc)
		goto no_access; /* only the table goes */
	unpin(q);
no_pin:
	iof_access_destroy(q->access);
no_access:
	table_fini(q, &table);
	return rc;
}

int iof_hw_queue_create(struct iof_viommu *v, uint32_t type, uint32_t index, uint64_t iova, uint64_t length,
			struct iof_hw_queue **out)
{
	struct iof_context *ctx = v->ctx;
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_hw_queue *q;
	int rc;

	if (!v->iommu->driver->hw_queue_supported || !v->iommu->driver->hw_queue_init)
		return -EOPNOTSUPP;
	rc = v->iommu->driver->hw_queue_supported(v->iommu->drv, v, type);
	if (rc)
		return rc;
	q = iof_mem_zget(a, sizeof(*q), 16);
	if (!q)
		return -ENOMEM;
	rc = iof_object_reserve(&ctx->objects, &q->object, IOF_OBJECT_HW_QUEUE);
	if (rc)
		goto no_id;
	q->viommu = v;
	q->iova = iova;
	q->length = length;
	rc = build(q, index);
	if (rc)
		goto no_queue;
	iof_object_ref(&v->object);
	*out = q;
	return 0;
no_queue:
	iof_object_abort(&ctx->objects, &q->object);
no_id:
	iof_mem_put(a, q, sizeof(*q));
	return rc;
}

void iof_hw_queue_abort(struct iof_hw_queue *q)
{
	iof_object_abort(&q->viommu->ctx->objects, &q->object);
	iof_hw_queue_dispose(q);
}

void iof_hw_queue_dispose(struct iof_hw_queue *q)
{
	struct iof_viommu *v = q->viommu;

	if (v->iommu->driver->hw_queue_free)
		v->iommu->driver->hw_queue_free(v->iommu->drv, q);
	if (q->on)
		iof_object_put(&q->on->object);
	unpin(q);
	iof_access_destroy(q->access);
	iof_object_put(&v->object);
	iof_mem_put(v->ctx->machine->memory.alloc, q, sizeof(*q));
}

struct iof_viommu *iof_hw_queue_viommu(const struct iof_hw_queue *q)
{
	return q->viommu;
}

uint64_t iof_hw_queue_iova(const struct iof_hw_queue *q)
{
	return q->iova;
}

void *iof_hw_queue_priv(const struct iof_hw_queue *q)
{
	return q->priv;
}

void iof_hw_queue_set_priv(struct iof_hw_queue *q, void *priv)
{
	q->priv = priv;
}

void iof_hw_queue_depend(struct iof_hw_queue *q, struct iof_hw_queue *on)
{
	q->on = on;
	iof_object_ref(&on->object);
}
