/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: from an address to its IOVA, for drivers. In C.
 *
 * A driver has a buffer and must put its IOVA into a descriptor, for every I/O. The address index of an IOAS answers that in a few
 * nanoseconds, inline and without a lock:
 *
 *	struct iof_va_index *ix;
 *	uint64_t iova, length;
 *	iof_va_index_open(ctx, ioas_id, &ix);
 *	iova = iof_va_to_iova(ix, (uintptr_t)buffer, &length);  // length: bytes to the end of the mapping; 0: not mapped
 *
 * An IOAS keeps one from the first time that somebody asks for it; that time it takes in what is mapped. Maps and unmaps then cost some
 * nanoseconds more. A mapping is found once its MAP has returned, and no more when its UNMAP has. Files and dma-bufs have no addresses: what
 * was mapped by MAP_FILE is not found. On the kernel provider it is what the ledger knows; a mapping whose UNMAP failed, with no memory to
 * find it again, is found from the next iof_va_index_open() on. Of several mappings of one address the one with the lowest IOVA is; see iova/va_index.h.
 */
#ifndef IOMMUFD_FAST_VA_H
#define IOMMUFD_FAST_VA_H

#include "iommufd_fast.h"
#include "iova/va_index.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The address index of an IOAS, kept until iof_va_index_put(). It may be kept longer than the IOAS, the context and the machine: then
 * nothing is mapped. 0; -ENOENT no such IOAS; -ENOMEM; -EOPNOTSUPP a handle that is no context, or a provider without an index.
 */
int iof_va_index_open(struct iof_handle *ctx, uint32_t ioas_id, struct iof_va_index **out);

#ifdef __cplusplus
}
#endif

#endif
