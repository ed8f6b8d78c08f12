# SPDX-License-Identifier: Apache-2.0
"""The kernel provider (csrc/include/iommufd_fast_kernel.h) as Cython sees it."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from iommufd_fast._core.capi cimport iof_alloc, iof_handle, iof_machine

cdef extern from "iommufd_fast_kernel.h" nogil:
    ctypedef enum iof_iova_choice "enum iof_iova_choice":
        IOF_IOVA_OWN
        IOF_IOVA_KERNEL
        IOF_IOVA_VA

    struct iof_sys:
        void *data
        int (*open)(void *data, const char *path) noexcept nogil
        int (*close)(void *data, int fd) noexcept nogil
        int (*ioctl)(void *data, int fd, unsigned long cmd, void *arg) noexcept nogil
        int64_t (*pread)(void *data, int fd, void *to, size_t n, int64_t offset) noexcept nogil
        int64_t (*pwrite)(void *data, int fd, const void *buffer, size_t n, int64_t offset) noexcept nogil
        int (*mmap)(void *data, int fd, size_t length, int prot, int flags, uint64_t offset, void **out) noexcept nogil
        int (*poll)(void *data, int fd) noexcept nogil
        int (*find)(void *data, const char *name, char *path, size_t n) noexcept nogil
        int (*group)(void *data, int fd) noexcept nogil

    struct iof_kernel_config:
        size_t size
        iof_iova_choice iova
        const iof_sys *sys
        iof_alloc *alloc

    struct iof_kernel_counts_out "iof_kernel_counts":
        uint64_t own, kernel, foreign, reread

    int iof_kernel_open(const char *path, const iof_kernel_config *cfg, iof_handle **out)
    int iof_kernel_adopt(int fd, const iof_kernel_config *cfg, iof_handle **out)
    int iof_vfio_open(iof_handle *ctx, const char *name, iof_handle **out)
    int iof_vfio_adopt(iof_handle *ctx, int fd, int group, iof_handle **out)
    int iof_kernel_file(iof_handle *ctx, int fd, iof_handle **out)
    void iof_sys_over_engine(iof_machine *m, iof_sys *out)
    int iof_kernel_ioas_counts(iof_handle *ctx, uint32_t ioas_id, iof_kernel_counts_out *out)
