/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long-term pins by io_uring's registered buffers; no request is ever submitted.
 *
 * A ring gets a sparse table of slots; a slot is filled with a buffer of at most 1 GiB, which pins its pages and charges them to
 * the user, and is emptied again. The list of what is registered is an array: a change costs a system call and the pins anyway.
 *
 * The numbers below are the kernel's interface (5.19 and later), declared here because headers are often older.
 */
#include <string.h>
#include <sys/uio.h>

#include "pages/hold.h"
#include "pages/os.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_register 427
#endif
#define REGISTER_BUFFERS2 15
#define REGISTER_BUFFERS_UPDATE 16
#define REGISTER_SPARSE 1u
#define SLOTS 16384u
#define PIECE_MAX (UINT64_C(1) << (30 - IOF_PAGE_SHIFT)) /* pages in a buffer */

struct register2 {
	uint32_t nr, flags;
	uint64_t resv2, data, tags;
};

struct update2 {
	uint32_t offset, resv;
	uint64_t data, tags;
	uint32_t nr, resv2;
};

struct iofi_ring {
	struct iofi_ring *next;
	int fd;
	uint32_t used;
	uint64_t taken[SLOTS / 64];
};

struct iofi_pinned {
	struct iof_range pages;
	struct iofi_ring *ring;
	uint32_t slot;
};

/* ---- rings ---- */

/* What a kernel without it, or one that has been told to refuse, answers. */
static int reason(int rc)
{
	return rc == -ENOSYS || rc == -EINVAL ? -EOPNOTSUPP : rc;
}

static int ring_open(void)
{
	struct register2 table = { .nr = SLOTS, .flags = REGISTER_SPARSE };
	char params[120] = { 0 };
	int fd = (int)iofi_os(SYS_io_uring_setup, 1, params), rc;

	if (fd < 0)
		return reason(fd);
	rc = (int)iofi_os(SYS_io_uring_register, fd, REGISTER_BUFFERS2, &table, sizeof(table));
	if (rc < 0)
		iofi_os_close(fd);
	return rc < 0 ? reason(rc) : fd;
}

static struct iofi_ring *ring_new(struct iofi_rings *rings, int *rc)
{
	struct iofi_ring *ring = iof_mem_zget(rings->alloc, sizeof(*ring), 16);

	*rc = -ENOMEM;
	if (!ring)
		return NULL;
	ring->fd = *rc = ring_open();
	if (ring->fd < 0) {
		iof_mem_put(rings->alloc, ring, sizeof(*ring));
		return NULL;
	}
	ring->next = rings->first;
	rings->first = ring;
	return ring;
}

static struct iofi_ring *ring_with_room(struct iofi_rings *rings, int *rc)
{
	for (struct iofi_ring *ring = rings->first; ring; ring = ring->next)
		if (ring->used < SLOTS)
			return ring;
	return ring_new(rings, rc);
}

int iofi_rings_try(struct iofi_rings *rings)
{
	int rc = 0;

	return ring_with_room(rings, &rc) ? 0 : rc;
}

static uint32_t free_slot(const struct iofi_ring *ring)
{
	for (uint32_t i = 0;; i++)
		if (~ring->taken[i])
			return i * 64 + iof_ctz(~ring->taken[i]);
}

/* Puts a buffer into a slot; of length 0: takes out what is there. */
static int fill_slot(struct iofi_ring *ring, uint32_t slot, uint64_t address, uint64_t bytes)
{
	struct iovec buffer = { (void *)(uintptr_t)address, bytes };
	struct update2 update = { .offset = slot, .data = (uintptr_t)&buffer, .nr = 1 };
	long rc = iofi_os(SYS_io_uring_register, ring->fd, REGISTER_BUFFERS_UPDATE, &update, sizeof(update));

	return rc < 0 ? (int)rc : 0;
}

/* ---- the list ---- */

/* The first entry that does not end below `page`. */
static size_t find(const struct iofi_rings *rings, uint64_t page)
{
	size_t low = 0, high = rings->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (rings->at[mid].pages.last < page)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int make_room(struct iofi_rings *rings)
{
	size_t room = rings->room ? rings->room * 2 : 16;
	struct iofi_pinned *at;

	if (rings->n < rings->room)
		return 0;
	at = iof_mem_get(rings->alloc, room * sizeof(*at), 16);
	if (!at)
		return -ENOMEM;
	if (rings->n)
		memcpy(at, rings->at, rings->n * sizeof(*at));
	iof_mem_put(rings->alloc, rings->at, rings->room * sizeof(*at));
	rings->at = at;
	rings->room = room;
	return 0;
}

static void note(struct iofi_rings *rings, struct iofi_pinned p)
{
	size_t i = find(rings, p.pages.start);

	memmove(rings->at + i + 1, rings->at + i, (rings->n - i) * sizeof(p));
	rings->at[i] = p;
	rings->n++;
	p.ring->taken[p.slot / 64] |= UINT64_C(1) << p.slot % 64;
	p.ring->used++;
}

static void forget(struct iofi_rings *rings, size_t i)
{
	struct iofi_pinned p = rings->at[i];

	(void)fill_slot(p.ring, p.slot, 0, 0);
	p.ring->taken[p.slot / 64] &= ~(UINT64_C(1) << p.slot % 64);
	p.ring->used--;
	rings->n--;
	memmove(rings->at + i, rings->at + i + 1, (rings->n - i) * sizeof(p));
}

/* ---- pins ---- */

static int pin_piece(struct iofi_rings *rings, struct iof_range pages)
{
	int rc = make_room(rings);
	struct iofi_ring *ring = rc ? NULL : ring_with_room(rings, &rc);
	uint32_t slot;

	if (!ring)
		return rc;
	slot = free_slot(ring);
	rc = fill_slot(ring, slot, pages.start << IOF_PAGE_SHIFT, iof_range_length(pages) << IOF_PAGE_SHIFT);
	if (!rc)
		note(rings, (struct iofi_pinned){ pages, ring, slot });
	return rc;
}

static bool nobody(void *ctx, struct iof_range pages)
{
	(void)ctx, (void)pages;
	return false;
}

int iofi_rings_pin(struct iofi_rings *rings, struct iof_range pages)
{
	struct iof_range piece = pages;
	int rc = 0;

	while (!rc) {
		piece.last = pages.last - piece.start >= PIECE_MAX ? piece.start + PIECE_MAX - 1 : pages.last;
		rc = pin_piece(rings, piece);
		if (rc || piece.last == pages.last)
			break;
		piece.start = piece.last + 1;
	}
	if (rc && piece.start > pages.start)
		iofi_rings_unpin(rings, (struct iof_range){ pages.start, piece.start - 1 }, nobody, NULL);
	return rc;
}

bool iofi_rings_find(const struct iofi_rings *rings, uint64_t *first, uint64_t *last)
{
	size_t i = find(rings, *first);
	struct iof_range want = { *first, *last };

	if (i == rings->n || !iof_range_intersects(rings->at[i].pages, want))
		return false;
	want = iof_range_clip(want, rings->at[i].pages);
	*first = want.start;
	*last = want.last;
	return true;
}

void iofi_rings_unpin(struct iofi_rings *rings, struct iof_range pages, bool (*used)(void *ctx, struct iof_range pages), void *ctx)
{
	size_t i = find(rings, pages.start);

	while (i < rings->n && rings->at[i].pages.start <= pages.last) {
		if (used(ctx, rings->at[i].pages))
			i++;
		else
			forget(rings, i);
	}
}

void iofi_rings_fini(struct iofi_rings *rings)
{
	struct iofi_ring *ring;

	while (rings->n)
		forget(rings, rings->n - 1);
	while ((ring = rings->first)) {
		rings->first = ring->next;
		iofi_os_close(ring->fd);
		iof_mem_put(rings->alloc, ring, sizeof(*ring));
	}
	iof_mem_put(rings->alloc, rings->at, rings->room * sizeof(*rings->at));
	*rings = (struct iofi_rings){ .alloc = rings->alloc };
}

bool iofi_rings_is_valid(const struct iofi_rings *rings, bool (*used)(void *ctx, struct iof_range pages), void *ctx)
{
	uint64_t slots = 0;

	for (size_t i = 0; i < rings->n; i++) {
		const struct iofi_pinned *p = &rings->at[i];

		if ((i && p->pages.start <= p[-1].pages.last) || !used(ctx, p->pages) || !(p->ring->taken[p->slot / 64] >> p->slot % 64 & 1))
			return false;
	}
	for (const struct iofi_ring *ring = rings->first; ring; ring = ring->next)
		slots += ring->used;
	return slots == rings->n;
}
