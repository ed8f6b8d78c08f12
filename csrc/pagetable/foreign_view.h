/* SPDX-License-Identifier: Apache-2.0 */
/* A foreign table as the walkers take it: widths worked out. */
#ifndef IOF_PAGETABLE_FOREIGN_VIEW_H
#define IOF_PAGETABLE_FOREIGN_VIEW_H

#include "pagetable/internal.h"

static inline struct iofi_foreign iofi_foreign_view(const struct iof_pt_foreign *f, const struct iofi_pt_limits *l)
{
	unsigned va = f->cfg.va_lg2 ? f->cfg.va_lg2 : l->va_max_lg2;

	return (struct iofi_foreign){
		.root = f->root,
		.top_level = f->top_level,
		.last = iof_low_mask(va),
		.middle = f->cfg.features & IOF_PT_SIGN_EXTEND ? UINT64_C(1) << (va - 1) : 0,
		.oa_lg2 = f->cfg.oa_lg2 ? f->cfg.oa_lg2 : l->oa_max_lg2,
		.memory = f->memory,
	};
}

#endif
