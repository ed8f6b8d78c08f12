/* SPDX-License-Identifier: Apache-2.0 */
/* DMA memory: what its files tell each other. */
#ifndef IOF_MEMORY_DMA_PRIV_H
#define IOF_MEMORY_DMA_PRIV_H

#include "iommufd_fast_memory.h"

#define IOFI_2M (UINT64_C(2) << 20)
#define IOFI_1G (UINT64_C(1) << 30)

/* Binds pages that are still to come to one node. 0; -EINVAL: no such node; -errno of mbind(2). */
int iofi_node_bind(void *at, uint64_t length, uint32_t node);
/* Looks where the pages are, at most 64 of them. 0; -ENOMEM: not all on the node. */
int iofi_node_check(void *at, uint64_t length, uint32_t node);
/* How many bytes of a range are in transparent huge pages; 0 too when the system does not tell. */
uint64_t iofi_huge_bytes(const void *at, uint64_t length);

#endif
