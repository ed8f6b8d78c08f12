/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing the memory of a mapping, and counting entries, on the engine. */
#include "iommufd_fast_reshape.h"

#include <errno.h>

#include "dispatch/call.h"
#include "ioas/hwpt.h"
#include "provider/engine.h"
#include "provider/entries.h"

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

static void add_area(struct iofi_count *c, const struct iof_index_entry *e)
{
	const struct iof_area *area = iofi_area_of(e);
	const struct iof_pages *pages = iof_area_pages(area);

	iofi_count_add(c, &(struct iofi_stretch){ .at = e->range,
						  .address = iof_pages_source(pages) + iof_area_byte(area),
						  .prot = area->prot,
						  .joins = pages->kind == IOF_PAGES_USER });
}

/* Both locks. */
static void count(struct iof_ioas *ioas, struct iof_ioas_entries *out)
{
	struct iofi_count c = { .out = out, .sizes = IOFI_USUAL_SIZES };
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	struct iof_pt_stats pt;

	if (ioas->n_domains)
		c.sizes = iof_pt_page_sizes(ioas->domains[0]->pt);
	while (iof_space_first(ioas->space, from, &e)) {
		add_area(&c, &e);
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	iofi_count_end(&c);
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
	*out = (struct iof_ioas_entries){ .limit = UINT64_MAX, .has_leaves = true };
	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
	count(ioas, out);
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
	iof_object_put(&ioas->object);
	return 0;
}
