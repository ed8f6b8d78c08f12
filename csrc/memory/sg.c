/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter lists: pieces of memory one behind the other in the device's eyes.
 *
 * The place is asked for, then taken by fixed maps; when somebody else was faster there (EEXIST), it is asked for again. What is mapped
 * when an entry is refused is one range without holes, and goes by one unmap.
 */
#include <errno.h>
#include <string.h>

#include "iommufd_fast_memory.h"
#include "memory/place.h"
#include "util/bits.h"
#include "util/range.h"

#define TRIES 8
#define CHUNK 128u
#define RANGES 64u
#define FLAGS ((uint32_t)(IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE))

/* ---- what is asked for ---- */

/* The pages of an entry; what is in front of the first and behind the last is mapped too. */
static void whole(const struct iof_map_sg *sg, size_t i, uint64_t *address, uint64_t *length)
{
	uint64_t end = sg->addresses[i] + sg->lengths[i];

	*address = i ? sg->addresses[i] : iof_align_down(sg->addresses[i], IOF_PAGE_SIZE);
	if (i == sg->n - 1)
		end = (end + IOF_PAGE_MASK) & ~IOF_PAGE_MASK;
	*length = end - *address;
}

static int check_entry(const struct iof_map_sg *sg, size_t i, uint64_t *total)
{
	struct iof_range r;
	uint64_t address, length;
	int rc = iof_range_make(sg->addresses[i], sg->lengths[i], &r);

	if (rc)
		return rc;
	if (r.last > UINT64_MAX - IOF_PAGE_SIZE)
		return -EOVERFLOW;
	whole(sg, i, &address, &length);
	if ((address | length) & IOF_PAGE_MASK)
		return -EINVAL;
	return __builtin_add_overflow(*total, length, total) ? -EOVERFLOW : 0;
}

static int check(struct iof_map_sg *sg, uint64_t *total)
{
	int rc = 0;

	*total = 0;
	sg->failed = sg->n;
	if (!sg->n || sg->flags & ~FLAGS || !(sg->flags & FLAGS & ~(uint32_t)IOF_MAP_FIXED_IOVA))
		return -EINVAL;
	for (size_t i = 0; i < sg->n && !rc; i++) {
		rc = check_entry(sg, i, total);
		if (rc)
			sg->failed = i;
	}
	if (!rc && sg->flags & IOF_MAP_FIXED_IOVA && (sg->iova ^ sg->addresses[0]) & IOF_PAGE_MASK)
		rc = -EINVAL;
	return rc;
}

/* ---- the place ---- */

/* For a provider that does not tell: the lowest hole, mapping by mapping. */
static int search_in(struct iof_handle *ctx, uint32_t ioas_id, struct iof_uapi_range range, uint64_t length, uint64_t align, uint64_t *iova)
{
	struct iof_mapping_info info;
	uint64_t start = range.start ? range.start : align; /* 0 is nothing to many a device */
	int rc;

	while (iof_align_up(start, align, &start) && start <= range.last && range.last - start >= length - 1) {
		rc = iof_ioas_mapping(ctx, ioas_id, start, start + (length - 1), &info);
		if (rc == -ENOENT) {
			*iova = start;
			return 0;
		}
		if (rc || info.last == UINT64_MAX)
			return rc ? rc : -ENOSPC;
		start = info.last + 1;
	}
	return -ENOSPC;
}

static int search(struct iof_handle *ctx, uint32_t ioas_id, uint64_t length, uint64_t *iova)
{
	struct iof_uapi_range ranges[RANGES];
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = ioas_id, .num_iovas = RANGES,
					      .allowed_iovas = (uintptr_t)ranges };
	int rc = iof_ioctl(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c);

	if (rc && rc != -EMSGSIZE)
		return rc;
	if (c.out_iova_alignment < IOF_PAGE_SIZE)
		c.out_iova_alignment = IOF_PAGE_SIZE;
	rc = -ENOSPC;
	for (uint32_t i = 0; i < c.num_iovas && i < RANGES && rc == -ENOSPC; i++)
		rc = search_in(ctx, ioas_id, ranges[i], length, c.out_iova_alignment, iova);
	return rc;
}

int iofi_find_place(struct iof_handle *ctx, uint32_t ioas_id, uint64_t address, uint64_t total, uint64_t *iova)
{
	int rc = iof_iova_place(ctx, ioas_id, iof_align_down(address, IOF_PAGE_SIZE), total, iova);

	return rc == -EOPNOTSUPP ? search(ctx, ioas_id, total, iova) : rc;
}

/* ---- mapping ---- */

static void undo(struct iof_handle *ctx, const struct iof_map_sg *sg, uint64_t iova, uint64_t mapped)
{
	struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = sg->ioas_id, .iova = iova, .length = mapped };

	if (mapped)
		(void)iof_ioctl(ctx, IOF_CMD_IOAS_UNMAP, &c);
}

/* Entries [from, from + n) at iova; *iova: behind them. */
static int map_chunk(struct iof_handle *ctx, struct iof_map_sg *sg, size_t from, size_t n, uint64_t *iova)
{
	uint64_t addresses[CHUNK], lengths[CHUNK], iovas[CHUNK];
	struct iof_map_many many = { .ioas_id = sg->ioas_id, .flags = sg->flags | IOF_MAP_FIXED_IOVA, .policy = sg->policy, .n = n,
				     .addresses = addresses, .lengths = lengths, .iovas = iovas };
	int rc;

	for (size_t i = 0; i < n; i++) {
		whole(sg, from + i, &addresses[i], &lengths[i]);
		iovas[i] = *iova;
		*iova += lengths[i];
	}
	rc = iof_map_many(ctx, &many);
	sg->failed = rc ? from + many.failed : sg->n;
	if (!rc && sg->iovas)
		memcpy(sg->iovas + from, iovas, n * sizeof(*iovas));
	return rc;
}

static int map_at(struct iof_handle *ctx, struct iof_map_sg *sg, uint64_t iova)
{
	uint64_t next = iova, before;
	size_t n;
	int rc;

	for (size_t i = 0; i < sg->n; i += n) {
		n = sg->n - i < CHUNK ? sg->n - i : CHUNK;
		before = next;
		rc = map_chunk(ctx, sg, i, n, &next);
		if (rc) {
			undo(ctx, sg, iova, before - iova);
			return rc;
		}
	}
	sg->iova = iova + (sg->addresses[0] & IOF_PAGE_MASK);
	if (sg->iovas)
		sg->iovas[0] = sg->iova;
	return 0;
}

int iof_map_sg(struct iof_handle *ctx, struct iof_map_sg *sg)
{
	uint64_t total, iova;
	int rc = check(sg, &total);

	if (rc)
		return rc;
	if (sg->flags & IOF_MAP_FIXED_IOVA) {
		iova = iof_align_down(sg->iova, IOF_PAGE_SIZE);
		return iova > UINT64_MAX - total ? -EOVERFLOW : map_at(ctx, sg, iova);
	}
	for (int i = 0; i < TRIES; i++) {
		rc = iofi_find_place(ctx, sg->ioas_id, sg->addresses[0], total, &iova);
		if (!rc)
			rc = map_at(ctx, sg, iova);
		if (rc != -EEXIST)
			break;
	}
	return rc;
}
