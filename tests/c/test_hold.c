/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding memory physically: what is locked and pinned, read from /proc, against counts by page; locks of the program's own survive; limits;
 * memory that goes meanwhile; memory refused at every point.
 */
#define _GNU_SOURCE
#include "hold_rig.h"

#include <sys/resource.h>
#include <sys/wait.h>

/* ---- mlock ---- */

TEST(locked_while_mapped)
{
	uint64_t a, b;

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(2, 10, &a), 0);
	CHECK_EQ(count_locks(), 10);
	CHECK_EQ(map(8, 10, &b), 0);
	CHECK_EQ(count_locks(), 16);
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 10 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 10);
	CHECK_EQ(unmap(r.ctx, r.ioas, b, 10 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 0);
	close_rig();
}

TEST(locked_while_a_page_table_shows_it)
{
	uint64_t a;

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(0, 4, &a), 0);
	CHECK_EQ(detach(r.dev), 0);
	CHECK_EQ(count_locks(), 0);
	CHECK_EQ(attach(r.dev, r.ioas, NULL), 0);
	CHECK_EQ(count_locks(), 4);
	close_rig();
}

TEST(let_go_when_everything_closes)
{
	uint64_t a, before = status("VmLck:");

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(0, 40, &a), 0);
	CHECK_EQ(status("VmLck:"), before + 160);
	close_rig();
	CHECK_EQ(status("VmLck:"), before);
}

TEST(the_programs_own_locks_survive)
{
	uint64_t a, b;

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(lock(r.memory + 5 * PAGE, 3 * PAGE), 0);
	CHECK_EQ(lock(r.memory + 20 * PAGE, PAGE), 0);
	CHECK_EQ(map(0, 30, &a), 0);
	CHECK_EQ(map(6, 20, &b), 0);
	CHECK_EQ(count_locks(), 30);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 30 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 21); /* 6..25, and 5 of the program's */
	CHECK_EQ(unmap(r.ctx, r.ioas, b, 20 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 4);
	close_rig();
}

struct live {
	uint64_t iova;
	unsigned first, n;
};

/* Random maps and unmaps; the program locks and unlocks pages that nobody holds; then every page is as the counts say. */
TEST(random_holds_against_counts)
{
	static struct live live[40];
	unsigned n = 0, counts[PAGES] = { 0 };
	bool own[PAGES] = { false }, locked[PAGES];
	uint64_t seed = 20260202;

	open_rig(IOF_POLICY_MLOCK);
	for (unsigned step = 0; step < 600; step++) {
		unsigned at = (unsigned)(check_random(&seed) % PAGES), what = (unsigned)(check_random(&seed) % 8);

		if (what < 2 && !counts[at]) {
			CHECK_EQ(own[at] ? unlock(r.memory + at * PAGE, PAGE) : lock(r.memory + at * PAGE, PAGE), 0);
			own[at] = !own[at];
		} else if (what < 5 && n < 40) {
			struct live l = { .first = at, .n = 1 + (unsigned)(check_random(&seed) % (PAGES - at)) };

			CHECK_EQ(map(l.first, l.n, &l.iova), 0);
			for (unsigned i = 0; i < l.n; i++)
				counts[l.first + i]++;
			live[n++] = l;
		} else if (n) {
			unsigned i = (unsigned)(check_random(&seed) % n);

			CHECK_EQ(unmap(r.ctx, r.ioas, live[i].iova, live[i].n * PAGE, NULL), 0);
			for (unsigned k = 0; k < live[i].n; k++)
				counts[live[i].first + k]--;
			live[i] = live[--n];
		}
		if (step % 4)
			continue;
		read_locks(locked);
		for (unsigned i = 0; i < PAGES; i++)
			CHECK_EQ(locked[i], counts[i] || own[i]);
		CHECK(iof_machine_is_valid(r.m));
	}
	close_rig();
}

/* Copies of parts, and cuts: one container held by several, given back in other pieces than it was taken in. */
TEST(copies_hold_their_part)
{
	uint64_t a, parts[3];

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(0, 30, &a), 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(copy(r.ctx, r.ioas, r.ioas, a + (1 + 10 * i) * PAGE, 3 * PAGE, RW, &parts[i]), 0);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 30 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 9);
	CHECK(iof_machine_is_valid(r.m));
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(unmap(r.ctx, r.ioas, parts[i], 3 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 0);
	close_rig();
}

/* The memory goes, or changes places, while it is held. Nothing is believed that is not so, and nothing is left behind. */
TEST(memory_that_goes_while_held)
{
	uint64_t a, before = status("VmLck:");

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(0, 20, &a), 0);
	CHECK_EQ(munmap(r.memory + 4 * PAGE, 4 * PAGE), 0);
	CHECK(mremap(r.memory + 10 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r.memory + 4 * PAGE) != MAP_FAILED);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 20 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 0);
	CHECK_EQ(status("VmLck:"), before);
	CHECK_EQ(map(0, 20, &a), -EFAULT);
	CHECK_EQ(count_locks(), 0);
	close_rig();
}

TEST(files_are_locked_where_they_are_mapped)
{
	int fd = memfd_create("test", 0);
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = RW, .fd = fd, .length = 8 * PAGE };
	uint64_t before = status("VmLck:");

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(ftruncate(fd, 8 * PAGE), 0);
	c.ioas_id = r.ioas;
	CHECK_EQ(iof_ioctl(r.ctx, IOF_CMD_IOAS_MAP_FILE, &c), 0);
	CHECK_EQ(status("VmLck:"), before + 32);
	CHECK_EQ(unmap(r.ctx, r.ioas, c.iova, 8 * PAGE, NULL), 0);
	CHECK_EQ(status("VmLck:"), before);
	close(fd);
	close_rig();
}

static void limited(void)
{
	struct rlimit small = { 8 * PAGE, 8 * PAGE };
	uint64_t a, b;

	/* Root may lock what it likes. */
	if (setrlimit(RLIMIT_MEMLOCK, &small) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		_exit(2);
	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(map(0, 6, &a), 0);
	CHECK_EQ(map(10, 6, &b), -ENOMEM);
	CHECK_EQ(count_locks(), 6);
	CHECK_EQ(map(3, 5, &b), 0); /* three are held already */
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(unmap(r.ctx, r.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(count_locks(), 0);
}

TEST(the_limit)
{
	pid_t child;
	int state;

	if (geteuid()) {
		printf("the limit is tested by root only\n");
		return;
	}
	child = fork();
	if (!child) {
		if (setjmp(check_out))
			_exit(1);
		limited();
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &state, 0), child);
	CHECK_EQ(state, 0);
}

/* ---- io_uring ---- */

/* How many pages are pinned shows in VmPin only where the kernel counts them so; the charge of the user is no file's. So a pinned page is known by its staying. */
TEST(pinned_while_mapped)
{
	uint64_t a, b, pinned;

	if (!has_io_uring())
		return;
	open_rig(IOF_POLICY_IO_URING);
	pinned = status("VmPin:");
	CHECK_EQ(map(2, 10, &a), 0);
	CHECK_EQ(status("VmPin:"), pinned + 40);
	CHECK_EQ(map(8, 10, &b), 0);
	CHECK_EQ(status("VmPin:"), pinned + 64);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 10 * PAGE, NULL), 0);
	CHECK(iof_machine_is_valid(r.m));
	CHECK_EQ(map(0, 30, &a), 0); /* among what is pinned in part */
	CHECK_EQ(status("VmPin:"), pinned + 120);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 30 * PAGE, NULL), 0);
	CHECK_EQ(unmap(r.ctx, r.ioas, b, 10 * PAGE, NULL), 0);
	CHECK_EQ(status("VmPin:"), pinned);
	close_rig();
}

TEST(pins_need_writable_memory)
{
	uint64_t a;

	if (!has_io_uring())
		return;
	open_rig(IOF_POLICY_IO_URING);
	CHECK_EQ(mprotect(r.memory, PAGE, PROT_READ), 0);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 2 * PAGE, IOF_MAP_READABLE, &a), -EFAULT);
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory, 2 * PAGE, RW, &a), -EFAULT);
	close_rig();
}

/* More mappings than a ring has slots. */
TEST(more_than_one_ring)
{
	const unsigned n = 16500;
	uint64_t pinned, *iovas = calloc(n, sizeof(*iovas));
	char *many;

	if (!has_io_uring()) {
		free(iovas);
		return;
	}
	open_rig(IOF_POLICY_IO_URING);
	pinned = status("VmPin:");
	many = pages_of(2 * n);
	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(map_at(r.ctx, r.ioas, many + 2 * i * PAGE, PAGE, RW, &iovas[i]), 0);
	CHECK_EQ(status("VmPin:"), pinned + 4 * n);
	CHECK(iof_machine_is_valid(r.m));
	for (unsigned i = 0; i < n; i += 2)
		CHECK_EQ(unmap(r.ctx, r.ioas, iovas[i], PAGE, NULL), 0);
	CHECK_EQ(status("VmPin:"), pinned + 2 * n);
	CHECK_EQ(unmap(r.ctx, r.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(status("VmPin:"), pinned);
	munmap(many, 2 * n * PAGE);
	free(iovas);
	close_rig();
}

/* ---- regions ---- */

TEST(a_region_holds_by_itself)
{
	struct iof_held *held;
	uint64_t a;

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(hold(0, 20, IOF_POLICY_DEFAULT, true, &held), 0);
	CHECK_EQ(count_locks(), 20);
	CHECK_EQ(map(10, 20, &a), 0);
	CHECK_EQ(count_locks(), 30);
	iof_held_release(held);
	CHECK_EQ(count_locks(), 20);
	CHECK_EQ(unmap(r.ctx, r.ioas, a, 20 * PAGE, NULL), 0);
	CHECK_EQ(count_locks(), 0);
	close_rig();
}

/* Inside a region memory is not looked at: it may even be out of reach. A byte outside, and it is. */
TEST(probing_ends_at_a_region)
{
	struct iof_held *held, *read_only;
	uint64_t a;

	open_rig(IOF_POLICY_PROBE);
	CHECK_EQ(hold(0, 20, IOF_POLICY_PROBE, true, &held), 0);
	CHECK_EQ(hold(30, 4, IOF_POLICY_PROBE, false, &read_only), 0);
	CHECK_EQ(mprotect(r.memory, PAGES * PAGE, PROT_NONE), 0);
	CHECK_EQ(map(19, 1, &a), 0);
	CHECK_EQ(map(19, 2, &a), -EFAULT);
	CHECK_EQ(map(30, 2, &a), -EFAULT); /* looked at for reading only */
	CHECK_EQ(map_at(r.ctx, r.ioas, r.memory + 30 * PAGE, PAGE, IOF_MAP_READABLE, &a), 0);
	iof_held_release(held);
	CHECK_EQ(map(18, 1, &a), -EFAULT);
	iof_held_release(read_only);
	iof_held_release(NULL);
	close_rig();
}

TEST(regions_that_cannot_be)
{
	struct iof_hold h = { .size = sizeof(h) };
	struct iof_held *held;

	open_rig(IOF_POLICY_TRUST);
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), -EINVAL);
	h.length = PAGE;
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), 0); /* trust: the machine's */
	iof_held_release(held);
	h.policy = IOF_POLICY_PROBE;
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), -EFAULT);
	h.policy = IOF_POLICY_MLOCK;
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), -EFAULT);
	h.address = UINT64_MAX;
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), -EOVERFLOW);
	h.size = 1;
	CHECK_EQ(iof_machine_hold(r.m, &h, &held), -EINVAL);
	close_rig();
}

TEST(a_region_keeps_its_machine)
{
	struct iof_held *held;

	open_rig(IOF_POLICY_MLOCK);
	CHECK_EQ(hold(0, 4, IOF_POLICY_MLOCK, true, &held), 0);
	iof_close(r.dev);
	iof_close(r.ctx);
	iof_machine_put(r.m);
	CHECK_EQ(count_locks(), 4);
	iof_held_release(held);
	CHECK_EQ(count_locks(), 0);
	CHECK_EQ(atomic_load(&heap.live_blocks), 0);
	munmap(r.memory, PAGES * PAGE);
}

/* ---- memory refused at every point ---- */

static int everything(void)
{
	struct iof_held *held = NULL;
	uint64_t a, part;
	int rc = hold(0, 8, IOF_POLICY_DEFAULT, true, &held);

	if (!rc)
		rc = map(4, 10, &a);
	if (!rc)
		rc = copy(r.ctx, r.ioas, r.ioas, a + 2 * PAGE, 3 * PAGE, RW, &part);
	iof_held_release(held);
	return rc;
}

static void refuse_each(enum iof_policy policy)
{
	int rc;

	open_rig(policy);
	CHECK_EQ(lock(r.memory + 6 * PAGE, PAGE), 0);
	for (int64_t nth = 1;; nth++) {
		iof_alloc_fail_nth(&heap, nth);
		rc = everything();
		if (iof_alloc_fail_nth(&heap, 0) > 0)
			break;
		CHECK(rc == -ENOMEM || rc == -EFAULT || rc == -ENOENT);
		CHECK(iof_machine_is_valid(r.m));
		(void)unmap(r.ctx, r.ioas, 0, UINT64_MAX, NULL);
		CHECK_EQ(count_locks(), 1);
		CHECK_EQ(status("VmPin:"), 0);
	}
	CHECK_EQ(rc, 0);
	close_rig();
}

TEST(memory_refused_at_every_point)
{
	refuse_each(IOF_POLICY_MLOCK);
	if (has_io_uring())
		refuse_each(IOF_POLICY_IO_URING);
}
