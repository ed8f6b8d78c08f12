/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of files as memory share: a machine with one device, bound; descriptors counted before and after;
 * forks whose verdict is the exit status.
 */
#ifndef IOF_TESTS_FILE_RIG_H
#define IOF_TESTS_FILE_RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "iommufd_fast_access.h"
#include "iommufd_fast_embed.h"
#include "util/alloc.h"
#include "util/arena.h"

struct world {
	struct iof_alloc heap, *alloc;
	struct iof_arena *arena;
	struct iof_machine *m;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
	unsigned fds;
};

static inline unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static inline unsigned count_fds(void)
{
	return count_entries("/proc/self/fd");
}

static inline void world_open_with(struct world *w, enum iof_addresses addresses, enum iof_accounting accounting,
				   bool shared)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = (uint32_t[]){ 1 },
					  .n_groups = 1, .policy = IOF_POLICY_PROBE, .addresses = addresses,
					  .accounting = accounting };

	memset(w, 0, sizeof(*w));
	w->fds = count_fds();
	iof_alloc_init_heap(&w->heap);
	w->alloc = &w->heap;
	if (shared) {
		CHECK_EQ(iof_arena_create(16 << 20, &w->arena), 0);
		w->alloc = iof_arena_alloc(w->arena);
	}
	cfg.alloc = w->alloc;
	CHECK_EQ(iof_machine_create(&cfg, &w->m), 0);
	CHECK_EQ(iof_engine_open(w->m, &w->ctx), 0);
	CHECK_EQ(iof_engine_open_device(w->m, 0, &w->dev), 0);
	CHECK_EQ(bind_device(w->dev, w->ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(w->ctx, &w->ioas), 0);
}

static inline void world_open(struct world *w, enum iof_addresses addresses)
{
	world_open_with(w, addresses, IOF_ACCOUNTING_NONE, false);
}

static inline void world_close(struct world *w)
{
	CHECK(iof_machine_is_valid(w->m));
	iof_close(w->dev);
	iof_close(w->ctx);
	iof_machine_put(w->m);
	CHECK_EQ(w->alloc->live_blocks, 0);
	if (w->arena)
		iof_arena_destroy(w->arena);
	CHECK_EQ(count_fds(), w->fds);
}

/* Closes a descriptor that was open before the world was. */
static inline void give_up(struct world *w, int fd)
{
	close(fd);
	w->fds--;
}

static inline int map_file(struct world *w, int fd, uint64_t start, uint64_t length, uint32_t flags, uint64_t *iova)
{
	struct iof_cmd_ioas_map_file c = { .size = sizeof(c), .flags = flags, .ioas_id = w->ioas, .fd = fd,
					   .start = start, .length = length,
					   .iova = flags & IOF_MAP_FIXED_IOVA ? *iova : 0 };
	int rc = iof_ioctl(w->ctx, IOF_CMD_IOAS_MAP_FILE, &c);

	*iova = c.iova;
	return rc;
}

static inline int change_process(struct world *w)
{
	struct iof_cmd_change_process c = { .size = sizeof(c) };

	return iof_ioctl(w->ctx, IOF_CMD_IOAS_CHANGE_PROCESS, &c);
}

static inline int memfd(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return ftruncate(fd, (off_t)size) ? -1 : fd;
}

static inline int attach_ioas(struct world *w)
{
	return attach(w->dev, w->ioas, NULL);
}

/* Runs fn in a child, whose CHECKs count: 0 when all was well. */
static inline int in_child(int (*fn)(struct world *w), struct world *w)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(setjmp(check_out) ? 99 : fn(w));
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
