/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA of a soft device: only through its endpoint's page table, with the IOTLB in front, byte for byte through guard.
 *
 * One call is cut into chunks that lie in one leaf and are at most 64 KiB, each in its own read section: so an unmap waits for one chunk at the most, and
 * what a device sees of a large transfer during an unmap is a fault in the middle, as on hardware.
 */
#ifndef IOF_IOAS_DMA_H
#define IOF_IOAS_DMA_H

#include "ioas/machine.h"

#define IOF_DMA_CHUNK (UINT64_C(64) << 10)

/* Numbers are those of the public enum iof_dma_reason. */
enum iof_dma_fault_reason {
	IOF_DMA_FAULT_NONE = 0,
	IOF_DMA_FAULT_BLOCKED = 1,
	IOF_DMA_FAULT_UNMAPPED = 2,
	IOF_DMA_FAULT_DENIED = 3,
	IOF_DMA_FAULT_MEMORY = 4,
};

struct iof_dma_fault {
	enum iof_dma_fault_reason reason;
	uint64_t iova;
	bool write;
	uint64_t done; /* bytes moved before it */
};

/* Who does it: a device, with a PASID or as its requester id (0). */
struct iof_dma_source {
	struct iof_machine *m;
	struct iof_mdev *d;
	uint32_t pasid;
};

/* Each moves r's bytes in order: 0, or -EFAULT and *fault. `r` is a range of IOVAs. */
int iof_dma_read(const struct iof_dma_source *who, struct iof_range r, uint64_t to, struct iof_dma_fault *fault);
int iof_dma_write(const struct iof_dma_source *who, struct iof_range r, uint64_t from, struct iof_dma_fault *fault);
int iof_dma_fill(const struct iof_dma_source *who, struct iof_range r, uint8_t byte, struct iof_dma_fault *fault);
/* From IOVAs at `source` (read) to r (written). */
int iof_dma_copy(const struct iof_dma_source *who, struct iof_range r, uint64_t source, struct iof_dma_fault *fault);

#endif
