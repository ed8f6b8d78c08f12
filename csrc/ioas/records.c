/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/records.h"

#include <errno.h>

int iof_records_create(struct iof_memory *m, struct iof_records **out)
{
	struct iof_records *r = iof_mem_zget(m->alloc, sizeof(*r), IOF_CACHELINE);

	if (!r)
		return -ENOMEM;
	iof_lock_init(&r->lock, m->alloc->shared);
	iof_slab_init_known(&r->whole, m->alloc, sizeof(struct iof_record));
	iof_slab_init(&r->bare, m->alloc, sizeof(struct iof_bare), 0);
	for (unsigned i = 0; i < IOF_STRIPES; i++)
		iof_lock_init(&r->stock[i].lock, m->alloc->shared);
	r->memory = m;
	*out = r;
	return 0;
}

static void records_free(struct iof_records *r)
{
	struct iof_alloc *a = r->memory->alloc;

	iof_slab_fini(&r->whole);
	iof_slab_fini(&r->bare);
	iof_mem_put(a, r, sizeof(*r));
}

void iof_records_orphan(struct iof_records *r)
{
	bool last;

	iof_lock_take(&r->lock);
	r->orphan = true;
	iof_stock_empty(r);
	last = !r->whole.live;
	iof_lock_drop(&r->lock);
	if (last)
		records_free(r);
}

struct iof_record *iof_records_get(struct iof_records *r)
{
	struct iof_record *rec = iof_slab_get(&r->whole);

	if (iof_unlikely(!rec))
		return NULL;
	rec->area = (struct iof_area){ 0 };
	return rec;
}

struct iof_bare *iof_records_get_bare(struct iof_records *r)
{
	struct iof_bare *bare = iof_slab_get(&r->bare);

	if (bare)
		*bare = (struct iof_bare){ .area = { .bare = true } };
	return bare;
}

static struct iof_records *home_of(const struct iof_record *rec)
{
	return iof_container_of(iof_slab_of(rec), struct iof_records, whole);
}

void iof_records_put(struct iof_records *r, struct iof_record *rec)
{
	iof_slab_put(&r->whole, rec);
}

/* Mostly there is nothing to it. */
static void finish(struct iof_pages *p, struct iof_memory *m)
{
	if (iof_unlikely(p->ext || p->kind != IOF_PAGES_USER))
		iof_pages_fini(p, m);
}

static bool pages_unref(struct iof_pages *p)
{
	return atomic_load_explicit(&p->refs, memory_order_acquire) == 1 ||
	       atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1;
}

struct iof_record *iof_area_put(struct iof_records *r, struct iof_area *area)
{
	struct iof_record *rec = iof_container_of(iof_area_pages(area), struct iof_record, pages);
	bool last = pages_unref(&rec->pages), bare = area->bare;

	if (iof_unlikely(bare))
		iof_slab_put(&r->bare, area);
	if (!last)
		return NULL;
	if (iof_unlikely(bare && home_of(rec) != r))
		return rec;
	finish(&rec->pages, r->memory);
	iof_records_put(r, rec);
	return NULL;
}

struct iof_record *iof_area_end(struct iof_records *r, struct iof_area *area)
{
	struct iof_record *rec = iof_container_of(area, struct iof_record, area);

	if (iof_unlikely(!pages_unref(&rec->pages)))
		return NULL;
	finish(&rec->pages, r->memory);
	return rec;
}

void iof_record_retire(struct iof_record *rec)
{
	struct iof_records *home;
	bool last;

	if (!rec)
		return;
	home = home_of(rec);
	iof_lock_take(&home->lock);
	iof_pages_fini(&rec->pages, home->memory);
	iof_records_put(home, rec);
	last = home->orphan && !home->whole.live;
	iof_lock_drop(&home->lock);
	if (last)
		records_free(home);
}
