/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/soft_nested.h"

#include <errno.h>

struct soft_viommu {
	struct iof_soft_nested *first;
};

/* ---- life ---- */

int iofi_soft_nested_make(struct iof_hwpt *parent, struct iof_viommu *v, struct iof_soft_nested **out)
{
	struct iof_machine *m = parent->ctx->machine;
	struct iof_soft_nested *n = iof_mem_zget(m->memory.alloc, sizeof(*n), IOF_CACHELINE);

	if (!n)
		return -ENOMEM;
	n->parent = parent;
	n->viommu = v;
	n->domain = atomic_fetch_add(&m->next_domain, 1) + 1;
	iof_lock_init(&n->lock, m->memory.alloc->shared);
	if (v) {
		struct soft_viommu *list = v->priv;

		n->next = list->first;
		list->first = n;
	}
	*out = n;
	return 0;
}

void iofi_soft_nested_free(struct iof_soft_nested *n)
{
	struct soft_viommu *list = n->viommu ? n->viommu->priv : NULL;
	struct iof_soft_nested **at = list ? &list->first : NULL;

	while (at && *at != n)
		at = &(*at)->next;
	if (at)
		*at = n->next;
	iof_mem_put(n->parent->ctx->machine->memory.alloc, n, sizeof(*n));
}

int iofi_soft_viommu_init(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data)
{
	(void)drv;
	(void)type;
	(void)data;
	if (v->parent->iommu != v->iommu)
		return -EINVAL;
	v->priv = iof_mem_zget(v->ctx->machine->memory.alloc, sizeof(struct soft_viommu), 16);
	return v->priv ? 0 : -ENOMEM;
}

void iofi_soft_viommu_free(void *drv, struct iof_viommu *v)
{
	(void)drv;
	iof_mem_put(v->ctx->machine->memory.alloc, v->priv, sizeof(struct soft_viommu));
}

struct iof_soft_nested *iofi_soft_viommu_first(const struct iof_viommu *v)
{
	const struct soft_viommu *list = v->priv;

	return list->first;
}

/* ---- contexts ---- */

bool iofi_soft_context_find(struct iof_soft_nested *n, uint32_t pasid, struct iof_first_stage *first)
{
	const struct iof_soft_context *c = &n->context[pasid % IOF_SOFT_CONTEXTS];
	bool found;

	iof_lock_take(&n->lock);
	found = c->known && c->pasid == pasid;
	if (found)
		*first = c->first;
	iof_lock_drop(&n->lock);
	return found;
}

void iofi_soft_context_keep(struct iof_soft_nested *n, uint32_t pasid, const struct iof_first_stage *first)
{
	iof_lock_take(&n->lock);
	n->context[pasid % IOF_SOFT_CONTEXTS] = (struct iof_soft_context){ true, pasid, *first };
	iof_lock_drop(&n->lock);
}

static void forget(struct iof_soft_nested *n, uint32_t pasid)
{
	iof_lock_take(&n->lock);
	for (unsigned i = 0; i < IOF_SOFT_CONTEXTS; i++)
		if (pasid == IOF_IOTLB_ANY_TAG || n->context[i].pasid == pasid)
			n->context[i].known = false;
	iof_lock_drop(&n->lock);
}

/* A broken IOMMU (iof_iotlb_drop_invalidations()) keeps its contexts too. */
void iofi_soft_forget(struct iof_soft_nested *n, uint32_t pasid)
{
	struct iof_iotlb *tlb = &n->parent->iommu->iotlb;

	iof_rsec_sync(&n->parent->rsec);
	if (atomic_load_explicit(&tlb->drop, memory_order_relaxed))
		atomic_fetch_add_explicit(&tlb->dropped, 1, memory_order_relaxed);
	else
		forget(n, pasid);
	iof_rsec_sync(&n->parent->rsec);
}

/* First come those who walked the table before the guest changed it, and may yet put what they found into the IOTLB. */
void iofi_soft_invalidate(struct iof_hwpt *parent, const struct iof_iotlb_key *key, struct iof_range r)
{
	iof_rsec_sync(&parent->rsec);
	iof_iotlb_invalidate_nested(&parent->iommu->iotlb, key, r);
	iof_rsec_sync(&parent->rsec);
}

int iofi_soft_refuse(const struct iof_guest *g, enum iof_dma_fault_reason reason, uint8_t code, uint64_t address, uint64_t item)
{
	g->fault->reason = reason;
	g->fault->stage = 1;
	g->fault->fetch = IOF_DMA_FETCH_DESCRIPTOR;
	g->fault->code = code;
	g->fault->address = address;
	g->fault->item = item;
	return -EFAULT;
}
