/* SPDX-License-Identifier: Apache-2.0 */
#include "provider/entries.h"

#include "util/bits.h"

/* Leaves for a range: the largest that fit where both sides are aligned alike. */
static uint64_t leaves_for(uint64_t sizes, struct iof_range r, uint64_t address)
{
	uint64_t n = 0, at = r.start, left;

	for (;;) {
		unsigned limit = iof_ctz((at | address)), by_length;
		uint64_t fit;

		left = r.last - at;
		by_length = left == UINT64_MAX ? 63 : iof_log2(left + 1);
		fit = sizes & iof_low_mask((limit < by_length ? limit : by_length) + 1);
		if (!fit)
			return n + 1; /* smaller than a page: counted as one */
		n++;
		fit = UINT64_C(1) << iof_log2(fit);
		if (left == fit - 1)
			return n;
		at += fit;
		address += fit;
	}
}

static bool goes_on(const struct iofi_stretch *s, const struct iofi_stretch *next)
{
	return s->joins && next->joins && s->prot == next->prot && s->at.last + 1 == next->at.start &&
	       s->address + iof_range_length(s->at) == next->address;
}

void iofi_count_end(struct iofi_count *c)
{
	if (!c->any)
		return;
	c->out->coalesced++;
	c->out->fewest += leaves_for(c->sizes, c->last.at, c->last.address);
	c->any = false;
}

void iofi_count_add(struct iofi_count *c, const struct iofi_stretch *next)
{
	c->out->mappings++;
	if (c->any && goes_on(&c->last, next)) {
		c->last.at.last = next->at.last;
		return;
	}
	iofi_count_end(c);
	c->last = *next;
	c->any = true;
}
