/* SPDX-License-Identifier: Apache-2.0 */
/* What accesses do in an IOAS: pin, unpin, read and write (behaviour.md R7.4, R7.6, R7.7). */
#include <errno.h>

#include "ioas/access.h"

#define COPY_CHUNK (UINT64_C(1) << 20) /* an unmap waits for one at the most */

/* A part of a request that lies in one area. */
struct piece {
	struct iof_area *area;
	struct iof_range at; /* IOVAs */
	uint64_t byte; /* of the container */
};

static uint64_t first_slot(const struct piece *p)
{
	return p->byte >> IOF_PAGE_SHIFT;
}

static uint64_t last_slot(const struct piece *p)
{
	return (p->byte + iof_range_span(p->at)) >> IOF_PAGE_SHIFT;
}

/* The piece at the start of r; one in transition is not there. IOVA lock. */
static int find_piece(struct iof_ioas *ioas, struct iof_range r, struct piece *p)
{
	struct iof_index_entry e;

	if (!iof_space_find(ioas->space, r.start, &e))
		return -ENOENT;
	p->area = iofi_area_of(&e);
	if (atomic_load_explicit(&p->area->state, memory_order_acquire) != IOF_AREA_LIVE)
		return -ENOENT;
	p->at = iof_range_clip(e.range, r);
	p->byte = iof_area_byte(p->area) + (p->at.start - e.range.start);
	return 0;
}

static int check_rights(const struct iof_area *area, bool write)
{
	if (!(area->prot & (write ? IOF_PROT_WRITE : IOF_PROT_READ)))
		return -EPERM;
	if (write && !iof_area_pages(area)->writable)
		return -EPERM;
	return iof_area_pages(area)->kind == IOF_PAGES_DMABUF ? -EINVAL : 0;
}

/* ---- pin ---- */

/* Pages are whole: a piece begins one, and ends one where the request goes on in the next area. */
static bool is_page_aligned(const struct piece *p, uint64_t last)
{
	uint64_t end = p->byte + iof_range_span(p->at);

	return !(p->byte & IOF_PAGE_MASK) && (p->at.last == last || (end & IOF_PAGE_MASK) == IOF_PAGE_MASK);
}

static void count_piece(struct iof_access *a, struct iof_ioas *ioas, struct iof_area *area, bool more)
{
	area->accesses += more ? 1u : -1u;
	if (a->internal)
		area->locks += more ? 1u : -1u;
	ioas->pieces += more ? 1 : UINT64_MAX;
}

/* Finds, checks and counts; from then on the area stays. IOVA lock. */
static int claim_piece(struct iof_access *a, struct iof_ioas *ioas, struct iof_range r, bool write, struct piece *p)
{
	int rc = find_piece(ioas, r, p);

	if (rc)
		return rc;
	if (p->area->prevent || !is_page_aligned(p, r.last))
		return -EINVAL;
	rc = check_rights(p->area, write);
	if (rc)
		return rc;
	if (p->area->accesses == IOF_AREA_ACCESSES_MAX || (a->internal && p->area->locks == UINT8_MAX))
		return -EBUSY;
	count_piece(a, ioas, p->area, true);
	return 0;
}

static int hold_piece(struct iof_ioas *ioas, const struct piece *p)
{
	struct iof_pages *pages = iof_area_pages(p->area);
	int rc = iof_pages_hold(pages, ioas->memory, first_slot(p), last_slot(p));

	/* Where the kernel's own test build can fail half-way through noting the pages (behaviour.md chapter 12). */
	if (!rc && iof_alloc_may_fail(ioas->memory->alloc)) {
		iof_pages_release(pages, ioas->memory, first_slot(p), last_slot(p));
		rc = -EINVAL;
	}
	return rc;
}

static int pin_piece(struct iof_access *a, struct iof_ioas *ioas, struct iof_range r, bool write, struct piece *p)
{
	int rc;

	iofi_iova_take(ioas);
	rc = claim_piece(a, ioas, r, write, p);
	iofi_iova_drop(ioas);
	if (rc)
		return rc;
	rc = hold_piece(ioas, p);
	if (rc) {
		iofi_iova_take(ioas);
		count_piece(a, ioas, p->area, false);
		iofi_iova_drop(ioas);
	}
	return rc;
}

/* The page addresses of a held piece; returns where the next piece's go. */
static uint64_t *tell_addresses(struct iof_ioas *ioas, const struct piece *p, uint64_t *out)
{
	uint64_t byte = first_slot(p) << IOF_PAGE_SHIFT, end = (last_slot(p) + 1) << IOF_PAGE_SHIFT, n, address;

	while (out && byte < end) {
		address = iof_pages_address(iof_area_pages(p->area), ioas->memory, byte, end - byte, &n);
		for (uint64_t done = 0; done < n; done += IOF_PAGE_SIZE)
			*out++ = address + done;
		byte += n;
	}
	return out;
}

/* The pieces of a range that was pinned: its areas are all still there, as the counts keep them. */
static void unpin_range(struct iof_access *a, struct iof_ioas *ioas, struct iof_range r)
{
	struct piece p;

	iofi_iova_take(ioas);
	while (!find_piece(ioas, r, &p)) {
		iof_pages_release(iof_area_pages(p.area), ioas->memory, first_slot(&p), last_slot(&p));
		count_piece(a, ioas, p.area, false);
		if (p.at.last == r.last)
			break;
		r.start = p.at.last + 1;
	}
	iofi_iova_drop(ioas);
}

static int pin_range(struct iof_access *a, struct iof_ioas *ioas, struct iof_range r, bool write, uint64_t *addresses)
{
	struct iof_range rest = r;
	struct piece p;
	int rc;

	for (;;) {
		rc = pin_piece(a, ioas, rest, write, &p);
		if (rc)
			break;
		addresses = tell_addresses(ioas, &p, addresses);
		if (p.at.last == r.last)
			return 0;
		rest.start = p.at.last + 1;
	}
	if (rest.start != r.start)
		unpin_range(a, ioas, (struct iof_range){ r.start, rest.start - 1 });
	return rc;
}

static int pin_locked(struct iof_access *a, struct iof_range r, bool write, uint64_t *addresses)
{
	struct iof_ioas *ioas = a->ioas;
	int rc;

	if (!ioas)
		return -ENOENT;
	rc = iofi_pinlog_reserve(&a->pins, ioas->memory->alloc);
	if (rc)
		return rc;
	iof_rwlock_read(&ioas->use_lock);
	rc = pin_range(a, ioas, r, write, addresses);
	iof_rwlock_read_drop(&ioas->use_lock);
	if (!rc)
		iofi_pinlog_add(&a->pins, r.start, iof_range_length(r));
	return rc;
}

int iof_access_pin(struct iof_access *a, uint64_t iova, uint64_t length, bool write, uint64_t *addresses)
{
	struct iof_range r;
	int rc;

	if (!a->needs_pin || (!a->internal && !a->unmap))
		return -EINVAL;
	rc = iof_range_make(iova, length, &r);
	if (rc)
		return rc;
	iof_lock_take(&a->lock);
	rc = pin_locked(a, r, write, addresses);
	iof_lock_drop(&a->lock);
	return rc;
}

int iof_access_unpin(struct iof_access *a, uint64_t iova, uint64_t length)
{
	bool found;

	iof_lock_take(&a->lock);
	found = iofi_pinlog_remove(&a->pins, iova, length);
	if (found)
		unpin_range(a, a->ioas_unpin, (struct iof_range){ iova, iova + (length - 1) });
	iof_lock_drop(&a->lock);
	return found ? 0 : -ENOENT;
}

void iofi_access_unpin_all(struct iof_access *a, struct iof_ioas *ioas)
{
	for (uint32_t i = 0; i < a->pins.room; i++) {
		struct iof_pin *pin = &a->pins.at[i];

		for (uint64_t n = 0; n < pin->count; n++)
			unpin_range(a, ioas, (struct iof_range){ pin->iova, pin->iova + (pin->length - 1) });
	}
	iofi_pinlog_fini(&a->pins, ioas->memory->alloc);
}

/* ---- read and write ---- */

static int copy_piece(struct iof_ioas *ioas, const struct piece *p, void *buffer, uint32_t flags)
{
	bool write = flags & IOFI_ACCESS_WRITE, slow = flags & IOFI_ACCESS_SLOW;

	/* The kernel's slow way pins a single page for the moment; its test build can fail there (chapter 12). */
	if (slow && first_slot(p) == last_slot(p) && iof_alloc_may_fail(ioas->memory->alloc))
		return -EINVAL;
	return iof_pages_rw(iof_area_pages(p->area), ioas->memory, p->byte, buffer, iof_range_length(p->at), write, slow);
}

/*
 * One piece, a chunk at the most, with the area kept from going meanwhile: an unmap that claimed it waits for
 * use_lock.
 */
static int rw_piece(struct iof_ioas *ioas, struct iof_range r, void *buffer, uint32_t flags, struct piece *p)
{
	int rc;

	if (iof_range_span(r) >= COPY_CHUNK)
		r.last = r.start + (COPY_CHUNK - 1);
	iof_rwlock_read(&ioas->use_lock);
	iofi_iova_take(ioas);
	rc = find_piece(ioas, r, p);
	if (!rc)
		rc = p->area->prevent ? -EINVAL : check_rights(p->area, flags & IOFI_ACCESS_WRITE);
	iofi_iova_drop(ioas);
	if (!rc)
		rc = copy_piece(ioas, p, buffer, flags);
	iof_rwlock_read_drop(&ioas->use_lock);
	return rc;
}

static int rw_range(struct iof_ioas *ioas, struct iof_range r, char *buffer, uint32_t flags)
{
	struct piece p;
	int rc;

	for (;;) {
		rc = rw_piece(ioas, r, buffer, flags, &p);
		if (rc || p.at.last == r.last)
			return rc;
		buffer += iof_range_length(p.at);
		r.start = p.at.last + 1;
	}
}

int iof_access_rw(struct iof_access *a, uint64_t iova, void *buffer, uint64_t length, uint32_t flags)
{
	struct iof_range r;
	int rc = iof_range_make(iova, length, &r);

	if (rc)
		return rc;
	iof_lock_take(&a->lock);
	rc = a->ioas ? rw_range(a->ioas, r, buffer, flags) : -ENOENT;
	iof_lock_drop(&a->lock);
	return rc;
}
