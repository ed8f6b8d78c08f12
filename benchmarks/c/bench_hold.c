// SPDX-License-Identifier: Apache-2.0
/*
 * What holding costs: map of 4 KiB, and its unmap, with a page table attached, under each policy; and of a page of a region that is held already.
 *
 *   bench_hold [part of a case's name] [rounds]
 *
 * hold/POLICY/…: the page is held by its own mapping (probe: the goal is 0.6 us). held_region/POLICY/…: the region was held by that policy before (probe:
 * the goal is 0.12 us). A policy that this machine refuses is left out, with a line that says why (`ulimit -l`).
 */
#include <errno.h>
#include <sys/mman.h>

#include "bench.h"
#include "iommufd_fast_hold.h"

#define PAGE UINT64_C(4096)
#define RUN 64u

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *memory;
	uint64_t iovas[RUN];
};

static int note(const char *name, int rc)
{
	if (rc < 0)
		fprintf(stderr, "bench_hold: %s: %s\n", name, strerror(-rc));
	return rc;
}

static void must(int rc, const char *what)
{
	if (note(what, rc) < 0)
		exit(1);
}

static int open_world(struct world *w, enum iof_policy policy)
{
	const uint32_t groups[] = { 1 };
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = groups, .n_groups = 1,
					  .policy = policy };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_attach attach = { .argsz = sizeof(attach) };
	int rc = iof_machine_create(&cfg, &w->machine);

	if (rc)
		return rc;
	must(iof_engine_open(w->machine, &w->ctx), "context");
	must(iof_engine_open_device(w->machine, 0, &w->dev), "device");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &(struct iof_cmd_bind){ .argsz = 16, .iommufd = iof_fileno(w->ctx) }),
	     "bind");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "ioas");
	w->ioas = attach.pt_id = alloc.out_ioas_id;
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &attach), "attach");
	return 0;
}

static void close_world(struct world *w)
{
	iof_close(w->dev);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
}

static int map_page(struct world *w, unsigned i)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .ioas_id = w->ioas,
				      .user_va = (uintptr_t)w->memory + 2 * i * PAGE, .length = PAGE };
	int rc = iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP, &m);

	w->iovas[i] = m.iova;
	return rc;
}

static void unmap_page(struct world *w, unsigned i)
{
	struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .iova = w->iovas[i], .length = PAGE };

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
}

static void maps(void *ctx)
{
	for (unsigned i = 0; i < RUN; i++)
		must(map_page(ctx, i), "map");
}

static void unmaps(void *ctx)
{
	for (unsigned i = 0; i < RUN; i++)
		unmap_page(ctx, i);
}

static void rows(const struct bench *b, struct world *w, const char *prefix, const char *policy)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/%s/map_4k", prefix, policy);
	if (note(name, map_page(w, 0)))
		return;
	unmap_page(w, 0);
	maps(w);
	bench_run(b, name, RUN, maps, unmaps, w);
	unmaps(w);
	snprintf(name, sizeof(name), "%s/%s/unmap_4k", prefix, policy);
	bench_run(b, name, RUN, unmaps, maps, w);
}

static void bench_policy(const struct bench *b, struct world *w, enum iof_policy policy, const char *name)
{
	struct iof_hold hold = { .size = sizeof(hold), .address = (uintptr_t)w->memory, .length = 2 * RUN * PAGE, .writable = true };
	struct iof_held *held;

	if (note(name, open_world(w, policy)))
		return;
	rows(b, w, "hold", name);
	if (policy != IOF_POLICY_TRUST && !note(name, iof_machine_hold(w->machine, &hold, &held))) {
		rows(b, w, "held_region", name);
		iof_held_release(held);
	}
	close_world(w);
}

int main(int argc, char **argv)
{
	struct bench b = { .name = "hold", .only = argc > 1 && *argv[1] ? argv[1] : NULL, .rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 301 };
	static struct world w;

	w.memory = mmap(NULL, 2 * RUN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(w.memory == MAP_FAILED ? -errno : 0, "mmap");
	memset(w.memory, 1, 2 * RUN * PAGE);
	bench_policy(&b, &w, IOF_POLICY_TRUST, "trust");
	bench_policy(&b, &w, IOF_POLICY_PROBE, "probe");
	bench_policy(&b, &w, IOF_POLICY_MLOCK, "mlock");
	bench_policy(&b, &w, IOF_POLICY_IO_URING, "io_uring");
	return 0;
}
