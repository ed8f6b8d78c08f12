# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Memory made for devices: large pages, a NUMA node, mapped for as long as somebody can see it.

Arrays and memoryviews of it hold it by the buffer protocol. When the last is gone it is unmapped, and only then given
back to the system; if it cannot be unmapped it is never given back.
"""
cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.mapping cimport LIVE, Mapping

import warnings

from iommufd_fast._core.machines import as_u64
from iommufd_fast.errors import from_errno

cnp.import_array()

PAGES = {"auto": IOF_DMA_PAGE_AUTO, "4K": IOF_DMA_PAGE_4K, "thp": IOF_DMA_PAGE_THP, "2M": IOF_DMA_PAGE_2M,
         "1G": IOF_DMA_PAGE_1G}
cdef tuple NAMES = (None, "4K", "thp", "2M", "1G")


@cython.no_gc_clear
cdef class DmaMemory:
    """The memory behind a `DmaArray` or a region of a `DmaArena`. Supports the buffer protocol."""

    def __init__(self):
        raise TypeError("DMA memory is made by ioas.alloc(shape)")

    @staticmethod
    def _get(length, str page, numa, bint shared, at=None):
        """Memory that is not mapped yet. `at`: an address in a reserved range."""
        cdef DmaMemory self = DmaMemory.__new__(DmaMemory)
        cdef iof_dma_request rq
        cdef int err
        rq.size, rq.length = sizeof(rq), as_u64(length, "length", (1 << 63) - 1)
        rq.page, rq.flags, rq.node, rq.at = <iof_dma_page><int>PAGES[page], 0, 0, NULL
        if shared:
            rq.flags |= IOF_DMA_SHARED
        if numa is not None:
            rq.flags |= IOF_DMA_NODE
            rq.node = <uint32_t>as_u64(numa, "numa", 1023)
        if at is not None:
            rq.at = <void *><uintptr_t>as_u64(at, "at")
        with nogil:
            err = iof_dma_memory_get(&rq, &self.m)
        if err:
            raise from_errno(err, refusal(length, page, numa, -err))
        return self

    def _map(self, ioas, iova, access):
        """Map all of it, for as long as it is there."""
        self.place = ioas.map(<uintptr_t>self.m.address, self.m.length, iova=iova, access=access, trusted=True)

    def __dealloc__(self):
        if self.m.address != NULL and not self.kept:
            iof_dma_memory_put(&self.m)

    def __del__(self):
        if self.place is None:
            return
        try:
            self.place.close()
        except Exception as error:  # devices still reach it
            self.kept = True
            warnings.warn(f"{self!r} cannot be unmapped and is never freed: {error}", ResourceWarning, stacklevel=2)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.m.address, self.m.length, 0, flags)

    def __reduce__(self):
        raise TypeError("cannot pickle DMA memory: it belongs to its process")

    def __len__(self):
        return self.m.length

    @property
    def mapping(self):
        """The `Mapping`, or None."""
        return self.place

    @property
    def address(self):
        """Address of the first byte."""
        return <uintptr_t>self.m.address

    @property
    def iova(self):
        """IOVA of the first byte."""
        return iova_at(self, <uintptr_t>self.m.address, 1)

    @property
    def page(self):
        """What it is made of: "4K", "thp", "2M" or "1G"."""
        return NAMES[<int>self.m.page]

    @property
    def missed(self):
        """The largest pages that "auto" wanted and did not get, or None."""
        return NAMES[<int>self.m.missed]

    @property
    def missed_errno(self):
        """Why not; 0 when nothing was missed."""
        return -self.m.why

    @property
    def huge_bytes(self):
        """Bytes in pages of 2 MiB or more, counted when it was made."""
        return self.m.huge_bytes

    @property
    def fd(self):
        """Descriptor of its memfd, or None; stays this object's."""
        return self.m.fd if self.m.fd >= 0 else None

    def __repr__(self):
        where = "not mapped" if self.place is None else f"IOVA {self.place.iova:#x}"
        return f"<DmaMemory {self.m.length:#x} bytes of {self.page} pages at {<uintptr_t>self.m.address:#x}, {where}>"


cdef str refusal(length, str page, numa, int err):
    wanted = f"{length:#x} bytes" + ("" if page == "auto" else f" in pages of kind {page!r}")
    if numa is not None:
        wanted += f" on NUMA node {numa}"
    return f"cannot allocate {wanted}: {remedy(length, page, err)}"


def remedy(length, page, err):
    """What to do so that pages of a kind are to be had."""
    size = {"2M": 1 << 21, "1G": 1 << 30}.get(page)
    count = -(-length // size) if size else 0
    if page == "2M":
        return f"reserve hugetlb pages: sysctl vm.nr_hugepages={count} (or more, if others use them)"
    if page == "1G":
        return (f"reserve them at boot (hugepagesz=1G hugepages={count}), or try: echo {count} > "
                "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")
    if page == "thp":
        return ("transparent huge pages take 2 MiB or more, free memory in one piece, and "
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
    if err == 22:
        return "there is no such NUMA node"
    return "not enough memory"


cdef uint64_t iova_at(DmaMemory self, uint64_t address, uint64_t size) except? 0xffffffffffffffff:
    cdef uint64_t start = <uintptr_t>self.m.address
    if not start <= address < start + self.m.length or size > self.m.length - (address - start):
        raise ValueError("this array is not in DMA memory; it is a copy")
    if self.place is None or self.place.state != LIVE:
        raise ValueError(f"{self!r} is not mapped any more")
    return self.place.at + (address - start)


def iova_of(cnp.ndarray array not None, memory):
    """The IOVA of an array's first byte, when all of it is one piece of that memory."""
    if memory is None:
        raise ValueError("this array is not in DMA memory; ioas.alloc() makes arrays that are")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_IS_F_CONTIGUOUS(array)):
        raise ValueError("the array is not contiguous: its elements have no common IOVA; take contiguous slices")
    return iova_at(<DmaMemory?>memory, <uintptr_t>cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
