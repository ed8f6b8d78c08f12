/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of unmaps: as many single ones, for ranges that are one area each. They leave the page tables together, so readers are waited for once.
 */
#include <string.h>

#include "ioas/fill.h"
#include "ioas/place.h"
#include "ioas/va.h"

/* The first of at[0..n) that may go with no more ado, up to one that is not one area or may not: they are claimed. How many. IOVA lock. */
static size_t claim_batch(struct iof_ioas *ioas, const uint64_t *starts, const uint64_t *lengths, size_t n, struct iof_shown *at)
{
	uint64_t areas[IOF_BATCH];
	struct iof_index_entry e;
	size_t found = iof_space_match(ioas->space, starts, lengths, n, areas), i;

	for (i = 0; i < found; i++) {
		e = (struct iof_index_entry){ { starts[i], starts[i] + (lengths[i] - 1) }, areas[i] };
		if (iofi_area_of(&e)->accesses || iofi_claim(&e, e.range))
			break;
		at[i] = (struct iof_shown){ iofi_area_of(&e), e.range };
		if (iof_unlikely(ioas->va_index))
			iofi_va_remove(ioas, at[i].area, e.range);
	}
	return i;
}

static void remove_batch(struct iof_ioas *ioas, const uint64_t *starts, const struct iof_shown *at, size_t n)
{
	uint64_t bytes = 0;

	iof_space_remove_many(ioas->space, starts, n);
	for (size_t i = 0; i < n; i++)
		bytes += iof_range_length(at[i].r);
	iofi_count(&ioas->records->count.bytes, -bytes);
	iofi_count(&ioas->records->count.unmaps, n);
}

/* They are out of the index. The usual ones need no lock. */
static void end_areas(struct iof_ioas *ioas, const struct iof_shown *at, size_t n)
{
	struct iof_record *rec[IOF_BATCH], *elsewhere;
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		if (iof_unlikely(at[i].area->bare)) {
			iofi_iova_take(ioas);
			elsewhere = iof_area_put(ioas->records, at[i].area);
			iofi_iova_drop(ioas);
			iof_record_retire(elsewhere);
			continue;
		}
		rec[left] = iof_area_end(ioas->records, at[i].area);
		left += rec[left] != NULL;
	}
	if (left)
		iof_records_return(ioas->records, rec, left);
}

size_t iof_ioas_unmap_batch(struct iof_ioas *ioas, const uint64_t *iovas, const uint64_t *lengths, size_t n)
{
	uint64_t starts[IOF_BATCH], sizes[IOF_BATCH]; /* the caller's may change meanwhile */
	struct iof_shown at[IOF_BATCH];
	size_t done = 0;

	memcpy(starts, iovas, n * sizeof(*starts));
	memcpy(sizes, lengths, n * sizeof(*sizes));
	iofi_iova_take(ioas);
	if (iof_likely(!ioas->n_accesses))
		done = claim_batch(ioas, starts, sizes, n, at);
	iofi_iova_drop(ioas);
	if (iof_unlikely(!done))
		return 0;
	iofi_areas_unfill(ioas, at, done);
	iofi_iova_take(ioas);
	remove_batch(ioas, starts, at, done);
	iofi_iova_drop(ioas);
	end_areas(ioas, at, done);
	return done;
}
