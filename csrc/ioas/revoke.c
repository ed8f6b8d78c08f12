/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revoking imports of a dma-buf.
 *
 * First every import is marked, so that nothing shows it anew; then every IOAS of the machine is visited, its domains
 * lock held for writing. Who was filling an area before the mark is waited for there, and its work undone; who comes
 * later sees the mark. So there is no list of where an import is shown.
 */
#include "ioas/revoke.h"

#include "ioas/context.h"
#include "ioas/fill.h"
#include "ioas/ioas.h"

static void hide_areas(struct iof_ioas *ioas)
{
	struct iof_range from = IOF_RANGE_ALL;
	struct iof_index_entry e;

	while (iof_space_first(ioas->space, from, &e)) {
		if (iof_pages_is_revoked(iof_area_pages(iofi_area_of(&e))))
			iofi_area_unfill(ioas, iofi_area_of(&e), e.range);
		if (e.range.last == UINT64_MAX)
			break;
		from.start = e.range.last + 1;
	}
}

static void visit(struct iof_context *ctx)
{
	struct iof_object *o;

	iof_lock_take(&ctx->control);
	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id = o->id + 1) {
		struct iof_ioas *ioas = (struct iof_ioas *)o;

		if (o->type != IOF_OBJECT_IOAS)
			continue;
		iofi_domains_write(ioas);
		hide_areas(ioas);
		iofi_domains_write_drop(ioas);
	}
	iof_lock_drop(&ctx->control);
}

/* A context that is on its way out unmaps everything by itself. */
static bool take(struct iof_context *ctx)
{
	uint32_t refs = atomic_load_explicit(&ctx->refs, memory_order_relaxed);

	while (refs)
		if (atomic_compare_exchange_weak_explicit(&ctx->refs, &refs, refs + 1, memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

/* The next living context behind `at`, NULL: the first. A reference goes over from one to the other. */
static struct iof_context *next_context(struct iof_machine *m, struct iof_context *at)
{
	struct iof_context *next;

	iof_lock_take(&m->lock);
	next = at ? at->next : m->contexts;
	while (next && !take(next))
		next = next->next;
	iof_lock_drop(&m->lock);
	if (at)
		iof_context_unref(at);
	return next;
}

void iof_machine_revoke(struct iof_machine *m, struct iof_dmabuf *d, bool revoked)
{
	iof_dmabuf_set_revoked(&m->memory, d, revoked);
	for (struct iof_context *ctx = next_context(m, NULL); ctx; ctx = next_context(m, ctx))
		visit(ctx);
}
