/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver's memory: buffers with IOVAs from an arena, and a caller's buffer through the cache of mappings.
 *
 *	cc -o arena arena.c $(pkg-config --cflags --libs iommufd_fast) && ./arena
 *
 * It does what a storage driver does for one read: a command in a ring, a page list, the caller's pages as the data.
 */
#include <iommufd_fast_memory.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
#define DATA_PAGES 4u

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

static uint32_t attached_address_space(struct iof_handle *ctx, struct iof_handle *dev)
{
	struct iof_cmd_bind bind = { .argsz = sizeof(bind), .iommufd = iof_fileno(ctx) };
	struct iof_cmd_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iof_cmd_attach attach = { .argsz = sizeof(attach) };

	must(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind), "BIND");
	must(iof_ioctl(ctx, IOF_CMD_IOAS_ALLOC, &alloc), "IOAS_ALLOC");
	attach.pt_id = alloc.out_ioas_id;
	must(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, &attach), "ATTACH");
	return alloc.out_ioas_id;
}

static int dma(struct iof_handle *dev, enum iof_dma_op op, uint64_t iova, void *buffer, size_t n)
{
	struct iof_dma_segment where = { .iova = iova, .length = n };
	struct iof_dma what = { .op = op, .pasid = IOF_NO_PASID, .segments = &where, .n_segments = 1, .buffer = buffer };

	return iof_dma(dev, &what);
}

/* The device's side: it reads the page list and fills the pages. */
static void device_executes(struct iof_handle *dev, uint64_t list_iova)
{
	uint64_t list[DATA_PAGES];
	char text[32];

	must(dma(dev, IOF_DMA_READ, list_iova, list, sizeof(list)), "reading the page list");
	for (unsigned i = 0; i < DATA_PAGES; i++) {
		snprintf(text, sizeof(text), "block %u", i);
		must(dma(dev, IOF_DMA_WRITE, list[i], text, strlen(text) + 1), "writing a page");
	}
}

/* The driver's side of one read into `data`. */
static void read_blocks(struct iof_dma_arena *arena, struct iof_map_cache *cache, struct iof_handle *dev, char *data)
{
	struct iof_dma_arena_buffer list;
	struct iof_map_entry *use;
	uint64_t iova;
	int rc;

	/* A page list has to be a page of its own; a ring of descriptors would ask for a boundary instead. */
	must(iof_dma_arena_take(arena, PAGE, PAGE, 0, &list), "take");
	rc = iof_map_cache_get(cache, data, DATA_PAGES * PAGE, &iova, &use);
	must(rc, "get");
	for (unsigned i = 0; i < DATA_PAGES; i++)
		((uint64_t *)list.address)[i] = iova + i * PAGE;
	printf("page list at IOVA 0x%llx, data %s\n", (unsigned long long)list.iova, rc ? "mapped now" : "mapped already");
	device_executes(dev, list.iova);
	iof_map_cache_put(cache, use);
	must(iof_dma_arena_give(arena, list.address), "give");
}

int main(void)
{
	const uint32_t groups[] = { 1 };
	struct iof_machine_config machine_cfg = { .size = sizeof(machine_cfg), .preset = IOF_PRESET_INTEL, .groups = groups, .n_groups = 1 };
	struct iof_dma_arena_config arena_cfg = { .size = sizeof(arena_cfg), .region = 1 << 20 };
	struct iof_map_cache_config cache_cfg = { .size = sizeof(cache_cfg), .map_flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE };
	struct iof_dma_arena_stats stats;
	struct iof_dma_arena *arena;
	struct iof_map_cache *cache;
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	char *data = aligned_alloc(PAGE, DATA_PAGES * PAGE);

	must(data ? 0 : -12, "memory");
	must(iof_machine_create(&machine_cfg, &machine), "machine");
	must(iof_engine_open(machine, &ctx), "open the iommufd");
	must(iof_engine_open_device(machine, 0, &dev), "open the device");
	arena_cfg.ioas_id = cache_cfg.ioas_id = attached_address_space(ctx, dev);
	must(iof_dma_arena_create(ctx, &arena_cfg, &arena), "arena");
	must(iof_map_cache_create(ctx, &cache_cfg, &cache), "cache");

	for (int i = 0; i < 3; i++)
		read_blocks(arena, cache, dev, data);
	printf("the last page says: %s\n", data + (DATA_PAGES - 1) * PAGE);

	/* The memory goes: nobody may find its IOVA in the cache afterwards, and no device may reach it. */
	must((int)iof_map_cache_invalidate(cache, data, DATA_PAGES * PAGE), "invalidate");
	free(data);

	iof_dma_arena_stats(arena, &stats);
	printf("%llu buffers taken and given, %llu bytes out at the most\n", (unsigned long long)stats.takes, (unsigned long long)stats.high);
	must(iof_map_cache_destroy(cache), "cache");
	must(iof_dma_arena_destroy(arena), "arena");
	iof_close(dev);
	iof_close(ctx);
	iof_machine_put(machine);
	return 0;
}
