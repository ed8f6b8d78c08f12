# SPDX-License-Identifier: Apache-2.0
"""The rest of the contract, as Cython sees it: what capi.pxd does not name of csrc/include."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from iommufd_fast._core.capi cimport iof_handle, iof_machine, iof_uapi_range

cdef extern from "iommufd_fast.h" nogil:
    enum:
        IOF_CMD_GET_HW_INFO
        IOF_CMD_HWPT_SET_DIRTY_TRACKING
        IOF_CMD_HWPT_INVALIDATE
        IOF_CMD_FAULT_QUEUE_ALLOC
        IOF_CMD_IOAS_MAP_FILE
        IOF_CMD_VIOMMU_ALLOC
        IOF_CMD_VDEVICE_ALLOC
        IOF_CMD_IOAS_CHANGE_PROCESS
        IOF_CMD_VEVENTQ_ALLOC
        IOF_CMD_HW_QUEUE_ALLOC
        IOF_ATTACH_PASID
        IOF_MAPPING_FILE

    struct iof_cmd_get_hw_info:
        uint32_t size, flags, dev_id, data_len
        uint64_t data_uptr
        uint32_t data_type
        uint8_t out_max_pasid_log2
        uint64_t out_capabilities
    struct iof_cmd_set_dirty_tracking:
        uint32_t size, flags, hwpt_id, reserved
    struct iof_cmd_hwpt_invalidate:
        uint32_t size, hwpt_id
        uint64_t data_uptr
        uint32_t data_type, entry_len, entry_num, reserved
    struct iof_cmd_fault_queue_alloc:
        uint32_t size, flags, out_fault_id, out_fault_fd
    struct iof_cmd_ioas_map_file:
        uint32_t size, flags, ioas_id
        int32_t fd
        uint64_t start, length, iova
    struct iof_cmd_viommu_alloc:
        uint32_t size, flags, type, dev_id, hwpt_id, out_viommu_id, data_len, reserved
        uint64_t data_uptr
    struct iof_cmd_vdevice_alloc:
        uint32_t size, viommu_id, dev_id, out_vdevice_id
        uint64_t virt_id
    struct iof_cmd_change_process:
        uint32_t size, reserved
    struct iof_cmd_veventq_alloc:
        uint32_t size, flags, viommu_id, type, veventq_depth, out_veventq_id, out_veventq_fd, reserved
    struct iof_fault_record:
        uint32_t flags, dev_id, pasid, grpid, perm, reserved
        uint64_t addr
        uint32_t length, cookie
    struct iof_fault_response:
        uint32_t cookie, code
    struct iof_vevent_header:
        uint32_t flags, sequence
    struct iof_cmd_hw_queue_alloc:
        uint32_t size, flags, viommu_id, type, index, out_hw_queue_id
        uint64_t nesting_parent_iova, length

    struct iof_dirty_args "iof_dirty":
        uint32_t hwpt_id
        bint keep, more
        uint64_t start, last
        size_t n
        iof_uapi_range *ranges

    int iof_file_handle(iof_machine *m, int number, iof_handle **out)
    int64_t iof_read(iof_handle *h, void *to, size_t n)
    int64_t iof_write(iof_handle *h, const void *data, size_t n)
    int iof_mmap(iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
    int iof_poll_fd(iof_handle *h)
    int64_t iof_dirty(iof_handle *h, iof_dirty_args *dirty)

cdef extern from "iommufd_fast_access.h" nogil:
    struct iof_access:
        pass
    struct iof_access_config:
        size_t size
        bint needs_pin
        void (*unmap)(void *data, uint64_t iova, uint64_t length) noexcept nogil
        void *data
    enum:
        IOF_ACCESS_READ
        IOF_ACCESS_WRITE
    int iof_access_open(iof_handle *ctx, const iof_access_config *cfg, iof_access **out)
    void iof_access_destroy(iof_access *a)
    uint32_t iof_access_id(const iof_access *a)
    int iof_access_attach(iof_access *a, uint32_t ioas_id)
    int iof_access_replace(iof_access *a, uint32_t ioas_id)
    void iof_access_detach(iof_access *a)
    int iof_access_pin(iof_access *a, uint64_t iova, uint64_t length, bint write, uint64_t *addresses)
    int iof_access_unpin(iof_access *a, uint64_t iova, uint64_t length)
    int iof_access_rw(iof_access *a, uint64_t iova, void *buffer, uint64_t length, uint32_t flags)

cdef extern from "iommufd_fast_embed.h" nogil:
    void iof_mmap_count(iof_handle *h, uint64_t offset, int by)
    int iof_dmabuf_create(iof_machine *m, uint64_t size, iof_handle **out)
    int iof_dmabuf_revoke(iof_handle *dmabuf, bint revoked)
    int64_t iof_dmabuf_import_count(iof_handle *dmabuf)
