/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of maps: equal to as many single ones. What a batch needs is made ready before the IOVA lock is taken, all of it goes into the index under one lock, and runs of
 * equal neighbours in one step a leaf.
 */
#include <errno.h>
#include <string.h>

#include "ioas/fill.h"
#include "ioas/place.h"
#include "ioas/va.h"

static struct iof_record *record_of(const struct iof_index_entry *e)
{
	return iof_container_of(iofi_area_of(e), struct iof_record, area);
}

/* What is known of a batch before the lock: how many maps from this one on make a run, and the bits that the alignment has to allow. */
struct outlook {
	size_t run; /* 0: not for a run, something may be wrong with it */
	uint64_t bits;
};

/* A map of user memory that nothing but its alignment and a lack of room or memory can refuse, wherever it goes. */
static bool plain(const struct iof_map_request *rq)
{
	return !rq->file && rq->length && rq->length >> 63 == 0 && rq->user_va < UINT64_MAX - rq->length &&
	       (!rq->fixed || rq->iova <= UINT64_MAX - (rq->length - 1));
}

/* Two plain maps that differ in where they are only, and are to be side by side: if b is placed right after a, it will be. */
static bool mates(const struct iof_map_request *a, const struct iof_map_request *b)
{
	return a->length == b->length && a->prot == b->prot && a->policy == b->policy && a->fixed == b->fixed &&
	       iof_space_alike(a->user_va, b->user_va, a->length) && (!a->fixed || a->iova + a->length == b->iova);
}

static void look_out(const struct iof_map_request *rq, size_t n, struct outlook *at)
{
	struct outlook behind = { 0, 0 };

	while (n--) {
		if (!behind.run || !plain(&rq[n]) || !mates(&rq[n], &rq[n + 1]))
			behind = (struct outlook){ 0, 0 };
		behind.run = plain(&rq[n]) ? behind.run + 1 : 0;
		behind.bits |= (rq[n].user_va & IOF_PAGE_MASK) | rq[n].length | (rq[n].fixed ? rq[n].iova : 0);
		at[n] = behind;
	}
}

/* A batch under way. */
struct batch {
	struct iof_ioas *ioas;
	struct iof_map_request *rq;
	struct iof_account *account;
	size_t n;
	size_t wanted, ready; /* records: for all maps or, without any run, none; those before `ready` have one */
	bool used[IOF_BATCH]; /* it is the map's */
	struct outlook out[IOF_BATCH];
	struct iof_index_entry at[IOF_BATCH]; /* what goes into the index */
	struct iof_record *rec[IOF_BATCH];
};

/* ---- before the lock ---- */

/* The records of n mates from i on, as if they had their places: fixed ones have. */
static void fill_in(struct batch *b, size_t i, size_t n)
{
	const struct iof_map_request *rq = &b->rq[i];
	const struct iof_area area = { .first_byte = rq->user_va & IOF_PAGE_MASK, .prot = rq->prot & 7 };
	struct iof_pages pages;

	iof_pages_init_user(&pages, b->ioas->memory, rq->user_va, rq->length, rq->prot & IOF_PROT_WRITE, rq->policy, b->account);
	for (size_t k = 0; k < n; k++) {
		struct iof_record *rec = b->rec[i + k];

		rec->area = area;
		rec->pages = pages;
		rec->pages.base = iof_align_down(rq[k].user_va, IOF_PAGE_SIZE);
		b->at[i + k] = (struct iof_index_entry){ { rq[k].iova, rq[k].iova + (rq->length - 1) }, (uintptr_t)&rec->area };
	}
}

/* How many maps from i on go as a run: mates with records. */
static size_t run_at(const struct batch *b, size_t i)
{
	size_t left = b->ready > i ? b->ready - i : 0;

	return b->out[i].run < left ? b->out[i].run : left;
}

static void get_ready(struct batch *b)
{
	size_t runs = 0, k;

	look_out(b->rq, b->n, b->out);
	for (size_t i = 0; i < b->n; i++)
		runs += b->out[i].run > 1;
	b->wanted = runs ? b->n : 0;
	b->ready = runs ? iof_records_draw(b->ioas->records, b->rec, b->n) : 0;
	for (size_t i = 0; i < b->ready; i += k) {
		k = run_at(b, i);
		if (k > 1)
			fill_in(b, i, k);
		k += !k;
	}
}

/* ---- the index, under the IOVA lock ---- */

/* n mates. Returns how many went in; *rc: 0, or why the next one did not. */
static size_t insert_run(struct batch *b, size_t i, size_t n, int *rc)
{
	const struct iof_map_request *rq = &b->rq[i];
	size_t in;

	if (rq->fixed)
		in = iof_space_insert_run(b->ioas->space, &b->at[i], n, rc);
	else
		in = iof_space_take_run(b->ioas->space, rq->user_va, rq->length, b->ioas->alignment, &b->at[i], n, rc);
	memset(&b->used[i], true, in);
	return in;
}

/* With a record of its own. */
static size_t insert_one(struct batch *b, size_t i, int *rc)
{
	struct iof_record *rec;

	*rc = iofi_map_insert(b->ioas, &b->rq[i], b->account, &rec, &b->at[i].range);
	if (iof_likely(!*rc))
		b->at[i].value = (uintptr_t)&rec->area;
	return !*rc;
}

/* In transition, as many as go. *rc: why the next one did not. */
static size_t insert_batch(struct batch *b, int *rc)
{
	uint64_t bytes = 0;
	size_t i = 0, k;

	for (*rc = 0; i < b->n && !*rc; i += k) {
		k = b->out[i].bits & (b->ioas->alignment - 1) ? 0 : run_at(b, i);
		if (iof_unlikely(i >= b->ready && i < b->wanted)) {
			*rc = -ENOMEM;
			break;
		}
		k = k > 1 ? insert_run(b, i, k, rc) : insert_one(b, i, rc);
		bytes += k * b->rq[i].length;
	}
	iofi_count_maps(b->ioas, i, bytes);
	return i;
}

/* ---- after it ---- */

static void return_unused(struct batch *b)
{
	size_t left = 0;

	for (size_t i = 0; i < b->ready; i++)
		if (!b->used[i])
			b->rec[left++] = b->rec[i];
	if (left)
		iof_records_return(b->ioas->records, b->rec, left);
}

static size_t fill_batch(struct batch *b, size_t n, int *rc)
{
	size_t i;

	for (i = 0, *rc = 0; i < n; i++) {
		*rc = iofi_area_show(b->ioas, iofi_area_of(&b->at[i]), b->at[i].range);
		if (iof_unlikely(*rc))
			break;
	}
	return i;
}

static void hide(struct iof_ioas *ioas, struct iof_area *area, struct iof_range r)
{
	if (iof_unlikely(ioas->va_index))
		iofi_va_remove(ioas, area, r);
	iofi_area_unfill(ioas, area, r);
}

static void undo(struct batch *b, size_t filled, size_t n)
{
	while (n--) {
		if (n < filled)
			hide(b->ioas, iofi_area_of(&b->at[n]), b->at[n].range);
		iofi_withdraw(b->ioas, record_of(&b->at[n]), b->at[n].range);
	}
}

static void go_live(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		b->rq[i].iova = b->at[i].range.start;
		iofi_area_set(iofi_area_of(&b->at[i]), IOF_AREA_LIVE);
	}
}

int iof_ioas_map_batch(struct iof_ioas *ioas, struct iof_map_request *rq, size_t n, size_t *failed)
{
	struct batch b;
	size_t in;
	int rc = iof_context_account(ioas->ctx, &b.account), late;

	*failed = 0;
	if (iof_unlikely(rc))
		return rc;
	b.ioas = ioas;
	b.rq = rq;
	b.n = n;
	memset(b.used, false, sizeof(b.used));
	get_ready(&b);
	iofi_iova_take(ioas);
	in = insert_batch(&b, &late);
	iofi_iova_drop(ioas);
	return_unused(&b);
	*failed = fill_batch(&b, in, &rc);
	if (iof_likely(!rc))
		rc = late;
	if (iof_likely(!rc))
		go_live(&b);
	else
		undo(&b, *failed, in);
	return rc;
}
