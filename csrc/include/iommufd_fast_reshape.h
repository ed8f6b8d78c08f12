/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iommufd_fast: other memory for what is mapped, many copies at once, and how many entries a space uses. In C.
 */
#ifndef IOMMUFD_FAST_RESHAPE_H
#define IOMMUFD_FAST_RESHAPE_H

#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iof_replace {
	size_t size; /* sizeof(struct iof_replace) of the caller */
	uint32_t ioas_id;
	uint32_t flags; /* READABLE, WRITEABLE */
	enum iof_policy policy;
	uint64_t iova, length; /* exactly one mapping */
	uint64_t address; /* of the new memory */
};

/*
 * Gives the IOVAs of a mapping to other memory, in one step: a DMA meets the old memory or the new, never nothing, and once
 * one has met the new, none meets the old. (A transfer of more than 64 KiB is several steps of the device, as on hardware.) When
 * it returns the old memory is out of reach. 0; -ENOENT no such IOAS, or the range is not exactly one mapping; -EINVAL size, flags, alignment;
 * -EBUSY an access has it pinned; -EFAULT, -ENOMEM …: as MAP, and everything is as before. -EOPNOTSUPP: the provider can only unmap
 * and map again, with a moment between in which DMA faults.
 */
int iof_replace(struct iof_handle *ctx, const struct iof_replace *rq);

struct iof_copy_many {
	size_t size; /* sizeof(struct iof_copy_many) of the caller */
	uint32_t dst_ioas_id, src_ioas_id; /* may be the same */
	uint32_t flags; /* enum iof_map_flag; FIXED: iovas[] are inputs */
	size_t n;
	const uint64_t *src_iovas, *lengths;
	uint64_t *iovas; /* out (in with FIXED); after an error without FIXED undefined */
	size_t failed; /* out: index of the entry that failed */
};
/*
 * Copies n ranges from one IOAS to another, all or nothing: 0, or the errno of entry `failed` with every earlier copy unmapped again. Equal to n
 * IOAS_COPYs in turn: an entry may copy what an earlier one made. On any provider. -EINVAL size; -ENOENT no such IOAS; -EOPNOTSUPP flags,
 * or a handle that is no context.
 */
int iof_copy_many(struct iof_handle *ctx, struct iof_copy_many *many);

/*
 * The engine and a kernel's iommufd have no limit on mappings. The kernel provider counts what its ledger knows, and `fewest` is for pages of
 * 4 KiB, 2 MiB and 1 GiB there.
 */
struct iof_ioas_entries {
	uint64_t mappings; /* entries in the ledger: what a provider with a limit counts */
	uint64_t coalesced; /* how many there would be if neighbours with consecutive memory and equal permissions were one */
	uint64_t limit; /* the most that the provider can have; UINT64_MAX: none */
	uint64_t leaves[64]; /* of all page tables, by log2 of their size; all 0 without has_leaves */
	uint64_t fewest; /* leaves that one page table would use at the least, if the coalesced were mapped anew at these IOVAs */
	bool has_leaves; /* false: the provider does not tell leaves, as a kernel does not */
};
int iof_ioas_entries(struct iof_handle *ctx, uint32_t ioas_id, struct iof_ioas_entries *out); /* 0, -ENOENT, -EOPNOTSUPP */

#ifdef __cplusplus
}
#endif

#endif
