/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/guest.h"

#include <errno.h>

#include "util/guard.h"

/* Copies from an address of the parent's output; which of ours it is depends on the machine. */
static int read_output(struct iof_machine *m, uint64_t address, void *to, uint64_t n)
{
	uint64_t whole = n;

	if (m->memory.address_mode == IOF_ADDRESS_SYNTHETIC)
		address = iof_identity_reach_run(m->memory.identities, address, false, &n);
	return address == UINT64_MAX || n < whole ? -EFAULT : iof_copy_in(to, address, whole);
}

/* ---- descriptors ---- */

static int no_descriptor(const struct iof_guest *g, enum iof_dma_fault_reason reason, uint64_t address, unsigned level)
{
	g->fault->reason = reason;
	g->fault->stage = 2;
	g->fault->level = (uint8_t)level;
	g->fault->fetch = IOF_DMA_FETCH_DESCRIPTOR;
	g->fault->address = address;
	return -EFAULT;
}

int iof_guest_read(const struct iof_guest *g, uint64_t address, void *to, size_t n)
{
	struct iof_pt_leaf leaf;

	if (iof_pt_walk(g->parent->pt, address, &leaf))
		return no_descriptor(g, IOF_DMA_FAULT_UNMAPPED, address, 0);
	if (!(leaf.prot & IOF_PROT_READ))
		return no_descriptor(g, IOF_DMA_FAULT_DENIED, address, leaf.level);
	if (read_output(g->m, leaf.address + (address - leaf.iova), to, n))
		return no_descriptor(g, IOF_DMA_FAULT_MEMORY, address, leaf.level);
	return 0;
}

/* ---- tables ---- */

/* Reads the items of one walk, and remembers what they have in common. */
struct items {
	struct iof_machine *m;
	uint64_t all, above, last;
};

static int read_item(void *ctx, uint64_t address, uint64_t *item)
{
	struct items *items = ctx;
	int rc = read_output(items->m, address, item, sizeof(*item));

	if (rc)
		return rc;
	items->above |= items->last;
	items->last = *item;
	items->all &= *item;
	return 0;
}

static enum iof_dma_fault_reason reason_of(const struct iof_pt_fault *f)
{
	switch (f->reason) {
	case IOF_PT_NO_MEMORY:
		return IOF_DMA_FAULT_MEMORY;
	case IOF_PT_RESERVED:
		return IOF_DMA_FAULT_TABLE;
	case IOF_PT_DENIED:
		return IOF_DMA_FAULT_DENIED;
	default:
		return IOF_DMA_FAULT_UNMAPPED;
	}
}

static int walk_failed(const struct iof_guest *g, const struct iof_pt_nested_fault *f)
{
	g->fault->reason = reason_of(&f->fault);
	g->fault->stage = f->stage;
	g->fault->level = f->fault.level;
	g->fault->fetch = f->fetch_level == IOF_PT_NO_FETCH ? IOF_DMA_NO_FETCH : f->fetch_level;
	g->fault->address = f->stage == 1 ? f->fault.entry : f->fault.iova;
	g->fault->item = f->fault.item;
	return -EFAULT;
}

static int denied(const struct iof_guest *g, uint8_t stage, const struct iof_pt_leaf *leaf, uint64_t address)
{
	*g->fault = (struct iof_dma_fault){ .reason = IOF_DMA_FAULT_DENIED, .stage = stage, .level = leaf->level,
					    .fetch = IOF_DMA_NO_FETCH, .address = address, .item = leaf->item,
					    .done = g->fault->done };
	return -EFAULT;
}

static bool granted(const struct iof_first_stage *first, const struct items *items)
{
	return !(first->every_item & ~items->all) && !(first->leaf_item & ~items->last) && !(first->no_table_item & items->above);
}

/* The IOTLB missed. */
static int walk(const struct iof_guest *g, const struct iof_first_stage *first, uint64_t iova, struct iof_pt_leaf *leaf,
		uint64_t *through)
{
	struct items items = { .m = g->m, .all = UINT64_MAX };
	struct iof_pt_nested both = { .first = first->table, .second = g->parent->pt };
	struct iof_pt_nested_fault fault;

	both.first.memory = (struct iof_pt_memory){ .read = read_item, .ctx = &items };
	if (iof_pt_walk_nested(&both, iova, leaf, &fault))
		return walk_failed(g, &fault);
	if (!granted(first, &items))
		return denied(g, 1, leaf, fault.fault.entry);
	*through = fault.through - (iova - leaf->iova);
	iof_iotlb_insert_nested(&g->parent->iommu->iotlb, &first->key, iova, leaf, *through);
	return 0;
}

/* Whose refusal is it? The leaf has what both permit; the second stage is asked again. */
static int refuse(const struct iof_guest *g, const struct iof_pt_leaf *leaf, uint64_t through, unsigned want)
{
	struct iof_pt_leaf second;
	bool theirs = !iof_pt_walk(g->parent->pt, through, &second) && !(second.prot & want);

	return theirs ? denied(g, 2, &second, through) : denied(g, 1, leaf, leaf->iova);
}

int iofi_guest_resolve(const struct iof_guest *g, const struct iof_first_stage *first, uint64_t iova, bool write,
		       struct iof_pt_leaf *leaf, uint64_t *through)
{
	unsigned want = write ? IOF_PROT_WRITE : IOF_PROT_READ;
	int rc = 0;

	if (!iof_iotlb_find_nested(&g->parent->iommu->iotlb, &first->key, iova, leaf, through))
		rc = walk(g, first, iova, leaf, through);
	if (rc)
		return rc;
	*through += iova - leaf->iova;
	return leaf->prot & want ? 0 : refuse(g, leaf, *through, want);
}
