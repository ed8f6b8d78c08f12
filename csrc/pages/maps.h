/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has mapped, from /proc/PID/maps. Private to this folder.
 *
 * A scan is as good as the kernel's: a mapping that changes while the file is being read may be seen before or after.
 * The scan keeps errno, goes around libc's open() (which may be interposed), and needs no memory.
 */
#ifndef IOF_PAGES_MAPS_H
#define IOF_PAGES_MAPS_H

#include "pages/process.h"
#include "util/alloc.h"
#include "util/range.h"

struct iofi_vma {
	struct iof_range at; /* addresses */
	uint64_t offset; /* file offset of at.start */
	uint64_t inode;
	uint32_t device; /* major << 20 | minor */
	bool readable, writable, shared;
};

/*
 * Calls fn for each mapping, ascending, until it returns something other than 0, which is then returned. -errno of open
 * or read; -EIO: not understood. `of` NULL: this process.
 */
int iofi_maps_scan(const struct iofi_process *of, int (*fn)(void *ctx, const struct iofi_vma *vma), void *ctx);

/* The mappings that intersect a range, read once; ascending. */
struct iofi_maps {
	struct iof_alloc *alloc;
	struct iofi_vma *vma;
	uint64_t n, room;
	struct iofi_process owner; /* all zero for this process while none of them is private */
};

/* 0, -ENOMEM, or what the scan says. After an error there is nothing to free. */
int iofi_maps_read(struct iof_alloc *a, const struct iofi_process *of, struct iof_range hull, struct iofi_maps *out);
void iofi_maps_free(struct iofi_maps *maps);
const struct iofi_vma *iofi_maps_at(const struct iofi_maps *maps, uint64_t address); /* NULL: not mapped */

/* Is all of the range mapped, and readable (with `write`: writable)? */
bool iofi_maps_allow(const struct iofi_maps *maps, struct iof_range r, bool write);

#endif
