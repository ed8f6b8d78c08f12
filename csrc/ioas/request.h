/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page requests (PRI): a soft device asks for a page that its translation lacks, and waits for the answer.
 *
 * A request is a group of one page in the fault queue of the HWPT that the DMA went through (behaviour.md 8.1). It is raised inside the device's read section,
 * where the attachment cannot go, and waited for outside. The one who waits and the queue have a reference each: a wait may end before the answer comes, which
 * the queue gives exactly once, at the latest when the attachment ends.
 */
#ifndef IOF_IOAS_REQUEST_H
#define IOF_IOAS_REQUEST_H

#include "ioas/dma.h"
#include "ioas/fault.h"

struct iof_request;
struct iof_endpoint;

/* NULL: a fault that no answer can mend, or no memory. Inside the device's read section. */
struct iof_request *iof_request_raise(struct iof_dma_source *who, const struct iof_endpoint *e, struct iof_fault *queue,
				      const struct iof_dma_fault *fault);
/* Was it answered with success in time? Lets go of the request. */
bool iof_request_wait(struct iof_request *rq, uint32_t ms);

#endif
