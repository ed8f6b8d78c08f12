/* SPDX-License-Identifier: Apache-2.0 */
/* Batches on the engine: one look-up of the IOAS, then the same steps as single calls. */
#include <errno.h>

#include "dispatch/call.h"
#include "ioas/hwpt.h"
#include "provider/engine.h"

/* Its gate read. NULL: no such IOAS. */
static struct iof_ioas *ioas_of(struct iof_handle *h, uint32_t id)
{
	struct iof_object *o;

	return iof_object_enter(&iofi_engine(h)->file.ctx->objects, id, false, &o) ? NULL : (struct iof_ioas *)o;
}

/* ---- map_many ---- */

static int request_of(const struct iof_ioas *ioas, const struct iof_map_many *many, size_t i, struct iof_map_request *rq)
{
	*rq = (struct iof_map_request){
		.user_va = many->addresses[i],
		.length = many->lengths[i],
		.prot = iofi_prot_of(many->flags),
		.fixed = many->flags & IOF_MAP_FIXED_IOVA,
		.policy = many->policy ? (enum iof_hold_policy)(many->policy - 1) : ioas->memory->policy,
	};
	if (rq->fixed)
		rq->iova = many->iovas[i];
	return rq->length == UINT64_MAX || rq->iova == UINT64_MAX ? -EOVERFLOW : 0;
}

/* The batch that begins at entry `first`: *n entries, or the errno of entry many->failed and none of the batch mapped. */
static int map_batch(struct iof_ioas *ioas, struct iof_map_many *many, size_t first, size_t *n)
{
	struct iof_map_request rq[IOF_BATCH];
	size_t most = many->n - first < IOF_BATCH ? many->n - first : IOF_BATCH;
	int bad = 0, rc;

	for (*n = 0; *n < most && !bad; *n += !bad)
		bad = request_of(ioas, many, first + *n, &rq[*n]);
	rc = iof_ioas_map_batch(ioas, rq, *n, &many->failed);
	many->failed += first;
	for (size_t i = 0; i < *n && !rc; i++)
		many->iovas[first + i] = rq[i].iova;
	return rc;
}

static void undo(struct iof_ioas *ioas, const struct iof_map_many *many, size_t n)
{
	struct iof_range r;
	uint64_t bytes;

	while (n--)
		if (!iof_range_make(many->iovas[n], many->lengths[n], &r))
			iof_ioas_unmap(ioas, r, false, &bytes);
}

static int map_all(struct iof_ioas *ioas, struct iof_map_many *many)
{
	size_t n;
	int rc = 0;

	for (size_t i = 0; i < many->n; i += n) {
		rc = map_batch(ioas, many, i, &n);
		iof_object_give_way(&ioas->object);
		if (iof_likely(!rc && n))
			continue;
		undo(ioas, many, i);
		many->failed = rc ? many->failed : i;
		return rc ? rc : -EOVERFLOW; /* no entry of this batch could be asked for */
	}
	return 0;
}

int iofi_engine_map_many(struct iof_handle *h, struct iof_map_many *many)
{
	struct iof_ioas *ioas;
	int rc;

	many->failed = 0;
	if (many->flags & ~(uint32_t)(IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE))
		return -EOPNOTSUPP;
	if (many->policy > IOF_POLICY_IO_URING || !iofi_prot_of(many->flags))
		return -EINVAL;
	ioas = ioas_of(h, many->ioas_id);
	if (!ioas)
		return -ENOENT;
	rc = map_all(ioas, many);
	iof_object_leave(&ioas->object);
	return rc;
}

/* ---- unmap_many ---- */

static void answer(struct iof_unmap_many *many, size_t i, int rc, uint64_t bytes)
{
	if (many->unmapped)
		many->unmapped[i] = bytes;
	if (many->errors)
		many->errors[i] = rc;
}

/* As many from entry `first` on as go in one batch: how many. */
static size_t unmap_batch(struct iof_ioas *ioas, struct iof_unmap_many *many, size_t first)
{
	size_t most = many->n - first < IOF_BATCH ? many->n - first : IOF_BATCH;
	size_t n = iof_ioas_unmap_batch(ioas, many->iovas + first, many->lengths + first, most);

	for (size_t i = first; i < first + n; i++)
		answer(many, i, 0, many->lengths[i]);
	return n;
}

int64_t iofi_engine_unmap_many(struct iof_handle *h, struct iof_unmap_many *many)
{
	struct iof_ioas *ioas = ioas_of(h, many->ioas_id);
	int64_t good = 0;
	uint64_t bytes;
	size_t n;
	int rc;

	if (!ioas)
		return -ENOENT;
	for (size_t i = 0; i < many->n; i += n) {
		n = unmap_batch(ioas, many, i);
		iof_object_give_way(&ioas->object);
		good += (int64_t)n;
		if (iof_likely(n))
			continue;
		rc = iof_unmap_request(ioas, many->iovas[i], many->lengths[i], false, &bytes);
		good += !rc;
		answer(many, i, rc, bytes);
		n = 1;
	}
	iof_object_leave(&ioas->object);
	return good;
}

/* ---- translate ---- */

/* So many at a time: an unmap waits for a read section, so it is kept to a few microseconds. */
#define SECTION ((size_t)1024)

/* The page table that pt_id means, with one user. An IOAS means its oldest. */
static int table_of(struct iof_context *ctx, uint32_t pt_id, struct iof_hwpt **out)
{
	struct iof_object *o = iof_object_get(&ctx->objects, pt_id, IOF_OBJECT_ANY);
	struct iof_hwpt *hwpt = (struct iof_hwpt *)o;
	int rc = 0;

	if (!o)
		return -ENOENT;
	if (o->type == IOF_OBJECT_IOAS) {
		iof_lock_take(&ctx->control);
		hwpt = ((struct iof_ioas *)o)->first_hwpt;
		if (hwpt)
			iof_object_ref(&hwpt->object);
		iof_lock_drop(&ctx->control);
		iof_object_put(o);
		rc = hwpt ? 0 : -ENODEV;
	} else if (o->type != IOF_OBJECT_HWPT) {
		iof_object_put(o);
		rc = -EINVAL;
	}
	*out = hwpt;
	return rc;
}

int64_t iofi_engine_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
			      uint8_t *prots)
{
	struct iof_hwpt *hwpt;
	int64_t found = 0;
	unsigned token;
	size_t part;
	int rc = table_of(iofi_engine(h)->file.ctx, pt_id, &hwpt);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i += part) {
		part = n - i < SECTION ? n - i : SECTION;
		token = iofi_hwpt_enter(hwpt);
		found += (int64_t)iof_pt_translate_many(hwpt->pt, iovas + i, part, addresses + i, prots ? prots + i : NULL);
		iof_rsec_leave(&hwpt->rsec, token);
	}
	iof_object_put(&hwpt->object);
	return found;
}

/* ---- leaves ---- */

/* Some at a time, each in a section of its own; r is what is left. */
static size_t some_leaves(struct iof_hwpt *hwpt, struct iof_range *r, size_t n, struct iof_leaf_info *out, bool *more)
{
	unsigned token = iofi_hwpt_enter(hwpt);
	struct iof_pt_leaf leaf;
	size_t found = 0;

	while (found < n && *more) {
		uint64_t last;

		*more = !iof_pt_next_leaf(hwpt->pt, *r, &leaf);
		if (!*more)
			break;
		last = leaf.iova | iof_low_mask(leaf.size_lg2);
		out[found++] = (struct iof_leaf_info){ leaf.iova, leaf.address, leaf.size_lg2, leaf.prot };
		*more = last < r->last;
		r->start = *more ? last + 1 : r->start;
	}
	iof_rsec_leave(&hwpt->rsec, token);
	return found;
}

int64_t iofi_engine_leaves(struct iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n, struct iof_leaf_info *out)
{
	struct iof_range r = { start, last };
	struct iof_hwpt *hwpt;
	size_t found = 0;
	bool more = true;
	int rc = start > last ? -EINVAL : table_of(iofi_engine(h)->file.ctx, pt_id, &hwpt);

	if (rc)
		return rc;
	while (more && found < n)
		found += some_leaves(hwpt, &r, n - found < SECTION ? n - found : SECTION, out + found, &more);
	iof_object_put(&hwpt->object);
	return (int64_t)found;
}
