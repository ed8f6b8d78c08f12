// SPDX-License-Identifier: Apache-2.0
/* Tables in memory that is not ours: shapes, and the way into the walker of a format (walker_foreign.h). */
#include "pagetable/foreign.h"

#include <errno.h>

#include "pagetable/foreign_view.h"

/* A root is aligned to its size; where it may be smaller than a table, to 64 bytes at least. */
static uint64_t root_alignment(const struct iofi_pt_limits *l, unsigned top_level, unsigned va_lg2)
{
	unsigned shift = l->granule_lg2 + l->table_lg2 * top_level, table_lg2 = l->table_lg2 + 3u, lg2;

	if (!l->oa_widths || va_lg2 <= shift)
		return UINT64_C(1) << (table_lg2 + (l->oa_widths ? 0 : l->top_extra_lg2));
	lg2 = va_lg2 - shift + 3;
	return UINT64_C(1) << (lg2 < 6 ? 6 : lg2);
}

int iof_pt_foreign_check(const struct iof_pt_foreign *f)
{
	const struct iofi_pt_ops *o = iofi_pt_ops_of(&f->cfg);
	const struct iofi_pt_limits *l = o ? o->limits : NULL;
	unsigned va = f->cfg.va_lg2, top;

	if (!l || f->top_level < l->level_min || f->top_level > l->level_max || va > l->va_max_lg2 ||
	    f->cfg.oa_lg2 > l->oa_max_lg2 || (f->cfg.features & ~l->features))
		return -EINVAL;
	top = l->granule_lg2 + l->table_lg2 * (f->top_level + 1u) + l->top_extra_lg2;
	va = va ? va : l->va_max_lg2;
	if ((f->cfg.features & IOF_PT_SIGN_EXTEND) && va != top)
		return -EINVAL;
	return f->root % root_alignment(l, f->top_level, va) ? -EINVAL : 0;
}

int iof_pt_walk_foreign(const struct iof_pt_foreign *f, uint64_t iova, struct iof_pt_leaf *leaf,
			struct iof_pt_fault *fault)
{
	const struct iofi_pt_ops *o = iofi_pt_ops_of(&f->cfg);
	struct iofi_foreign view = iofi_foreign_view(f, o->limits);

	return o->walk_foreign(&view, iova, leaf, fault);
}

int iof_pt_next_foreign(const struct iof_pt_foreign *f, struct iof_range within, struct iof_pt_leaf *leaf,
			struct iof_pt_fault *fault)
{
	const struct iofi_pt_ops *o = iofi_pt_ops_of(&f->cfg);
	struct iofi_foreign view = iofi_foreign_view(f, o->limits);

	return o->next_foreign(&view, within, leaf, fault);
}
