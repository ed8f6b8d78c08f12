/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/request.h"

#include "ioas/device.h"
#include "util/await.h"

#define GROUPS 512 /* PCI's page request groups have 9 bits */

struct iof_request {
	struct iof_await await; /* settled with 1 + the answer's code */
	_Atomic uint32_t refs;
	struct iof_alloc *alloc;
};

static void drop(struct iof_request *rq)
{
	if (atomic_fetch_sub_explicit(&rq->refs, 1, memory_order_acq_rel) == 1)
		iof_mem_put(rq->alloc, rq, sizeof(*rq));
}

static void answered(void *who, uint32_t pasid, uint32_t group, uint32_t code)
{
	struct iof_request *rq = who;

	(void)pasid;
	(void)group;
	iof_await_settle(&rq->await, 1 + code);
	drop(rq);
}

/* Only a missing translation or permission can be mended. */
static bool can_be_mended(const struct iof_dma_fault *fault)
{
	return fault->reason == IOF_DMA_FAULT_UNMAPPED || fault->reason == IOF_DMA_FAULT_DENIED;
}

static int report(struct iof_dma_source *who, const struct iof_endpoint *e, struct iof_fault *queue,
		  const struct iof_dma_fault *fault, struct iof_request *rq)
{
	return iof_fault_report(queue, &(struct iof_fault_request){
		.endpoint = e,
		.answer = answered,
		.who = rq,
		.dev_id = e->dev->object.id,
		.flags = IOF_FAULT_LAST_PAGE | (who->pasid ? IOF_FAULT_PASID_VALID : 0),
		.pasid = who->pasid,
		.grpid = atomic_fetch_add_explicit(&who->d->next_request, 1, memory_order_relaxed) % GROUPS,
		.perm = fault->write ? IOF_FAULT_WRITE : IOF_FAULT_READ,
		.addr = fault->iova & ~IOF_PAGE_MASK,
	});
}

struct iof_request *iof_request_raise(struct iof_dma_source *who, const struct iof_endpoint *e, struct iof_fault *queue,
				      const struct iof_dma_fault *fault)
{
	struct iof_alloc *a = who->m->memory.alloc;
	struct iof_request *rq = can_be_mended(fault) ? iof_mem_zget(a, sizeof(*rq), 16) : NULL;

	if (!rq)
		return NULL;
	iof_await_init(&rq->await, a->shared);
	atomic_init(&rq->refs, 2);
	rq->alloc = a;
	if (report(who, e, queue, fault, rq)) {
		iof_mem_put(a, rq, sizeof(*rq));
		return NULL;
	}
	who->requests++;
	return rq;
}

bool iof_request_wait(struct iof_request *rq, uint32_t ms)
{
	bool success = iof_await_wait(&rq->await, ms) == 1 + IOF_FAULT_SUCCESS;

	drop(rq);
	return success;
}
