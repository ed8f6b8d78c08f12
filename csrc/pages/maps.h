/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process has mapped, from /proc/self/maps. Private to this folder.
 *
 * A scan is as good as the kernel's: a mapping that changes while the file is being read may be seen before or after.
 * The scan keeps errno, goes around libc's open() (which may be interposed), and needs no memory.
 */
#ifndef IOF_PAGES_MAPS_H
#define IOF_PAGES_MAPS_H

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
 * or read; -EIO: not understood.
 */
int iofi_maps_scan(int (*fn)(void *ctx, const struct iofi_vma *vma), void *ctx);

/* The mappings that intersect a range, read once; ascending. */
struct iofi_maps {
	struct iof_alloc *alloc;
	struct iofi_vma *vma;
	uint64_t n, room;
	uint64_t start_time; /* of the process, when one of them is private */
};

/* 0, -ENOMEM, or what the scan says. After an error there is nothing to free. */
int iofi_maps_read(struct iof_alloc *a, struct iof_range hull, struct iofi_maps *out);
void iofi_maps_free(struct iofi_maps *maps);
const struct iofi_vma *iofi_maps_at(const struct iofi_maps *maps, uint64_t address); /* NULL: not mapped */

/* The start time of this process (clock ticks since boot): with the pid it names a process for good. 0 when unknown. */
uint64_t iofi_process_start_time(void);

#endif
