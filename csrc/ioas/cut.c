/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cutting an area in two (behaviour.md 3.10): what VFIO's first type 1 needs, which unmaps parts of mappings. Only
 * while large pages are off, so no leaf of a page table spans a cut.
 *
 * The area becomes the left part; the right part is a new bare area of the same container. One hold of all slots
 * becomes two, each of one part: both are made on top of the first, which costs memory but pins nothing, and once the
 * index is cut, which may fail too, the first is released.
 */
#include <errno.h>

#include "ioas/place.h"
#include "ioas/va.h"

struct cut {
	struct iof_area *left;
	struct iof_bare *right;
	struct iof_range whole; /* IOVAs */
	uint64_t last; /* of the left part */
};

static int check(const struct iof_ioas *ioas, const struct cut *c)
{
	const struct iof_area *area = c->left;
	uint64_t byte = iof_area_byte(area) + (c->last + 1 - c->whole.start);

	if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE || area->prevent)
		return -EBUSY;
	if (iof_area_pages(area)->kind == IOF_PAGES_DMABUF)
		return -EOPNOTSUPP;
	return ((c->last + 1) | byte) & (ioas->alignment - 1) ? -EINVAL : 0;
}

static uint64_t slot_at(const struct cut *c, uint64_t iova)
{
	return (iof_area_byte(c->left) + (iova - c->whole.start)) >> IOF_PAGE_SHIFT;
}

/* Pages are cut apart, not through: with large pages off the alignment is PAGE at least. */
static int hold_parts(struct iof_ioas *ioas, const struct cut *c)
{
	struct iof_pages *pages = iof_area_pages(c->left);
	uint64_t middle = slot_at(c, c->last);
	int rc;

	if (!c->left->held)
		return 0;
	rc = iof_pages_hold(pages, ioas->memory, slot_at(c, c->whole.start), middle);
	if (rc)
		return rc;
	rc = iof_pages_hold(pages, ioas->memory, middle + 1, slot_at(c, c->whole.last));
	if (rc)
		iof_pages_release(pages, ioas->memory, slot_at(c, c->whole.start), middle);
	return rc;
}

/* The cut is made: the hold of the whole goes. It is not: those of the parts. */
static void release_surplus(struct iof_ioas *ioas, const struct cut *c, bool made)
{
	struct iof_pages *pages = iof_area_pages(c->left);
	uint64_t first = slot_at(c, c->whole.start), middle = slot_at(c, c->last), last = slot_at(c, c->whole.last);

	if (!c->left->held)
		return;
	if (made) {
		iof_pages_release(pages, ioas->memory, first, last);
		return;
	}
	iof_pages_release(pages, ioas->memory, first, middle);
	iof_pages_release(pages, ioas->memory, middle + 1, last);
}

static int split(struct iof_ioas *ioas, const struct cut *c)
{
	struct iof_area *left = c->left;
	int rc = left->accesses ? -EINVAL : hold_parts(ioas, c);

	if (rc)
		return rc;
	*c->right = (struct iof_bare){
		.area = { .state = IOF_AREA_LIVE, .held = left->held, .prot = left->prot, .bare = true },
		.pages = iof_area_pages(left),
		.start_byte = iof_area_byte(left) + (c->last + 1 - c->whole.start),
	};
	rc = iof_space_split(ioas->space, c->whole.start, c->last, (uintptr_t)&c->right->area);
	if (!rc)
		atomic_fetch_add_explicit(&iof_area_pages(left)->refs, 1, memory_order_relaxed);
	release_surplus(ioas, c, !rc);
	return rc;
}

static int cut(struct iof_ioas *ioas, uint64_t at)
{
	struct iof_index_entry e;
	struct cut c;
	int rc;

	if (!iof_space_find(ioas->space, at, &e) || at == e.range.start || at == e.range.last)
		return 0;
	c = (struct cut){ .left = iofi_area_of(&e), .whole = e.range, .last = at };
	rc = check(ioas, &c);
	if (rc)
		return rc;
	c.right = iof_records_get_bare(ioas->records);
	if (!c.right)
		return -ENOMEM;
	rc = iofi_va_cut_begin(ioas, c.left, c.whole, at);
	if (!rc) {
		rc = split(ioas, &c);
		iofi_va_cut_end(ioas, c.left, c.whole, at, !rc);
	}
	if (rc)
		iof_slab_put(&ioas->records->bare, c.right);
	return rc;
}

int iof_ioas_cut(struct iof_ioas *ioas, const uint64_t *at, size_t n)
{
	int rc = 0;

	iofi_begin(ioas);
	for (size_t i = 0; i < n && !rc && ioas->small_pages; i++)
		rc = cut(ioas, at[i]);
	iofi_iova_drop(ioas);
	iofi_end(ioas);
	return rc;
}
