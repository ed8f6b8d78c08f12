/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stocks of free records. A batch needs dozens, and filling them in takes longer than putting them into the index: with a stock that can be done before the IOVA lock is taken,
 * and giving them back after it is dropped. What a thread gives back is what it gets next.
 */
#include "ioas/records.h"

#define STOCK_MAX 512u
#define STOCK_FILL 64u /* more than are needed, when the slab has to be asked */

static void push(struct iof_stock *s, struct iof_record *rec)
{
	*(struct iof_record **)rec = s->free;
	s->free = rec;
	s->n++;
}

static struct iof_record *pop(struct iof_stock *s)
{
	struct iof_record *rec = s->free;

	s->free = *(struct iof_record **)rec;
	s->n--;
	return rec;
}

static size_t pop_many(struct iof_stock *s, struct iof_record **out, size_t n)
{
	size_t i;

	iof_lock_take(&s->lock);
	for (i = 0; i < n && s->free; i++)
		out[i] = pop(s);
	iof_lock_drop(&s->lock);
	return i;
}

static size_t get_from_slab(struct iof_records *r, struct iof_record **out, size_t n)
{
	size_t got;

	iof_lock_take(&r->lock);
	got = iof_slab_get_many(&r->whole, (void **)out, n);
	iof_lock_drop(&r->lock);
	return got;
}

/* From the slab, with some for the stock: only whoever needs one now may be told that there is none. */
static size_t get_more(struct iof_records *r, struct iof_record **out, size_t n)
{
	struct iof_record *more[STOCK_FILL];
	size_t got = get_from_slab(r, out, n);

	if (got == n)
		iof_records_return(r, more, get_from_slab(r, more, STOCK_FILL));
	return got;
}

size_t iof_records_draw(struct iof_records *r, struct iof_record **out, size_t n)
{
	size_t got;

	/* Failures that are asked for come at the slab's steps. */
	if (iof_unlikely(atomic_load_explicit(&r->memory->alloc->fail_countdown, memory_order_relaxed)))
		return get_from_slab(r, out, n);
	got = pop_many(&r->stock[iof_stripe()], out, n);
	return iof_likely(got == n) ? n : got + get_more(r, out + got, n - got);
}

void iof_records_return(struct iof_records *r, struct iof_record *const *rec, size_t n)
{
	struct iof_stock *s = &r->stock[iof_stripe()];
	size_t i;

	iof_lock_take(&s->lock);
	for (i = 0; i < n && s->n < STOCK_MAX; i++)
		push(s, rec[i]);
	iof_lock_drop(&s->lock);
	if (iof_likely(i == n))
		return;
	iof_lock_take(&r->lock);
	for (; i < n; i++)
		iof_records_put(r, rec[i]);
	iof_lock_drop(&r->lock);
}

void iof_stock_empty(struct iof_records *r)
{
	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		iof_lock_take(&r->stock[i].lock);
		while (r->stock[i].free)
			iof_records_put(r, pop(&r->stock[i]));
		iof_lock_drop(&r->stock[i].lock);
	}
}

uint64_t iof_records_in_use(struct iof_records *r)
{
	uint64_t n = r->whole.live;

	for (unsigned i = 0; i < IOF_STRIPES; i++) {
		iof_lock_take(&r->stock[i].lock);
		n -= r->stock[i].n;
		iof_lock_drop(&r->stock[i].lock);
	}
	return n;
}
