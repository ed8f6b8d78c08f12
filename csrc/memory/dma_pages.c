/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DMA memory before it is mapped: which pages it is made of.
 *
 * AUTO goes down a list of kinds and takes the first that the system has. A kind is tried where rounding the length up to its pages adds at most an
 * eighth. Memory is made outside and then moved into its place, because an mmap() over the place that fails may leave a hole there, for
 * somebody else's mmap() to fall into. All pages are there when it is done: hugetlb runs out now and not as a SIGBUS later, and
 * it is known what transparent huge pages have become.
 *
 * Around memory that has no place yet a range is reserved that is larger: one guard page on each side, and what aligning takes.
 */
#define _GNU_SOURCE /* mremap */
#include "memory/dma_priv.h"
#include "memory/os.h"
#include "util/guard.h"
#include "util/range.h"

static const uint64_t page_bytes[] = {
	[IOF_DMA_PAGE_4K] = IOF_PAGE_SIZE,
	[IOF_DMA_PAGE_THP] = IOF_PAGE_SIZE,
	[IOF_DMA_PAGE_2M] = IOFI_2M,
	[IOF_DMA_PAGE_1G] = IOFI_1G,
};

static bool is_hugetlb(enum iof_dma_page page)
{
	return page >= IOF_DMA_PAGE_2M;
}

static uint64_t alignment_of(enum iof_dma_page page)
{
	return page == IOF_DMA_PAGE_THP ? IOFI_2M : page_bytes[page];
}

/* ---- one kind ---- */

/* A memfd of the right pages and size, or -errno. */
static int make_file(const struct iof_dma_memory *m)
{
	unsigned flags = 1u /* MFD_CLOEXEC */;
	long fd, rc;

	if (is_hugetlb(m->page))
		flags |= MFD_HUGETLB | iof_log2(page_bytes[m->page]) << MAP_HUGE_SHIFT;
	fd = iofi_os(syscall(SYS_memfd_create, "iommufd_fast", flags));
	if (fd < 0)
		return (int)fd;
	rc = iofi_os(ftruncate((int)fd, (off_t)m->length));
	if (rc >= 0)
		return (int)fd;
	(void)iofi_os(close((int)fd));
	return (int)rc;
}

static int make_mapping(struct iof_dma_memory *m, bool shared, void **out)
{
	int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;

	if (shared) {
		m->fd = make_file(m);
		if (m->fd < 0)
			return m->fd;
	} else if (is_hugetlb(m->page)) {
		flags |= MAP_HUGETLB | (int)(iof_log2(page_bytes[m->page]) << MAP_HUGE_SHIFT);
	}
	return iofi_mmap(NULL, m->length, PROT_READ | PROT_WRITE, flags, m->fd, out);
}

/* Every page is written to, by the system where it can (5.14), else one by one. */
static int populate(struct iof_dma_memory *m)
{
	uint64_t start = (uintptr_t)m->address;
	long rc = iofi_os(madvise(m->address, m->length, MADV_POPULATE_WRITE));

	if (rc == -EINVAL)
		rc = iof_touch(start, start + (m->length - 1), true, NULL);
	return rc == -EFAULT || rc == -EHWPOISON ? -ENOMEM : (int)rc;
}

/* Large pages by asking for them; those that did not come at once may be put together afterwards (6.1). */
static int ask_for_huge(struct iof_dma_memory *m)
{
	long rc = iofi_os(madvise(m->address, m->length, MADV_HUGEPAGE));

	return rc == -EINVAL ? -EOPNOTSUPP : (int)rc; /* a kernel without them */
}

static void count_huge(struct iof_dma_memory *m)
{
	uint64_t whole = iof_align_down(m->length, IOFI_2M);

	m->huge_bytes = is_hugetlb(m->page) ? m->length : 0;
	if (m->page != IOF_DMA_PAGE_THP || !whole)
		return;
	m->huge_bytes = iofi_huge_bytes(m->address, m->length);
	if (m->huge_bytes >= whole)
		return;
	(void)iofi_os(madvise(m->address, whole, MADV_COLLAPSE));
	m->huge_bytes = iofi_huge_bytes(m->address, m->length);
}

static int fill(struct iof_dma_memory *m, const struct iof_dma_request *rq)
{
	bool node = rq->flags & IOF_DMA_NODE;
	int rc = node ? iofi_node_bind(m->address, m->length, rq->node) : 0;

	if (!rc && m->page == IOF_DMA_PAGE_THP)
		rc = ask_for_huge(m);
	if (!rc)
		rc = populate(m);
	if (!rc && node)
		rc = iofi_node_check(m->address, m->length, rq->node);
	if (!rc)
		count_huge(m);
	if (!rc && m->page == IOF_DMA_PAGE_THP && !m->huge_bytes)
		rc = -ENOMEM;
	return rc;
}

/* ---- the place ---- */

static int find_place(struct iof_dma_memory *m, const struct iof_dma_request *rq)
{
	uint64_t align = alignment_of(m->page);
	int rc;

	if (rq->at) {
		m->address = rq->at;
		return ((uintptr_t)rq->at | m->length) & (align - 1) || m->length != rq->length ? -EINVAL : 0;
	}
	m->reserved_length = m->length + align + 2 * IOF_PAGE_SIZE;
	rc = iofi_reserve(NULL, m->reserved_length, &m->reserved);
	if (rc)
		return rc;
	m->address = (void *)iof_align_down((uintptr_t)m->reserved + IOF_PAGE_SIZE + (align - 1), align);
	return 0;
}

static int move_in(struct iof_dma_memory *m, void *made)
{
	long rc = iofi_os(mremap(made, m->length, m->length, MREMAP_MAYMOVE | MREMAP_FIXED, m->address));

	if (rc < 0 && rc > -4096) {
		(void)iofi_os(munmap(made, m->length));
		return (int)rc;
	}
	return 0;
}

static int try_kind(enum iof_dma_page page, uint64_t length, const struct iof_dma_request *rq, struct iof_dma_memory *m)
{
	void *made;
	int rc;

	*m = (struct iof_dma_memory){ .page = page, .length = length, .fd = -1 };
	rc = find_place(m, rq);
	if (rc) {
		*m = (struct iof_dma_memory){ .fd = -1 };
		return rc;
	}
	rc = make_mapping(m, rq->flags & IOF_DMA_SHARED, &made);
	if (!rc)
		rc = move_in(m, made);
	if (!rc)
		rc = fill(m, rq);
	if (rc)
		iof_dma_memory_put(m);
	return rc;
}

/* ---- the list of kinds ---- */

static bool wanted(enum iof_dma_page page, uint64_t length, uint64_t rounded)
{
	if (page == IOF_DMA_PAGE_4K)
		return true;
	if (page == IOF_DMA_PAGE_THP)
		return length >= IOFI_2M;
	return length >= page_bytes[page] && rounded - length <= length / 8;
}

static int try_all(const struct iof_dma_request *rq, struct iof_dma_memory *m)
{
	enum iof_dma_page missed = IOF_DMA_PAGE_AUTO;
	uint64_t rounded;
	int rc = -EINVAL, why = 0; /* no kind fits a misplaced `at` */

	for (int page = IOF_DMA_PAGE_1G; page >= IOF_DMA_PAGE_4K; page--) {
		if (!iof_align_up(rq->length, page_bytes[page], &rounded) || !wanted(page, rq->length, rounded))
			continue;
		if (rq->at && ((uintptr_t)rq->at | rq->length) & (alignment_of(page) - 1))
			continue;
		rc = try_kind(page, rounded, rq, m);
		if (!rc) {
			m->missed = missed;
			m->why = why;
			return 0;
		}
		if (!missed) {
			missed = page;
			why = rc;
		}
	}
	return rc;
}

int iof_dma_memory_get(const struct iof_dma_request *rq, struct iof_dma_memory *out)
{
	uint64_t rounded;

	*out = (struct iof_dma_memory){ .fd = -1 };
	if (rq->size != sizeof(*rq) || !rq->length || (unsigned)rq->page > IOF_DMA_PAGE_1G ||
	    rq->flags & ~(IOF_DMA_SHARED | IOF_DMA_NODE))
		return -EINVAL;
	/* Everything below adds at most a gigabyte and a bit to a length. */
	if (rq->length > INT64_MAX - 4 * IOFI_1G)
		return -EOVERFLOW;
	if (rq->page == IOF_DMA_PAGE_AUTO)
		return try_all(rq, out);
	if (rq->page == IOF_DMA_PAGE_THP && rq->length < IOFI_2M)
		return -EINVAL;
	(void)iof_align_up(rq->length, page_bytes[rq->page], &rounded);
	return try_kind(rq->page, rounded, rq, out);
}

void iof_dma_memory_put(struct iof_dma_memory *m)
{
	void *hole;

	if (m->reserved)
		(void)iofi_os(munmap(m->reserved, m->reserved_length));
	else if (m->address)
		(void)iofi_reserve(m->address, m->length, &hole); /* the range around it stays the caller's */
	if (m->length && m->fd >= 0)
		(void)iofi_os(close(m->fd));
	*m = (struct iof_dma_memory){ .fd = -1 };
}
