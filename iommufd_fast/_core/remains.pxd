# SPDX-License-Identifier: Apache-2.0
"""Steps of a mapping's life: what it holds, taken out of it under the ledger's lock, to be dropped when that is no more held.

A Mapping is given as a bare pointer here, because no reference may be made to one that is found in a ledger: it may be
dying.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from iommufd_fast._core.capi cimport iof_handle, iof_ioas_mapping, iof_mapping_info
from iommufd_fast._core.holding cimport move_export, release
from iommufd_fast._core.ledger cimport Node, lock, remove, unlock
from iommufd_fast._core.mapping cimport LIVE, STALE, Mapping

cdef struct Remains:
    PyObject *owner
    Py_buffer view
    bint exported


cdef inline void take_out(PyObject *m, Remains *out) noexcept:
    """Take what it holds out of a mapping."""
    Py_INCREF((<Mapping>m).owner)  # the attribute's own is dropped by the assignment
    out.owner = <PyObject *>(<Mapping>m).owner
    (<Mapping>m).owner = None
    move_export(&(<Mapping>m).view, &(<Mapping>m).exported, &out.view, &out.exported)


cdef inline int let_remains_go(Remains *remains) except -1:
    """Drop them. May run any Python code."""
    Py_DECREF(<object>remains.owner)
    return release(&remains.view, &remains.exported)


cdef inline bint is_there(PyObject *m, iof_handle *h) noexcept:
    """Ask the engine whether the range is mapped as one, to the address that it was made for."""
    cdef iof_mapping_info info
    cdef Node *node = &(<Mapping>m).node
    if iof_ioas_mapping(h, (<Mapping>m).core.id, node.start, node.last, &info) != 0:
        return False
    return (info.iova == node.start and info.last == node.last
            and info.address == (<Mapping>m).base - ((<Mapping>m).at - node.start))


cdef inline object held_by(Mapping m):
    """The object whose memory it is. Another thread may be about to drop it."""
    if m.core is None:
        return m.owner
    lock(&m.core.ledger.books)
    owner = m.owner
    unlock(&m.core.ledger.books)
    return owner


cdef inline int retire(Mapping m) except -1:
    """It was unmapped by other means: let the memory go."""
    cdef Remains remains
    cdef bint live
    lock(&m.core.ledger.books)
    live = m.state == LIVE
    if live:
        remove(&m.core.ledger.books, &m.node)
        m.state = STALE
        take_out(<PyObject *>m, &remains)
    unlock(&m.core.ledger.books)
    return let_remains_go(&remains) if live else 0


cdef inline int require_live(Mapping m) except -1:
    if m.state != LIVE or m.parts is not None and m.stale:
        raise ValueError(f"{m!r} is not live any more")
    m.core.check()
    return 0
