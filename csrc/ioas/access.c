/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses: their life, and coming to and leaving an IOAS. What they do there is in access_use.c. */
#include "ioas/access.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/* ---- life ---- */

static struct iof_alloc *alloc_of(const struct iof_access *a)
{
	return a->ctx->machine->memory.alloc;
}

/* The second user is the creator's: no DESTROY gets past it. */
static int make_object(struct iof_context *ctx, struct iof_access *a)
{
	int rc = iof_object_reserve(&ctx->objects, &a->object, IOF_OBJECT_ACCESS);

	if (rc)
		return rc;
	iof_object_publish(&a->object);
	iof_object_ref(&a->object);
	return 0;
}

int iof_access_make(struct iof_context *ctx, const struct iof_access_options *opt, struct iof_access **out)
{
	struct iof_alloc *alloc = ctx->machine->memory.alloc;
	struct iof_access *a = iof_mem_zget(alloc, sizeof(*a), 16);
	int rc;

	if (!a)
		return -ENOMEM;
	a->ctx = ctx;
	a->needs_pin = opt->needs_pin;
	a->internal = opt->internal;
	a->unmap = opt->unmap;
	a->data = opt->data;
	iof_lock_init(&a->lock, alloc->shared);
	if (!a->internal)
		iof_lock_take(&ctx->control);
	rc = make_object(ctx, a);
	if (!a->internal)
		iof_lock_drop(&ctx->control);
	if (rc) {
		iof_mem_put(alloc, a, sizeof(*a));
		return rc;
	}
	if (!a->internal)
		iof_context_ref(ctx);
	*out = a;
	return 0;
}

static int try_remove(struct iof_access *a)
{
	int rc;

	iof_lock_take(&a->ctx->control);
	rc = iof_object_remove(&a->ctx->objects, &a->object);
	iof_lock_drop(&a->ctx->control);
	return rc;
}

/*
 * It left its IOAS first, so no new call-back begins; one that runs in another thread is waited for without the
 * control lock.
 */
void iof_access_destroy(struct iof_access *a)
{
	struct iof_context *ctx = a->ctx;
	struct iof_alloc *alloc = alloc_of(a);
	bool internal = a->internal;

	iof_access_detach(a);
	iof_object_put(&a->object);
	if (internal)
		iof_object_remove_wait(&ctx->objects, &a->object);
	else
		while (try_remove(a))
			sched_yield();
	iof_mem_put(alloc, a, sizeof(*a));
	if (!internal)
		iof_context_unref(ctx);
}

/* ---- the IOAS's list ---- */

static int list_room(struct iof_ioas *ioas)
{
	uint32_t room = ioas->access_room ? ioas->access_room * 2 : 4;
	struct iof_access **at;

	if (ioas->n_accesses < ioas->access_room)
		return 0;
	if (ioas->n_accesses == IOF_ACCESS_MAX)
		return -EBUSY;
	at = iof_mem_zget(ioas->memory->alloc, room * sizeof(*at), 16);
	if (!at)
		return -ENOMEM;
	if (ioas->access_room)
		memcpy(at, ioas->accesses, ioas->access_room * sizeof(*at));
	iof_mem_put(ioas->memory->alloc, ioas->accesses, ioas->access_room * sizeof(*at));
	ioas->accesses = at;
	ioas->access_room = room;
	return 0;
}

static void list_remove(struct iof_ioas *ioas, struct iof_access *a, uint32_t id)
{
	ioas->accesses[id] = NULL;
	if (id < ioas->lowest_access)
		ioas->lowest_access = id;
	ioas->n_accesses--;
	ioas->n_pinning -= a->needs_pin;
}

/* Takes the lowest free registration id; all areas must bear the alignment that the access asks for (R3.4.3). */
static int list_add(struct iof_ioas *ioas, struct iof_access *a, uint32_t *id)
{
	int rc = list_room(ioas);

	if (rc)
		return rc;
	for (*id = ioas->lowest_access; ioas->accesses[*id];)
		++*id;
	ioas->accesses[*id] = a;
	ioas->lowest_access = *id + 1;
	ioas->n_accesses++;
	ioas->n_pinning += a->needs_pin;
	if (iofi_ioas_alignment(ioas) > ioas->alignment)
		rc = iofi_ioas_check_alignment(ioas, iofi_ioas_alignment(ioas));
	if (rc)
		list_remove(ioas, a, *id);
	ioas->alignment = iofi_ioas_alignment(ioas);
	return rc;
}

static int enroll(struct iof_ioas *ioas, struct iof_access *a, uint32_t *id)
{
	int rc;

	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
	rc = list_add(ioas, a, id);
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
	return rc;
}

static void leave(struct iof_ioas *ioas, struct iof_access *a, uint32_t id)
{
	iofi_domains_write(ioas);
	iofi_iova_take(ioas);
	list_remove(ioas, a, id);
	ioas->alignment = iofi_ioas_alignment(ioas);
	iofi_iova_drop(ioas);
	iofi_domains_write_drop(ioas);
	iof_object_put(&ioas->object);
}

void iofi_access_notify(struct iof_ioas *ioas, struct iof_range r)
{
	struct iof_access *a;

	iofi_iova_take(ioas);
	for (uint32_t id = 0; id < ioas->access_room; id++) {
		a = ioas->accesses[id];
		if (!a || a->internal || !a->unmap)
			continue;
		iof_object_ref(&a->object);
		iofi_iova_drop(ioas);
		a->unmap(a->data, r.start, iof_range_length(r));
		/* Our reference went with the call: the IOAS's lock may be taken again, `a` not be looked at. */
		iof_object_put(&a->object);
		iofi_iova_take(ioas);
	}
	iofi_iova_drop(ioas);
}

/* ---- attach, replace, detach ---- */

/* Its user is to let go of everything; what it leaves is taken from it. Access lock, dropped meanwhile. */
static void vacate(struct iof_access *a, struct iof_ioas *cur, uint32_t id)
{
	if (!a->internal && a->unmap) {
		iof_lock_drop(&a->lock);
		a->unmap(a->data, 0, UINT64_MAX);
		iof_lock_take(&a->lock);
	}
	iofi_access_unpin_all(a, cur);
	leave(cur, a, id);
}

/* R7.3. NULL: detach. Access lock. */
static int change(struct iof_access *a, struct iof_ioas *new)
{
	struct iof_ioas *cur = a->ioas;
	uint32_t id = 0, old_id = a->registration;
	int rc;

	if (cur != a->ioas_unpin)
		return -EBUSY;
	if (cur == new)
		return 0;
	a->ioas = NULL;
	if (new) {
		rc = enroll(new, a, &id);
		if (rc) {
			a->ioas = cur;
			return rc;
		}
		iof_object_ref(&new->object);
	}
	if (cur)
		vacate(a, cur, old_id);
	a->registration = id;
	a->ioas = a->ioas_unpin = new;
	return 0;
}

static int change_to_id(struct iof_access *a, uint32_t ioas_id)
{
	struct iof_object *o = iof_object_get(&a->ctx->objects, ioas_id, IOF_OBJECT_IOAS);
	int rc;

	if (!o)
		return -ENOENT;
	rc = change(a, (struct iof_ioas *)o);
	iof_object_put(o);
	return rc;
}

int iof_access_attach(struct iof_access *a, uint32_t ioas_id)
{
	int rc;

	iof_lock_take(&a->lock);
	rc = a->ioas ? -EINVAL : change_to_id(a, ioas_id);
	iof_lock_drop(&a->lock);
	return rc;
}

int iofi_access_attach_ioas(struct iof_access *a, struct iof_ioas *ioas)
{
	int rc;

	iof_lock_take(&a->lock);
	rc = a->ioas ? -EINVAL : change(a, ioas);
	iof_lock_drop(&a->lock);
	return rc;
}

int iof_access_replace(struct iof_access *a, uint32_t ioas_id)
{
	int rc;

	iof_lock_take(&a->lock);
	rc = a->ioas ? change_to_id(a, ioas_id) : -ENOENT;
	iof_lock_drop(&a->lock);
	return rc;
}

void iof_access_detach(struct iof_access *a)
{
	iof_lock_take(&a->lock);
	if (a->ioas)
		change(a, NULL);
	iof_lock_drop(&a->lock);
}

bool iofi_access_is_valid(const struct iof_access *a)
{
	struct iof_ioas *ioas = a->ioas;

	if (iof_object_users(&a->object) != 2 || ioas != a->ioas_unpin)
		return false;
	if (!ioas)
		return !a->pins.used;
	return a->registration < ioas->access_room && ioas->accesses[a->registration] == a;
}
