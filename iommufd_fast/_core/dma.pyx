# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""DMA by a soft device: only through its endpoint's page table, without the GIL.

A scatter-gather list is a sequence of (iova, length) pairs; the bytes are in the buffer one segment after the other.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.commands cimport DeviceHandle

from iommufd_fast.errors import DmaFault, failed

cdef dict REASONS = {
    IOF_DMA_BLOCKED: ("blocked", "the device is not attached; attach() it to an IOAS first"),
    IOF_DMA_UNMAPPED: ("unmapped", "nothing is mapped there for this device"),
    IOF_DMA_DENIED: ("denied", "the mapping does not permit this access"),
    IOF_DMA_MEMORY: ("memory", "it is mapped, but the memory behind it is gone (truncated or unmapped)"),
}
cdef dict VERBS = {IOF_DMA_READ: "read", IOF_DMA_WRITE: "write", IOF_DMA_FILL: "fill", IOF_DMA_COPY: "copy"}


cdef iof_dma_segment *segments(where, uint64_t length, bint have_length, size_t *n, uint64_t *total) except NULL:
    """The C list for (iova, length), or for a sequence of such pairs. The caller frees it."""
    cdef size_t i
    if have_length:
        pairs = ((where, length),)
    else:
        pairs = tuple(where)
    cdef iof_dma_segment *list = <iof_dma_segment *>calloc(len(pairs) + 1, sizeof(iof_dma_segment))
    if list == NULL:
        raise MemoryError
    total[0] = 0
    n[0] = len(pairs)
    try:
        for i in range(n[0]):
            iova, size = pairs[i]
            list[i] = iof_dma_segment(u64(iova, "iova"), u64(size, "length"))
            if total[0] + list[i].length < total[0]:
                raise ValueError("the lengths of the segments add up to 2**64 or more")
            total[0] += list[i].length
    except BaseException:
        free(list)
        raise
    return list


cdef int run(DeviceHandle dev, iof_dma_args *dma) except -1:
    """Run one DMA; a fault becomes DmaFault."""
    cdef int err
    dma.pasid = IOF_NO_PASID
    dev.enter()
    with nogil:
        err = iof_dma(dev.h, dma)
    dev.leave()
    if err == 0:
        return 0
    verb = VERBS[dma.op]
    if dma.reason in REASONS:
        reason, sentence = REASONS[dma.reason]
        where = f"at IOVA {dma.fault_iova:#x} after {dma.done:#x} bytes"
        raise DmaFault(f"DMA {verb} by {dev.name} stopped {where}: {sentence}",
                       dma.fault_iova, reason, bool(dma.fault_write), dma.done)
    raise failed(err, "dma", f"DMA {verb} by {dev.name}")


cdef int transfer(DeviceHandle dev, iof_dma_op op, where, uint64_t length, bint have_length, void *buffer,
                  uint64_t room) except -1:
    cdef iof_dma_args dma
    cdef uint64_t total
    memset(&dma, 0, sizeof(dma))
    cdef iof_dma_segment *list = segments(where, length, have_length, &dma.n_segments, &total)
    try:
        if total != room:
            raise ValueError(f"the segments have {total} bytes, but the buffer has {room}")
        dma.op, dma.segments, dma.buffer = op, list, buffer
        return run(dev, &dma)
    finally:
        free(list)


def read(DeviceHandle dev not None, where, length=None):
    """Read what a device reads from memory, as bytes."""
    cdef bint single = length is not None
    cdef uint64_t total = u64(length, "length") if single else 0
    dev.check()
    if not single:
        where = tuple(where)
        total = u64(sum(u64(n, "length") for _, n in where), "the sum of the lengths")
    if total > <uint64_t>(1 << 62):
        raise ValueError(f"length {total:#x} is more than fits into bytes")
    out = PyBytes_FromStringAndSize(NULL, total)
    transfer(dev, IOF_DMA_READ, where, total, single, PyBytes_AS_STRING(out), total)
    return out


def read_into(DeviceHandle dev not None, where, buffer):
    """The same into a writable buffer, which also decides the length when `where` is one IOVA."""
    move(dev, IOF_DMA_READ, where, buffer, PyBUF_WRITABLE)


def write(DeviceHandle dev not None, where, data):
    """Write data to memory as the device."""
    move(dev, IOF_DMA_WRITE, where, data, PyBUF_SIMPLE)


cdef int move(DeviceHandle dev, iof_dma_op op, where, data, int flags) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, flags)
    try:
        return transfer(dev, op, where, view.len, hasattr(where, "__index__"), view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def fill(DeviceHandle dev not None, iova, length, byte=0):
    """Fill memory with one byte value."""
    cdef iof_dma_args dma
    cdef iof_dma_segment one = iof_dma_segment(u64(iova, "iova"), u64(length, "length"))
    cdef uint64_t value = u64(byte, "byte")
    if value > 255:
        raise ValueError(f"byte must be in 0..255, not {value}")
    memset(&dma, 0, sizeof(dma))
    dma.op, dma.segments, dma.n_segments, dma.fill = IOF_DMA_FILL, &one, 1, <unsigned char>value
    run(dev, &dma)


def copy(DeviceHandle dev not None, dst, src, length):
    """Copy inside the device's address space."""
    cdef iof_dma_args dma
    cdef iof_dma_segment one = iof_dma_segment(u64(dst, "dst"), u64(length, "length"))
    memset(&dma, 0, sizeof(dma))
    dma.op, dma.segments, dma.n_segments, dma.source = IOF_DMA_COPY, &one, 1, u64(src, "src")
    run(dev, &dma)
