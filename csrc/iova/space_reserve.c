/* SPDX-License-Identifier: Apache-2.0 */
/* Reserved ranges: space_priv.h says how overlapping ranges become stretches. */
#include "iova/space_priv.h"

/* Joins the stretches on both sides of `at` if no range needs the cut between them. */
static void heal(struct iof_space *s, uint64_t at)
{
	struct iof_index_entry left, right;

	if (!at || !iof_index_find(s->reserved, at - 1, &left) || !iof_index_find(s->reserved, at, &right))
		return;
	if (left.range.last != at - 1 || iofi_ends(left.value) || iofi_starts(right.value))
		return;
	iof_index_join(s->reserved, at);
	iof_index_join(s->used, at);
	iof_index_set(s->reserved, left.range.start, left.value + iofi_ends(right.value) * IOFI_ENDS);
}

/* Makes a cut in front of `at` if that is inside a stretch. 0, -ENOMEM. */
static int cut(struct iof_space *s, uint64_t at)
{
	struct iof_index_entry e;
	uint64_t ends;
	int rc;

	if (!at || !iof_index_find(s->reserved, at, &e) || e.range.start == at)
		return 0;
	ends = iofi_ends(e.value) * IOFI_ENDS;
	rc = iof_index_split(s->reserved, e.range.start, at - 1, iofi_cover(e.value) + ends);
	if (rc)
		return rc;
	rc = iof_index_split(s->used, e.range.start, at - 1, IOF_SPACE_RESERVED);
	if (rc) {
		iof_index_join(s->reserved, at);
		return rc;
	}
	iof_index_set(s->reserved, e.range.start, e.value - ends);
	return 0;
}

static int add_stretch(struct iof_space *s, struct iof_range r)
{
	int rc = iof_index_insert(s->reserved, r, 0);

	if (rc)
		return rc;
	rc = iof_index_insert(s->used, r, IOF_SPACE_RESERVED);
	if (rc)
		iof_index_remove(s->reserved, r.start);
	return rc;
}

/* Covers what no stretch covers of r yet, with stretches that count nothing so far. */
static int fill(struct iof_space *s, struct iof_range r)
{
	struct iof_index_entry e;
	struct iof_range gap;
	int rc;

	for (;; r.start = e.range.last + 1) {
		bool more = iof_index_first(s->reserved, r, &e);

		gap = (struct iof_range){ r.start, more ? e.range.start - 1 : r.last };
		if (!more || e.range.start > r.start) {
			rc = add_stretch(s, gap);
			if (rc)
				return rc;
		}
		if (!more || e.range.last >= r.last)
			return 0;
	}
}

/* Adds to (or, wrapping, takes from) the counts of all stretches of r. */
static void count(struct iof_space *s, struct iof_range r, uint64_t sign)
{
	struct iof_index_entry e;
	struct iof_range rest = r;
	uint64_t d;

	do {
		iof_index_first(s->reserved, rest, &e);
		d = IOFI_COVER;
		d += e.range.start == r.start ? IOFI_STARTS : 0;
		d += e.range.last == r.last ? IOFI_ENDS : 0;
		iof_index_set(s->reserved, e.range.start, e.value + d * sign);
		rest.start = e.range.last + 1;
	} while (e.range.last != r.last);
}

/* Removes the stretches of r that count nothing and the cuts at its ends that nobody needs. */
static void settle(struct iof_space *s, struct iof_range r)
{
	struct iof_index_entry e;
	struct iof_range rest = r;

	while (iof_index_first(s->reserved, rest, &e)) {
		if (!iofi_cover(e.value)) {
			iof_index_remove(s->reserved, e.range.start);
			iof_index_remove(s->used, e.range.start);
		}
		if (e.range.last >= r.last)
			break;
		rest.start = e.range.last + 1;
	}
	heal(s, r.start);
	if (r.last != UINT64_MAX)
		heal(s, r.last + 1);
}

static int owned_grow(struct iof_space *s)
{
	size_t room = s->owned_room ? s->owned_room * 2 : 8;
	struct iofi_owned *more;

	if (s->owned_n < s->owned_room)
		return 0;
	if (s->owned_n == IOFI_OWNED_MAX)
		return -ENOMEM;
	more = iof_mem_get(s->alloc, room * sizeof(*more), 16);
	if (!more)
		return -ENOMEM;
	if (s->owned_n)
		memcpy(more, s->owned, s->owned_n * sizeof(*more));
	iof_mem_put(s->alloc, s->owned, s->owned_room * sizeof(*more));
	s->owned = more;
	s->owned_room = room;
	return 0;
}

int iof_space_reserve(struct iof_space *s, struct iof_range r, uint64_t owner)
{
	struct iof_index_entry e;
	int rc;

	if (r.start > r.last)
		return -EINVAL;
	if (iof_space_first(s, r, &e) || (s->allowed && iof_index_first(s->allowed, r, &e)))
		return -EADDRINUSE;
	rc = owned_grow(s);
	if (rc)
		return rc;
	rc = cut(s, r.start);
	if (!rc && r.last != UINT64_MAX)
		rc = cut(s, r.last + 1);
	if (!rc)
		rc = fill(s, r);
	if (rc) {
		settle(s, r);
		return rc;
	}
	count(s, r, 1);
	s->owned[s->owned_n++] = (struct iofi_owned){ r, owner };
	return 0;
}

void iof_space_unreserve(struct iof_space *s, uint64_t owner)
{
	for (size_t i = 0; i < s->owned_n;) {
		struct iof_range r = s->owned[i].range;

		if (s->owned[i].owner != owner) {
			i++;
			continue;
		}
		s->owned[i] = s->owned[--s->owned_n];
		count(s, r, UINT64_MAX);
		settle(s, r);
	}
}

size_t iof_space_ranges(const struct iof_space *s, struct iof_range *out, size_t n)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry e;
	size_t found = 0;

	for (;;) {
		bool more = iof_index_first(s->reserved, rest, &e);
		struct iof_range hole = { rest.start, more ? e.range.start - 1 : UINT64_MAX };

		if (!more || e.range.start > rest.start) {
			if (found < n)
				out[found] = hole;
			found++;
		}
		if (!more || e.range.last == UINT64_MAX)
			return found;
		rest.start = e.range.last + 1;
	}
}

/* For one stretch: do its counts agree with the ranges, and does `used` hold it too? */
static bool stretch_valid(const struct iof_space *s, const struct iof_index_entry *e)
{
	uint64_t want = 0;
	struct iof_index_entry u;

	for (size_t i = 0; i < s->owned_n; i++) {
		struct iof_range r = s->owned[i].range;

		if (!iof_range_intersects(r, e->range))
			continue;
		if (!iof_range_contains(r, e->range))
			return false;
		want += IOFI_COVER + (r.start == e->range.start ? IOFI_STARTS : 0) +
			(r.last == e->range.last ? IOFI_ENDS : 0);
	}
	return iofi_cover(want) && want == e->value && iof_index_find(s->used, e->range.start, &u) &&
	       u.range.start == e->range.start && u.range.last == e->range.last && u.value == IOF_SPACE_RESERVED;
}

static bool owned_covered(const struct iof_space *s)
{
	struct iof_index_entry e;

	for (size_t i = 0; i < s->owned_n; i++) {
		struct iof_range r = s->owned[i].range;

		while (iof_index_find(s->reserved, r.start, &e) && e.range.last < r.last)
			r.start = e.range.last + 1;
		if (!iof_index_find(s->reserved, r.start, &e))
			return false;
	}
	return true;
}

bool iofi_space_reserved_valid(const struct iof_space *s)
{
	struct iof_index_entry e, before = { 0 };
	struct iof_range rest = IOF_RANGE_ALL;

	for (bool any = false; iof_index_first(s->reserved, rest, &e); any = true, before = e) {
		if (!stretch_valid(s, &e))
			return false;
		if (any && before.range.last + 1 == e.range.start && !iofi_ends(before.value) && !iofi_starts(e.value))
			return false;
		if (e.range.last == UINT64_MAX)
			break;
		rest.start = e.range.last + 1;
	}
	return owned_covered(s);
}
