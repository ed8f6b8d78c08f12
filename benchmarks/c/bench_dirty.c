/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HWPT_GET_DIRTY_BITMAP, one call: 1 GiB of 4K pages, so many of a thousand of them dirty, spread evenly with some noise. The goal for 10 of 1000 is 150 us.
 * `clear` makes them clean (they are made dirty again before each round, untimed); `keep` does not.
 */
#include "bench.h"
#include "iommufd_fast_embed.h"

#define PAGES (1u << 18)
#define BASE (UINT64_C(1) << 30)
#define PAGE 4096ull

static struct iof_handle *ctx, *dev;
static uint32_t dev_id, ioas, hwpt;
static uint8_t bitmap[PAGES / 8];
static unsigned permille;
static uint32_t flags;

static void must(int64_t rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench_dirty: %s\n", strerror((int)-rc));
	exit(1);
}

static int mark(void *arg, struct iof_hwpt *h)
{
	uint64_t noise = 88172645463325252u;

	(void)arg;
	for (uint64_t i = 0; i < PAGES; i++) {
		noise ^= noise << 13;
		noise ^= noise >> 7;
		noise ^= noise << 17;
		if (noise % 1000 < permille)
			must(iof_hwpt_set_dirty(h, BASE + i * PAGE));
	}
	return 0;
}

static void reset(void *arg)
{
	memset(bitmap, 0, sizeof(bitmap));
	if (!flags || arg)
		must(iof_with_hwpt(ctx, hwpt, mark, NULL));
}

static void read_bitmap(void *arg)
{
	struct iof_cmd_get_dirty_bitmap c = { .size = sizeof(c), .hwpt_id = hwpt, .flags = flags, .iova = BASE, .length = PAGES * PAGE,
					      .page_size = PAGE, .data = (uintptr_t)bitmap };

	(void)arg;
	must(iof_ioctl(ctx, IOF_CMD_HWPT_GET_DIRTY_BITMAP, &c));
}

static void set_up(struct iof_machine *m)
{
	struct iof_cmd_bind bind = { .argsz = sizeof(bind) };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_hwpt_alloc table = { .size = sizeof(table), .flags = IOF_HWPT_DIRTY_TRACKING };
	/* IOVA and address differ by half a page size's multiple, so that leaves are 4K */
	struct iof_cmd_ioas_map map = { .size = sizeof(map), .flags = IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
					.user_va = (UINT64_C(1) << 40) + PAGE, .length = PAGES * PAGE, .iova = BASE };
	struct iof_cmd_set_dirty_tracking on = { .size = sizeof(on), .flags = 1 };

	must(iof_engine_open(m, &ctx));
	must(iof_engine_open_device(m, 0, &dev));
	bind.iommufd = iof_fileno(ctx);
	must(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind));
	dev_id = bind.out_devid;
	must(iof_ioctl(ctx, IOF_CMD_IOAS_ALLOC, &alloc));
	ioas = alloc.out_ioas_id;
	table.dev_id = dev_id;
	table.pt_id = map.ioas_id = ioas;
	must(iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &table));
	hwpt = on.hwpt_id = table.out_hwpt_id;
	must(iof_ioctl(ctx, IOF_CMD_IOAS_MAP, &map));
	must(iof_ioctl(ctx, IOF_CMD_HWPT_SET_DIRTY_TRACKING, &on));
}

static void measure(const struct bench *b, const char *preset)
{
	static const unsigned shares[] = { 0, 1, 10, 100, 1000 };
	char name[64];

	for (unsigned i = 0; i < sizeof(shares) / sizeof(*shares); i++)
		for (flags = 0; flags < 2; flags++) {
			permille = shares[i];
			reset(&permille);
			snprintf(name, sizeof(name), "%s/%u_of_1000/%s", preset, permille, flags ? "keep" : "clear");
			bench_run(b, name, 1, read_bitmap, reset, NULL);
			flags = 0;
			read_bitmap(NULL);
			flags = name[strlen(name) - 1] == 'p';
		}
}

int main(int argc, char **argv)
{
	static const char *const presets[] = { [IOF_PRESET_INTEL] = "intel", [IOF_PRESET_AMD] = "amd" };
	struct bench b = { .name = "dirty", .only = argc > 1 ? argv[1] : NULL, .rounds = 101 };

	for (unsigned p = IOF_PRESET_INTEL; p <= IOF_PRESET_AMD; p++) {
		struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = p, .groups = (uint32_t[]){ 1 }, .n_groups = 1 };
		struct iof_machine *m;

		must(iof_machine_create(&cfg, &m));
		set_up(m);
		measure(&b, presets[p]);
		iof_close(dev);
		iof_close(ctx);
		iof_machine_put(m);
	}
	return 0;
}
