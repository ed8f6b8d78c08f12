# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The commands beyond address spaces as typed calls: page tables with data, hardware information, queues, vIOMMUs.

As in commands.pyx: a call gives its result or a negative errno. Data of a driver's own goes through buffers of the
caller, which are held while the command runs.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.commands cimport ContextHandle

cdef enum:
    INFO_MAX = 4096  # no driver tells more


cdef class Data:
    """A buffer of the caller's, held; length 0 when there is none. Longer ones than a command can say are refused."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, buffer, bint writable=False):
        self.held = False
        if buffer is not None:
            PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.held = True
            if <uint64_t>self.view.len > 0xffffffffu:
                raise ValueError(f"the data has {self.view.len} bytes; a command takes less than 2**32")

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef uint32_t length(self) noexcept:
        return <uint32_t>self.view.len if self.held else 0

    cdef uint64_t address(self) noexcept:
        return <uintptr_t>self.view.buf if self.length() else 0


cdef object answer(int err, uint32_t id):
    if err < 0:
        return err
    return id


def hwpt_alloc(ContextHandle h not None, uint32_t flags, uint32_t dev, uint32_t pt, uint32_t type, data,
               uint32_t fault):
    """The new id."""
    cdef Data d = Data(data)
    cdef iof_cmd_hwpt_alloc c = iof_cmd_hwpt_alloc(sizeof(c), flags, dev, pt, 0, 0, type, d.length(), d.address(),
                                                   fault, 0)
    cdef int err = h.raw(IOF_CMD_HWPT_ALLOC, &c)
    return answer(err, c.out_hwpt_id)


def hw_info(ContextHandle h not None, uint32_t dev):
    """(type, bytes, capabilities, log2 of the number of PASIDs)."""
    cdef unsigned char buffer[INFO_MAX]
    cdef iof_cmd_get_hw_info c
    cdef int err
    memset(&c, 0, sizeof(c))
    c.size, c.dev_id, c.data_len, c.data_uptr = sizeof(c), dev, INFO_MAX, <uintptr_t>&buffer[0]
    err = h.raw(IOF_CMD_GET_HW_INFO, &c)
    if err < 0:
        return err
    return (c.data_type, buffer[:min(c.data_len, <uint32_t>INFO_MAX)], c.out_capabilities, c.out_max_pasid_log2)


def set_dirty_tracking(ContextHandle h not None, uint32_t hwpt, bint on):
    cdef iof_cmd_set_dirty_tracking c = iof_cmd_set_dirty_tracking(sizeof(c), on, hwpt, 0)
    return h.raw(IOF_CMD_HWPT_SET_DIRTY_TRACKING, &c)


def invalidate(ContextHandle h not None, uint32_t object, uint32_t type, entries, uint32_t entry_length, uint32_t n):
    """(0 or a negative errno, entries that were handled)."""
    cdef Data d = Data(entries)
    cdef iof_cmd_hwpt_invalidate c = iof_cmd_hwpt_invalidate(sizeof(c), object, d.address(), type, entry_length, n, 0)
    cdef int err = h.raw(IOF_CMD_HWPT_INVALIDATE, &c)
    return err, c.entry_num


def change_process(ContextHandle h not None):
    cdef iof_cmd_change_process c = iof_cmd_change_process(sizeof(c), 0)
    return h.raw(IOF_CMD_IOAS_CHANGE_PROCESS, &c)


def fault_queue_alloc(ContextHandle h not None):
    """(id, number of its file)."""
    cdef iof_cmd_fault_queue_alloc c = iof_cmd_fault_queue_alloc(sizeof(c), 0, 0, 0)
    cdef int err = h.raw(IOF_CMD_FAULT_QUEUE_ALLOC, &c)
    if err < 0:
        return err
    return c.out_fault_id, c.out_fault_fd


def viommu_alloc(ContextHandle h not None, uint32_t type, uint32_t dev, uint32_t hwpt, data):
    """The new id. `data` is written back by the driver where it has something to tell."""
    cdef Data d = Data(data, True)
    cdef iof_cmd_viommu_alloc c = iof_cmd_viommu_alloc(sizeof(c), 0, type, dev, hwpt, 0, d.length(), 0, d.address())
    cdef int err = h.raw(IOF_CMD_VIOMMU_ALLOC, &c)
    return answer(err, c.out_viommu_id)


def vdevice_alloc(ContextHandle h not None, uint32_t viommu, uint32_t dev, uint64_t virt_id):
    cdef iof_cmd_vdevice_alloc c = iof_cmd_vdevice_alloc(sizeof(c), viommu, dev, 0, virt_id)
    cdef int err = h.raw(IOF_CMD_VDEVICE_ALLOC, &c)
    return answer(err, c.out_vdevice_id)


def veventq_alloc(ContextHandle h not None, uint32_t viommu, uint32_t type, uint32_t depth):
    """(id, number of its file)."""
    cdef iof_cmd_veventq_alloc c = iof_cmd_veventq_alloc(sizeof(c), 0, viommu, type, depth, 0, 0, 0)
    cdef int err = h.raw(IOF_CMD_VEVENTQ_ALLOC, &c)
    if err < 0:
        return err
    return c.out_veventq_id, c.out_veventq_fd


def hw_queue_alloc(ContextHandle h not None, uint32_t viommu, uint32_t type, uint32_t index, uint64_t iova,
                   uint64_t length):
    cdef iof_cmd_hw_queue_alloc c = iof_cmd_hw_queue_alloc(sizeof(c), 0, viommu, type, index, 0, iova, length)
    cdef int err = h.raw(IOF_CMD_HW_QUEUE_ALLOC, &c)
    return answer(err, c.out_hw_queue_id)
