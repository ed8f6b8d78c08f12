// SPDX-License-Identifier: Apache-2.0
/*
 * Two stages of translation over one another (foreign.h).
 *
 * The first stage is walked as a foreign table whose reader goes through the second. That costs levels x levels
 * fetches, so a batch remembers where the lowest tables of the first stage lie: with them, an address is one entry of
 * the first stage and one walk of the second, and the second walks go together. What is remembered lives as long as the
 * call; within it, a table that is unlinked may still be used, as it may by hardware.
 */
#include <errno.h>

#include "pagetable/foreign_view.h"

/* Items of our own tables, read as if they were foreign: only to say precisely where a fault is. */
static int read_own(void *ctx, uint64_t address, uint64_t *entry)
{
	(void)ctx;
	*entry = iofi_entry_load((const uint64_t *)(uintptr_t)address);
	return 0;
}

static int explain_own(const struct iof_pt *pt, uint64_t iova, int err, struct iof_pt_fault *fault)
{
	struct iof_pt_foreign f = { .memory = { .read = read_own } };
	struct iof_pt_leaf leaf;
	unsigned level;
	int again;

	iof_pt_config(pt, &f.cfg);
	f.root = iof_pt_root(pt, &level);
	f.top_level = level;
	f.cfg.oa_lg2 = 0; /* our tables may lie beyond */
	again = iof_pt_walk_foreign(&f, iova, &leaf, fault);
	return again ? again : err; /* 0: mapped a moment ago */
}

static int second_walk(const struct iof_pt_nested *n, uint64_t address, struct iof_pt_leaf *leaf,
		       struct iof_pt_fault *fault)
{
	int err;

	if (!n->second)
		return iof_pt_walk_foreign(&n->second_foreign, address, leaf, fault);
	err = iof_pt_walk(n->second, address, leaf);
	return err ? explain_own(n->second, address, err, fault) : 0;
}

/* A walk of the first stage in progress. */
struct fetch {
	const struct iof_pt_nested *n;
	struct iof_pt_nested_fault *fault;
	struct iof_pt_leaf leaf; /* of the second stage, under the last entry that was fetched */
	uint64_t entry; /* that entry's address in the first stage */
	unsigned level; /* of the table that the next entry is in */
};

static int fetch_entry(void *ctx, uint64_t address, uint64_t *entry)
{
	struct fetch *f = ctx;
	const struct iof_pt_memory *memory = &f->n->first.memory;
	int err = second_walk(f->n, address, &f->leaf, &f->fault->fault);

	if (!err && !(f->leaf.prot & IOF_PROT_READ)) {
		f->fault->fault = (struct iof_pt_fault){ .reason = IOF_PT_DENIED, .iova = address, .last = address,
							 .level = f->leaf.level, .item = f->leaf.item };
		err = -EACCES;
	}
	if (err) {
		f->fault->stage = 2;
		f->fault->fetch_level = f->level;
		return err;
	}
	f->entry = address;
	f->level--;
	return memory->read(memory->ctx, f->leaf.address + (address - f->leaf.iova), entry);
}

static int first_walk(struct fetch *f, uint64_t iova, struct iof_pt_leaf *leaf)
{
	struct iof_pt_foreign first = f->n->first;
	struct iof_pt_fault fault;
	int err;

	first.memory = (struct iof_pt_memory){ .read = fetch_entry, .ctx = f };
	f->level = first.top_level;
	*f->fault = (struct iof_pt_nested_fault){ .stage = 1, .fetch_level = IOF_PT_NO_FETCH, .iova = iova };
	err = iof_pt_walk_foreign(&first, iova, leaf, &fault);
	if (f->fault->stage == 1)
		f->fault->fault = fault;
	return err;
}

int iof_pt_walk_nested(const struct iof_pt_nested *n, uint64_t iova, struct iof_pt_leaf *leaf,
		       struct iof_pt_nested_fault *fault)
{
	struct fetch f = { .n = n, .fault = fault };
	struct iof_pt_leaf second;
	uint64_t address;
	int err = first_walk(&f, iova, leaf);

	if (err)
		return err;
	address = leaf->address + (iova - leaf->iova);
	fault->through = address;
	err = second_walk(n, address, &second, &fault->fault);
	if (err) {
		fault->stage = 2;
		return err;
	}
	if (second.size_lg2 < leaf->size_lg2)
		leaf->size_lg2 = second.size_lg2;
	leaf->prot &= second.prot;
	leaf->iova = iova & ~iof_low_mask(leaf->size_lg2);
	leaf->address = (second.address + (address - second.iova)) & ~iof_low_mask(leaf->size_lg2);
	return 0;
}

/* Lowest tables of the first stage by the IOVAs they decode. */
#define KNOWN 512
struct known {
	uint64_t key; /* those IOVAs' common bits, plus one; 0: nothing */
	const uint64_t *table;
	uint8_t granted;
};

struct batch {
	const struct iof_pt_nested *n;
	const struct iofi_pt_ops *ops;
	struct iofi_foreign first;
	unsigned granule_lg2, table_lg2; /* of an item and of all items of a lowest table */
	struct known known[KNOWN];
};

static struct known *known_of(struct batch *b, uint64_t iova)
{
	return &b->known[(iova >> b->table_lg2) % KNOWN];
}

/* After a walk that ended in a lowest table: where that lies, if it is in one piece. */
static void remember(struct batch *b, const struct fetch *f, uint64_t iova)
{
	const struct iof_pt_memory *memory = &b->n->first.memory;
	unsigned bytes_lg2 = b->table_lg2 - b->granule_lg2 + 3;
	uint64_t table = f->entry & ~iof_low_mask(bytes_lg2);
	const uint64_t *at;

	if (!memory->at || f->leaf.size_lg2 < bytes_lg2 || f->fault->fault.level)
		return;
	at = memory->at(memory->ctx, f->leaf.address + (table - f->leaf.iova), UINT64_C(1) << bytes_lg2);
	if (at)
		*known_of(b, iova) = (struct known){ (iova >> b->table_lg2) + 1, at, f->fault->fault.granted };
}

#define GROUP 16

/* The first stage of a group: addresses[i] for the second, prots[i], 0 for a fault. */
static void first_group(struct batch *b, const uint64_t *iovas, size_t n, uint64_t *addresses, uint8_t *prots)
{
	const uint64_t *slots[GROUP];
	uint64_t items = iof_low_mask(b->table_lg2 - b->granule_lg2);

	for (size_t i = 0; i < n; i++) {
		const struct known *k = known_of(b, iovas[i]);

		slots[i] = NULL;
		if (k->key == (iovas[i] >> b->table_lg2) + 1) {
			slots[i] = &k->table[iovas[i] >> b->granule_lg2 & items];
			__builtin_prefetch(slots[i]);
			prots[i] = k->granted;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct iof_pt_nested_fault fault;
		struct fetch f = { .n = b->n, .fault = &fault };
		struct iof_pt_leaf leaf;
		int err;

		if (iof_likely(slots[i])) {
			err = b->ops->decode_foreign(&b->first, iovas[i], iofi_entry_load(slots[i]), prots[i], &leaf);
		} else {
			err = first_walk(&f, iovas[i], &leaf);
			if (!err)
				remember(b, &f, iovas[i]);
		}
		prots[i] = err ? 0 : leaf.prot;
		addresses[i] = err ? UINT64_MAX : leaf.address + (iovas[i] - leaf.iova);
	}
}

static void second_group(const struct iof_pt_nested *n, uint64_t *addresses, size_t count, uint8_t *prots)
{
	uint64_t out[GROUP];

	if (n->second) {
		iof_pt_translate_many(n->second, addresses, count, out, prots);
	} else {
		for (size_t i = 0; i < count; i++) {
			struct iof_pt_fault fault;
			struct iof_pt_leaf leaf;
			bool found = !iof_pt_walk_foreign(&n->second_foreign, addresses[i], &leaf, &fault);

			out[i] = found ? leaf.address + (addresses[i] - leaf.iova) : UINT64_MAX;
			prots[i] = found ? leaf.prot : 0;
		}
	}
	for (size_t i = 0; i < count; i++)
		addresses[i] = out[i];
}

size_t iof_pt_translate_nested(const struct iof_pt_nested *n, const uint64_t *iovas, size_t count, uint64_t *addresses,
			       uint8_t *prots)
{
	struct batch b = { .n = n, .ops = iofi_pt_ops_of(&n->first.cfg) };
	size_t found = 0;

	b.first = iofi_foreign_view(&n->first, b.ops->limits);
	b.granule_lg2 = b.ops->limits->granule_lg2;
	b.table_lg2 = b.granule_lg2 + b.ops->limits->table_lg2;
	for (size_t i = 0; i < count; i += GROUP) {
		size_t m = count - i < GROUP ? count - i : GROUP;
		uint64_t to[GROUP];
		uint8_t one[GROUP], two[GROUP];

		first_group(&b, iovas + i, m, to, one);
		second_group(n, to, m, two);
		for (size_t k = 0; k < m; k++) {
			uint8_t prot = one[k] & two[k];

			addresses[i + k] = prot ? to[k] : UINT64_MAX;
			if (prots)
				prots[i + k] = prot;
			found += prot != 0;
		}
	}
	return found;
}
