/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/dma.h"

#include <errno.h>

#include "ioas/device.h"
#include "ioas/guest.h"
#include "ioas/request.h"
#include "util/guard.h"

/* What one transfer is about; `at` walks the range, `other` the other side. */
struct transfer {
	struct iof_dma_source *who;
	uint64_t at, left;
	uint64_t other; /* process address, or the IOVA that is read by a copy */
	bool write; /* the device writes to `at` */
	bool copy; /* `other` is an IOVA */
	int (*move)(const struct transfer *t, uint64_t host, uint64_t other, uint64_t n);
	uint8_t byte;
	struct iof_dma_fault *fault;
	struct iof_request *request; /* was raised for the fault, and is waited for */
};

/* What the DMA of an endpoint goes through, for one chunk: a table of ours, and a guest's in front of it. */
struct route {
	struct iof_hwpt *hwpt; /* attached */
	struct iof_hwpt *paging; /* itself, or its parent */
	struct iof_first_stage *first; /* NULL: none */
};

/* One byte range of it. */
struct place {
	uint64_t host, through; /* in this process; in the paging table's IOVAs */
};

static int fail(struct transfer *t, enum iof_dma_fault_reason reason, uint64_t iova, bool write)
{
	t->fault->reason = reason;
	t->fault->iova = iova;
	t->fault->write = write;
	return -EFAULT;
}

/* The IOTLB first, then the page table; inside the domain's read section. */
static bool find_leaf(struct iof_hwpt *hwpt, uint64_t iova, struct iof_pt_leaf *leaf)
{
	struct iof_iotlb *tlb = &hwpt->iommu->iotlb;

	if (iof_iotlb_find(tlb, hwpt->domain, iova, leaf))
		return true;
	if (iof_pt_walk(hwpt->pt, iova, leaf))
		return false;
	iof_iotlb_insert(tlb, hwpt->domain, iova, leaf);
	return true;
}

static int one_stage(struct transfer *t, const struct route *r, uint64_t iova, bool write, struct iof_pt_leaf *leaf)
{
	if (!find_leaf(r->paging, iova, leaf))
		return fail(t, IOF_DMA_FAULT_UNMAPPED, iova, write);
	return leaf->prot & (write ? IOF_PROT_WRITE : IOF_PROT_READ) ? 0 : fail(t, IOF_DMA_FAULT_DENIED, iova, write);
}

static int two_stages(struct transfer *t, const struct route *r, uint64_t iova, bool write, struct iof_pt_leaf *leaf, struct place *to)
{
	struct iof_guest guest = { t->who->m, r->paging, t->fault };
	int rc = iofi_guest_resolve(&guest, r->first, iova, write, leaf, &to->through);

	return rc ? fail(t, t->fault->reason, iova, write) : 0;
}

/* Where `iova` leads and how far that goes; *n is cut to it. */
static int resolve(struct transfer *t, const struct route *r, uint64_t iova, bool write, struct place *to, uint64_t *n)
{
	struct iof_pt_leaf leaf;
	uint64_t offset, size;
	int rc;

	to->through = iova;
	rc = iof_likely(!r->first) ? one_stage(t, r, iova, write, &leaf) : two_stages(t, r, iova, write, &leaf, to);
	if (rc)
		return rc;
	offset = iova - leaf.iova;
	size = UINT64_C(1) << leaf.size_lg2;
	to->host = leaf.address + offset;
	if (*n > size - offset)
		*n = size - offset;
	/* Neighbours in the synthetic space need not be neighbours in the process. */
	if (t->who->m->memory.address_mode == IOF_ADDRESS_SYNTHETIC)
		to->host = iof_identity_reach_run(t->who->m->memory.identities, to->host, write, n);
	return to->host == UINT64_MAX ? fail(t, IOF_DMA_FAULT_MEMORY, iova, write) : 0;
}

static int move_read(const struct transfer *t, uint64_t host, uint64_t other, uint64_t n)
{
	(void)t;
	return iof_copy_across(other, host, n);
}

static int move_write(const struct transfer *t, uint64_t host, uint64_t other, uint64_t n)
{
	(void)t;
	return iof_copy_across(host, other, n);
}

static int move_fill(const struct transfer *t, uint64_t host, uint64_t other, uint64_t n)
{
	(void)other;
	return iof_fill_out(host, t->byte, n);
}

/* One chunk; *n: how much was moved. A copy reads before it writes, and ends where either side's leaf does. */
static int chunk(struct transfer *t, const struct route *r, uint64_t *n)
{
	struct place to, from = { .host = t->other };
	int rc = t->copy ? resolve(t, r, t->other, false, &from, n) : 0;

	if (!rc)
		rc = resolve(t, r, t->at, t->write, &to, n);
	if (!rc && t->write && iof_unlikely(atomic_load_explicit(&r->paging->tracking, memory_order_relaxed)))
		iof_pt_set_dirty(r->paging->pt, to.through);
	if (!rc && t->move(t, to.host, from.host, *n))
		rc = fail(t, IOF_DMA_FAULT_MEMORY, t->at, t->write);
	return rc;
}

/* Said inside the section: an unmap that waited for this section reads it, one that did not cleared its entries before our walk. */
static void say_used(_Atomic bool *used)
{
	if (iof_unlikely(!atomic_load_explicit(used, memory_order_relaxed)))
		atomic_store_explicit(used, true, memory_order_relaxed);
}

/* What the guest has put in front of the parent's table. */
static int guest_chunk(struct transfer *t, struct route *r, uint64_t *n)
{
	const struct iof_driver *driver = r->hwpt->iommu->driver;
	struct iof_guest guest = { t->who->m, r->paging, t->fault };
	struct iof_first_stage first = { .silent = false };
	int rc = driver->first_stage(r->hwpt->iommu->drv, r->hwpt->priv, t->who->pasid, &guest, &first);

	if (rc)
		rc = fail(t, t->fault->reason, t->at, t->write);
	else if (first.kind == IOF_FIRST_ABORT)
		rc = fail(t, IOF_DMA_FAULT_BLOCKED, t->at, t->write);
	if (rc)
		goto out;
	r->first = first.kind == IOF_FIRST_TABLE ? &first : NULL;
	say_used(&r->paging->used_nested);
	rc = chunk(t, r, n);
out:
	if (rc && driver->dma_faulted && !first.silent)
		driver->dma_faulted(r->hwpt->iommu->drv, r->hwpt->priv, t->who->d, t->who->pasid, t->fault);
	return rc;
}

static int through(struct transfer *t, struct iof_hwpt *hwpt, uint64_t *n)
{
	struct route r = { .hwpt = hwpt, .paging = hwpt->parent ? hwpt->parent : hwpt };
	unsigned token = iof_rsec_enter(&r.paging->rsec);
	int rc;

	say_used(&r.paging->used);
	rc = iof_likely(!hwpt->parent) ? chunk(t, &r, n) : guest_chunk(t, &r, n);
	iof_rsec_leave(&r.paging->rsec, token);
	return rc;
}

/* A PASID that is attached nowhere may be the guest's own: behind its requester id's nested table. */
static struct iof_endpoint *endpoint_of(const struct iof_dma_source *who)
{
	struct iof_endpoint *e = iof_mdev_endpoint(who->d, who->pasid);
	struct iof_hwpt *hwpt;

	if (iof_likely(e) || !who->d->caps.user_pasids)
		return e;
	e = iof_mdev_endpoint(who->d, 0);
	hwpt = e ? atomic_load_explicit(&e->hwpt, memory_order_acquire) : NULL;
	return hwpt && hwpt->parent ? e : NULL;
}

static int through_endpoint(struct transfer *t, struct iof_endpoint *e, uint64_t *n)
{
	struct iof_hwpt *hwpt = atomic_load_explicit(&e->hwpt, memory_order_acquire);
	int rc;

	if (hwpt->parent && !hwpt->iommu->driver->first_stage) /* the driver's tables are not walked here */
		return fail(t, IOF_DMA_FAULT_BLOCKED, t->at, t->write);
	rc = through(t, hwpt, n);
	if (rc && t->who->request_ms && hwpt->fault)
		t->request = iof_request_raise(t->who, e, hwpt->fault, t->fault);
	return rc;
}

static int step(struct transfer *t)
{
	struct iof_mdev *d = t->who->d;
	unsigned token = iof_rsec_enter(&d->rsec);
	struct iof_endpoint *e = endpoint_of(t->who);
	uint64_t n = t->left < IOF_DMA_CHUNK ? t->left : IOF_DMA_CHUNK;
	int rc = e ? through_endpoint(t, e, &n) : fail(t, IOF_DMA_FAULT_BLOCKED, t->at, t->write);

	iof_rsec_leave(&d->rsec, token);
	if (rc)
		return rc;
	t->at += n;
	t->other += n;
	t->left -= n;
	t->fault->done += n;
	return 0;
}

/* Waits for what was asked for, if anything was. Then the step is done once more, as if for the first time. */
static bool again(struct transfer *t)
{
	struct iof_request *rq = t->request;

	t->request = NULL;
	if (!rq || !iof_request_wait(rq, t->who->request_ms))
		return false;
	*t->fault = (struct iof_dma_fault){ .done = t->fault->done };
	return true;
}

/* A device's transfers are finite: a range of the whole space (length 2^64) faults long before it wraps. */
static int run(struct transfer *t, struct iof_range r, struct iof_dma_fault *fault)
{
	int rc = 0;

	*fault = (struct iof_dma_fault){ 0 };
	t->fault = fault;
	t->at = r.start;
	t->left = iof_range_length(r);
	do
		rc = step(t);
	while (rc ? again(t) : t->left != 0);
	return rc;
}

int iof_dma_read(struct iof_dma_source *who, struct iof_range r, uint64_t to, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = to, .move = move_read };

	return run(&t, r, fault);
}

int iof_dma_write(struct iof_dma_source *who, struct iof_range r, uint64_t from, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = from, .move = move_write, .write = true };

	return run(&t, r, fault);
}

int iof_dma_fill(struct iof_dma_source *who, struct iof_range r, uint8_t byte, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .byte = byte, .move = move_fill, .write = true };

	return run(&t, r, fault);
}

int iof_dma_copy(struct iof_dma_source *who, struct iof_range r, uint64_t source, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = source, .copy = true, .move = move_write, .write = true };

	return run(&t, r, fault);
}
