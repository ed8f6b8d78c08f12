/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel provider over an engine: `ctx` is the provider's handle, `under` the engine's own for the same context, to look behind the
 * ledger and to do things behind its back. Some system calls can be made to answer as a stranger kernel would.
 */
#ifndef IOF_TESTS_KERNEL_RIG_H
#define IOF_TESTS_KERNEL_RIG_H

#include "check.h"
#include "engine.h"
#include "iommufd_fast_kernel.h"
#include "iommufd_fast_va.h"
#include "util/alloc.h"

struct rig {
	struct iof_machine *m;
	struct iof_alloc memory; /* the provider's, not the engine's */
	struct iof_sys inner, sys;
	struct iof_handle *ctx, *under;
	uint64_t low; /* IOVAs below are refused, and not in the ranges, once it is set */
	int map_error; /* what the map_after-th MAP from now answers, once */
	long map_after;
	int unmap_error; /* what the next UNMAP answers, once */
	_Atomic long calls;
};

static inline int rig_ranges(struct rig *r, int fd, struct iof_cmd_ioas_iova_ranges *c)
{
	int rc = r->inner.ioctl(r->inner.data, fd, IOF_CMD_IOAS_IOVA_RANGES, c);
	struct iof_uapi_range *list = (struct iof_uapi_range *)(uintptr_t)c->allowed_iovas;

	if (!rc && c->num_iovas && list[0].start < r->low)
		list[0].start = r->low;
	return rc;
}

static inline int rig_take_error(int *error)
{
	int rc = *error;

	*error = 0;
	return rc;
}

static inline int rig_ioctl(void *data, int fd, unsigned long cmd, void *arg)
{
	struct rig *r = (struct rig *)data;
	struct iof_cmd_ioas_map *m = (struct iof_cmd_ioas_map *)arg;

	atomic_fetch_add(&r->calls, 1);
	if (cmd == IOF_CMD_IOAS_IOVA_RANGES && r->low)
		return rig_ranges(r, fd, (struct iof_cmd_ioas_iova_ranges *)arg);
	if (cmd == IOF_CMD_IOAS_MAP && r->low && m->flags & IOF_MAP_FIXED_IOVA && m->iova < r->low)
		return -EINVAL;
	if (cmd == IOF_CMD_IOAS_MAP && r->map_after && !--r->map_after)
		return r->map_error;
	if (cmd == IOF_CMD_IOAS_UNMAP && r->unmap_error)
		return rig_take_error(&r->unmap_error);
	return r->inner.ioctl(r->inner.data, fd, cmd, arg);
}

/* The rest goes on as it is. */
static inline int rig_open(void *data, const char *path)
{
	struct rig *r = (struct rig *)data;

	return r->inner.open(r->inner.data, path);
}

static inline int rig_close(void *data, int fd)
{
	struct rig *r = (struct rig *)data;

	return r->inner.close(r->inner.data, fd);
}

static inline int64_t rig_pread(void *data, int fd, void *to, size_t n, int64_t offset)
{
	struct rig *r = (struct rig *)data;

	return r->inner.pread(r->inner.data, fd, to, n, offset);
}

static inline int64_t rig_pwrite(void *data, int fd, const void *from, size_t n, int64_t offset)
{
	struct rig *r = (struct rig *)data;

	return r->inner.pwrite(r->inner.data, fd, from, n, offset);
}

static inline int rig_mmap(void *data, int fd, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	struct rig *r = (struct rig *)data;

	return r->inner.mmap(r->inner.data, fd, length, prot, flags, offset, out);
}

static inline int rig_poll(void *data, int fd)
{
	struct rig *r = (struct rig *)data;

	return r->inner.poll(r->inner.data, fd);
}

static inline int rig_find(void *data, const char *name, char *path, size_t n)
{
	struct rig *r = (struct rig *)data;

	return r->inner.find(r->inner.data, name, path, n);
}

static inline int rig_group(void *data, int fd)
{
	struct rig *r = (struct rig *)data;

	return r->inner.group(r->inner.data, fd);
}

static inline int rig_open_context(struct rig *r, enum iof_iova_choice choice)
{
	struct iof_kernel_config cfg = { .size = sizeof(cfg), .iova = choice, .sys = &r->sys, .alloc = &r->memory };
	int rc = iof_kernel_open(NULL, &cfg, &r->ctx);

	return rc ? rc : iof_file_handle(r->m, iof_fileno(r->ctx), &r->under);
}

static inline struct rig *rig_make(const uint32_t *groups, size_t n)
{
	struct rig *r = (struct rig *)calloc(1, sizeof(*r));

	iof_alloc_init_heap(&r->memory);
	r->m = machine_with(IOF_PRESET_INTEL, groups, n, NULL);
	CHECK(r->m);
	iof_sys_over_engine(r->m, &r->inner);
	r->sys = (struct iof_sys){ .data = r, .open = rig_open, .close = rig_close, .ioctl = rig_ioctl, .pread = rig_pread,
				   .pwrite = rig_pwrite, .mmap = rig_mmap, .poll = rig_poll, .find = rig_find, .group = rig_group };
	return r;
}

static inline struct rig *rig_open_with(enum iof_iova_choice choice)
{
	struct rig *r = rig_make((uint32_t[]){ 2, 1 }, 2);

	CHECK_EQ(rig_open_context(r, choice), 0);
	return r;
}

/* The context is closed: nothing is left. */
static inline void rig_end(struct rig *r)
{
	CHECK_EQ(atomic_load(&r->memory.live_bytes), 0);
	CHECK(iof_machine_is_valid(r->m));
	iof_machine_put(r->m);
	free(r);
}

/* Everything goes, and nothing is left. */
static inline void rig_close_all(struct rig *r)
{
	iof_close(r->ctx);
	rig_end(r);
}

/* Is what the ledger says what the engine says? */
static inline void rig_compare_maps(struct rig *r, uint32_t ioas)
{
	struct iof_mapping_info ours, theirs;
	uint64_t at = 0;
	int rc;

	do {
		rc = iof_ioas_mapping(r->under, ioas, at, UINT64_MAX, &theirs);
		CHECK_EQ(iof_ioas_mapping(r->ctx, ioas, at, UINT64_MAX, &ours), rc);
		if (rc)
			return;
		CHECK_EQ(ours.iova, theirs.iova);
		CHECK_EQ(ours.last, theirs.last);
		CHECK_EQ(ours.address, theirs.address);
		CHECK_EQ(ours.flags, theirs.flags);
		at = ours.last + 1;
	} while (at);
}

/* Is in the address index what the engine has mapped, and nothing else? */
static inline void rig_compare_index(struct rig *r, uint32_t ioas, const struct iof_va_index *ix)
{
	struct iof_mapping_info m;
	struct iof_va_stats stats;
	uint64_t at = 0, runs = 0;

	while (!iof_ioas_mapping(r->under, ioas, at, UINT64_MAX, &m)) {
		if (!(m.flags & IOF_MAPPING_FILE)) {
			CHECK(iof_va_index_has(ix, m.address, m.last - m.iova + 1, m.iova));
			runs++;
		}
		at = m.last + 1;
		if (!at)
			break;
	}
	iof_va_index_stats(ix, &stats);
	CHECK_EQ(stats.runs, runs);
	CHECK(iof_va_index_is_valid(ix));
}

/* Its IOAS is gone, so it is empty; one reference less. */
static inline void rig_put_index(struct iof_va_index *ix)
{
	struct iof_va_stats stats;

	iof_va_index_stats(ix, &stats);
	CHECK_EQ(stats.runs, 0);
	CHECK(iof_va_index_is_valid(ix));
	iof_va_index_put(ix);
}

static inline void rig_compare_ends(struct rig *r)
{
	struct iof_endpoint_info ours[32], theirs[32];
	int64_t n = iof_endpoints(r->under, 0, 0, 32, theirs);

	CHECK_EQ(iof_endpoints(r->ctx, 0, 0, 32, ours), n);
	for (int64_t i = 0; i < n; i++) {
		CHECK_EQ(ours[i].dev_id, theirs[i].dev_id);
		CHECK_EQ(ours[i].pasid, theirs[i].pasid);
		CHECK_EQ(ours[i].hwpt_id, theirs[i].hwpt_id);
		CHECK_EQ(ours[i].ioas_id, theirs[i].ioas_id);
		CHECK_EQ(ours[i].device, theirs[i].device);
		CHECK_EQ(ours[i].group, theirs[i].group);
	}
}

/* Maps where the provider likes. */
static inline int submit_map(struct rig *r, uint32_t ioas, const void *va, uint64_t length, uint64_t *iova)
{
	struct iof_cmd_ioas_map c = { .size = sizeof(c), .flags = RW, .ioas_id = ioas, .user_va = (uintptr_t)va, .length = length };
	int rc = iof_submit(r->ctx, IOF_CMD_IOAS_MAP, &c);

	*iova = c.iova;
	return rc;
}

#endif
