/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IO page tables: what an IOMMU walks, in the hardware's own formats.
 *
 * This floor knows addresses and permissions and nothing about who owns memory. One walker (walker.h) is compiled once
 * per format (fmt_*.c: an enum of limits and a dozen inlines). A table's address is its pointer: tables are memory of
 * the allocator aligned to their size (4 KiB, or ARM's granule), and an entry holds the pointer itself.
 *
 * Sharing: map, unmap and walk may run at the same time on *disjoint* IOVA ranges; the caller keeps two writers off the
 * same range. Where the tables are there already, a map or unmap of one lowest leaf writes that entry and nothing else:
 * threads in ranges of different lowest tables share no cache line that is written. Table pages that an unmap unlinks are collected in a gather and handed back by iof_pt_release() after the
 * caller has made sure that no walker can still be in them (rsec.h).
 *
 * Levels count up from the leaves: level 0 is the lowest table. ARM's specification counts down: its level 3 is our 0.
 *
 * Sources: each format's file names its specification; algorithms and errors: behaviour.md chapter 10. docs/formats.md
 * has every bit in a table.
 */
#ifndef IOF_PAGETABLE_H
#define IOF_PAGETABLE_H

#include "util/alloc.h"
#include "util/range.h"

enum iof_pt_format {
	IOF_PT_VTDSS = 1, /* VT-d second stage */
	IOF_PT_AMDV1 = 2, /* AMD host table */
	IOF_PT_MOCK = 3, /* AMDv1 with a 2 KiB granule (behaviour.md 10.4) */
	IOF_PT_X86_64 = 4, /* the CPU's own: VT-d first stage, AMDv2 */
	IOF_PT_RISCV64 = 5, /* Sv39, Sv48, Sv57 */
	IOF_PT_RISCV64_X4 = 6, /* second stage: Sv39x4, Sv48x4, Sv57x4 */
	IOF_PT_ARM_S1 = 7, /* ARM LPAE, 64 bits */
	IOF_PT_ARM_S2 = 8,
};

/* Permissions of a mapping. CACHE is asked for by every iommufd mapping; formats without such a bit ignore it. */
enum iof_prot {
	IOF_PROT_READ = 1,
	IOF_PROT_WRITE = 2,
	IOF_PROT_CACHE = 4,
	IOF_PROT_NOEXEC = 8,
	IOF_PROT_MMIO = 16,
};

enum iof_pt_feature {
	IOF_PT_GROWING_TOP = 1 << 0,
	IOF_PT_FORCE_COHERENT = 1 << 1, /* VT-d SNP, AMD FC in every leaf */
	IOF_PT_FORCE_WRITEABLE = 1 << 2, /* VT-d: a read-only map is EINVAL */
	IOF_PT_SIGN_EXTEND = 1 << 3, /* x86-64, RISC-V: IOVAs are canonical, the upper half ends at 2^64 */
	IOF_PT_NAPOT = 1 << 4, /* RISC-V Svnapot: 64 KiB leaves */
	IOF_PT_PBMT = 1 << 5, /* RISC-V Svpbmt: memory types in the leaves */
	IOF_PT_HW_DIRTY = 1 << 6, /* ARM stage 1: writable leaves have DBM and start dirty */
	IOF_PT_CONTIGUOUS = 1 << 7, /* ARM: leaves of several items with the contiguous hint; not what Linux does */
	IOF_PT_FORCE_WRITE_BACK = 1 << 8, /* ARM stage 2: memory types as FEAT_S2FWB has them */
};

struct iof_pt_config {
	enum iof_pt_format format;
	uint8_t va_lg2; /* width of an IOVA; 0: the format's widest. It fixes the levels but for AMDv1 and mock */
	uint8_t oa_lg2; /* output width; 0: the format's own */
	uint8_t top_level; /* AMDv1 and mock: level of the first top table; others 0 (follows from va_lg2) */
	uint32_t features;
	uint8_t granule_lg2; /* ARM: 12, 14, 16; 0: the format's own, ARM's 12 */
	uint64_t page_sizes; /* a subset of the format's sizes as a bit mask; 0: all of them */
};

/* Tables unlinked by unmaps, on their way back. Zero-initialise. */
struct iof_pt_gather {
	void *tables; /* newest first, linked through their first word */
	void *tail; /* the oldest */
	uint64_t count;
};

/* What a walk finds. */
struct iof_pt_leaf {
	uint64_t iova; /* first IOVA of the leaf */
	uint64_t address; /* output address of that first IOVA */
	uint8_t size_lg2; /* the leaf's size, contiguous entries as one */
	uint8_t prot; /* IOF_PROT_READ | IOF_PROT_WRITE */
	uint8_t level;
	bool dirty;
	uint64_t item; /* as it is in the table */
};

struct iof_pt_stats {
	uint64_t leaves[64]; /* by size_lg2 */
	uint64_t tables; /* linked ones, the top included */
	uint64_t empty_tables;
	uint64_t recycled_tables; /* kept for reuse */
	uint64_t table_bytes;
};

struct iof_pt;

/* Fills the defaults of a shape in, and says whether it exists: 0, -EINVAL, -EOPNOTSUPP (behaviour.md R10.1.6). */
int iof_pt_shape(const struct iof_pt_config *cfg, struct iof_pt_config *out);

/* 0, what iof_pt_shape() says, or -ENOMEM. */
int iof_pt_create(const struct iof_pt_config *cfg, struct iof_alloc *a, struct iof_pt **out);
void iof_pt_destroy(struct iof_pt *pt); /* frees every table; no walker may be inside */

/* The IOVAs: all potential where the top grows, the lower half where they are sign-extended. The sizes in use. */
struct iof_range iof_pt_aperture(const struct iof_pt *pt);
uint64_t iof_pt_page_sizes(const struct iof_pt *pt);
void iof_pt_config(const struct iof_pt *pt, struct iof_pt_config *out); /* with defaults filled in */
uint64_t iof_pt_root(const struct iof_pt *pt, unsigned *top_level); /* address of the top table now */

/*
 * Maps [iova, iova+length) to [address, …) with the largest leaves that alignment and page_sizes allow. 0; -EINVAL no
 * READ|WRITE, length 0, permission the format cannot express; -EOVERFLOW; -ERANGE outside the table or address beyond
 * oa_lg2; -ENXIO misaligned; -EADDRINUSE a leaf is in the way; -ENOMEM. On an error nothing of the range is mapped
 * (empty tables may remain, R10.2.8). The last address too must be within oa_lg2.
 *
 * ARM's formats do as Linux's code for them does (R10.8.6): misaligned is -EINVAL, a leaf in the way -EEXIST, and a
 * block takes the place of a table whatever is mapped in it.
 *
 * `g` collects, also on an error, empty tables that a large leaf replaced.
 */
int iof_pt_map(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
	       struct iof_pt_gather *g);

/* The same with leaves of at most 2^largest_lg2 bytes: as one call for each stretch of that size. */
int iof_pt_map_small(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
		     unsigned largest_lg2, struct iof_pt_gather *g);

/*
 * Returns the bytes removed (R10.3.1–3): whole leaves only, stops at the first gap, may exceed `length` when it ends
 * inside a leaf. ARM's formats (R10.8.7): by blocks as if mapped to the same address, never part of a larger leaf; a
 * table goes with all its leaves and holes when a block of its span is due.
 */
uint64_t iof_pt_unmap(struct iof_pt *pt, uint64_t iova, uint64_t length, struct iof_pt_gather *g);

/* Hands gathered tables back for reuse. After the caller's rsec sync. */
void iof_pt_release(struct iof_pt *pt, struct iof_pt_gather *g);

/*
 * 0 and *leaf, or -ENOENT (a hole), -ERANGE (outside the table). Lock-free; inside a read section when tables may be
 * freed.
 */
int iof_pt_walk(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf);

/* The address `iova` translates to, or UINT64_MAX. The fast form of a walk; *prot may be NULL. */
uint64_t iof_pt_translate(const struct iof_pt *pt, uint64_t iova, unsigned *prot);
/* n of them, interleaved; addresses[i] is UINT64_MAX for a hole; prots may be NULL. Returns how many were found. */
size_t iof_pt_translate_many(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
			     uint8_t *prots);

/* The first leaf that intersects [from, last]: 0, or -ENOENT. Call again with leaf->iova + size to iterate. */
int iof_pt_next_leaf(const struct iof_pt *pt, struct iof_range within, struct iof_pt_leaf *leaf);

/*
 * Dirty bits, in VT-d second stage, AMD's and ARM stage 1. set: marks the one item translating iova (0, -ENOENT,
 * -EOPNOTSUPP where the format has none).
 */
int iof_pt_set_dirty(struct iof_pt *pt, uint64_t iova);
/*
 * Visits dirty entries of `r` ascending; fn(start, length) as Linux reports them, quirk included (R10.3.7). `clear`
 * makes them clean. 0, -ERANGE, -EOPNOTSUPP (ARM: -EINVAL for both, and for a hole, R10.8.9). With `exact`, holes
 * are passed over and whole leaves are reported instead, never under-reporting.
 */
int iof_pt_read_dirty(struct iof_pt *pt, struct iof_range r, bool clear, bool exact,
		      void (*fn)(void *ctx, uint64_t start, uint64_t length), void *ctx);

/*
 * Frees empty tables that unmaps left behind, and the chunks of the pool that have no table in use. Unlinked ones go to
 * `g`; a second trim after their release frees those. Unlike the others, needs to be alone: no map or unmap at the same
 * time.
 */
void iof_pt_trim(struct iof_pt *pt, struct iof_pt_gather *g);

void iof_pt_stats(const struct iof_pt *pt, struct iof_pt_stats *out);
bool iof_pt_is_valid(const struct iof_pt *pt); /* re-derives the whole table; for tests */

/*
 * Visits every linked table in walk order (depth first, ascending): address, level, number of entries, the entries. For
 * dumps and golden comparison.
 */
void iof_pt_visit(const struct iof_pt *pt,
		  void (*fn)(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n),
		  void *ctx);

#endif
