/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embedder's own device: a machine whose IOMMU and device are this program's, with DMA, a page fault that is answered, and an event for a guest.
 *
 *	cc -o embed_device embed_device.c $(pkg-config --cflags --libs iommufd_fast) && ./embed_device
 *
 * The device copies text to an IOVA. Where nothing is mapped it asks for the page, as a device with PRI does; whoever owns the address space reads the request from
 * the fault queue, maps the page and answers; then the device goes on.
 */
#include <iommufd_fast_embed.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096
#define EVENT_TYPE 7 /* a type of events, and of vIOMMUs, of our own */

static int must(int64_t rc, const char *what)
{
	if (rc >= 0)
		return (int)rc;
	fprintf(stderr, "%s: %s\n", what, strerror((int)-rc));
	exit(1);
}

/* ---- the hardware: what the engine asks the IOMMU's driver ---- */

/* Which page table? VT-d's, 48 bits. A driver that has parents of nested tables, faults or dirty tracking looks at `flags`. */
static int paging_alloc(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data, struct iof_paging_plan *plan)
{
	(void)drv, (void)dev, (void)flags;
	plan->table = (struct iof_pt_config){ .format = IOF_PT_VTDSS, .va_lg2 = 48 };
	return data ? -EOPNOTSUPP : 0;
}

static int viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type)
{
	(void)drv, (void)dev;
	return type == EVENT_TYPE ? 0 : -EOPNOTSUPP;
}

/* The vIOMMU is needed later, to report events; a larger driver would keep it in a structure of its own. */
static int viommu_init(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data)
{
	(void)type, (void)data;
	*(struct iof_viommu **)drv = v;
	return 0;
}

static const struct iof_driver driver = {
	.name = "example",
	.paging_flags = true,
	.paging_alloc = paging_alloc,
	.viommu_supported = viommu_supported,
	.viommu_init = viommu_init,
};

/* ---- the device ---- */

struct device {
	struct iof_handle *ctx, *handle;
	bool answered;
};

/* Called by whoever writes the answer. */
static void page_answer(void *data, uint32_t pasid, uint32_t group, uint32_t code)
{
	struct device *d = data;

	(void)pasid;
	d->answered = true;
	printf("device: request %u answered with %u\n", group, code);
}

/* One page at most. 0; -EFAULT: not mapped, or not for writing, and the page has been asked for. */
static int device_write(struct device *d, uint64_t iova, const char *text)
{
	struct iof_page_request rq = { .last = true, .group = 1, .perm = IOF_FAULT_WRITE, .addr = iova, .answer = page_answer, .data = d };
	struct iof_dma_segment where = { .iova = iova, .length = strlen(text) + 1 };
	struct iof_dma dma = { .op = IOF_DMA_WRITE, .pasid = IOF_NO_PASID, .segments = &where, .n_segments = 1,
			       .buffer = (void *)(uintptr_t)text };
	int rc = iof_dma(d->handle, &dma);

	if (rc == -EFAULT)
		must(iof_report_page_request(d->ctx, iof_device_id(d->handle), &rq), "page request");
	return rc;
}

/* ---- the owner of the address space ---- */

static uint32_t alloc_ioas(struct iof_handle *ctx)
{
	struct iof_cmd_ioas_alloc cmd = { .size = sizeof(cmd) };

	must(iof_ioctl(ctx, IOF_CMD_IOAS_ALLOC, &cmd), "IOAS_ALLOC");
	return cmd.out_ioas_id;
}

static uint32_t alloc_hwpt(struct device *d, uint32_t ioas, uint32_t flags, uint32_t fault_id)
{
	struct iof_cmd_hwpt_alloc cmd = { .size = sizeof(cmd), .flags = flags, .dev_id = iof_device_id(d->handle), .pt_id = ioas,
					  .fault_id = fault_id };

	must(iof_ioctl(d->ctx, IOF_CMD_HWPT_ALLOC, &cmd), "HWPT_ALLOC");
	return cmd.out_hwpt_id;
}

/* Reads one request, maps a page there and says that it is done: one read and one write on the queue's file. */
static void serve_fault(struct iof_handle *queue, struct device *d, uint32_t ioas, char *page)
{
	struct iof_fault_record fault;
	struct iof_fault_response response = { .code = IOF_FAULT_SUCCESS };

	must(iof_read(queue, &fault, sizeof(fault)) == sizeof(fault) ? 0 : -EIO, "read the request");
	printf("owner:  device %u asks for 0x%llx\n", fault.dev_id, (unsigned long long)fault.addr);
	struct iof_cmd_ioas_map map = { .size = sizeof(map), .flags = IOF_MAP_FIXED_IOVA | IOF_MAP_WRITEABLE | IOF_MAP_READABLE, .ioas_id = ioas,
					.user_va = (uintptr_t)page, .length = PAGE, .iova = fault.addr & ~(uint64_t)(PAGE - 1) };
	must(iof_ioctl(d->ctx, IOF_CMD_IOAS_MAP, &map), "MAP");
	response.cookie = fault.cookie;
	must(iof_write(queue, &response, sizeof(response)), "answer");
}

/* A guest's IOMMU has a queue of events; the hardware puts one in and the guest's monitor reads it. */
static void show_event(struct iof_machine *machine, struct device *d, uint32_t ioas, struct iof_viommu **viommu)
{
	struct iof_cmd_viommu_alloc v = { .size = sizeof(v), .type = EVENT_TYPE, .dev_id = iof_device_id(d->handle),
					  .hwpt_id = alloc_hwpt(d, ioas, IOF_HWPT_NEST_PARENT, 0) };
	struct iof_cmd_veventq_alloc q = { .size = sizeof(q), .type = EVENT_TYPE, .veventq_depth = 16 };
	struct { struct iof_vevent_header header; uint64_t what; } event;
	uint64_t what = 0x600d;
	struct iof_handle *queue;

	must(iof_ioctl(d->ctx, IOF_CMD_VIOMMU_ALLOC, &v), "VIOMMU_ALLOC");
	q.viommu_id = v.out_viommu_id;
	must(iof_ioctl(d->ctx, IOF_CMD_VEVENTQ_ALLOC, &q), "VEVENTQ_ALLOC");
	must(iof_file_handle(machine, (int)q.out_veventq_fd, &queue), "the queue's file");
	must(iof_report_event(*viommu, EVENT_TYPE, &what, sizeof(what)), "event");
	must(iof_read(queue, &event, sizeof(event)) == sizeof(event) ? 0 : -EIO, "read the event");
	printf("guest:  event %u is 0x%llx\n", event.header.sequence, (unsigned long long)event.what);
	iof_close(queue);
}

int main(void)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL }; /* with no devices but ours */
	struct iof_device_caps caps = { .max_pasids = 1 };
	struct iof_cmd_fault_queue_alloc faults = { .size = sizeof(faults) };
	struct device d = { 0 };
	struct iof_viommu *viommu = NULL;
	struct iof_machine *machine;
	struct iof_iommu *iommu;
	struct iof_handle *queue;
	uint32_t index, ioas, hwpt;
	char *page = aligned_alloc(PAGE, PAGE);

	must(page ? 0 : -ENOMEM, "memory");
	must(iof_machine_create(&cfg, &machine), "machine");
	must(iof_machine_add_driver(machine, &driver, &viommu, &iommu), "IOMMU");
	must(iof_machine_plug_device(machine, iommu, UINT32_MAX, &caps, &index), "device");
	must(iof_engine_open(machine, &d.ctx), "open the iommufd");
	must(iof_engine_bind(d.ctx, index, &d.handle), "BIND");

	ioas = alloc_ioas(d.ctx);
	must(iof_ioctl(d.ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &faults), "FAULT_QUEUE_ALLOC");
	must(iof_file_handle(machine, (int)faults.out_fault_fd, &queue), "the queue's file");
	hwpt = alloc_hwpt(&d, ioas, IOF_HWPT_FAULT_ID_VALID, faults.out_fault_id);
	must(iof_attach(d.handle, 0, IOF_ATTACH_MODE_NEW, &hwpt), "ATTACH");

	must(device_write(&d, 0x10020, "hello") == -EFAULT ? 0 : -EIO, "a fault");
	serve_fault(queue, &d, ioas, page);
	must(d.answered ? 0 : -EIO, "an answer");
	must(device_write(&d, 0x10020, "hello"), "DMA");
	printf("device: wrote \"%s\"\n", page + 0x20);
	show_event(machine, &d, ioas, &viommu);

	iof_close(d.handle);
	iof_close(queue);
	iof_close(d.ctx);
	iof_machine_put(machine);
	free(page);
	return 0;
}
