/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a policy, a device attached, memory to map, and what /proc says is locked and pinned of it. */
#ifndef IOF_TESTS_HOLD_RIG_H
#define IOF_TESTS_HOLD_RIG_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "engine.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "iommufd_fast_hold.h"
#include "util/alloc.h"

#define PAGES 64u

static const uint32_t one_group[] = { 1 };
static struct iof_alloc heap;

struct rig {
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *memory;
};

static struct rig r;

static inline int try_rig(enum iof_policy policy, enum iof_addresses addresses)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = one_group, .n_groups = 1,
					  .alloc = &heap, .policy = policy, .addresses = addresses };
	int rc;

	iof_alloc_init_heap(&heap);
	r = (struct rig){ .memory = pages_of(PAGES) };
	rc = iof_machine_create(&cfg, &r.m);
	if (rc)
		return rc;
	CHECK_EQ(iof_engine_open(r.m, &r.ctx), 0);
	CHECK_EQ(iof_engine_open_device(r.m, 0, &r.dev), 0);
	CHECK_EQ(bind_device(r.dev, r.ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(r.ctx, &r.ioas), 0);
	CHECK_EQ(attach(r.dev, r.ioas, NULL), 0);
	return 0;
}

static inline void open_rig(enum iof_policy policy)
{
	CHECK_EQ(try_rig(policy, IOF_ADDRESSES_VA), 0);
}

static inline void close_rig(void)
{
	CHECK(iof_machine_is_valid(r.m));
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_machine_put(r.m);
	munmap(r.memory, PAGES * PAGE);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
}

/* io_uring may be forbidden where the tests run; then the machine says so, and there is nothing more to test. */
static inline bool has_io_uring(void)
{
	int rc = try_rig(IOF_POLICY_IO_URING, IOF_ADDRESSES_VA);

	if (!rc) {
		close_rig();
		return true;
	}
	CHECK(rc == -EPERM || rc == -EOPNOTSUPP || rc == -ENOMEM);
	printf("io_uring cannot be used here: %s\n", strerror(-rc));
	munmap(r.memory, PAGES * PAGE);
	return false;
}

/* The program's own locks. Not by the C library: sanitizers make nothing of its calls. */
static inline int lock(const void *at, size_t n)
{
	return (int)syscall(SYS_mlock, at, n);
}

static inline int unlock(const void *at, size_t n)
{
	return (int)syscall(SYS_munlock, at, n);
}

/* ---- what the kernel says ---- */

/* A field of /proc/self/status, in KiB. */
static inline uint64_t status(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kib = 0;
	char line[256];

	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			sscanf(line + strlen(field) + 1, "%lu", &kib);
	fclose(f);
	return kib;
}

/* Which pages of the rig's memory are locked. */
static inline void read_locks(bool *locked)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start = 0, end = 0, a, b;
	char line[512];

	memset(locked, 0, PAGES);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			start = a, end = b;
		if (strncmp(line, "VmFlags:", 8) || !strstr(line, " lo"))
			continue;
		for (unsigned i = 0; i < PAGES; i++)
			locked[i] |= (uintptr_t)r.memory + i * PAGE >= start && (uintptr_t)r.memory + i * PAGE < end;
	}
	fclose(f);
}

static inline unsigned count_locks(void)
{
	bool locked[PAGES];
	unsigned n = 0;

	read_locks(locked);
	for (unsigned i = 0; i < PAGES; i++)
		n += locked[i];
	return n;
}

static inline int map(unsigned first, unsigned n, uint64_t *iova)
{
	return map_at(r.ctx, r.ioas, r.memory + first * PAGE, n * PAGE, RW, iova);
}

static inline int hold(unsigned first, unsigned n, enum iof_policy policy, bool writable, struct iof_held **out)
{
	struct iof_hold h = { .size = sizeof(h), .address = (uintptr_t)r.memory + first * PAGE, .length = n * PAGE, .policy = policy,
			      .writable = writable };

	return iof_machine_hold(r.m, &h, out);
}

#endif
