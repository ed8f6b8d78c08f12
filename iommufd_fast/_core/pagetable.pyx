# SPDX-License-Identifier: Apache-2.0
"""PageTable: an I/O page table in a hardware's own format, to map, unmap, translate and look at."""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset
from iommufd_fast._core.ptargs cimport *
from iommufd_fast._core.ptinspect cimport InspectableTable

from errno import EADDRINUSE, EEXIST, EINVAL, ENOMEM, ENXIO, ERANGE

import numpy as np

from iommufd_fast._core._fail import fail
from iommufd_fast._core.ptargs import Fault, Leaf
from iommufd_fast._core.ptinspect import Stats

__all__ = ["Fault", "Leaf", "PageTable", "Stats"]

_WHY = {
    EADDRINUSE: "something is mapped there; unmap it first",
    EEXIST: "something is mapped there; unmap it first",
    EINVAL: "length 0, a permission this format cannot express, or (ARM) not multiples of the smallest page size",
    ENOMEM: "no memory for a table",
    ENXIO: "iova, address and length must be multiples of the smallest page size",
    ERANGE: "iova or address is outside the table's width",
}


cdef object map_failed(int err, str what, uint64_t iova, uint64_t address, uint64_t length):
    fail(err, f"{what} {iova:#x}+{length:#x} to {address:#x}: {_WHY.get(-err, 'iova + length passes 2**64')}")


cdef object lengths_of(object lengths, Py_ssize_t n):
    """One length for all, or an array of n."""
    if hasattr(lengths, "__index__") and np.ndim(lengths) == 0:
        return np.full(n, pt_u64(lengths, "lengths"), np.uint64)
    return pt_array(lengths, "lengths", n)


cdef class PageTable(InspectableTable):
    """An I/O page table: IOVAs to addresses, in the bits that a given IOMMU reads.

    Parameters
    ----------
    format : {"vtdss", "amdv1", "x86_64", "riscv64", "riscv64_x4", "arm_s1", "arm_s2", "mock"}
        VT-d second stage; AMD host table; the CPU's own (VT-d first stage, AMDv2); RISC-V Sv39 to Sv57 and its second
        stage; ARM LPAE stages 1 and 2; AMD's host table with a 2 KiB granule.
    va_bits, oa_bits : int, optional
        Widths of IOVAs and of addresses; by default the widest of the format.
    top_level : int, optional
        Level of the first top table, 0 being the lowest. By default 3 for "amdv1" and 2 for "mock"; the others' follows
        from `va_bits`.
    page_sizes : int or iterable of int, optional
        The sizes leaves may have, in bytes (an int is a bit mask of them); by default all that the format has.
    granule : int, optional
        ARM: 4096, 16384 or 65536 bytes; a table is as large.
    force_coherent, force_writeable, growing_top : bool
        Features: the coherence bit in every leaf; refuse read-only maps (VT-d); let the top grow on demand (AMD).
    sign_extend : bool
        x86-64 and RISC-V: IOVAs are canonical; the upper half ends at 2**64 - 1.
    napot, pbmt : bool
        RISC-V: 64 KiB leaves; memory types in the leaves.
    hw_dirty, contiguous, force_write_back : bool
        ARM: dirty tracking in stage 1; leaves of several entries with the contiguous hint; stage 2 memory types as
        with FEAT_S2FWB.

    Raises
    ------
    OSError
        EINVAL or EOPNOTSUPP: the format has no such shape.

    Notes
    -----
    Every method may be called from any thread. Addresses of tables are addresses of this process.
    """

    def map(self, iova, address, length, prot="rw"):
        """Map [iova, iova + length) to [address, ...) with the largest leaves that fit; all of it or nothing.

        Raises
        ------
        OSError
            EADDRINUSE (ARM: EEXIST), EINVAL, ENXIO (alignment; ARM: EINVAL), EOVERFLOW, ERANGE, ENOMEM.
        """
        cdef uint64_t at = pt_u64(iova, "iova"), to = pt_u64(address, "address"), size = pt_u64(length, "length")
        cdef int err = self.c_map(at, to, size, pt_prot(prot))
        if err:
            map_failed(err, "map", at, to, size)

    def unmap(self, iova, length):
        """Remove whole leaves from `iova` up to the end of the range or the first gap.

        Returns
        -------
        int
            Bytes removed: 0 when `iova` is inside a leaf; more than `length` when the range ends inside one.
        """
        return self.c_unmap(pt_u64(iova, "iova"), pt_u64(length, "length"))

    def map_many(self, iovas, addresses, lengths, prot="rw"):
        """Map n ranges as one step for other writers: all of them or, on the first error, none. The GIL is released.

        Parameters
        ----------
        iovas, addresses : array_like of int, shape (n,)
        lengths : int or array_like of int, shape (n,)
        """
        iovas = pt_array(iovas, "iovas", -1)
        cdef size_t n = len(iovas), i
        addresses, lengths = pt_array(addresses, "addresses", n), lengths_of(lengths, n)
        cdef uint64_t *at = pt_data(iovas)
        cdef uint64_t *to = pt_data(addresses)
        cdef uint64_t *size = pt_data(lengths)
        cdef unsigned int bits = pt_prot(prot)
        cdef int err = 0
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        cdef iof_pt *pt = self.lock()
        with nogil:
            for i in range(n):
                err = iof_pt_map(pt, at[i], to[i], size[i], bits, &g)
                if err:
                    break
            else:
                i = n
            if err:
                for k in range(i):
                    iof_pt_unmap(pt, at[k], size[k], &g)
        self.unlock(&g)
        if err:
            map_failed(err, f"map_many, element {i} (nothing is mapped):", at[i], to[i], size[i])

    def unmap_many(self, iovas, lengths):
        """Unmap n ranges as one step for other writers; a short one does not end it. The GIL is released.

        Returns
        -------
        ndarray of uint64, shape (n,)
            Bytes removed of each, as unmap() returns them.
        """
        iovas = pt_array(iovas, "iovas", -1)
        cdef size_t n = len(iovas), i
        lengths, out = lengths_of(lengths, n), np.empty(n, np.uint64)
        cdef uint64_t *at = pt_data(iovas)
        cdef uint64_t *size = pt_data(lengths)
        cdef uint64_t *removed = pt_data(out)
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        cdef iof_pt *pt = self.lock()
        with nogil:
            for i in range(n):
                removed[i] = iof_pt_unmap(pt, at[i], size[i], &g)
        self.unlock(&g)
        return out

    def walk(self, iova):
        """The leaf that translates `iova`, as a Leaf, or None for a hole and outside the table."""
        cdef iof_pt_leaf leaf
        cdef unsigned int token
        cdef uint64_t at = pt_u64(iova, "iova")
        cdef int err = iof_pt_walk(self.enter(&token), at, &leaf)
        self.leave(token)
        return None if err else pt_leaf(&leaf)

    def translate(self, iova):
        """The address that `iova` translates to, or None."""
        cdef unsigned int prot = 0
        cdef uint64_t address = self.c_translate(pt_u64(iova, "iova"), &prot)
        return address if prot else None

    def translate_many(self, iovas):
        """Translate n IOVAs. The GIL is released.

        Returns
        -------
        addresses : ndarray of uint64, shape (n,)
            2**64-1 where nothing is mapped.
        prots : ndarray of uint8, shape (n,)
            1 readable, 2 writable, 3 both, 0 where nothing is mapped.
        """
        iovas = pt_array(iovas, "iovas", -1)
        cdef size_t n = len(iovas)
        addresses, prots = np.empty(n, np.uint64), np.empty(n, np.uint8)
        cdef uint64_t *at = pt_data(iovas)
        cdef uint64_t *to = pt_data(addresses)
        cdef uint8_t *bits = <uint8_t *>pt_data(prots)
        cdef unsigned int token
        cdef iof_pt *pt = self.enter(&token)
        with nogil:
            iof_pt_translate_many(pt, at, n, to, bits)
            self.leave(token)
        return addresses, prots

    @staticmethod
    def over(memory, *, format, root, **config):
        """A read-only walker over a table in memory that is not ours: see `ForeignPageTable`."""
        from iommufd_fast._core.ptforeign import ForeignPageTable

        return ForeignPageTable(memory, format=format, root=root, **config)
