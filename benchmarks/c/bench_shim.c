// SPDX-License-Identifier: Apache-2.0
/*
 * What the shim costs: IOAS_MAP and IOAS_UNMAP of 4 KiB by ioctl(2) on /dev/iommu under the preload library, against iof_ioctl()
 * on a machine of this program's own that is made with the same options (arena, probed memory, synthetic addresses, the kernel's
 * accounting). Both are in this process and take turns round by round.
 *
 *   bench_shim [part of a case's name] [rounds]
 *
 * Names: what is attached (none: no page table; domain: one device), the door (direct, shim), the call. `over`: what the shim's
 * costs more. The program starts itself again with the library preloaded, which lies beside its folder (make benchmark-c puts
 * it there) or where IOMMUFD_FAST_PRELOAD says.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "iommufd_fast.h"
#include "util/arena.h"

#define PAGE UINT64_C(4096)
#define RUN 256u
#define SLOW_ROUNDS 11u /* with a page table: such a machine asks the system what each page is, and a map takes many microseconds */
#define AGAIN "IOF_BENCH_SHIM"

/* The same calls through either door: 0 or a negative errno. */
struct door {
	int (*call)(const struct door *door, bool device, unsigned long cmd, void *arg);
	struct iof_handle *ctx, *dev;
	int ctx_fd, dev_fd;
	uint32_t ioas;
	uint64_t iovas[RUN];
	double map[BENCH_ROUNDS_MAX], unmap[BENCH_ROUNDS_MAX];
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_shim: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

static int call_direct(const struct door *door, bool device, unsigned long cmd, void *arg)
{
	return iof_ioctl(device ? door->dev : door->ctx, cmd, arg);
}

static int call_shim(const struct door *door, bool device, unsigned long cmd, void *arg)
{
	return ioctl(device ? door->dev_fd : door->ctx_fd, cmd, arg) < 0 ? -errno : 0;
}

static void open_direct(struct door *door)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1, .policy = IOF_POLICY_PROBE, .addresses = IOF_ADDRESSES_SYNTHETIC,
					  .accounting = IOF_ACCOUNTING_KERNEL };
	struct iof_arena *arena;
	struct iof_machine *machine;

	must(iof_arena_create((size_t)1 << 30, &arena), "arena");
	cfg.alloc = iof_arena_alloc(arena);
	must(iof_machine_create(&cfg, &machine), "machine");
	must(iof_engine_open(machine, &door->ctx), "open");
	must(iof_engine_open_device(machine, 0, &door->dev), "open the device");
	door->ctx_fd = iof_fileno(door->ctx);
}

static void open_shim(struct door *door)
{
	door->ctx_fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	must(door->ctx_fd < 0 ? -errno : 0, "/dev/iommu");
	door->dev_fd = open("/dev/vfio/devices/vfio0", O_RDWR | O_CLOEXEC);
	must(door->dev_fd < 0 ? -errno : 0, "/dev/vfio/devices/vfio0");
}

static void make_ioas(struct door *door)
{
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_bind bind = { .argsz = sizeof(bind), .iommufd = door->ctx_fd };

	must(door->call(door, false, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS");
	must(door->call(door, true, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	door->ioas = alloc.out_ioas_id;
}

static void attach(struct door *door)
{
	struct iof_cmd_attach at = { .argsz = sizeof(at), .pt_id = door->ioas };

	must(door->call(door, true, IOF_CMD_DEVICE_ATTACH_PT, &at), "attach");
}

/* ---- the timed calls ---- */

static void map_run(struct door *door, const char *memory)
{
	for (unsigned i = 0; i < RUN; i++) {
		struct iof_cmd_ioas_map m = { .size = sizeof(m), .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
					      .ioas_id = door->ioas, .user_va = (uintptr_t)memory + i * PAGE,
					      .length = PAGE };

		must(door->call(door, false, IOF_CMD_IOAS_MAP, &m), "map");
		door->iovas[i] = m.iova;
	}
}

static void unmap_run(struct door *door)
{
	for (unsigned i = 0; i < RUN; i++) {
		struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = door->ioas, .iova = door->iovas[i],
						.length = PAGE };

		must(door->call(door, false, IOF_CMD_IOAS_UNMAP, &u), "unmap");
	}
}

static void round_of(struct door *door, const char *memory, unsigned round)
{
	uint64_t start = bench_now(), middle;

	map_run(door, memory);
	middle = bench_now();
	unmap_run(door);
	door->map[round] = (double)(middle - start) / RUN;
	door->unmap[round] = (double)(bench_now() - middle) / RUN;
}

static void report(const struct bench *b, const char *attached, const char *call, double *direct, double *shim)
{
	double *both[] = { direct, shim };
	const char *names[] = { "direct", "shim" };
	char name[96];

	snprintf(name, sizeof(name), "%s/%s", attached, call);
	if (!bench_wanted(b, name))
		return;
	for (unsigned i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/%s_%s", attached, call, names[i]);
		bench_report(b, name, both[i], b->rounds, RUN);
	}
	printf("{\"bench\": \"%s\", \"case\": \"%s/%s_over\", \"ns_min\": %.2f, \"ns_median\": %.2f, \"unit_ops\": %u}\n", b->name,
	       attached, call, shim[0] - direct[0], shim[b->rounds / 2] - direct[b->rounds / 2], RUN);
}

static void compare(const struct bench *b, const char *attached, struct door *doors, const char *memory)
{
	for (unsigned round = 0; round < b->rounds; round++)
		for (unsigned i = 0; i < 2; i++)
			round_of(&doors[i], memory, round);
	report(b, attached, "map_4k", doors[0].map, doors[1].map);
	report(b, attached, "unmap_4k", doors[0].unmap, doors[1].unmap);
}

/* ---- the second start ---- */

static void start_again(char **argv)
{
	static char self[4096], path[4200];
	const char *given = getenv("IOMMUFD_FAST_PRELOAD");
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	must(n < 0 ? -errno : 0, "/proc/self/exe");
	for (int up = 0; up < 2 && strrchr(self, '/'); up++)
		*strrchr(self, '/') = '\0';
	snprintf(path, sizeof(path), "%s/libiommufd_fast_preload.so", self);
	if (given)
		snprintf(path, sizeof(path), "%s", given);
	must(access(path, R_OK) ? -errno : 0, path);
	setenv("LD_PRELOAD", path, 1);
	setenv("IOMMUFD_FAST_MACHINE", "intel", 1);
	unsetenv("IOMMUFD_FAST_GROUPS");
	setenv(AGAIN, "1", 1);
	execv("/proc/self/exe", argv);
	must(-errno, "start again");
}

int main(int argc, char **argv)
{
	struct bench b = { "shim", argc > 1 && *argv[1] ? argv[1] : NULL, argc > 2 ? (unsigned)atoi(argv[2]) : 201 };
	static struct door doors[2] = { { .call = call_direct }, { .call = call_shim } };
	char *memory;

	if (!getenv(AGAIN))
		start_again(argv);
	b.rounds = b.rounds < 1 ? 1 : b.rounds > BENCH_ROUNDS_MAX ? BENCH_ROUNDS_MAX : b.rounds;
	memory = mmap(NULL, RUN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(memory == MAP_FAILED ? -errno : 0, "mmap");
	memset(memory, 1, RUN * PAGE);
	open_direct(&doors[0]);
	open_shim(&doors[1]);
	for (unsigned i = 0; i < 2; i++)
		make_ioas(&doors[i]);
	compare(&b, "none", doors, memory);
	for (unsigned i = 0; i < 2; i++)
		attach(&doors[i]);
	b.rounds = b.rounds < SLOW_ROUNDS ? b.rounds : SLOW_ROUNDS;
	compare(&b, "domain", doors, memory);
	return 0;
}
