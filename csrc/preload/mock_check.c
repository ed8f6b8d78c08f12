/* SPDX-License-Identifier: Apache-2.0 */
/* What a test program may look at: translations, pin counts, the words of IOTLBs and caches, dirty bits (R9.3.5, 6, 11, 12). */
#include <errno.h>

#include "preload/mock_priv.h"

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

static int compare(struct map_check *c, const struct iof_hwpt *hwpt, uint64_t step)
{
	uint64_t page = UINT64_MAX, address = 0;

	for (uint64_t done = 0; done < c->length; done += step) {
		uint64_t va = c->uptr + done;

		if (va >> IOF_PAGE_SHIFT != page) {
			int rc = iof_machine_identify(c->machine, va, &address);

			if (rc)
				return rc;
			page = va >> IOF_PAGE_SHIFT;
		}
		if (iof_hwpt_lookup(hwpt, c->iova + done) != address + (va & IOF_PAGE_MASK))
			return -EINVAL;
	}
	return 0;
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

int mock_check_refs(struct mock_call *call, struct mock_cmd *cmd)
{
	uint64_t at = cmd->check_refs.uptr, length = cmd->check_refs.length, last = at + length;

	if (!is_multiple(at, IOF_PAGE_SIZE) || !is_multiple(length, IOF_PAGE_SIZE) || last < at)
		return -EINVAL;
	for (; at < last; at += IOF_PAGE_SIZE) {
		int64_t pins;
		int rc = iof_touch(at, at, false, NULL);

		if (rc)
			return rc;
		pins = iof_machine_pins(call->mock->machine, at);
		if (pins < 0)
			return (int)pins;
		if (pins != cmd->check_refs.refs)
			return -EIO;
	}
	return 0;
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
	const struct mock_cmd *cmd = arg;

	if (iof_mdev_driver(dev) != &mock_driver)
		return -EINVAL;
	return check_word(((struct mock_device *)iof_mdev_priv(dev))->cache, cmd);
}

int mock_check_cache(struct mock_call *call, struct mock_cmd *cmd)
{
	int rc = iof_with_device(call->ctx, cmd->id, check_cache, cmd);

	return rc;
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
		*count += !rc;
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
