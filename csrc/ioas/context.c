/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/context.h"

#include <errno.h>

#include "ioas/caller.h"
#include "ioas/device.h"
#include "ioas/fault.h"
#include "ioas/foreign.h"
#include "ioas/hwpt.h"
#include "ioas/ioas.h"
#include "ioas/msi.h"
#include "ioas/veventq.h"
#include "ioas/viommu.h"

int iof_context_create(struct iof_machine *m, struct iof_context **out)
{
	struct iof_context *ctx = iof_mem_zget(m->memory.alloc, sizeof(*ctx), IOF_CACHELINE);

	if (!ctx)
		return -ENOMEM;
	iof_machine_ref(m);
	ctx->machine = m;
	atomic_init(&ctx->refs, 1);
	iof_lock_init(&ctx->control, m->memory.alloc->shared);
	iof_objects_init(&ctx->objects, m->memory.alloc);
	iof_lock_take(&m->lock);
	ctx->next = m->contexts;
	m->contexts = ctx;
	iof_lock_drop(&m->lock);
	*out = ctx;
	return 0;
}

void iof_context_ref(struct iof_context *ctx)
{
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
}

typedef void (*dispose_fn)(struct iof_object *o);

/* What happens to an object that is out of the table (R1.5.6). Devices, and accesses of embedders, end otherwise. */
static const dispose_fn dispose_of[IOF_OBJECT_TYPES] = {
	[IOF_OBJECT_IOAS] = (dispose_fn)iof_ioas_dispose,
	[IOF_OBJECT_HWPT] = (dispose_fn)iof_hwpt_dispose,
	[IOF_OBJECT_NESTED] = (dispose_fn)iof_hwpt_dispose_nested,
	[IOF_OBJECT_FAULT] = (dispose_fn)iof_fault_dispose,
	[IOF_OBJECT_VIOMMU] = (dispose_fn)iof_viommu_dispose,
	[IOF_OBJECT_VDEVICE] = (dispose_fn)iof_vdevice_dispose,
	[IOF_OBJECT_VEVENTQ] = (dispose_fn)iof_veventq_dispose,
	[IOF_OBJECT_HW_QUEUE] = (dispose_fn)iof_hw_queue_dispose,
	[IOF_OBJECT_FOREIGN] = (dispose_fn)iof_foreign_dispose,
};

static void dispose(struct iof_object *o)
{
	if (dispose_of[o->type])
		dispose_of[o->type](o);
}

/* One walk over the ids, ascending: how many objects went. */
static unsigned release_round(struct iof_context *ctx)
{
	struct iof_object *o;
	unsigned n = 0;

	for (uint32_t id = 1; (o = iof_object_next(&ctx->objects, id)); id++) {
		id = o->id;
		if (iof_object_remove(&ctx->objects, o))
			continue;
		dispose(o);
		n++;
	}
	return n;
}

static void unlist(struct iof_machine *m, struct iof_context *ctx)
{
	struct iof_context **at = &m->contexts;

	iof_lock_take(&m->lock);
	while (*at != ctx)
		at = &(*at)->next;
	*at = ctx->next;
	iof_lock_drop(&m->lock);
}

void iof_context_unref(struct iof_context *ctx)
{
	struct iof_machine *m = ctx->machine;

	if (atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return;
	unlist(m, ctx);
	while (release_round(ctx))
		;
	iof_objects_fini(&ctx->objects);
	iof_mem_put(m->memory.alloc, ctx->msi, sizeof(*ctx->msi));
	iof_mem_put(m->memory.alloc, ctx, sizeof(*ctx));
	iof_machine_unref(m);
}

static int take_out(struct iof_context *ctx, uint32_t id, struct iof_object **out)
{
	struct iof_object *o = iof_object_get(&ctx->objects, id, IOF_OBJECT_ANY);
	int rc;

	if (!o)
		return -ENOENT;
	iof_object_put(o);
	rc = iof_object_remove(&ctx->objects, o);
	if (!rc)
		atomic_compare_exchange_strong(&ctx->compat_ioas, &id, 0); /* R1.5.3 */
	*out = o;
	return rc;
}

/* A foreign object's end is its embedder's code, which closes devices and the like: it runs without the lock. */
int iof_context_destroy(struct iof_context *ctx, uint32_t id)
{
	struct iof_object *o;
	bool foreign;
	int rc;

	iof_lock_take(&ctx->control);
	rc = take_out(ctx, id, &o);
	foreign = !rc && o->type == IOF_OBJECT_FOREIGN;
	if (!rc && !foreign)
		dispose(o);
	iof_lock_drop(&ctx->control);
	if (foreign)
		dispose(o);
	return rc;
}

int iof_context_set_rlimit_mode(struct iof_context *ctx, uint64_t value)
{
	int rc = 0;

	if (!iof_caller_may(IOF_MAY_RAISE_LIMITS))
		return -EPERM;
	iof_lock_take(&ctx->control);
	if (ctx->objects.taken)
		rc = -EBUSY;
	else if (value > 1)
		rc = -EINVAL;
	else
		atomic_store(&ctx->mm_mode, value == 1);
	iof_lock_drop(&ctx->control);
	return rc;
}

/*
 * The machine's choices 0–2 are iof_account_mode; 3 decides as the kernel does, from the caller's rights, and counts in every mode what is pinned. Where
 * processes share the machine, containers have to know whose memory they are.
 */
int iof_context_account(struct iof_context *ctx, struct iof_account **out)
{
	enum iof_account_mode mode = (enum iof_account_mode)ctx->machine->accounting;

	*out = NULL;
	if (iof_likely(mode == IOF_ACCOUNT_NONE)) {
		if (iof_likely(!ctx->machine->memory.alloc->shared))
			return 0;
		mode = IOF_ACCOUNT_UNCOUNTED;
	}
	if (ctx->machine->accounting == 3) {
		mode = atomic_load(&ctx->mm_mode) ? IOF_ACCOUNT_PROCESS : IOF_ACCOUNT_USER;
		if (iof_caller_may(IOF_MAY_LOCK_FREELY))
			mode = IOF_ACCOUNT_NONE;
	}
	return iof_account_of_process(ctx->machine->accounts, mode, out);
}
