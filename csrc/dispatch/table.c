/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands on the iommufd, and the checks in front of every handler (behaviour.md R1.6.2). */
#include <errno.h>
#include <string.h>

#include "dispatch/call.h"

#define FIRST_NR 0x80
#define LAST_NR 0x94

#define END_OF(type, last) (offsetof(struct type, last) + sizeof(((struct type *)0)->last))
#define COMMAND(name, type, last, ...)                                                                                 \
	[IOF_CMD_##name - IOF_CMD(FIRST_NR)] = { .cmd = IOF_CMD_##name, .size = sizeof(struct type),                    \
						 .min = END_OF(type, last), __VA_ARGS__ }

static const struct iof_command commands[LAST_NR - FIRST_NR + 1] = {
	COMMAND(DESTROY, iof_cmd_destroy, id, .handler = iofi_destroy),
	COMMAND(IOAS_ALLOC, iof_cmd_ioas_alloc, out_ioas_id, .handler = iofi_ioas_alloc),
	COMMAND(IOAS_ALLOW_IOVAS, iof_cmd_ioas_allow_iovas, allowed_iovas, .handler = iofi_ioas_allow_iovas),
	COMMAND(IOAS_COPY, iof_cmd_ioas_copy, src_iova, .handler = iofi_ioas_copy),
	COMMAND(IOAS_IOVA_RANGES, iof_cmd_ioas_iova_ranges, out_iova_alignment, .handler = iofi_ioas_iova_ranges),
	COMMAND(IOAS_MAP, iof_cmd_ioas_map, iova, .quick = true, .handler = iofi_ioas_map),
	COMMAND(IOAS_UNMAP, iof_cmd_ioas_unmap, length, .quick = true, .handler = iofi_ioas_unmap),
	COMMAND(OPTION, iof_cmd_option, val64, .handler = iofi_option),
	COMMAND(VFIO_IOAS, iof_cmd_vfio_ioas, reserved, .handler = iofi_vfio_ioas),
	COMMAND(HWPT_ALLOC, iof_cmd_hwpt_alloc, reserved, .handler = iofi_hwpt_alloc),
	COMMAND(FAULT_QUEUE_ALLOC, iof_cmd_fault_queue_alloc, out_fault_fd, .handler = iofi_fault_queue_alloc),
	COMMAND(VEVENTQ_ALLOC, iof_cmd_veventq_alloc, out_veventq_fd, .handler = iofi_veventq_alloc),
	COMMAND(GET_HW_INFO, iof_cmd_get_hw_info, reserved, .handler = iofi_get_hw_info),
	COMMAND(HWPT_SET_DIRTY_TRACKING, iof_cmd_set_dirty_tracking, reserved, .handler = iofi_set_dirty_tracking),
	COMMAND(HWPT_GET_DIRTY_BITMAP, iof_cmd_get_dirty_bitmap, data, .handler = iofi_get_dirty_bitmap),
	COMMAND(HWPT_INVALIDATE, iof_cmd_hwpt_invalidate, reserved, .handler = iofi_hwpt_invalidate),
	COMMAND(IOAS_MAP_FILE, iof_cmd_ioas_map_file, iova, .handler = iofi_ioas_map_file),
	COMMAND(IOAS_CHANGE_PROCESS, iof_cmd_change_process, reserved, .handler = iofi_change_process),
	COMMAND(VIOMMU_ALLOC, iof_cmd_viommu_alloc, out_viommu_id, .handler = iofi_viommu_alloc),
	COMMAND(VDEVICE_ALLOC, iof_cmd_vdevice_alloc, virt_id, .handler = iofi_vdevice_alloc),
	COMMAND(HW_QUEUE_ALLOC, iof_cmd_hw_queue_alloc, length, .handler = iofi_hw_queue_alloc),
};

/* The kernel's sizes: full, and up to the last field that every caller has to give. */
#define SIZES(type, last, min, full)                                                                                   \
	_Static_assert(sizeof(struct type) == (full) && END_OF(type, last) == (min), #type)

SIZES(iof_cmd_destroy, id, 8, 8);
SIZES(iof_cmd_ioas_alloc, out_ioas_id, 12, 12);
SIZES(iof_cmd_ioas_allow_iovas, allowed_iovas, 24, 24);
SIZES(iof_cmd_ioas_copy, src_iova, 40, 40);
SIZES(iof_cmd_ioas_iova_ranges, out_iova_alignment, 32, 32);
SIZES(iof_cmd_ioas_map, iova, 40, 40);
SIZES(iof_cmd_ioas_unmap, length, 24, 24);
SIZES(iof_cmd_option, val64, 24, 24);
SIZES(iof_cmd_vfio_ioas, reserved, 12, 12);
SIZES(iof_cmd_hwpt_alloc, reserved, 24, 48);
SIZES(iof_cmd_get_hw_info, reserved, 32, 40);
SIZES(iof_cmd_set_dirty_tracking, reserved, 16, 16);
SIZES(iof_cmd_get_dirty_bitmap, data, 48, 48);
SIZES(iof_cmd_hwpt_invalidate, reserved, 32, 32);
SIZES(iof_cmd_fault_queue_alloc, out_fault_fd, 16, 16);
SIZES(iof_cmd_ioas_map_file, iova, 40, 40);
SIZES(iof_cmd_viommu_alloc, out_viommu_id, 24, 40);
SIZES(iof_cmd_vdevice_alloc, virt_id, 24, 24);
SIZES(iof_cmd_change_process, reserved, 8, 8);
SIZES(iof_cmd_veventq_alloc, out_veventq_fd, 28, 32);
SIZES(iof_cmd_hw_queue_alloc, length, 40, 40);
SIZES(iof_cmd_bind, out_devid, 16, 24);
SIZES(iof_cmd_attach, pt_id, 12, 16);
SIZES(iof_cmd_detach, flags, 8, 12);
SIZES(iof_cmd_device_info, num_irqs, 16, 24);

int iofi_copy_extensible(void *to, uint64_t from, uint32_t user_size, uint32_t known)
{
	int zero;

	if (iof_likely(user_size == known))
		return iof_copy_in(to, from, known);
	if (user_size < known) {
		memset((char *)to + user_size, 0, known - user_size);
		return iof_copy_in(to, from, user_size);
	}
	zero = from + known < from ? -EFAULT : iof_is_zero_in(from + known, user_size - known);
	if (zero < 0)
		return zero;
	return zero ? iof_copy_in(to, from, known) : -E2BIG;
}

unsigned iofi_prot_of(uint32_t map_flags)
{
	return (map_flags & IOF_MAP_READABLE ? IOF_PROT_READ : 0) | (map_flags & IOF_MAP_WRITEABLE ? IOF_PROT_WRITE : 0);
}

int iof_dispatch_context(struct iof_context *ctx, uint32_t cmd, uint64_t arg, bool nowait)
{
	struct iof_call call = { .ctx = ctx, .arg = arg, .nowait = nowait };
	_Alignas(16) char copy[IOF_CMD_MAX_SIZE];
	const struct iof_command *c;
	unsigned nr = cmd & 0xff;
	int rc;

	if (nr < FIRST_NR || nr > LAST_NR)
		return nowait ? -EAGAIN : iofi_container_ioctl(ctx, cmd, arg);
	rc = iof_copy_in(&call.user_size, arg, sizeof(call.user_size));
	if (iof_unlikely(rc))
		return rc;
	c = &commands[nr - FIRST_NR];
	if (iof_unlikely(!c->handler || cmd != c->cmd))
		return -ENOTTY;
	if (iof_unlikely(nowait && !c->quick))
		return -EAGAIN;
	if (iof_unlikely(call.user_size < c->min))
		return -EINVAL;
	call.known_size = c->size;
	rc = iofi_copy_extensible(copy, arg, call.user_size, c->size);
	return iof_unlikely(rc) ? rc : c->handler(&call, copy);
}
