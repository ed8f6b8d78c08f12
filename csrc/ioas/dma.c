/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/dma.h"

#include <errno.h>

#include "ioas/device.h"
#include "util/guard.h"

/* What one transfer is about; `at` walks the range, `other` the other side. */
struct transfer {
	const struct iof_dma_source *who;
	uint64_t at, left;
	uint64_t other; /* process address, or the IOVA that is read by a copy */
	bool write; /* the device writes to `at` */
	bool copy; /* `other` is an IOVA */
	int (*move)(const struct transfer *t, uint64_t host, uint64_t other, uint64_t n);
	uint8_t byte;
	struct iof_dma_fault *fault;
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

/* Where `iova` is in this process and how far that goes; *n is cut to it. */
static int resolve(struct transfer *t, struct iof_hwpt *hwpt, uint64_t iova, bool write, uint64_t *host, uint64_t *n)
{
	struct iof_pt_leaf leaf;
	uint64_t offset, size;

	if (!find_leaf(hwpt, iova, &leaf))
		return fail(t, IOF_DMA_FAULT_UNMAPPED, iova, write);
	if (!(leaf.prot & (write ? IOF_PROT_WRITE : IOF_PROT_READ)))
		return fail(t, IOF_DMA_FAULT_DENIED, iova, write);
	offset = iova - leaf.iova;
	size = UINT64_C(1) << leaf.size_lg2;
	*host = leaf.address + offset;
	if (*n > size - offset)
		*n = size - offset;
	/* Neighbours in the synthetic space need not be neighbours in the process. */
	if (t->who->m->memory.address_mode == IOF_ADDRESS_SYNTHETIC)
		*host = iof_identity_reach_run(t->who->m->memory.identities, *host, write, n);
	return *host == UINT64_MAX ? fail(t, IOF_DMA_FAULT_MEMORY, iova, write) : 0;
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

/* One chunk through one page table; *n: how much was moved. A copy reads before it writes, and ends where either side's leaf does. */
static int chunk(struct transfer *t, struct iof_hwpt *hwpt, uint64_t *n)
{
	uint64_t host, other = t->other;
	int rc = t->copy ? resolve(t, hwpt, t->other, false, &other, n) : 0;

	if (!rc)
		rc = resolve(t, hwpt, t->at, t->write, &host, n);
	if (!rc && t->write && iof_unlikely(atomic_load_explicit(&hwpt->tracking, memory_order_relaxed)))
		iof_pt_set_dirty(hwpt->pt, t->at);
	if (!rc && t->move(t, host, other, *n))
		rc = fail(t, IOF_DMA_FAULT_MEMORY, t->at, t->write);
	return rc;
}

static int through(struct transfer *t, struct iof_hwpt *hwpt, uint64_t *n)
{
	unsigned token = iofi_hwpt_enter(hwpt);
	int rc;

	/* Said inside the section: an unmap that waited for this section reads it, one that did not cleared its entries before our walk. */
	if (iof_unlikely(!atomic_load_explicit(&hwpt->used, memory_order_relaxed)))
		atomic_store_explicit(&hwpt->used, true, memory_order_relaxed);
	rc = chunk(t, hwpt, n);
	iof_rsec_leave(&hwpt->rsec, token);
	return rc;
}

static int step(struct transfer *t)
{
	struct iof_mdev *d = t->who->d;
	unsigned token = iof_rsec_enter(&d->rsec);
	struct iof_endpoint *e = iof_mdev_endpoint(d, t->who->pasid);
	struct iof_hwpt *hwpt = e ? atomic_load_explicit(&e->hwpt, memory_order_acquire) : NULL;
	uint64_t n = t->left < IOF_DMA_CHUNK ? t->left : IOF_DMA_CHUNK;
	/* A guest's table is not walked (no driver here has a first stage): such an endpoint does no DMA. */
	int rc = hwpt && hwpt->pt ? through(t, hwpt, &n) : fail(t, IOF_DMA_FAULT_BLOCKED, t->at, t->write);

	iof_rsec_leave(&d->rsec, token);
	if (rc)
		return rc;
	t->at += n;
	t->other += n;
	t->left -= n;
	t->fault->done += n;
	return 0;
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
	while (!rc && t->left);
	return rc;
}

int iof_dma_read(const struct iof_dma_source *who, struct iof_range r, uint64_t to, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = to, .move = move_read };

	return run(&t, r, fault);
}

int iof_dma_write(const struct iof_dma_source *who, struct iof_range r, uint64_t from, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = from, .move = move_write, .write = true };

	return run(&t, r, fault);
}

int iof_dma_fill(const struct iof_dma_source *who, struct iof_range r, uint8_t byte, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .byte = byte, .move = move_fill, .write = true };

	return run(&t, r, fault);
}

int iof_dma_copy(const struct iof_dma_source *who, struct iof_range r, uint64_t source, struct iof_dma_fault *fault)
{
	struct transfer t = { .who = who, .other = source, .copy = true, .move = move_write, .write = true };

	return run(&t, r, fault);
}
