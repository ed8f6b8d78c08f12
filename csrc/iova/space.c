/* SPDX-License-Identifier: Apache-2.0 */
/* IOVA spaces: areas, the allowed list and automatic placement. Reserved ranges are in space_reserve.c. */
#include "iova/space_priv.h"

int iof_space_create(struct iof_alloc *a, struct iof_space **out)
{
	struct iof_space *s = iof_mem_zget(a, sizeof(*s), 16);

	if (!s)
		return -ENOMEM;
	s->alloc = a;
	if (iof_index_create(a, &s->used) || iof_index_create(a, &s->reserved)) {
		iof_space_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void iof_space_destroy(struct iof_space *s)
{
	if (!s)
		return;
	iof_index_destroy(s->used);
	iof_index_destroy(s->reserved);
	iof_index_destroy(s->allowed);
	iof_mem_put(s->alloc, s->owned, s->owned_room * sizeof(*s->owned));
	iof_mem_put(s->alloc, s, sizeof(*s));
}

/* A new allowed list, complete and in itself sound; NULL for an empty one. */
static int allowed_make(struct iof_space *s, const struct iof_range *ranges, size_t n, struct iof_index **out)
{
	struct iof_index *ix = NULL;
	int rc = n ? iof_index_create(s->alloc, &ix) : 0;

	for (size_t i = 0; i < n && !rc; i++) {
		rc = ranges[i].start < ranges[i].last ? iof_index_insert(ix, ranges[i], 0) : -EINVAL;
		if (rc == -EEXIST)
			rc = -EINVAL;
	}
	if (rc) {
		iof_index_destroy(ix);
		return rc;
	}
	*out = ix;
	return 0;
}

int iof_space_allow(struct iof_space *s, const struct iof_range *ranges, size_t n)
{
	struct iof_index *ix = NULL;
	struct iof_index_entry e;
	int rc = allowed_make(s, ranges, n, &ix);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (iof_index_first(s->reserved, ranges[i], &e)) {
			iof_index_destroy(ix);
			return -EADDRINUSE;
		}
	iof_index_destroy(s->allowed);
	s->allowed = ix;
	return 0;
}

int iof_space_check(const struct iof_space *s, struct iof_range r)
{
	struct iof_index_entry e;

	if (!iof_index_first(s->used, r, &e))
		return 0;
	return iof_index_first(s->reserved, r, &e) ? -EINVAL : -EEXIST;
}

size_t iof_space_allowed(const struct iof_space *s, struct iof_range *out, size_t n)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry e;
	size_t found = 0;

	while (s->allowed && rest.start <= rest.last && iof_index_first(s->allowed, rest, &e)) {
		if (found < n)
			out[found] = e.range;
		found++;
		if (e.range.last == UINT64_MAX)
			break;
		rest.start = e.range.last + 1;
	}
	return found;
}

/* The next window for automatic placement at or above `from`: allowed ranges that adjoin count as one. */
static bool window_next(const struct iof_space *s, uint64_t from, struct iof_range *w)
{
	const struct iof_range whole = { IOF_PAGE_SIZE, UINT64_MAX - IOF_PAGE_SIZE };
	struct iof_index_entry e;

	if (from > whole.last)
		return false;
	if (!s->allowed) {
		*w = whole;
		return from <= whole.start;
	}
	if (!iof_index_first(s->allowed, (struct iof_range){ from > whole.start ? from : whole.start, whole.last }, &e))
		return false;
	*w = e.range;
	while (w->last < whole.last && iof_index_find(s->allowed, w->last + 1, &e))
		w->last = e.range.last;
	*w = iof_range_clip(*w, whole);
	return true;
}

struct wish {
	uint64_t length, align, or_bits;
};

static bool window_place(struct iof_space *s, struct iof_range w, const struct wish *wish, uint64_t *iova)
{
	uint64_t at;

	if (!iof_align_up(w.start, wish->align, &at))
		return false;
	at |= wish->or_bits;
	if (at >= w.last || w.last - at < wish->length - 1)
		return false;
	w.start = at;
	return iof_index_hole(s->used, w, wish->length, wish->align, wish->or_bits, iova);
}

static int wish_of(uint64_t addr, uint64_t length, uint64_t alignment, struct wish *wish)
{
	if (!length || length >= UINT64_MAX / 2)
		return -EOVERFLOW;
	wish->length = length;
	wish->or_bits = addr & IOF_PAGE_MASK;
	wish->align = iof_space_steering(addr, length);
	return wish->align < alignment ? -EINVAL : 0;
}

/* *last: where the window ends that the place is in. */
static int place(struct iof_space *s, const struct wish *wish, uint64_t *iova, uint64_t *last)
{
	struct iof_range w = { 0, 0 };

	for (uint64_t from = 0; window_next(s, from, &w); from = w.last + 1)
		if (window_place(s, w, wish, iova)) {
			*last = w.last;
			return 0;
		}
	return -ENOSPC;
}

int iof_space_place(struct iof_space *s, uint64_t addr, uint64_t length, uint64_t alignment, uint64_t *iova)
{
	struct wish wish;
	uint64_t last;
	int rc = wish_of(addr, length, alignment, &wish);

	return rc ? rc : place(s, &wish, iova, &last);
}

int iof_space_insert(struct iof_space *s, struct iof_range r, uint64_t value)
{
	int rc = iof_index_insert(s->used, r, value);

	if (iof_unlikely(rc == -EEXIST))
		return iof_space_check(s, r);
	return rc;
}

/*
 * Of n such wishes, the first of which goes to `iova`: how many go side by side from there, as far as the window is concerned?
 *
 * What a wish leaves of its hole below itself does not take the next, which is like it, nor do the holes below. So the next goes to the first
 * place behind it that is right, and that is directly behind it if the length keeps the alignment and the bits. A single byte is different: it
 * does not go to the last byte of a hole.
 */
static size_t side_by_side(const struct wish *wish, uint64_t iova, uint64_t last, size_t n)
{
	uint64_t most;

	if (wish->length & (wish->align - 1) || (wish->or_bits && wish->length & IOF_PAGE_MASK) || wish->length == 1)
		return 1;
	most = (last - iova + 1) / wish->length;
	return most < n ? (size_t)most : n;
}

size_t iof_space_take_run(struct iof_space *s, uint64_t addr, uint64_t length, uint64_t alignment, struct iof_index_entry *e, size_t n,
			  int *rc)
{
	struct wish wish;
	uint64_t iova, last;
	size_t done = 0, k;

	*rc = wish_of(addr, length, alignment, &wish);
	while (!*rc && done < n) {
		*rc = place(s, &wish, &iova, &last);
		if (*rc)
			break;
		k = side_by_side(&wish, iova, last, n - done);
		for (size_t i = done; i < done + k; i++, iova += length)
			e[i].range = (struct iof_range){ iova, iova + (length - 1) };
		done += iof_index_insert_run(s->used, e + done, k, rc);
		if (*rc == -EEXIST)
			*rc = 0; /* the hole is full */
	}
	return done;
}

size_t iof_space_insert_run(struct iof_space *s, const struct iof_index_entry *e, size_t n, int *rc)
{
	size_t done = iof_index_insert_run(s->used, e, n, rc);

	if (*rc == -EEXIST)
		*rc = iof_space_check(s, e[done].range);
	return done;
}

size_t iof_space_match(const struct iof_space *s, const uint64_t *starts, const uint64_t *lengths, size_t n, uint64_t *values)
{
	size_t found = iof_index_match(s->used, starts, lengths, n, values);

	for (size_t i = 0; i < found; i++)
		if (values[i] == IOF_SPACE_RESERVED)
			return i;
	return found;
}

void iof_space_remove_many(struct iof_space *s, const uint64_t *starts, size_t n)
{
	iof_index_remove_many(s->used, starts, n);
}

void iof_space_remove(struct iof_space *s, uint64_t start)
{
	iof_index_remove(s->used, start);
}

void iof_space_set(struct iof_space *s, uint64_t start, uint64_t value)
{
	iof_index_set(s->used, start, value);
}

int iof_space_split(struct iof_space *s, uint64_t start, uint64_t left_last, uint64_t value)
{
	return iof_index_split(s->used, start, left_last, value);
}

bool iof_space_is_reserved(const struct iof_space *s, struct iof_range r)
{
	struct iof_index_entry e;

	return iof_index_first(s->reserved, r, &e);
}

int iof_space_spare_get(struct iof_space *s, uint64_t n, struct iof_index_spare *spare)
{
	return iof_index_spare_get(s->used, n, spare);
}

void iof_space_spare_put(struct iof_space *s, struct iof_index_spare *spare)
{
	iof_index_spare_put(s->used, spare);
}

void iof_space_sure(struct iof_space *s, bool sure)
{
	iof_index_sure(s->used, sure);
}

bool iof_space_find(const struct iof_space *s, uint64_t at, struct iof_index_entry *out)
{
	return iof_index_find(s->used, at, out) && out->value != IOF_SPACE_RESERVED;
}

bool iof_space_first(const struct iof_space *s, struct iof_range r, struct iof_index_entry *out)
{
	while (iof_index_first(s->used, r, out)) {
		if (out->value != IOF_SPACE_RESERVED)
			return true;
		if (out->range.last >= r.last)
			return false;
		r.start = out->range.last + 1;
	}
	return false;
}

void iof_space_find_many(const struct iof_space *s, const uint64_t *at, size_t n, uint64_t *values)
{
	iof_index_find_many(s->used, at, n, IOF_SPACE_RESERVED, values);
}

void iof_space_find_entries(const struct iof_space *s, const uint64_t *at, size_t n, struct iof_index_entry *entries)
{
	iof_index_find_entries(s->used, at, n, entries);
	for (size_t i = 0; i < n; i++)
		if (entries[i].value == IOF_SPACE_RESERVED)
			entries[i].range = (struct iof_range){ 1, 0 };
}

uint64_t iof_space_areas(const struct iof_space *s)
{
	return iof_index_count(s->used) - iof_index_count(s->reserved);
}

/* The index holds as many reserved entries as there are stretches: none that is in no list. */
static bool used_valid(const struct iof_space *s)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry e;
	uint64_t areas = 0;

	while (iof_space_first(s, rest, &e)) {
		areas++;
		if (e.range.last == UINT64_MAX)
			break;
		rest.start = e.range.last + 1;
	}
	return areas == iof_space_areas(s);
}

static bool allowed_valid(const struct iof_space *s)
{
	struct iof_range rest = IOF_RANGE_ALL;
	struct iof_index_entry e, met;

	while (iof_index_first(s->allowed, rest, &e)) {
		if (iof_index_first(s->reserved, e.range, &met))
			return false;
		if (e.range.last == UINT64_MAX)
			break;
		rest.start = e.range.last + 1;
	}
	return iof_index_is_valid(s->allowed);
}

bool iof_space_is_valid(const struct iof_space *s)
{
	return iof_index_is_valid(s->used) && iof_index_is_valid(s->reserved) && iofi_space_reserved_valid(s) &&
	       used_valid(s) && (!s->allowed || allowed_valid(s));
}

void iof_space_stats(const struct iof_space *s, struct iof_index_stats *out)
{
	iof_index_stats(s->used, out);
}
