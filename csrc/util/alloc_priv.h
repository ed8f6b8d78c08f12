/* SPDX-License-Identifier: Apache-2.0 */
/* What the allocators and the slabs share among themselves. */
#ifndef IOF_UTIL_ALLOC_PRIV_H
#define IOF_UTIL_ALLOC_PRIV_H

#include "util/alloc.h"

#pragma GCC visibility push(hidden)

void iofi_alloc_init(struct iof_alloc *a, void *(*get)(struct iof_alloc *, size_t, size_t),
		     void (*put)(struct iof_alloc *, void *, size_t), bool shared);

/* iof_mem_get() without the injector: for memory behind a step that was already counted. */
void *iofi_mem_get_sure(struct iof_alloc *a, size_t size, size_t align);

#pragma GCC visibility pop

#endif
