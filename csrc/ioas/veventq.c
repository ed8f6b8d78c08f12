/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/veventq.h"

#include <errno.h>
#include <string.h>

#include "util/guard.h"

#define HEADER sizeof(struct iof_vevent_header)
#define SEQUENCE_MASK INT32_MAX
#define SLAB_DATA 44 /* the data of every type there is, in one cache line with the rest */

struct iof_vevent {
	struct iof_vevent *next;
	uint32_t size; /* of data */
	struct iof_vevent_header header; /* with the data behind it: what the reader gets, in one piece */
	char data[];
};

_Static_assert(HEADER == 8 && offsetof(struct iof_vevent, data) + SLAB_DATA == IOF_CACHELINE, "one line");

/* ---- events ---- */

static struct iof_vevent *event_new(struct iof_veventq *q, const void *data, size_t n)
{
	struct iof_vevent *e = n <= SLAB_DATA ? iof_slab_get(&q->slab) : iof_mem_get(q->alloc, sizeof(*e) + n, 16);

	if (!e)
		return NULL;
	*e = (struct iof_vevent){ .size = (uint32_t)n };
	if (n)
		memcpy(e->data, data, n);
	return e;
}

static void event_free(struct iof_veventq *q, struct iof_vevent *e)
{
	if (e->size <= SLAB_DATA)
		iof_slab_put(&q->slab, e);
	else
		iof_mem_put(q->alloc, e, sizeof(*e) + e->size);
}

static struct iof_vevent *pop(struct iof_veventq *q)
{
	struct iof_vevent *e = q->first;

	q->first = e->next;
	if (!q->first)
		q->last = NULL;
	q->stored--;
	return e;
}

static bool readable(const struct iof_veventq *q)
{
	return q->first || q->lost;
}

/* ---- life ---- */

static struct iof_veventq *queue_of(struct iof_viommu *v, uint32_t type)
{
	struct iof_veventq *q = v->queues;

	while (q && q->type != type)
		q = q->next;
	return q;
}

/* Who adds and removes queues has the control lock, so a look without the vIOMMU's own is as good. */
int iof_veventq_create(struct iof_context *ctx, struct iof_viommu *v, uint32_t type, uint32_t depth,
		       struct iof_veventq **out)
{
	struct iof_alloc *a = ctx->machine->memory.alloc;
	struct iof_veventq *q;
	int rc;

	if (queue_of(v, type))
		return -EEXIST;
	q = iof_mem_zget(a, sizeof(*q), IOF_CACHELINE);
	rc = q ? iof_object_reserve(&ctx->objects, &q->object, IOF_OBJECT_VEVENTQ) : -ENOMEM;
	if (rc) {
		iof_mem_put(a, q, sizeof(*q));
		return rc;
	}
	q->viommu = v;
	q->alloc = a;
	q->type = type;
	q->depth = depth;
	q->bell.fd = -1;
	iof_lock_init(&q->lock, a->shared);
	iof_slab_init(&q->slab, a, IOF_CACHELINE, 4096);
	*out = q;
	return 0;
}

static void destroy(struct iof_veventq *q)
{
	while (q->first)
		event_free(q, pop(q));
	iof_slab_fini(&q->slab);
	iof_mem_put(q->alloc, q, sizeof(*q));
}

void iof_veventq_abort(struct iof_context *ctx, struct iof_veventq *q)
{
	iof_object_abort(&ctx->objects, &q->object);
	destroy(q);
}

void iof_veventq_publish(struct iof_veventq *q)
{
	struct iof_viommu *v = q->viommu;

	iof_object_ref(&v->object);
	iof_lock_take(&v->lock);
	q->next = v->queues;
	v->queues = q;
	iof_lock_drop(&v->lock);
	iof_object_publish(&q->object);
}

void iof_veventq_dispose(struct iof_veventq *q)
{
	struct iof_viommu *v = q->viommu;
	struct iof_veventq **link = &v->queues;

	iof_lock_take(&v->lock);
	while (*link != q)
		link = &(*link)->next;
	*link = q->next;
	iof_lock_drop(&v->lock);
	destroy(q);
	iof_object_put(&v->object);
}

/* ---- reporting ---- */

static void append(struct iof_veventq *q, struct iof_vevent *e, uint32_t sequence)
{
	e->header.sequence = sequence;
	if (q->last)
		q->last->next = e;
	else
		q->first = e;
	q->last = e;
	q->stored++;
	q->lost = false;
}

static int put_event(struct iof_veventq *q, const void *data, size_t n)
{
	struct iof_vevent *e = q->stored < q->depth ? event_new(q, data, n) : NULL;
	uint32_t sequence = q->sequence;
	int rc = e || q->stored == q->depth ? 0 : -ENOMEM;

	q->sequence = (sequence + 1) & SEQUENCE_MASK;
	if (e) {
		append(q, e, sequence);
	} else {
		q->lost = true;
		q->lost_sequence = sequence;
	}
	iofi_bell_sync(&q->bell, true);
	return rc;
}

int iof_veventq_report(struct iof_viommu *v, uint32_t type, const void *data, size_t n)
{
	struct iof_veventq *q;
	int rc = -EOPNOTSUPP;

	iof_lock_take(&v->lock);
	q = queue_of(v, type);
	if (q) {
		iof_lock_take(&q->lock);
		rc = put_event(q, data, n);
		iof_lock_drop(&q->lock);
	}
	iof_lock_drop(&v->lock);
	return rc;
}

/* ---- reading ---- */

/* One entry, taken out once its copy is done: bytes, 0 when there is none, or why not. */
static int64_t read_event(struct iof_veventq *q, uint64_t at, size_t room)
{
	struct iof_vevent *e = q->first;
	size_t n = HEADER + e->size;
	int rc;

	if (n > room)
		return -EINVAL;
	rc = iof_copy_out(at, &e->header, n);
	if (rc)
		return rc;
	event_free(q, pop(q));
	return (int64_t)n;
}

static int64_t read_marker(struct iof_veventq *q, uint64_t at, size_t room)
{
	struct iof_vevent_header header = { IOF_VEVENT_LOST, q->lost_sequence };
	int rc;

	if (HEADER > room)
		return -EINVAL;
	rc = iof_copy_out(at, &header, HEADER);
	if (rc)
		return rc;
	q->lost = false;
	return HEADER;
}

int64_t iof_veventq_read(struct iof_veventq *q, uint64_t at, size_t n)
{
	int64_t bytes = 0;
	size_t done = 0;

	if (n < HEADER)
		return -EINVAL;
	iof_lock_take(&q->lock);
	while (readable(q)) {
		bytes = q->first ? read_event(q, at + done, n - done) : read_marker(q, at + done, n - done);
		if (bytes < 0)
			break;
		done += (size_t)bytes;
	}
	iofi_bell_sync(&q->bell, readable(q));
	iof_lock_drop(&q->lock);
	return done ? (int64_t)done : bytes;
}

/* ---- the rest of the file ---- */

bool iof_veventq_readable(struct iof_veventq *q)
{
	bool yes;

	iof_lock_take(&q->lock);
	yes = readable(q);
	iof_lock_drop(&q->lock);
	return yes;
}

void iof_veventq_set_bell(struct iof_veventq *q, int fd)
{
	iof_lock_take(&q->lock);
	iofi_bell_move(&q->bell, fd);
	iof_lock_drop(&q->lock);
}

/* ---- what it holds ---- */

void iof_veventq_stats(struct iof_veventq *q, struct iof_veventq_stats *out)
{
	iof_lock_take(&q->lock);
	*out = (struct iof_veventq_stats){ q->stored, q->depth, q->sequence, q->lost };
	iof_lock_drop(&q->lock);
}

static bool list_is_valid(const struct iof_veventq *q)
{
	const struct iof_vevent *last = NULL;
	uint64_t n = 0, small = 0;

	for (const struct iof_vevent *e = q->first; e; last = e, e = e->next, n++) {
		small += e->size <= SLAB_DATA;
		if (e->header.flags || e->header.sequence > SEQUENCE_MASK)
			return false;
	}
	return n == q->stored && last == q->last && small == q->slab.live;
}

static bool is_listed(const struct iof_veventq *q)
{
	const struct iof_veventq *at = q->viommu->queues;
	unsigned same = 0;
	bool found = false;

	for (; at; at = at->next) {
		found |= at == q;
		same += at->type == q->type;
	}
	return found && same == 1;
}

bool iof_veventq_is_valid(struct iof_veventq *q)
{
	bool ok;

	iof_lock_take(&q->lock);
	ok = list_is_valid(q) && iof_slab_is_valid(&q->slab) && q->stored <= q->depth && q->sequence <= SEQUENCE_MASK &&
	     q->bell.rung == readable(q);
	iof_lock_drop(&q->lock);
	return ok && is_listed(q);
}
