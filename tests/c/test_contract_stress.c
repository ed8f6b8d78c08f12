/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * 50 000 calls (200 000 in CI) from four threads at one machine: every command that changes something, in even shares, at objects that all threads share and at IOVAs
 * that overlap on purpose. There are 24 such commands, so an even share is 4.0 %, and what only looks has the rest; the histogram is printed. A share is met by
 * choosing the command first and its arguments then, so that more than half of all calls succeed.
 *
 * The calls are done in phases. After each one, at rest: everything is valid, each page of the buffers has as many pins as areas show it (one, for memory that
 * comes by COPY only, however many show it), what a device writes through each mapping is what the memory has, and closing all leaves nothing.
 */
#define _GNU_SOURCE /* memfd_create */
#include <pthread.h>
#include <unistd.h>

#include "dispatch/uapi_container.h"
#include "driver_rig.h"

#define THREADS 4
#define PHASE_CALLS 5000
#define PHASES 10 /* 50 000 calls; IOF_STRESS_PHASES=40 makes it 200 000, as CI does */
#define IOASES 4 /* shared, with page tables */
#define RIGS 4 /* devices of ours, shared by all */
#define BUFFER 32 /* pages of MAP; as many of COPY and of the file */
#define WINDOW 0x10000000ul
#define WINDOW_PAGES 48
#define POOL 64

enum cmd {
	DESTROY, IOAS_ALLOC, ALLOW, COPY, MAP, UNMAP, OPTION, VFIO_IOAS, HWPT_ALLOC, SET_DIRTY, GET_DIRTY, INVALIDATE, FAULT_ALLOC,
	MAP_THE_FILE, VIOMMU_ALLOC, VDEVICE_ALLOC, CHANGE_PROCESS, VEVENTQ_ALLOC, HW_QUEUE_ALLOC, CONTAINER_MAP, CONTAINER_UNMAP, BIND, ATTACH, DETACH,
	N_CHANGING, GET_HW_INFO = N_CHANGING, IOVA_RANGES, CHECK_EXTENSION, N_CMDS
};

static const char *const names[N_CMDS] = {
	"DESTROY", "IOAS_ALLOC", "IOAS_ALLOW_IOVAS", "IOAS_COPY", "IOAS_MAP", "IOAS_UNMAP", "OPTION", "VFIO_IOAS", "HWPT_ALLOC",
	"HWPT_SET_DIRTY_TRACKING", "HWPT_GET_DIRTY_BITMAP", "HWPT_INVALIDATE", "FAULT_QUEUE_ALLOC", "IOAS_MAP_FILE", "VIOMMU_ALLOC",
	"VDEVICE_ALLOC", "IOAS_CHANGE_PROCESS", "VEVENTQ_ALLOC", "HW_QUEUE_ALLOC", "VFIO MAP_DMA", "VFIO UNMAP_DMA", "VFIO BIND", "VFIO ATTACH",
	"VFIO DETACH", "GET_HW_INFO", "IOAS_IOVA_RANGES", "VFIO CHECK_EXTENSION",
};

static struct iof_alloc heap;
static struct iof_machine *m;
static struct iof_handle *ctx, *files_ctx, *rig_handle[RIGS], *soft[THREADS + 1];
static struct rig rig;
static uint32_t shared[IOASES], tracked[IOASES], parent, source, viommu, nested, rig_id[RIGS], soft_id, files_ioas;
static char *buffer, *copied, *file; /* BUFFER pages each */
static int memfd;
static _Atomic uint64_t calls[N_CMDS], good[N_CMDS];
static _Atomic int odd;

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t seed;
	uint32_t pool[POOL], viommus[POOL], spaces[POOL], vdevices[POOL]; /* ids that may be gone meanwhile */
	unsigned n_pool, n_viommus, n_spaces, n_vdevices;
	int fd[POOL];
	unsigned n_fds, turns;
	uint64_t mapped[POOL], mapped_in[POOL];
	unsigned n_mapped;
};

static uint64_t pick(struct worker *w, uint64_t n)
{
	return check_random(&w->seed) % n;
}

/* Overwrites an old one when there is no room. */
static void remember(struct worker *w, uint32_t *list, unsigned *n, uint32_t id)
{
	list[*n < POOL ? (*n)++ : pick(w, POOL)] = id;
}

static uint32_t one_of(struct worker *w, const uint32_t *list, unsigned n, uint32_t otherwise)
{
	return n && pick(w, 4) ? list[pick(w, n)] : otherwise;
}

static uint32_t any_ioas(struct worker *w)
{
	return shared[pick(w, IOASES)];
}

static uint64_t any_iova(struct worker *w)
{
	return WINDOW + pick(w, WINDOW_PAGES) * PAGE;
}

/* ---- one function for each command: what the ioctl answered ---- */

static int do_destroy(struct worker *w)
{
	unsigned i = w->n_pool ? (unsigned)pick(w, w->n_pool) : 0;
	int rc;

	if (w->n_vdevices && pick(w, 2)) /* there can be few of them, so they go soon */
		return destroy(ctx, w->vdevices[--w->n_vdevices]);
	if (!w->n_pool)
		return destroy(ctx, 9999);
	rc = destroy(ctx, w->pool[i]);
	if (rc != -EBUSY)
		w->pool[i] = w->pool[--w->n_pool];
	return rc;
}

static int do_ioas_alloc(struct worker *w)
{
	uint32_t id;
	int rc = ioas_alloc(ctx, &id);

	if (!rc) {
		remember(w, w->pool, &w->n_pool, id);
		remember(w, w->spaces, &w->n_spaces, id);
	}
	return rc;
}

static int do_allow(struct worker *w)
{
	struct iof_uapi_range r[2] = { { WINDOW, WINDOW + (1ul << 28) - 1 }, { 1ul << 32, 1ul << 33 } };
	struct iof_cmd_ioas_allow_iovas c = { .size = sizeof(c), .ioas_id = any_ioas(w), .num_iovas = (uint32_t)pick(w, 3),
					      .allowed_iovas = (uintptr_t)r };

	return iof_ioctl(ctx, IOF_CMD_IOAS_ALLOW_IOVAS, &c);
}

static void note_mapping(struct worker *w, uint32_t ioas, uint64_t iova)
{
	unsigned i = w->n_mapped < POOL ? w->n_mapped++ : (unsigned)pick(w, POOL);

	w->mapped[i] = iova;
	w->mapped_in[i] = ioas;
}

/* Half of all places are the thread's choice, and so in the way of others. */
static uint32_t place(struct worker *w, uint64_t *iova)
{
	*iova = any_iova(w);
	return RW | (pick(w, 2) ? IOF_MAP_FIXED_IOVA : 0);
}

static int do_copy(struct worker *w)
{
	uint32_t to = any_ioas(w);
	uint64_t iova, page = pick(w, BUFFER - 3);
	uint32_t flags = place(w, &iova);
	int rc = copy(ctx, to, source, WINDOW + page * PAGE, (1 + pick(w, 3)) * PAGE, flags, &iova);

	if (!rc)
		note_mapping(w, to, iova);
	return rc;
}

static int do_map(struct worker *w)
{
	uint32_t to = any_ioas(w);
	uint64_t iova, page = pick(w, BUFFER - 3);
	uint32_t flags = place(w, &iova);
	int rc = map_at(ctx, to, buffer + page * PAGE, (1 + pick(w, 3)) * PAGE, flags, &iova);

	if (!rc)
		note_mapping(w, to, iova);
	return rc;
}

static int do_unmap(struct worker *w)
{
	unsigned i = w->n_mapped ? (unsigned)pick(w, w->n_mapped) : 0;
	uint64_t iova;
	uint32_t ioas;

	if (!w->n_mapped || !pick(w, 8))
		return unmap(ctx, any_ioas(w), any_iova(w), 8 * PAGE, NULL);
	iova = w->mapped[i];
	ioas = (uint32_t)w->mapped_in[i];
	w->n_mapped--;
	w->mapped[i] = w->mapped[w->n_mapped];
	w->mapped_in[i] = w->mapped_in[w->n_mapped];
	return unmap(ctx, ioas, iova, 3 * PAGE, NULL);
}

static int do_option(struct worker *w)
{
	struct iof_cmd_option c = { .size = sizeof(c), .option_id = IOF_OPTION_HUGE_PAGES, .op = IOF_OPTION_SET,
				    .object_id = one_of(w, w->spaces, w->n_spaces, any_ioas(w)), .val64 = pick(w, 2) };

	return iof_ioctl(ctx, IOF_CMD_OPTION, &c);
}

static int do_vfio_ioas(struct worker *w)
{
	struct iof_cmd_vfio_ioas c = { .size = sizeof(c), .ioas_id = any_ioas(w), .op = IOF_VFIO_IOAS_SET };

	return iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &c);
}

/* Most on IOASes of one's own, so that the shared ones do not fill up with tables. */
static int do_hwpt_alloc(struct worker *w)
{
	static const uint32_t flags[] = { 0, IOF_HWPT_PASID, IOF_HWPT_DIRTY_TRACKING, IOF_HWPT_NEST_PARENT };
	uint32_t id, dev = rig_id[pick(w, RIGS)];
	int rc;

	if (pick(w, 2))
		rc = nested_alloc(ctx, dev, one_of(w, w->viommus, w->n_viommus, parent), 0, 0, &id);
	else
		rc = hwpt_kind(ctx, dev, pick(w, 8) ? one_of(w, w->spaces, w->n_spaces, shared[0]) : any_ioas(w), flags[pick(w, 4)], &id);
	if (!rc)
		remember(w, w->pool, &w->n_pool, id);
	return rc;
}

static int do_set_dirty(struct worker *w)
{
	return set_tracking(ctx, tracked[pick(w, IOASES)], (uint32_t)pick(w, 2));
}

static int do_get_dirty(struct worker *w)
{
	uint64_t bits[8] = { 0 };

	return get_dirty(ctx, tracked[pick(w, IOASES)], (uint32_t)pick(w, 2), WINDOW, WINDOW_PAGES * PAGE, PAGE, bits);
}

static int do_invalidate(struct worker *w)
{
	struct rig_entry e[3] = { { 1, 0 }, { 2, 0 }, { 3, 0 } };
	uint32_t n = 1 + (uint32_t)pick(w, 3);

	if (pick(w, 4) == 0) {
		struct rig_vcommand c = { 100 + pick(w, RIGS), 5, 0 };

		n = 1;
		return invalidate(ctx, viommu, RIG_INVALIDATE, &c, sizeof(c), &n);
	}
	return invalidate(ctx, nested, RIG_INVALIDATE, e, sizeof(e[0]), &n);
}

/* Not too many open at a time: an older one is closed, and can be destroyed from then on. */
static void note_file(struct worker *w, int fd)
{
	if (w->n_fds < 16) {
		w->fd[w->n_fds++] = fd;
	} else {
		unsigned i = (unsigned)pick(w, w->n_fds);

		close_number(m, w->fd[i]);
		w->fd[i] = fd;
	}
}

static int do_fault_alloc(struct worker *w)
{
	uint32_t id;
	int fd, rc = rig_fault_alloc(ctx, &id, &fd);

	if (!rc) {
		remember(w, w->pool, &w->n_pool, id);
		note_file(w, fd);
	}
	return rc;
}

static int map_file_in(struct iof_handle *h, uint32_t ioas, uint64_t page, uint64_t n, uint32_t flags, uint64_t *iova)
{
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = flags, .ioas_id = ioas, .fd = memfd, .start = page * PAGE,
					   .length = n * PAGE, .iova = *iova };
	int rc = iof_ioctl(h, IOF_CMD_IOAS_MAP_FILE, &c);

	*iova = c.iova;
	return rc;
}

static int do_map_file(struct worker *w)
{
	uint64_t iova, page = pick(w, BUFFER - 3);
	uint32_t flags = place(w, &iova), to = any_ioas(w);
	int rc = map_file_in(ctx, to, page, 1 + pick(w, 3), flags, &iova);

	if (!rc)
		note_mapping(w, to, iova);
	return rc;
}

static int do_viommu_alloc(struct worker *w)
{
	struct rig_vdata d = { .in = 7 };
	uint32_t id;
	int rc = viommu_alloc(ctx, rig_id[pick(w, RIGS)], parent, pick(w, 2) ? &d : NULL, &id);

	if (!rc) {
		remember(w, w->pool, &w->n_pool, id);
		remember(w, w->viommus, &w->n_viommus, id);
	}
	return rc;
}

static int do_vdevice_alloc(struct worker *w)
{
	uint32_t id;
	int rc = vdevice_alloc(ctx, viommu, rig_id[pick(w, RIGS)], 100 + pick(w, 2 * RIGS), &id);

	if (!rc)
		remember(w, w->vdevices, &w->n_vdevices, id);
	return rc;
}

static int do_change_process(struct worker *w)
{
	struct iof_cmd_change_process c = { .size = sizeof(c) };

	return iof_ioctl(pick(w, 8) ? files_ctx : ctx, IOF_CMD_IOAS_CHANGE_PROCESS, &c); /* user memory is not moved: -EINVAL */
}

static int do_veventq_alloc(struct worker *w)
{
	struct iof_cmd_veventq_alloc c = { .size = sizeof(c), .viommu_id = one_of(w, w->viommus, w->n_viommus, viommu),
					   .type = 1 + (uint32_t)pick(w, 1000), .veventq_depth = 4 };
	int rc = iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, &c);

	if (!rc) {
		remember(w, w->pool, &w->n_pool, c.out_veventq_id);
		note_file(w, (int)c.out_veventq_fd);
	}
	return rc;
}

/* On the parent's own IOAS, where one mapping stays for it. */
static int do_hw_queue_alloc(struct worker *w)
{
	uint32_t id, index = (uint32_t)pick(w, RIG_QUEUES);
	int rc = hw_queue_alloc(ctx, one_of(w, w->viommus, w->n_viommus, viommu), RIG_QUEUE, index, WINDOW - PAGE + pick(w, 64), 64, &id);

	if (!rc)
		remember(w, w->pool, &w->n_pool, id);
	return rc;
}

static int do_container_map(struct worker *w)
{
	struct iof_cmd_container_map c = { .argsz = sizeof(c), .flags = 3, .vaddr = (uintptr_t)buffer + pick(w, BUFFER - 3) * PAGE,
					   .iova = any_iova(w), .size = (1 + pick(w, 3)) * PAGE };

	return iof_ioctl(ctx, IOF_CMD_CONTAINER_MAP_DMA, &c);
}

static int do_container_unmap(struct worker *w)
{
	struct iof_cmd_container_unmap c = { .argsz = sizeof(c), .iova = any_iova(w), .size = (2 + pick(w, 6)) * PAGE };

	return iof_ioctl(ctx, IOF_CMD_CONTAINER_UNMAP_DMA, &c);
}

/* A device of the thread's own is closed, opened, bound. */
static int do_bind(struct worker *w)
{
	iof_close(soft[w->index]);
	if (iof_engine_open_device(m, w->index, &soft[w->index]))
		abort();
	return bind_device(soft[w->index], ctx, NULL);
}

static int do_attach(struct worker *w)
{
	struct iof_handle *h = pick(w, 2) ? soft[w->index] : rig_handle[pick(w, RIGS)];

	if (h != soft[w->index] && !pick(w, 4))
		return attach_pasid(h, 1 + (uint32_t)pick(w, 4), one_of(w, w->pool, w->n_pool, nested), NULL);
	return attach(h, any_ioas(w), NULL);
}

static int do_detach(struct worker *w)
{
	struct iof_handle *h = pick(w, 2) ? soft[w->index] : rig_handle[pick(w, RIGS)];

	return pick(w, 4) ? detach(h) : detach_pasid(h, 1 + (uint32_t)pick(w, 4));
}

static int do_get_hw_info(struct worker *w)
{
	struct iof_cmd_get_hw_info c = { .size = sizeof(c), .dev_id = rig_id[pick(w, RIGS)] };

	return iof_ioctl(ctx, IOF_CMD_GET_HW_INFO, &c);
}

static int do_iova_ranges(struct worker *w)
{
	struct iof_uapi_range r[32];
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = any_ioas(w), .num_iovas = 32, .allowed_iovas = (uintptr_t)r };

	return iof_ioctl(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c);
}

static int do_check_extension(struct worker *w)
{
	return iof_ioctl(ctx, IOF_CMD_CONTAINER_CHECK_EXTENSION, (void *)(uintptr_t)pick(w, 10));
}

static int (*const turns[N_CMDS])(struct worker *) = {
	do_destroy, do_ioas_alloc, do_allow, do_copy, do_map, do_unmap, do_option, do_vfio_ioas, do_hwpt_alloc, do_set_dirty, do_get_dirty,
	do_invalidate, do_fault_alloc, do_map_file, do_viommu_alloc, do_vdevice_alloc, do_change_process, do_veventq_alloc, do_hw_queue_alloc,
	do_container_map, do_container_unmap, do_bind, do_attach, do_detach, do_get_hw_info, do_iova_ranges, do_check_extension,
};

/* Whatever a call at the wrong moment may be answered; a fault or lack of memory is none of these. */
static bool is_fair(int rc)
{
	return rc >= 0 || rc == -ENOENT || rc == -EBUSY || rc == -EEXIST || rc == -EINVAL || rc == -EIO || rc == -ENOSPC || rc == -EPERM ||
	       rc == -EADDRINUSE || rc == -EOPNOTSUPP || rc == -ENODEV;
}

/* Devices do not rest, either: they read what is mapped and what is not. */
static void transfer(struct worker *w)
{
	uint64_t word;

	dma(soft[w->index], IOF_DMA_READ, any_iova(w), &word, sizeof(word), NULL);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->turns; i++) {
		enum cmd c = (enum cmd)(pick(w, 100) < 4 ? N_CHANGING + pick(w, N_CMDS - N_CHANGING) : pick(w, N_CHANGING));
		int rc = turns[c](w);

		atomic_fetch_add_explicit(&calls[c], 1, memory_order_relaxed);
		if (rc >= 0)
			atomic_fetch_add_explicit(&good[c], 1, memory_order_relaxed);
		if (!is_fair(rc)) {
			printf("%s: %d\n", names[c], rc);
			atomic_fetch_add(&odd, 1);
		}
		transfer(w);
	}
	while (w->n_fds)
		close_number(m, w->fd[--w->n_fds]);
	return NULL;
}

/* ---- before and after a phase ---- */

static void open_spaces(void)
{
	uint64_t iova;

	for (unsigned i = 0; i < IOASES; i++) {
		CHECK_EQ(ioas_alloc(ctx, &shared[i]), 0);
		iova = WINDOW - PAGE;
		CHECK_EQ(map_at(ctx, shared[i], buffer, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0); /* for queues; nobody unmaps it */
		CHECK_EQ(hwpt_kind(ctx, rig_id[0], shared[i], IOF_HWPT_DIRTY_TRACKING | (i ? 0 : IOF_HWPT_NEST_PARENT), &tracked[i]), 0);
	}
	parent = tracked[0];
	CHECK_EQ(ioas_alloc(ctx, &source), 0); /* never with a page table */
	for (unsigned i = 0; i < BUFFER; i += 4) {
		iova = WINDOW + i * PAGE;
		CHECK_EQ(map_at(ctx, source, copied + i * PAGE, 4 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	}
	iova = 0;
	CHECK_EQ(ioas_alloc(files_ctx, &files_ioas), 0);
	CHECK_EQ(map_file_in(files_ctx, files_ioas, 0, BUFFER, RW, &iova), 0);
}

static void open_world(void)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1, 1, 1, 1, 1 },
					  .n_groups = THREADS + 1, .alloc = &heap, .addresses = IOF_ADDRESSES_SYNTHETIC };
	struct iof_iommu *iommu;
	uint32_t at;

	iof_alloc_init_heap(&heap);
	rig_init(&rig);
	CHECK_EQ(iof_machine_create(&cfg, &m), 0);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
	CHECK_EQ(iof_engine_open(m, &files_ctx), 0);
	for (unsigned i = 0; i < RIGS; i += 2) /* groups of two */
		CHECK_EQ(rig_plug(&rig, m, iommu, i, 2, &at), 0);
	for (unsigned i = 0; i < RIGS; i++) {
		CHECK_EQ(iof_engine_open_device(m, THREADS + 1 + i, &rig_handle[i]), 0);
		CHECK_EQ(bind_device(rig_handle[i], ctx, &rig_id[i]), 0);
	}
	for (unsigned i = 0; i <= THREADS; i++) {
		CHECK_EQ(iof_engine_open_device(m, i, &soft[i]), 0);
		CHECK_EQ(bind_device(soft[i], ctx, &soft_id), 0);
	}
	open_spaces();
	CHECK_EQ(viommu_alloc(ctx, rig_id[0], parent, NULL, &viommu), 0);
	CHECK_EQ(nested_alloc(ctx, rig_id[0], parent, IOF_HWPT_PASID, 0, &nested), 0);
	CHECK_EQ(iof_ioctl(ctx, IOF_CMD_VFIO_IOAS, &(struct iof_cmd_vfio_ioas){ 12, shared[0], IOF_VFIO_IOAS_SET, 0 }), 0);
}

/* Where a mapping's bytes are: its addresses are of this process, or small ones, offsets in the file. */
static char *memory_of(uint64_t address)
{
	return address < BUFFER * PAGE ? file + address : (char *)(uintptr_t)address;
}

static uint32_t shown[3][BUFFER]; /* areas that show a page of buffer, copied, file */

static void count_shown(const char *at, uint64_t pages)
{
	char *const base[3] = { buffer, copied, file };

	for (unsigned k = 0; k < 3; k++)
		for (uint64_t i = 0; i < pages; i++)
			if (at + i * PAGE >= base[k] && at + i * PAGE < base[k] + BUFFER * PAGE)
				shown[k][(at + i * PAGE - base[k]) / PAGE]++;
}

/* A device writes a word to the area's ends; they are there. */
static void check_area(const struct iof_mapping_info *a)
{
	uint64_t word = 0x57e55ul ^ a->iova, got;
	char *at = memory_of(a->address);

	CHECK_EQ(dma(soft[THREADS], IOF_DMA_WRITE, a->iova, &word, 8, NULL), 0);
	CHECK(!memcmp(at, &word, 8));
	word = ~word;
	memcpy(at + (a->last - a->iova) - 7, &word, 8);
	CHECK_EQ(dma(soft[THREADS], IOF_DMA_READ, a->last - 7, &got, 8, NULL), 0);
	CHECK_EQ(got, word);
}

static unsigned check_ioas(uint32_t ioas)
{
	struct iof_mapping_info a;
	uint64_t from = 0;
	unsigned n = 0;

	CHECK_EQ(attach(soft[THREADS], ioas, NULL), 0);
	for (; !iof_ioas_mapping(ctx, ioas, from, UINT64_MAX, &a); from = a.last + 1, n++) {
		check_area(&a);
		count_shown(memory_of(a.address), (a.last - a.iova + 1) / PAGE);
	}
	return n;
}

static unsigned check_pins(void)
{
	unsigned n = 0;

	memset(shown, 0, sizeof(shown));
	for (unsigned i = 0; i < IOASES; i++)
		n += check_ioas(shared[i]);
	for (unsigned i = 0; i < BUFFER; i++) {
		CHECK_EQ(iof_machine_pins(m, (uintptr_t)buffer + i * PAGE), shown[0][i]);
		CHECK_EQ(iof_machine_pins(m, (uintptr_t)copied + i * PAGE), shown[1][i] > 0);
		CHECK_EQ(iof_machine_pins(m, (uintptr_t)file + i * PAGE), shown[2][i]);
	}
	return n;
}

static void close_world(void)
{
	for (unsigned i = 0; i <= THREADS; i++)
		iof_close(soft[i]);
	for (unsigned i = 0; i < RIGS; i++)
		iof_close(rig_handle[i]);
	CHECK(iof_machine_is_valid(m));
	iof_close(files_ctx);
	iof_close(ctx);
	for (unsigned i = 0; i < BUFFER; i++)
		CHECK_EQ(iof_machine_pins(m, (uintptr_t)buffer + i * PAGE), 0);
	iof_machine_put(m);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	CHECK(!rig.nested && !rig.viommus && !rig.vdevices && !rig.queues);
}

static unsigned phase(unsigned number)
{
	static struct worker w[THREADS];
	unsigned areas;

	memset(w, 0, sizeof(w));
	open_world();
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].index = i;
		w[i].seed = 0x5eed0 + number * THREADS + i + 1;
		w[i].turns = PHASE_CALLS / THREADS;
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	CHECK_EQ(atomic_load(&odd), 0);
	CHECK(iof_machine_is_valid(m));
	areas = check_pins();
	CHECK(iof_machine_is_valid(m));
	close_world();
	return areas;
}

static void tell(unsigned phases, unsigned areas)
{
	uint64_t all = 0, fine = 0;

	for (unsigned c = 0; c < N_CMDS; c++) {
		all += calls[c];
		fine += good[c];
	}
	for (unsigned c = 0; c < N_CMDS; c++)
		printf("%-24s %7llu calls %5.2f %%, %3.0f %% of them good\n", names[c], (unsigned long long)calls[c],
		       100.0 * (double)calls[c] / (double)all, 100.0 * (double)good[c] / (double)calls[c]);
	printf("%llu calls, %.1f %% good; %u areas looked at\n", (unsigned long long)all, 100.0 * (double)fine / (double)all, areas);
	CHECK_EQ(all, phases * PHASE_CALLS);
	CHECK(2 * fine >= all);
	for (unsigned c = 0; c < N_CHANGING; c++) {
		CHECK(calls[c] * 100 >= all * 37 / 10); /* an even share is 96 % / 24 */
		CHECK(good[c] * 10 >= calls[c]);
	}
}

TEST(storm_of_every_command)
{
	const char *asked = getenv("IOF_STRESS_PHASES");
	unsigned phases = asked ? (unsigned)atoi(asked) : PHASES, areas = 0;

	CHECK(phases > 0);
	buffer = pages_of(BUFFER);
	copied = pages_of(BUFFER);
	memfd = memfd_create("stress", 0);
	CHECK_EQ(ftruncate(memfd, BUFFER * PAGE), 0);
	file = mmap(NULL, BUFFER * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	for (unsigned i = 0; i < phases; i++)
		areas += phase(i);
	tell(phases, areas);
	munmap(buffer, BUFFER * PAGE);
	munmap(copied, BUFFER * PAGE);
	munmap(file, BUFFER * PAGE);
	close(memfd);
}
