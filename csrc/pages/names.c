/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of synthetic addresses. Naming slots first clears them (which may cut one record in two), then puts the new
 * record in its place; records whose slots and addresses both go on are one record.
 */
#include "pages/names.h"

#include <string.h>

void iofi_names_init(struct iofi_names *names, struct iof_alloc *a)
{
	*names = (struct iofi_names){ .alloc = a };
}

void iofi_names_fini(struct iofi_names *names)
{
	iof_mem_put(names->alloc, names->v, names->room * sizeof(*names->v));
	iofi_names_init(names, names->alloc);
}

static int names_room(struct iofi_names *names, uint64_t n)
{
	struct iofi_name *v;
	uint64_t room = names->room ? names->room : 2;

	if (n <= names->room)
		return 0;
	while (room < n)
		room *= 2;
	v = iof_mem_get(names->alloc, room * sizeof(*v), 16);
	if (!v)
		return -ENOMEM;
	if (names->n)
		memcpy(v, names->v, names->n * sizeof(*v));
	iof_mem_put(names->alloc, names->v, names->room * sizeof(*v));
	names->v = v;
	names->room = room;
	return 0;
}

int iofi_names_copy(struct iofi_names *to, const struct iofi_names *from)
{
	int rc = names_room(to, from->n + 2);

	if (rc)
		return rc;
	if (from->n)
		memcpy(to->v, from->v, from->n * sizeof(*to->v));
	to->n = from->n;
	return 0;
}

static uint64_t name_end(const struct iofi_name *name)
{
	return name->slot + name->npages;
}

/* Index of the first record that ends behind `slot`. */
static uint64_t names_find(const struct iofi_names *names, uint64_t slot)
{
	uint64_t low = 0, high = names->n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (name_end(&names->v[mid]) > slot)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Makes record i a copy of one that goes in there, moving the others up. There is room. */
static void names_insert(struct iofi_names *names, uint64_t i, struct iofi_name name)
{
	memmove(&names->v[i + 1], &names->v[i], (names->n - i) * sizeof(*names->v));
	names->v[i] = name;
	names->n++;
}

static void names_delete(struct iofi_names *names, uint64_t i, uint64_t count)
{
	memmove(&names->v[i], &names->v[i + count], (names->n - i - count) * sizeof(*names->v));
	names->n -= count;
}

/* The part of a record from `slot` on. */
static struct iofi_name name_from(struct iofi_name name, uint64_t slot)
{
	uint64_t skip = slot - name.slot;

	return (struct iofi_name){ slot, name.npages - skip, name.address + (skip << IOF_PAGE_SHIFT) };
}

/* No record has slots of [slot, end) any more; returns where one for them belongs. There is room for one more. */
static uint64_t names_clear(struct iofi_names *names, uint64_t slot, uint64_t end)
{
	uint64_t i = names_find(names, slot), j;

	if (i < names->n && names->v[i].slot < slot) {
		struct iofi_name whole = names->v[i];

		names->v[i].npages = slot - whole.slot;
		i++;
		if (name_end(&whole) > end)
			names_insert(names, i, name_from(whole, end));
	}
	for (j = i; j < names->n && name_end(&names->v[j]) <= end; j++)
		;
	names_delete(names, i, j - i);
	if (i < names->n && names->v[i].slot < end)
		names->v[i] = name_from(names->v[i], end);
	return i;
}

/* Joins record i to the one before it if it goes on from there. */
static void names_join(struct iofi_names *names, uint64_t i)
{
	struct iofi_name *before;

	if (!i || i >= names->n)
		return;
	before = &names->v[i - 1];
	if (name_end(before) != names->v[i].slot ||
	    before->address + (before->npages << IOF_PAGE_SHIFT) != names->v[i].address)
		return;
	before->npages += names->v[i].npages;
	names_delete(names, i, 1);
}

void iofi_names_begin(struct iofi_names *names, uint64_t slot)
{
	names->next = slot;
}

int iofi_names_add(void *ctx, struct iof_identity_run run)
{
	struct iofi_names *names = ctx;
	uint64_t i, slot = names->next;
	int rc = names_room(names, names->n + 2);

	if (rc)
		return rc;
	i = names_clear(names, slot, slot + run.npages);
	names_insert(names, i, (struct iofi_name){ slot, run.npages, run.address });
	names_join(names, i + 1);
	names_join(names, i);
	names->next = slot + run.npages;
	return 0;
}

void iofi_names_each(const struct iofi_names *names, struct iof_range slots, struct iof_identities *t,
		     void (*fn)(struct iof_identities *t, struct iof_identity_run run))
{
	uint64_t at = slots.start;

	for (uint64_t i = names_find(names, at); at <= slots.last; i++) {
		struct iofi_name part = name_from(names->v[i], at);
		uint64_t left = slots.last - at + 1, n = part.npages < left ? part.npages : left;

		fn(t, (struct iof_identity_run){ part.address, n });
		at += n;
	}
}

uint64_t iofi_names_address(const struct iofi_names *names, uint64_t byte, uint64_t want, uint64_t *contiguous)
{
	uint64_t slot = byte >> IOF_PAGE_SHIFT;
	struct iofi_name part = name_from(names->v[names_find(names, slot)], slot);
	uint64_t rest = (part.npages << IOF_PAGE_SHIFT) - (byte & IOF_PAGE_MASK);

	*contiguous = want < rest ? want : rest;
	return part.address + (byte & IOF_PAGE_MASK);
}

bool iofi_names_cover(const struct iofi_names *names, struct iof_range slots)
{
	uint64_t at = slots.start;

	for (uint64_t i = names_find(names, at); i < names->n && names->v[i].slot <= at; i++) {
		at = name_end(&names->v[i]);
		if (at > slots.last)
			return true;
	}
	return false;
}

bool iofi_names_is_valid(const struct iofi_names *names, uint64_t npages)
{
	for (uint64_t i = 0; i < names->n; i++) {
		const struct iofi_name *name = &names->v[i];

		if (!name->npages || name->address & IOF_PAGE_MASK || name_end(name) > npages)
			return false;
		if (i && name_end(&names->v[i - 1]) > name->slot)
			return false;
	}
	return names->n <= names->room;
}
