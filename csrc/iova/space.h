/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An IOVA space: used ranges, reserved ranges, allowed ranges, and the choice of a place by the kernel's rule.
 *
 * Used ranges ("areas") and the union of the reserved ranges stand together in one index, so that a search for a hole sees
 * both. Reserved ranges may overlap each other; each has an owner and goes with it. Allowed ranges confine automatic placement
 * only (R3.3.1).
 *
 * Rules: behaviour.md 3.2, 3.3, 3.5.2, 3.6bis. Errors are the contract's. Not locked.
 */
#ifndef IOF_IOVA_SPACE_H
#define IOF_IOVA_SPACE_H

#include "iova/index.h"

struct iof_space;

/* What iof_index entries of a space hold for a reserved stretch, instead of an area's value. */
#define IOF_SPACE_RESERVED UINT64_MAX

/* The automatic alignment's cap (HPAGE_SIZE of a kernel with transparent huge pages). */
#define IOF_SPACE_CAP (UINT64_C(2) << 20)

int iof_space_create(struct iof_alloc *a, struct iof_space **out); /* 0, -ENOMEM */
void iof_space_destroy(struct iof_space *s);

/* Adds a reserved range. -EADDRINUSE: meets an area or an allowed range; -ENOMEM; -EINVAL: start > last. State unchanged on error. */
int iof_space_reserve(struct iof_space *s, struct iof_range r, uint64_t owner);
void iof_space_unreserve(struct iof_space *s, uint64_t owner); /* all of that owner's; needs no memory, cannot fail */

/* Replaces the allowed list: -EINVAL start >= last or overlap; -EADDRINUSE meets a reserved range; -ENOMEM. n = 0 clears. State unchanged on error. */
int iof_space_allow(struct iof_space *s, const struct iof_range *ranges, size_t n);

/* The allowed list, ascending; writes at most n, returns how many there are. */
size_t iof_space_allowed(const struct iof_space *s, struct iof_range *out, size_t n);

/* Maximal holes of the reserved set over [0, 2^64-1], ascending; writes at most n, returns how many there are. */
size_t iof_space_ranges(const struct iof_space *s, struct iof_range *out, size_t n);

/* May an area be put at r? -EINVAL: meets a reserved range; -EEXIST: meets an area. */
int iof_space_check(const struct iof_space *s, struct iof_range r);

/*
 * The kernel's automatic choice for a source at `addr` (its low bits steer alignment) of `length` bytes, with the space's
 * `alignment`: 0 and *iova; -EOVERFLOW length 0 or >= 2^63-1 (ULONG_MAX/2); -EINVAL the wanted alignment is below `alignment`; -ENOSPC.
 */
int iof_space_place(struct iof_space *s, uint64_t addr, uint64_t length, uint64_t alignment, uint64_t *iova);

/* The alignment that a source at `addr` asks for: its own, but no more than the length's next power of two and the cap. length < 2^63. */
static inline uint64_t iof_space_steering(uint64_t addr, uint64_t length)
{
	uint64_t most = iof_pow2_ceil(length);

	most = most > IOF_SPACE_CAP ? IOF_SPACE_CAP : most;
	return (addr | most) & -(addr | most);
}

/* Do sources at these two addresses steer the choice for `length` bytes alike? */
static inline bool iof_space_alike(uint64_t a, uint64_t b, uint64_t length)
{
	return !((a ^ b) & IOF_PAGE_MASK) && iof_space_steering(a, length) == iof_space_steering(b, length);
}

/*
 * n areas of `length` bytes, for sources that steer alike: placed and inserted as n times iof_space_place() and iof_space_insert() would, one after
 * the other. e[i].value is given, e[i].range the answer. Returns how many went in; *rc: 0, or what those say of the next.
 */
size_t iof_space_take_run(struct iof_space *s, uint64_t addr, uint64_t length, uint64_t alignment, struct iof_index_entry *e, size_t n,
			  int *rc);

/* n areas side by side: each begins right behind the one before. Returns how many went in; *rc: 0, or what iof_space_insert() says of the next. */
size_t iof_space_insert_run(struct iof_space *s, const struct iof_index_entry *e, size_t n, int *rc);

/* values[i] of the area that is exactly `lengths[i]` bytes from starts[i]. Returns how many there are before the first that is none. */
size_t iof_space_match(const struct iof_space *s, const uint64_t *starts, const uint64_t *lengths, size_t n, uint64_t *values);
void iof_space_remove_many(struct iof_space *s, const uint64_t *starts, size_t n); /* by their starts: all are there */

/* Areas. insert: -EINVAL/-EEXIST as iof_space_check(), -ENOMEM. value != IOF_SPACE_RESERVED. remove: by start; needs no memory. */
int iof_space_insert(struct iof_space *s, struct iof_range r, uint64_t value);
void iof_space_remove(struct iof_space *s, uint64_t start);
/* Is any of r reserved? */
bool iof_space_is_reserved(const struct iof_space *s, struct iof_range r);
/* As the index's, for areas: memory for n insertions, and insertions that are never told to fail. */
int iof_space_spare_get(struct iof_space *s, uint64_t n, struct iof_index_spare *spare);
void iof_space_spare_put(struct iof_space *s, struct iof_index_spare *spare);
void iof_space_sure(struct iof_space *s, bool sure);
/* Gives the area that starts at `start` another value. Needs no memory. */
void iof_space_set(struct iof_space *s, uint64_t start, uint64_t value);
/* Cuts the area at `start` in two; the right part, behind left_last, gets `value`. -ENOENT, -EINVAL: no such cut; -ENOMEM: nothing changed. */
int iof_space_split(struct iof_space *s, uint64_t start, uint64_t left_last, uint64_t value);
/* As the index's, but areas only: reserved stretches are skipped over. */
bool iof_space_find(const struct iof_space *s, uint64_t at, struct iof_index_entry *out);
bool iof_space_first(const struct iof_space *s, struct iof_range r, struct iof_index_entry *out);
/* values[i]: the value of the area at at[i], or IOF_SPACE_RESERVED when there is none. */
void iof_space_find_many(const struct iof_space *s, const uint64_t *at, size_t n, uint64_t *values);
/* The same with whole entries; where there is no area, start is 1 and last 0. */
void iof_space_find_entries(const struct iof_space *s, const uint64_t *at, size_t n, struct iof_index_entry *entries);

uint64_t iof_space_areas(const struct iof_space *s); /* how many */
bool iof_space_is_valid(const struct iof_space *s);
void iof_space_stats(const struct iof_space *s, struct iof_index_stats *out);

#endif
