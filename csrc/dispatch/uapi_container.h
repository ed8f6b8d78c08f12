/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VFIO container's commands, which an iommufd answers for programs that were written for /dev/vfio/vfio
 * (behaviour.md 2.22). They mean the IOAS that VFIO_IOAS (uapi.h) has set. Each has `argsz`, by rules of its own: no
 * extensible structs.
 */
#ifndef IOF_DISPATCH_UAPI_CONTAINER_H
#define IOF_DISPATCH_UAPI_CONTAINER_H

#include "dispatch/uapi.h"

enum iof_vfio_ioas_op { IOF_VFIO_IOAS_GET = 0, IOF_VFIO_IOAS_SET = 1, IOF_VFIO_IOAS_CLEAR = 2 };

enum iof_container_cmd {
	IOF_CMD_CONTAINER_GET_API_VERSION = IOF_CMD(0x64),
	IOF_CMD_CONTAINER_CHECK_EXTENSION = IOF_CMD(0x65), /* the argument is an enum iof_container_extension */
	IOF_CMD_CONTAINER_SET_IOMMU = IOF_CMD(0x66), /* the argument is IOF_CONTAINER_TYPE1 or TYPE1V2 */
	IOF_CMD_CONTAINER_GET_INFO = IOF_CMD(0x70),
	IOF_CMD_CONTAINER_MAP_DMA = IOF_CMD(0x71),
	IOF_CMD_CONTAINER_UNMAP_DMA = IOF_CMD(0x72),
};

enum iof_container_extension {
	IOF_CONTAINER_TYPE1 = 1,
	IOF_CONTAINER_TYPE1V2 = 3,
	IOF_CONTAINER_DMA_CC = 4,
	IOF_CONTAINER_NOIOMMU = 8,
	IOF_CONTAINER_UNMAP_ALL = 9,
};

enum iof_container_info_flag { IOF_CONTAINER_INFO_PGSIZES = 1, IOF_CONTAINER_INFO_CAPS = 2 };

struct iof_cmd_container_info {
	uint32_t argsz, flags;
	uint64_t iova_pgsizes;
	uint32_t cap_offset, pad;
};

/* The capabilities behind it: `next` is the next one's offset from the struct's start, 0 for the last. */
enum iof_container_cap { IOF_CONTAINER_CAP_IOVA_RANGE = 1, IOF_CONTAINER_CAP_DMA_AVAIL = 3 };

struct iof_container_cap_header {
	uint16_t id, version;
	uint32_t next;
};

struct iof_container_dma_avail {
	struct iof_container_cap_header header;
	uint32_t avail;
};

struct iof_container_iova_range {
	struct iof_container_cap_header header;
	uint32_t nr_iovas, reserved; /* then struct iof_uapi_range[nr_iovas] */
};

enum iof_container_map_flag { IOF_CONTAINER_MAP_READ = 1, IOF_CONTAINER_MAP_WRITE = 2 };

struct iof_cmd_container_map {
	uint32_t argsz, flags;
	uint64_t vaddr, iova, size;
};

enum iof_container_unmap_flag { IOF_CONTAINER_UNMAP_FLAG_ALL = 2 };

struct iof_cmd_container_unmap {
	uint32_t argsz, flags;
	uint64_t iova, size;
};

#endif
