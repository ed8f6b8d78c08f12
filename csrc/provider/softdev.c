/* SPDX-License-Identifier: Apache-2.0 */
/* The DMA verb of a soft device: scatter-gather over the floor below. */
#include <errno.h>

#include "ioas/dma.h"
#include "provider/engine.h"

_Static_assert((int)IOF_DMA_MEMORY == (int)IOF_DMA_FAULT_MEMORY && (int)IOF_DMA_TABLE == (int)IOF_DMA_FAULT_TABLE, "reasons");

static int one(struct iof_dma_source *who, struct iof_dma *dma, struct iof_range r, struct iof_dma_fault *fault)
{
	uint64_t buffer = (uintptr_t)dma->buffer + dma->done;

	switch (dma->op) {
	case IOF_DMA_READ:
		return iof_dma_read(who, r, buffer, fault);
	case IOF_DMA_WRITE:
		return iof_dma_write(who, r, buffer, fault);
	case IOF_DMA_FILL:
		return iof_dma_fill(who, r, dma->fill, fault);
	case IOF_DMA_COPY:
		return iof_dma_copy(who, r, dma->source + dma->done, fault);
	default:
		return -EINVAL;
	}
}

/* A list is checked whole before the first byte moves. */
static int check(const struct iof_dma *dma)
{
	struct iof_range r;
	uint64_t total = 0;

	if (dma->op < IOF_DMA_READ || dma->op > IOF_DMA_COPY)
		return -EINVAL;
	if (!dma->pasid)
		return -ENODEV; /* PASID 0 is the requester id's: say IOF_NO_PASID */
	for (size_t i = 0; i < dma->n_segments; i++) {
		if (iof_range_make(dma->segments[i].iova, dma->segments[i].length, &r) ||
		    __builtin_add_overflow(total, dma->segments[i].length, &total))
			return -EINVAL;
	}
	return total && dma->op == IOF_DMA_COPY ? -!!iof_range_make(dma->source, total, &r) * EINVAL : 0;
}

static void report(struct iof_dma *dma, const struct iof_dma_fault *fault)
{
	dma->reason = (enum iof_dma_reason)fault->reason;
	dma->fault_iova = fault->iova;
	dma->fault_write = fault->write;
	dma->done += fault->done;
	dma->fault_stage = fault->stage;
	dma->fault_level = fault->level;
	dma->fault_fetch = fault->fetch;
	dma->fault_address = fault->address;
}

int iofi_engine_dma(struct iof_handle *h, struct iof_dma *dma)
{
	union iof_engine *e = iofi_engine(h);
	struct iof_dma_source who = { .m = e->file.machine, .d = e->file.mdev, .pasid = dma->pasid == IOF_NO_PASID ? 0 : dma->pasid,
				      .request_ms = dma->request_ms };
	struct iof_dma_fault fault;
	struct iof_range r;
	int rc = check(dma);

	dma->done = 0;
	dma->reason = IOF_DMA_OK;
	for (size_t i = 0; i < dma->n_segments && !rc; i++) {
		iof_range_make(dma->segments[i].iova, dma->segments[i].length, &r);
		rc = one(&who, dma, r, &fault);
		report(dma, &fault);
	}
	dma->requests = who.requests;
	return rc;
}
