/* SPDX-License-Identifier: Apache-2.0 */
/* The public C API, the part about DMA of soft devices and the IOTLB in front of it. Included by iommufd_fast.h. */
#ifndef IOMMUFD_FAST_DMA_H
#define IOMMUFD_FAST_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iof_machine;
struct iof_handle;

enum iof_dma_op { IOF_DMA_READ = 1, IOF_DMA_WRITE = 2, IOF_DMA_FILL = 3, IOF_DMA_COPY = 4 };
enum iof_dma_reason {
	IOF_DMA_OK = 0,
	IOF_DMA_BLOCKED = 1, /* the endpoint is not attached */
	IOF_DMA_UNMAPPED = 2, /* no translation */
	IOF_DMA_DENIED = 3, /* the translation does not allow this access */
	IOF_DMA_MEMORY = 4, /* translated, but the memory behind it is gone */
	IOF_DMA_TABLE = 5, /* a guest's table or descriptor holds what none may hold */
};
#define IOF_DMA_WAIT UINT32_MAX
struct iof_dma_segment {
	uint64_t iova, length;
};
struct iof_dma {
	enum iof_dma_op op;
	uint32_t pasid; /* IOF_NO_PASID: its own requester id */
	const struct iof_dma_segment *segments; /* scatter-gather list, in order */
	size_t n_segments;
	void *buffer; /* READ: destination, WRITE: source; the sum of the segments' lengths */
	uint64_t source; /* COPY: IOVA read from */
	uint8_t fill; /* FILL */
	/* out, on -EFAULT */
	enum iof_dma_reason reason;
	uint64_t fault_iova;
	uint64_t done; /* bytes moved before the fault */
	uint8_t fault_write;
	/* and through a nested HWPT: which stage (1 the guest's, 2 the parent's; 0: not nested), which level of it, and there: */
	uint8_t fault_stage, fault_level;
	uint8_t fault_fetch; /* stage 2: level of the guest's table that was fetched; 254 a descriptor, 255 none, and so the page itself */
	uint64_t fault_address; /* stage 1: guest-physical address of the entry or descriptor; stage 2: the guest-physical address asked for */
	/*
	 * in: where the HWPT handles faults, ask for a missing page or permission and wait so many milliseconds for the answer (IOF_DMA_WAIT: for ever), then try again
	 * or stop. 0: do not ask. out: how often it asked.
	 */
	uint32_t request_ms, requests;
};
/* DMA by a soft device, only through its endpoint's page table (and the guest's, where nested). READ is device reading memory. 0; -EFAULT with the fault; -EINVAL bad op or a segment that wraps; -EOPNOTSUPP on a handle that is no soft device; -ENODEV pasid unknown. */
int iof_dma(struct iof_handle *h, struct iof_dma *dma);

struct iof_iotlb_stats {
	uint64_t hits, misses, evictions, invalidations, dropped;
	uint32_t entries, live;
};
int iof_iotlb_stats(struct iof_machine *m, struct iof_iotlb_stats *out);
/* A broken IOMMU for tests: while set, invalidations do nothing and devices may see stale translations. */
void iof_iotlb_drop_invalidations(struct iof_machine *m, bool drop);

#ifdef __cplusplus
}
#endif

#endif
