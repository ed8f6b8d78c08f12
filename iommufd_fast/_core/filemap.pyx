# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Mapping files: the pages of a memfd, or of a dma-buf, with no address of this process in between."""
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint32_t, uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.mapping cimport Mapping
from iommufd_fast._core.origins cimport tracking

from iommufd_fast._core.origins import origin
from iommufd_fast.errors import failed

FILE = IOF_MAPPING_FILE  # the bit in a mapping's flags

cdef extern from "errno.h" nogil:
    enum:
        ENOMEM

cdef uint64_t IN_PAGE = 4095


def map_file(IoasCore ioas not None, int32_t fd, offset, length, iova, uint32_t flags):
    """Map the whole pages in which [offset, offset + length) of a file lies; see Ioas.map_file."""
    cdef iof_cmd_ioas_map_file c
    cdef Mapping m = Mapping.__new__(Mapping)
    cdef uint64_t inside, whole
    cdef int err
    ioas.check()
    m.base, m.size = u64(offset, "offset"), u64(length, "length")
    m.core, m.flags, m.file = ioas, flags, True
    if m.size == 0:
        raise ValueError("cannot map 0 bytes: length must be at least 1")
    inside = m.base & IN_PAGE
    if m.size - 1 > <uint64_t>-1 - m.base or m.size > <uint64_t>-1 - inside - IN_PAGE:
        raise ValueError(f"offset {m.base:#x} + length {m.size:#x} wraps around 2**64")
    whole = (inside + m.size + IN_PAGE) & ~IN_PAGE
    if iova is not None:
        m.at, flags = u64(iova, "iova"), flags | IOF_MAP_FIXED_IOVA
        if (m.at ^ inside) & IN_PAGE:
            raise ValueError(f"iova {m.at:#x} must have the file's offset in its page, {inside:#x}: "
                             f"for example {m.at & ~IN_PAGE | inside:#x}")
    c = iof_cmd_ioas_map_file(sizeof(c), flags, ioas.id, fd, m.base - inside, whole,
                              m.at - inside if iova is not None else 0)
    err = ioas.handle.submit(IOF_CMD_IOAS_MAP_FILE, &c)
    if err < 0:
        where = f" at IOVA {m.at:#x}" if iova is not None else ""
        what = f"cannot map {m.size:#x} bytes at offset {m.base:#x} of descriptor {fd}{where} into IOAS {ioas.id}"
        raise refused(ioas, err, what, m.size)
    m.at = c.iova + inside
    m.node.start, m.node.last, m.node.owner = c.iova, c.iova + (whole - 1), <PyObject *>m
    if tracking:
        m.origin = origin()
    m.enlist()
    return m


cdef refused(IoasCore ioas, int err, str what, uint64_t size):
    if not ioas.handle.kernel:
        return failed(err, "map_file", what)
    from iommufd_fast.remedies import memlock

    return failed(err, "kernel map_file", what, memlock=memlock(size) if err == -ENOMEM else "")
