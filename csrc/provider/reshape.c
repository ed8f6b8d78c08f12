/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing the memory of a mapping, and counting entries, on the engine. */
#include "iommufd_fast_reshape.h"

#include <errno.h>

#include "dispatch/call.h"
#include "ioas/hwpt.h"
#include "provider/engine.h"

static struct iof_ioas *ioas_of(struct iof_handle *h, uint32_t id)
{
	return (struct iof_ioas *)iof_object_get(&iofi_engine(h)->file.ctx->objects, id, IOF_OBJECT_IOAS);
}

int iofi_engine_replace(struct iof_handle *h, const struct iof_replace *rq)
{
	struct iof_map_request map = { .user_va = rq->address, .length = rq->length, .iova = rq->iova, .prot = iofi_prot_of(rq->flags),
				       .fixed = true };
	struct iof_ioas *ioas;
	int rc;

	if (rq->size != sizeof(*rq) || rq->flags & ~(uint32_t)(IOF_MAP_READABLE | IOF_MAP_WRITEABLE) || !map.prot ||
	    rq->policy > IOF_POLICY_IO_URING)
		return -EINVAL;
	ioas = ioas_of(h, rq->ioas_id);
	if (!ioas)
		return -ENOENT;
	map.policy = rq->policy ? (enum iof_hold_policy)(rq->policy - 1) : ioas->memory->policy;
	rc = iof_ioas_replace(ioas, &map);
	iof_object_put(&ioas->object);
	return rc;
}

/* ---- entries ---- */

struct stretch {
	struct iof_range at;
	uint64_t address;
	unsigned prot, kind;
	bool any;
};

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

static void finish(const struct stretch *s, uint64_t sizes, struct iof_ioas_entries *out)
{
	if (!s->any)
		return;
	out->coalesced++;
	out->fewest += leaves_for(sizes, s->at, s->address);
}

static void add_area(struct stretch *s, const struct iof_index_entry *e, uint64_t sizes, struct iof_ioas_entries *out)
{
	const struct iof_area *area = iofi_area_of(e);
	const struct iof_pages *pages = iof_area_pages(area);
	uint64_t address = iof_pages_source(pages) + iof_area_byte(area);

	out->mappings++;
	if (s->any && s->kind == IOF_PAGES_USER && pages->kind == IOF_PAGES_USER && s->prot == area->prot &&
	    s->at.last + 1 == e->range.start && s->address + iof_range_length(s->at) == address) {
		s->at.last = e->range.last;
		return;
	}
	finish(s, sizes, out);
	*s = (struct stretch){ e->range, address, area->prot, pages->kind, true };
}

/* Both locks. */
static void count(struct iof_ioas *ioas, struct iof_ioas_entries *out)
{
	uint64_t sizes = ioas->n_domains ? iof_pt_page_sizes(ioas->domains[0]->pt) : UINT64_C(0x40201000);
	struct iof_range from = IOF_RANGE_ALL;
	struct stretch s = { .any = false };
	struct iof_index_entry e;
	struct iof_pt_stats pt;

	while (iof_space_first(ioas->space, from, &e)) {
		add_area(&s, &e, sizes, out);
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	finish(&s, sizes, out);
	for (uint32_t i = 0; i < ioas->n_domains; i++) {
		iof_pt_stats(ioas->domains[i]->pt, &pt);
		for (unsigned k = 0; k < 64; k++)
			out->leaves[k] += pt.leaves[k];
	}
}

int iofi_engine_entries(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_entries *out)
{
	struct iof_ioas *ioas = ioas_of(h, ioas_id);

	if (!ioas)
		return -ENOENT;
	*out = (struct iof_ioas_entries){ .limit = UINT64_MAX };
	iof_rwlock_write(&ioas->domains_lock);
	iof_lock_take(&ioas->records->lock);
	count(ioas, out);
	iof_lock_drop(&ioas->records->lock);
	iof_rwlock_write_drop(&ioas->domains_lock);
	iof_object_put(&ioas->object);
	return 0;
}
