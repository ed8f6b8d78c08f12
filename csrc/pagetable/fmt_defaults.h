/* SPDX-License-Identifier: Apache-2.0 */
/* What a format file need not say: the constants and accessors of most formats (internal.h explains them). */

#ifndef FMT_TABLE_LG2
#define FMT_TABLE_LG2 9
#endif
#ifndef FMT_CONTIG
#define FMT_CONTIG 0
#endif
#ifndef FMT_CONTIG_COUNTS
#define FMT_CONTIG_COUNTS 0
#endif
#ifndef FMT_PRESENT_FOLD
#define FMT_PRESENT_FOLD 0
#endif
#ifndef FMT_GROWS
#define FMT_GROWS 0
#endif
#ifndef FMT_CONCAT
#define FMT_CONCAT 0
#endif
#ifndef FMT_SIGNED
#define FMT_SIGNED 0
#endif
#ifndef FMT_ADDRESS_SPLIT
#define FMT_ADDRESS_SPLIT 0
#endif
#ifndef FMT_BLOCKS
#define FMT_BLOCKS 0
#endif

/* The table behind an item that we wrote; an item from elsewhere may have bits that need masking. */
#ifndef FMT_OWN_TABLE
#define FMT_OWN_TABLE(item) fmt_table_address(item)
#endif

#if !FMT_CONTIG
static inline bool fmt_is_single(uint64_t item)
{
	(void)item;
	return true;
}
#endif

/* What a table's item grants to all that is below it. */
#ifndef FMT_TABLE_PROT
#define FMT_TABLE_PROT(item) (IOF_PROT_READ | IOF_PROT_WRITE)
#endif

/* The errnos in which families differ. */
#define FMT_OVERLAP (FMT_BLOCKS ? EEXIST : EADDRINUSE)
#define FMT_MISALIGNED (FMT_BLOCKS ? EINVAL : ENXIO)
#define FMT_NO_DIRTY (FMT_BLOCKS ? EINVAL : EOPNOTSUPP)

#ifndef FMT_TRACKS_DIRTY
#define FMT_TRACKS_DIRTY 1
#endif
#ifndef FMT_DIRTY_IS_SET
#define FMT_DIRTY_IS_SET 1

static inline bool fmt_dirty(uint64_t item)
{
	return item & FMT_DIRTY;
}

static inline bool fmt_can_be_dirty(uint64_t item)
{
	return fmt_present(item);
}
#endif
