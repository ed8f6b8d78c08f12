// SPDX-License-Identifier: Apache-2.0
/*
 * The whole engine through its public door: IOAS_MAP and IOAS_UNMAP by iof_ioctl() on prepared structs.
 *
 *   bench_ioas [part of a case's name] [rounds]
 *
 * Names: how memory is held (trust, probe), what is attached (none: no page table; domain: one device; used: one device that
 * has done DMA, so that unmaps look into the IOTLB), how many other 4 KiB mappings live, the call and its length. `fixed`: the
 * caller chooses the IOVA. `4k_leaves`: large pages are off. Runs of 256 maps, then 256 unmaps; long ranges one at a time.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "iommufd_fast.h"

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)
#define RUN 256u
#define FIXED_BASE (UINT64_C(1) << 40)
#define MOST UINT64_C(10000000) /* live mappings */

enum attached { NONE, DOMAIN, USED };

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	char *memory; /* what the timed calls map */
	char *live; /* address space only, never touched */
	uint64_t length, step;
	unsigned ops;
	bool fixed;
	uint64_t iovas[RUN];
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_ioas: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static void *reserve(uint64_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	must(p == MAP_FAILED ? -errno : 0, "mmap");
	return p;
}

static uint64_t map_one(struct world *w, uint64_t address, uint64_t length, uint64_t iova)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE, .ioas_id = w->ioas,
				      .user_va = address, .length = length, .iova = iova };

	if (w->fixed)
		m.flags |= IOF_MAP_FIXED_IOVA;
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP, &m), "map");
	return m.iova;
}

static void unmap_one(struct world *w, uint64_t iova, uint64_t length)
{
	struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->ioas, .iova = iova, .length = length };

	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
}

static void run_map(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < w->ops; i++)
		w->iovas[i] = map_one(w, (uintptr_t)w->memory + i * w->step, w->length, FIXED_BASE + i * w->length);
}

static void run_unmap(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < w->ops; i++)
		unmap_one(w, w->iovas[i], w->length);
}

static void attach(struct world *w, enum attached how)
{
	struct iof_cmd_bind bind = { .argsz = sizeof(bind), .iommufd = iof_fileno(w->ctx) };
	struct iof_cmd_attach at = { .argsz = sizeof(at), .pt_id = w->ioas };
	struct iof_dma_segment segment = { .length = 8 };
	uint64_t word = 0;
	struct iof_dma dma = { .op = IOF_DMA_READ, .pasid = IOF_NO_PASID, .segments = &segment, .n_segments = 1,
			       .buffer = &word };

	must(iof_engine_open_device(w->machine, 0, &w->dev), "open the device");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	must(iof_ioctl(w->dev, IOF_CMD_DEVICE_ATTACH_PT, &at), "attach");
	if (how != USED)
		return;
	segment.iova = map_one(w, (uintptr_t)w->memory, PAGE, FIXED_BASE);
	must(iof_dma(w->dev, &dma), "DMA");
	unmap_one(w, segment.iova, PAGE);
}

static void open_world(struct world *w, enum iof_policy policy, enum attached how, bool large)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1, .policy = policy };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_option option = { .size = sizeof(option), .option_id = IOF_OPTION_HUGE_PAGES, .val64 = large };

	w->dev = NULL;
	w->fixed = false;
	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS");
	w->ioas = option.object_id = alloc.out_ioas_id;
	must(iof_ioctl(w->ctx, IOF_CMD_OPTION, &option), "large pages");
	if (how != NONE)
		attach(w, how);
}

static void close_world(struct world *w)
{
	iof_close(w->dev);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
}

static void fill(struct world *w, uint64_t n)
{
	enum { CHUNK = 1000 };
	static uint64_t addresses[CHUNK], lengths[CHUNK], iovas[CHUNK];
	struct iof_map_many many = { .ioas_id = w->ioas, .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
				     .policy = IOF_POLICY_TRUST, .n = CHUNK, .addresses = addresses, .lengths = lengths,
				     .iovas = iovas };

	for (uint64_t at = 0; at < n; at += CHUNK) {
		for (unsigned i = 0; i < CHUNK; i++) {
			addresses[i] = (uintptr_t)w->live + (at + i) * PAGE;
			lengths[i] = PAGE;
		}
		must(iof_map_many(w->ctx, &many), "fill");
	}
}

/* One row for the maps and one for the unmaps. */
static void both(const struct bench *b, struct world *w, const char *prefix, const char *suffix)
{
	char name[96];

	snprintf(name, sizeof(name), "%s/map_%s", prefix, suffix);
	if (bench_wanted(b, name)) {
		run_map(w);
		bench_run(b, name, w->ops, run_map, run_unmap, w);
		run_unmap(w);
	}
	snprintf(name, sizeof(name), "%s/unmap_%s", prefix, suffix);
	if (bench_wanted(b, name))
		bench_run(b, name, w->ops, run_unmap, run_map, w);
}

static void pages(const struct bench *b, struct world *w, enum iof_policy policy, enum attached how, uint64_t live)
{
	static const char *const names[] = { "none", "domain", "used" };
	char prefix[64];
	struct iof_ioas_stats st;

	snprintf(prefix, sizeof(prefix), "%s/%s/%llu", policy == IOF_POLICY_PROBE ? "probe" : "trust", names[how],
		 (unsigned long long)live);
	w->ops = RUN;
	w->length = w->step = PAGE;
	open_world(w, policy, how, true);
	fill(w, live);
	both(b, w, prefix, "4k");
	w->fixed = true;
	both(b, w, prefix, "4k_fixed");
	must(iof_ioas_stats(w->ctx, w->ioas, &st), "statistics");
	must(st.mappings == live && st.bytes_mapped == live * PAGE ? 0 : -EIO, "what is mapped is not what was mapped");
	close_world(w);
}

static void lengths(const struct bench *b, struct world *w, enum iof_policy policy, bool large)
{
	const char *prefix = policy == IOF_POLICY_PROBE ? "probe/domain/0" : "trust/domain/0";

	open_world(w, policy, DOMAIN, large);
	w->ops = 16;
	w->length = w->step = 2 * MIB;
	both(b, w, prefix, large ? "2m" : "2m_4k_leaves");
	w->ops = 1;
	w->length = w->step = 256 * MIB;
	both(b, w, prefix, large ? "256m" : "256m_4k_leaves");
	close_world(w);
}

static uint64_t rss(void)
{
	unsigned long long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	must(f && fscanf(f, "%llu %llu", &size, &resident) == 2 ? 0 : -EIO, "/proc/self/statm");
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A context opened and closed again, on a machine that is there. */
static void run_open(void *ctx)
{
	struct world *w = ctx;
	struct iof_handle *h;

	for (unsigned i = 0; i < w->ops; i++) {
		must(iof_engine_open(w->machine, &h), "open");
		iof_close(h);
	}
}

static void opening(const struct bench *b, struct world *w)
{
	open_world(w, IOF_POLICY_TRUST, NONE, true);
	w->ops = 16;
	bench_run(b, "engine/open+close", w->ops, run_open, NULL, w);
	close_world(w);
}

/* Index, record and leaf entry together, as the process grows; the mapped memory itself is never touched. */
static void memory(const struct bench *b, struct world *w, enum attached how, const char *name)
{
	const uint64_t n = 1000000;
	uint64_t before;

	if (!bench_wanted(b, name))
		return;
	open_world(w, IOF_POLICY_TRUST, how, true);
	fill(w, 1000);
	before = rss();
	fill(w, n - 1000);
	printf("{\"bench\": \"ioas\", \"case\": \"%s\", \"bytes_per_mapping\": %.1f}\n", name,
	       (double)(rss() - before) / (double)(n - 1000));
	close_world(w);
}

int main(int argc, char **argv)
{
	const struct bench b = { "ioas", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 51 };
	const uint64_t counts[] = { 0, 1000, 20000, MOST / 10, MOST };
	static struct world w;
	char *area = reserve(256 * MIB + 2 * MIB, 0);

	w.memory = area + (-(uintptr_t)area & (2 * MIB - 1));
	w.live = reserve(MOST * PAGE, MAP_NORESERVE);
	memset(w.memory, 1, 256 * MIB);
	memory(&b, &w, DOMAIN, "rss/domain/1000000"); /* first: the heap has nothing to give back yet */
	opening(&b, &w);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned how = NONE; how <= USED; how++)
			pages(&b, &w, IOF_POLICY_TRUST, (enum attached)how, counts[i]);
	pages(&b, &w, IOF_POLICY_TRUST, DOMAIN, counts[4]);
	pages(&b, &w, IOF_POLICY_PROBE, DOMAIN, 0);
	pages(&b, &w, IOF_POLICY_PROBE, DOMAIN, 20000);
	lengths(&b, &w, IOF_POLICY_TRUST, true);
	lengths(&b, &w, IOF_POLICY_TRUST, false);
	lengths(&b, &w, IOF_POLICY_PROBE, false);
	return 0;
}
