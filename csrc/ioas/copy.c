/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IOAS_COPY: areas of one IOAS that share the containers of another's (behaviour.md 2.4, 3.5, 3.6).
 *
 * The source gives slices: a container each, with a reference. The destination makes one bare area a slice, next to each other, in
 * transition; fills them one after the other; then all go live together.
 */
#include <errno.h>
#include <string.h>

#include "ioas/fill.h"
#include "ioas/place.h"
#include "ioas/va.h"

/* ---- the source ---- */

static int push(struct iof_alloc *a, struct iof_slices *s, struct iof_slice slice)
{
	size_t room = s->room ? s->room * 2 : 4;
	struct iof_slice *at;

	if (s->n == s->room) {
		at = iof_mem_get(a, room * sizeof(*at), 16);
		if (!at)
			return -ENOMEM;
		if (s->n)
			memcpy(at, s->at, s->n * sizeof(*at));
		iof_mem_put(a, s->at, s->room * sizeof(*at));
		s->at = at;
		s->room = room;
	}
	s->at[s->n++] = slice;
	atomic_fetch_add_explicit(&slice.pages->refs, 1, memory_order_relaxed);
	return 0;
}

static int collect_locked(struct iof_ioas *src, struct iof_range r, struct iof_slices *out)
{
	struct iof_index_entry e;
	struct iof_range part;
	struct iof_area *area;
	int rc;

	for (;;) {
		if (!iof_space_find(src->space, r.start, &e))
			return -ENOENT;
		area = iofi_area_of(&e);
		if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE)
			return -ENOENT;
		part = iof_range_clip(e.range, r);
		rc = push(src->memory->alloc, out,
			  (struct iof_slice){ .pages = iof_area_pages(area),
					      .start_byte = iof_area_byte(area) + (part.start - e.range.start),
					      .length = iof_range_length(part) });
		if (rc || part.last == r.last)
			return rc;
		r.start = part.last + 1;
	}
}

int iof_ioas_collect(struct iof_ioas *src, uint64_t iova, uint64_t length, struct iof_slices *out)
{
	struct iof_range r;
	int rc = iof_range_make(iova, length, &r);

	*out = (struct iof_slices){ 0 };
	if (rc)
		return rc;
	iofi_iova_take(src);
	rc = collect_locked(src, r, out);
	iofi_iova_drop(src);
	if (rc)
		iof_slices_fini(src, out);
	return rc;
}

static void drop_pages(struct iof_pages *pages)
{
	if (atomic_fetch_sub_explicit(&pages->refs, 1, memory_order_acq_rel) == 1)
		iof_record_retire(iof_container_of(pages, struct iof_record, pages));
}

void iof_slices_fini(struct iof_ioas *any, struct iof_slices *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (!s->at[i].area)
			drop_pages(s->at[i].pages);
	iof_mem_put(any->memory->alloc, s->at, s->room * sizeof(*s->at));
	*s = (struct iof_slices){ 0 };
}

/* ---- the destination ---- */

/* Takes slices [0, n) out of the index again; their references go back to the slices. IOVA lock. */
static void withdraw(struct iof_ioas *dst, struct iof_slices *s, size_t n, uint64_t iova)
{
	for (size_t i = 0; i < n; i++) {
		iof_space_remove(dst->space, iova);
		iof_slab_put(&dst->records->bare, s->at[i].area);
		s->at[i].area = NULL;
		iova += s->at[i].length;
	}
}

static int insert_one(struct iof_ioas *dst, struct iof_slice *slice, unsigned prot, uint64_t iova)
{
	struct iof_range r = { iova, iova + (slice->length - 1) };
	struct iof_bare *bare;
	int rc;

	if (prot & IOF_PROT_WRITE && !slice->pages->writable)
		return -EPERM;
	if (slice->start_byte & IOF_PAGE_MASK & (dst->alignment - 1))
		return -EINVAL;
	bare = iof_records_get_bare(dst->records);
	if (!bare)
		return -ENOMEM;
	bare->pages = slice->pages;
	bare->start_byte = slice->start_byte;
	bare->area.prot = prot & 7;
	rc = iof_space_insert(dst->space, r, (uintptr_t)&bare->area);
	if (rc)
		iof_slab_put(&dst->records->bare, bare);
	else
		slice->area = &bare->area;
	return rc;
}

static int insert_all(struct iof_ioas *dst, struct iof_slices *s, struct iof_copy_request *rq, uint64_t *start)
{
	struct iof_range whole;
	uint64_t at;
	/* The first slice's source address steers the automatic choice (R3.5.3). */
	int rc = iofi_place(dst, s->at[0].pages->base + s->at[0].start_byte, rq->length, rq->fixed, rq->iova, &whole);

	if (rc)
		return rc;
	at = *start = whole.start;
	for (size_t i = 0; i < s->n; i++) {
		rc = insert_one(dst, &s->at[i], rq->prot, at);
		if (rc) {
			withdraw(dst, s, i, *start);
			return rc;
		}
		at += s->at[i].length;
	}
	return 0;
}

static struct iof_range slice_range(const struct iof_slice *slice, uint64_t at)
{
	return (struct iof_range){ at, at + (slice->length - 1) };
}

static int fill_one(struct iof_ioas *dst, struct iof_area *area, struct iof_range r)
{
	int rc = iofi_area_fill(dst, area, r);

	if (rc || !dst->va_index)
		return rc;
	rc = iofi_va_add(dst, area, r);
	if (rc)
		iofi_area_unfill(dst, area, r);
	return rc;
}

static void unfill_one(struct iof_ioas *dst, struct iof_area *area, struct iof_range r)
{
	if (dst->va_index)
		iofi_va_remove(dst, area, r);
	iofi_area_unfill(dst, area, r);
}

static int fill_all(struct iof_ioas *dst, struct iof_slices *s, uint64_t start)
{
	uint64_t at = start;
	size_t i;
	int rc = 0;

	for (i = 0; i < s->n; at += s->at[i++].length) {
		rc = fill_one(dst, s->at[i].area, slice_range(&s->at[i], at));
		if (rc)
			break;
	}
	while (rc && i--) {
		at -= s->at[i].length;
		unfill_one(dst, s->at[i].area, slice_range(&s->at[i], at));
	}
	return rc;
}

/* Under the IOVA lock: all live at once, or none was ever there. */
static void conclude(struct iof_ioas *dst, struct iof_slices *s, uint64_t start, int rc)
{
	if (rc) {
		withdraw(dst, s, s->n, start);
		return;
	}
	for (size_t i = 0; i < s->n; i++) {
		iofi_area_set(s->at[i].area, IOF_AREA_LIVE);
		iofi_count(&dst->records->count.bytes, s->at[i].length);
	}
	iofi_count(&dst->records->count.copies, 1);
}

int iof_ioas_map_slices(struct iof_ioas *dst, struct iof_slices *s, struct iof_copy_request *rq)
{
	uint64_t start = 0;
	int rc;

	iofi_begin(dst);
	rc = insert_all(dst, s, rq, &start);
	iofi_iova_drop(dst);
	if (!rc) {
		rc = fill_all(dst, s, start);
		iofi_iova_take(dst);
		conclude(dst, s, start, rc);
		iofi_iova_drop(dst);
	}
	iofi_end(dst);
	if (!rc)
		rq->iova = start;
	return rc;
}
