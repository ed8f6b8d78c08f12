# SPDX-License-Identifier: Apache-2.0
"""Declarations of what iommufd_fast_va.h, _hold.h, _parallel.h and _reshape.h add to the C API."""
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.capi cimport iof_handle, iof_machine, iof_policy

cdef extern from "iommufd_fast_va.h" nogil:
    struct iof_va_index:
        pass
    struct iof_va_stats:
        uint64_t runs, bytes, tables, knots

    int iof_va_index_open(iof_handle *ctx, uint32_t ioas_id, iof_va_index **out)
    void iof_va_index_put(iof_va_index *ix)
    void iof_va_index_stats(const iof_va_index *ix, iof_va_stats *out)
    uint64_t iof_va_to_iova(const iof_va_index *ix, uint64_t va, uint64_t *length)
    size_t iof_va_to_iova_many(const iof_va_index *ix, size_t n, const uint64_t *vas, uint64_t *iovas,
                               uint64_t *lengths)

cdef extern from "iommufd_fast_hold.h" nogil:
    struct iof_held:
        pass
    struct iof_hold:
        size_t size
        uint64_t address, length
        iof_policy policy
        bint writable

    int iof_machine_hold(iof_machine *m, const iof_hold *hold, iof_held **out)
    void iof_held_release(iof_held *held)

cdef extern from "iommufd_fast_parallel.h" nogil:
    struct iof_map_parallel_args "iof_map_parallel":
        size_t size
        uint32_t ioas_id, flags
        iof_policy policy
        uint32_t threads
        uint64_t address, length, iova, piece
        uint32_t pieces
        int (*progress)(void *arg, uint64_t done, uint64_t total) noexcept
        void *arg

    int iof_map_parallel(iof_handle *ctx, iof_map_parallel_args *map)

cdef extern from "iommufd_fast_reshape.h" nogil:
    struct iof_replace_args "iof_replace":
        size_t size
        uint32_t ioas_id, flags
        iof_policy policy
        uint64_t iova, length, address
    struct iof_ioas_entries_out "iof_ioas_entries":
        uint64_t mappings, coalesced, limit
        uint64_t leaves[64]
        uint64_t fewest
        bint has_leaves

    struct iof_copy_many_args "iof_copy_many":
        size_t size
        uint32_t dst_ioas_id, src_ioas_id, flags
        size_t n
        const uint64_t *src_iovas
        const uint64_t *lengths
        uint64_t *iovas
        size_t failed

    int iof_copy_many(iof_handle *ctx, iof_copy_many_args *many)
    int iof_replace(iof_handle *ctx, const iof_replace_args *rq)
    int iof_ioas_entries(iof_handle *ctx, uint32_t ioas_id, iof_ioas_entries_out *out)
