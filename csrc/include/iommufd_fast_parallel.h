/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: mapping a large region over several threads. In C.
 *
 * What takes time in a large map goes side by side for different IOVAs: filling page tables in the engine, pinning pages in a kernel. So the
 * region is cut into pieces at large-page boundaries, each of them a mapping of its own, and threads take one piece after the other.
 */
#ifndef IOMMUFD_FAST_PARALLEL_H
#define IOMMUFD_FAST_PARALLEL_H

#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iof_map_parallel {
	size_t size; /* sizeof(struct iof_map_parallel) of the caller */
	uint32_t ioas_id;
	uint32_t flags; /* enum iof_map_flag; FIXED: `iova` is an input */
	enum iof_policy policy;
	uint32_t threads; /* the calling one included; 0: one for each processor that this thread may use */
	uint64_t address, length;
	uint64_t iova; /* out */
	uint64_t piece; /* bytes, a power of two from 2 MiB on; 0: chosen. out: what was taken */
	uint32_t pieces; /* out: how many mappings there are */
	/* Called by the calling thread only, each time it has done a piece and when all is done. Not 0: everything is undone, -ECANCELED. */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

/*
 * Maps [address, address+length) to consecutive IOVAs, all or nothing. An UNMAP of the whole range removes all pieces at once. 0; -EINVAL size,
 * flags, threads above 1024, piece, length 0; -EOVERFLOW; -ECANCELED; else the errno of a piece's map. From any thread.
 */
int iof_map_parallel(struct iof_handle *ctx, struct iof_map_parallel *map);

#ifdef __cplusplus
}
#endif

#endif
