// SPDX-License-Identifier: Apache-2.0
/*
 * Mapping in 4 KiB leaves over threads: 8 GiB of address space only (trust), so that page tables are what takes time; and 1 GiB of memory by
 * probe, where every page is touched. The time of a map alone, unmapping is not in it.
 *
 *   bench_parallel [part of a case's name] [rounds]
 *
 * The bound of the first, on a machine of two processors: a bare loop of 32-byte stores over its 16 MiB of leaves takes 200 to 230 us on one
 * thread, 116 us on two that run already, 150 to 160 us when one of them is made first; non-temporal stores 370 us on one and on two.
 */
#include <errno.h>
#include <sys/mman.h>

#include "bench.h"
#include "iommufd_fast_parallel.h"
#include "iommufd_fast_reshape.h"

#define GIB (UINT64_C(1) << 30)

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas, threads;
	char *memory;
	uint64_t length;
	enum iof_policy policy;
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_parallel: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static void open_world(struct world *w)
{
	const uint32_t group = 1;
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = &group, .n_groups = 1 };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_bind bind = { .argsz = sizeof(bind) };
	struct iof_cmd_attach attach = { .argsz = sizeof(attach) };
	struct iof_cmd_option small = { .size = sizeof(small), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_SET };

	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	must(iof_engine_open_device(w->machine, 0, &w->dev), "open device");
	bind.iommufd = iof_fileno(w->ctx);
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS_ALLOC");
	small.object_id = attach.pt_id = w->ioas = alloc.out_ioas_id;
	must(iof_ioctl(w->ctx, IOF_CMD_OPTION, &small), "OPTION");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &attach), "attach");
}

static void map(void *ctx)
{
	struct world *w = ctx;
	struct iof_map_parallel m = { .size = sizeof(m), .ioas_id = w->ioas, .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
				      .threads = w->threads, .policy = w->policy, .address = (uintptr_t)w->memory,
				      .length = w->length };

	must(iof_map_parallel(w->ctx, &m), "map");
}

static void clear(void *ctx)
{
	struct world *w = ctx;
	struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .length = UINT64_MAX };

	(void)iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u);
}

/* Is it what the case says? */
static void check_leaves(struct world *w)
{
	struct iof_ioas_entries e;

	w->threads = 1;
	map(w);
	must(iof_ioas_entries(w->ctx, w->ioas, &e), "entries");
	must(e.leaves[12] == w->length >> 12 ? 0 : -EIO, "leaves of other sizes");
	clear(w);
}

static void rows(const struct bench *b, struct world *w, const char *what)
{
	char name[32];
	double ns[3];

	if (!bench_wanted(b, what))
		return;
	check_leaves(w);
	for (w->threads = 1; w->threads <= 2; w->threads++) {
		snprintf(name, sizeof(name), "%s/threads%u", what, w->threads);
		ns[w->threads] = bench_run(b, name, 1, map, clear, w);
	}
	clear(w);
	if (ns[1] > 0 && ns[2] > 0)
		printf("{\"bench\": \"parallel\", \"case\": \"%s/scaling\", \"ratio\": %.2f}\n", what, ns[1] / ns[2]);
}

static char *reserve(uint64_t bytes, int prot)
{
	char *p = mmap(NULL, bytes + GIB, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(p == MAP_FAILED ? -errno : 0, "mmap");
	return p + (-(uintptr_t)p & (GIB - 1));
}

int main(int argc, char **argv)
{
	const struct bench b = { "parallel", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 11 };
	static struct world w;

	open_world(&w);
	w.length = 8 * GIB;
	w.policy = IOF_POLICY_TRUST;
	w.memory = reserve(w.length, PROT_NONE);
	rows(&b, &w, "8g_4k_leaves");
	w.length = GIB;
	w.policy = IOF_POLICY_PROBE;
	w.memory = reserve(w.length, PROT_READ | PROT_WRITE);
	rows(&b, &w, "1g_4k_leaves_probe"); /* the first map, of check_leaves(), makes the pages */
	iof_close(w.dev);
	iof_close(w.ctx);
	iof_machine_put(w.machine);
	return 0;
}
