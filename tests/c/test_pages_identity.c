/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic addresses: what is the same page, what stays, what is counted, and what happens when a step fails. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages/maps.h"
#include "pages_rig.h"

#define NONE UINT64_MAX

static char *map_at(int fd, uint64_t offset, uint64_t npages, int prot, int flags)
{
	char *at = mmap(NULL, npages << IOF_PAGE_SHIFT, prot, flags, fd, (off_t)offset);

	CHECK(at != MAP_FAILED);
	return at;
}

static int memfd(uint64_t npages)
{
	int fd = memfd_create("pages", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)(npages << IOF_PAGE_SHIFT)), 0);
	return fd;
}

struct runs {
	struct iof_identity_run v[8];
	unsigned n;
};

static int note_run(void *ctx, struct iof_identity_run run)
{
	struct runs *r = ctx;

	if (r->n == 8)
		return -E2BIG;
	r->v[r->n++] = run;
	return 0;
}

static int look(struct rig *r, const void *at, uint64_t npages, bool write, struct runs *out)
{
	out->n = 0;
	return iof_identity_runs(r->memory.identities, (uintptr_t)at, npages, write, note_run, out);
}

/* The synthetic address of one page, NONE when it has none. */
static uint64_t name(struct rig *r, const void *at)
{
	struct runs out;

	return look(r, at, 1, false, &out) ? NONE : out.v[0].address;
}

static void make(struct rig *r, struct iof_pages *p, const void *at, uint64_t npages)
{
	CHECK_EQ(iof_pages_init_user(p, &r->memory, (uintptr_t)at, npages << IOF_PAGE_SHIFT, true,
				     IOF_HOLD_PROBE, r->account), 0);
}

static uint64_t pins(struct rig *r, const void *at)
{
	return iof_identity_pins(r->memory.identities, name(r, at));
}

TEST(two_mappings_of_a_memfd)
{
	struct rig r;
	struct iof_pages p, q;
	int fd = memfd(16);
	char *a = map_at(fd, 0, 16, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *b = map_at(fd, 4 << 12, 8, PROT_READ | PROT_WRITE, MAP_SHARED);
	uint64_t got, from;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_USER);
	CHECK_EQ(name(&r, a + (4 << 12)), name(&r, b));
	CHECK_EQ(name(&r, a + (11 << 12)), name(&r, b + (7 << 12)));
	CHECK_EQ(name(&r, a) & ((1 << 21) - 1), 0); /* offset 0 */
	make(&r, &p, a, 16);
	make(&r, &q, b, 8);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 15), 0);
	CHECK_EQ(pins(&r, b), 1);
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 2, 3), 0);
	CHECK_EQ(pins(&r, a + (5 << 12)), 1);
	CHECK_EQ(pins(&r, a + (6 << 12)), 2);
	CHECK_EQ(pins(&r, a + (7 << 12)), 2);
	CHECK_EQ(pins(&r, b + (4 << 12)), 1);
	from = iof_pages_address(&p, &r.memory, (6 << 12) + 5, 99999, &got);
	CHECK_EQ(got, (10 << 12) - 5);
	CHECK_EQ(iof_pages_address(&q, &r.memory, (2 << 12) + 5, 1, &got), from);
	iof_pages_release(&p, &r.memory, 0, 15);
	CHECK_EQ(pins(&r, b), 0);
	CHECK_EQ(pins(&r, b + (2 << 12)), 1);
	CHECK(iof_identities_is_valid(r.memory.identities));
	iof_pages_release(&q, &r.memory, 2, 3);
	CHECK_EQ(pins(&r, b + (2 << 12)), 0);
	CHECK(iof_identities_is_valid(r.memory.identities));
	munmap(a, 16 << 12);
	munmap(b, 8 << 12);
	close(fd);
	rig_close(&r);
}

TEST(different_things_differ)
{
	struct rig r;
	int fd = memfd(2), other = memfd(2);
	char *shared = map_at(fd, 0, 2, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *cow = map_at(fd, 0, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *second = map_at(other, 0, 2, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *anon = map_at(-1, 0, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	const char *all[] = { shared, shared + 4096, cow, cow + 4096, second, second + 4096, anon, anon + 4096 };

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	for (int i = 0; i < 8; i++) {
		CHECK(name(&r, all[i]) != NONE);
		CHECK(name(&r, all[i]) < UINT64_C(1) << 51);
		CHECK(name(&r, all[i]) >> 40);
		for (int j = 0; j < i; j++)
			CHECK(name(&r, all[i]) != name(&r, all[j]));
	}
	/* Of private memory the address agrees up to 2^40. */
	CHECK_EQ(name(&r, anon) & ((UINT64_C(1) << 40) - 1), (uintptr_t)anon & ((UINT64_C(1) << 40) - 1));
	munmap(shared, 8192);
	munmap(cow, 8192);
	munmap(second, 8192);
	munmap(anon, 8192);
	close(fd);
	close(other);
	rig_close(&r);
}

/* A child's view of the shared anonymous page and of its own copy of a private one; the exit status is a bit mask. */
static int child_view(struct rig *r, const char *shared, uint64_t shared_name, const char *private,
		      uint64_t private_name)
{
	int wrong = 0;

	wrong |= name(r, shared) != shared_name;
	wrong |= (name(r, private) == private_name) << 1;
	wrong |= (iof_identity_reach(r->memory.identities, shared_name) != (uintptr_t)shared) << 2;
	wrong |= (iof_identity_reach(r->memory.identities, private_name) != NONE) << 3;
	return wrong;
}

TEST(across_fork)
{
	struct rig r;
	char *shared = map_at(-1, 0, 2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	char *private = map_at(-1, 0, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	uint64_t s, p;
	int status;
	pid_t pid;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	s = name(&r, shared);
	p = name(&r, private);
	pid = fork();
	if (!pid)
		_exit(child_view(&r, shared, s, private, p));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	munmap(shared, 8192);
	munmap(private, 8192);
	rig_close(&r);
}

TEST(permissions_and_gaps)
{
	struct rig r;
	struct runs out;
	char *a = map_at(-1, 0, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	CHECK_EQ(mprotect(a + 4096, 4096, PROT_READ), 0);
	CHECK_EQ(mprotect(a + 3 * 4096, 4096, PROT_NONE), 0);
	CHECK_EQ(munmap(a + 5 * 4096, 4096), 0);
	CHECK_EQ(look(&r, a, 3, false, &out), 0);
	CHECK_EQ(out.n, 1); /* three mappings, one run */
	CHECK_EQ(out.v[0].npages, 3);
	CHECK_EQ(look(&r, a, 3, true, &out), -EFAULT);
	CHECK_EQ(look(&r, a, 1, true, &out), 0);
	CHECK_EQ(look(&r, a, 4, false, &out), -EFAULT);
	CHECK_EQ(look(&r, a + 4 * 4096, 1, true, &out), 0);
	CHECK_EQ(look(&r, a + 5 * 4096, 1, false, &out), -EFAULT);
	CHECK_EQ(look(&r, a + 4 * 4096, 2, false, &out), -EFAULT);
	CHECK_EQ(look(&r, a, 0, false, &out), 0);
	CHECK_EQ(iof_identity_runs(r.memory.identities, UINT64_MAX - 4095, 2, false, note_run, &out), -EFAULT);
	CHECK_EQ(iof_identity_runs(r.memory.identities, 4096, UINT64_MAX, false, note_run, &out), -EFAULT);
	munmap(a, 5 * 4096);
	rig_close(&r);
}

/* Four files' pages in one range of addresses: four runs; the callback's refusal comes back. */
static char *patchwork(int *fd)
{
	char *at = map_at(-1, 0, 8, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);

	for (int i = 0; i < 4; i++) {
		fd[i] = memfd(4);
		CHECK(mmap(at + i * 8192, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd[i], 4096) ==
		      at + i * 8192);
	}
	return at;
}

static void patchwork_end(char *at, const int *fd)
{
	munmap(at, 8 * 4096);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
}

static int refuse_second(void *ctx, struct iof_identity_run run)
{
	(void)run;
	return ++*(int *)ctx == 2 ? -E2BIG : 0;
}

TEST(runs_of_a_patchwork)
{
	struct rig r;
	struct runs out;
	struct iof_pages p;
	int fd[4], calls = 0;
	char *at = patchwork(fd);
	uint64_t got;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	CHECK_EQ(look(&r, at + 4096, 7, true, &out), 0);
	CHECK_EQ(out.n, 4);
	CHECK_EQ(out.v[0].npages, 1);
	CHECK_EQ(out.v[3].npages, 2);
	CHECK_EQ(iof_identity_runs(r.memory.identities, (uintptr_t)at, 8, true, refuse_second, &calls), -E2BIG);
	CHECK_EQ(calls, 2);
	make(&r, &p, at, 8);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 1, 7), 0);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(iof_pages_address(&p, &r.memory, (2 * i + 1) * 4096 + 8, 4 * 4096, &got),
			 out.v[i].address + (i ? 4096 : 0) + 8);
		CHECK_EQ(got, 4096 - 8);
	}
	iof_pages_release(&p, &r.memory, 1, 7);
	patchwork_end(at, fd);
	rig_close(&r);
}

/* What is pinned keeps its address though other memory has taken its place; the next pin sees the new. */
TEST(address_stays_while_pinned)
{
	struct rig r;
	struct iof_pages p;
	int fd = memfd(4);
	char *at = map_at(-1, 0, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	uint64_t old, got;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	make(&r, &p, at, 4);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), 0);
	old = iof_pages_address(&p, &r.memory, 0, 1, &got);
	CHECK(mmap(at, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 3), 0);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0, 1, &got), old);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 4096, 1, &got), old + 4096);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 8192, 1, &got), name(&r, at + 8192));
	iof_pages_release(&p, &r.memory, 0, 1);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0, 1, &got), old);
	CHECK_EQ(iof_identity_pins(r.memory.identities, old), 1);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 3, 3), 0);
	iof_pages_release(&p, &r.memory, 0, 3);
	CHECK_EQ(iof_identity_pins(r.memory.identities, old), 0);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 3), 0);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0, 1, &got), name(&r, at));
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0, 4 * 4096, &got), name(&r, at));
	CHECK_EQ(got, 4 * 4096);
	iof_pages_release(&p, &r.memory, 0, 3);
	iof_pages_release(&p, &r.memory, 3, 3);
	CHECK(iof_identities_is_valid(r.memory.identities));
	munmap(at, 4 * 4096);
	close(fd);
	rig_close(&r);
}

TEST(random_holds)
{
	uint64_t seed = 0x77777;
	struct rig r;
	struct iof_pages p[2];
	struct model m[2] = { { .n = 0 }, { .n = 0 } };
	int fd[4];
	char *at = patchwork(fd);

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_USER);
	make(&r, &p[0], at, 8);
	make(&r, &p[1], at, 8);
	for (int step = 0; step < 1500; step++) {
		uint64_t x = check_random(&seed) % 8, y = check_random(&seed) % 8;
		unsigned w = check_random(&seed) % 2;

		if (m[w].n == RIG_HOLDS || (m[w].n && check_random(&seed) % 2)) {
			rig_release(&r, &p[w], &m[w], (unsigned)(check_random(&seed) % m[w].n));
		} else {
			CHECK_EQ(iof_pages_hold(&p[w], &r.memory, x < y ? x : y, x < y ? y : x), 0);
			model_note(&m[w], x < y ? x : y, x < y ? y : x);
		}
		rig_compare(&r, &p[w], &m[w], model_pinned(&m[!w]));
		for (uint64_t slot = 0; step % 8 == 0 && slot < 8; slot++)
			CHECK_EQ(pins(&r, at + slot * 4096), !!model_count(&m[0], slot) + !!model_count(&m[1], slot));
	}
	for (unsigned w = 0; w < 2; w++)
		while (m[w].n)
			rig_release(&r, &p[w], &m[w], 0);
	patchwork_end(at, fd);
	rig_close(&r);
}

/* As in the container's sweep: all of a hold's steps fail in turn, with names, pins and windows. */
static void sweep(const uint64_t (*before)[2], unsigned nbefore, uint64_t first, uint64_t last)
{
	struct model m = { .n = 0 };
	struct iof_pages p;
	struct rig r;
	int fd[4];
	char *at = patchwork(fd);
	int64_t n = 1;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_USER);
	for (int i = 0; i < 8; i++) /* windows are a cache that failures do not empty: fill it first */
		CHECK(name(&r, at + i * 4096) != NONE);
	make(&r, &p, at, 8);
	for (unsigned i = 0; i < nbefore; i++) {
		CHECK_EQ(iof_pages_hold(&p, &r.memory, before[i][0], before[i][1]), 0);
		model_note(&m, before[i][0], before[i][1]);
	}
	for (;; n++) {
		uint64_t blocks = r.alloc.live_blocks, bytes = r.alloc.live_bytes;
		int rc;

		iof_alloc_fail_nth(&r.alloc, n);
		rc = iof_pages_hold(&p, &r.memory, first, last);
		if (iof_alloc_fail_nth(&r.alloc, 0) > 0) {
			CHECK_EQ(rc, 0);
			break;
		}
		CHECK(rc == -ENOMEM || rc == -EFAULT);
		CHECK_EQ(r.alloc.live_blocks, blocks);
		CHECK_EQ(r.alloc.live_bytes, bytes);
		rig_compare(&r, &p, &m, 0);
	}
	CHECK(n > 4);
	model_note(&m, first, last);
	rig_compare(&r, &p, &m, 0);
	while (m.n)
		rig_release(&r, &p, &m, 0);
	CHECK_EQ(pins(&r, at), 0);
	patchwork_end(at, fd);
	rig_close(&r);
}

TEST(failure_sweep)
{
	static const uint64_t some[][2] = { { 1, 2 }, { 5, 6 } }, whole[][2] = { { 0, 7 } };

	sweep(NULL, 0, 0, 7);
	sweep(some, 2, 0, 7);
	sweep(some, 2, 2, 6);
	sweep(whole, 1, 3, 4);
}

TEST(reach_finds_a_mapping)
{
	struct rig r;
	int fd = memfd(8);
	char *a = map_at(fd, 0, 8, PROT_READ, MAP_SHARED), *b, *own;
	uint64_t third;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	third = name(&r, a + 3 * 4096);
	CHECK_EQ(iof_identity_reach(r.memory.identities, third + 17), (uintptr_t)a + 3 * 4096 + 17);
	b = map_at(fd, 2 * 4096, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
	CHECK_EQ(iof_identity_reach(r.memory.identities, third + 17), (uintptr_t)b + 4096 + 17); /* writable wins */
	munmap(b, 4 * 4096);
	CHECK_EQ(iof_identity_reach(r.memory.identities, third), (uintptr_t)a + 3 * 4096);
	munmap(a, 8 * 4096);
	CHECK_EQ(iof_identity_reach(r.memory.identities, third), NONE);
	own = map_at(-1, 0, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	CHECK_EQ(iof_identity_reach(r.memory.identities, name(&r, own) + 9), (uintptr_t)own + 9);
	CHECK_EQ(iof_identity_reach(r.memory.identities, 0), NONE);
	CHECK_EQ(iof_identity_reach(r.memory.identities, UINT64_MAX), NONE);
	CHECK_EQ(iof_identity_reach(r.memory.identities, UINT64_C(500) << 40), NONE);
	munmap(own, 4096);
	close(fd);
	rig_close(&r);
}

/* More files than there are windows: those without pins are reused, the pinned ones keep their addresses. */
TEST(windows_run_out)
{
	enum { FILES = 2200 };
	static struct iof_pages p[FILES];
	struct rig r;
	int fd, kept = 0;
	uint64_t first = 0, got;

	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	for (int i = 0; i < FILES; i++) {
		char *at;

		fd = memfd(1);
		at = map_at(fd, 0, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
		CHECK(name(&r, at) != NONE);
		if (i == 0 || i >= FILES / 2) {
			make(&r, &p[kept], at, 1);
			CHECK_EQ(iof_pages_hold(&p[kept++], &r.memory, 0, 0), 0);
		}
		if (i == 0)
			first = iof_pages_address(&p[0], &r.memory, 0, 1, &got);
		munmap(at, 4096);
		close(fd);
	}
	CHECK_EQ(iof_pages_address(&p[0], &r.memory, 0, 1, &got), first);
	CHECK_EQ(iof_identity_pins(r.memory.identities, first), 1);
	CHECK(iof_identities_is_valid(r.memory.identities));
	while (kept--)
		iof_pages_release(&p[kept], &r.memory, 0, 0);
	rig_close(&r);
}

/*
 * One sparse file in many stretches of 2^40 bytes: every one a window; with all of them pinned the next is refused,
 * undone.
 */
TEST(all_windows_pinned)
{
	enum { ALL = 2047 };
	static struct iof_pages p[ALL + 1];
	struct rig r;
	int fd = memfd_create("sparse", MFD_CLOEXEC);
	char *at;
	uint64_t got, blocks;

	CHECK_EQ(ftruncate(fd, (off_t)(((uint64_t)ALL + 1) << 40)), 0);
	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	for (uint64_t i = 0; i <= ALL; i++) {
		at = map_at(fd, i << 40, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
		CHECK_EQ(iof_pages_init_user(&p[i], &r.memory, (uintptr_t)at, 4096, true, IOF_HOLD_TRUST, NULL), 0);
		blocks = r.alloc.live_blocks;
		CHECK_EQ(iof_pages_hold(&p[i], &r.memory, 0, 0), i < ALL ? 0 : -ENOMEM);
		if (i < ALL)
			CHECK_EQ(iof_pages_address(&p[i], &r.memory, 0, 1, &got), (i + 1) << 40);
		else
			CHECK_EQ(r.alloc.live_blocks, blocks);
		munmap(at, 4096);
	}
	CHECK(iof_identities_is_valid(r.memory.identities));
	for (uint64_t i = 0; i < ALL; i++)
		iof_pages_release(&p[i], &r.memory, 0, 0);
	close(fd);
	rig_close(&r);
}

/* A run over the edge of two windows that follow each other is one run, and its pins go to both. */
TEST(over_the_edge_of_a_window)
{
	struct rig r;
	struct iof_pages p;
	struct runs out;
	int fd = memfd_create("sparse", MFD_CLOEXEC);
	char *at;

	CHECK_EQ(ftruncate(fd, (off_t)(UINT64_C(2) << 40)), 0);
	at = map_at(fd, (UINT64_C(1) << 40) - 2 * 4096, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_NONE);
	CHECK_EQ(look(&r, at, 4, true, &out), 0);
	CHECK_EQ(out.n, 1);
	CHECK_EQ(out.v[0].npages, 4);
	make(&r, &p, at, 4);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 3), 0);
	CHECK(iof_identities_is_valid(r.memory.identities));
	CHECK_EQ(pins(&r, at + 4096), 1);
	CHECK_EQ(pins(&r, at + 8192), 1);
	iof_pages_release(&p, &r.memory, 0, 3);
	CHECK(iof_identities_is_valid(r.memory.identities));
	munmap(at, 4 * 4096);
	close(fd);
	rig_close(&r);
}

struct seen {
	uint64_t address;
	struct iofi_vma vma;
	bool found;
};

static int see(void *ctx, const struct iofi_vma *vma)
{
	struct seen *s = ctx;

	if (!iof_range_has(vma->at, s->address))
		return 0;
	s->vma = *vma;
	s->found = true;
	return 7;
}

/* A file name longer than a line's head is no part of the next line. */
TEST(long_names_in_maps)
{
	char name_of_file[250];
	struct seen s = { 0 };
	char *at, *next;
	int fd;

	memset(name_of_file, 'x', sizeof(name_of_file));
	name_of_file[200] = '\n'; /* written as \012 */
	name_of_file[240] = 0;
	fd = memfd_create(name_of_file, MFD_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, 3 * 4096), 0);
	at = map_at(fd, 4096, 2, PROT_READ, MAP_SHARED);
	next = map_at(-1, 0, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	s.address = (uintptr_t)at + 5000;
	CHECK_EQ(iofi_maps_scan(NULL, see, &s), 7);
	CHECK(s.found && s.vma.shared && s.vma.readable && !s.vma.writable);
	CHECK_EQ(s.vma.at.start, (uintptr_t)at);
	CHECK_EQ(s.vma.at.last, (uintptr_t)at + 8191);
	CHECK_EQ(s.vma.offset, 4096);
	s = (struct seen){ .address = (uintptr_t)next };
	CHECK_EQ(iofi_maps_scan(NULL, see, &s), 7);
	CHECK(s.found && !s.vma.shared && s.vma.writable);
	s = (struct seen){ .address = 1 };
	CHECK_EQ(iofi_maps_scan(NULL, see, &s), 0);
	CHECK(!s.found);
	munmap(at, 8192);
	munmap(next, 4096);
	close(fd);
}

/* A child is another process, alive as long as it has a thread, and not this one's twin. */
TEST(processes_have_names)
{
	struct iofi_process mine, again, theirs;
	int status, pipe_fd[2], hold[2];
	pid_t pid;

	iofi_process_self(&mine);
	CHECK_EQ(mine.pid, getpid());
	CHECK(mine.since != 0);
	iofi_process_self(&again);
	CHECK(again.since == mine.since && again.stack == mine.stack);
	CHECK(iofi_process_is_self(&mine) && iofi_process_lives(&mine));
	again.since++;
	CHECK(!iofi_process_lives(&again)); /* the pid came back */
	again = mine;
	again.stack = mine.stack ? mine.stack + 4096 : 0;
	CHECK(!iofi_process_lives(&again) || !mine.stack); /* execve */
	CHECK(!pipe(pipe_fd) && !pipe(hold));
	usleep(30000); /* the unit is 10 ms */
	pid = fork();
	if (!pid) {
		char c;

		close(hold[1]);
		iofi_process_self(&theirs);
		if (iofi_process_is_self(&mine) || write(pipe_fd[1], &theirs, sizeof(theirs)) != sizeof(theirs))
			_exit(1);
		_exit(read(hold[0], &c, 1) != 0);
	}
	CHECK_EQ(read(pipe_fd[0], &theirs, sizeof(theirs)), sizeof(theirs));
	CHECK(theirs.since > mine.since);
	CHECK(iofi_process_lives(&theirs) && !iofi_process_is_self(&theirs));
	close(hold[1]);
	for (int i = 0; i < 1000 && iofi_process_lives(&theirs); i++)
		usleep(1000);
	CHECK(!iofi_process_lives(&theirs)); /* a zombie has no memory */
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK(!iofi_process_lives(&theirs));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(hold[0]);
}
