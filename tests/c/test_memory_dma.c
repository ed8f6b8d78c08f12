/* SPDX-License-Identifier: Apache-2.0 */
/* DMA memory: kinds of pages, guard pages, places given by the caller, NUMA nodes, failures of the map behind it. */
#include <fcntl.h>
#include <unistd.h>

#include "memory_rig.h"
#include "util/guard.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static int get(uint64_t length, enum iof_dma_page page, uint32_t flags, struct iof_dma_memory *m)
{
	return iof_dma_memory_get(&(struct iof_dma_request){ .size = sizeof(struct iof_dma_request), .length = length, .page = page,
							     .flags = flags }, m);
}

/* Zeros that can be written, and nothing on either side. */
static void check_memory(const struct iof_dma_memory *m)
{
	uint64_t at = (uintptr_t)m->address;
	uint8_t byte = 7;

	CHECK_EQ(iof_is_zero_in(at, m->length), 1);
	CHECK_EQ(iof_fill_out(at, 1, m->length), 0);
	CHECK_EQ(iof_copy_in(&byte, at - 1, 1), -EFAULT);
	CHECK_EQ(iof_copy_in(&byte, at + m->length, 1), -EFAULT);
}

TEST(arguments)
{
	struct iof_dma_request rq = { .size = sizeof(rq), .length = 4096 }, bad;
	struct iof_dma_memory m;

	bad = rq, bad.size = 8;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad = rq, bad.flags = 4;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad = rq, bad.page = 5;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad = rq, bad.page = IOF_DMA_PAGE_THP;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad = rq, bad.length = 0;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad = rq, bad.length = UINT64_MAX;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EOVERFLOW);
	bad = rq, bad.flags = IOF_DMA_NODE, bad.node = 1u << 20;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	bad.node = 1000;
	CHECK_EQ(iof_dma_memory_get(&bad, &m), -EINVAL);
	iof_dma_memory_put(&m);
	m = (struct iof_dma_memory){ 0 };
	iof_dma_memory_put(&m);
	CHECK(fcntl(0, F_GETFD) >= 0); /* descriptor 0 was not meant */
}

TEST(small_pages)
{
	struct iof_dma_memory m;

	for (uint32_t shared = 0; shared <= IOF_DMA_SHARED; shared++) {
		CHECK_EQ(get(5000, IOF_DMA_PAGE_AUTO, shared, &m), 0);
		CHECK_EQ(m.length, 8192);
		CHECK_EQ(m.page, IOF_DMA_PAGE_4K);
		CHECK_EQ(m.missed, IOF_DMA_PAGE_AUTO);
		CHECK_EQ(m.huge_bytes, 0);
		CHECK_EQ(m.fd >= 0, shared);
		check_memory(&m);
		iof_dma_memory_put(&m);
		CHECK(!m.address);
	}
}

TEST(shared_is_seen_through_its_descriptor)
{
	struct iof_dma_memory m;
	uint8_t byte = 0;
	int fd;

	CHECK_EQ(get(4096, IOF_DMA_PAGE_AUTO, IOF_DMA_SHARED, &m), 0);
	((uint8_t *)m.address)[9] = 33;
	CHECK_EQ(pread(m.fd, &byte, 1, 9), 1);
	CHECK_EQ(byte, 33);
	fd = m.fd;
	iof_dma_memory_put(&m);
	CHECK(fcntl(fd, F_GETFD) < 0);
}

TEST(transparent_pages)
{
	struct iof_dma_memory m;
	int rc = get(8 * MIB + 4096, IOF_DMA_PAGE_THP, 0, &m);

	if (rc) {
		CHECK(rc == -ENOMEM || rc == -EOPNOTSUPP);
		puts("this system gives no transparent huge pages");
		return;
	}
	CHECK_EQ(m.page, IOF_DMA_PAGE_THP);
	CHECK_EQ(m.length, 8 * MIB + 4096);
	CHECK(!((uintptr_t)m.address & (2 * MIB - 1)));
	CHECK(m.huge_bytes && m.huge_bytes <= 8 * MIB && !(m.huge_bytes & (2 * MIB - 1)));
	check_memory(&m);
	iof_dma_memory_put(&m);
}

TEST(hugetlb_or_the_reason)
{
	struct iof_dma_memory m;
	int rc = get(2 * MIB, IOF_DMA_PAGE_2M, 0, &m);

	CHECK(rc == 0 || rc == -ENOMEM);
	if (!rc) {
		CHECK_EQ(m.huge_bytes, 2 * MIB);
		check_memory(&m);
		iof_dma_memory_put(&m);
	}
	CHECK_EQ(get(2 * MIB, IOF_DMA_PAGE_AUTO, 0, &m), 0);
	CHECK(rc ? m.missed == IOF_DMA_PAGE_2M && m.why == rc && m.page < IOF_DMA_PAGE_2M : m.page == IOF_DMA_PAGE_2M && !m.missed);
	iof_dma_memory_put(&m);
	rc = get(GIB, IOF_DMA_PAGE_1G, IOF_DMA_SHARED, &m);
	CHECK(rc == 0 || rc == -ENOMEM || rc == -ENODEV || rc == -EINVAL);
	iof_dma_memory_put(&m);
}

TEST(node)
{
	struct iof_dma_request rq = { .size = sizeof(rq), .length = MIB, .flags = IOF_DMA_NODE, .node = 0 };
	struct iof_dma_memory m;

	CHECK_EQ(iof_dma_memory_get(&rq, &m), 0);
	check_memory(&m);
	iof_dma_memory_put(&m);
}

TEST(at_a_place)
{
	char *room = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iof_dma_request rq = { .size = sizeof(rq), .length = 4 * PAGE, .at = room + 4 * PAGE };
	struct iof_dma_memory m;
	uint8_t byte;

	CHECK_EQ(iof_dma_memory_get(&rq, &m), 0);
	CHECK(m.address == rq.at && !m.reserved);
	check_memory(&m);
	iof_dma_memory_put(&m);
	CHECK_EQ(iof_copy_in(&byte, (uintptr_t)rq.at, 1), -EFAULT);
	CHECK(mmap(rq.at, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED); /* it is not free */
	rq.at = room + 5;
	CHECK_EQ(iof_dma_memory_get(&rq, &m), -EINVAL);
	rq.at = room + PAGE, rq.page = IOF_DMA_PAGE_2M;
	CHECK_EQ(iof_dma_memory_get(&rq, &m), -EINVAL);
	munmap(room, 16 * PAGE);
}

TEST(mapped)
{
	struct iof_dma_request rq = { .size = sizeof(rq), .length = 3 * MIB };
	struct iof_dma_memory m = { 0 }, second = { 0 };
	struct rig r;

	rig_open(&r);
	CHECK_EQ(iof_dma_alloc(r.ctx, r.ioas, RW, &rq, &m), 0);
	CHECK(!((m.iova ^ (uintptr_t)m.address) & (2 * MIB - 1)) || m.page == IOF_DMA_PAGE_4K);
	CHECK_EQ(dma(r.dev, IOF_DMA_WRITE, m.iova + 2 * MIB, "there", 6, NULL), 0);
	CHECK(!strcmp((char *)m.address + 2 * MIB, "there"));
	second.iova = m.iova;
	CHECK_EQ(iof_dma_alloc(r.ctx, r.ioas, RW | IOF_MAP_FIXED_IOVA, &rq, &second), -EEXIST);
	CHECK(!second.address);
	CHECK_EQ(iof_dma_alloc(r.ctx, 999, RW, &rq, &second), -ENOENT);
	CHECK_EQ(iof_dma_alloc(r.ctx, r.ioas, RW | 0x80, &rq, &second), -EINVAL);
	second.iova = m.iova + (UINT64_C(1) << 40);
	CHECK_EQ(iof_dma_alloc(r.ctx, r.ioas, RW | IOF_MAP_FIXED_IOVA, &rq, &second), 0);
	CHECK_EQ(second.iova, m.iova + (UINT64_C(1) << 40));
	CHECK_EQ(unmap(r.ctx, r.ioas, second.iova, second.length, NULL), 0);
	CHECK_EQ(iof_dma_free(&second), 0); /* somebody unmapped it already */
	CHECK_EQ(iof_dma_free(&m), 0);
	CHECK(!m.address);
	rig_close(&r);
}
