/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices wrote, exactly. GET_DIRTY_BITMAP keeps the kernel's quirks (it stops at a gap, and says too little of
 * an entry of several items); this verb is for callers who move memory by the answer and must not miss a page.
 *
 * Room is bounded, and what is cleared must be told. So a first walk only looks, and finds how far the room goes; a
 * second one clears that far and tells what it has cleared, which is what the first saw and what was dirtied since.
 * Should that be more ranges than there is room, the last one grows over the gap: too much is told, never too little.
 */
#include <errno.h>

#include "ioas/dirty.h"
#include "provider/engine.h"

struct walk {
	struct iof_range within;
	struct iof_uapi_range *out;
	size_t room, n;
	bool grow; /* no room: the last range takes it in */
	bool full; /* there was no room: `within` ends before this entry now */
	bool out_left, out_right; /* an entry sticks out there */
};

static void tell(struct walk *w, struct iof_range r)
{
	if (w->n && (w->out[w->n - 1].last + 1 == r.start || (w->n == w->room && w->grow))) {
		w->out[w->n - 1].last = r.last;
	} else if (w->n < w->room) {
		w->out[w->n++] = (struct iof_uapi_range){ r.start, r.last };
	} else {
		w->full = true;
		w->within.last = r.start - 1;
	}
}

/* An entry's ends are those of a power of two, so that its last address never wraps. */
static void visit(void *ctx, uint64_t start, uint64_t length)
{
	struct walk *w = ctx;
	struct iof_range r = { start, start + (length - 1) };

	if (w->full)
		return;
	w->out_left |= r.start < w->within.start;
	w->out_right |= r.last > w->within.last;
	tell(w, iof_range_clip(r, w->within));
}

/* Dirty again: its part outside was told to nobody. */
static void put_back(struct iof_hwpt *hwpt, uint64_t iova)
{
	unsigned token = iofi_hwpt_enter(hwpt);

	iof_pt_set_dirty(hwpt->pt, iova);
	iof_rsec_leave(&hwpt->rsec, token);
}

static int clear(struct iof_hwpt *hwpt, struct walk *w)
{
	int rc;

	w->n = 0;
	w->grow = true;
	w->out_left = w->out_right = false;
	rc = iof_hwpt_visit_dirty(hwpt, w->within, true, visit, w);
	if (w->out_left)
		put_back(hwpt, w->within.start);
	if (w->out_right)
		put_back(hwpt, w->within.last);
	return rc;
}

static int64_t read_dirty(struct iof_hwpt *hwpt, struct iof_dirty *d)
{
	struct iof_range all = iof_pt_aperture(hwpt->pt), r = { d->start, d->last };
	struct walk w = { .out = d->ranges, .room = d->n };
	int rc;

	d->more = false;
	if (!d->n || d->start > d->last)
		return -EINVAL;
	w.within = iof_range_intersects(all, r) ? iof_range_clip(r, all) : (struct iof_range){ 0, 0 };
	rc = iof_hwpt_visit_dirty(hwpt, w.within, false, visit, &w);
	if (rc || !iof_range_intersects(all, r))
		return rc;
	d->more = w.full;
	w.full = false;
	if (!d->keep && w.n)
		rc = clear(hwpt, &w);
	if (d->more)
		d->start = w.within.last + 1;
	return rc ? rc : (int64_t)w.n;
}

int64_t iofi_engine_dirty(struct iof_handle *h, struct iof_dirty *dirty)
{
	struct iof_object *o = iof_object_get(&iofi_engine(h)->file.ctx->objects, dirty->hwpt_id, IOF_OBJECT_HWPT);
	int64_t rc = o ? read_dirty((struct iof_hwpt *)o, dirty) : -ENOENT;

	if (o)
		iof_object_put(o);
	return rc;
}
