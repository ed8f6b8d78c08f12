// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzzing of walks over memory that is not ours: an input is a shape, what is written into eight tables, and questions.
 * IOF_FUZZ_FORMAT names the format, as Python does.
 *
 * Whatever the memory holds, a walk reads one entry a level, ends in a leaf around the IOVA or in a fault whose errno fits
 * its reason; an iteration moves on with every step, and each leaf of it is what a walk finds; two stages say the same one
 * by one and in batches.
 *
 *	fuzz_walk [fuzz.h's arguments]
 */
#include "fuzz.h"

#include <errno.h>

#include "pagetable/foreign.h"

#define TABLES 8
#define TABLE_BYTES 65536u /* ARM's largest; smaller tables use the beginning */
#define BASE UINT64_C(0x100000000)
#define WRITES_MAX 48
#define STEPS_MAX 200

static const struct {
	const char *name;
	struct iof_pt_config cfg;
} formats[] = {
	{ "vtdss", { .format = IOF_PT_VTDSS } },
	{ "amdv1", { .format = IOF_PT_AMDV1 } },
	{ "mock", { .format = IOF_PT_MOCK } },
	{ "x86_64", { .format = IOF_PT_X86_64 } },
	{ "riscv64", { .format = IOF_PT_RISCV64 } },
	{ "riscv64_x4", { .format = IOF_PT_RISCV64_X4 } },
	{ "arm_s1", { .format = IOF_PT_ARM_S1 } },
	{ "arm_s2", { .format = IOF_PT_ARM_S2 } },
};

#define N_FORMATS (sizeof(formats) / sizeof(*formats))

static _Alignas(65536) uint64_t memory[TABLES][TABLE_BYTES / 8];
static unsigned n_reads;
static uint32_t written[WRITES_MAX], n_written; /* offsets in memory of the items to clear; a whole table with FILLED */

#define FILLED (UINT32_C(1) << 31)

static int read_memory(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	MUST(!(address % 8));
	n_reads++;
	if (address - BASE >= sizeof(memory))
		return -EFAULT;
	*entry = ((uint64_t *)memory)[(address - BASE) / 8];
	return 0;
}

static const uint64_t *at_memory(void *ctx, uint64_t address, uint64_t bytes)
{
	(void)ctx;
	if (address < BASE || bytes > sizeof(memory) || address - BASE > sizeof(memory) - bytes)
		return NULL;
	return (const uint64_t *)memory + (address - BASE) / 8;
}

/* ---- the tables ---- */

static uint64_t table_item(enum iof_pt_format format, uint64_t address, unsigned level)
{
	switch (format) {
	case IOF_PT_VTDSS:
		return address | 3;
	case IOF_PT_AMDV1:
		return address | 1 | (uint64_t)level << 9 | UINT64_C(3) << 61;
	case IOF_PT_MOCK:
		return address << 1 | 1 | (uint64_t)level << 9 | UINT64_C(3) << 61;
	case IOF_PT_X86_64:
		return address | 0x67;
	case IOF_PT_RISCV64:
	case IOF_PT_RISCV64_X4:
		return address >> 2 | 1;
	default:
		return address | 3;
	}
}

/* Bits that make a leaf of an address, now and then one of several items. */
static uint64_t leaf_item(enum iof_pt_format format, uint64_t address, uint8_t how)
{
	uint64_t large = how & 1;

	switch (format) {
	case IOF_PT_VTDSS:
		return address | (how >> 1 & 3) | large << 7;
	case IOF_PT_AMDV1:
	case IOF_PT_MOCK:
		return address | (large ? 7 << 9 | ((UINT64_C(1) << (12 + how % 40)) - 4096) : 0) | 1 |
		       (uint64_t)(how >> 1 & 3) << 61;
	case IOF_PT_X86_64:
		return address | 0x65 | (how >> 1 & 1) << 1 | large << 7;
	case IOF_PT_RISCV64:
	case IOF_PT_RISCV64_X4:
		return address >> 2 | 0xd3 | (how >> 1 & 3) << 2 | (large ? UINT64_C(1) << 63 | 8 << 10 : 0);
	default:
		return address | (large ? 1 : 3) | 0x400 | (uint64_t)(how >> 1 & 3) << 6 | (uint64_t)(how >> 3 & 1) << 52;
	}
}

static unsigned likely_slot(struct input *in)
{
	static const uint16_t slots[] = { 0, 0, 1, 2, 15, 16, 255, 256, 511, 512, 2047, 8191 };
	uint8_t b = u8(in);

	return b < 192 ? slots[b % 12] : (unsigned)(u64(in) % (TABLE_BYTES / 8));
}

static void write_item(struct input *in, enum iof_pt_format format)
{
	uint8_t b = u8(in), kind = u8(in);
	uint64_t *item = &memory[b % TABLES][likely_slot(in)];
	uint32_t at = (uint32_t)(item - (uint64_t *)memory);
	uint64_t address = BASE + (uint64_t)(kind >> 3 & 7) * TABLE_BYTES;

	written[n_written++] = at | (kind % 8 == 7 ? FILLED : 0);
	switch (kind % 8) {
	case 0:
	case 1:
	case 2:
		*item = table_item(format, address, b >> 3 & 7);
		break;
	case 3:
	case 4:
		*item = leaf_item(format, (uint64_t)u8(in) << 12 | (uint64_t)u8(in) << 21 | (uint64_t)u8(in) << 32, b >> 3);
		break;
	case 5:
		*item = u64(in);
		break;
	case 6:
		*item ^= UINT64_C(1) << (u8(in) & 63);
		break;
	default: /* the same in all of a table of 4 KiB */
		for (uint64_t i = 0, v = *item; i < 512; i++)
			memory[b % TABLES][i] = v;
	}
}

static void clear_memory(void)
{
	for (; n_written; n_written--) {
		uint32_t at = written[n_written - 1];

		if (at & FILLED)
			memset(memory[(at & ~FILLED) / (TABLE_BYTES / 8)], 0, 4096);
		((uint64_t *)memory)[at & ~FILLED] = 0;
	}
}

/* ---- shapes ---- */

static void shape(struct input *in, struct iof_pt_config cfg, struct iof_pt_foreign *f)
{
	static const uint8_t widths[] = { 0, 30, 32, 36, 39, 40, 41, 42, 44, 47, 48, 50, 52, 56, 57, 59, 64, 65 };
	static const uint8_t granules[] = { 0, 12, 14, 16 };
	uint8_t b = u8(in), c = u8(in);

	cfg.va_lg2 = widths[b % sizeof(widths)];
	cfg.oa_lg2 = widths[u8(in) % sizeof(widths)];
	cfg.granule_lg2 = cfg.format >= IOF_PT_ARM_S1 ? granules[c >> 3 & 3] : 0;
	cfg.features = c & 128 ? IOF_PT_SIGN_EXTEND : 0;
	*f = (struct iof_pt_foreign){ .cfg = cfg, .root = BASE + (uint64_t)(c >> 5 & 3) * TABLE_BYTES, .top_level = c & 7,
				      .memory = { read_memory, b & 128 ? at_memory : NULL, NULL } };
}

static uint64_t likely_iova(struct input *in)
{
	uint8_t b = u8(in), c = u8(in);
	uint64_t iova = 0;

	if (b % 4 == 3)
		return u64(in);
	for (unsigned level = 0; level < 6; level++) /* the slots that are written, at every level */
		iova |= (uint64_t)(c >> level & 1 ? b >> 2 : 0) << (12 + 9 * level);
	return b % 4 == 2 ? ~iova : iova | (b & 1 ? 0xfff : 0);
}

/* ---- questions ---- */

static int errno_of(uint8_t reason)
{
	switch (reason) {
	case IOF_PT_HOLE:
		return -ENOENT;
	case IOF_PT_NO_MEMORY:
		return -EFAULT;
	case IOF_PT_RESERVED:
		return -EINVAL;
	case IOF_PT_DENIED:
		return -EACCES;
	default:
		return -ELOOP;
	}
}

static void check_leaf(const struct iof_pt_leaf *leaf, uint64_t iova)
{
	MUST(leaf->size_lg2 >= 11 && leaf->size_lg2 <= 63);
	MUST(leaf->iova <= iova && iova - leaf->iova < UINT64_C(1) << leaf->size_lg2);
	MUST(!(leaf->iova & iof_low_mask(leaf->size_lg2)) && !(leaf->prot & ~3u));
}

static void check_fault(const struct iof_pt_fault *fault, int err)
{
	MUST(fault->reason >= IOF_PT_HOLE && fault->reason <= IOF_PT_ENDLESS && fault->iova <= fault->last);
	if (fault->reason == IOF_PT_OUTSIDE)
		MUST(err == -ERANGE || err == -ENOENT);
	else
		MUST(err == errno_of(fault->reason)); /* -ELOOP: also without an end */
}

static int ask_walk(const struct iof_pt_foreign *f, uint64_t iova, struct iof_pt_leaf *leaf)
{
	struct iof_pt_fault fault;
	int err;

	n_calls++;
	n_reads = 0;
	err = iof_pt_walk_foreign(f, iova, leaf, &fault);
	MUST(n_reads <= f->top_level + 1u);
	if (err)
		check_fault(&fault, err);
	else
		check_leaf(leaf, iova);
	return err;
}

/* A leaf of several items, which need not agree here. */
static bool is_several(const struct iof_pt_foreign *f, const struct iof_pt_leaf *leaf)
{
	unsigned granule = f->cfg.granule_lg2 ? f->cfg.granule_lg2 : f->cfg.format == IOF_PT_MOCK ? 11 : 12;

	return leaf->size_lg2 != granule + (f->cfg.format >= IOF_PT_ARM_S1 ? granule - 3 : 9) * leaf->level;
}

static void ask_all(const struct iof_pt_foreign *f, uint64_t from)
{
	struct iof_range within = { from, UINT64_MAX };

	for (unsigned i = 0; i < STEPS_MAX; i++) {
		struct iof_pt_leaf leaf, again;
		struct iof_pt_fault fault;
		uint64_t end;
		int err;

		n_calls++;
		fault.reason = 0;
		err = iof_pt_next_foreign(f, within, &leaf, &fault);
		if (err == -ENOENT)
			return;
		if (err) {
			check_fault(&fault, err);
			MUST(fault.last >= within.start);
			end = fault.last;
		} else {
			end = leaf.iova + iof_low_mask(leaf.size_lg2);
			MUST(end >= within.start);
			if (!is_several(f, &leaf))
				MUST(!ask_walk(f, leaf.iova > within.start ? leaf.iova : within.start, &again) &&
				     again.iova == leaf.iova && again.prot == leaf.prot);
		}
		if (end == UINT64_MAX)
			return;
		within.start = end + 1;
	}
}

static void ask_nested(struct iof_pt_nested *n, const uint64_t *iovas, unsigned count)
{
	uint64_t addresses[16];
	uint8_t prots[16];
	size_t found = 0;

	iof_pt_translate_nested(n, iovas, count, addresses, prots);
	for (unsigned i = 0; i < count; i++) {
		struct iof_pt_nested_fault fault;
		struct iof_pt_leaf leaf;
		int err;

		n_calls++;
		n_reads = 0;
		err = iof_pt_walk_nested(n, iovas[i], &leaf, &fault);
		MUST(n_reads <= (n->first.top_level + 2u) * (n->second_foreign.top_level + 2u));
		if (err) {
			MUST(fault.stage == 1 || fault.stage == 2);
			check_fault(&fault.fault, err);
			MUST(addresses[i] == UINT64_MAX);
			continue;
		}
		check_leaf(&leaf, iovas[i]);
		if (!leaf.prot)
			continue;
		found++;
		MUST(prots[i] == leaf.prot && addresses[i] == leaf.address + (iovas[i] - leaf.iova));
	}
	MUST(found <= count);
}

static const struct iof_pt_config *chosen(void)
{
	const char *name = getenv("IOF_FUZZ_FORMAT");

	for (unsigned i = 0; i < N_FORMATS; i++)
		if (name && !strcmp(name, formats[i].name))
			return &formats[i].cfg;
	fprintf(stderr, "fuzz_walk: IOF_FUZZ_FORMAT is %s; formats:", name ? name : "not set");
	for (unsigned i = 0; i < N_FORMATS; i++)
		fprintf(stderr, " %s", formats[i].name);
	fputc('\n', stderr);
	exit(2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct iof_pt_config *cfg = chosen();
	struct input in = { data, data + size };
	struct iof_pt_nested n = { 0 };
	uint64_t iovas[16];
	struct iof_pt_leaf leaf;
	uint8_t second;

	clear_memory();
	shape(&in, *cfg, &n.first);
	second = u8(&in);
	shape(&in, second & 128 ? formats[second % N_FORMATS].cfg : *cfg, &n.second_foreign);
	if (iof_pt_foreign_check(&n.first))
		return 0;
	for (unsigned i = u8(&in) % WRITES_MAX; i && in.at < in.end; i--)
		write_item(&in, u8(&in) & 128 ? n.second_foreign.cfg.format : cfg->format);
	for (unsigned i = 0; i < 16; i++) {
		iovas[i] = likely_iova(&in);
		ask_walk(&n.first, iovas[i], &leaf);
	}
	ask_all(&n.first, second & 1 ? iovas[0] : 0);
	if (!iof_pt_foreign_check(&n.second_foreign))
		ask_nested(&n, iovas, 16);
	return 0;
}
