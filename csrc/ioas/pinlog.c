/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/pinlog.h"

#include <errno.h>

#define FIRST_ROOM 16

/* Where the pair's chain starts. */
static uint32_t home_of(const struct iof_pinlog *log, uint64_t iova, uint64_t length)
{
	uint64_t h = (iova ^ length << 32 ^ length >> 32) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(h >> 32) & (log->room - 1);
}

/* The pair's slot, or the empty one where it would go. There is always an empty one. */
static struct iof_pin *slot_of(const struct iof_pinlog *log, uint64_t iova, uint64_t length)
{
	uint32_t i = home_of(log, iova, length);

	while (log->at[i].count && (log->at[i].iova != iova || log->at[i].length != length))
		i = (i + 1) & (log->room - 1);
	return &log->at[i];
}

static int grow(struct iof_pinlog *log, struct iof_alloc *a)
{
	struct iof_pinlog more = { .used = log->used, .room = log->room ? log->room * 2 : FIRST_ROOM };

	more.at = iof_mem_zget(a, more.room * sizeof(*more.at), 16);
	if (!more.at)
		return -ENOMEM;
	for (uint32_t i = 0; i < log->room; i++)
		if (log->at[i].count)
			*slot_of(&more, log->at[i].iova, log->at[i].length) = log->at[i];
	iof_mem_put(a, log->at, log->room * sizeof(*log->at));
	*log = more;
	return 0;
}

int iofi_pinlog_reserve(struct iof_pinlog *log, struct iof_alloc *a)
{
	return log->used + 1 > log->room / 4 * 3 ? grow(log, a) : 0;
}

void iofi_pinlog_add(struct iof_pinlog *log, uint64_t iova, uint64_t length)
{
	struct iof_pin *pin = slot_of(log, iova, length);

	log->used += !pin->count;
	*pin = (struct iof_pin){ iova, length, pin->count + 1 };
}

/* Closes the gap at `i`: an entry may move up if its chain starts at the gap or before it. */
static void close_gap(struct iof_pinlog *log, uint32_t i)
{
	uint32_t mask = log->room - 1, from;

	for (uint32_t j = (i + 1) & mask; log->at[j].count; j = (j + 1) & mask) {
		from = home_of(log, log->at[j].iova, log->at[j].length);
		if (((j - from) & mask) < ((j - i) & mask))
			continue;
		log->at[i] = log->at[j];
		i = j;
	}
	log->at[i].count = 0;
}

bool iofi_pinlog_remove(struct iof_pinlog *log, uint64_t iova, uint64_t length)
{
	struct iof_pin *pin = log->room ? slot_of(log, iova, length) : NULL;

	if (!pin || !pin->count)
		return false;
	if (--pin->count)
		return true;
	log->used--;
	close_gap(log, (uint32_t)(pin - log->at));
	return true;
}

uint64_t iofi_pinlog_count(const struct iof_pinlog *log, uint64_t iova, uint64_t length)
{
	return log->room ? slot_of(log, iova, length)->count : 0;
}

void iofi_pinlog_fini(struct iof_pinlog *log, struct iof_alloc *a)
{
	iof_mem_put(a, log->at, log->room * sizeof(*log->at));
	*log = (struct iof_pinlog){ 0 };
}
