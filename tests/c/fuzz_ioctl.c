/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the raw door: an input is a program of ioctls and verbs on a fresh machine. Coverage guides it.
 *
 * A byte chooses the call; each field of its struct takes a byte that picks something likely (an id, an IOVA, a pointer into the arena), and a few
 * bytes more overwrite any bytes with anything. The struct itself lies in good memory, in front of a hole, in read-only memory or nowhere. After a call that
 * failed the digest is what it was, but where the contract says otherwise; at the end the machine is valid, and closing it gives back every byte.
 *
 *	fuzz_ioctl [-seconds=N] [-calls=N] [-seed=N] [FILE…]	fuzz.h has the driver
 *
 * Pointers are tame in one respect: what the engine writes through goes to the arena, to a hole or to addresses that cannot exist, since a sanitizer's own
 * memory is mapped as well.
 */
#define _GNU_SOURCE /* memfd_create */
#include "fuzz.h"

#include <poll.h>
#include <unistd.h>

#include "dispatch/uapi_container.h"
#define main check_main /* the harness's own, not wanted here */
#include "driver_rig.h"
#undef main
#include "iommufd_fast_access.h"

#define ARENA_PAGES 8
#define RESERVED (UINT64_C(1) << 30) /* behind the arena nothing is mapped */
#define DEVICES 4
#define FILES 8
#define BUDGET (4ul << 20)
#define CALLS_MAX 64

/* ---- the world ---- */

static char *arena; /* pages: rw rw hole read-only rw rw rw rw, then a gigabyte of nothing */
static int memfd;

static struct iof_alloc heap;
static struct iof_machine *m;
static struct iof_handle *ctx, *dev[DEVICES];
static struct rig rig;
static struct iof_access *access_;
static struct {
	uint64_t iova, length;
} pins[4];
static unsigned n_pins;
static int file_of[FILES];
static unsigned n_files;
static bool careful; /* digests before and after */

static void *get_within_budget(struct iof_alloc *a, size_t size, size_t align)
{
	static struct iof_alloc plain;

	if (atomic_load(&a->live_bytes) + size > BUDGET)
		return NULL;
	if (!plain.get)
		iof_alloc_init_heap(&plain);
	return plain.get(&plain, size, align);
}

static void make_arena(void)
{
	char *p = mmap(NULL, ARENA_PAGES * PAGE + RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)check_tail;
	MUST(p != MAP_FAILED);
	mprotect(p, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE);
	munmap(p + 2 * PAGE, PAGE);
	mprotect(p + 3 * PAGE, PAGE, PROT_READ);
	arena = p;
	memfd = memfd_create("fuzz", 0);
	MUST(memfd >= 0 && !ftruncate(memfd, 4 * PAGE));
}

/* The pins that meet the range go, as the contract asks of whoever pins. */
static void let_go(void *data, uint64_t iova, uint64_t length)
{
	(void)data;
	for (unsigned i = 0; i < n_pins;) {
		if (pins[i].iova > iova + (length - 1) || iova > pins[i].iova + (pins[i].length - 1)) {
			i++;
			continue;
		}
		MUST(!iof_access_unpin(access_, pins[i].iova, pins[i].length));
		pins[i] = pins[--n_pins];
	}
}

static void open_world(uint8_t how)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = how & 1 ? IOF_PRESET_AMD : IOF_PRESET_INTEL,
					  .groups = (uint32_t[]){ 2 }, .n_groups = 1, .alloc = &heap,
					  .policy = how & 2 ? IOF_POLICY_PROBE : IOF_POLICY_TRUST,
					  .addresses = how & 4 ? IOF_ADDRESSES_SYNTHETIC : IOF_ADDRESSES_VA,
					  .accounting = how & 8 ? IOF_ACCOUNTING_KERNEL : IOF_ACCOUNTING_NONE };
	struct iof_access_config access = { .size = sizeof(access), .needs_pin = true, .unmap = let_go };
	struct iof_iommu *iommu;
	uint32_t at;

	iof_alloc_init_heap(&heap);
	heap.get = get_within_budget;
	rig_init(&rig);
	if (how & 16)
		rig.table = (struct iof_pt_config){ .format = IOF_PT_MOCK, .top_level = 2 };
	careful = (how & 160) == 160; /* slow: not too often */
	n_pins = n_files = 0;
	MUST(!iof_machine_create(&cfg, &m));
	MUST(!iof_machine_add_driver(m, &rig_driver, &rig, &iommu));
	MUST(!rig_plug(&rig, m, iommu, 0, 2, &at));
	MUST(!iof_engine_open(m, &ctx));
	for (unsigned i = 0; i < DEVICES; i++)
		MUST(!iof_engine_open_device(m, i, &dev[i]));
	MUST(!iof_access_open(ctx, &access, &access_));
	if (how & 64) { /* a start: ids 2 and 3 are devices, 4 an IOAS with a page, 5 a parent, 6 a vIOMMU */
		uint64_t iova = 0x100000;
		uint32_t id, ioas, parent, v;

		bind_device(dev[0], ctx, &id);
		bind_device(dev[2], ctx, &id);
		ioas_alloc(ctx, &ioas);
		map_at(ctx, ioas, arena, 2 * PAGE, RW | IOF_MAP_FIXED_IOVA, &iova);
		hwpt_kind(ctx, id, ioas, IOF_HWPT_NEST_PARENT | IOF_HWPT_DIRTY_TRACKING, &parent);
		viommu_alloc(ctx, id, parent, NULL, &v);
	}
}

static void close_file(unsigned i)
{
	struct iof_handle *h;

	MUST(!iof_file_handle(m, file_of[i], &h));
	iof_close(h);
	file_of[i] = file_of[--n_files];
}

static void close_world(void)
{
	MUST(iof_machine_is_valid(m));
	while (n_files)
		close_file(0);
	iof_access_destroy(access_);
	MUST(!n_pins);
	for (unsigned i = 0; i < DEVICES; i++)
		iof_close(dev[i]);
	iof_close(ctx);
	iof_machine_put(m);
	MUST(!atomic_load(&heap.live_blocks));
	MUST(!rig.nested && !rig.viommus && !rig.vdevices && !rig.queues);
}

/* ---- commands ---- */

enum kind { END, ID, FLAGS, IOVA, LENGTH, POINTER, FD, SMALL, ANY, ZERO, TYPE, VA, CTX };

struct field {
	uint8_t offset, width, kind;
};

static const struct command {
	uint32_t cmd;
	uint8_t size;
	bool device;
	struct field field[10];
} commands[] = {
	{ IOF_CMD_DESTROY, 8, false, { { 4, 4, ID } } },
	{ IOF_CMD_IOAS_ALLOC, 12, false, { { 4, 4, ZERO } } },
	{ IOF_CMD_IOAS_ALLOW_IOVAS, 24, false, { { 4, 4, ID }, { 8, 4, SMALL }, { 16, 8, POINTER } } },
	{ IOF_CMD_IOAS_COPY, 40, false, { { 4, 4, FLAGS }, { 8, 4, ID }, { 12, 4, ID }, { 16, 8, LENGTH }, { 24, 8, IOVA }, { 32, 8, IOVA } } },
	{ IOF_CMD_IOAS_IOVA_RANGES, 32, false, { { 4, 4, ID }, { 8, 4, SMALL }, { 16, 8, POINTER } } },
	{ IOF_CMD_IOAS_MAP, 40, false, { { 4, 4, FLAGS }, { 8, 4, ID }, { 16, 8, VA }, { 24, 8, LENGTH }, { 32, 8, IOVA } } },
	{ IOF_CMD_IOAS_UNMAP, 24, false, { { 4, 4, ID }, { 8, 8, IOVA }, { 16, 8, LENGTH } } },
	{ IOF_CMD_OPTION, 24, false, { { 4, 4, SMALL }, { 8, 2, SMALL }, { 12, 4, ID }, { 16, 8, SMALL } } },
	{ IOF_CMD_VFIO_IOAS, 12, false, { { 4, 4, ID }, { 8, 2, SMALL } } },
	{ IOF_CMD_HWPT_ALLOC, 48, false, { { 4, 4, FLAGS }, { 8, 4, ID }, { 12, 4, ID }, { 24, 4, TYPE }, { 28, 4, SMALL }, { 32, 8, POINTER }, { 40, 4, ID } } },
	{ IOF_CMD_GET_HW_INFO, 40, false, { { 4, 4, ZERO }, { 8, 4, ID }, { 12, 4, SMALL }, { 16, 8, POINTER }, { 24, 4, TYPE } } },
	{ IOF_CMD_HWPT_SET_DIRTY_TRACKING, 16, false, { { 4, 4, SMALL }, { 8, 4, ID } } },
	{ IOF_CMD_HWPT_GET_DIRTY_BITMAP, 48, false, { { 4, 4, ID }, { 8, 4, ZERO }, { 16, 8, IOVA }, { 24, 8, LENGTH }, { 32, 8, LENGTH }, { 40, 8, POINTER } } },
	{ IOF_CMD_HWPT_INVALIDATE, 32, false, { { 4, 4, ID }, { 8, 8, POINTER }, { 16, 4, TYPE }, { 20, 4, SMALL }, { 24, 4, SMALL } } },
	{ IOF_CMD_FAULT_QUEUE_ALLOC, 16, false, { { 4, 4, ZERO } } },
	{ IOF_CMD_IOAS_MAP_FILE, 40, false, { { 4, 4, FLAGS }, { 8, 4, ID }, { 12, 4, FD }, { 16, 8, LENGTH }, { 24, 8, LENGTH }, { 32, 8, IOVA } } },
	{ IOF_CMD_VIOMMU_ALLOC, 40, false, { { 4, 4, ZERO }, { 8, 4, TYPE }, { 12, 4, ID }, { 16, 4, ID }, { 24, 4, SMALL }, { 32, 8, POINTER } } },
	{ IOF_CMD_VDEVICE_ALLOC, 24, false, { { 4, 4, ID }, { 8, 4, ID }, { 16, 8, SMALL } } },
	{ IOF_CMD_IOAS_CHANGE_PROCESS, 8, false, { { 4, 4, ZERO } } },
	{ IOF_CMD_VEVENTQ_ALLOC, 32, false, { { 4, 4, ZERO }, { 8, 4, ID }, { 12, 4, TYPE }, { 16, 4, SMALL } } },
	{ IOF_CMD_HW_QUEUE_ALLOC, 40, false, { { 4, 4, ZERO }, { 8, 4, ID }, { 12, 4, TYPE }, { 16, 4, SMALL }, { 24, 8, IOVA }, { 32, 8, LENGTH } } },
	{ IOF_CMD_CONTAINER_SET_IOMMU, 4, false, { { 0, 4, SMALL } } },
	{ IOF_CMD_CONTAINER_CHECK_EXTENSION, 4, false, { { 0, 4, SMALL } } },
	{ IOF_CMD_CONTAINER_GET_INFO, 128, false, { { 0, 4, ANY } } },
	{ IOF_CMD_CONTAINER_MAP_DMA, 32, false, { { 4, 4, SMALL }, { 8, 8, VA }, { 16, 8, IOVA }, { 24, 8, LENGTH } } },
	{ IOF_CMD_CONTAINER_UNMAP_DMA, 24, false, { { 4, 4, ZERO }, { 8, 8, IOVA }, { 16, 8, LENGTH } } },
	{ IOF_CMD_DEVICE_BIND_IOMMUFD, 24, true, { { 4, 4, ZERO }, { 8, 4, CTX } } },
	{ IOF_CMD_DEVICE_ATTACH_PT, 16, true, { { 4, 4, SMALL }, { 8, 4, ID }, { 12, 4, SMALL } } },
	{ IOF_CMD_DEVICE_DETACH_PT, 12, true, { { 4, 4, SMALL }, { 8, 4, SMALL } } },
	{ IOF_CMD_DEVICE_GET_INFO, 24, true, { { 0, 4, ANY } } },
};

#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static uint64_t any(struct input *in)
{
	static const uint64_t edges[32] = { UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 4095, INT64_MAX, UINT32_MAX, INT32_MAX, 0xfee00000,
					    0xfd00000000, 0x1000000, 0x7fffffff, 0x200000, 24, 32, 40, 48, 64, 4095, 4097, 2048, 12,
					    0x8000000000000000, 1u << 19, (1u << 19) + 1, 1u << 16, 0xbad, 0xffffffffffff };
	uint8_t b = u8(in);

	switch (b >> 5) {
	case 0:
		return b & 31;
	case 1:
		return edges[b & 31];
	case 2:
		return (uintptr_t)arena + (b & 31) * 1024;
	case 3:
		return (b & 31) * PAGE;
	case 4:
		return (b & 31) * PAGE + 2048;
	case 5:
		return UINT64_C(1) << (b & 31);
	case 6:
		return UINT64_C(1) << (32 + (b & 31));
	default:
		return u64(in);
	}
}

static uint64_t likely(struct input *in, uint8_t kind)
{
	uint8_t b = u8(in);

	if (b >= 0xf8)
		return any(in);
	switch (kind) {
	case ID:
		return b % 24;
	case FLAGS:
		return b & 15;
	case IOVA:
		return 0x100000 + (uint64_t)(b % 32) * PAGE + (b & 64 ? 2048 : 0);
	case LENGTH:
		return (uint64_t)(b % 8 + (b < 128)) * (b & 64 ? 2048 : PAGE);
	case POINTER:
		return (uintptr_t)arena + 4 * PAGE + b * 16;
	case VA:
		return (uintptr_t)arena + (b % 16) * 2048;
	case FD:
		return b & 1 ? (uint64_t)memfd : b;
	case CTX:
		return (uint64_t)iof_fileno(ctx);
	case SMALL:
		return b % 33;
	case TYPE:
		return b & 8 ? RIG_DATA + b % 6 : b % 8;
	case ANY:
		return b;
	default:
		return b < 0xf0 ? 0 : b;
	}
}

static bool in_arena(uint64_t at)
{
	return at - (uintptr_t)arena < ARENA_PAGES * PAGE;
}

/* Nothing that is mapped but the arena. */
static uint64_t tame(uint64_t at)
{
	if (at < 65536 || at >> 47 || in_arena(at))
		return at;
	return (uintptr_t)arena + at % (ARENA_PAGES * PAGE);
}

static void put(char *bytes, const struct field *f, uint64_t value)
{
	memcpy(bytes + f->offset, &value, f->width);
}

static uint64_t get_u64(const char *bytes, unsigned at)
{
	uint64_t v;

	memcpy(&v, bytes + at, 8);
	return v;
}

/* A mapping of memory that the arena does not hold is one of addresses that are none. */
/* The length is at 24 in both structs that have a VA. */
static void tame_fields(const struct command *c, char *bytes)
{
	for (const struct field *f = c->field; f->kind; f++) {
		uint64_t v = f->width == 8 ? get_u64(bytes, f->offset) : 0;

		if (f->kind == POINTER)
			put(bytes, f, tame(v));
		if (f->kind != VA)
			continue;
		v = tame(v);
		if (get_u64(bytes, 24) > RESERVED && in_arena(v))
			v |= UINT64_C(1) << 47;
		if (v < 65536 && get_u64(bytes, 24) > 4096)
			v |= UINT64_C(1) << 47;
		put(bytes, f, v);
	}
}

/* Where the struct goes: mostly good memory. */
static void *place(struct input *in, const char *bytes, size_t n)
{
	uint8_t b = u8(in);
	char *at = arena + 7 * PAGE;

	switch (b) {
	case 0xff:
		return (void *)(uintptr_t)tame(any(in));
	case 0xfe: /* its end is not there */
		at = arena + 2 * PAGE - b % 64;
		for (size_t i = 0; i < n && at + i < arena + 2 * PAGE; i++)
			at[i] = bytes[i];
		return at;
	case 0xfd:
		mprotect(arena + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE);
		memcpy(arena + 3 * PAGE, bytes, n);
		mprotect(arena + 3 * PAGE, PAGE, PROT_READ);
		return arena + 3 * PAGE;
	default:
		memcpy(at, bytes, n);
		return at;
	}
}

/* R1.6.4, R2.22.6, R2.23.3, R3.7.1, R6.9.3: these may fail with something done. */
static bool may_have_acted(uint32_t cmd, int rc)
{
	switch (cmd) {
	case IOF_CMD_IOAS_UNMAP:
	case IOF_CMD_CONTAINER_UNMAP_DMA:
	case IOF_CMD_DEVICE_ATTACH_PT:
		return true;
	case IOF_CMD_IOAS_MAP:
	case IOF_CMD_IOAS_MAP_FILE:
	case IOF_CMD_IOAS_COPY:
	case IOF_CMD_OPTION:
		return rc == -EFAULT;
	default:
		return false;
	}
}

/* The struct may lie anywhere, so its number is copied out. */
static void note_file(const struct command *c, const char *at)
{
	if (c->cmd == IOF_CMD_FAULT_QUEUE_ALLOC)
		memcpy(&file_of[n_files++], at + offsetof(struct iof_cmd_fault_queue_alloc, out_fault_fd), 4);
	if (c->cmd == IOF_CMD_VEVENTQ_ALLOC)
		memcpy(&file_of[n_files++], at + offsetof(struct iof_cmd_veventq_alloc, out_veventq_fd), 4);
}

static void command(struct input *in, const struct command *c)
{
	struct iof_handle *h = c->device ? dev[u8(in) % DEVICES] : ctx;
	_Alignas(8) char bytes[256] = { 0 };
	uint64_t before = 0, after = 0;
	uint8_t more;
	void *at;
	int rc;

	*(uint32_t *)bytes = c->size;
	for (const struct field *f = c->field; f->kind; f++)
		put(bytes, f, likely(in, f->kind));
	for (more = u8(in); more > 0xc0; more -= 8) {
		uint64_t v = any(in);
		unsigned where = u8(in) % c->size;

		memcpy(bytes + where, &v, more & 1 ? 4 : 8);
	}
	tame_fields(c, bytes);
	if (c->cmd == IOF_CMD_CONTAINER_SET_IOMMU || c->cmd == IOF_CMD_CONTAINER_CHECK_EXTENSION)
		at = (void *)(uintptr_t)*(uint32_t *)bytes;
	else
		at = place(in, bytes, c->size > 128 ? 256 : 192);
	if (n_files == FILES)
		close_file(0);
	if (careful)
		iof_digest(ctx, &before);
	rc = more & 4 ? iof_ioctl_nowait(h, c->cmd, at) : iof_ioctl(h, c->cmd, at);
	n_calls++;
	MUST(rc > -4096 && rc <= 1);
	if (!rc)
		note_file(c, at);
	if (!careful || rc >= 0 || may_have_acted(c->cmd, rc))
		return;
	iof_digest(ctx, &after);
	if (before != after)
		fprintf(stderr, "command 0x%x failed with %d and changed something\n", c->cmd, rc);
	MUST(before == after);
}

/* ---- verbs ---- */

static void transfer(struct input *in)
{
	struct iof_dma_segment s = { likely(in, IOVA) + u8(in), likely(in, LENGTH) };
	struct iof_dma d = { .op = (enum iof_dma_op)(u8(in) % 6), .pasid = u8(in) % 4 ? IOF_NO_PASID : u8(in), .segments = &s,
			     .n_segments = 1, .buffer = arena + 4 * PAGE, .source = likely(in, IOVA) };

	if ((d.op == IOF_DMA_READ || d.op == IOF_DMA_WRITE) && s.length > 2 * PAGE)
		s.length = 2 * PAGE;
	iof_dma(dev[u8(in) % DEVICES], &d);
}

static void queue(struct input *in)
{
	struct iof_handle *h;
	uint8_t how = u8(in), b = u8(in);

	if (!n_files)
		return;
	MUST(!iof_file_handle(m, file_of[how % n_files], &h));
	switch (b % 5) {
	case 0:
		iof_read(h, (void *)(uintptr_t)tame(any(in)), u8(in));
		break;
	case 1:
		iof_read(h, arena + 4 * PAGE, u8(in) % 9 * 40);
		break;
	case 2:
		memcpy(arena + 4 * PAGE, &(struct iof_fault_response){ u8(in) % 5, u8(in) % 3 }, 8);
		iof_write(h, arena + 4 * PAGE, 8);
		break;
	case 3:
		iof_write(h, (void *)(uintptr_t)tame(any(in)), u8(in));
		break;
	default:
		iof_poll(h);
		if (how & 128)
			close_file(how % n_files);
	}
}

static void answer(void *data, uint32_t pasid, uint32_t group, uint32_t code)
{
	(void)data;
	(void)pasid;
	(void)group;
	MUST(code <= 1);
}

static void report(struct input *in)
{
	struct iof_page_request rq = { .pasid = u8(in) % 8, .group = u8(in) % 4, .perm = u8(in) % 16, .addr = any(in), .answer = answer };
	uint8_t b = u8(in);
	uint32_t word = b;

	rq.pasid_valid = b & 1;
	rq.last = b & 2;
	if (b & 64 && rig.last_viommu)
		iof_report_event(rig.last_viommu, b & 32 ? RIG_EVENT : 3, &word, sizeof(word));
	else
		iof_report_page_request(ctx, u8(in) % 24, &rq);
}

static void use_access(struct input *in)
{
	uint64_t at[64], iova = likely(in, IOVA), length = likely(in, LENGTH);
	uint8_t b = u8(in);

	switch (b % 6) {
	case 0:
		iof_access_attach(access_, u8(in) % 24);
		break;
	case 1:
		iof_access_replace(access_, u8(in) % 24);
		break;
	case 2:
		iof_access_detach(access_);
		break;
	case 3:
		if (n_pins < 4 && length < 32 * PAGE && !iof_access_pin(access_, iova, length, b & 64, at)) {
			pins[n_pins].iova = iova;
			pins[n_pins++].length = length;
		}
		break;
	case 4:
		if (n_pins) {
			n_pins--;
			MUST(!iof_access_unpin(access_, pins[n_pins].iova, pins[n_pins].length));
		}
		break;
	default:
		iof_access_rw(access_, iova + u8(in), arena + 4 * PAGE, length < 3 * PAGE ? length : 3 * PAGE, b & (b & 64 ? 5 : 1));
	}
}

static void map_region(struct input *in)
{
	uint64_t offset = (uint64_t)(u8(in) % 8) * PAGE, length = (uint64_t)(u8(in) % 4) * PAGE;
	uint8_t b = u8(in);
	void *at;

	if (iof_mmap(ctx, length, b & 7, b & 8 ? MAP_PRIVATE : MAP_SHARED, offset, &at))
		return;
	if (b & 2)
		*(volatile char *)at = 1;
	munmap(at, length);
	iof_mmap_count(ctx, offset, -1);
}

static void batch(struct input *in)
{
	uint64_t addresses[3], lengths[3], iovas[3];
	struct iof_map_many many = { .ioas_id = u8(in) % 24, .flags = u8(in) & 7, .n = 3, .addresses = addresses, .lengths = lengths,
				     .iovas = iovas };

	for (unsigned i = 0; i < 3; i++) {
		addresses[i] = tame(likely(in, VA));
		lengths[i] = likely(in, LENGTH) % RESERVED;
		iovas[i] = likely(in, IOVA);
	}
	if (u8(in) & 1)
		iof_map_many(ctx, &many);
	else
		iof_unmap_many(ctx, &(struct iof_unmap_many){ .ioas_id = many.ioas_id, .n = 3, .iovas = iovas, .lengths = lengths });
	iof_translate(ctx, many.ioas_id, 3, iovas, addresses, NULL);
}

static void reopen(struct input *in)
{
	unsigned i = u8(in) % DEVICES;

	iof_close(dev[i]);
	MUST(!iof_engine_open_device(m, i, &dev[i]));
}

static void (*const verbs[])(struct input *) = { transfer, queue, report, use_access, map_region, batch, reopen };

#define N_VERBS (sizeof(verbs) / sizeof(*verbs))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };

	if (!arena)
		make_arena();
	open_world(u8(&in));
	for (unsigned i = 0; in.at < in.end && i < CALLS_MAX; i++) {
		uint8_t b = u8(&in) % (N_COMMANDS + N_VERBS);

		if (b < N_COMMANDS)
			command(&in, &commands[b]);
		else
			verbs[b - N_COMMANDS](&in);
	}
	close_world();
	return 0;
}
