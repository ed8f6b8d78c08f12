// SPDX-License-Identifier: Apache-2.0
/*
 * How cost grows: IOAS_MAP and IOAS_UNMAP of 4 KiB against the number of live mappings, up to 10^7; of one range against its length,
 * up to 4 GiB by 4 KiB leaves and by the largest; and the process's memory per live mapping.
 *
 *   bench_growth [part of a case's name] [rounds]
 *
 * One device is attached and the memory is taken on trust, so it is never touched. A live mapping is 4 KiB at an address of its own, in
 * ascending order. Timed are maps that find their own IOVA. With every count a sample of the live mappings is translated
 * and compared; a wrong address ends the run.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "iommufd_fast.h"

#define PAGE UINT64_C(4096)
#define RUN 256u
#define MOST UINT64_C(10000000)
#define RW (IOF_MAP_READABLE | IOF_MAP_WRITEABLE)

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *memory;
	uint64_t live, length;
	unsigned ops;
	uint64_t iovas[RUN];
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_growth: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static void open_world(struct world *w, bool large)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1 };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_bind bind = { .argsz = sizeof(bind) };
	struct iof_cmd_attach at = { .argsz = sizeof(at) };
	struct iof_cmd_option option = { .size = sizeof(option), .option_id = IOF_OPTION_HUGE_PAGES, .val64 = large };

	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS");
	w->ioas = option.object_id = at.pt_id = alloc.out_ioas_id;
	must(iof_ioctl(w->ctx, IOF_CMD_OPTION, &option), "large pages");
	must(iof_engine_open_device(w->machine, 0, &w->dev), "open the device");
	bind.iommufd = iof_fileno(w->ctx);
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &at), "attach");
	w->live = 0;
}

static void close_world(struct world *w)
{
	iof_close(w->dev);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
}

static uint64_t map_one(struct world *w, uint64_t offset, uint64_t length)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = RW, .ioas_id = w->ioas,
				      .user_va = (uintptr_t)w->memory + offset, .length = length };

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP, &m), "map");
	return m.iova;
}

static void fill(struct world *w, uint64_t n)
{
	for (; w->live < n; w->live++)
		map_one(w, w->live * PAGE, PAGE);
}

static void run_map(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < w->ops; i++)
		w->iovas[i] = map_one(w, w->live * PAGE + i * w->length, w->length);
}

static void run_unmap(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < w->ops; i++) {
		struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .iova = w->iovas[i], .length = w->length };

		must(iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
	}
}

/* What was mapped last translates to where it lies: after fills, one range in a thousand or so. */
static void check(struct world *w)
{
	struct iof_mapping_info info;
	uint64_t from = 0, address;

	for (unsigned i = 0; i < 1000 && !iof_ioas_mapping(w->ctx, w->ioas, from, UINT64_MAX, &info); i++) {
		if (iof_translate(w->ctx, w->ioas, 1, &info.iova, &address, NULL) != 1 || address != info.address)
			must(-EIO, "a live mapping translates to another address");
		from = info.iova + (w->live / 1000 + 1) * PAGE;
	}
}

static uint64_t rss(void)
{
	unsigned long long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	must(f && fscanf(f, "%llu %llu", &size, &resident) == 2 ? 0 : -EIO, "/proc/self/statm");
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Each brings back the state that the other's next round needs. */
static void both(const struct bench *b, struct world *w, const char *axis, uint64_t x)
{
	char name[64];

	run_map(w);
	snprintf(name, sizeof(name), "%s/map/%llu", axis, (unsigned long long)x);
	bench_run(b, name, w->ops, run_map, run_unmap, w);
	run_unmap(w);
	snprintf(name, sizeof(name), "%s/unmap/%llu", axis, (unsigned long long)x);
	bench_run(b, name, w->ops, run_unmap, run_map, w);
}

static void by_live(const struct bench *b, struct world *w)
{
	uint64_t before;

	open_world(w, true);
	w->length = PAGE;
	w->ops = RUN;
	before = rss();
	for (uint64_t n = 100; n <= MOST; n *= 10) {
		fill(w, n);
		check(w);
		printf("{\"bench\": \"growth\", \"case\": \"rss/%llu\", \"bytes_per_mapping\": %.1f}\n", (unsigned long long)n,
		       (double)(rss() - before) / (double)n);
		both(b, w, "live", n);
	}
	close_world(w);
}

static void by_length(const struct bench *b, struct world *w, bool large)
{
	struct bench few = *b;

	open_world(w, large);
	for (w->length = PAGE; w->length <= UINT64_C(4) << 30; w->length *= 8) {
		w->ops = w->length > 64 * PAGE ? 1 : 16;
		few.rounds = w->length >> 28 ? 5 : b->rounds;
		both(&few, w, large ? "length" : "length_by_4k", w->length);
	}
	close_world(w);
}

int main(int argc, char **argv)
{
	const struct bench b = { "growth", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 31 };
	static struct world w;
	char *area = mmap(NULL, (MOST + RUN) * PAGE + (UINT64_C(5) << 30), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(area == MAP_FAILED ? -errno : 0, "mmap");
	w.memory = area + (-(uintptr_t)area & ((UINT64_C(1) << 30) - 1));
	by_live(&b, &w);
	by_length(&b, &w, true);
	by_length(&b, &w, false);
	return 0;
}
