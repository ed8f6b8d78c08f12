# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Scatter lists: many buffers at one range of IOVAs, under one handle that is made of a handle for each."""
cimport numpy as cnp
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.args cimport data, u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_dma cimport *
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.holding cimport hold
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.mapping cimport LIVE, Mapping
from iommufd_fast._core.origins cimport tracking

import numpy as np

from iommufd_fast._core.origins import origin

cnp.import_array()

cdef uint64_t IN_PAGE = 4095
cdef uint64_t LAST_PAGE = <uint64_t>-1 - 4095


cdef Mapping piece(IoasCore ioas, entry, Py_ssize_t i, uint32_t flags):
    """A handle that holds its memory and is not mapped yet."""
    cdef Mapping m = Mapping.__new__(Mapping)
    m.core, m.flags = ioas, flags & ~<uint32_t>IOF_MAP_FIXED_IOVA
    if isinstance(entry, tuple):
        if len(entry) != 2:
            raise TypeError(f"entry {i} is a tuple of {len(entry)}; it must be (address, length)")
        m.base, m.size = u64(entry[0], f"address of entry {i}"), u64(entry[1], f"length of entry {i}")
    else:
        hold(entry, (flags & IOF_MAP_WRITEABLE) != 0, &m.view, &m.exported, &m.base, &m.size)
        m.owner = entry
    if m.size == 0:
        raise ValueError(f"entry {i} is empty")
    if m.base > LAST_PAGE or m.size - 1 > LAST_PAGE - m.base:
        raise ValueError(f"entry {i}: address {m.base:#x} + length {m.size:#x} wraps around 2**64")
    return m


cdef int check_place(Mapping m, Py_ssize_t i, Py_ssize_t n) except -1:
    """What lies between two entries must be pages' edges."""
    if i and m.base & IN_PAGE:
        raise ValueError(f"entry {i} begins at {m.base:#x}, inside a page; only the first may")
    if i < n - 1 and (m.base + m.size) & IN_PAGE:
        raise ValueError(f"entry {i} ends at {m.base + m.size:#x}, inside a page; only the last may")
    return 0


def map_sg(IoasCore ioas not None, entries, iova, uint32_t flags, trusted):
    """Map buffers one behind the other; see Ioas.map_sg."""
    cdef Mapping whole = Mapping.__new__(Mapping)
    cdef Mapping m
    cdef iof_map_sg_args sg
    cdef Handle h = ioas.handle
    cdef int err
    cdef Py_ssize_t i, n
    ioas.check()
    parts = [piece(ioas, entry, i, flags) for i, entry in enumerate(entries)]
    n = len(parts)
    if not n:
        raise ValueError("cannot map an empty list")
    addresses, lengths, iovas = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    raw = False
    for i in range(n):
        m = parts[i]
        check_place(m, i, n)
        data(addresses)[i], data(lengths)[i] = m.base, m.size
        raw = raw or m.owner is None
    sg = iof_map_sg_args(ioas.id, flags, policy_of(raw, trusted), n, data(addresses), data(lengths), 0, data(iovas), 0)
    if iova is not None:
        sg.iova, sg.flags = u64(iova, "iova"), flags | IOF_MAP_FIXED_IOVA
        if (sg.iova ^ data(addresses)[0]) & IN_PAGE:
            raise ValueError(f"iova {sg.iova:#x} must have the first entry's offset in its page, "
                             f"{data(addresses)[0] & IN_PAGE:#x}")
    h.enter()
    with nogil:
        err = iof_map_sg(h.h, &sg)
    h.leave()
    if err:
        entry = f"entry {sg.failed} of " if sg.failed < <size_t>n else ""
        raise ioas._refused(err, f"cannot map {entry}a list of {n} into IOAS {ioas.id}", int(lengths.sum()), sg.policy,
                            sg.failed if sg.failed < <size_t>n else None)
    return finish(whole, parts, iovas, sg.iova)


cdef Mapping finish(Mapping whole, list parts, iovas, uint64_t iova):
    """Everything is mapped: the handles become live."""
    cdef Mapping m = parts[0]
    cdef Py_ssize_t i
    whole.core, whole.flags, whole.at, whole.base = m.core, m.flags, iova, m.base
    if tracking:
        whole.origin = origin()
    for i in range(len(parts)):
        m = parts[i]
        m.at = data(iovas)[i]
        m.node.start, m.node.last = m.at & ~IN_PAGE, (m.at + (m.size - 1)) | IN_PAGE
        m.node.owner, m.origin = <PyObject *>m, whole.origin
        whole.size += m.size
        m.enlist()
    whole.node.start, whole.node.last = iova & ~IN_PAGE, m.node.last
    whole.node.owner = <PyObject *>whole
    whole.parts, whole.state = tuple(parts), LIVE
    return whole


cdef iof_policy policy_of(bint raw, trusted) except *:
    if trusted is None:
        return IOF_POLICY_PROBE if raw else IOF_POLICY_DEFAULT
    return IOF_POLICY_TRUST if trusted else IOF_POLICY_PROBE
