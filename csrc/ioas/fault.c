/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/fault.h"

#include <errno.h>

#include "util/guard.h"

#define RECORD sizeof(struct iof_fault_record)
#define RESPONSE sizeof(struct iof_fault_response)

_Static_assert(RECORD == 40 && RESPONSE == 8, "the kernel's sizes");

struct fault_page {
	struct fault_page *next; /* in order of arrival */
	uint64_t addr;
	uint32_t flags, perm;
};

/* Whom to answer, and for what. */
struct asker {
	iof_fault_answer answer;
	void *who;
	uint32_t pasid, grpid;
};

struct iof_fault_group {
	struct iof_fault_group *next;
	const void *endpoint;
	struct asker asker; /* answer and who: once complete */
	uint32_t dev_id;
	uint32_t n; /* pages */
	uint32_t cookie; /* outstanding: not 0 */
	struct fault_page *last, first;
};

/* ---- life ---- */

int iof_fault_create(struct iof_context *ctx, struct iof_fault **out)
{
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_fault *f = iof_mem_zget(a, sizeof(*f), IOF_CACHELINE);
	int rc = f ? iof_object_reserve(&ctx->objects, &f->object, IOF_OBJECT_FAULT) : -ENOMEM;

	if (rc) {
		iof_mem_put(a, f, sizeof(*f));
		return rc;
	}
	f->alloc = a;
	f->bell.fd = -1;
	iof_lock_init(&f->lock, a->shared);
	iofi_cookies_init(&f->outstanding, a);
	iof_slab_init(&f->groups, a, sizeof(struct iof_fault_group), 4096);
	iof_slab_init(&f->pages, a, sizeof(struct fault_page), 4096);
	*out = f;
	return 0;
}

static void destroy(struct iof_fault *f)
{
	iofi_cookies_fini(&f->outstanding);
	iof_slab_fini(&f->groups);
	iof_slab_fini(&f->pages);
	iof_mem_put(f->alloc, f, sizeof(*f));
}

void iof_fault_abort(struct iof_context *ctx, struct iof_fault *f)
{
	iof_object_abort(&ctx->objects, &f->object);
	destroy(f);
}

/* ---- groups ---- */

static void list_append(struct iof_fault_list *l, struct iof_fault_group *g)
{
	g->next = NULL;
	if (l->last)
		l->last->next = g;
	else
		l->first = g;
	l->last = g;
}

static struct iof_fault_group *list_pop(struct iof_fault_list *l)
{
	struct iof_fault_group *g = l->first;

	l->first = g->next;
	if (!l->first)
		l->last = NULL;
	return g;
}

static struct iof_fault_group *group_new(struct iof_fault *f, const struct iof_fault_request *rq)
{
	struct iof_fault_group *g = iof_slab_get(&f->groups);

	if (!g)
		return NULL;
	*g = (struct iof_fault_group){ .endpoint = rq->endpoint, .asker = { .pasid = rq->pasid, .grpid = rq->grpid },
				       .dev_id = rq->dev_id, .n = 1, .first = { NULL, rq->addr, rq->flags, rq->perm } };
	g->last = &g->first;
	return g;
}

static bool group_add(struct iof_fault *f, struct iof_fault_group *g, const struct iof_fault_request *rq)
{
	struct fault_page *p = iof_slab_get(&f->pages);

	if (!p)
		return false;
	*p = (struct fault_page){ NULL, rq->addr, rq->flags, rq->perm };
	g->last->next = p;
	g->last = p;
	g->n++;
	return true;
}

static void group_free(struct iof_fault *f, struct iof_fault_group *g)
{
	for (struct fault_page *p = g->first.next, *next; p; p = next) {
		next = p->next;
		iof_slab_put(&f->pages, p);
	}
	iof_slab_put(&f->groups, g);
}

static void answer(const struct asker *a, uint32_t code)
{
	if (a->answer)
		a->answer(a->who, a->pasid, a->grpid, code);
}

/* ---- producing ---- */

static struct iof_fault_group **partial_bucket(struct iof_fault *f, const struct iof_fault_request *rq)
{
	uint64_t key = ((uintptr_t)rq->endpoint >> 4) * UINT64_C(0x9e3779b97f4a7c15) + rq->grpid;

	return &f->partial[(key ^ key >> 32) % IOF_FAULT_PARTIAL_BUCKETS];
}

/* Where the link to the request's partial group is; *link is NULL when there is none. */
static struct iof_fault_group **partial_find(struct iof_fault *f, const struct iof_fault_request *rq)
{
	struct iof_fault_group **link = partial_bucket(f, rq);

	while (*link && ((*link)->endpoint != rq->endpoint || (*link)->asker.grpid != rq->grpid))
		link = &(*link)->next;
	return link;
}

static int keep_page(struct iof_fault *f, struct iof_fault_group **link, const struct iof_fault_request *rq)
{
	if (!*link)
		*link = group_new(f, rq);
	else if (!group_add(f, *link, rq))
		return -ENOMEM;
	return *link ? 0 : -ENOMEM;
}

static int queue_group(struct iof_fault *f, struct iof_fault_group **link, const struct iof_fault_request *rq)
{
	struct iof_fault_group *g = *link;

	if (g) {
		*link = g->next;
		if (!group_add(f, g, rq)) {
			group_free(f, g);
			return -ENOMEM;
		}
	} else {
		g = group_new(f, rq);
		if (!g)
			return -ENOMEM;
	}
	g->asker.answer = rq->answer;
	g->asker.who = rq->who;
	list_append(&f->queued, g);
	iofi_bell_sync(&f->bell, true);
	return 0;
}

int iof_fault_report(struct iof_fault *f, const struct iof_fault_request *rq)
{
	struct iof_fault_group **link;
	int rc;

	iof_lock_take(&f->lock);
	link = partial_find(f, rq);
	rc = rq->flags & IOF_FAULT_LAST_PAGE ? queue_group(f, link, rq) : keep_page(f, link, rq);
	iof_lock_drop(&f->lock);
	return rc;
}

/* ---- dropping ---- */

/* Which groups: those of an endpoint, or all. */
struct choice {
	const void *endpoint;
	bool all;
};

static bool chosen(const struct choice *c, const struct iof_fault_group *g)
{
	return c->all || g->endpoint == c->endpoint;
}

static void drop_partial(struct iof_fault *f, const struct choice *c)
{
	for (unsigned i = 0; i < IOF_FAULT_PARTIAL_BUCKETS; i++)
		for (struct iof_fault_group **link = &f->partial[i], *g; (g = *link);) {
			if (!chosen(c, g)) {
				link = &g->next;
				continue;
			}
			*link = g->next;
			group_free(f, g);
		}
}

static void take_queued(struct iof_fault *f, const struct choice *c, struct iof_fault_list *to)
{
	struct iof_fault_list kept = { 0 };
	struct iof_fault_group *g;

	while (f->queued.first) {
		g = list_pop(&f->queued);
		list_append(chosen(c, g) ? to : &kept, g);
	}
	f->queued = kept;
	iofi_bell_sync(&f->bell, kept.first);
}

static void take_outstanding(struct iof_fault *f, const struct choice *c, struct iof_fault_list *to)
{
	struct iof_fault_group *g;

	for (uint32_t cookie = f->outstanding.next; cookie; cookie--) {
		g = iofi_cookie_find(&f->outstanding, cookie);
		if (!g || !chosen(c, g))
			continue;
		iofi_cookie_drop(&f->outstanding, cookie);
		list_append(to, g);
	}
}

/*
 * Out of the queue under the lock, answered without it, freed under it again: the raiser may do what it likes in its
 * function.
 */
static void drop(struct iof_fault *f, const struct choice *c)
{
	struct iof_fault_list gone = { 0 };

	iof_lock_take(&f->lock);
	drop_partial(f, c);
	take_outstanding(f, c, &gone);
	take_queued(f, c, &gone);
	iof_lock_drop(&f->lock);
	for (struct iof_fault_group *g = gone.first; g; g = g->next)
		answer(&g->asker, IOF_FAULT_INVALID);
	iof_lock_take(&f->lock);
	while (gone.first)
		group_free(f, list_pop(&gone));
	iof_lock_drop(&f->lock);
}

void iof_fault_drop(struct iof_fault *f, const void *endpoint)
{
	drop(f, &(struct choice){ .endpoint = endpoint });
}

void iof_fault_dispose(struct iof_fault *f)
{
	drop(f, &(struct choice){ .all = true });
	destroy(f);
}

/* ---- reading ---- */

static int copy_group(const struct iof_fault_group *g, uint64_t at)
{
	struct iof_fault_record r = { .dev_id = g->dev_id, .pasid = g->asker.pasid, .grpid = g->asker.grpid,
				      .cookie = g->cookie };
	int rc = 0;

	for (const struct fault_page *p = &g->first; p && !rc; p = p->next, at += RECORD) {
		r.flags = p->flags;
		r.perm = p->perm;
		r.addr = p->addr;
		rc = iof_copy_out(at, &r, RECORD);
	}
	return rc;
}

/* Delivers the head of the queue: bytes, or why not, with the group still at the head. */
static int64_t read_group(struct iof_fault *f, uint64_t at, size_t room)
{
	struct iof_fault_group *g = f->queued.first;
	int rc;

	if (g->n > room / RECORD)
		return -EINVAL;
	g->cookie = iofi_cookie_take(&f->outstanding, g);
	if (!g->cookie)
		return -ENOMEM;
	rc = copy_group(g, at);
	if (rc) {
		iofi_cookie_drop(&f->outstanding, g->cookie);
		g->cookie = 0;
		return rc;
	}
	list_pop(&f->queued);
	return (int64_t)(g->n * RECORD);
}

int64_t iof_fault_read(struct iof_fault *f, uint64_t at, size_t n)
{
	int64_t bytes = 0;
	size_t done = 0;

	if (n % RECORD)
		return -ESPIPE;
	iof_lock_take(&f->lock);
	while (f->queued.first) {
		bytes = read_group(f, at + done, n - done);
		if (bytes < 0)
			break;
		done += (size_t)bytes;
	}
	iofi_bell_sync(&f->bell, f->queued.first);
	iof_lock_drop(&f->lock);
	return done ? (int64_t)done : bytes;
}

/* ---- answering ---- */

static int write_one(struct iof_fault *f, uint64_t at)
{
	struct iof_fault_response r;
	struct iof_fault_group *g;
	struct asker asker = { 0 };
	int rc = iof_copy_in(&r, at, RESPONSE);

	if (rc)
		return rc;
	if (r.code != IOF_FAULT_SUCCESS && r.code != IOF_FAULT_INVALID)
		return -EINVAL;
	iof_lock_take(&f->lock);
	g = iofi_cookie_find(&f->outstanding, r.cookie);
	if (g) {
		asker = g->asker;
		iofi_cookie_drop(&f->outstanding, r.cookie);
		group_free(f, g);
	}
	iof_lock_drop(&f->lock);
	if (!g)
		return -EINVAL;
	answer(&asker, r.code);
	return 0;
}

int64_t iof_fault_write(struct iof_fault *f, uint64_t at, size_t n)
{
	size_t done;
	int rc;

	if (n % RESPONSE)
		return -ESPIPE;
	for (done = 0; done < n; done += RESPONSE) {
		rc = write_one(f, at + done);
		if (rc)
			return done ? (int64_t)done : rc;
	}
	return (int64_t)done;
}

/* ---- the rest of the file ---- */

bool iof_fault_readable(struct iof_fault *f)
{
	bool readable;

	iof_lock_take(&f->lock);
	readable = f->queued.first;
	iof_lock_drop(&f->lock);
	return readable;
}

void iof_fault_set_bell(struct iof_fault *f, int fd)
{
	iof_lock_take(&f->lock);
	iofi_bell_move(&f->bell, fd);
	iof_lock_drop(&f->lock);
}

/* ---- what it holds ---- */

static void count(const struct iof_fault *f, struct iof_fault_stats *out)
{
	*out = (struct iof_fault_stats){ .outstanding = iofi_cookies_live(&f->outstanding) };
	for (const struct iof_fault_group *g = f->queued.first; g; g = g->next) {
		out->queued++;
		out->records += g->n;
	}
	for (unsigned i = 0; i < IOF_FAULT_PARTIAL_BUCKETS; i++)
		for (const struct iof_fault_group *g = f->partial[i]; g; g = g->next)
			out->partial++;
}

void iof_fault_stats(struct iof_fault *f, struct iof_fault_stats *out)
{
	iof_lock_take(&f->lock);
	count(f, out);
	iof_lock_drop(&f->lock);
}

/* Are its pages what it says, the last one last and nothing else marked as such? */
static bool group_is_valid(const struct iof_fault_group *g, bool complete, uint64_t *pages)
{
	const struct fault_page *p = &g->first;
	uint32_t n = 1;

	for (; p->next; p = p->next, n++)
		if (p->flags & IOF_FAULT_LAST_PAGE)
			return false;
	*pages += n - 1;
	return g->n == n && g->last == p && complete == !!(p->flags & IOF_FAULT_LAST_PAGE);
}

static bool groups_are_valid(const struct iof_fault *f, uint64_t *pages)
{
	const struct iof_fault_group *last = NULL;

	for (const struct iof_fault_group *g = f->queued.first; g; last = g, g = g->next)
		if (g->cookie || !group_is_valid(g, true, pages))
			return false;
	for (uint32_t c = 1; c <= f->outstanding.next; c++) {
		const struct iof_fault_group *g = iofi_cookie_find(&f->outstanding, c);

		if (g && (g->cookie != c || !group_is_valid(g, true, pages)))
			return false;
	}
	for (unsigned i = 0; i < IOF_FAULT_PARTIAL_BUCKETS; i++)
		for (const struct iof_fault_group *g = f->partial[i]; g; g = g->next)
			if (g->cookie || !group_is_valid(g, false, pages))
				return false;
	return last == f->queued.last;
}

bool iof_fault_is_valid(struct iof_fault *f)
{
	struct iof_fault_stats s;
	uint64_t pages = 0;
	bool ok;

	iof_lock_take(&f->lock);
	count(f, &s);
	ok = iofi_cookies_are_valid(&f->outstanding) && groups_are_valid(f, &pages) && iof_slab_is_valid(&f->groups) &&
	     iof_slab_is_valid(&f->pages) && f->groups.live == s.queued + s.partial + s.outstanding &&
	     f->pages.live == pages && f->bell.rung == !!f->queued.first;
	iof_lock_drop(&f->lock);
	return ok;
}
