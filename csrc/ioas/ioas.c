/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/ioas.h"

#include <errno.h>

#include "ioas/hwpt.h"
#include "ioas/lane.h"

int iof_ioas_create(struct iof_context *ctx, struct iof_ioas **out)
{
	struct iof_memory *m = &ctx->machine->memory;
	struct iof_ioas *ioas = iof_mem_zget(m->alloc, sizeof(*ioas), IOF_CACHELINE);
	int rc;

	if (!ioas)
		return -ENOMEM;
	rc = iof_object_reserve(&ctx->objects, &ioas->object, IOF_OBJECT_IOAS);
	if (rc)
		goto no_id;
	rc = iof_records_create(m, &ioas->records);
	if (rc)
		goto no_records;
	rc = iof_space_create(m->alloc, &ioas->space);
	if (rc)
		goto no_space;
	ioas->ctx = ctx;
	ioas->memory = m;
	ioas->alignment = 1;
	iof_rwlock_init(&ioas->use_lock, m->alloc->shared);
	*out = ioas;
	return 0;
no_space:
	iof_records_orphan(ioas->records);
no_records:
	iof_object_abort(&ctx->objects, &ioas->object);
no_id:
	iof_mem_put(m->alloc, ioas, sizeof(*ioas));
	return rc;
}

/* Nobody else has it: no page table and no access (each is a user), no running call. So the unmap meets nothing busy. */
void iof_ioas_dispose(struct iof_ioas *ioas)
{
	struct iof_alloc *a = ioas->memory->alloc;
	uint64_t bytes;

	iof_brlock_read(iofi_domains(ioas));
	iof_ioas_unmap(ioas, IOF_RANGE_ALL, false, &bytes);
	iof_brlock_read_drop(iofi_domains(ioas));
	iofi_lanes_free(ioas);
	iof_space_destroy(ioas->space);
	iof_va_index_put(ioas->va_index);
	iof_records_orphan(ioas->records);
	iof_mem_put(a, ioas->domains, ioas->room * sizeof(struct iof_hwpt *));
	iof_mem_put(a, ioas->accesses, ioas->access_room * sizeof(*ioas->accesses));
	iof_mem_put(a, ioas, sizeof(*ioas));
}

int iof_ioas_allow(struct iof_ioas *ioas, const struct iof_range *ranges, size_t n)
{
	int rc;

	iofi_iova_take(ioas);
	rc = iof_space_allow(ioas->space, ranges, n);
	iofi_iova_drop(ioas);
	return rc;
}

size_t iof_ioas_ranges(struct iof_ioas *ioas, struct iof_range *out, size_t n, uint64_t *alignment)
{
	size_t total;

	iofi_iova_take(ioas);
	total = iof_space_ranges(ioas->space, out, n);
	*alignment = ioas->alignment;
	iofi_iova_drop(ioas);
	return total;
}

/* ---- alignment ---- */

uint64_t iofi_ioas_alignment(const struct iof_ioas *ioas)
{
	uint64_t alignment = ioas->small_pages || ioas->n_pinning ? IOF_PAGE_SIZE : 1, smallest;

	for (uint32_t i = 0; i < ioas->n_domains; i++) {
		smallest = UINT64_C(1) << iof_ctz(iof_pt_page_sizes(ioas->domains[i]->pt));
		if (smallest > alignment)
			alignment = smallest;
	}
	return alignment;
}

static bool aligned(const struct iof_index_entry *e, uint64_t alignment)
{
	uint64_t page_offset = iof_area_byte(iofi_area_of(e)) & IOF_PAGE_MASK;

	return !((e->range.start | iof_range_length(e->range) | page_offset) & (alignment - 1));
}

int iofi_ioas_check_alignment(struct iof_ioas *ioas, uint64_t alignment)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;

	while (iof_space_first(ioas->space, from, &e)) {
		if (!aligned(&e, alignment))
			return -EADDRINUSE;
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return 0;
}

/* ---- large pages ---- */

static int set_large_pages(struct iof_ioas *ioas, bool on)
{
	int rc = 0;

	if (on == !ioas->small_pages)
		return 0;
	if (!on && ioas->n_domains && iof_space_areas(ioas->space))
		return -EINVAL;
	ioas->small_pages = !on;
	if (!on && iofi_ioas_alignment(ioas) > ioas->alignment)
		rc = iofi_ioas_check_alignment(ioas, iofi_ioas_alignment(ioas));
	if (rc)
		ioas->small_pages = on;
	ioas->alignment = iofi_ioas_alignment(ioas);
	return rc;
}

int iof_ioas_set_large_pages(struct iof_ioas *ioas, bool on)
{
	int rc;

	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
	rc = set_large_pages(ioas, on);
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
	return rc;
}

bool iof_ioas_large_pages(struct iof_ioas *ioas)
{
	bool on;

	iofi_iova_take(ioas);
	on = !ioas->small_pages;
	iofi_iova_drop(ioas);
	return on;
}

/* ---- pins ---- */

uint64_t iofi_ioas_pinned(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint64_t pages = 0;

	while (iof_space_first(ioas->space, from, &e)) {
		/* A container is counted at the area that came with it: copies in this IOAS would count it again. */
		if (!iofi_area_of(&e)->bare)
			pages += iof_pages_pinned(iof_area_pages(iofi_area_of(&e)));
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return pages;
}
