// SPDX-License-Identifier: Apache-2.0
/*
 * The page table object: its shape, its life, and the way into the walker of its format.
 *
 * Everything that a format decides is behind one table of functions, called once at the top of each operation. Formats
 * are found by number, not by a pointer in the object: an object in shared memory holds no address of a process's code.
 */
#include "pagetable/pagetable.h"

#include <errno.h>
#include <string.h>

#include "pagetable/internal.h"
#include "pagetable/reshape.h"

#define ARM_S1_KINDS IOF_PT_ARM_S1
#define ARM_S2_KINDS (ARM_S1_KINDS + 3)

static const struct iofi_pt_ops *const formats[] = {
	[IOF_PT_VTDSS] = &iofi_pt_vtdss,
	[IOF_PT_AMDV1] = &iofi_pt_amdv1,
	[IOF_PT_MOCK] = &iofi_pt_mock,
	[IOF_PT_X86_64] = &iofi_pt_x86_64,
	[IOF_PT_RISCV64] = &iofi_pt_riscv64,
	[IOF_PT_RISCV64_X4] = &iofi_pt_riscv64_x4,
	/* ARM's by granule: 4, 16 and 64 KiB */
	[ARM_S1_KINDS] = &iofi_pt_arm_s1_4k,
	[ARM_S1_KINDS + 1] = &iofi_pt_arm_s1_16k,
	[ARM_S1_KINDS + 2] = &iofi_pt_arm_s1_64k,
	[ARM_S2_KINDS] = &iofi_pt_arm_s2_4k,
	[ARM_S2_KINDS + 1] = &iofi_pt_arm_s2_16k,
	[ARM_S2_KINDS + 2] = &iofi_pt_arm_s2_64k,
};

/* The index of a format's functions; 0, which is none, for a format that does not exist. */
static unsigned kind_of(const struct iof_pt_config *c)
{
	unsigned format = c->format, granule = c->granule_lg2 ? c->granule_lg2 : 12;

	if (format < IOF_PT_ARM_S1)
		return !c->granule_lg2 || (formats[format] && formats[format]->limits->granule_lg2 == granule) ? format : 0;
	if (format > IOF_PT_ARM_S2 || (granule != 12 && granule != 14 && granule != 16))
		return 0;
	return (format == IOF_PT_ARM_S1 ? ARM_S1_KINDS : ARM_S2_KINDS) + (granule - 12) / 2;
}

const struct iofi_pt_ops *iofi_pt_ops_of(const struct iof_pt_config *c)
{
	return formats[kind_of(c)];
}

static inline const struct iofi_pt_ops *ops(const struct iof_pt *pt)
{
	return formats[pt->kind];
}

static inline unsigned item_lg2(const struct iofi_pt_limits *l, unsigned level)
{
	return l->granule_lg2 + l->table_lg2 * level;
}

/* The lowest level at which 2^extra tables side by side decode the whole VA; level_max + 1 when none does. */
static unsigned level_for(const struct iofi_pt_limits *l, unsigned va_lg2, unsigned extra_lg2)
{
	unsigned level = l->level_min;

	while (level <= l->level_max && item_lg2(l, level + 1) + extra_lg2 < va_lg2)
		level++;
	return level;
}

static unsigned default_level(const struct iofi_pt_limits *l, const struct iof_pt_config *c)
{
	unsigned level = level_for(l, c->va_lg2, l->concatenates ? 0 : l->top_extra_lg2);

	return l->concatenates && l->concatenates(c, level) ? level - 1 : level;
}

static int shape_levels(const struct iofi_pt_limits *l, struct iof_pt_config *c)
{
	if (l->level_from_va && !c->top_level)
		c->top_level = default_level(l, c);
	if (c->top_level < l->level_min || c->top_level > l->level_max)
		return l->level_from_va ? -EOPNOTSUPP : -EINVAL;
	if (l->level_from_va)
		return c->top_level < level_for(l, c->va_lg2, l->top_extra_lg2) ? -EOPNOTSUPP : 0;
	if (!(c->features & IOF_PT_GROWING_TOP) && c->va_lg2 > item_lg2(l, c->top_level + 1))
		c->va_lg2 = item_lg2(l, c->top_level + 1);
	return 0;
}

/* The sizes of every level the table has or can grow to; none as large as the whole table (R10.1.4). */
static uint64_t shape_sizes(const struct iofi_pt_limits *l, const struct iof_pt_config *c)
{
	uint64_t sizes = 0;

	for (unsigned level = 0; level <= l->level_max; level++)
		if (c->features & IOF_PT_GROWING_TOP ? item_lg2(l, level) < c->va_lg2 : level <= c->top_level)
			sizes |= l->leaf_sizes(c, level);
	if (l->table_sized_leaf)
		return sizes & iof_low_mask(c->va_lg2 + 1u) & iof_low_mask(c->oa_lg2 + 1u);
	return sizes & iof_low_mask(c->va_lg2 - 1u) & iof_low_mask(c->oa_lg2);
}

static bool width_is(unsigned width, unsigned most, uint64_t only)
{
	return width <= most && (!only || only >> width & 1);
}

/* The order of the checks is R10.1.6. */
int iof_pt_shape(const struct iof_pt_config *cfg, struct iof_pt_config *c)
{
	const struct iofi_pt_ops *o = iofi_pt_ops_of(cfg);
	const struct iofi_pt_limits *l = o ? o->limits : NULL;
	uint64_t sizes;
	int err;

	if (!l)
		return -EINVAL;
	*c = *cfg;
	c->granule_lg2 = l->granule_lg2;
	c->va_lg2 = cfg->va_lg2 ? cfg->va_lg2 : l->va_max_lg2;
	c->oa_lg2 = cfg->oa_lg2 ? cfg->oa_lg2 : l->oa_max_lg2;
	if (!width_is(c->va_lg2, l->va_max_lg2, l->va_widths))
		return -EINVAL;
	err = shape_levels(l, c);
	if (err)
		return err;
	if (!width_is(c->oa_lg2, l->oa_max_lg2, l->oa_widths))
		return -EINVAL;
	if (c->features & ~l->features)
		return -EOPNOTSUPP;
	if ((c->features & IOF_PT_SIGN_EXTEND) && c->va_lg2 != item_lg2(l, c->top_level + 1))
		return -EINVAL; /* the sign is the highest bit that the top decodes */
	sizes = shape_sizes(l, c);
	c->page_sizes = cfg->page_sizes ? cfg->page_sizes : sizes;
	return c->page_sizes && !(c->page_sizes & ~sizes) ? 0 : -EINVAL;
}

static int add_top(struct iof_pt *pt)
{
	uint64_t items = (pt->last >> item_lg2(ops(pt)->limits, pt->cfg.top_level)) + 1;
	struct iofi_chain chain = { 0 };
	uint64_t *table;

	if (items * 8 > pt->tables.table_bytes && !(pt->cfg.features & IOF_PT_GROWING_TOP)) {
		pt->top_bytes = iof_pow2_ceil(items * 8);
		table = iof_mem_get(pt->tables.alloc, pt->top_bytes, pt->top_bytes);
		if (!table)
			return -ENOMEM;
		memset(table, 0, pt->top_bytes);
		pt->root = (uintptr_t)table | pt->cfg.top_level;
		return 0;
	}
	if (iofi_tables_take(&pt->tables, 1, &chain))
		return -ENOMEM;
	table = iofi_chain_pop(&chain);
	memset(table, 0, pt->tables.table_bytes);
	pt->root = (uintptr_t)table | pt->cfg.top_level;
	return 0;
}

/* What is asked of every single lowest leaf, worked out once. */
static void prepare_single(struct iof_pt *pt, const struct iofi_pt_ops *o)
{
	uint64_t granule = UINT64_C(1) << o->limits->granule_lg2;

	pt->iova_not = ~pt->last | (granule - 1);
	pt->address_not = ~pt->address_max | (granule - 1);
	for (unsigned prot = 0; prot < IOFI_PROTS; prot++)
		if ((prot & (IOF_PROT_READ | IOF_PROT_WRITE)) && (pt->page_sizes & granule))
			pt->attrs[prot] = o->attrs(pt, prot);
}

int iof_pt_create(const struct iof_pt_config *cfg, struct iof_alloc *a, struct iof_pt **out)
{
	const struct iofi_pt_limits *l;
	struct iof_pt_config filled;
	struct iof_pt *pt;
	int err = iof_pt_shape(cfg, &filled);

	if (err)
		return err;
	pt = iof_mem_zget(a, sizeof(*pt), IOF_CACHELINE);
	if (!pt)
		return -ENOMEM;
	pt->cfg = filled;
	pt->kind = kind_of(&filled);
	l = ops(pt)->limits;
	pt->last = iof_low_mask(filled.va_lg2);
	pt->page_sizes = filled.page_sizes;
	pt->middle = filled.features & IOF_PT_SIGN_EXTEND ? UINT64_C(1) << (filled.va_lg2 - 1) : 0;
	pt->leaf_bits = l->leaf_bits ? l->leaf_bits(filled.features) : 0;
	pt->address_max = iof_low_mask(filled.oa_lg2);
	pt->vectors = iof_cpu_vectors();
	prepare_single(pt, ops(pt));
	iofi_tables_init(&pt->tables, a, UINT32_C(8) << l->table_lg2);
	err = add_top(pt);
	if (err) {
		iof_pt_destroy(pt);
		return err;
	}
	*out = pt;
	return 0;
}

void iof_pt_destroy(struct iof_pt *pt)
{
	struct iof_alloc *a = pt->tables.alloc;

	if (pt->top_bytes && pt->root)
		iof_mem_put(a, iofi_root_table(pt->root), pt->top_bytes);
	iofi_tables_fini(&pt->tables);
	iof_mem_put(a, pt, sizeof(*pt));
}

struct iof_range iof_pt_aperture(const struct iof_pt *pt)
{
	return (struct iof_range){ 0, pt->middle ? pt->middle - 1 : pt->last };
}

uint64_t iof_pt_page_sizes(const struct iof_pt *pt)
{
	return pt->page_sizes;
}

void iof_pt_config(const struct iof_pt *pt, struct iof_pt_config *out)
{
	*out = pt->cfg;
}

uint64_t iof_pt_root(const struct iof_pt *pt, unsigned *top_level)
{
	uint64_t root = __atomic_load_n(&pt->root, __ATOMIC_ACQUIRE);

	if (top_level)
		*top_level = iofi_root_level(root);
	return (uintptr_t)iofi_root_table(root);
}

int iof_pt_map(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
	       struct iof_pt_gather *g)
{
	return ops(pt)->map(pt, iova, address, length, prot, g);
}

int iof_pt_map_small(struct iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot,
		     unsigned largest_lg2, struct iof_pt_gather *g)
{
	return ops(pt)->map_sizes(pt, iova, address, length, prot, pt->page_sizes & iof_low_mask(largest_lg2 + 1), g);
}

uint64_t iof_pt_unmap(struct iof_pt *pt, uint64_t iova, uint64_t length, struct iof_pt_gather *g)
{
	return ops(pt)->unmap(pt, iova, length, g);
}

void iof_pt_release(struct iof_pt *pt, struct iof_pt_gather *g)
{
	if (!g->count)
		return;
	iofi_tables_give(&pt->tables, g->tables, g->tail, g->count);
	*g = (struct iof_pt_gather){ 0 };
}

int iof_pt_walk(const struct iof_pt *pt, uint64_t iova, struct iof_pt_leaf *leaf)
{
	return ops(pt)->walk(pt, iova, leaf);
}

uint64_t iof_pt_translate(const struct iof_pt *pt, uint64_t iova, unsigned *prot)
{
	return ops(pt)->translate(pt, iova, prot);
}

size_t iof_pt_translate_many(const struct iof_pt *pt, const uint64_t *iovas, size_t n, uint64_t *addresses,
			     uint8_t *prots)
{
	return ops(pt)->translate_many(pt, iovas, n, addresses, prots);
}

int iof_pt_next_leaf(const struct iof_pt *pt, struct iof_range within, struct iof_pt_leaf *leaf)
{
	return ops(pt)->next_leaf(pt, within, leaf);
}

int iof_pt_set_dirty(struct iof_pt *pt, uint64_t iova)
{
	return ops(pt)->set_dirty(pt, iova);
}

int iof_pt_read_dirty(struct iof_pt *pt, struct iof_range r, bool clear, bool exact,
		      void (*fn)(void *ctx, uint64_t start, uint64_t length), void *ctx)
{
	return ops(pt)->read_dirty(pt, r, clear, exact, fn, ctx);
}

void iof_pt_trim(struct iof_pt *pt, struct iof_pt_gather *g)
{
	ops(pt)->trim(pt, g);
	iofi_tables_trim(&pt->tables);
}

void iof_pt_stats(const struct iof_pt *pt, struct iof_pt_stats *out)
{
	memset(out, 0, sizeof(*out));
	ops(pt)->stats(pt, out);
	out->recycled_tables = iofi_tables_recycled(&pt->tables);
	out->table_bytes = pt->tables.total * pt->tables.table_bytes + pt->top_bytes;
}

bool iof_pt_is_valid(const struct iof_pt *pt)
{
	return ops(pt)->is_valid(pt);
}

void iof_pt_visit(const struct iof_pt *pt,
		  void (*fn)(void *ctx, uint64_t address, unsigned level, const uint64_t *entries, size_t n), void *ctx)
{
	ops(pt)->visit(pt, fn, ctx);
}

int iof_pt_cut(struct iof_pt *pt, struct iof_range r, unsigned size_lg2)
{
	return ops(pt)->cut(pt, r, size_lg2);
}

void iof_pt_merge(struct iof_pt *pt, struct iof_pt_gather *g)
{
	ops(pt)->merge(pt, g);
}

int iof_pt_protect(struct iof_pt *pt, struct iof_range r, unsigned prot)
{
	return ops(pt)->protect(pt, r, prot);
}

uint64_t iof_pt_image(const struct iof_pt *pt, uint64_t base, uint64_t *out)
{
	return ops(pt)->image(pt, base, out);
}
