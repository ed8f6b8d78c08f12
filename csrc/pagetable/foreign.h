/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables in memory that is not ours: a guest's, a crash dump's, a file's. Read-only, and nothing in them is trusted:
 * whatever they hold, a walk reads one entry of each level at most, and what it ends in is a leaf or a fault that says
 * where.
 *
 * Thread-safety: everything here is a function of its arguments; the reader decides the rest.
 */
#ifndef IOF_PAGETABLE_FOREIGN_H
#define IOF_PAGETABLE_FOREIGN_H

#include "pagetable/pagetable.h"

/* How table addresses become entries. */
struct iof_pt_memory {
	/* Copies the 8-byte entry at an address, a multiple of 8: 0, or a negative errno, -EFAULT for no memory. */
	int (*read)(void *ctx, uint64_t address, uint64_t *entry);
	/* Optional: `bytes` at this address as they lie in our memory, or NULL. Makes batches quicker. */
	const uint64_t *(*at)(void *ctx, uint64_t address, uint64_t bytes);
	void *ctx;
};

struct iof_pt_foreign {
	struct iof_pt_config cfg; /* format, va_lg2, oa_lg2, granule_lg2, and of the features SIGN_EXTEND count */
	uint64_t root;
	uint8_t top_level; /* of the root */
	struct iof_pt_memory memory;
};

enum iof_pt_reason {
	IOF_PT_HOLE = 1, /* -ENOENT: the entry is empty */
	IOF_PT_OUTSIDE, /* -ERANGE: the IOVA is outside the table; -ENOENT: beyond what this root decodes */
	IOF_PT_NO_MEMORY, /* -EFAULT, or the reader's errno: the entry is not in the memory */
	IOF_PT_RESERVED, /* -EINVAL: reserved bits are set, or a leaf or table is where none can be */
	IOF_PT_DENIED, /* -EACCES: the second of two stages does not let the first one's table be read */
	IOF_PT_LOOP, /* -ELOOP: the entry points to a table above itself; only an iteration says so */
};

struct iof_pt_fault {
	uint8_t reason; /* enum iof_pt_reason */
	uint8_t level; /* of the table with the entry */
	uint8_t granted; /* the permissions that all tables above grant; also after a walk without a fault */
	uint64_t table; /* address of that table */
	uint64_t entry; /* address of the entry */
	uint64_t item; /* the entry, 0 when it could not be read */
	uint64_t iova, last; /* of a walk: its IOVA; of an iteration: all that the fault hides */
};

/* -EINVAL: no table has this shape, or the root is not aligned to its size. The others trust that this was asked. */
int iof_pt_foreign_check(const struct iof_pt_foreign *f);

/* 0 and *leaf, or a fault: its errno, and *fault is filled in. */
int iof_pt_walk_foreign(const struct iof_pt_foreign *f, uint64_t iova, struct iof_pt_leaf *leaf,
			struct iof_pt_fault *fault);

/*
 * The first leaf or fault that intersects `within`: 0 and *leaf; -ENOENT there is neither; else *fault, which hides
 * [fault->iova, fault->last]. Holes are passed over. Go on behind the leaf or behind fault->last.
 */
int iof_pt_next_foreign(const struct iof_pt_foreign *f, struct iof_range within, struct iof_pt_leaf *leaf,
			struct iof_pt_fault *fault);

/*
 * Two stages: the first's table addresses and leaves are the second's IOVAs, and every fetch of the first goes through
 * the second. The second is one of our own tables, or a foreign one.
 */
struct iof_pt_nested {
	struct iof_pt_foreign first; /* its memory is asked for what the second translates to */
	const struct iof_pt *second; /* NULL: */
	struct iof_pt_foreign second_foreign;
};

#define IOF_PT_NO_FETCH 255

struct iof_pt_nested_fault {
	uint8_t stage; /* 1 or 2 */
	uint8_t fetch_level; /* in stage 2: of the first stage's table that was fetched; NO_FETCH: its leaf's address */
	uint64_t iova; /* the first stage's */
	uint64_t through; /* what the second stage was asked for once the first was done; also after a walk without a fault */
	struct iof_pt_fault fault; /* at that stage; in stage 2 its iova is what the first stage asked for */
};

/*
 * 0 and *leaf: the smaller of the two leaves, what both permit, the first one's level, item and dirty; or a fault's
 * errno. With a second table of ours, inside a read section when its tables may be freed.
 */
int iof_pt_walk_nested(const struct iof_pt_nested *n, uint64_t iova, struct iof_pt_leaf *leaf,
		       struct iof_pt_nested_fault *fault);

/*
 * As iof_pt_translate_many(), through both. Lowest tables of the first stage are looked up once for all IOVAs of a call
 * that need them, as hardware's paging-structure caches do.
 */
size_t iof_pt_translate_nested(const struct iof_pt_nested *n, const uint64_t *iovas, size_t count, uint64_t *addresses,
			       uint8_t *prots);

#endif
