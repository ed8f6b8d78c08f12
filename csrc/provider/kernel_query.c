/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a context in the kernel and answered from the ledger. None of it waits for a system call of another thread. */
#include <errno.h>

#include "provider/entries.h"
#include "provider/kernel.h"

/* ---- translate ---- */

/* Somebody whom the ledger does not know has attached it: the kernel would let us use everything otherwise. */
static bool is_restricted(struct iofi_kioas *io)
{
	bool restricted;

	iof_lock_take(&io->lock);
	restricted = !iofi_kranges_all(&io->usable);
	iof_lock_drop(&io->lock);
	return restricted;
}

/* As the engine: an IOAS means its oldest page table, and needs one; a page table is its IOAS's ledger. */
static int ioas_of(struct iofi_kcontext *ctx, uint32_t pt_id, struct iofi_kioas **out)
{
	struct iofi_kobject *o, *below;
	int rc = -ENOENT;

	iof_lock_take(&ctx->lock);
	o = iofi_kobject_find(ctx, pt_id);
	below = o ? iofi_kobject_find(ctx, o->ioas_id) : NULL;
	if (o)
		rc = (o->kind != IOFI_KIOAS && o->kind != IOFI_KHWPT) || o->nested ? -EINVAL : 0;
	if (!rc && (!below || !below->ioas))
		rc = -ENODEV;
	if (!rc && o->kind == IOFI_KIOAS && !iofi_kioas_tables(ctx, pt_id) && !is_restricted(below->ioas))
		rc = -ENODEV;
	if (!rc) {
		*out = below->ioas;
		atomic_fetch_add_explicit(&below->ioas->refs, 1, memory_order_relaxed);
	}
	iof_lock_drop(&ctx->lock);
	return rc;
}

/* Has somebody attached it since we looked last? */
static bool have_changed(struct iofi_kcontext *ctx, uint32_t ioas_id)
{
	struct iofi_kioas *io = iofi_kioas_get(ctx, ioas_id);
	bool changed = io && iofi_kspace_read(ctx, io);

	if (io)
		iofi_kioas_put(io);
	return changed;
}

static uint8_t prot_of(uint32_t flags)
{
	return (uint8_t)((flags & IOF_MAP_READABLE ? 1 : 0) | (flags & IOF_MAP_WRITEABLE ? 2 : 0));
}

static bool translate_one(struct iofi_kioas *io, uint64_t iova, uint64_t *address, uint8_t *prot)
{
	struct iofi_kmap *m = iofi_kmap_first(io, (struct iof_range){ iova, iova });
	bool found = m && m->state == IOFI_KMAP_LIVE && m->address != IOFI_NO_ADDRESS;

	*address = found ? m->address + (iova - m->range.start) : UINT64_MAX;
	if (prot)
		*prot = found ? prot_of(m->flags) : 0;
	return found;
}

int64_t iofi_kernel_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
			      uint8_t *prots)
{
	struct iofi_kioas *io;
	int64_t found = 0;
	int rc = ioas_of(iofi_kcontext(h), pt_id, &io);

	if (rc == -ENODEV && have_changed(iofi_kcontext(h), pt_id))
		rc = ioas_of(iofi_kcontext(h), pt_id, &io);
	if (rc)
		return rc;
	iof_lock_take(&io->lock);
	for (size_t i = 0; i < n; i++)
		found += translate_one(io, iovas[i], &addresses[i], prots ? &prots[i] : NULL);
	iof_lock_drop(&io->lock);
	iofi_kioas_put(io);
	return found;
}

/* ---- endpoints ---- */

static struct iof_endpoint_info info_of(struct iofi_kcontext *ctx, const struct iofi_kend *end)
{
	const struct iofi_kobject *dev = iofi_kobject_find(ctx, end->dev_id);

	return (struct iof_endpoint_info){
		.dev_id = end->dev_id,
		.pasid = end->pasid,
		.hwpt_id = end->hwpt_id,
		.ioas_id = end->hwpt_id ? iofi_kioas_below(ctx, end->hwpt_id) : 0,
		.device = dev ? dev->device : UINT32_MAX,
		.group = dev ? dev->group : UINT32_MAX,
	};
}

int64_t iofi_kernel_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n,
			      struct iof_endpoint_info *out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iof_endpoint_info e;
	size_t found = 0;

	iof_lock_take(&ctx->lock);
	for (const struct iofi_kend *end = ctx->ends; end; end = end->next) {
		e = info_of(ctx, end);
		if ((dev_id && e.dev_id != dev_id) || (ioas_id && e.ioas_id != ioas_id))
			continue;
		if (found < n)
			out[found] = e;
		found++;
	}
	iof_lock_drop(&ctx->lock);
	return (int64_t)found;
}

/* ---- statistics ---- */

static uint32_t ends_at(const struct iofi_kcontext *ctx, uint32_t hwpt_id)
{
	uint32_t n = 0;

	for (const struct iofi_kend *end = ctx->ends; end; end = end->next)
		n += end->hwpt_id == hwpt_id;
	return n;
}

int iofi_kernel_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kobject *o;
	int rc = -ENOENT;

	*out = (struct iof_hwpt_stats){ .ioas_id = 0 };
	iof_lock_take(&ctx->lock);
	o = iofi_kobject_find(ctx, hwpt_id);
	if (o && o->kind == IOFI_KHWPT && !o->nested) {
		out->ioas_id = o->ioas_id;
		out->automatic = o->automatic;
		out->tracking = o->tracking;
		out->endpoints = ends_at(ctx, hwpt_id);
		rc = 0;
	}
	iof_lock_drop(&ctx->lock);
	return rc;
}

static void count_users(struct iofi_kcontext *ctx, uint32_t ioas_id, struct iof_ioas_stats *out)
{
	iof_lock_take(&ctx->lock);
	out->hwpts = iofi_kioas_tables(ctx, ioas_id);
	for (const struct iofi_kend *end = ctx->ends; end; end = end->next)
		out->endpoints += end->hwpt_id && iofi_kioas_below(ctx, end->hwpt_id) == ioas_id;
	iof_lock_drop(&ctx->lock);
}

static void count_records(struct iofi_kioas *io, struct iof_ioas_stats *out)
{
	struct iof_index_stats index;

	iof_lock_take(&io->lock);
	iof_index_stats(io->maps, &index);
	out->mappings = iof_index_count(io->maps);
	out->bytes_mapped = io->bytes;
	out->maps = io->n_maps;
	out->unmaps = io->n_unmaps;
	out->copies = io->n_copies;
	out->alignment = io->alignment;
	out->index_bytes = index.bytes;
	out->record_bytes = io->records.live * io->records.object_size;
	iof_lock_drop(&io->lock);
}

int iofi_kernel_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out)
{
	struct iofi_kcontext *ctx = iofi_kcontext(h);
	struct iofi_kioas *io = iofi_kioas_get(ctx, ioas_id);
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_GET, .object_id = ioas_id };

	if (!io)
		return -ENOENT;
	*out = (struct iof_ioas_stats){ .mappings = 0 };
	count_users(ctx, ioas_id, out);
	count_records(io, out);
	if (!iofi_kcall(ctx, IOF_CMD_OPTION, &c))
		out->large_pages = (uint32_t)c.val64;
	iofi_kioas_put(io);
	return 0;
}

int iof_kernel_ioas_counts(struct iof_handle *h, uint32_t ioas_id, struct iof_kernel_counts *out)
{
	struct iofi_kioas *io;

	if (!iofi_kcontext_is(h))
		return -EINVAL;
	io = iofi_kioas_get(iofi_kcontext(h), ioas_id);
	if (!io)
		return -ENOENT;
	iof_lock_take(&io->lock);
	*out = io->counts;
	iof_lock_drop(&io->lock);
	iofi_kioas_put(io);
	return 0;
}

/* ---- mappings ---- */

static struct iofi_kmap *first_live(struct iofi_kioas *io, struct iof_range r)
{
	struct iofi_kmap *m;

	while ((m = iofi_kmap_first(io, r)) && m->state != IOFI_KMAP_LIVE) {
		if (m->range.last >= r.last)
			return NULL;
		r.start = m->range.last + 1;
	}
	return m;
}

int iofi_kernel_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out)
{
	struct iofi_kioas *io = start <= last ? iofi_kioas_get(iofi_kcontext(h), ioas_id) : NULL;
	struct iofi_kmap *m;

	if (!io)
		return -ENOENT;
	iof_lock_take(&io->lock);
	m = first_live(io, (struct iof_range){ start, last });
	if (m)
		*out = (struct iof_mapping_info){ m->range.start, m->range.last, m->address, m->flags, 0 };
	iof_lock_drop(&io->lock);
	iofi_kioas_put(io);
	return m ? 0 : -ENOENT;
}

static void add_record(struct iofi_count *c, const struct iofi_kmap *m)
{
	iofi_count_add(c, &(struct iofi_stretch){ .at = m->range,
						  .address = m->address,
						  .prot = m->flags & (IOF_MAP_READABLE | IOF_MAP_WRITEABLE),
						  .joins = !(m->flags & IOF_MAPPING_FILE) && m->address != IOFI_NO_ADDRESS });
}

int iofi_kernel_entries(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_entries *out)
{
	struct iofi_kioas *io = iofi_kioas_get(iofi_kcontext(h), ioas_id);
	struct iofi_count c = { .out = out, .sizes = IOFI_USUAL_SIZES };
	struct iof_range r = IOF_RANGE_ALL;
	struct iofi_kmap *m;

	if (!io)
		return -ENOENT;
	*out = (struct iof_ioas_entries){ .limit = UINT64_MAX };
	iof_lock_take(&io->lock);
	while ((m = first_live(io, r))) {
		add_record(&c, m);
		if (m->range.last == UINT64_MAX)
			break;
		r.start = m->range.last + 1;
	}
	iofi_count_end(&c);
	iof_lock_drop(&io->lock);
	iofi_kioas_put(io);
	return 0;
}

/* Where a map would go if it were one of several in a row: in the ordered part of the space, not in a window of recycle's. */
int iofi_kernel_place(struct iof_handle *h, uint32_t ioas_id, uint64_t address, uint64_t length, uint64_t *iova)
{
	struct iofi_kioas *io = iofi_kioas_get(iofi_kcontext(h), ioas_id);
	int rc;

	if (!io)
		return -ENOENT;
	iof_lock_take(&io->lock);
	rc = iofi_kspace_row(io, address, length, iova);
	iof_lock_drop(&io->lock);
	iofi_kioas_put(io);
	return rc;
}
