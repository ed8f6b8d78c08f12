/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing IOVAs for an IOAS that lives in the kernel.
 *
 * Up to 2 MiB come from recycle's windows; more than that straight from the space, congruent to the address modulo 2 MiB, or modulo 1 GiB where a
 * page of that size can fit. What the kernel does not let us use, or what ALLOW_IOVAS leaves out, is reserved in the space. When either changes the space
 * is built anew around the records there are: that costs as much as the attach that causes it, and leaves no special cases.
 *
 * While the kernel says that everything may be used (no device has been attached) we stay below 2^39 and out of the places where IOMMUs like to have
 * their interrupt windows, so that the first attach does not find mappings in its way.
 */
#include <errno.h>
#include <string.h>

#include "provider/kernel.h"

#define GIB (UINT64_C(1) << 30)
#define WINDOW (UINT64_C(1) << IOF_RECYCLE_WINDOW_SHIFT)
#define RESERVED_OWNER 1
#define BLOCKED_AREA 1u
#define TAKE_TRIES 1024 /* places that turn out to be mapped already, before the kernel is asked to choose */

/* ---- building ---- */

static const struct iof_range careful[] = {
	{ 0, 0x7ffffff }, { 0x8100000, 0xfedfffff }, { 0xfef00000, (UINT64_C(1) << 39) - 1 },
	{ UINT64_C(1) << 39, UINT64_MAX }, /* only for who allows it by name */
};

static bool is_everything(const struct iofi_kranges *r)
{
	return r->n == 1 && !r->list[0].start && r->list[0].last == UINT64_MAX;
}

static int reserve(struct iof_space *s, uint64_t start, uint64_t end)
{
	return start < end ? iof_space_reserve(s, (struct iof_range){ start, end - 1 }, RESERVED_OWNER) : 0;
}

/* Reserves all that is not in the list. */
static int reserve_rest(struct iof_space *s, const struct iof_range *list, size_t n)
{
	uint64_t next = 0;
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++) {
		rc = reserve(s, next, list[i].start);
		if (list[i].last == UINT64_MAX)
			return rc;
		next = list[i].last + 1;
	}
	return rc ? rc : iof_space_reserve(s, (struct iof_range){ next, UINT64_MAX }, RESERVED_OWNER);
}

static int reserve_all(struct iofi_kioas *io, struct iof_space *s)
{
	size_t n = io->allowed.n ? 4 : 3;
	int rc = reserve_rest(s, io->usable.list, io->usable.n);

	if (!rc && io->allowed.n)
		rc = reserve_rest(s, io->allowed.list, io->allowed.n);
	if (!rc && is_everything(&io->usable))
		rc = reserve_rest(s, careful, n);
	return rc;
}

static struct iof_range whole(const struct iofi_kioas *io, struct iof_range r)
{
	return (struct iof_range){ r.start & ~(io->granule - 1), r.last | (io->granule - 1) };
}

/* The next record at or above *at; NULL: none. */
static struct iofi_kmap *next_record(struct iofi_kioas *io, uint64_t *at, bool *end)
{
	struct iofi_kmap *m = *end ? NULL : iofi_kmap_first(io, (struct iof_range){ *at, UINT64_MAX });

	*end = !m || m->range.last == UINT64_MAX;
	*at = *end ? 0 : m->range.last + 1;
	return m;
}

/* An area for each record that can have one. */
static int claim_all(struct iofi_kioas *io, struct iof_space *s)
{
	uint64_t at = 0;
	bool end = false;
	struct iofi_kmap *m;
	int rc;

	while ((m = next_record(io, &at, &end))) {
		rc = iof_space_insert(s, whole(io, m->range), (uintptr_t)m);
		if (rc == -ENOMEM)
			return rc;
	}
	return 0;
}

static void place_all(struct iofi_kioas *io)
{
	struct iof_index_entry e;
	uint64_t at = 0;
	bool end = false;
	struct iofi_kmap *m;

	while ((m = next_record(io, &at, &end))) {
		m->slot = whole(io, m->range).start;
		m->place = iof_space_find(io->space, m->slot, &e) && e.value == (uintptr_t)m ? IOFI_PLACE_AREA : IOFI_PLACE_NONE;
	}
}

static void forget_blocked(struct iofi_kioas *io)
{
	struct iof_index_entry e;

	while (iof_index_first(io->blocked, IOF_RANGE_ALL, &e))
		iof_index_remove(io->blocked, e.range.start);
}

static int build(struct iofi_kioas *io, struct iof_space **space, struct iof_recycle **recycle)
{
	int rc = iof_space_create(io->alloc, space);

	if (rc)
		return rc;
	rc = reserve_all(io, *space);
	if (!rc)
		rc = claim_all(io, *space);
	if (!rc)
		rc = iof_recycle_create(io->alloc, *space, io->granule, recycle);
	if (rc)
		iof_space_destroy(*space);
	return rc;
}

int iofi_kspace_build(struct iofi_kioas *io)
{
	struct iof_recycle *recycle;
	struct iof_space *space;
	int rc = build(io, &space, &recycle);

	if (rc)
		return rc;
	iofi_kspace_destroy(io);
	forget_blocked(io);
	io->space = space;
	io->recycle = recycle;
	io->epoch++;
	place_all(io);
	return 0;
}

void iofi_kspace_destroy(struct iofi_kioas *io)
{
	if (!io->space)
		return;
	iof_recycle_destroy(io->recycle);
	iof_space_destroy(io->space);
}

/* ---- what may be used ---- */

static void ranges_drop(struct iofi_kioas *io, struct iofi_kranges *r)
{
	iof_mem_put(io->alloc, r->list, iofi_kranges_bytes(r->n));
}

static bool ranges_equal(const struct iofi_kranges *a, const struct iofi_kranges *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->list, b->list, a->n * sizeof(*a->list)));
}

/* Takes over `now`. When the space cannot be built anew the old ranges stay, and are found to differ the next time. */
static bool ranges_set(struct iofi_kioas *io, struct iofi_kranges *which, struct iofi_kranges now, uint64_t alignment)
{
	struct iofi_kranges was = *which;
	uint64_t old_alignment = io->alignment, old_granule = io->granule;
	bool changed = !ranges_equal(&was, &now) || alignment != old_alignment || !io->space;

	*which = now;
	io->alignment = alignment;
	io->granule = alignment > 4096 ? alignment : 4096;
	if (changed && iofi_kspace_build(io)) {
		*which = was;
		io->alignment = old_alignment;
		io->granule = old_granule;
		ranges_drop(io, &now);
		return false;
	}
	ranges_drop(io, &was);
	return changed;
}

_Static_assert(sizeof(struct iof_range) == sizeof(struct iof_uapi_range), "one is copied to the other");

/* One try with room for `room`: 0, -EMSGSIZE (c->num_iovas says how much it takes), or another error. */
static int ask(struct iofi_kcontext *ctx, struct iofi_kioas *io, uint32_t room, struct iofi_kranges *out,
	       struct iof_cmd_ioas_iova_ranges *c)
{
	struct iof_range *list = (struct iof_range *)iof_mem_zget(io->alloc, room * sizeof(*list), 16);
	int rc;

	if (!list)
		return -ENOMEM;
	*c = (struct iof_cmd_ioas_iova_ranges){ .size = sizeof(*c), .ioas_id = io->id, .num_iovas = room,
						.allowed_iovas = (uintptr_t)list };
	rc = iofi_kcall(ctx, IOF_CMD_IOAS_IOVA_RANGES, c);
	if (!rc && c->num_iovas <= room) {
		out->n = c->num_iovas;
		out->list = (struct iof_range *)iof_mem_get(io->alloc, iofi_kranges_bytes(out->n), 16);
		rc = out->list ? 0 : -ENOMEM;
		if (!rc)
			memcpy(out->list, list, out->n * sizeof(*list));
	}
	iof_mem_put(io->alloc, list, room * sizeof(*list));
	return rc;
}

bool iofi_kspace_read(struct iofi_kcontext *ctx, struct iofi_kioas *io)
{
	struct iof_cmd_ioas_iova_ranges c;
	struct iofi_kranges now;
	int rc = ask(ctx, io, 16, &now, &c);
	bool changed;

	if (rc == -EMSGSIZE && c.num_iovas > 16 && c.num_iovas <= 1u << 16)
		rc = ask(ctx, io, c.num_iovas, &now, &c);
	if (rc)
		return false;
	iof_lock_take(&io->lock);
	changed = ranges_set(io, &io->usable, now, c.out_iova_alignment);
	io->counts.reread += changed;
	iof_lock_drop(&io->lock);
	return changed;
}

static void sort(struct iof_range *list, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j && list[j - 1].start > list[j].start; j--) {
			struct iof_range r = list[j];

			list[j] = list[j - 1];
			list[j - 1] = r;
		}
}

void iofi_kspace_allow(struct iofi_kioas *io, const struct iof_range *ranges, size_t n)
{
	struct iofi_kranges now = { (struct iof_range *)iof_mem_get(io->alloc, iofi_kranges_bytes(n), 16), n };

	if (!now.list)
		return;
	memcpy(now.list, ranges, n * sizeof(*ranges));
	sort(now.list, n);
	iof_lock_take(&io->lock);
	ranges_set(io, &io->allowed, now, io->alignment);
	iof_lock_drop(&io->lock);
}

/* ---- taking and giving ---- */

/* One place of `total` bytes for memory at `base`, both whole granules; congruent if there is a hole with so much to spare. */
static int find_area(struct iofi_kioas *io, uint64_t base, uint64_t total, uint64_t *at)
{
	uint64_t page = total >= GIB ? GIB : WINDOW, aside;

	if (total >= WINDOW && !iof_space_place(io->space, 0, total + page, io->granule, &aside)) {
		*at = aside + ((base - aside) & (page - 1));
		return 0;
	}
	return iof_space_place(io->space, base, total, io->granule, at);
}

static int take_once(struct iofi_kioas *io, struct iofi_kmap *m, uint64_t base, uint64_t total)
{
	int rc;

	if (total < WINDOW) {
		m->place = IOFI_PLACE_SLOT;
		m->slot_bytes = total;
		return iof_recycle_take(io->recycle, total, &m->slot);
	}
	rc = find_area(io, base, total, &m->slot);
	if (rc)
		return rc;
	m->place = IOFI_PLACE_AREA;
	m->slot_bytes = total;
	return iof_space_insert(io->space, (struct iof_range){ m->slot, m->slot + (total - 1) }, (uintptr_t)m);
}

static struct iof_range taken(const struct iofi_kioas *io, const struct iofi_kmap *m)
{
	uint64_t bytes = m->place == IOFI_PLACE_SLOT ? iof_recycle_size(io->recycle, m->slot_bytes) : m->slot_bytes;

	return (struct iof_range){ m->slot, m->slot + (bytes - 1) };
}

static void release(struct iofi_kioas *io, uint64_t slot, uint64_t bytes, bool area)
{
	if (area)
		iof_space_remove(io->space, slot);
	else
		iof_recycle_give(io->recycle, slot, bytes);
}

/* Blocked places that meet r are free again. */
static bool unblock(struct iofi_kioas *io, struct iof_range r)
{
	struct iof_index_entry e;
	bool any = false;

	while (iof_index_first(io->blocked, r, &e)) {
		iof_index_remove(io->blocked, e.range.start);
		release(io, e.range.start, e.value >> 1, e.value & BLOCKED_AREA);
		any = true;
	}
	return any;
}

void iofi_kspace_block(struct iofi_kioas *io, struct iofi_kmap *m)
{
	bool area = m->place == IOFI_PLACE_AREA;

	if (iof_index_insert(io->blocked, taken(io, m), m->slot_bytes << 1 | area))
		release(io, m->slot, m->slot_bytes, area);
	m->place = IOFI_PLACE_NONE;
}

static int take_free(struct iofi_kioas *io, struct iofi_kmap *m, uint64_t base, uint64_t total)
{
	int rc;

	for (unsigned i = 0; i < TAKE_TRIES; i++) {
		rc = take_once(io, m, base, total);
		if (rc == -ENOSPC && unblock(io, IOF_RANGE_ALL))
			rc = take_once(io, m, base, total);
		if (rc || !iofi_kmap_first(io, taken(io, m)))
			break;
		iofi_kspace_block(io, m);
		rc = -ENOSPC;
	}
	if (rc)
		m->place = IOFI_PLACE_NONE;
	return rc;
}

int iofi_kspace_take(struct iofi_kioas *io, struct iofi_kmap *m, uint64_t address, uint64_t length)
{
	uint64_t inside = address & (io->granule - 1), total = inside + length;
	int rc;

	m->place = IOFI_PLACE_NONE;
	if (!io->space)
		return -ENOSPC;
	if (!length || length > UINT64_MAX / 4)
		return -EOVERFLOW;
	total = (total + io->granule - 1) & ~(io->granule - 1);
	rc = take_free(io, m, address - inside, total);
	if (!rc)
		m->range = (struct iof_range){ m->slot + inside, m->slot + inside + (length - 1) };
	m->epoch = io->epoch;
	return rc;
}

int iofi_kspace_row(struct iofi_kioas *io, uint64_t address, uint64_t length, uint64_t *iova)
{
	uint64_t inside = address & (io->granule - 1);
	int rc;

	if (!io->space)
		return -ENOSPC;
	if (!length || length > UINT64_MAX / 4)
		return -EOVERFLOW;
	rc = find_area(io, address - inside, (inside + length + io->granule - 1) & ~(io->granule - 1), iova);
	*iova += rc ? 0 : inside;
	return rc;
}

int iofi_kspace_claim(struct iofi_kioas *io, struct iofi_kmap *m)
{
	int rc = io->space ? iof_space_insert(io->space, whole(io, m->range), (uintptr_t)m) : -EEXIST;

	m->place = rc ? IOFI_PLACE_NONE : IOFI_PLACE_AREA;
	m->slot = whole(io, m->range).start;
	m->slot_bytes = iof_range_length(whole(io, m->range));
	return rc == -ENOMEM ? rc : 0;
}

void iofi_kspace_give(struct iofi_kioas *io, struct iofi_kmap *m)
{
	if (m->place != IOFI_PLACE_NONE)
		release(io, m->slot, m->slot_bytes, m->place == IOFI_PLACE_AREA);
	else if (iof_index_count(io->blocked))
		unblock(io, m->range);
	m->place = IOFI_PLACE_NONE;
}
