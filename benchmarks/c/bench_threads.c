// SPDX-License-Identifier: Apache-2.0
/*
 * Scaling: one thread alone, then two at once, each doing the same maps and unmaps by iof_ioctl() or in batches.
 *
 *   bench_threads [part of a case's name] [rounds]
 *
 * One operation is a map and its unmap of 4 KiB. A round is short and begins at a signal that both threads spin on; it lasts until the slower one is done. `own`: each thread
 * has an IOAS with a page table of its own in one context. `shared`: both use one IOAS. `fixed`: each thread in a 2 MiB window of its own; `auto`: the engine chooses the
 * IOVA; `many`: batches of 64 maps, then of 64 unmaps. A row `…/scaling` says how many times the work of one thread two did: 2 is all there is.
 * Two threads need two idle processors: on a busy machine give many rounds, the best counts.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "iommufd_fast.h"

#define PAGE UINT64_C(4096)
#define WINDOW (UINT64_C(2) << 20)
#define BASE (UINT64_C(1) << 40)
#define RUN 256u
#define BATCH 64u

struct world {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev[2];
	uint32_t ioas[2]; /* twice the same when shared */
};

struct worker {
	struct world *world;
	unsigned self;
	void (*run)(struct worker *w);
	_Atomic unsigned *go; /* the round to run; 0 ends */
	_Atomic unsigned done; /* the last round that was run */
	uint64_t began, ended;
	uint64_t address[RUN], length[RUN], iova[RUN];
};

static void must(int64_t err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "bench_threads: %s: %s\n", what, strerror((int)-err));
		exit(1);
	}
}

/* ---- the work of one round: RUN maps and RUN unmaps ---- */

static void map_all(struct worker *w, uint32_t flags)
{
	struct iof_cmd_ioas_map m = { .size = sizeof(m), .ioas_id = w->world->ioas[w->self], .length = PAGE,
				      .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE | flags };

	for (unsigned i = 0; i < RUN; i++) {
		m.user_va = w->address[i];
		m.iova = BASE + w->self * WINDOW + i * PAGE;
		must(iof_ioctl(w->world->ctx, IOF_CMD_IOAS_MAP, &m), "map");
		w->iova[i] = m.iova;
	}
}

static void unmap_all(struct worker *w)
{
	struct iof_cmd_ioas_unmap u = { .size = sizeof(u), .ioas_id = w->world->ioas[w->self] };

	for (unsigned i = 0; i < RUN; i++) {
		u.iova = w->iova[i];
		u.length = PAGE;
		must(iof_ioctl(w->world->ctx, IOF_CMD_IOAS_UNMAP, &u), "unmap");
	}
}

static void run_fixed(struct worker *w)
{
	map_all(w, IOF_MAP_FIXED_IOVA);
	unmap_all(w);
}

static void run_auto(struct worker *w)
{
	map_all(w, 0);
	unmap_all(w);
}

static void run_many(struct worker *w)
{
	struct iof_map_many m = { .ioas_id = w->world->ioas[w->self], .flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
				  .policy = IOF_POLICY_TRUST, .n = BATCH, .lengths = w->length };
	struct iof_unmap_many u = { .ioas_id = m.ioas_id, .n = BATCH, .lengths = w->length };

	for (unsigned i = 0; i < RUN; i += BATCH) {
		m.addresses = w->address + i;
		m.iovas = w->iova + i;
		must(iof_map_many(w->world->ctx, &m), "map_many");
	}
	for (unsigned i = 0; i < RUN; i += BATCH) {
		u.iovas = w->iova + i;
		must(iof_unmap_many(w->world->ctx, &u) == BATCH ? 0 : -EIO, "unmap_many");
	}
}

/* ---- threads ---- */

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" : : : "memory");
#endif
}

static void one_round(struct worker *w, unsigned round)
{
	w->began = bench_now();
	w->run(w);
	w->ended = bench_now();
	atomic_store_explicit(&w->done, round, memory_order_release);
}

static void *other(void *arg)
{
	struct worker *w = arg;
	unsigned round, last = 0;

	while ((round = atomic_load_explicit(w->go, memory_order_acquire)) || !last) {
		if (round == last)
			relax();
		else
			one_round(w, last = round);
	}
	return NULL;
}

/* How long a round takes both, or one alone: from the first to begin to the last to end. */
static uint64_t time_round(struct worker *w, unsigned n, unsigned round)
{
	if (n == 2)
		atomic_store_explicit(w[1].go, round, memory_order_release);
	one_round(&w[0], round);
	if (n == 1)
		return w[0].ended - w[0].began;
	while (atomic_load_explicit(&w[1].done, memory_order_acquire) != round)
		relax();
	return (w[0].ended > w[1].ended ? w[0].ended : w[1].ended) -
	       (w[0].began < w[1].began ? w[0].began : w[1].began);
}

static double rounds(const struct bench *b, struct worker *w, unsigned n, const char *name)
{
	static double samples[BENCH_ROUNDS_MAX];
	unsigned count = b->rounds < BENCH_ROUNDS_MAX ? b->rounds : BENCH_ROUNDS_MAX;
	_Atomic unsigned go = 0;
	pthread_t thread;

	w[0].go = w[1].go = &go;
	if (n == 2)
		must(-pthread_create(&thread, NULL, other, &w[1]), "thread");
	for (unsigned i = 0; i < count; i++)
		samples[i] = (double)time_round(w, n, i + 1) / RUN;
	atomic_store_explicit(&go, 0, memory_order_release);
	if (n == 2)
		pthread_join(thread, NULL);
	bench_report(b, name, samples, count, RUN);
	return samples[0];
}

/* ---- the worlds ---- */

static void attach(struct world *w, unsigned i)
{
	struct iof_cmd_bind bind = { .argsz = sizeof(bind), .iommufd = iof_fileno(w->ctx) };
	struct iof_cmd_attach at = { .argsz = sizeof(at), .pt_id = w->ioas[i] };

	must(iof_engine_open_device(w->machine, i, &w->dev[i]), "open the device");
	must(iof_ioctl(w->dev[i], IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "bind");
	must(iof_ioctl(w->dev[i], IOF_CMD_DEVICE_ATTACH_PT, &at), "attach");
}

static void open_world(struct world *w, bool shared)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1, 1 },
					  .n_groups = 2, .policy = IOF_POLICY_TRUST };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };

	memset(w, 0, sizeof(*w));
	must(iof_machine_create(&cfg, &w->machine), "machine");
	must(iof_engine_open(w->machine, &w->ctx), "open");
	for (unsigned i = 0; i < 2; i++) {
		if (!i || !shared) {
			must(iof_ioctl(w->ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS");
			w->ioas[i] = alloc.out_ioas_id;
			attach(w, i);
		} else {
			w->ioas[1] = w->ioas[0];
		}
	}
}

/* Nothing is left, and every map and unmap was one. */
static void check_world(struct world *w, uint64_t ops)
{
	struct iof_ioas_stats st;
	uint64_t maps = 0, unmaps = 0;

	for (unsigned i = 0; i < (w->ioas[0] == w->ioas[1] ? 1u : 2u); i++) {
		must(iof_ioas_stats(w->ctx, w->ioas[i], &st), "statistics");
		must(st.mappings ? -EIO : 0, "something is still mapped");
		maps += st.maps;
		unmaps += st.unmaps;
	}
	must(maps == ops && unmaps == ops ? 0 : -EIO, "the counts are wrong");
}

static void close_world(struct world *w)
{
	iof_close(w->dev[0]);
	iof_close(w->dev[1]);
	iof_close(w->ctx);
	iof_machine_put(w->machine);
}

static void scenario(const struct bench *b, const char *name, bool shared, void (*run)(struct worker *w))
{
	static struct worker workers[2];
	struct world w;
	char row[64];
	double ns[3];

	if (!bench_wanted(b, name))
		return;
	open_world(&w, shared);
	for (unsigned t = 0; t < 2; t++) {
		workers[t] = (struct worker){ .world = &w, .self = t, .run = run };
		for (unsigned i = 0; i < RUN; i++) {
			workers[t].address[i] = (UINT64_C(1) << 44) + (t * RUN + i) * PAGE;
			workers[t].length[i] = PAGE;
		}
	}
	for (unsigned n = 1; n <= 2; n++) {
		snprintf(row, sizeof(row), "%s/%u", name, n);
		ns[n] = rounds(b, workers, n, row);
	}
	check_world(&w, (uint64_t)b->rounds * 3 * RUN);
	printf("{\"bench\": \"%s\", \"case\": \"%s/scaling\", \"ratio\": %.2f}\n", b->name, name, 2 * ns[1] / ns[2]);
	close_world(&w);
}

int main(int argc, char **argv)
{
	const struct bench b = { "threads", argc > 1 && *argv[1] ? argv[1] : NULL,
				 argc > 2 && atoi(argv[2]) < BENCH_ROUNDS_MAX ? (unsigned)atoi(argv[2]) : 501 };

	scenario(&b, "own/fixed", false, run_fixed);
	scenario(&b, "own/auto", false, run_auto);
	scenario(&b, "own/many", false, run_many);
	scenario(&b, "shared/fixed", true, run_fixed);
	scenario(&b, "shared/auto", true, run_auto);
	scenario(&b, "shared/many", true, run_many);
	return 0;
}
