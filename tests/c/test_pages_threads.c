/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/*
 * Many threads on the same containers: whole holds (the swap without a lock) and partial ones (the slow way) at once.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pages_rig.h"

#define THREADS 4
#define SLOTS 16

struct job {
	struct rig *rig;
	struct iof_pages *p;
	uint64_t seed;
	int turns;
	uint64_t refused, bad;
};

/* Holds two intervals, sees that they count, lets go of them in either order. */
static void turn(struct job *j)
{
	uint64_t a = check_random(&j->seed) % SLOTS, b = check_random(&j->seed) % SLOTS, got;
	uint64_t first = a < b ? a : b, last = a < b ? b : a;
	struct iof_memory *m = &j->rig->memory;

	if (check_random(&j->seed) % 2)
		first = 0, last = SLOTS - 1;
	if (iof_pages_hold(j->p, m, first, last)) {
		j->refused++;
		return;
	}
	j->bad += !iof_pages_holds(j->p, first) || !iof_pages_holds(j->p, last);
	j->bad += iof_pages_pinned(j->p) < last - first + 1;
	j->bad += !iof_pages_address(j->p, m, last << IOF_PAGE_SHIFT, 1, &got);
	if (check_random(&j->seed) % 2) {
		if (!iof_pages_hold(j->p, m, a, a))
			iof_pages_release(j->p, m, a, a);
		else
			j->refused++;
	}
	iof_pages_release(j->p, m, first, last);
}

static void *work(void *arg)
{
	struct job *j = arg;

	for (int i = 0; i < j->turns; i++)
		turn(j);
	return NULL;
}

static void together(struct rig *r, struct iof_pages *p, int turns, bool may_refuse)
{
	struct job job[THREADS];
	pthread_t thread[THREADS];

	for (int i = 0; i < THREADS; i++) {
		job[i] = (struct job){ r, p, (uint64_t)i * 77 + 1, turns, 0, 0 };
		CHECK_EQ(pthread_create(&thread[i], NULL, work, &job[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(job[i].bad, 0);
		CHECK(may_refuse || !job[i].refused);
	}
	CHECK_EQ(iof_pages_pinned(p), 0);
	CHECK_EQ(iof_pages_intervals(p), 0);
	CHECK(!p->ext);
	CHECK(iof_pages_is_valid(p, &r->memory));
}

TEST(one_container)
{
	struct rig r;
	struct iof_pages p;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_NONE);
	CHECK_EQ(iof_pages_init_user(&p, &r.memory, 0x10000, SLOTS << IOF_PAGE_SHIFT, true,
				     IOF_HOLD_TRUST, NULL), 0);
	together(&r, &p, 20000, false);
	rig_close(&r);
}

/* With a limit that not all of them fit in: refusals leave nothing behind, and the account ends at 0. */
TEST(one_container_charged)
{
	struct rig r;
	struct iof_pages p;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	iof_account_set_limit(r.account, SLOTS - 4);
	CHECK_EQ(iof_pages_init_user(&p, &r.memory, 0x10000, SLOTS << IOF_PAGE_SHIFT, true,
				     IOF_HOLD_TRUST, r.account), 0);
	together(&r, &p, 5000, true);
	rig_close(&r);
}

TEST(one_container_synthetic)
{
	struct rig r;
	struct iof_pages p;
	char *at = mmap(NULL, SLOTS << IOF_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED);
	rig_open(&r, IOF_ADDRESS_SYNTHETIC, IOF_ACCOUNT_USER);
	CHECK_EQ(iof_pages_init_user(&p, &r.memory, (uintptr_t)at, SLOTS << IOF_PAGE_SHIFT, true,
				     IOF_HOLD_PROBE, r.account), 0);
	together(&r, &p, 150, false);
	CHECK(iof_identities_is_valid(r.memory.identities));
	munmap(at, SLOTS << IOF_PAGE_SHIFT);
	rig_close(&r);
}

/* Containers of their own on one account: its counter ends where it began. */
TEST(accounts_from_threads)
{
	struct rig r;
	struct iof_pages p[THREADS];
	struct job job[THREADS];
	pthread_t thread[THREADS];

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_PROCESS);
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(iof_pages_init_user(&p[i], &r.memory, 0x10000, SLOTS << IOF_PAGE_SHIFT, true,
				     IOF_HOLD_TRUST, r.account), 0);
		job[i] = (struct job){ &r, &p[i], (uint64_t)i + 5, 5000, 0, 0 };
		CHECK_EQ(pthread_create(&thread[i], NULL, work, &job[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
		CHECK_EQ(job[i].bad + job[i].refused, 0);
	}
	CHECK_EQ(iof_account_locked(r.account), 0);
	rig_close(&r);
}

/* Holds, and copies that need none, over one file: its window comes and goes with whoever is there. */
static void *copy_work(void *arg)
{
	struct job *j = arg;
	uint64_t out, in;

	for (int i = 0; i < j->turns; i++) {
		uint64_t at = ((uint64_t)j->seed % SLOTS << IOF_PAGE_SHIFT) + 8 * (uint64_t)i % 2048;

		turn(&(struct job){ j->rig, j->p, (uint64_t)i + 1, 0, 0, 0 });
		out = (uint64_t)i << 32 | j->seed;
		j->refused += iof_pages_rw(j->p, &j->rig->memory, at, &out, 8, true, false) != 0;
		j->refused += iof_pages_rw(j->p, &j->rig->memory, at, &in, 8, false, i % 2) != 0;
		j->bad += in != out;
	}
	return NULL;
}

static void one_file(enum iof_address_mode mode, int turns)
{
	struct job job[THREADS];
	pthread_t thread[THREADS];
	struct iof_pages p;
	struct rig r;
	int fd = memfd_create("pages", MFD_CLOEXEC);

	CHECK_EQ(ftruncate(fd, SLOTS << IOF_PAGE_SHIFT), 0);
	rig_open(&r, mode, IOF_ACCOUNT_PROCESS);
	CHECK_EQ(iof_memory_init(&r.memory), 0);
	CHECK_EQ(iof_pages_init_file(&p, &r.memory, fd, 0, SLOTS << IOF_PAGE_SHIFT, true, IOF_HOLD_PROBE, r.account), 0);
	close(fd);
	for (int i = 0; i < THREADS; i++) {
		job[i] = (struct job){ &r, &p, (uint64_t)i + 1, turns, 0, 0 };
		CHECK_EQ(pthread_create(&thread[i], NULL, copy_work, &job[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
		CHECK_EQ(job[i].bad + job[i].refused, 0);
	}
	CHECK_EQ(iof_pages_intervals(&p), 0);
	CHECK(iof_pages_is_valid(&p, &r.memory));
	CHECK(iof_memory_is_valid(&r.memory));
	iof_pages_fini(&p, &r.memory);
	iof_memory_fini(&r.memory);
	rig_close(&r);
}

TEST(one_file_va)
{
	one_file(IOF_ADDRESS_VA, 300);
}

TEST(one_file_synthetic)
{
	one_file(IOF_ADDRESS_SYNTHETIC, 300);
}
