/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a vIOMMU exposes to mmap on the context's file (behaviour.md 8.7). Each region is a memfd, so that it can be mapped any number
 * of times; offsets are first fit from PAGE.
 */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ioas/viommu.h"

static int make_memory(struct iof_exposed *e, size_t length)
{
	e->memfd = memfd_create("iommufd-exposed", MFD_CLOEXEC);
	if (e->memfd < 0)
		return -ENOMEM;
	e->memory = ftruncate(e->memfd, (off_t)length) ? MAP_FAILED :
		    mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, e->memfd, 0);
	if (e->memory == MAP_FAILED) {
		close(e->memfd);
		return -ENOMEM;
	}
	return 0;
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
	int rc = e ? make_memory(e, length) : -ENOMEM;

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
		munmap(e->memory, e->length);
		close(e->memfd);
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

int iof_context_mmap(struct iof_context *ctx, uint64_t offset, uint64_t length, int prot, void **out)
{
	struct iof_exposed *e;
	int rc = -ENXIO;

	iof_lock_take(&ctx->control);
	e = region_at(ctx, offset);
	/* Not while its owner is being made, or dies. */
	if (e && e->length == length && iof_object_users(&e->viommu->object)) {
		*out = mmap(NULL, length, prot, MAP_SHARED, e->memfd, 0);
		rc = *out == MAP_FAILED ? -ENOMEM : 0;
		if (!rc)
			iof_object_ref(&e->viommu->object);
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
		iof_object_ref(&e->viommu->object);
	for (; e && by < 0; by++)
		iof_object_put(&e->viommu->object);
	iof_lock_drop(&ctx->control);
}
