/* SPDX-License-Identifier: Apache-2.0 */
/* Page requests of soft devices: raised on demand, answered, refused, left unanswered, ended by a detach. needs: tsan */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "guest_rig.h"

static struct guest g;
static struct iof_handle *queue;
static uint32_t fault_id, hwpt;
static uint64_t root;

#define VA UINT64_C(0x7000001000)

static void open_queue(void)
{
	struct iof_cmd_fault_queue_alloc c = { .size = sizeof(c) };

	CHECK_EQ(iof_ioctl(g.ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c), 0);
	fault_id = c.out_fault_id;
	CHECK_EQ(iof_file_handle(g.m, (int)c.out_fault_fd, &queue), 0);
}

static void open_paging(void)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = IOF_HWPT_FAULT_ID_VALID };

	guest_open(&g, IOF_PRESET_INTEL, 0);
	open_queue();
	c.dev_id = g.dev_id;
	c.pt_id = g.ioas;
	c.fault_id = fault_id;
	CHECK_EQ(iof_ioctl(g.ctx, IOF_CMD_HWPT_ALLOC, &c), 0);
	hwpt = c.out_hwpt_id;
	CHECK_EQ(attach(g.dev, hwpt, NULL), 0);
}

static void close_all(void)
{
	iof_close(queue);
	guest_close(&g);
}

/* A transfer in a thread of its own. */
struct job {
	pthread_t thread;
	struct iof_dma dma;
	struct iof_dma_segment segment;
	uint8_t buffer[2 * PAGE];
	int rc;
};

static void *run(void *p)
{
	struct job *j = p;

	j->rc = iof_dma(g.dev, &j->dma);
	return NULL;
}

static void start(struct job *j, enum iof_dma_op op, uint64_t iova, size_t n, uint32_t ms)
{
	memset(j, 0, sizeof(*j));
	j->segment = (struct iof_dma_segment){ iova, n };
	j->dma = (struct iof_dma){ .op = op, .pasid = IOF_NO_PASID, .segments = &j->segment, .n_segments = 1, .buffer = j->buffer,
				   .request_ms = ms };
	CHECK_EQ(pthread_create(&j->thread, NULL, run, j), 0);
}

static int finish(struct job *j)
{
	pthread_join(j->thread, NULL);
	return j->rc;
}

static struct iof_fault_record next_request(void)
{
	struct iof_fault_record r = { 0 };
	int64_t n;

	while (!(n = iof_read(queue, &r, sizeof(r))))
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	CHECK_EQ(n, sizeof(r));
	return r;
}

static void respond(uint32_t cookie, uint32_t code)
{
	struct iof_fault_response a = { cookie, code };

	CHECK_EQ(iof_write(queue, &a, sizeof(a)), sizeof(a));
}

TEST(not_unless_asked)
{
	struct iof_dma d;

	open_paging();
	CHECK_EQ(peek_as(&g, IOF_NO_PASID, 0x1000, &d), -IOF_DMA_UNMAPPED);
	CHECK(!d.requests && !iof_poll(queue) == 0);
	CHECK_EQ(iof_read(queue, &(struct iof_fault_record){ 0 }, 40), 0);
	close_all();
}

TEST(the_page_comes)
{
	uint64_t at = 0x200000;
	uint8_t *page = pages_of(2);
	struct iof_fault_record r;
	struct job j;

	open_paging();
	memset(page, 0x31, PAGE);
	memset(page + PAGE, 0x32, PAGE);
	start(&j, IOF_DMA_READ, at + 8, PAGE, IOF_DMA_WAIT); /* two pages, missing both */
	for (int i = 0; i < 2; i++) {
		uint64_t iova = at + (uint64_t)i * PAGE;

		r = next_request();
		CHECK(r.addr == iova && r.perm == IOF_FAULT_READ && r.flags == IOF_FAULT_LAST_PAGE && r.dev_id == g.dev_id);
		CHECK_EQ(map_at(g.ctx, g.ioas, page + i * PAGE, PAGE, RW | FIXED, &iova), 0);
		respond(r.cookie, IOF_FAULT_SUCCESS);
	}
	CHECK_EQ(finish(&j), 0);
	CHECK(j.dma.requests == 2 && j.buffer[0] == 0x31 && j.buffer[PAGE - 1] == 0x32 && !j.dma.reason);
	/* refused */
	start(&j, IOF_DMA_WRITE, at + 2 * PAGE, 8, 60000);
	r = next_request();
	CHECK_EQ(r.perm, IOF_FAULT_WRITE);
	respond(r.cookie, IOF_FAULT_INVALID);
	CHECK_EQ(finish(&j), -EFAULT);
	CHECK(j.dma.reason == IOF_DMA_UNMAPPED && j.dma.fault_iova == at + 2 * PAGE && j.dma.fault_write && j.dma.requests == 1);
	/* answered with success, but nothing has changed: it asks again */
	start(&j, IOF_DMA_WRITE, at + 2 * PAGE, 8, 60000);
	respond(next_request().cookie, IOF_FAULT_SUCCESS);
	respond(next_request().cookie, IOF_FAULT_INVALID);
	CHECK_EQ(finish(&j), -EFAULT);
	CHECK_EQ(j.dma.requests, 2);
	close_all();
	munmap(page, 2 * PAGE);
}

TEST(nobody_answers)
{
	struct iof_fault_record r;
	struct job j;

	open_paging();
	start(&j, IOF_DMA_READ, 0x1000, 4, 20);
	CHECK_EQ(finish(&j), -EFAULT);
	CHECK(j.dma.reason == IOF_DMA_UNMAPPED && j.dma.requests == 1);
	r = next_request();
	respond(r.cookie, IOF_FAULT_SUCCESS); /* too late, and harmless */
	close_all();
}

static void end_by(int (*how)(void))
{
	struct job queued, read;

	open_paging();
	start(&read, IOF_DMA_READ, 0x1000, 4, IOF_DMA_WAIT);
	next_request();
	start(&queued, IOF_DMA_READ, 0x5000, 4, IOF_DMA_WAIT);
	while (!(iof_poll(queue) & 1))
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	CHECK_EQ(how(), 0);
	CHECK_EQ(finish(&read), -EFAULT);
	CHECK_EQ(finish(&queued), -EFAULT);
	CHECK_EQ(iof_read(queue, &(struct iof_fault_record){ 0 }, 40), 0);
	close_all();
}

static int by_detach(void)
{
	return detach(g.dev);
}

static int by_replace(void)
{
	return attach(g.dev, g.parent, NULL);
}

TEST(the_attachment_ends)
{
	end_by(by_detach);
	end_by(by_replace);
}

TEST(in_a_guests_table)
{
	struct iof_fault_record r;
	uint64_t page;
	struct job j;

	guest_open(&g, IOF_PRESET_INTEL, 0);
	open_queue();
	root = guest_page(&g), page = guest_page(&g);
	memset(guest_at(&g, page), 0x44, PAGE);
	CHECK_EQ(vtd_new(&g, root, IOF_HWPT_FAULT_ID_VALID, fault_id, &hwpt), 0);
	CHECK_EQ(attach(g.dev, hwpt, NULL), 0);
	start(&j, IOF_DMA_READ, VA, 1, IOF_DMA_WAIT);
	r = next_request();
	CHECK_EQ(r.addr, VA);
	guest_map(&g, root, VA, page);
	respond(r.cookie, IOF_FAULT_SUCCESS);
	CHECK_EQ(finish(&j), 0);
	CHECK_EQ(j.buffer[0], 0x44);
	*guest_entry(&g, root, 3, VA, 0) &= ~UINT64_C(2);
	CHECK_EQ(vtd_invalidate(&g, hwpt, VA, 1), 0);
	start(&j, IOF_DMA_FILL, VA, 1, IOF_DMA_WAIT); /* a permission that is missing can be mended too */
	r = next_request();
	*guest_entry(&g, root, 3, VA, 0) |= 2;
	CHECK_EQ(vtd_invalidate(&g, hwpt, VA, 1), 0);
	respond(r.cookie, IOF_FAULT_SUCCESS);
	CHECK_EQ(finish(&j), 0);
	/* what no answer can mend is not asked for */
	guest_at(&g, root)[3] = GPA | 0x87;
	start(&j, IOF_DMA_READ, UINT64_C(3) << 39, 1, IOF_DMA_WAIT);
	CHECK_EQ(finish(&j), -EFAULT);
	CHECK(j.dma.reason == IOF_DMA_TABLE && !j.dma.requests);
	close_all();
}

/* Devices ask and are answered while the attachment comes and goes. */
static _Atomic bool stop;
static _Atomic unsigned answered;

static void *asker(void *p)
{
	struct iof_dma_segment s = { 0x100000, 8 };
	uint8_t buffer[8];

	(void)p;
	while (!atomic_load(&stop)) {
		struct iof_dma d = { .op = IOF_DMA_READ, .pasid = IOF_NO_PASID, .segments = &s, .n_segments = 1, .buffer = buffer,
				     .request_ms = IOF_DMA_WAIT };

		iof_dma(g.dev, &d);
	}
	return NULL;
}

static void *answerer(void *p)
{
	struct iof_fault_record r[4];
	int64_t n;

	(void)p;
	while (!atomic_load(&stop)) {
		n = iof_read(queue, r, sizeof(r));
		for (int64_t i = 0; i < n / (int64_t)sizeof(*r); i++) {
			struct iof_fault_response a = { r[i].cookie, (uint32_t)i & 1 };

			if (iof_write(queue, &a, sizeof(a)) > 0)
				atomic_fetch_add(&answered, 1);
		}
	}
	return NULL;
}

TEST(a_storm)
{
	pthread_t threads[3];

	open_paging();
	atomic_store(&stop, false);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, asker, NULL), 0);
	CHECK_EQ(pthread_create(&threads[2], NULL, answerer, NULL), 0);
	for (int i = 0; i < 200 || atomic_load(&answered) < 50; i++) {
		CHECK_EQ(attach(g.dev, i & 1 ? hwpt : g.parent, NULL), 0);
		if (i % 16 == 0) {
			CHECK_EQ(detach(g.dev), 0);
			CHECK_EQ(attach(g.dev, hwpt, NULL), 0);
		}
	}
	atomic_store(&stop, true);
	CHECK_EQ(detach(g.dev), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	close_all();
}
