# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""DMA by a soft device: only through its endpoint's page table, without the GIL.

A scatter-gather list is a sequence of (iova, length) pairs; the bytes are in the buffer one segment after the other.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.commands cimport DeviceHandle

from iommufd_fast._core.machines import as_u64
from iommufd_fast.errors import DmaFault, failed

cdef dict REASONS = {
    IOF_DMA_BLOCKED: ("blocked", "the device is not attached; attach() it to an IOAS first"),
    IOF_DMA_UNMAPPED: ("unmapped", "nothing is mapped there for this device"),
    IOF_DMA_DENIED: ("denied", "the mapping does not permit this access"),
    IOF_DMA_MEMORY: ("memory", "it is mapped, but the memory behind it is gone (truncated or unmapped)"),
    IOF_DMA_TABLE: ("table", "the guest's table or descriptor holds what none may hold"),
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


cdef uint32_t milliseconds(wait) except? 0xffffffff:
    """How long to wait for the answer of a page request, in seconds: False not at all, None or True for ever."""
    if wait is False:
        return 0
    if wait is None or wait is True:
        return IOF_DMA_WAIT
    if not 0 < wait < 4e6:
        raise ValueError(f"request must be False, True or seconds up to 4000000, not {wait!r}")
    return <uint32_t>max(wait * 1000, 1)


cdef str where_in(const iof_dma_args *dma):
    """At which stage of two, and where there."""
    if dma.fault_stage == 0:
        return ""
    if dma.fault_stage == 1:
        what = "descriptor" if dma.fault_fetch == 254 else f"level {dma.fault_level}"
        return f" (stage 1, {what} at guest-physical {dma.fault_address:#x})"
    what = {254: "a descriptor", 255: "the page"}.get(dma.fault_fetch, f"a level {dma.fault_fetch} table of stage 1")
    return f" (stage 2, for {what} at guest-physical {dma.fault_address:#x})"


cdef int run(DeviceHandle dev, iof_dma_args *dma, pasid, wait) except -1:
    """Run one DMA; a fault becomes DmaFault."""
    cdef int err
    dma.request_ms = milliseconds(wait)
    dma.pasid = IOF_NO_PASID if pasid is None else <uint32_t>as_u64(pasid, "pasid", 0xfffff)
    dev.enter()
    with nogil:
        err = iof_dma(dev.h, dma)
    dev.leave()
    if err == 0:
        return 0
    verb = VERBS[dma.op]
    if dma.reason in REASONS:
        reason, sentence = REASONS[dma.reason]
        who = dev.name if pasid is None else f"{dev.name} with pasid {pasid}"
        where = f"at IOVA {dma.fault_iova:#x} after {dma.done:#x} bytes"
        error = DmaFault(f"DMA {verb} by {who} stopped {where}: {sentence}{where_in(dma)}",
                         dma.fault_iova, reason, bool(dma.fault_write), dma.done)
        error.requests = dma.requests
        if dma.fault_stage:
            error.stage, error.level, error.address = dma.fault_stage, dma.fault_level, dma.fault_address
            error.fetch = {254: "descriptor", 255: None}.get(dma.fault_fetch, dma.fault_fetch)
        raise error
    raise failed(err, "dma", f"DMA {verb} by {dev.name}")


cdef int transfer(DeviceHandle dev, iof_dma_op op, where, uint64_t length, bint have_length, void *buffer,
                  uint64_t room, pasid, wait) except -1:
    cdef iof_dma_args dma
    cdef uint64_t total
    memset(&dma, 0, sizeof(dma))
    cdef iof_dma_segment *list = segments(where, length, have_length, &dma.n_segments, &total)
    try:
        if total != room:
            raise ValueError(f"the segments have {total} bytes, but the buffer has {room}")
        dma.op, dma.segments, dma.buffer = op, list, buffer
        return run(dev, &dma, pasid, wait)
    finally:
        free(list)


def read(DeviceHandle dev not None, where, length=None, pasid=None, wait=False):
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
    transfer(dev, IOF_DMA_READ, where, total, single, PyBytes_AS_STRING(out), total, pasid, wait)
    return out


def read_into(DeviceHandle dev not None, where, buffer, pasid=None, wait=False):
    """The same into a writable buffer, which also decides the length when `where` is one IOVA."""
    move(dev, IOF_DMA_READ, where, buffer, PyBUF_WRITABLE, pasid, wait)


def write(DeviceHandle dev not None, where, data, pasid=None, wait=False):
    """Write data to memory as the device."""
    move(dev, IOF_DMA_WRITE, where, data, PyBUF_SIMPLE, pasid, wait)


cdef int move(DeviceHandle dev, iof_dma_op op, where, data, int flags, pasid, wait) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, flags)
    try:
        return transfer(dev, op, where, view.len, hasattr(where, "__index__"), view.buf, view.len, pasid, wait)
    finally:
        PyBuffer_Release(&view)


def fill(DeviceHandle dev not None, iova, length, byte=0, pasid=None, wait=False):
    """Fill memory with one byte value."""
    cdef iof_dma_args dma
    cdef iof_dma_segment one = iof_dma_segment(u64(iova, "iova"), u64(length, "length"))
    cdef uint64_t value = u64(byte, "byte")
    if value > 255:
        raise ValueError(f"byte must be in 0..255, not {value}")
    memset(&dma, 0, sizeof(dma))
    dma.op, dma.segments, dma.n_segments, dma.fill = IOF_DMA_FILL, &one, 1, <unsigned char>value
    run(dev, &dma, pasid, wait)


def copy(DeviceHandle dev not None, dst, src, length, pasid=None, wait=False):
    """Copy inside the device's address space."""
    cdef iof_dma_args dma
    cdef iof_dma_segment one = iof_dma_segment(u64(dst, "dst"), u64(length, "length"))
    memset(&dma, 0, sizeof(dma))
    dma.op, dma.segments, dma.n_segments, dma.source = IOF_DMA_COPY, &one, 1, u64(src, "src")
    run(dev, &dma, pasid, wait)
