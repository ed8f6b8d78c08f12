/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a vIOMMU exposes to mmap on the context's file (behaviour.md 8.7). Each region is shared memory, the
 * machine's own where the machine is shared by processes, so that it can be mapped any number of times; offsets are first fit from PAGE.
 */
#define _GNU_SOURCE /* mremap */
#include <errno.h>
#include <sys/mman.h>

#include "ioas/viommu.h"

static int make_memory(struct iof_alloc *a, struct iof_exposed *e, size_t length)
{
	if (a->shared) {
		e->memory = iof_mem_zget(a, length, IOF_PAGE_SIZE);
		return e->memory ? 0 : -ENOMEM;
	}
	e->memory = iof_alloc_may_fail(a) ? MAP_FAILED :
		    mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return e->memory == MAP_FAILED ? -ENOMEM : 0;
}

static void free_memory(struct iof_alloc *a, struct iof_exposed *e)
{
	if (a->shared)
		iof_mem_put(a, e->memory, e->length);
	else
		munmap(e->memory, e->length);
}

/* The same memory once more, somewhere else: an old length of 0 asks for that. */
static int map_again(const struct iof_exposed *e, int prot, void **out)
{
	int saved = errno, rc = 0;

	*out = mremap(e->memory, 0, e->length, MREMAP_MAYMOVE);
	if (*out == MAP_FAILED)
		rc = -ENOMEM;
	else if (prot != (PROT_READ | PROT_WRITE) && mprotect(*out, e->length, prot)) {
		munmap(*out, e->length);
		rc = -ENOMEM;
	}
	errno = saved;
	return rc;
}

/* The list is ascending: the first gap that fits. */
static void insert(struct iof_context *ctx, struct iof_exposed *e)
{
	struct iof_exposed **at = &ctx->exposed;
	uint64_t offset = IOF_PAGE_SIZE;

	while (*at && (*at)->offset - offset < e->length) {
		offset = (*at)->offset + (*at)->length;
		at = &(*at)->next;
	}
	e->offset = offset;
	e->next = *at;
	*at = e;
}

int iof_viommu_expose(struct iof_viommu *v, size_t length, void **memory, uint64_t *offset)
{
	struct iof_exposed *e = iof_mem_zget(v->ctx->machine->memory.alloc, sizeof(*e), 16);
	int rc = e ? make_memory(v->ctx->machine->memory.alloc, e, length) : -ENOMEM;

	if (rc) {
		iof_mem_put(v->ctx->machine->memory.alloc, e, sizeof(*e));
		return rc;
	}
	e->viommu = v;
	e->length = length;
	insert(v->ctx, e);
	*memory = e->memory;
	*offset = e->offset;
	return 0;
}

void iof_viommu_conceal(struct iof_viommu *v)
{
	struct iof_exposed **at = &v->ctx->exposed, *e;

	while ((e = *at)) {
		if (e->viommu != v) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		free_memory(v->ctx->machine->memory.alloc, e);
		iof_mem_put(v->ctx->machine->memory.alloc, e, sizeof(*e));
	}
}

static struct iof_exposed *region_at(struct iof_context *ctx, uint64_t offset)
{
	struct iof_exposed *e = ctx->exposed;

	while (e && e->offset != offset)
		e = e->next;
	return e;
}

static void count_map(struct iof_exposed *e, int by)
{
	e->mapped += (uint32_t)by;
	if (by > 0)
		iof_object_ref(&e->viommu->object);
	else
		iof_object_put(&e->viommu->object);
}

int iof_context_mmap(struct iof_context *ctx, uint64_t offset, uint64_t length, int prot, void **out)
{
	struct iof_exposed *e;
	int rc = -ENXIO;

	iof_lock_take(&ctx->control);
	e = region_at(ctx, offset);
	/* Not while its owner is being made, or dies. */
	if (e && e->length == length && iof_object_users(&e->viommu->object)) {
		rc = map_again(e, prot, out);
		if (!rc)
			count_map(e, 1);
	}
	iof_lock_drop(&ctx->control);
	return rc;
}

void iof_context_vma(struct iof_context *ctx, uint64_t offset, int by)
{
	struct iof_exposed *e;

	iof_lock_take(&ctx->control);
	e = region_at(ctx, offset);
	for (; e && by > 0; by--)
		count_map(e, 1);
	for (; e && by < 0; by++)
		count_map(e, -1);
	iof_lock_drop(&ctx->control);
}
