/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page identity: the synthetic address space and the pins in it.
 *
 * The space has 51 bits (the mock table takes no more) and is cut into windows of 2^40 bytes. A window belongs to one
 * stretch, aligned to 2^40, of one object: of a file (device, inode) by offset, or of a process by address. So any
 * offset and any address has a place, alignment up to 1 GiB carries over, and 2047 stretches can be in use at once;
 * window 0 is left out, so that no page has address 0. An object gets a window when one of its pages is first asked
 * for. When all are given out, one without pins changes hands; if there is none, -ENOMEM.
 *
 * A process is a pid and its start time, so that a reused pid is another process. A file is known by its inode number
 * only: if it is deleted while pinned (policy trust does not keep it) and the number is used again, the new file is
 * taken for it.
 *
 * Pin counts are one run map over the pages of the whole space. Each window also knows the sum of its counts.
 * Everything is under one lock.
 */
#include "pages/identity.h"

#include <errno.h>
#include <string.h>

#include "pages/identity_hold.h"
#include "pages/maps.h"
#include "pages/os.h"
#include "pages/runmap.h"
#include "util/lock.h"

#define WINDOW_SHIFT 40
#define WINDOW_MASK ((UINT64_C(1) << WINDOW_SHIFT) - 1)
#define WINDOWS_MAX (1u << (51 - WINDOW_SHIFT))

enum object_kind { OBJECT_FILE = 1, OBJECT_PROCESS = 2 };

/* A stretch of an object. Compared byte by byte, so there is no padding. */
struct stretch {
	uint32_t kind;
	uint32_t device; /* file */
	uint64_t number; /* inode, or pid */
	uint64_t since; /* process: its start time */
	uint64_t index; /* offset or address >> WINDOW_SHIFT */
};

struct window {
	struct stretch of;
	uint64_t pins; /* sum over its pages */
	uint64_t session; /* of the lock, when it was last asked for: not to be given away in the same one */
};

struct iof_identities {
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iofi_runmap pins; /* by synthetic page number */
	struct window *window; /* [0] is not used */
	uint32_t n, room;
	uint64_t session; /* counts takings of the lock */
	uint32_t hand; /* where the search for a window without pins goes on */
};

int iof_identities_create(struct iof_alloc *a, struct iof_identities **out)
{
	struct iof_identities *t = iof_mem_zget(a, sizeof(*t), 16);

	if (!t)
		return -ENOMEM;
	t->alloc = a;
	t->n = 1;
	iof_lock_init(&t->lock, a->shared);
	iofi_runmap_init(&t->pins, a);
	*out = t;
	return 0;
}

void iof_identities_destroy(struct iof_identities *t)
{
	if (!t)
		return;
	iofi_runmap_fini(&t->pins);
	iof_mem_put(t->alloc, t->window, t->room * sizeof(*t->window));
	iof_mem_put(t->alloc, t, sizeof(*t));
}

void iofi_identity_lock(struct iof_identities *t)
{
	iof_lock_take(&t->lock);
	t->session++;
}

void iofi_identity_unlock(struct iof_identities *t)
{
	iof_lock_drop(&t->lock);
}

static int windows_grow(struct iof_identities *t)
{
	uint32_t room = t->room ? t->room * 2 : 8;
	struct window *w = iof_mem_zget(t->alloc, room * sizeof(*w), 16);

	if (!w)
		return -ENOMEM;
	if (t->window)
		memcpy(w, t->window, t->n * sizeof(*w));
	iof_mem_put(t->alloc, t->window, t->room * sizeof(*w));
	t->window = w;
	t->room = room;
	return 0;
}

/*
 * A window that nobody needs: a new one, or one that has lost its last pin. The pins of what was looked up since the
 * lock was taken are still to come, so those windows are needed. -ENOMEM.
 */
static int window_free(struct iof_identities *t, uint32_t *out)
{
	if (t->n < WINDOWS_MAX) {
		if (t->n >= t->room && windows_grow(t))
			return -ENOMEM;
		*out = t->n++;
		return 0;
	}
	for (uint32_t i = 1; i < WINDOWS_MAX; i++) {
		t->hand = t->hand % (WINDOWS_MAX - 1) + 1;
		if (!t->window[t->hand].pins && t->window[t->hand].session != t->session) {
			*out = t->hand;
			return 0;
		}
	}
	return -ENOMEM;
}

static int window_of(struct iof_identities *t, struct stretch of, uint32_t *out)
{
	uint32_t w = 1;

	while (w < t->n && memcmp(&t->window[w].of, &of, sizeof(of)))
		w++;
	if (w == t->n) {
		if (window_free(t, &w))
			return -ENOMEM;
		t->window[w].of = of;
	}
	t->window[w].session = t->session;
	*out = w;
	return 0;
}

/* Which stretch the page at `address` is in; *position is its offset or address. */
static struct stretch stretch_at(const struct iofi_vma *vma, uint64_t address, const struct iofi_process *owner,
				 uint64_t *position)
{
	if (vma->shared && vma->inode) {
		*position = vma->offset + (address - vma->at.start);
		return (struct stretch){ OBJECT_FILE, vma->device, vma->inode, 0, *position >> WINDOW_SHIFT };
	}
	*position = address;
	return (struct stretch){ OBJECT_PROCESS, 0, owner->pid, owner->since, address >> WINDOW_SHIFT };
}

/* The longest run from `address` on that lies in one mapping and one window, at most n pages. */
static int run_at(struct iof_identities *t, const struct iofi_maps *maps, uint64_t address, uint64_t n, bool write,
		  struct iof_identity_run *run)
{
	const struct iofi_vma *vma = iofi_maps_at(maps, address);
	uint64_t position, in_vma, in_window;
	struct stretch of;
	uint32_t w;
	int rc;

	if (!vma || !(write ? vma->writable : vma->readable))
		return -EFAULT;
	of = stretch_at(vma, address, &maps->owner, &position);
	rc = window_of(t, of, &w);
	if (rc)
		return rc;
	in_vma = ((vma->at.last - address) >> IOF_PAGE_SHIFT) + 1;
	in_window = (WINDOW_MASK - (position & WINDOW_MASK) + 1) >> IOF_PAGE_SHIFT;
	n = in_vma < n ? in_vma : n;
	*run = (struct iof_identity_run){ (uint64_t)w << WINDOW_SHIFT | (position & WINDOW_MASK),
					  in_window < n ? in_window : n };
	return 0;
}

/* Neighbouring mappings of one object, which differ in permissions say, are one run. */
int iofi_identity_lookup(struct iof_identities *t, const struct iofi_maps *maps, uint64_t start, uint64_t npages,
			 bool write, iofi_identity_fn fn, void *ctx)
{
	struct iof_identity_run run, whole = { 0, 0 };
	int rc = 0;

	for (uint64_t done = 0; !rc && done < npages; done += run.npages) {
		rc = run_at(t, maps, start + (done << IOF_PAGE_SHIFT), npages - done, write, &run);
		if (rc)
			return rc;
		if (whole.npages && whole.address + (whole.npages << IOF_PAGE_SHIFT) == run.address) {
			whole.npages += run.npages;
			continue;
		}
		if (whole.npages)
			rc = fn(ctx, whole);
		whole = run;
	}
	return rc || !whole.npages ? rc : fn(ctx, whole);
}

int iof_identity_runs(struct iof_identities *t, uint64_t start, uint64_t npages, bool write,
		      int (*fn)(void *ctx, struct iof_identity_run run), void *ctx)
{
	struct iofi_maps maps;
	struct iof_range hull;
	int rc;

	if (!npages)
		return 0;
	if (npages > UINT64_MAX >> IOF_PAGE_SHIFT || iof_range_make(start, npages << IOF_PAGE_SHIFT, &hull))
		return -EFAULT;
	rc = iofi_maps_read(t->alloc, NULL, hull, &maps);
	if (rc)
		return rc;
	iofi_identity_lock(t);
	rc = iofi_identity_lookup(t, &maps, start, npages, write, fn, ctx);
	iofi_identity_unlock(t);
	iofi_maps_free(&maps);
	return rc;
}

int iofi_identity_lookup_file(struct iof_identities *t, uint32_t device, uint64_t inode, uint64_t offset,
			      uint64_t npages, iofi_identity_fn fn, void *ctx)
{
	int rc = 0;

	for (uint64_t n; !rc && npages; npages -= n, offset += n << IOF_PAGE_SHIFT) {
		struct stretch of = { OBJECT_FILE, device, inode, 0, offset >> WINDOW_SHIFT };
		uint32_t w;

		n = (WINDOW_MASK - (offset & WINDOW_MASK) + 1) >> IOF_PAGE_SHIFT;
		n = n < npages ? n : npages;
		rc = window_of(t, of, &w);
		if (rc)
			break;
		rc = fn(ctx, (struct iof_identity_run){ (uint64_t)w << WINDOW_SHIFT | (offset & WINDOW_MASK), n });
	}
	return rc;
}

/* A page of a file that this process may have mapped somewhere, anywhere. */
struct reach {
	struct stretch of;
	uint64_t position;
	uint64_t address; /* UINT64_MAX: not found yet */
	uint64_t last; /* how far the mapping goes */
	bool write;
};

/* A writable mapping is the best there is; a readable one will do when nobody wants to write. */
static int reach_one(void *ctx, const struct iofi_vma *vma)
{
	struct reach *r = ctx;

	if (!vma->shared || vma->device != r->of.device || vma->inode != r->of.number || !vma->readable ||
	    r->position < vma->offset || r->position - vma->offset > iof_range_span(vma->at))
		return 0;
	if (vma->writable || (!r->write && r->address == UINT64_MAX)) {
		r->address = vma->at.start + (r->position - vma->offset);
		r->last = vma->at.last;
	}
	return vma->writable;
}

static struct stretch stretch_of(struct iof_identities *t, uint64_t address)
{
	struct stretch of = { 0 };
	uint64_t w = address >> WINDOW_SHIFT;

	iofi_identity_lock(t);
	if (w && w < t->n)
		of = t->window[w].of;
	iofi_identity_unlock(t);
	return of;
}

/* Private memory is where its process has it. */
static void reach_own(struct reach *r)
{
	struct iofi_process self;

	if (r->of.number != iofi_os_pid())
		return; /* a kind of 0 has number 0, which is nobody's pid */
	iofi_process_self(&self);
	if (r->of.since != self.since)
		return;
	r->address = r->position;
	r->last = r->position | WINDOW_MASK;
}

/* Nothing is remembered from call to call: the mapping found last may be another one by now. */
uint64_t iof_identity_reach_run(struct iof_identities *t, uint64_t address, bool write, uint64_t *n)
{
	struct reach r = { stretch_of(t, address), 0, UINT64_MAX, 0, write };
	uint64_t rest;

	r.position = r.of.index << WINDOW_SHIFT | (address & WINDOW_MASK);
	if (r.of.kind == OBJECT_FILE)
		iofi_maps_scan(NULL, reach_one, &r);
	else
		reach_own(&r);
	if (r.address == UINT64_MAX)
		return UINT64_MAX;
	rest = WINDOW_MASK - (address & WINDOW_MASK);
	rest = (r.last - r.address < rest ? r.last - r.address : rest) + 1;
	*n = *n < rest ? *n : rest;
	return r.address;
}

uint64_t iof_identity_reach(struct iof_identities *t, uint64_t address)
{
	uint64_t n = 1;

	return iof_identity_reach_run(t, address, false, &n);
}

int iofi_identity_reserve(struct iof_identities *t, uint64_t nodes)
{
	return iofi_runmap_reserve(&t->pins, nodes);
}

void iofi_identity_unreserve(struct iof_identities *t, uint64_t nodes)
{
	iofi_runmap_unreserve(&t->pins, nodes);
}

/*
 * Adds to the pin totals of the windows a run lies in: two, when neighbours go on from each other. `sign` is 1 or -1.
 */
static void windows_count(struct iof_identities *t, struct iof_identity_run run, uint64_t sign)
{
	while (run.npages) {
		uint64_t room = (WINDOW_MASK - (run.address & WINDOW_MASK) + 1) >> IOF_PAGE_SHIFT;
		uint64_t n = run.npages < room ? run.npages : room;

		t->window[run.address >> WINDOW_SHIFT].pins += sign * n;
		run.address += n << IOF_PAGE_SHIFT;
		run.npages -= n;
	}
}

void iofi_identity_pin(struct iof_identities *t, struct iof_identity_run run)
{
	uint64_t first = run.address >> IOF_PAGE_SHIFT;

	iofi_runmap_add(&t->pins, first, first + run.npages - 1);
	windows_count(t, run, 1);
}

void iofi_identity_unpin(struct iof_identities *t, struct iof_identity_run run)
{
	uint64_t first = run.address >> IOF_PAGE_SHIFT;

	iofi_runmap_remove(&t->pins, first, first + run.npages - 1);
	windows_count(t, run, UINT64_MAX);
}

uint64_t iof_identity_pins(struct iof_identities *t, uint64_t address)
{
	uint64_t page = address >> IOF_PAGE_SHIFT, n;

	iofi_identity_lock(t);
	n = iofi_runmap_span(&t->pins, page, page).count;
	iofi_identity_unlock(t);
	return n;
}

/* The sum of the counts in [first, last]. */
static uint64_t pins_within(const struct iof_identities *t, uint64_t first, uint64_t last)
{
	uint64_t sum = 0;

	for (uint64_t at = first; at <= last;) {
		struct iofi_span s = iofi_runmap_span(&t->pins, at, last);

		sum += s.count * (s.last - at + 1);
		at = s.last + 1;
	}
	return sum;
}

static bool window_is_valid(const struct iof_identities *t, uint32_t w)
{
	uint64_t first = (uint64_t)w << (WINDOW_SHIFT - IOF_PAGE_SHIFT);

	for (uint32_t i = 1; i < w; i++)
		if (!memcmp(&t->window[i].of, &t->window[w].of, sizeof(t->window[w].of)))
			return false;
	return t->window[w].pins == pins_within(t, first, first + (WINDOW_MASK >> IOF_PAGE_SHIFT));
}

bool iof_identities_is_valid(struct iof_identities *t)
{
	bool ok;

	iofi_identity_lock(t);
	ok = t->n <= WINDOWS_MAX && (t->n == 1 || t->n <= t->room) && iofi_runmap_is_valid(&t->pins) &&
	     !iofi_runmap_span(&t->pins, (uint64_t)t->n << (WINDOW_SHIFT - IOF_PAGE_SHIFT), UINT64_MAX).count;
	for (uint32_t w = 1; ok && w < t->n; w++)
		ok = window_is_valid(t, w);
	iofi_identity_unlock(t);
	return ok;
}
