/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing the memory of a mapping.
 *
 * A new record is made and held beside the old one. Then the page tables are shut to readers, changed, and opened; the index gives the place
 * to the new record, and the old one goes as if unmapped. The domains lock is held for writing, so nothing is in transition and nobody maps or
 * unmaps meanwhile. What can fail comes before the index is touched.
 */
#include <errno.h>

#include "ioas/fill.h"
#include "ioas/machine.h"
#include "ioas/place.h"
#include "ioas/va.h"

struct replacement {
	struct iof_range at;
	struct iof_area *before;
	struct iof_record *now;
};

/* Under the IOVA lock: the mapping that is to be replaced. */
static int find_before(struct iof_ioas *ioas, struct replacement *p)
{
	struct iof_index_entry e;

	if (!iof_space_find(ioas->space, p->at.start, &e) || e.range.start != p->at.start || e.range.last != p->at.last)
		return -ENOENT;
	p->before = iofi_area_of(&e);
	if (p->before->accesses || p->before->locks || p->before->prevent)
		return -EBUSY;
	p->before->prevent = 1; /* from here on no access pins it */
	return 0;
}

static int make_now(struct iof_ioas *ioas, const struct iof_map_request *rq, struct iof_account *account, struct replacement *p)
{
	struct iof_record *rec;
	int rc;

	if ((rq->user_va | rq->iova | rq->length) & (ioas->alignment - 1))
		return -EINVAL;
	rec = iof_records_get(ioas->records);
	if (!rec)
		return -ENOMEM;
	rc = iof_pages_init_user(&rec->pages, ioas->memory, rq->user_va, rq->length, rq->prot & IOF_PROT_WRITE, rq->policy, account);
	if (rc) {
		iof_records_put(ioas->records, rec);
		return rc;
	}
	rec->area.first_byte = rq->user_va & IOF_PAGE_MASK;
	rec->area.prot = rq->prot & 7;
	p->now = rec;
	return 0;
}

static int show_now(struct iof_ioas *ioas, struct replacement *p)
{
	struct iof_area *now = &p->now->area;
	int rc = iofi_area_hold(ioas, now, p->at);

	if (rc)
		return rc;
	rc = ioas->va_index ? iofi_va_add(ioas, now, p->at) : 0;
	if (!rc) {
		rc = ioas->n_domains ? iofi_area_swap(ioas, p->before, now, p->at) : 0;
		if (rc && ioas->va_index)
			iofi_va_remove(ioas, now, p->at);
	}
	if (rc)
		iofi_area_let_go(ioas, now, p->at);
	return rc;
}

/* Whoever asks the index finds the new record from here on. The old one comes back when it has to go by other locks. */
static struct iof_record *take_over(struct iof_ioas *ioas, struct replacement *p)
{
	struct iof_record *elsewhere;

	if (ioas->va_index)
		iofi_va_remove(ioas, p->before, p->at);
	iofi_iova_take(ioas);
	iofi_area_set(&p->now->area, IOF_AREA_LIVE);
	iof_space_set(ioas->space, p->at.start, (uintptr_t)&p->now->area);
	iofi_iova_drop(ioas);
	/* An access that is at work may have found the old one. */
	iof_rwlock_write(&ioas->use_lock);
	iof_rwlock_write_drop(&ioas->use_lock);
	iofi_iova_take(ioas);
	iofi_area_let_go(ioas, p->before, p->at);
	elsewhere = iof_area_put(ioas->records, p->before);
	iofi_count(&ioas->records->count.maps, 1);
	iofi_count(&ioas->records->count.unmaps, 1);
	iofi_iova_drop(ioas);
	return elsewhere;
}

static int begin(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct replacement *p)
{
	int rc;

	iofi_iova_take(ioas);
	rc = find_before(ioas, p);
	if (!rc) {
		rc = make_now(ioas, rq, account, p);
		p->before->prevent = !rc;
	}
	iofi_iova_drop(ioas);
	return rc;
}

static int replace(struct iof_ioas *ioas, struct iof_map_request *rq, struct iof_account *account, struct replacement *p)
{
	int rc = begin(ioas, rq, account, p);

	if (rc)
		return rc;
	rc = show_now(ioas, p);
	if (!rc) {
		iof_record_retire(take_over(ioas, p));
		return 0;
	}
	iofi_iova_take(ioas);
	p->before->prevent = 0;
	iof_area_put(ioas->records, &p->now->area);
	iofi_iova_drop(ioas);
	return rc;
}

int iof_ioas_replace(struct iof_ioas *ioas, struct iof_map_request *rq)
{
	struct replacement p = { .before = NULL };
	struct iof_account *account;
	int rc = iof_range_make(rq->iova, rq->length, &p.at);

	if (!rc)
		rc = iof_context_account(ioas->ctx, &account);
	if (rc)
		return rc;
	iofi_domains_write(ioas);
	rc = replace(ioas, rq, account, &p);
	iofi_domains_write_drop(ioas);
	return rc;
}
