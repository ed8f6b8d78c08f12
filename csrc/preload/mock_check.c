/* SPDX-License-Identifier: Apache-2.0 */
/* What a test program may look at: translations, pin counts, the words of IOTLBs and caches, dirty bits (R9.3.5, 6, 11, 12). */
#include <errno.h>

#include "preload/mock_priv.h"

#define CHUNK 128u /* pages looked up at a time */
#define DIRTY_BITS_MAX (UINT64_C(1) << 27)

static bool is_multiple(uint64_t v, uint64_t of)
{
	return !(v % of);
}

static bool is_mine(const struct iof_hwpt *hwpt)
{
	return iof_hwpt_driver(hwpt) == &mock_driver;
}

/* ---- translations ---- */

struct map_check {
	struct iof_machine *machine;
	uint64_t iova, length, uptr;
	int rc;
};

/* One piece of at most CHUNK pages: `n` bytes from `done` on. */
static int compare_piece(const struct map_check *c, const struct iof_hwpt *hwpt, uint64_t step, uint64_t done, uint64_t n)
{
	uint64_t va = c->uptr + done, first = va & ~IOF_PAGE_MASK, addresses[CHUNK];
	int rc = iof_machine_identify_many(c->machine, va, (va + n - 1 - first) / IOF_PAGE_SIZE + 1, addresses);

	for (uint64_t i = 0; i < n && !rc; i += step) {
		uint64_t want = addresses[(va + i - first) >> IOF_PAGE_SHIFT] + ((va + i) & IOF_PAGE_MASK);

		rc = iof_hwpt_lookup(hwpt, c->iova + done + i) == want ? 0 : -EINVAL;
	}
	return rc;
}

/* Somewhere in the piece is no memory; a translation that is wrong in front of it is found first. */
static int compare_pages(const struct map_check *c, const struct iof_hwpt *hwpt, uint64_t step, uint64_t done, uint64_t n)
{
	int rc = 0;

	for (uint64_t end = done + n; done < end && !rc; done += n) {
		n = IOF_PAGE_SIZE - ((c->uptr + done) & IOF_PAGE_MASK);
		n = n < end - done ? n : end - done;
		rc = compare_piece(c, hwpt, step, done, n);
	}
	return rc;
}

static int compare(const struct map_check *c, const struct iof_hwpt *hwpt, uint64_t step)
{
	const uint64_t piece = (CHUNK - 1) * IOF_PAGE_SIZE; /* need not begin with a page */
	int rc = 0;

	for (uint64_t done = 0; done < c->length && !rc; done += piece) {
		uint64_t n = c->length - done < piece ? c->length - done : piece;

		rc = compare_piece(c, hwpt, step, done, n);
		if (rc == -EFAULT)
			rc = compare_pages(c, hwpt, step, done, n);
	}
	return rc;
}

static int check_map(void *arg, struct iof_hwpt *hwpt)
{
	struct map_check *c = arg;
	uint64_t sizes, step;

	if (iof_hwpt_is_nested(hwpt))
		return -ENOENT;
	if (!is_mine(hwpt))
		return -EINVAL;
	sizes = iof_hwpt_page_sizes(hwpt);
	step = sizes & -sizes;
	if (!is_multiple(c->iova, step) || !is_multiple(c->length, step) || !is_multiple(c->uptr, step) ||
	    c->uptr + c->length < c->uptr)
		return -EINVAL;
	return compare(c, hwpt, step);
}

/* A typed look-up: what is there but of another type is as good as absent. */
static int with_hwpt(struct mock_call *call, uint32_t id, int (*fn)(void *arg, struct iof_hwpt *hwpt), void *arg, int *rc)
{
	*rc = -ENOENT;
	(void)iof_with_hwpt(call->ctx, id, fn, arg);
	return *rc;
}

static int run_check_map(void *arg, struct iof_hwpt *hwpt)
{
	struct map_check *c = arg;

	c->rc = check_map(arg, hwpt);
	return 0;
}

int mock_check_map(struct mock_call *call, struct mock_cmd *cmd)
{
	struct map_check c = { call->mock->machine, cmd->check_map.iova, cmd->check_map.length, cmd->check_map.uptr, 0 };

	return with_hwpt(call, cmd->id, run_check_map, &c, &c.rc);
}

/* n pages, each with so many pins? They are made to be there, as the kernel's look-up does; a page that cannot be is found when its turn comes. */
static int check_pins(struct iof_machine *m, uint64_t at, uint64_t n, uint32_t pins)
{
	uint64_t addresses[CHUNK], bad;
	int fault = iof_touch(at, at + (n << IOF_PAGE_SHIFT) - 1, false, &bad), rc = 0;

	if (fault)
		n = (bad - at) >> IOF_PAGE_SHIFT;
	if (n)
		rc = iof_machine_identify_many(m, at, n, addresses);
	for (uint64_t i = 0; i < n && !rc; i++)
		rc = iof_machine_pins_at(m, addresses[i]) == pins ? 0 : -EIO;
	return rc ? rc : fault;
}

int mock_check_refs(struct mock_call *call, struct mock_cmd *cmd)
{
	uint64_t at = cmd->check_refs.uptr, length = cmd->check_refs.length, n;
	int rc = 0;

	if (!is_multiple(at, IOF_PAGE_SIZE) || !is_multiple(length, IOF_PAGE_SIZE) || at + length < at)
		return -EINVAL;
	for (uint64_t pages = length >> IOF_PAGE_SHIFT; pages && !rc; pages -= n, at += n << IOF_PAGE_SHIFT) {
		n = pages < CHUNK ? pages : CHUNK;
		rc = check_pins(call->mock->machine, at, n, cmd->check_refs.refs);
	}
	return rc;
}

/* ---- words ---- */

static int check_word(const uint32_t *words, const struct mock_cmd *cmd)
{
	return cmd->word.index < MOCK_WORDS && words[cmd->word.index] == cmd->word.expected ? 0 : -EINVAL;
}

struct word_check {
	const struct mock_cmd *cmd;
	int rc;
};

static int check_iotlb(void *arg, struct iof_hwpt *hwpt)
{
	struct word_check *c = arg;

	if (iof_hwpt_is_nested(hwpt))
		c->rc = is_mine(hwpt) ? check_word(((struct mock_nested *)iof_hwpt_priv(hwpt))->iotlb, c->cmd) : -EINVAL;
	return 0;
}

int mock_check_iotlb(struct mock_call *call, struct mock_cmd *cmd)
{
	struct word_check c = { cmd, 0 };

	return with_hwpt(call, cmd->id, check_iotlb, &c, &c.rc);
}

static int check_cache(void *arg, struct iof_mdev *dev)
{
	if (iof_mdev_driver(dev) != &mock_driver)
		return -EINVAL;
	return check_word(((struct mock_device *)iof_mdev_priv(dev))->cache, arg);
}

int mock_check_cache(struct mock_call *call, struct mock_cmd *cmd)
{
	return iof_with_device(call->ctx, cmd->id, check_cache, cmd);
}

/* ---- dirty bits ---- */

struct dirty_job {
	struct mock_cmd *cmd;
	int rc;
};

static int mark_byte(const struct mock_cmd *cmd, struct iof_hwpt *hwpt, uint64_t first, uint64_t bits, uint8_t byte, uint64_t *count)
{
	for (unsigned i = 0; byte && i < 8 && first + i < bits; i++) {
		int rc;

		if (!(byte & 1u << i))
			continue;
		rc = iof_hwpt_set_dirty(hwpt, cmd->dirty.iova + (first + i) * cmd->dirty.page_size);
		if (rc == -EINVAL)
			return rc;
		++*count; /* what is not mapped counts too */
	}
	return 0;
}

static int mark(struct mock_cmd *cmd, struct iof_hwpt *hwpt)
{
	uint64_t bits = cmd->dirty.length / cmd->dirty.page_size, count = 0;
	uint8_t chunk[256];

	if (iof_hwpt_set_dirty(hwpt, UINT64_MAX) == -EINVAL) /* nothing is there: only asks whether tracking is on */
		return -EINVAL;
	for (uint64_t at = 0; at < bits; at += 8 * sizeof(chunk)) {
		uint64_t rest = (bits - at + 7) / 8, n = rest < sizeof(chunk) ? rest : sizeof(chunk);
		int rc = iof_copy_in(chunk, cmd->dirty.uptr + at / 8, n);

		for (uint64_t i = 0; i < n && !rc; i++)
			rc = mark_byte(cmd, hwpt, at + 8 * i, bits, chunk[i], &count);
		if (rc)
			return rc;
	}
	cmd->dirty.out_count = count;
	return 0;
}

static int run_mark(void *arg, struct iof_hwpt *hwpt)
{
	struct dirty_job *job = arg;

	if (iof_hwpt_is_nested(hwpt))
		return 0;
	job->rc = is_mine(hwpt) ? mark(job->cmd, hwpt) : -EINVAL;
	return 0;
}

int mock_dirty(struct mock_call *call, struct mock_cmd *cmd)
{
	uint64_t page = cmd->dirty.page_size, length = cmd->dirty.length;
	struct dirty_job job = { cmd, 0 };
	int rc;

	if (!page || !length || !is_multiple(cmd->dirty.iova, page) || !is_multiple(length, page) || !cmd->dirty.uptr)
		return -EINVAL;
	if (length / page > DIRTY_BITS_MAX)
		return -EOVERFLOW;
	rc = with_hwpt(call, cmd->id, run_mark, &job, &job.rc);
	return rc ? rc : mock_respond(call, cmd);
}
