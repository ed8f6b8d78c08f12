/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that make and destroy objects: the kernel's answer, and what the ledger learns from it. */
#include <errno.h>

#include "provider/kernel.h"
#include "util/guard.h"

/* ---- IOAS ---- */

/* An object that nobody can be told of is destroyed again. */
static int list_or_undo(struct iofi_kcontext *ctx, struct iofi_kobject *o, uint32_t id)
{
	struct iof_cmd_destroy undo = { .size = sizeof(undo), .id = id };
	int rc;

	iof_lock_take(&ctx->lock);
	rc = iofi_kobject_add(ctx, o, id);
	iof_lock_drop(&ctx->lock);
	if (rc) {
		iofi_kobject_drop(ctx, o);
		iofi_kcall(ctx, IOF_CMD_DESTROY, &undo);
	}
	return rc;
}

void iofi_klearn(struct iofi_kcontext *ctx, uint32_t ioas_id)
{
	struct iofi_kioas *io = ioas_id ? iofi_kioas_get(ctx, ioas_id) : NULL;

	if (!io)
		return;
	iofi_kspace_read(ctx, io);
	iofi_kioas_put(io);
}

static int ioas_alloc(struct iofi_kcontext *ctx, void *arg)
{
	struct iofi_kobject *o = iofi_kobject_new(ctx, IOFI_KIOAS);
	struct iof_cmd_ioas_alloc c;
	int rc;

	if (!o)
		return -ENOMEM;
	rc = iofi_kcall(ctx, IOF_CMD_IOAS_ALLOC, arg);
	if (!rc)
		rc = iofi_kpeek(&c, sizeof(c), arg);
	if (rc) {
		iofi_kobject_drop(ctx, o);
		return rc;
	}
	rc = list_or_undo(ctx, o, c.out_ioas_id);
	if (!rc)
		iofi_klearn(ctx, c.out_ioas_id);
	return rc;
}

/* The kernel reads the list itself; ours is read afterwards, from the same place. */
static int ioas_allow(struct iofi_kcontext *ctx, void *arg)
{
	struct iof_cmd_ioas_allow_iovas c;
	struct iofi_kioas *io;
	struct iof_range *list;
	int rc = iofi_kcall(ctx, IOF_CMD_IOAS_ALLOW_IOVAS, arg);

	if (rc || iofi_kpeek(&c, sizeof(c), arg))
		return rc;
	io = iofi_kioas_get(ctx, c.ioas_id);
	list = (struct iof_range *)iof_mem_get(ctx->alloc, iofi_kranges_bytes(c.num_iovas), 16);
	if (io && list && !iof_copy_in(list, c.allowed_iovas, c.num_iovas * sizeof(*list)))
		iofi_kspace_allow(io, list, c.num_iovas);
	iof_mem_put(ctx->alloc, list, iofi_kranges_bytes(c.num_iovas));
	if (io)
		iofi_kioas_put(io);
	return rc;
}

/* ---- page tables, vIOMMUs ---- */

static int hwpt_alloc(struct iofi_kcontext *ctx, void *arg)
{
	struct iofi_kobject *o = iofi_kobject_new(ctx, IOFI_KHWPT), *under;
	struct iof_cmd_hwpt_alloc c;
	uint32_t below;
	int rc;

	if (!o)
		return -ENOMEM;
	rc = iofi_kcall(ctx, IOF_CMD_HWPT_ALLOC, arg);
	if (!rc)
		rc = iofi_kpeek(&c, sizeof(c), arg);
	if (rc) {
		iofi_kobject_drop(ctx, o);
		return rc;
	}
	iof_lock_take(&ctx->lock);
	under = iofi_kobject_find(ctx, c.pt_id);
	o->ioas_id = under ? under->ioas_id : c.pt_id;
	o->nested = under && under->kind != IOFI_KIOAS;
	iof_lock_drop(&ctx->lock);
	below = o->ioas_id;
	rc = list_or_undo(ctx, o, c.out_hwpt_id);
	if (!rc)
		iofi_klearn(ctx, below);
	return rc;
}

static int viommu_alloc(struct iofi_kcontext *ctx, void *arg)
{
	struct iofi_kobject *o = iofi_kobject_new(ctx, IOFI_KVIOMMU);
	struct iof_cmd_viommu_alloc c;
	int rc;

	if (!o)
		return -ENOMEM;
	rc = iofi_kcall(ctx, IOF_CMD_VIOMMU_ALLOC, arg);
	if (!rc)
		rc = iofi_kpeek(&c, sizeof(c), arg);
	if (rc) {
		iofi_kobject_drop(ctx, o);
		return rc;
	}
	iof_lock_take(&ctx->lock);
	o->ioas_id = iofi_kioas_below(ctx, c.hwpt_id);
	iof_lock_drop(&ctx->lock);
	return list_or_undo(ctx, o, c.out_viommu_id);
}

static int destroy(struct iofi_kcontext *ctx, void *arg)
{
	struct iof_cmd_destroy c;
	uint32_t below;
	int rc = iofi_kpeek(&c, sizeof(c), arg);

	if (rc)
		return iofi_kcall(ctx, IOF_CMD_DESTROY, arg);
	rc = iofi_kcall(ctx, IOF_CMD_DESTROY, arg);
	if (rc)
		return rc;
	iof_lock_take(&ctx->lock);
	below = iofi_kioas_below(ctx, c.id);
	iofi_kobject_remove(ctx, c.id);
	iof_lock_drop(&ctx->lock);
	if (below && below != c.id)
		iofi_klearn(ctx, below);
	return 0;
}

static int set_tracking(struct iofi_kcontext *ctx, void *arg)
{
	struct iof_cmd_set_dirty_tracking c;
	struct iofi_kobject *o;
	int rc = iofi_kcall(ctx, IOF_CMD_HWPT_SET_DIRTY_TRACKING, arg);

	if (rc || iofi_kpeek(&c, sizeof(c), arg))
		return rc;
	iof_lock_take(&ctx->lock);
	o = iofi_kobject_find(ctx, c.hwpt_id);
	if (o)
		o->tracking = c.flags & 1;
	iof_lock_drop(&ctx->lock);
	return rc;
}

static int under_control(struct iofi_kcontext *ctx, unsigned long cmd, void *arg)
{
	switch (cmd) {
	case IOF_CMD_IOAS_ALLOC:
		return ioas_alloc(ctx, arg);
	case IOF_CMD_IOAS_ALLOW_IOVAS:
		return ioas_allow(ctx, arg);
	case IOF_CMD_HWPT_ALLOC:
		return hwpt_alloc(ctx, arg);
	case IOF_CMD_VIOMMU_ALLOC:
		return viommu_alloc(ctx, arg);
	case IOF_CMD_HWPT_SET_DIRTY_TRACKING:
		return set_tracking(ctx, arg);
	default:
		return destroy(ctx, arg);
	}
}

int iofi_kernel_control(struct iofi_kcontext *ctx, unsigned long cmd, void *arg)
{
	int rc;

	iof_lock_take(&ctx->control);
	rc = under_control(ctx, cmd, arg);
	iof_lock_drop(&ctx->control);
	return rc;
}

/* ---- taking in ---- */

static struct iofi_kioas *listed(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iofi_kobject *o;
	struct iofi_kioas *io;

	iof_lock_take(&ctx->lock);
	o = iofi_kobject_find(ctx, id);
	io = o ? o->ioas : NULL;
	if (io)
		atomic_fetch_add_explicit(&io->refs, 1, memory_order_relaxed);
	iof_lock_drop(&ctx->lock);
	return io;
}

/* Is it an IOAS of the kernel's? Its ranges can be asked for then; there is no room for any, and there always is one. */
static bool is_ioas(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = id };
	int rc = iofi_kcall(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c);

	return !rc || rc == -EMSGSIZE;
}

/* One that was made behind our back, on a descriptor that was open already for instance. Two at once make one. */
static bool take_in(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iofi_kobject *o = is_ioas(ctx, id) ? iofi_kobject_new(ctx, IOFI_KIOAS) : NULL;
	bool done;

	if (!o)
		return false;
	iof_lock_take(&ctx->lock);
	done = iofi_kobject_find(ctx, id);
	if (!done && !iofi_kobject_add(ctx, o, id)) {
		done = true;
		o = NULL;
	}
	iof_lock_drop(&ctx->lock);
	iofi_kobject_drop(ctx, o);
	return done;
}

struct iofi_kioas *iofi_kioas_get(struct iofi_kcontext *ctx, uint32_t id)
{
	struct iofi_kioas *io = listed(ctx, id);

	if (io || !id || !take_in(ctx, id))
		return io;
	io = listed(ctx, id);
	if (io)
		iofi_kspace_read(ctx, io);
	return io;
}
