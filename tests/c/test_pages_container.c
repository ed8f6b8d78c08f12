/* SPDX-License-Identifier: Apache-2.0 */
/* Containers with virtual addresses: creation, holds in every order, probing, charging, failures. */
#include <sys/mman.h>
#include <sys/resource.h>

#include "pages_rig.h"

#define ORDERS 6

static void make(struct rig *r, struct iof_pages *p, void *at, uint64_t npages, enum iof_hold_policy policy)
{
	CHECK_EQ(iof_pages_init_user(p, &r->memory, (uintptr_t)at, npages << IOF_PAGE_SHIFT, true, policy,
				     r->account), 0);
}

static char *map_anon(uint64_t npages, int prot)
{
	char *at = mmap(NULL, npages << IOF_PAGE_SHIFT, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

TEST(sizes)
{
	static const struct {
		uint64_t at, length, npages;
		int rc;
	} rows[] = {
		{ 0x1000, 1, 1, 0 },
		{ 0x1fff, 1, 1, 0 },
		{ 0x1fff, 2, 2, 0 },
		{ 0x1800, 0x1000, 2, 0 },
		{ 0x1000, 0x3000, 3, 0 },
		{ 0x1000, 0, 0, -EINVAL },
		{ UINT64_MAX, 0, 0, -EINVAL },
		{ UINT64_MAX, 1, 0, -EOVERFLOW },
		{ UINT64_MAX - 0xfff, 0x1000, 0, -EOVERFLOW },
		{ UINT64_MAX - 0xfff, 0xfff, 1, 0 },
		{ 0, UINT64_MAX, 0, -EINVAL },
		{ 0, UINT64_MAX - 0xfff, 0, -EINVAL },
		{ 0, UINT64_MAX - 0x1000, UINT64_C(0xfffffffffffff), 0 },
		{ 1, UINT64_MAX, 0, -EOVERFLOW },
		{ 0xfff, UINT64_MAX - 0x1000, UINT64_C(0x10000000000000), 0 },
	};
	struct rig r;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_NONE);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct iof_pages p;

		CHECK_EQ(iof_pages_init_user(&p, &r.memory, rows[i].at, rows[i].length, true, IOF_HOLD_TRUST, NULL),
			 rows[i].rc);
		if (rows[i].rc)
			continue;
		CHECK_EQ(p.npages, rows[i].npages);
		CHECK_EQ(p.refs, 1);
		CHECK(iof_pages_is_valid(&p, &r.memory));
		CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, p.npages - 1), 0);
		CHECK_EQ(iof_pages_hold(&p, &r.memory, p.npages - 1, p.npages - 1), 0);
		CHECK_EQ(iof_pages_pinned(&p), p.npages);
		CHECK(iof_pages_is_valid(&p, &r.memory));
		iof_pages_release(&p, &r.memory, 0, p.npages - 1);
		CHECK_EQ(iof_pages_pinned(&p), 1);
		iof_pages_release(&p, &r.memory, p.npages - 1, p.npages - 1);
		iof_pages_fini(&p, &r.memory);
	}
	rig_close(&r);
}

/*
 * Three intervals from a set that covers, overlaps, touches and repeats, taken in each order and released in each
 * order.
 */
static void orders(struct rig *r, void *buf)
{
	static const uint64_t iv[][2] = { { 0, 7 }, { 0, 3 }, { 4, 7 }, { 2, 5 }, { 0, 7 }, { 3, 3 } };
	static const unsigned char order[ORDERS][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
							{ 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	for (unsigned pick = 0; pick < 6 * 6 * 6; pick++)
		for (unsigned o = 0; o < ORDERS; o++) {
			unsigned which[3] = { pick % 6, pick / 6 % 6, pick / 36 };
			struct model m = { .n = 0 };
			struct iof_pages p;

			make(r, &p, buf, 8, IOF_HOLD_TRUST);
			for (unsigned i = 0; i < 3; i++) {
				const uint64_t *v = iv[which[i]];

				CHECK_EQ(iof_pages_hold(&p, &r->memory, v[0], v[1]), 0);
				model_note(&m, v[0], v[1]);
				rig_compare(r, &p, &m, 0);
			}
			for (unsigned i = 0; i < 3; i++) {
				const uint64_t *v = iv[which[order[o][i]]];
				unsigned at = 0;

				while (m.held[at].first != v[0] || m.held[at].last != v[1])
					at++;
				rig_release(r, &p, &m, at);
				rig_compare(r, &p, &m, 0);
			}
			CHECK(!p.ext);
			iof_pages_fini(&p, &r->memory);
		}
}

TEST(orders_plain)
{
	struct rig r;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_NONE);
	orders(&r, (void *)0x10000);
	rig_close(&r);
}

TEST(orders_charged)
{
	struct rig r;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	orders(&r, (void *)0x10000);
	rig_close(&r);
}

TEST(random_holds)
{
	uint64_t seed = 0xabcdef1;
	struct rig r;
	struct iof_pages p;
	struct model m = { .n = 0 };

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_PROCESS);
	make(&r, &p, (void *)0x7000000, RIG_SLOTS, IOF_HOLD_TRUST);
	for (int step = 0; step < 4000; step++) {
		uint64_t x = check_random(&seed) % RIG_SLOTS, y = check_random(&seed) % RIG_SLOTS;

		if (m.n == RIG_HOLDS || (m.n && check_random(&seed) % 2)) {
			rig_release(&r, &p, &m, (unsigned)(check_random(&seed) % m.n));
		} else {
			if (check_random(&seed) % 4 == 0)
				x = 0, y = RIG_SLOTS - 1;
			CHECK_EQ(iof_pages_hold(&p, &r.memory, x < y ? x : y, x < y ? y : x), 0);
			model_note(&m, x < y ? x : y, x < y ? y : x);
		}
		rig_compare(&r, &p, &m, 0);
	}
	while (m.n)
		rig_release(&r, &p, &m, 0);
	iof_pages_fini(&p, &r.memory);
	rig_close(&r);
}

TEST(whole_hold_needs_no_memory)
{
	struct rig r;
	struct iof_pages p;
	uint64_t before;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	before = r.alloc.live_blocks;
	for (int charged = 0; charged < 2; charged++) {
		CHECK_EQ(iof_pages_init_user(&p, &r.memory, 0x5000, 0x5000, true, IOF_HOLD_TRUST,
					     charged ? r.account : NULL), 0);
		CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 4), 0);
		CHECK_EQ(r.alloc.live_blocks, before);
		CHECK_EQ(iof_pages_pinned(&p), 5);
		CHECK_EQ(iof_pages_holds(&p, 4), 1);
		iof_pages_release(&p, &r.memory, 0, 4);
		CHECK_EQ(iof_pages_pinned(&p), 0);
		CHECK_EQ(iof_pages_hold_alone(&p, &r.memory, 0, 4), 0);
		CHECK_EQ(r.alloc.live_blocks, before);
		CHECK_EQ(iof_pages_intervals(&p), 1);
		CHECK_EQ(iof_account_locked(r.account), charged ? 5 : 0);
		iof_pages_release_alone(&p, &r.memory, 0, 4);
		CHECK_EQ(iof_pages_intervals(&p), 0);
		CHECK_EQ(iof_pages_hold_alone(&p, &r.memory, 1, 2), 0);
		CHECK_EQ(iof_pages_hold_alone(&p, &r.memory, 0, 4), 0);
		CHECK_EQ(iof_pages_holds(&p, 1), 2);
		iof_pages_release_alone(&p, &r.memory, 0, 4);
		iof_pages_release_alone(&p, &r.memory, 1, 2);
		CHECK(iof_pages_is_valid(&p, &r.memory));
		iof_pages_fini(&p, &r.memory);
	}
	rig_close(&r);
}

/* Every step of a hold fails once. What was held before is as it was; the retry succeeds. */
static void sweep(enum iof_hold_policy policy, enum iof_account_mode mode, const uint64_t (*before)[2],
		  unsigned nbefore, uint64_t first, uint64_t last)
{
	char *buf = map_anon(8, PROT_READ | PROT_WRITE);
	struct model m = { .n = 0 };
	struct iof_pages p;
	struct rig r;
	int64_t n = 1;

	rig_open(&r, IOF_ADDRESS_VA, mode);
	make(&r, &p, buf, 8, policy);
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
	CHECK(n > 2); /* there was something to fail */
	model_note(&m, first, last);
	rig_compare(&r, &p, &m, 0);
	while (m.n)
		rig_release(&r, &p, &m, m.n - 1);
	iof_pages_fini(&p, &r.memory);
	rig_close(&r);
	munmap(buf, 8 << IOF_PAGE_SHIFT);
}

TEST(failure_sweep)
{
	static const uint64_t some[][2] = { { 1, 2 }, { 5, 6 } }, whole[][2] = { { 0, 7 } };

	for (int policy = 0; policy < 2; policy++)
		for (int mode = 0; mode < 3; mode++) {
			sweep(policy, mode, NULL, 0, 0, 7);
			sweep(policy, mode, NULL, 0, 2, 3);
			sweep(policy, mode, some, 2, 0, 7);
			sweep(policy, mode, some, 2, 2, 6);
			sweep(policy, mode, whole, 1, 0, 7);
			sweep(policy, mode, whole, 1, 3, 4);
		}
}

/* Which errno an injected failure has: scratch memory's -ENOMEM, a pin's is -EFAULT, a charge's -ENOMEM. */
TEST(injected_errno)
{
	struct rig r;
	struct iof_pages p;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_NONE);
	make(&r, &p, (void *)0x4000, 2, IOF_HOLD_TRUST);
	iof_alloc_fail_nth(&r.alloc, 1);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), -ENOMEM);
	iof_alloc_fail_nth(&r.alloc, 2);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), -EFAULT);
	iof_alloc_fail_nth(&r.alloc, 3);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), -ENOMEM);
	iof_alloc_fail_nth(&r.alloc, 4);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), 0);
	CHECK_EQ(iof_alloc_fail_nth(&r.alloc, 0), 1);
	iof_pages_release(&p, &r.memory, 0, 1);
	iof_pages_fini(&p, &r.memory);
	rig_close(&r);
}

TEST(probe_wants_memory)
{
	char *buf = map_anon(6, PROT_READ | PROT_WRITE);
	struct rig r;
	struct iof_pages p, ro;
	struct model m = { .n = 0 }, none = { .n = 0 };

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	memset(buf, 0x5a, 6 << IOF_PAGE_SHIFT);
	CHECK_EQ(munmap(buf + (3 << IOF_PAGE_SHIFT), 1 << IOF_PAGE_SHIFT), 0);
	CHECK_EQ(mprotect(buf + (5 << IOF_PAGE_SHIFT), 1 << IOF_PAGE_SHIFT, PROT_READ), 0);
	make(&r, &p, buf, 6, IOF_HOLD_PROBE);
	CHECK_EQ(iof_pages_init_user(&ro, &r.memory, (uintptr_t)buf, 6 << IOF_PAGE_SHIFT, false,
				     IOF_HOLD_PROBE, r.account), 0);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 5), -EFAULT);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 2, 3), -EFAULT);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 5, 5), -EFAULT);
	rig_compare(&r, &p, &none, 0);
	CHECK_EQ(iof_pages_hold(&ro, &r.memory, 4, 5), 0);
	CHECK_EQ(iof_pages_hold(&ro, &r.memory, 0, 5), -EFAULT);
	iof_pages_release(&ro, &r.memory, 4, 5);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 2), 0);
	model_note(&m, 0, 2);
	/* Slots that are held are not probed again: only 3 is missing here, then nothing is. */
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 1, 3), -EFAULT);
	CHECK_EQ(munmap(buf, 3 << IOF_PAGE_SHIFT), 0);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 2), 0);
	model_note(&m, 0, 2);
	rig_compare(&r, &p, &m, 0);
	while (m.n)
		rig_release(&r, &p, &m, 0);
	for (unsigned i = 4 << IOF_PAGE_SHIFT; i < 6 << IOF_PAGE_SHIFT; i++)
		CHECK_EQ(buf[i], 0x5a);
	rig_close(&r);
	munmap(buf + (4 << IOF_PAGE_SHIFT), 2 << IOF_PAGE_SHIFT);
}

TEST(limit_is_kept)
{
	struct rig r;
	struct iof_pages p, q;
	struct model m = { .n = 0 };

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	make(&r, &p, (void *)0x10000, 8, IOF_HOLD_TRUST);
	make(&r, &q, (void *)0x10000, 8, IOF_HOLD_TRUST);
	iof_account_set_limit(r.account, 10);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 7), 0);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 7), 0); /* nothing new: not charged */
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 0, 7), -ENOMEM);
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 2, 4), -ENOMEM);
	rig_compare(&r, &q, &m, 8);
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 2, 3), 0);
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 2, 4), -ENOMEM);
	CHECK_EQ(iof_account_locked(r.account), 10);
	iof_pages_release(&p, &r.memory, 0, 7);
	CHECK_EQ(iof_account_locked(r.account), 10);
	iof_pages_release(&p, &r.memory, 0, 7);
	CHECK_EQ(iof_account_locked(r.account), 2);
	iof_pages_release(&q, &r.memory, 2, 3);
	rig_close(&r);
}

/*
 * The same rows as behaviour.md A.6, as far as they concern containers: domains, copies and accesses are all intervals.
 */
TEST(pin_scenarios)
{
	struct rig r;
	struct iof_pages p, q;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_USER);
	make(&r, &p, (void *)0x10000, 4, IOF_HOLD_TRUST);
	make(&r, &q, (void *)0x10000, 4, IOF_HOLD_TRUST);
	CHECK_EQ(iof_pages_pinned(&p), 0); /* mapped, no domain */
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 3), 0); /* a domain joins */
	CHECK_EQ(iof_account_locked(r.account), 4);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 3), 0); /* a copy in another address space */
	CHECK_EQ(iof_account_locked(r.account), 4);
	CHECK_EQ(iof_pages_hold(&q, &r.memory, 0, 3), 0); /* a second map of the buffer */
	CHECK_EQ(iof_account_locked(r.account), 8);
	CHECK_EQ(iof_pages_hold(&p, &r.memory, 0, 1), 0); /* an access pins the first two pages */
	CHECK_EQ(iof_account_locked(r.account), 8);
	iof_pages_release(&p, &r.memory, 0, 3); /* original unmapped, copy remains */
	CHECK_EQ(iof_pages_pinned(&p), 4);
	iof_pages_release(&p, &r.memory, 0, 3); /* last domain goes, access remains */
	CHECK_EQ(iof_pages_holds(&p, 1), 1);
	CHECK_EQ(iof_pages_holds(&p, 2), 0);
	CHECK_EQ(iof_account_locked(r.account), 6);
	iof_pages_release(&p, &r.memory, 0, 1);
	CHECK_EQ(iof_pages_pinned(&p), 0);
	iof_pages_release(&q, &r.memory, 0, 3);
	rig_close(&r);
}

TEST(rlimit_is_read_at_charge_time)
{
	struct rlimit was, small;
	struct rig r;
	struct iof_pages p;
	int rc[3];

	CHECK_EQ(getrlimit(RLIMIT_MEMLOCK, &was), 0);
	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_PROCESS);
	iof_account_set_limit(r.account, UINT64_MAX);
	make(&r, &p, (void *)0x10000, 5, IOF_HOLD_TRUST);
	small = (struct rlimit){ 4 * IOF_PAGE_SIZE + 123, was.rlim_max };
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	rc[0] = iof_pages_hold(&p, &r.memory, 0, 4);
	small.rlim_cur = 5 * IOF_PAGE_SIZE;
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	rc[1] = iof_pages_hold(&p, &r.memory, 0, 4);
	iof_account_set_limit(r.account, 4);
	rc[2] = iof_account_charge(r.account, 1);
	CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &was), 0);
	CHECK_EQ(rc[0], -ENOMEM);
	CHECK_EQ(rc[1], 0);
	CHECK_EQ(rc[2], -ENOMEM);
	iof_pages_release(&p, &r.memory, 0, 4);
	rig_close(&r);
}

TEST(address_is_clipped)
{
	struct rig r;
	struct iof_pages p;
	uint64_t got;

	rig_open(&r, IOF_ADDRESS_VA, IOF_ACCOUNT_NONE);
	make(&r, &p, (void *)0x10000, 3, IOF_HOLD_TRUST);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0x1234, 0x100, &got), 0x11234);
	CHECK_EQ(got, 0x100);
	CHECK_EQ(iof_pages_address(&p, &r.memory, 0x1234, UINT64_MAX, &got), 0x11234);
	CHECK_EQ(got, 0x3000 - 0x1234);
	rig_close(&r);
}
