/* SPDX-License-Identifier: Apache-2.0 */
/* What containers say about themselves, and the check of them. */
#include "pages/ext.h"

/* Readers take the lock too; to them the container is const because nothing they may see changes. */
static struct iof_pages *reader_lock(const struct iof_pages *p)
{
	struct iof_pages *open = (struct iof_pages *)(uintptr_t)p;

	iof_lock_take(&open->lock);
	return open;
}

uint64_t iof_pages_address_slow(const struct iof_pages *p, uint64_t byte, uint64_t want, uint64_t *contiguous)
{
	struct iof_pages *open = reader_lock(p);
	uint64_t address = iofi_names_address(&open->ext->names, byte, want, contiguous);

	iof_lock_drop(&open->lock);
	return address;
}

/* What a container without ext says, in place of the run map. */
static bool is_held_whole(const struct iof_pages *p)
{
	return atomic_load_explicit(&p->state, memory_order_acquire) == IOF_PAGES_WHOLE;
}

uint64_t iof_pages_pinned(const struct iof_pages *p)
{
	struct iof_pages *open = reader_lock(p);
	uint64_t n = open->ext ? open->ext->pinned : is_held_whole(p) ? p->npages : 0;

	iof_lock_drop(&open->lock);
	return p->kind == IOF_PAGES_DMABUF ? 0 : n;
}

uint64_t iof_pages_intervals(const struct iof_pages *p)
{
	struct iof_pages *open = reader_lock(p);
	uint64_t n = open->ext ? open->ext->holds : is_held_whole(p);

	iof_lock_drop(&open->lock);
	return n;
}

uint64_t iof_pages_holds(const struct iof_pages *p, uint64_t slot)
{
	struct iof_pages *open = reader_lock(p);
	uint64_t n = open->ext ? iofi_runmap_span(&open->ext->map, slot, slot).count : is_held_whole(p);

	iof_lock_drop(&open->lock);
	return n;
}

uint64_t iof_pages_covered(const struct iof_pages *p, uint64_t first, uint64_t last)
{
	struct iof_pages *open = reader_lock(p);
	uint64_t hole = first, end = last;

	if (open->ext)
		hole = iofi_runmap_find(&open->ext->map, 0, &hole, &end) ? hole : last + 1;
	else if (is_held_whole(p))
		hole = last + 1;
	iof_lock_drop(&open->lock);
	return hole - first;
}

/* Re-derives `pinned` and checks that every pinned slot has a name when it should. */
static bool ext_is_valid(const struct iof_pages *p, const struct iof_memory *m)
{
	const struct iof_pages_ext *ext = p->ext;
	uint64_t pinned = 0;

	if (!ext->holds || ext->map.reserved != 2 * ext->holds || !iofi_runmap_is_valid(&ext->map))
		return false;
	if (iofi_runmap_span(&ext->map, p->npages, UINT64_MAX).count || !iofi_names_is_valid(&ext->names, p->npages))
		return false;
	for (uint64_t at = 0; at < p->npages;) {
		struct iofi_span s = iofi_runmap_span(&ext->map, at, p->npages - 1);

		if (s.count > ext->holds)
			return false;
		if (s.count && m->address_mode != IOF_ADDRESS_VA &&
		    !iofi_names_cover(&ext->names, (struct iof_range){ at, s.last }))
			return false;
		pinned += s.count ? s.last - at + 1 : 0;
		at = s.last + 1;
	}
	return pinned == ext->pinned && (m->address_mode != IOF_ADDRESS_VA || !ext->names.n);
}

/* A file's base is its offset, except while something is held and addresses are virtual. */
static bool backing_is_valid(const struct iof_pages *p, const struct iof_memory *m, uint8_t state)
{
	const struct iofi_backing *b = p->backing;

	if (state == IOF_PAGES_EMPTY)
		return p->base == b->offset && !b->window;
	if (m->address_mode != IOF_ADDRESS_VA)
		return p->base == b->offset;
	return b->window && p->base == iofi_window_address(b->window, b->offset);
}

bool iof_pages_is_valid(const struct iof_pages *p, const struct iof_memory *m)
{
	struct iof_pages *open = reader_lock(p);
	uint8_t state = atomic_load_explicit(&p->state, memory_order_acquire);
	bool ok;

	ok = p->npages && !(p->base & IOF_PAGE_MASK) && p->plain == is_plain(p, m) &&
	     (state == IOF_PAGES_BUSY) == !!open->ext;
	ok = ok && (state != IOF_PAGES_WHOLE || m->address_mode == IOF_ADDRESS_VA);
	ok = ok && (!open->ext || ext_is_valid(p, m)) && (iofi_is_user(p) || backing_is_valid(p, m, state));
	iof_lock_drop(&open->lock);
	return ok;
}
