/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOF_MEMORY_PLACE_H
#define IOF_MEMORY_PLACE_H

#include "iommufd_fast.h"

/* Where `total` bytes have room now, on any provider: nothing is reserved. What iof_iova_place() says, and -ENOSPC. */
int iofi_find_place(struct iof_handle *ctx, uint32_t ioas_id, uint64_t address, uint64_t total, uint64_t *iova);

#endif
