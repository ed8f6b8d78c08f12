/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA of a soft device: only through its endpoint's page table, with the IOTLB in front, byte for byte through guard.
 *
 * One call is cut into chunks that lie in one leaf and are at most 64 KiB, each in its own read section: so an unmap waits for one chunk at the most, and
 * what a device sees of a large transfer during an unmap is a fault in the middle, as on hardware.
 *
 * Attached to a nested HWPT, a device's DMA goes through the guest's table and the parent's (guest.h), in the parent's read section. A device that is asked to
 * can raise page requests (request.h): it then waits outside all sections, and tries again or gives up as the answer says.
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
	IOF_DMA_FAULT_TABLE = 5, /* a guest's table or descriptor holds what none may hold */
};

#define IOF_DMA_NO_FETCH 255
#define IOF_DMA_FETCH_DESCRIPTOR 254

struct iof_dma_fault {
	enum iof_dma_fault_reason reason;
	uint64_t iova;
	bool write;
	uint64_t done; /* bytes moved before it */
	/* through a nested HWPT */
	uint8_t stage; /* 1 the guest's, 2 the parent's; 0: one stage */
	uint8_t level; /* of the table with the entry, at that stage */
	uint8_t fetch; /* stage 2: level of the guest's table whose entry was fetched; IOF_DMA_NO_FETCH, IOF_DMA_FETCH_DESCRIPTOR */
	uint8_t code; /* the driver's */
	uint64_t address; /* stage 1: of the entry or descriptor, guest-physical; stage 2: what it was asked for */
	uint64_t item; /* the entry, as far as it was read */
};

/* Who does it: a device, with a PASID or as its requester id (0). */
struct iof_dma_source {
	struct iof_machine *m;
	struct iof_mdev *d;
	uint32_t pasid;
	uint32_t request_ms; /* 0, or: ask for missing pages where faults are handled, and wait so long; UINT32_MAX: for ever */
	uint32_t requests; /* out: how many were raised */
};

/* Each moves r's bytes in order: 0, or -EFAULT and *fault. `r` is a range of IOVAs. */
int iof_dma_read(struct iof_dma_source *who, struct iof_range r, uint64_t to, struct iof_dma_fault *fault);
int iof_dma_write(struct iof_dma_source *who, struct iof_range r, uint64_t from, struct iof_dma_fault *fault);
int iof_dma_fill(struct iof_dma_source *who, struct iof_range r, uint8_t byte, struct iof_dma_fault *fault);
/* From IOVAs at `source` (read) to r (written). */
int iof_dma_copy(struct iof_dma_source *who, struct iof_range r, uint64_t source, struct iof_dma_fault *fault);

#endif
