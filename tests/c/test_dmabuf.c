/* SPDX-License-Identifier: Apache-2.0 */
/* needs: tsan */
/* Engine dma-bufs (behaviour.md 4.8): imports and their errnos, revocation, accesses, lifetimes, races. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "file_rig.h"
#include "pages/dmabuf.h"

#define SIZE (8 * PAGE)

static const enum iof_addresses both[] = { IOF_ADDRESSES_VA, IOF_ADDRESSES_SYNTHETIC };

static int map_buf(struct world *w, struct iof_handle *buf, uint64_t start, uint64_t length, uint64_t *iova)
{
	return map_file(w, iof_fileno(buf), start, length, RW, iova);
}

TEST(sizes)
{
	struct iof_handle *buf;
	struct world w;
	uint64_t iova;

	world_open(&w, IOF_ADDRESSES_VA);
	CHECK_EQ(iof_dmabuf_create(w.m, 0, &buf), -EINVAL);
	CHECK_EQ(iof_dmabuf_create(w.m, UINT64_MAX, &buf), -EINVAL);
	CHECK_EQ(iof_dmabuf_create(w.m, SIZE - 5, &buf), 0); /* rounded up */
	CHECK(iof_fileno(buf) > 2);
	CHECK_EQ(map_buf(&w, buf, 0, 0, &iova), -EINVAL);
	CHECK_EQ(map_buf(&w, buf, SIZE, PAGE, &iova), -EINVAL); /* now, not when it is held */
	CHECK_EQ(map_buf(&w, buf, 0, SIZE + 1, &iova), -EINVAL);
	CHECK_EQ(map_buf(&w, buf, UINT64_MAX, 2, &iova), -EOVERFLOW);
	CHECK_EQ(map_buf(&w, buf, 0, SIZE, &iova), 0);
	CHECK_EQ(iof_dmabuf_import_count(buf), 1);
	CHECK_EQ(iof_dmabuf_import_count(w.ctx), -EINVAL);
	CHECK_EQ(iof_dmabuf_revoke(w.dev, true), -EINVAL);
	iof_close(buf);
	world_close(&w);
}

/* Import, data, the exporter closing, a descriptor that outlives the handle. */
static void imports(enum iof_addresses addresses)
{
	struct iof_handle *buf;
	struct world w;
	uint64_t iova, again;
	char in[5], *at;
	int fd;

	world_open(&w, addresses);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(iof_dmabuf_create(w.m, SIZE, &buf), 0);
	fd = dup(iof_fileno(buf));
	at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, iof_fileno(buf), 0);
	CHECK(at != MAP_FAILED);
	CHECK_EQ(map_buf(&w, buf, PAGE, 4 * PAGE, &iova), 0);
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(dma(w.dev, IOF_DMA_WRITE, iova + 3, "hello", 5, NULL), 0);
	CHECK_EQ(memcmp(at + PAGE + 3, "hello", 5), 0);
	iof_close(buf);
	munmap(at, SIZE);
	CHECK_EQ(dma(w.dev, IOF_DMA_READ, iova + 3, in, 5, NULL), 0);
	CHECK_EQ(memcmp(in, "hello", 5), 0);
	CHECK_EQ(map_file(&w, fd, 0, SIZE, RW, &again), 0); /* imports keep it what it is */
	close(fd);
	CHECK(iof_machine_is_valid(w.m));
	world_close(&w);
}

TEST(imports_are_memory)
{
	imports(both[0]);
	imports(both[1]);
}

static void no_unmap(void *data, uint64_t iova, uint64_t length)
{
	(void)data, (void)iova, (void)length;
}

TEST(not_for_accesses_nor_for_another_process)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = true, .unmap = no_unmap };
	struct iof_handle *buf;
	struct iof_access *a;
	struct world w;
	uint64_t iova;
	int64_t pinned;
	uint64_t locked;
	char c;

	world_open_with(&w, IOF_ADDRESSES_VA, IOF_ACCOUNTING_PROCESS, false);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(iof_access_open(w.ctx, &cfg, &a), 0);
	CHECK_EQ(iof_access_attach(a, w.ioas), 0);
	CHECK_EQ(iof_dmabuf_create(w.m, SIZE, &buf), 0);
	CHECK_EQ(map_buf(&w, buf, 0, SIZE, &iova), 0);
	iof_machine_process_pages(w.m, (uint32_t)getpid(), &pinned, &locked);
	CHECK_EQ(pinned, 0);
	CHECK_EQ(locked, 0);
	CHECK_EQ(iof_access_rw(a, iova, &c, 1, 0), -EINVAL);
	CHECK_EQ(iof_access_rw(a, iova, &c, 1, IOF_ACCESS_WRITE), -EINVAL);
	CHECK_EQ(iof_access_pin(a, iova, PAGE, false, NULL), -EINVAL);
	CHECK_EQ(change_process(&w), -EINVAL);
	iof_access_destroy(a);
	iof_close(buf);
	world_close(&w);
}

static bool reaches(struct world *w, uint64_t iova)
{
	char c;

	return !dma(w->dev, IOF_DMA_READ, iova, &c, 1, NULL);
}

/* The mapping stays where it is and can do all that a mapping can, except lead to memory. */
static void revocation(enum iof_addresses addresses)
{
	struct iof_handle *buf;
	struct world w;
	uint64_t iova, live, copied, bytes;
	uint32_t other;

	world_open(&w, addresses);
	CHECK_EQ(attach_ioas(&w), 0);
	CHECK_EQ(iof_dmabuf_create(w.m, SIZE, &buf), 0);
	CHECK_EQ(map_buf(&w, buf, 0, SIZE, &iova), 0);
	CHECK_EQ(copy(w.ctx, w.ioas, w.ioas, iova + PAGE, PAGE, RW, &copied), 0);
	CHECK(reaches(&w, iova) && reaches(&w, copied));
	CHECK_EQ(iof_dmabuf_revoke(buf, true), 0);
	CHECK(!reaches(&w, iova) && !reaches(&w, copied));
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(map_buf(&w, buf, 0, SIZE, &live), -ENODEV);
	CHECK_EQ(map_buf(&w, buf, SIZE, SIZE, &live), -EINVAL); /* first of all the size */
	CHECK_EQ(detach(w.dev), 0);
	CHECK_EQ(attach_ioas(&w), 0); /* a page table joins, and is told nothing */
	CHECK(!reaches(&w, iova));
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(ioas_alloc(w.ctx, &other), 0);
	CHECK_EQ(copy(w.ctx, other, w.ioas, iova, SIZE, RW, &live), 0);
	CHECK_EQ(iof_dmabuf_revoke(buf, false), 0);
	CHECK(!reaches(&w, iova)); /* for good */
	CHECK_EQ(map_buf(&w, buf, 0, SIZE, &live), 0);
	CHECK(reaches(&w, live) && !reaches(&w, iova));
	CHECK_EQ(unmap(w.ctx, w.ioas, iova, SIZE, &bytes), 0);
	CHECK_EQ(bytes, SIZE);
	CHECK_EQ(map_file(&w, iof_fileno(buf), 0, SIZE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK(reaches(&w, iova));
	CHECK_EQ(iof_dmabuf_revoke(buf, false), 0); /* any notice ends what there is */
	CHECK(!reaches(&w, iova) && !reaches(&w, live));
	CHECK(iof_machine_is_valid(w.m));
	CHECK_EQ(iof_dmabuf_import_count(buf), 3); /* live, iova, and the copy that still has the first */
	iof_close(buf);
	world_close(&w);
}

TEST(revoked_is_revoked_for_good)
{
	revocation(both[0]);
	revocation(both[1]);
}

TEST(what_a_descriptor_is)
{
	struct iof_memory m = { .address_mode = IOF_ADDRESS_VA };
	struct iof_dmabuf *d, *found;
	struct iof_alloc heap;
	int fd, other = memfd(PAGE);

	iof_alloc_init_heap(&heap);
	m.alloc = &heap;
	CHECK_EQ(iof_memory_init(&m), 0);
	CHECK_EQ(iof_dmabuf_make(&m, SIZE, &d), 0);
	fd = iof_dmabuf_open(d);
	CHECK(fd > 2);
	CHECK_EQ(iof_dmabuf_find(&m, fd, &found), 0);
	CHECK(found == d);
	CHECK_EQ(iof_dmabuf_size(d), SIZE);
	CHECK_EQ(iof_dmabuf_find(&m, other, &found), -EINVAL);
	CHECK_EQ(iof_dmabuf_find(&m, -1, &found), -EBADF);
	CHECK_EQ(iof_dmabuf_find(&m, 99999, &found), -EBADF);
	CHECK_EQ(ftruncate(fd, 1), -1); /* sealed */
	close(fd);
	close(other);
	iof_dmabuf_drop(&m, d);
	iof_memory_fini(&m);
	CHECK_EQ(heap.live_blocks, 0);
}

TEST(every_failure_is_rolled_back)
{
	for (int mode = 0; mode < 2; mode++) {
		int failures = 0, rc = -1;

		for (int64_t n = 1; rc; n++) {
			struct iof_handle *buf = NULL;
			struct world w;
			uint64_t iova;

			world_open(&w, both[mode]);
			iof_alloc_fail_nth(w.alloc, n);
			rc = attach_ioas(&w);
			if (!rc)
				rc = iof_dmabuf_create(w.m, SIZE, &buf);
			if (!rc)
				rc = map_buf(&w, buf, 0, SIZE, &iova);
			iof_alloc_fail_nth(w.alloc, 0);
			CHECK(rc == 0 || rc == -ENOMEM || rc == -EFAULT || rc == -ENOENT || rc == -EINVAL);
			failures += rc != 0;
			CHECK(iof_machine_is_valid(w.m));
			iof_close(buf);
			world_close(&w);
		}
		CHECK(failures > 10);
	}
}

/* ---- threads ---- */

static atomic_bool stop;
static struct world racing;
static struct iof_handle *racing_buf;
static _Atomic unsigned long made, refused;

static void *mapper(void *arg)
{
	uint64_t iova;
	char c;
	int rc;

	(void)arg;
	while (!atomic_load(&stop)) {
		rc = map_buf(&racing, racing_buf, 0, SIZE, &iova);
		if (rc == -ENODEV) {
			atomic_fetch_add(&refused, 1);
			continue;
		}
		if (rc)
			return (void *)1;
		atomic_fetch_add(&made, 1);
		(void)dma(racing.dev, IOF_DMA_READ, iova, &c, 1, NULL);
		if (unmap(racing.ctx, racing.ioas, iova, SIZE, NULL))
			return (void *)2;
	}
	return NULL;
}

TEST(revoking_races_with_mapping)
{
	pthread_t t[2];
	void *said;
	uint64_t iova;

	world_open(&racing, IOF_ADDRESSES_VA);
	CHECK_EQ(attach_ioas(&racing), 0);
	CHECK_EQ(iof_dmabuf_create(racing.m, SIZE, &racing_buf), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, mapper, NULL);
	for (int i = 0; i < 300 || atomic_load(&made) < 100 || !atomic_load(&refused); i++)
		CHECK_EQ(iof_dmabuf_revoke(racing_buf, i % 2), 0);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &said);
		CHECK(!said);
	}
	CHECK(iof_machine_is_valid(racing.m));
	CHECK_EQ(iof_dmabuf_revoke(racing_buf, false), 0);
	CHECK_EQ(map_buf(&racing, racing_buf, 0, SIZE, &iova), 0);
	CHECK(reaches(&racing, iova));
	iof_close(racing_buf);
	world_close(&racing);
}
