# SPDX-License-Identifier: Apache-2.0
"""The public C API (csrc/include/iommufd_fast.h) as Cython sees it."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "iommufd_fast.h" nogil:
    enum:
        IOF_CMD_DESTROY
        IOF_CMD_IOAS_ALLOC
        IOF_CMD_IOAS_ALLOW_IOVAS
        IOF_CMD_IOAS_COPY
        IOF_CMD_IOAS_IOVA_RANGES
        IOF_CMD_IOAS_MAP
        IOF_CMD_IOAS_UNMAP
        IOF_CMD_OPTION
        IOF_CMD_HWPT_ALLOC
        IOF_CMD_DEVICE_GET_INFO
        IOF_CMD_DEVICE_BIND_IOMMUFD
        IOF_CMD_DEVICE_ATTACH_PT
        IOF_CMD_DEVICE_DETACH_PT
        IOF_MAP_FIXED_IOVA
        IOF_MAP_WRITEABLE
        IOF_MAP_READABLE
        IOF_DMA_BLOCKED
        IOF_DMA_UNMAPPED
        IOF_DMA_DENIED
        IOF_DMA_MEMORY
        IOF_DMA_TABLE
    const uint32_t IOF_NO_PASID
    const uint32_t IOF_DMA_WAIT

    ctypedef enum iof_preset "enum iof_preset":
        pass
    ctypedef enum iof_policy "enum iof_policy":
        IOF_POLICY_DEFAULT
        IOF_POLICY_TRUST
        IOF_POLICY_PROBE
    ctypedef enum iof_addresses "enum iof_addresses":
        pass
    ctypedef enum iof_accounting "enum iof_accounting":
        pass
    ctypedef enum iof_dma_op "enum iof_dma_op":
        IOF_DMA_READ
        IOF_DMA_WRITE
        IOF_DMA_FILL
        IOF_DMA_COPY
    ctypedef enum iof_dma_reason "enum iof_dma_reason":
        pass

    struct iof_alloc:
        pass
    struct iof_machine:
        pass
    struct iof_handle:
        pass

    struct iof_machine_config:
        size_t size
        iof_preset preset
        const uint32_t *groups
        size_t n_groups
        iof_alloc *alloc
        iof_policy policy
        iof_addresses addresses
        iof_accounting accounting
    struct iof_machine_device:
        uint32_t index, group
        iof_preset preset
        bint open, bound
        char name[32]

    struct iof_cmd_destroy:
        uint32_t size, id
    struct iof_cmd_ioas_alloc:
        uint32_t size, flags, out_ioas_id
    struct iof_uapi_range:
        uint64_t start, last
    struct iof_cmd_ioas_allow_iovas:
        uint32_t size, ioas_id, num_iovas, reserved
        uint64_t allowed_iovas
    struct iof_cmd_ioas_copy:
        uint32_t size, flags, dst_ioas_id, src_ioas_id
        uint64_t length, dst_iova, src_iova
    struct iof_cmd_ioas_iova_ranges:
        uint32_t size, ioas_id, num_iovas, reserved
        uint64_t allowed_iovas, out_iova_alignment
    struct iof_cmd_ioas_map:
        uint32_t size, flags, ioas_id, reserved
        uint64_t user_va, length, iova
    struct iof_cmd_ioas_unmap:
        uint32_t size, ioas_id
        uint64_t iova, length
    struct iof_cmd_option:
        uint32_t size, option_id
        uint16_t op, reserved
        uint32_t object_id
        uint64_t val64
    struct iof_cmd_hwpt_alloc:
        uint32_t size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len
        uint64_t data_uptr
        uint32_t fault_id, reserved2
    struct iof_cmd_device_info:
        uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad
    struct iof_cmd_bind:
        uint32_t argsz, flags
        int32_t iommufd
        uint32_t out_devid
        uint64_t token_uuid_ptr
    struct iof_cmd_attach:
        uint32_t argsz, flags, pt_id, pasid
    struct iof_cmd_detach:
        uint32_t argsz, flags, pasid

    struct iof_map_many_args "iof_map_many":
        uint32_t ioas_id, flags
        iof_policy policy
        size_t n
        const uint64_t *addresses
        const uint64_t *lengths
        uint64_t *iovas
        size_t failed
    struct iof_unmap_many_args "iof_unmap_many":
        uint32_t ioas_id
        size_t n
        const uint64_t *iovas
        const uint64_t *lengths
        uint64_t *unmapped
        int32_t *errors
    struct iof_endpoint_info:
        uint32_t dev_id, pasid, hwpt_id, ioas_id, device, group
    struct iof_ioas_stats_out "iof_ioas_stats":
        uint64_t mappings, bytes_mapped, maps, unmaps, copies, pinned_pages, alignment
        uint32_t hwpts, endpoints, large_pages, pad
        uint64_t index_bytes, record_bytes, table_bytes
    struct iof_hwpt_stats_out "iof_hwpt_stats":
        uint32_t ioas_id, automatic, endpoints, tracking, format
        uint64_t aperture_start, aperture_last, page_sizes
        uint64_t leaves[64]
        uint64_t tables, table_bytes
    struct iof_mapping_info:
        uint64_t iova, last, address
        uint32_t flags, pad
    struct iof_leaf_info:
        uint64_t iova, address
        uint8_t size_lg2, prot
    struct iof_dma_segment:
        uint64_t iova, length
    struct iof_dma_args "iof_dma":
        iof_dma_op op
        uint32_t pasid
        const iof_dma_segment *segments
        size_t n_segments
        void *buffer
        uint64_t source
        uint8_t fill
        iof_dma_reason reason
        uint64_t fault_iova, done
        uint8_t fault_write, fault_stage, fault_level, fault_fetch
        uint64_t fault_address
        uint32_t request_ms, requests
    struct iof_iotlb_stats_out "iof_iotlb_stats":
        uint64_t hits, misses, evictions, invalidations, dropped
        uint32_t entries, live

    int iof_machine_create(const iof_machine_config *cfg, iof_machine **out)
    void iof_machine_put(iof_machine *m)
    int iof_machine_plug(iof_machine *m, iof_preset preset, uint32_t group, uint32_t *index)
    uint32_t iof_machine_device_count(iof_machine *m)
    int iof_machine_device_at(iof_machine *m, uint32_t index, iof_machine_device *out)
    uint32_t iof_machine_group_count(iof_machine *m)
    bint iof_machine_is_valid(iof_machine *m)
    int64_t iof_machine_pins(iof_machine *m, uint64_t va)
    int iof_iotlb_stats(iof_machine *m, iof_iotlb_stats_out *out)
    void iof_iotlb_drop_invalidations(iof_machine *m, bint drop)

    int iof_engine_open(iof_machine *m, iof_handle **out)
    int iof_engine_open_device(iof_machine *m, uint32_t index, iof_handle **out)
    void iof_close(iof_handle *h)
    int iof_fileno(const iof_handle *h)
    int iof_ioctl(iof_handle *h, unsigned long cmd, void *arg)
    int iof_ioctl_nowait(iof_handle *h, unsigned long cmd, void *arg)
    int iof_map_many(iof_handle *h, iof_map_many_args *many)
    int64_t iof_unmap_many(iof_handle *h, iof_unmap_many_args *many)
    int64_t iof_translate(iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
                          uint8_t *prots)
    int64_t iof_endpoints(iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n, iof_endpoint_info *out)
    int iof_ioas_stats(iof_handle *h, uint32_t ioas_id, iof_ioas_stats_out *out)
    int iof_hwpt_stats(iof_handle *h, uint32_t hwpt_id, iof_hwpt_stats_out *out)
    int iof_ioas_mapping(iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, iof_mapping_info *out)
    int iof_digest(iof_handle *h, uint64_t *out)
    int64_t iof_leaves(iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n, iof_leaf_info *out)
    int iof_dma(iof_handle *h, iof_dma_args *dma)
