/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/va.h"

#include <errno.h>

#include "ioas/machine.h"

static bool has_address(const struct iof_area *area)
{
	return iof_area_pages(area)->kind == IOF_PAGES_USER;
}

static uint64_t address_of(const struct iof_area *area)
{
	return iof_area_pages(area)->base + iof_area_byte(area);
}

int iofi_va_add(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range r)
{
	if (!has_address(area))
		return 0;
	return iof_va_index_insert(ioas->va_index, address_of(area), iof_range_length(r), r.start);
}

void iofi_va_remove(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range r)
{
	if (has_address(area))
		iof_va_index_remove(ioas->va_index, address_of(area), iof_range_length(r), r.start);
}

/* ---- a cut: both parts come before the whole goes ---- */

static void remove_parts(struct iof_ioas *ioas, uint64_t va, struct iof_range whole, uint64_t left, bool right_too)
{
	iof_va_index_remove(ioas->va_index, va, left, whole.start);
	if (right_too)
		iof_va_index_remove(ioas->va_index, va + left, iof_range_length(whole) - left, whole.start + left);
}

int iofi_va_cut_begin(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range whole, uint64_t left_last)
{
	uint64_t va = address_of(area), left = left_last - whole.start + 1;
	int rc;

	if (!ioas->va_index || !has_address(area))
		return 0;
	rc = iof_va_index_insert(ioas->va_index, va, left, whole.start);
	if (rc)
		return rc;
	rc = iof_va_index_insert(ioas->va_index, va + left, iof_range_length(whole) - left, whole.start + left);
	if (rc)
		remove_parts(ioas, va, whole, left, false);
	return rc;
}

void iofi_va_cut_end(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range whole, uint64_t left_last, bool made)
{
	if (!ioas->va_index || !has_address(area))
		return;
	if (made)
		iofi_va_remove(ioas, area, whole);
	else
		remove_parts(ioas, address_of(area), whole, left_last - whole.start + 1, true);
}

/* ---- the index ---- */

/* Calls fn for every area, until one does not give 0. Nothing is in transition: the domains lock is held for writing, or no call runs. */
static int each_area(struct iof_ioas *ioas, int (*fn)(struct iof_ioas *, const struct iof_area *, struct iof_range))
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	int rc = 0;

	while (!rc && iof_space_first(ioas->space, from, &e)) {
		rc = fn(ioas, iofi_area_of(&e), e.range);
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return rc;
}

static void forget_machine(void *m)
{
	iof_machine_unref(m);
}

static int make(struct iof_ioas *ioas)
{
	struct iof_machine *m = ioas->ctx->machine;
	int rc = iof_va_index_create(ioas->memory->alloc, forget_machine, m, &ioas->va_index);

	if (rc)
		return rc;
	iof_machine_ref(m);
	rc = each_area(ioas, iofi_va_add);
	if (rc) {
		iof_va_index_put(ioas->va_index);
		ioas->va_index = NULL;
	}
	return rc;
}

int iof_ioas_va_index(struct iof_ioas *ioas, struct iof_va_index **out)
{
	int rc;

	iofi_domains_write(ioas);
	rc = ioas->va_index ? 0 : make(ioas);
	if (!rc)
		iof_va_index_get(ioas->va_index);
	*out = ioas->va_index;
	iofi_domains_write_drop(ioas);
	return rc;
}

/* ---- for tests ---- */

static int check_area(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range r)
{
	return has_address(area) && !iof_va_index_has(ioas->va_index, address_of(area), iof_range_length(r), r.start) ? -EINVAL : 0;
}

static uint64_t areas_with_address(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint64_t n = 0;

	while (iof_space_first(ioas->space, from, &e)) {
		n += has_address(iofi_area_of(&e));
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return n;
}

bool iofi_va_is_valid(struct iof_ioas *ioas)
{
	struct iof_va_stats stats;

	if (!ioas->va_index)
		return true;
	iof_va_index_stats(ioas->va_index, &stats);
	return stats.runs == areas_with_address(ioas) && !each_area(ioas, check_area) && iof_va_index_is_valid(ioas->va_index);
}
