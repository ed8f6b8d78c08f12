/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VFIO device file knows beyond BIND, ATTACH, DETACH and GET_INFO (uapi.h): regions, interrupts, reset. Our own declaration of the kernel's
 * numbers and layouts. The engine's soft devices have none of it; the kernel provider passes it on.
 */
#ifndef IOF_DISPATCH_UAPI_VFIO_H
#define IOF_DISPATCH_UAPI_VFIO_H

#include "dispatch/uapi.h"

enum iof_vfio_cmd {
	IOF_VFIO_GET_REGION_INFO = IOF_CMD(0x6c),
	IOF_VFIO_GET_IRQ_INFO = IOF_CMD(0x6d),
	IOF_VFIO_SET_IRQS = IOF_CMD(0x6e),
	IOF_VFIO_RESET = IOF_CMD(0x6f),
};

enum iof_vfio_device_flag {
	IOF_VFIO_DEVICE_RESET = 1, /* it can be reset */
	IOF_VFIO_DEVICE_PCI = 2,
	IOF_VFIO_DEVICE_CAPS = 1 << 7,
};

enum iof_vfio_region_flag {
	IOF_VFIO_REGION_READ = 1,
	IOF_VFIO_REGION_WRITE = 2,
	IOF_VFIO_REGION_MMAP = 4,
	IOF_VFIO_REGION_CAPS = 8,
};

/* Indexes of a PCI device's regions and interrupts. */
enum iof_vfio_pci_region { IOF_VFIO_PCI_BAR0 = 0, IOF_VFIO_PCI_BAR5 = 5, IOF_VFIO_PCI_ROM = 6, IOF_VFIO_PCI_CONFIG = 7 };
enum iof_vfio_pci_irq { IOF_VFIO_PCI_INTX = 0, IOF_VFIO_PCI_MSI = 1, IOF_VFIO_PCI_MSIX = 2 };

struct iof_vfio_region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t bytes, offset; /* where it begins in the file */
};

/* At cap_offset, and then at `next` of each, from the start of the struct that was answered. */
struct iof_vfio_cap {
	uint16_t id, version;
	uint32_t next;
};
#define IOF_VFIO_CAP_SPARSE 1 /* only these parts may be mapped */

struct iof_vfio_sparse {
	struct iof_vfio_cap cap;
	uint32_t areas, pad; /* struct iof_vfio_area[areas] follow */
};

struct iof_vfio_area {
	uint64_t offset, bytes; /* within the region */
};

enum iof_vfio_irq_flag {
	IOF_VFIO_IRQ_EVENTFD = 1,
	IOF_VFIO_IRQ_MASKABLE = 2,
	IOF_VFIO_IRQ_AUTOMASKED = 4,
	IOF_VFIO_IRQ_NORESIZE = 8,
};

struct iof_vfio_irq_info {
	uint32_t argsz, flags, index, count;
};

enum iof_vfio_irq_set_flag {
	IOF_VFIO_SET_NONE = 1,
	IOF_VFIO_SET_BOOL = 2,
	IOF_VFIO_SET_EVENTFD = 4, /* int32_t data[count]; -1 takes an eventfd away */
	IOF_VFIO_SET_MASK = 8,
	IOF_VFIO_SET_UNMASK = 16,
	IOF_VFIO_SET_TRIGGER = 32,
};

struct iof_vfio_irq_set {
	uint32_t argsz, flags, index, start, count; /* data follows */
};

#endif
