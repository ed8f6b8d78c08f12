/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands and their structs: our own declaration of the iommufd and VFIO device uAPI (behaviour.md chapter 2).
 *
 * Names are ours so that a program may include Linux's headers as well. Layouts are the kernel's; every size is asserted in
 * dispatch/table.c. `size` (iommufd) and `argsz` (VFIO) are set by the caller to the size of the struct it was built with.
 * All integers are in native byte order; pointers travel as 64-bit integers.
 */
#ifndef IOF_DISPATCH_UAPI_H
#define IOF_DISPATCH_UAPI_H

#include <stdint.h>

#define IOF_CMD_TYPE 0x3b00u /* ';' << 8: no direction or size bits */
#define IOF_CMD(nr) (IOF_CMD_TYPE | (nr))

enum iof_cmd {
	IOF_CMD_DESTROY = IOF_CMD(0x80),
	IOF_CMD_IOAS_ALLOC = IOF_CMD(0x81),
	IOF_CMD_IOAS_ALLOW_IOVAS = IOF_CMD(0x82),
	IOF_CMD_IOAS_COPY = IOF_CMD(0x83),
	IOF_CMD_IOAS_IOVA_RANGES = IOF_CMD(0x84),
	IOF_CMD_IOAS_MAP = IOF_CMD(0x85),
	IOF_CMD_IOAS_UNMAP = IOF_CMD(0x86),
	IOF_CMD_OPTION = IOF_CMD(0x87),
	IOF_CMD_VFIO_IOAS = IOF_CMD(0x88),
	IOF_CMD_HWPT_ALLOC = IOF_CMD(0x89),
	IOF_CMD_GET_HW_INFO = IOF_CMD(0x8a),
	IOF_CMD_HWPT_SET_DIRTY_TRACKING = IOF_CMD(0x8b),
	IOF_CMD_HWPT_GET_DIRTY_BITMAP = IOF_CMD(0x8c),
	IOF_CMD_HWPT_INVALIDATE = IOF_CMD(0x8d),
	IOF_CMD_FAULT_QUEUE_ALLOC = IOF_CMD(0x8e),
	IOF_CMD_IOAS_MAP_FILE = IOF_CMD(0x8f),
	IOF_CMD_VIOMMU_ALLOC = IOF_CMD(0x90),
	IOF_CMD_VDEVICE_ALLOC = IOF_CMD(0x91),
	IOF_CMD_IOAS_CHANGE_PROCESS = IOF_CMD(0x92),
	IOF_CMD_VEVENTQ_ALLOC = IOF_CMD(0x93),
	IOF_CMD_HW_QUEUE_ALLOC = IOF_CMD(0x94),
	/* VFIO device files */
	IOF_CMD_DEVICE_GET_INFO = IOF_CMD(0x6b),
	IOF_CMD_DEVICE_BIND_IOMMUFD = IOF_CMD(0x76),
	IOF_CMD_DEVICE_ATTACH_PT = IOF_CMD(0x77),
	IOF_CMD_DEVICE_DETACH_PT = IOF_CMD(0x78),
};

struct iof_cmd_destroy {
	uint32_t size, id;
};

struct iof_cmd_ioas_alloc {
	uint32_t size, flags, out_ioas_id;
};

struct iof_cmd_ioas_allow_iovas {
	uint32_t size, ioas_id, num_iovas, reserved;
	uint64_t allowed_iovas; /* struct iof_uapi_range[num_iovas] */
};

struct iof_uapi_range {
	uint64_t start, last;
};

enum iof_map_flag {
	IOF_MAP_FIXED_IOVA = 1,
	IOF_MAP_WRITEABLE = 2,
	IOF_MAP_READABLE = 4,
};

struct iof_cmd_ioas_copy {
	uint32_t size, flags, dst_ioas_id, src_ioas_id;
	uint64_t length, dst_iova, src_iova;
};

struct iof_cmd_ioas_iova_ranges {
	uint32_t size, ioas_id, num_iovas, reserved;
	uint64_t allowed_iovas; /* struct iof_uapi_range[num_iovas], out */
	uint64_t out_iova_alignment;
};

struct iof_cmd_ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};

struct iof_cmd_ioas_unmap {
	uint32_t size, ioas_id;
	uint64_t iova, length;
};

enum iof_option { IOF_OPTION_RLIMIT_MODE = 0, IOF_OPTION_HUGE_PAGES = 1 };
enum iof_option_op { IOF_OPTION_SET = 0, IOF_OPTION_GET = 1 };

struct iof_cmd_option {
	uint32_t size, option_id;
	uint16_t op, reserved;
	uint32_t object_id;
	uint64_t val64;
};

struct iof_cmd_vfio_ioas {
	uint32_t size, ioas_id;
	uint16_t op, reserved;
};

enum iof_hwpt_flag {
	IOF_HWPT_NEST_PARENT = 1,
	IOF_HWPT_DIRTY_TRACKING = 2,
	IOF_HWPT_FAULT_ID_VALID = 4,
	IOF_HWPT_PASID = 8,
};

struct iof_cmd_hwpt_alloc {
	uint32_t size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len;
	uint64_t data_uptr;
	uint32_t fault_id, reserved2;
};

struct iof_cmd_get_hw_info {
	uint32_t size, flags, dev_id, data_len;
	uint64_t data_uptr;
	uint32_t data_type;
	uint8_t out_max_pasid_log2, reserved[3];
	uint64_t out_capabilities;
};

struct iof_cmd_set_dirty_tracking {
	uint32_t size, flags, hwpt_id, reserved;
};

struct iof_cmd_get_dirty_bitmap {
	uint32_t size, hwpt_id, flags, reserved;
	uint64_t iova, length, page_size, data;
};

struct iof_cmd_hwpt_invalidate {
	uint32_t size, hwpt_id;
	uint64_t data_uptr;
	uint32_t data_type, entry_len, entry_num, reserved;
};

struct iof_cmd_fault_queue_alloc {
	uint32_t size, flags, out_fault_id, out_fault_fd;
};

struct iof_cmd_ioas_map_file {
	uint32_t size, flags, ioas_id;
	int32_t fd;
	uint64_t start, length, iova;
};

struct iof_cmd_viommu_alloc {
	uint32_t size, flags, type, dev_id, hwpt_id, out_viommu_id, data_len, reserved;
	uint64_t data_uptr;
};

struct iof_cmd_vdevice_alloc {
	uint32_t size, viommu_id, dev_id, out_vdevice_id;
	uint64_t virt_id;
};

struct iof_cmd_change_process {
	uint32_t size, reserved;
};

struct iof_cmd_veventq_alloc {
	uint32_t size, flags, viommu_id, type, veventq_depth, out_veventq_id, out_veventq_fd, reserved;
};

/* What is read from and written to a fault queue's file (behaviour.md 8.1). */
enum iof_fault_flag { IOF_FAULT_PASID_VALID = 1, IOF_FAULT_LAST_PAGE = 2 };
enum iof_fault_perm { IOF_FAULT_READ = 1, IOF_FAULT_WRITE = 2, IOF_FAULT_EXEC = 4, IOF_FAULT_PRIV = 8 };
enum iof_fault_code { IOF_FAULT_SUCCESS = 0, IOF_FAULT_INVALID = 1 };

struct iof_fault_record {
	uint32_t flags, dev_id, pasid, grpid, perm, reserved;
	uint64_t addr;
	uint32_t length, cookie;
};

struct iof_fault_response {
	uint32_t cookie, code;
};

/* What is read from a vIOMMU event queue's file: this, then the type's data (none when events were lost). */
enum iof_vevent_flag { IOF_VEVENT_LOST = 1 };
#define IOF_VEVENTQ_DEPTH_MAX (1u << 19)

struct iof_vevent_header {
	uint32_t flags, sequence;
};

struct iof_cmd_hw_queue_alloc {
	uint32_t size, flags, viommu_id, type, index, out_hw_queue_id;
	uint64_t nesting_parent_iova, length;
};

/* VFIO device files: argsz rules of their own (behaviour.md 2.23). */
struct iof_cmd_device_info {
	uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad;
};

enum iof_bind_flag { IOF_BIND_TOKEN = 1 };

struct iof_cmd_bind {
	uint32_t argsz, flags;
	int32_t iommufd;
	uint32_t out_devid;
	uint64_t token_uuid_ptr;
};

enum iof_attach_flag { IOF_ATTACH_PASID = 1 };

struct iof_cmd_attach {
	uint32_t argsz, flags, pt_id, pasid;
};

struct iof_cmd_detach {
	uint32_t argsz, flags, pasid;
};

#endif
