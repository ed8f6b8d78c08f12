/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/dirty.h"

#include <errno.h>

#include "util/guard.h"

static bool can_track(const struct iof_hwpt *hwpt)
{
	return hwpt->kind & IOF_HWPT_KIND_DIRTY;
}

/* ---- the caller's bitmap ---- */

struct bitmap {
	uint64_t iova; /* of bit 0 */
	uint64_t address;
	uint64_t bits; /* bits up to the end of the bitmap's last page: a run may go so far (R5.7.5) */
	unsigned shift;
};

static bool set_byte_bits(uint64_t at, uint8_t bits)
{
	uint8_t byte;

	if (iof_copy_in(&byte, at, 1))
		return false;
	byte |= bits;
	return !iof_copy_out(at, &byte, 1);
}

/* A bitmap that is not there loses its bits silently (R5.7.3), and those of the same run behind it. */

static void set_bits(const struct bitmap *b, uint64_t first, uint64_t last)
{
	uint64_t from = first / 8, to = last / 8;
	uint8_t head = (uint8_t)(0xff << first % 8), tail = (uint8_t)(0xff >> (7 - last % 8));

	if (from == to) {
		set_byte_bits(b->address + from, head & tail);
		return;
	}
	if (!set_byte_bits(b->address + from, head))
		return;
	if (to - from > 1 && iof_fill_out(b->address + from + 1, 0xff, to - from - 1))
		return;
	set_byte_bits(b->address + to, tail);
}

static void record(void *ctx, uint64_t start, uint64_t length)
{
	const struct bitmap *b = ctx;
	uint64_t first, last;

	if (!length || start < b->iova)
		return;
	first = (start - b->iova) >> b->shift;
	last = (start - b->iova + (length - 1)) >> b->shift;
	if (first >= b->bits)
		return;
	set_bits(b, first, last < b->bits ? last : b->bits - 1);
}

/* The kernel pins whole pages of the bitmap: bits up to the end of its last page can be set. */
static struct bitmap bitmap_of(const struct iof_dirty_request *rq)
{
	unsigned shift = iof_ctz(rq->page_size);
	uint64_t bits = ((rq->length - 1) >> shift) + 1, bytes = (bits + 7) / 8;
	uint64_t room = iof_align_down(rq->bitmap + bytes - 1, IOF_PAGE_SIZE) + IOF_PAGE_SIZE - rq->bitmap;

	return (struct bitmap){ .iova = rq->iova, .address = rq->bitmap, .shift = shift,
				.bits = room < UINT64_MAX / 8 ? room * 8 : UINT64_MAX };
}

/* ---- the walk ---- */

/* The areas of r without a gap, ascending; the IOVA lock keeps them. fn's errno ends it. */
static void each_area(struct iof_ioas *ioas, struct iof_range r, void (*fn)(void *ctx, struct iof_range part), void *ctx)
{
	struct iof_index_entry e;

	for (;;) {
		struct iof_range part;

		if (!iof_space_find(ioas->space, r.start, &e) ||
		    atomic_load_explicit(&iofi_area_of(&e)->state, memory_order_acquire) != IOF_AREA_LIVE)
			return;
		part = iof_range_clip(e.range, r);
		fn(ctx, part);
		if (part.last == r.last)
			return;
		r.start = part.last + 1;
	}
}

struct walk {
	struct iof_hwpt *hwpt;
	struct bitmap bitmap;
	bool clear;
};

static void walk_part(void *ctx, struct iof_range part)
{
	struct walk *w = ctx;

	iof_pt_read_dirty(w->hwpt->pt, part, w->clear, false, record, &w->bitmap);
}

static void lock(struct iof_ioas *ioas)
{
	iof_brlock_read(iofi_domains(ioas));
	iofi_iova_take(ioas);
}

static void unlock(struct iof_ioas *ioas)
{
	iofi_iova_drop(ioas);
	iof_brlock_read_drop(iofi_domains(ioas));
}

/* Cleaned entries may be remembered as dirty by nobody: the IOTLB keeps no dirty bits, but readers in flight are waited for. */
static int check_request(struct iof_ioas *ioas, const struct iof_dirty_request *rq)
{
	uint64_t last, mask;

	if (__builtin_add_overflow(rq->iova, rq->length - 1, &last))
		return -EOVERFLOW;
	if ((rq->iova | (rq->iova + rq->length)) & (ioas->alignment - 1))
		return -EINVAL;
	if (!rq->page_size)
		return -EINVAL;
	mask = rq->page_size - 1;
	return (rq->iova | (rq->iova + rq->length)) & mask ? -EINVAL : 0;
}

static int get_locked(struct iof_hwpt *hwpt, const struct iof_dirty_request *rq)
{
	struct walk w = { .hwpt = hwpt, .clear = !rq->keep };
	int rc = check_request(hwpt->ioas, rq);

	if (rc)
		return rc;
	if (!can_track(hwpt))
		return -EOPNOTSUPP;
	if (iof_alloc_may_fail(hwpt->ioas->memory->alloc))
		return -ENOMEM;
	if (!rq->length)
		return 0;
	w.bitmap = bitmap_of(rq);
	each_area(hwpt->ioas, (struct iof_range){ rq->iova, rq->iova + (rq->length - 1) }, walk_part, &w);
	return 0;
}

int iof_hwpt_get_dirty(struct iof_hwpt *hwpt, const struct iof_dirty_request *rq)
{
	int rc;

	lock(hwpt->ioas);
	rc = get_locked(hwpt, rq);
	unlock(hwpt->ioas);
	iof_rsec_sync(&hwpt->rsec);
	return rc;
}

static void discard(void *ctx, uint64_t start, uint64_t length)
{
	(void)ctx;
	(void)start;
	(void)length;
}

int iof_hwpt_visit_dirty(struct iof_hwpt *hwpt, struct iof_range r, bool clear,
			 void (*fn)(void *ctx, uint64_t start, uint64_t length), void *ctx)
{
	int rc = can_track(hwpt) ? 0 : -EOPNOTSUPP;
	unsigned token;

	lock(hwpt->ioas);
	/* Areas in transition are walked too: the section keeps the tables that their unmap takes out. */
	token = iofi_hwpt_enter(hwpt);
	if (!rc)
		rc = iof_pt_read_dirty(hwpt->pt, r, clear, true, fn, ctx);
	iof_rsec_leave(&hwpt->rsec, token);
	unlock(hwpt->ioas);
	iof_rsec_sync(&hwpt->rsec);
	return rc;
}

int iof_hwpt_set_tracking(struct iof_hwpt *hwpt, bool on)
{
	if (!can_track(hwpt))
		return -EOPNOTSUPP;
	if (on)
		iof_hwpt_visit_dirty(hwpt, iof_pt_aperture(hwpt->pt), true, discard, NULL);
	atomic_store(&hwpt->tracking, on);
	/* Whoever has not seen it yet is done when we return: from then on no write goes unseen. */
	iof_rsec_sync(&hwpt->rsec);
	return 0;
}

int iof_hwpt_mark_dirty(struct iof_hwpt *hwpt, uint64_t iova)
{
	unsigned token;
	int rc;

	if (!atomic_load(&hwpt->tracking))
		return -EINVAL;
	token = iofi_hwpt_enter(hwpt);
	rc = iof_pt_set_dirty(hwpt->pt, iova);
	iof_rsec_leave(&hwpt->rsec, token);
	return rc;
}
