/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main job of an I/O address space, start to end, on a soft machine: no IOMMU, no privileges, no hardware.
 *
 *	cc -o map_and_dma map_and_dma.c $(pkg-config --cflags --libs iommufd_fast) && ./map_and_dma
 *
 * A device gets an address space, a buffer is mapped into it, the device writes to the buffer by DMA, and after the unmap it cannot any more. Every
 * command is the kernel's: the same numbers and structs on /dev/iommu do the same.
 */
#include <iommufd_fast.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE (64 * 1024)

/* Commands return 0 or a negative errno; errno itself is not used. */
static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

/* Structs start with their own size: that is how a library newer or older than this program knows which fields there are. */
static uint32_t make_address_space(struct iof_handle *ctx)
{
	struct iof_cmd_ioas_alloc cmd = { .size = sizeof(cmd) };

	must(iof_ioctl(ctx, IOF_CMD_IOAS_ALLOC, &cmd), "IOAS_ALLOC");
	return cmd.out_ioas_id;
}

/* From here on no other context can have this device, nor any device of its group. */
static void bind_device(struct iof_handle *dev, struct iof_handle *ctx)
{
	struct iof_cmd_bind cmd = { .argsz = sizeof(cmd), .iommufd = iof_fileno(ctx) };

	must(iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &cmd), "BIND");
}

static void attach_device(struct iof_handle *dev, uint32_t ioas)
{
	struct iof_cmd_attach cmd = { .argsz = sizeof(cmd), .pt_id = ioas };

	must(iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, &cmd), "ATTACH");
	printf("device attached to address space %u through page table %u\n", ioas, cmd.pt_id);
}

/* Without IOF_MAP_FIXED_IOVA the address space chooses where the device will see the buffer. */
static uint64_t map(struct iof_handle *ctx, uint32_t ioas, void *buffer, size_t size)
{
	struct iof_cmd_ioas_map cmd = {
		.size = sizeof(cmd),
		.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)buffer,
		.length = size,
	};

	must(iof_ioctl(ctx, IOF_CMD_IOAS_MAP, &cmd), "MAP");
	printf("%zu bytes mapped: the device sees them at IOVA 0x%llx\n", size, (unsigned long long)cmd.iova);
	return cmd.iova;
}

/* When this returns the device has stopped touching the buffer: it may be freed. */
static void unmap(struct iof_handle *ctx, uint32_t ioas, uint64_t iova, size_t size)
{
	struct iof_cmd_ioas_unmap cmd = { .size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = size };

	must(iof_ioctl(ctx, IOF_CMD_IOAS_UNMAP, &cmd), "UNMAP");
	printf("%llu bytes unmapped\n", (unsigned long long)cmd.length);
}

/* What a device does by itself; a soft one is told to. */
static int device_writes(struct iof_handle *dev, uint64_t iova, const char *text, struct iof_dma *dma)
{
	struct iof_dma_segment where = { .iova = iova, .length = strlen(text) + 1 };

	*dma = (struct iof_dma){
		.op = IOF_DMA_WRITE,
		.pasid = IOF_NO_PASID,
		.segments = &where,
		.n_segments = 1,
		.buffer = (void *)(uintptr_t)text,
	};
	return iof_dma(dev, dma);
}

int main(void)
{
	const uint32_t groups[] = { 1 }; /* one group of one device */
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = groups, .n_groups = 1 };
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	struct iof_dma dma;
	uint32_t ioas;
	uint64_t iova;
	char *buffer;
	int rc;

	must(iof_machine_create(&cfg, &machine), "machine");
	must(iof_engine_open(machine, &ctx), "open the iommufd");
	must(iof_engine_open_device(machine, 0, &dev), "open the device");

	buffer = aligned_alloc(4096, BUFFER_SIZE);
	must(buffer ? 0 : -12, "memory");
	memset(buffer, 0, BUFFER_SIZE);

	bind_device(dev, ctx);
	ioas = make_address_space(ctx);
	attach_device(dev, ioas);
	iova = map(ctx, ioas, buffer, BUFFER_SIZE);

	must(device_writes(dev, iova + 100, "hello from the device", &dma), "DMA");
	printf("the buffer says: %s\n", buffer + 100);

	unmap(ctx, ioas, iova, BUFFER_SIZE);
	rc = device_writes(dev, iova + 100, "too late", &dma);
	if (!rc) {
		fprintf(stderr, "DMA went through an address that is not mapped\n");
		return 1;
	}
	printf("after the unmap the device gets: %s, at IOVA 0x%llx\n", strerror(-rc), (unsigned long long)dma.fault_iova);

	/* Closing a device detaches and unbinds it; there is no other way to unbind. */
	iof_close(dev);
	iof_close(ctx);
	iof_machine_put(machine);
	free(buffer);
	return 0;
}
