/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as memory: MAP_FILE's errnos in their order, what is checked when pages are held, identities, data, other
 * processes, failures.
 */
#define _GNU_SOURCE
#include <linux/memfd.h>
#include "file_rig.h"

#define PAGES 16

static const enum iof_addresses both[] = { IOF_ADDRESSES_VA, IOF_ADDRESSES_SYNTHETIC };

/* ---- the command ---- */

TEST(errnos_in_order)
{
	struct iof_cmd_ioas_map_file c;
	struct world w;
	int fd = memfd(PAGES * PAGE);
	static const struct {
		uint32_t flags, ioas; /* ioas 0: the right one */
		int fd; /* 0: the right one */
		uint64_t start, length, iova;
		int rc;
	} rows[] = {
		{ 8 | RW, 99, -1, 0, 0, UINT64_MAX, -EOPNOTSUPP },
		{ 0, 99, -1, 0, 0, UINT64_MAX, -EOVERFLOW },
		{ 0, 99, -1, 0, UINT64_MAX, 0, -EOVERFLOW },
		{ 0, 99, -1, 0, 0, 0, -EINVAL },
		{ RW, 99, -1, 0, 0, 0, -ENOENT },
		{ RW, 0, -1, 0, 0, 0, -EINVAL },
		{ RW, 0, -1, UINT64_MAX, 2, 0, -EOVERFLOW },
		{ RW, 0, -1, UINT64_MAX, 1, 0, -EBADF },
		{ RW, 0, 987654, 0, PAGE, 0, -EBADF },
		{ RW, 0, 0, 0, PAGE, 0, 0 },
		{ RW, 0, 0, 0, PAGE - 1, 0, 0 },
		{ RW, 0, 0, 1234, 77, 0, 0 }, /* no page table: any alignment */
		{ RW, 0, 0, UINT64_MAX - PAGE, PAGE, 0, 0 }, /* nothing looks at the size yet */
		{ RW | IOF_MAP_FIXED_IOVA, 0, 0, 0, PAGE, 0x5000000, 0 },
		{ RW | IOF_MAP_FIXED_IOVA, 0, 0, 0, PAGE, 0x5000000, -EEXIST },
	};

	world_open(&w, IOF_ADDRESSES_VA);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		c = (struct iof_cmd_ioas_map_file){ .size = sizeof(c), .flags = rows[i].flags,
						    .ioas_id = rows[i].ioas ? rows[i].ioas : w.ioas,
						    .fd = rows[i].fd ? rows[i].fd : fd, .start = rows[i].start,
						    .length = rows[i].length, .iova = rows[i].iova };
		CHECK_EQ(iof_ioctl(w.ctx, IOF_CMD_IOAS_MAP_FILE, &c), rows[i].rc);
		CHECK(iof_machine_is_valid(w.m));
	}
	give_up(&w, fd);
	world_close(&w);
}

/* Anything open will do while nobody looks; a file that may not be touched is no open file. */
TEST(any_descriptor_is_taken)
{
	struct world w;
	uint64_t iova;
	int fds[2], path, dir = open("/tmp", O_RDONLY | O_DIRECTORY), disk = open("/proc/self/exe", O_RDONLY);

	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(pipe(fds), 0);
	path = open("/tmp", O_PATH);
	CHECK_EQ(map_file(&w, path, 0, PAGE, RW, &iova), -EBADF);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(map_file(&w, fds[i], 0, PAGE, RW, &iova), 0);
		close(fds[i]);
	}
	CHECK_EQ(attach_ioas(&w), -EINVAL);
	CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, dir, 0, PAGE, RW, &iova), -EINVAL);
	CHECK_EQ(map_file(&w, disk, 0, PAGE, IOF_MAP_READABLE, &iova), -EINVAL);
	close(path);
	give_up(&w, dir);
	give_up(&w, disk);
	world_close(&w);
}

/* Every page that is held lies completely inside the file, as it is then. */
static void sizes(enum iof_addresses addresses)
{
	struct world w;
	uint64_t iova;
	int fd = memfd(2 * PAGE + 100);

	world_open(&w, addresses);
	CHECK_EQ(map_file(&w, fd, 0, 3 * PAGE, RW, &iova), 0);
	CHECK_EQ(attach_ioas(&w), -EINVAL);
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(ftruncate(fd, 3 * PAGE), 0);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, fd, 0, 4 * PAGE, RW, &iova), -EINVAL);
	CHECK_EQ(map_file(&w, fd, 3 * PAGE, PAGE, RW, &iova), -EINVAL);
	CHECK_EQ(map_file(&w, fd, UINT64_C(1) << 63, PAGE, RW, &iova), -EINVAL);
	CHECK_EQ(map_file(&w, fd, 0, UINT64_C(1) << 46, RW, &iova), -EINVAL);
	CHECK_EQ(map_file(&w, fd, 2 * PAGE, PAGE, RW, &iova), 0);
	CHECK_EQ(ftruncate(fd, 8 * PAGE), 0);
	CHECK_EQ(map_file(&w, fd, 0, 8 * PAGE, RW, &iova), 0); /* a longer window beside the first */
	give_up(&w, fd);
	world_close(&w);
}

TEST(sizes_count_when_pages_are_held)
{
	sizes(both[0]);
	sizes(both[1]);
}

/* The IOVA follows the offset as it would an address: large pages stay large. */
TEST(large_pages)
{
	struct iof_hwpt_stats s;
	struct world w;
	uint64_t iova;
	uint32_t hwpt;
	int fd = memfd(8 << 20);

	for (int i = 0; i < 2; i++) {
		world_open(&w, both[i]);
		CHECK_EQ(attach(w.dev, w.ioas, &hwpt), 0);
		CHECK_EQ(map_file(&w, fd, 2 << 20, 4 << 20, RW, &iova), 0);
		CHECK_EQ(iova & ((2 << 20) - 1), 0);
		CHECK_EQ(iof_hwpt_stats(w.ctx, hwpt, &s), 0);
		CHECK_EQ(s.leaves[21], 2);
		CHECK_EQ(s.leaves[12], 0);
		world_close(&w);
	}
	close(fd);
}

/*
 * hugetlbfs: no write(2), and mappings of whole huge pages only. Where no huge pages are set aside there is nothing to
 * see.
 */
TEST(huge_pages)
{
	struct iof_access *a;
	struct iof_access_config cfg = { .size = sizeof(cfg) };
	struct world w;
	uint64_t iova;
	uint32_t hwpt;
	struct iof_hwpt_stats s;
	char c[5];
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd < 0 || ftruncate(fd, 4 << 20) || mmap(NULL, 4 << 20, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) {
		printf("no huge pages: skipped\n");
		close(fd);
		return;
	}
	for (int i = 0; i < 2; i++) {
		world_open(&w, both[i]);
		CHECK_EQ(attach(w.dev, w.ioas, &hwpt), 0);
		CHECK_EQ(iof_access_open(w.ctx, &cfg, &a), 0);
		CHECK_EQ(iof_access_attach(a, w.ioas), 0);
		CHECK_EQ(map_file(&w, fd, 0, 4 << 20, RW, &iova), 0);
		CHECK_EQ(iof_hwpt_stats(w.ctx, hwpt, &s), 0);
		CHECK_EQ(s.leaves[21], 2);
		CHECK_EQ(dma(w.dev, IOF_DMA_WRITE, iova + (2 << 20) - 2, "hello", 5, NULL), 0);
		CHECK_EQ(iof_access_rw(a, iova + (2 << 20) - 2, c, 5, 0), 0);
		CHECK_EQ(memcmp(c, "hello", 5), 0);
		CHECK_EQ(map_file(&w, fd, (2 << 20) + PAGE, PAGE, RW, &iova), 0);
		CHECK_EQ(iof_access_rw(a, iova, "x", 1, IOF_ACCESS_WRITE), 0);
		iof_access_destroy(a);
		world_close(&w);
	}
	close(fd);
}

/* ---- data ---- */

static bool holes_are_filled(int fd, off_t size)
{
	return lseek(fd, 0, SEEK_HOLE) == size;
}

static void data(enum iof_addresses addresses)
{
	char out[PAGE + 10], in[PAGE + 10];
	struct world w;
	uint64_t iova;
	int fd = memfd(PAGES * PAGE), watch = dup(fd);

	memset(out, 0x5a, sizeof(out));
	world_open(&w, addresses);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, fd, 2 * PAGE, 4 * PAGE, RW, &iova), 0);
	give_up(&w, fd); /* nobody has it mapped, and our descriptor is gone */
	CHECK_EQ(dma(w.dev, IOF_DMA_WRITE, iova + 100, out, sizeof(out), NULL), 0);
	CHECK_EQ(pread(watch, in, sizeof(in), 2 * PAGE + 100), sizeof(in));
	CHECK_EQ(memcmp(in, out, sizeof(in)), 0);
	CHECK_EQ(pwrite(watch, "hello", 5, 3 * PAGE), 5);
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova + PAGE, in, 5, NULL), 0);
	CHECK_EQ(memcmp(in, "hello", 5), 0);
	CHECK_EQ(unmap(w.ctx, w.ioas, iova, 4 * PAGE, NULL), 0);
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova, in, 5, NULL), -EFAULT);
	CHECK_EQ(map_file(&w, watch, 0, PAGES * PAGE, RW, &iova), 0);
	CHECK(holes_are_filled(watch, PAGES * PAGE));
	CHECK_EQ(ftruncate(watch, PAGE), 0);
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova + PAGE, in, 5, NULL), -EFAULT); /* cut off: a fault, no signal */
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova, in, 5, NULL), 0);
	give_up(&w, watch);
	world_close(&w);
}

TEST(devices_read_and_write_files)
{
	data(both[0]);
	data(both[1]);
}

static void no_unmap(void *data, uint64_t iova, uint64_t length)
{
	(void)data, (void)iova, (void)length;
}

/* An access needs neither a page table nor a mapping nor the descriptor; the slow way is the same way. */
static void accesses(enum iof_addresses addresses)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = true, .unmap = no_unmap };
	struct iof_access *a;
	struct world w;
	char in[3 * PAGE], out[3 * PAGE];
	uint64_t iova, address[2];
	int fd = memfd(4 * PAGE), watch = dup(fd);

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (char)(i * 7);
	world_open(&w, addresses);
	CHECK_EQ(iof_access_open(w.ctx, &cfg, &a), 0);
	CHECK_EQ(iof_access_attach(a, w.ioas), 0);
	CHECK_EQ(map_file(&w, fd, 0, 5 * PAGE, RW, &iova), 0);
	give_up(&w, fd);
	for (uint32_t slow = 0; slow <= IOF_ACCESS_SLOW; slow += IOF_ACCESS_SLOW) {
		CHECK_EQ(iof_access_rw(a, iova + 77, out, 2 * PAGE, IOF_ACCESS_WRITE | slow), 0);
		memset(in, 0, sizeof(in));
		CHECK_EQ(iof_access_rw(a, iova + 77, in, 2 * PAGE, slow), 0);
		CHECK_EQ(memcmp(in, out, 2 * PAGE), 0);
		CHECK_EQ(pread(watch, in, 2 * PAGE, 77), 2 * PAGE);
		CHECK_EQ(memcmp(in, out, 2 * PAGE), 0);
	}
	CHECK_EQ(iof_access_rw(a, iova + 3 * PAGE, in, PAGE + 1, 0), -EINVAL); /* past the end of the file */
	CHECK_EQ(iof_access_rw(a, iova, (void *)8, 10, 0), -EFAULT);
	CHECK_EQ(iof_access_pin(a, iova, 2 * PAGE, true, address), 0);
	CHECK_EQ(address[1], address[0] + PAGE);
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(iof_access_pin(a, iova + 3 * PAGE, 2 * PAGE, true, NULL), -EINVAL);
	CHECK_EQ(iof_access_unpin(a, iova, 2 * PAGE), 0);
	iof_access_destroy(a);
	give_up(&w, watch);
	world_close(&w);
}

TEST(accesses_read_and_write_files)
{
	accesses(both[0]);
	accesses(both[1]);
}

/* Writing does not ask how the caller opened the file; what the file itself forbids cannot be had. */
TEST(descriptors_for_reading)
{
	char path[64];
	struct world w;
	uint64_t iova;
	int fd = memfd(PAGES * PAGE), reader;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY);
	CHECK(reader >= 0);
	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(map_file(&w, reader, 0, PAGE, RW, &iova), 0);
	CHECK_EQ(dma(w.dev, IOF_DMA_WRITE, iova, "hello", 5, NULL), 0);
	CHECK_EQ(unmap(w.ctx, w.ioas, iova, PAGE, NULL), 0);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	CHECK_EQ(map_file(&w, fd, 0, PAGE, RW, &iova), 0); /* seals are not consulted */
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova, path, 5, NULL), 0);
	CHECK_EQ(memcmp(path, "hello", 5), 0);
	CHECK_EQ(dma(w.dev, IOF_DMA_WRITE, iova, "12345", 5, NULL), -EFAULT);
	give_up(&w, fd);
	give_up(&w, reader);
	world_close(&w);
}

/* ---- identity ---- */

TEST(a_page_of_a_file_has_one_name)
{
	struct world w;
	uint64_t file, memory, address[2];
	uint32_t hwpt;
	int fd = memfd(PAGES * PAGE);
	char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	world_open(&w, IOF_ADDRESSES_SYNTHETIC);
	CHECK_EQ(attach(w.dev, w.ioas, &hwpt), 0);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)at + 3 * PAGE), 0);
	CHECK_EQ(map_file(&w, fd, 3 * PAGE, PAGE, RW, &file), 0);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)at + 3 * PAGE), 1);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)at + 2 * PAGE), 0);
	CHECK_EQ(map_at(w.ctx, w.ioas, at + 3 * PAGE, PAGE, RW, &memory), 0);
	CHECK_EQ(iof_machine_pins(w.m, (uintptr_t)at + 3 * PAGE), 2);
	CHECK_EQ(iof_translate(w.ctx, hwpt, 1, &file, &address[0], NULL), 1);
	CHECK_EQ(iof_translate(w.ctx, hwpt, 1, &memory, &address[1], NULL), 1);
	CHECK_EQ(address[0], address[1]);
	munmap(at, PAGES * PAGE);
	give_up(&w, fd);
	world_close(&w);
}

/* ---- what it costs ---- */

/* One descriptor and one window for all containers of a file, whatever descriptor they came by. */
TEST(a_file_is_kept_open_once)
{
	struct world w;
	uint64_t iova[64];
	int fd = memfd(64 * PAGE), other;
	unsigned before, maps;

	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(attach_ioas(&w), 0);
	before = count_fds();
	for (int i = 0; i < 64; i++) {
		other = dup(fd);
		CHECK_EQ(map_file(&w, other, (uint64_t)i * PAGE, PAGE, RW, &iova[i]), 0);
		close(other);
	}
	CHECK_EQ(count_fds(), before + 1);
	maps = count_entries("/proc/self/map_files");
	for (int i = 63; i > 0; i--)
		CHECK_EQ(unmap(w.ctx, w.ioas, iova[i], PAGE, NULL), 0);
	CHECK(count_entries("/proc/self/map_files") <= maps);
	CHECK_EQ(count_fds(), before + 1);
	CHECK_EQ(unmap(w.ctx, w.ioas, iova[0], PAGE, NULL), 0);
	CHECK_EQ(count_fds(), before);
	give_up(&w, fd);
	world_close(&w);
}

/* A host that closes what it does not know takes nothing of its own with it when we close. */
TEST(our_descriptor_may_be_closed_by_others)
{
	struct world w;
	uint64_t iova, second;
	int fd = memfd(PAGE), victim = -1;
	char c;

	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(map_file(&w, fd, 0, PAGE, RW, &iova), 0);
	for (int i = fd + 1; i < 65536; i++)
		if (i != iof_fileno(w.ctx) && i != iof_fileno(w.dev) && fcntl(i, F_GETFD) >= 0)
			victim = i;
	CHECK(victim > 0);
	CHECK_EQ(dup2(STDERR_FILENO, victim), victim); /* now it is something else */
	CHECK_EQ(attach_ioas(&w), -EFAULT);
	CHECK_EQ(map_file(&w, fd, 0, PAGE, RW, &second), 0); /* kept anew, for both */
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova, &c, 1, NULL), 0);
	give_up(&w, fd);
	CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK(fcntl(victim, F_GETFD) >= 0); /* not ours to close */
	close(victim);
	world_close(&w);
}

/* ---- failures ---- */

static int steps(struct world *w, int fd)
{
	uint64_t iova[3];
	int rc;

	if ((rc = map_file(w, fd, 0, 4 * PAGE, RW, &iova[0])))
		return rc;
	if ((rc = attach_ioas(w)))
		return rc;
	if ((rc = map_file(w, fd, PAGE, 8 * PAGE, RW, &iova[1])))
		return rc;
	return copy(w->ctx, w->ioas, w->ioas, iova[0] + PAGE, 2 * PAGE, RW, &iova[2]);
}

TEST(every_failure_is_rolled_back)
{
	int fd = memfd(PAGES * PAGE);
	struct world w;

	for (int mode = 0; mode < 2; mode++) {
		int rc = -1, failures = 0;

		for (int64_t n = 1; rc; n++) {
			uint64_t digest[2];

			world_open(&w, both[mode]);
			CHECK_EQ(iof_machine_set_scratch(w.m, 12), 0);
			CHECK_EQ(iof_digest(w.ctx, &digest[0]), 0);
			iof_alloc_fail_nth(w.alloc, n);
			rc = steps(&w, fd);
			iof_alloc_fail_nth(w.alloc, 0);
			CHECK(rc == 0 || rc == -ENOMEM || rc == -EFAULT || rc == -EINVAL || rc == -ENOENT);
			failures += rc != 0;
			CHECK(iof_machine_is_valid(w.m));
			detach(w.dev);
			CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
			CHECK_EQ(iof_digest(w.ctx, &digest[1]), 0);
			world_close(&w);
		}
		CHECK(failures > 25);
	}
	close(fd);
}

TEST(scratch_makes_steps)
{
	struct world w;
	uint64_t iova, seen[2];
	int fd = memfd(64 * PAGE);

	for (int i = 0; i < 2; i++) {
		world_open(&w, IOF_ADDRESSES_VA);
		CHECK_EQ(iof_machine_set_scratch(w.m, 11), -EINVAL);
		CHECK_EQ(iof_machine_set_scratch(w.m, i ? 12 : 65536), 0);
		CHECK_EQ(attach_ioas(&w), 0);
		iof_alloc_fail_nth(w.alloc, 1000000);
		CHECK_EQ(map_file(&w, fd, 0, 64 * PAGE, RW, &iova), 0);
		iof_alloc_fail_nth(w.alloc, 0);
		seen[i] = w.alloc->fail_seen;
		world_close(&w);
	}
	CHECK_EQ(seen[1], seen[0] + 63);
	close(fd);
}

/* ---- other processes ---- */

static int mapped_fd;
static uint64_t mapped_iova;

/* The parent's file, by whatever way this process has to it. */
static int child_attaches(struct world *w)
{
	char c[5] = { 0 };

	CHECK_EQ(attach_ioas(w), 0);
	CHECK_EQ(dma(w->dev, IOF_DMA_READ, mapped_iova, c, 5, NULL), 0);
	CHECK_EQ(memcmp(c, "hello", 5), 0);
	CHECK_EQ(unmap(w->ctx, w->ioas, mapped_iova, 4 * PAGE, NULL), 0); /* the descriptor is the parent's to close */
	return 0;
}

TEST(a_child_uses_what_the_parent_mapped)
{
	struct world w;

	for (int i = 0; i < 2; i++) {
		mapped_fd = memfd(4 * PAGE);
		CHECK_EQ(pwrite(mapped_fd, "hello", 5, 0), 5);
		world_open_with(&w, both[i], IOF_ACCOUNTING_NONE, true);
		CHECK_EQ(map_file(&w, mapped_fd, 0, 4 * PAGE, RW, &mapped_iova), 0);
		give_up(&w, mapped_fd);
		CHECK_EQ(in_child(child_attaches, &w), 0);
		CHECK(iof_machine_is_valid(w.m));
		world_close(&w);
	}
}

static int child_maps(struct world *w)
{
	mapped_fd = memfd(4 * PAGE); /* a file the parent has never seen */
	CHECK_EQ(pwrite(mapped_fd, "hello", 5, 0), 5);
	CHECK_EQ(map_file(w, mapped_fd, 0, 4 * PAGE, RW, &mapped_iova), 0);
	return 0;
}

/*
 * Nobody has the file any more: pages that nobody holds are gone with the process, those that are held are counted
 * still.
 */
TEST(a_child_that_ends_takes_its_files)
{
	struct world w;
	uint64_t iova = 0x10000;

	world_open_with(&w, IOF_ADDRESSES_SYNTHETIC, IOF_ACCOUNTING_NONE, true);
	CHECK_EQ(in_child(child_maps, &w), 0);
	CHECK_EQ(attach_ioas(&w), -EFAULT);
	CHECK_EQ(unmap(w.ctx, w.ioas, 0, UINT64_MAX, NULL), 0);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(in_child(child_maps, &w), 0);
	CHECK(iof_machine_is_valid(w.m));
	mapped_fd = memfd(PAGE);
	CHECK_EQ(map_file(&w, mapped_fd, 0, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	close(mapped_fd);
	world_close(&w);
}
