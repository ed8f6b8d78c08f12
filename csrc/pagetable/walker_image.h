/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of all tables for another place in memory, each at a multiple of its size. */

struct image {
	uint64_t base;
	uint64_t used;
	uint64_t *out; /* NULL: only count */
};

static uint64_t image_table(struct image *im, const uint64_t *table, unsigned level, size_t items)
{
	uint64_t bytes = items * 8 <= TABLE_BYTES ? TABLE_BYTES : iof_pow2_ceil(items * 8), address;
	uint64_t *out;

	im->used = (im->used + bytes - 1) & ~(bytes - 1);
	address = im->base + im->used;
	out = im->out ? im->out + im->used / 8 : NULL;
	im->used += bytes;
	for (size_t i = 0; i < items; i++) {
		uint64_t item = iofi_entry_load(&table[i]);

		if (level && fmt_is_table(item, level))
			item = fmt_table_item(image_table(im, table_of(item), level - 1, TABLE_ITEMS), level);
		if (out)
			out[i] = item;
	}
	return address;
}

static uint64_t pt_image(const struct iof_pt *pt, uint64_t base, uint64_t *out)
{
	uint64_t root = root_load(pt);
	unsigned level = iofi_root_level(root);
	struct image im = { .base = base, .out = out };

	image_table(&im, iofi_root_table(root), level, top_items(pt, level));
	return im.used;
}
