# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""What happens to many handles at once: those in a range that something else unmapped, and those of a copy."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ledger cimport Home
from iommufd_fast._core.mapping cimport LIVE, Mapping, is_there, retire


cdef list present(Home home, uint64_t start, uint64_t last):
    """The live handles that intersect a range. Those whose place was taken by another meanwhile become stale."""
    cdef list evicted = []
    cdef list found = home.ledger.collect(start, last, evicted)
    for m in evicted:
        retire(m)
    return found


def sweep(Home home not None, uint64_t start, uint64_t last):
    """After something else unmapped in a range: handles that lost their memory become stale."""
    cdef Mapping m
    if home.ledger.count == 0:
        return
    for m in present(home, start, last):
        if m.state == LIVE and (home.gone is not None or not is_there(m)):
            retire(m)


def holders(Home home not None, uint64_t start, uint64_t last):
    """What keeps the memory behind a range alive: buffer exports and references of their own."""
    cdef Mapping m
    kept = []
    for m in present(home, start, last):
        if m.owner is not None:
            kept.append(memoryview(m.owner) if m.exported else m.owner)
    return kept


def adopt(Home home not None, uint64_t iova, uint64_t length, uint32_t flags, list owners, made):
    """A handle for what a copy has just mapped: as many mappings as it was before, under one handle."""
    cdef iof_mapping_info info
    cdef uint64_t at = iova, last = iova + (length - 1)
    cdef list parts = []
    cdef Mapping whole
    home.check()
    while iof_ioas_mapping(home.handle.h, home.id, at, last, &info) == 0:
        whole = piece(home, info.iova, info.last, info.address, flags, owners, made)
        whole.enlist()
        parts.append(whole)
        if info.last >= last:
            break
        at = info.last + 1
    if len(parts) == 1:
        return parts[0]
    whole = piece(home, iova, last, parts[0].address if parts else 0, flags, owners, made)
    whole.parts, whole.state = tuple(parts), LIVE
    return whole


cdef Mapping piece(Home home, uint64_t start, uint64_t last, uint64_t address, uint32_t flags, list owners, made):
    cdef Mapping m = Mapping.__new__(Mapping)
    m.core, m.owner, m.origin, m.flags = home, owners or None, made, flags
    m.at, m.size, m.base = start, last - start + 1, address
    m.node.start, m.node.last, m.node.owner = start, last, <PyObject *>m
    return m
