/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHANGE_PROCESS: every container of a context gets another owner, or none does.
 *
 * Nothing may be pinned or released meanwhile, so all IOASes of the context are locked as for a page table that joins:
 * lock by lock, each kind ascending by id before the next kind, because who has one IOAS's outer lock may wait for
 * another's inner one.
 *
 * A container may be shown by many areas; it is counted at the first, which marks it, and changed at the first that
 * finds it marked.
 */
#include "ioas/process.h"

#include <errno.h>

#include "ioas/ioas.h"

struct change {
	struct iof_context *ctx;
	struct iof_account *payer[2]; /* the caller's, by mode: user, process; NULL: nothing to charge */
	uint64_t pages[2];
};

typedef void (*ioas_fn)(struct iof_ioas *ioas);

/* Under the control lock no IOAS comes or goes. */
static void each_ioas(struct iof_context *ctx, ioas_fn fn)
{
	for (struct iof_object *o = iof_object_next(&ctx->objects, 1); o; o = iof_object_next(&ctx->objects, o->id + 1))
		if (o->type == IOF_OBJECT_IOAS)
			fn((struct iof_ioas *)o);
}

static void lock_domains(struct iof_ioas *ioas)
{
	iofi_domains_write(ioas);
}

static void lock_use(struct iof_ioas *ioas)
{
	iof_rwlock_write(&ioas->use_lock);
}

static void lock_iova(struct iof_ioas *ioas)
{
	iofi_iova_take(ioas);
}

static void unlock(struct iof_ioas *ioas)
{
	iofi_iova_drop(ioas);
	iof_rwlock_write_drop(&ioas->use_lock);
	iofi_domains_write_drop(ioas);
}

typedef int (*area_fn)(struct change *c, struct iof_area *area);

static int each_area_of(struct iof_ioas *ioas, area_fn fn, struct change *c)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;
	int rc = 0;

	while (!rc && iof_space_first(ioas->space, from, &e)) {
		rc = fn(c, iofi_area_of(&e));
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
	return rc;
}

static int each_area(struct change *c, area_fn fn)
{
	struct iof_objects *t = &c->ctx->objects;
	int rc = 0;

	for (struct iof_object *o = iof_object_next(t, 1); o && !rc; o = iof_object_next(t, o->id + 1))
		if (o->type == IOF_OBJECT_IOAS)
			rc = each_area_of((struct iof_ioas *)o, fn, c);
	return rc;
}

static int check(struct change *c, struct iof_area *area)
{
	(void)c;
	if (atomic_load_explicit(&area->state, memory_order_acquire) != IOF_AREA_LIVE)
		return -EBUSY;
	return iof_area_pages(area)->kind == IOF_PAGES_FILE ? 0 : -EINVAL;
}

/*
 * Sums up what has to move. Every owner the caller will need is made here, so that the change itself needs no memory.
 */
static int count(struct change *c, struct iof_area *area)
{
	struct iof_account *old = iof_pages_owner(iof_area_pages(area)), *now;
	unsigned i;

	if (!old || iof_pages_mark(iof_area_pages(area), true))
		return 0;
	now = iof_account_mine(c->ctx->machine->accounts, old);
	if (!now)
		return -ENOMEM;
	if (!iof_account_moves(old, now))
		return 0;
	i = iof_account_mode(old) == IOF_ACCOUNT_PROCESS;
	c->payer[i] = now;
	c->pages[i] += iof_pages_pinned(iof_area_pages(area));
	return 0;
}

static int unmark(struct change *c, struct iof_area *area)
{
	(void)c;
	(void)iof_pages_mark(iof_area_pages(area), false);
	return 0;
}

/* The new owner has been charged for it all. */
static int change_owner(struct change *c, struct iof_area *area)
{
	struct iof_account *old = iof_pages_owner(iof_area_pages(area)), *now;

	if (!old || !iof_pages_mark(iof_area_pages(area), false))
		return 0;
	now = iof_account_mine(c->ctx->machine->accounts, old);
	if (iof_account_moves(old, now))
		iof_account_uncharge(old, iof_pages_pinned(iof_area_pages(area)));
	iof_pages_change_owner(iof_area_pages(area), now);
	return 0;
}

static int charge(struct change *c)
{
	struct iof_alloc *a = c->ctx->machine->memory.alloc;
	int rc = 0;

	for (unsigned i = 0; i < 2 && !rc; i++) {
		rc = iof_alloc_may_fail(a) ? -ENOMEM : iof_account_charge(c->payer[i], c->pages[i]);
		if (rc && i)
			iof_account_uncharge(c->payer[0], c->pages[0]);
	}
	return rc;
}

static int change_locked(struct change *c)
{
	int rc = each_area(c, check);

	if (rc)
		return rc;
	rc = each_area(c, count);
	if (!rc)
		rc = charge(c);
	(void)each_area(c, rc ? unmark : change_owner);
	return rc;
}

int iof_context_change_process(struct iof_context *ctx)
{
	struct change c = { .ctx = ctx };
	int rc;

	iof_lock_take(&ctx->control);
	each_ioas(ctx, lock_domains);
	each_ioas(ctx, lock_use);
	each_ioas(ctx, lock_iova);
	rc = change_locked(&c);
	each_ioas(ctx, unlock);
	iof_lock_drop(&ctx->control);
	return rc;
}
