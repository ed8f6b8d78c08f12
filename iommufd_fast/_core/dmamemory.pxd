# SPDX-License-Identifier: Apache-2.0
"""DMA memory for cimport."""
from iommufd_fast._core.capi_dma cimport iof_dma_memory
from iommufd_fast._core.mapping cimport Mapping

cdef class DmaMemory:
    cdef object __weakref__
    cdef iof_dma_memory m
    cdef Mapping place
    cdef bint kept
