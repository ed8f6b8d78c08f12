# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""A device's registers: regions of a VFIO device, read and written in exactly the width that was asked for.

A region that may be mapped is mapped, and an access is one load or store on the bus, about as long as the call. Any other
(configuration space, ports) goes through pread and pwrite of the device's file, a system call each. PCI is little-endian,
and so are all values here.

Order: accesses of one thread to one region happen in program order on x86; elsewhere `dma_wmb` before the register
write that tells the device, and `dma_rmb` after the read that says its data is there. Views (`memoryview(region)`) and `doorbell`
keep the mapping alive.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport iof_mmap
from iommufd_fast._core.bus cimport mmio_load, mmio_rmb, mmio_store, mmio_wmb
from iommufd_fast._core.commands cimport DeviceHandle
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport Gate, is_shut, quick_in, quick_out, shut_gate, wait_until_empty

from iommufd_fast.errors import failed

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    int munmap(void *address, size_t length)

cdef extern from "iommufd_fast.h" nogil:
    int64_t iof_pread(iof_handle *h, void *to, size_t n, uint64_t offset)
    int64_t iof_pwrite(iof_handle *h, const void *data, size_t n, uint64_t offset)

def dma_wmb():
    """Make what was written to memory visible to devices before what is written after this (a doorbell)."""
    mmio_wmb()


def dma_rmb():
    """Read from memory after this only what a device wrote before what was read last (a completion's flag)."""
    mmio_rmb()


cdef class RegionCore:
    """A region of a device; `iommufd_fast.kernel.DeviceRegion` is the class."""

    cdef char *at  # NULL: not mapped
    cdef uint64_t mapped_start, mapped_end  # of the region
    cdef DeviceHandle handle
    cdef readonly uint64_t size, offset
    cdef readonly int index, flags
    cdef Py_ssize_t exports
    cdef Gate gate
    cdef bint drained  # nobody is inside any more, and the last view may unmap

    def __init__(self):
        raise TypeError("a region is made by device.region(index)")

    def _begin(self, DeviceHandle handle not None, int index, int flags, uint64_t size, uint64_t offset, start, end):
        """Second half of construction; [start, end) of it is to be mapped, if that is anything. 0 or a negative errno."""
        cdef int err
        cdef void *p = NULL
        self.handle, self.index, self.flags, self.size, self.offset = handle, index, flags, size, offset
        self.mapped_start, self.mapped_end = start, end
        if start == end:
            return 0
        handle.enter()
        err = iof_mmap(handle.h, self.mapped_end - self.mapped_start, (PROT_READ if flags & 1 else 0)
                       | (PROT_WRITE if flags & 2 else 0), MAP_SHARED, offset + self.mapped_start, &p)
        handle.leave()
        if err < 0:
            self.mapped_start = self.mapped_end = 0
            return err
        self.at = <char *>p - self.mapped_start
        return 0

    def __dealloc__(self):
        unmap(self)

    @property
    def mapped(self):
        """Whether accesses are loads and stores."""
        return self.mapped_end != 0

    @property
    def closed(self):
        """Whether it was closed, by itself or with its device."""
        return is_shut(&self.gate)

    def close(self):
        """Unmap. Again is fine. A device's regions are closed with it, or with the last view of them."""
        if not shut_gate(&self.gate):
            return
        wait_until_empty(&self.gate)
        with cython.critical_section(self):
            self.drained = True
            if not self.exports:
                unmap(self)

    def read8(self, uint64_t offset):
        """One byte."""
        return self.load(offset, 1)

    def read16(self, uint64_t offset):
        """Two bytes in one access; `offset` must be a multiple of 2, as for the others of their width."""
        return self.load(offset, 2)

    def read32(self, uint64_t offset):
        """Four bytes in one access."""
        return self.load(offset, 4)

    def read64(self, uint64_t offset):
        """Eight bytes in one access."""
        return self.load(offset, 8)

    def write8(self, uint64_t offset, uint8_t value):
        """Write one byte."""
        self.store(offset, 1, value)

    def write16(self, uint64_t offset, uint16_t value):
        """Write two bytes in one access."""
        self.store(offset, 2, value)

    def write32(self, uint64_t offset, uint32_t value):
        """Write four bytes in one access."""
        self.store(offset, 4, value)

    def write64(self, uint64_t offset, uint64_t value):
        """Write eight bytes in one access."""
        self.store(offset, 8, value)

    cdef inline bint is_quick(self, uint64_t offset, unsigned n) noexcept:
        return (offset >= self.mapped_start and offset < self.mapped_end and n <= self.mapped_end - offset
                and not (offset & (n - 1)) and self.handle.born == forks and quick_in(&self.gate))

    cdef uint64_t load(self, uint64_t offset, unsigned n) except? 0xfffffffffffffffe:
        cdef uint64_t value
        if self.flags & 1 and self.is_quick(offset, n):
            value = mmio_load(self.at + offset, n)
            quick_out(&self.gate)
            return value
        value = 0
        through_file(self, offset, n, &value, False)
        return mmio_load(&value, n)

    cdef int store(self, uint64_t offset, unsigned n, uint64_t value) except -1:
        cdef uint64_t raw = 0
        if self.flags & 2 and self.is_quick(offset, n):
            mmio_store(self.at + offset, n, value)
            quick_out(&self.gate)
            return 0
        mmio_store(&raw, n, value)
        return through_file(self, offset, n, &raw, True)

    def doorbell(self, offset, int width=32):
        """A callable that writes its argument to one register: ``ring = region.doorbell(0x1000); ring(tail)``."""
        cdef Doorbell bell = Doorbell.__new__(Doorbell)
        bell.region, bell.offset, bell.bytes = self, u64(offset, "offset"), width // 8
        if width not in (8, 16, 32, 64):
            raise ValueError(f"width must be 8, 16, 32 or 64, not {width}")
        self.require(bell.offset, bell.bytes)
        return bell

    cdef int require(self, uint64_t offset, uint64_t n) except -1:
        """The bounds, the alignment and the region's life, as sentences."""
        if is_shut(&self.gate):
            raise ValueError(f"region {self.index} of {self.handle.name} is closed")
        self.handle.check()
        if n > self.size or offset > self.size - n:
            raise ValueError(f"{n} bytes at offset {offset:#x} are not inside region {self.index} of "
                             f"{self.handle.name}, which has {self.size:#x} bytes")
        if offset & (n - 1):
            raise ValueError(f"offset {offset:#x} is not a multiple of {n}, the width of the access")
        return 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        with cython.critical_section(self):
            if is_shut(&self.gate) or self.mapped_end == 0 or self.mapped_start or self.mapped_end < self.size:
                raise BufferError(f"region {self.index} is not mapped as a whole, or closed; use read8() … write64()")
            PyBuffer_FillInfo(view, self, self.at, self.size, not self.flags & 2, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        with cython.critical_section(self):
            self.exports -= 1
            if self.drained and not self.exports:
                unmap(self)

    def __len__(self):
        return self.size


cdef class Doorbell:
    """One register to write to; made by `RegionCore.doorbell`."""

    cdef RegionCore region
    cdef uint64_t offset
    cdef unsigned bytes

    def __init__(self):
        raise TypeError("a doorbell is made by region.doorbell(offset)")

    def __call__(self, uint64_t value):
        # What was written to memory before is visible to the device first. (A docstring here would export a symbol.)
        if self.bytes < 8 and value >> (8 * self.bytes):
            raise ValueError(f"{value:#x} has more than {8 * self.bytes} bits")
        mmio_wmb()
        self.region.store(self.offset, self.bytes, value)


cdef void unmap(RegionCore r) noexcept:
    if r.at != NULL:
        munmap(r.at + r.mapped_start, r.mapped_end - r.mapped_start)
        r.at, r.mapped_start, r.mapped_end = NULL, 0, 0


cdef int through_file(RegionCore r, uint64_t offset, unsigned n, void *value, bint write) except -1:
    cdef int64_t done
    r.require(offset, n)
    r.handle.enter()
    with nogil:
        done = iof_pwrite(r.handle.h, value, n, r.offset + offset) if write else iof_pread(
            r.handle.h, value, n, r.offset + offset)
    r.handle.leave()
    if done == n:
        return 0
    verb = "write" if write else "read"
    raise failed(done if done < 0 else -5, verb, f"cannot {verb} {n} bytes at offset {offset:#x} of region {r.index} of "
                 f"{r.handle.name}")
