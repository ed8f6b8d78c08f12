# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""What happens to many handles at once: those in a range that something else unmapped, and those of a copy."""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport IOF_MAPPING_FILE
from iommufd_fast._core.channel cimport begin_on, end_on
from iommufd_fast._core.ledger cimport Home, Node, Visit, lock, remove, unlock, visit
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.mapping cimport LIVE, STALE, Mapping
from iommufd_fast._core.remains cimport Remains, is_there, let_remains_go, take_out
from iommufd_fast._core.threads cimport pass_in, pass_out


cdef struct Found:
    Found *next
    Remains of  # of one that is alive still: a reference to its owner, and whether that is exported


cdef struct Search:
    Found *lost
    Found *kept
    iof_handle *h  # NULL: all are gone
    bint failed  # no memory


cdef Found *note(Search *search, Found **list) noexcept:
    cdef Found *found = <Found *>malloc(sizeof(Found))
    if found == NULL:
        search.failed = True
        return NULL
    found.next, list[0] = list[0], found
    return found


cdef int retire_node(Node *node, void *arg) noexcept:
    """Its memory was unmapped by other means: the handle becomes stale, what it held goes into a list."""
    cdef Found *found = note(<Search *>arg, &(<Search *>arg).lost)
    if found == NULL:
        return 1
    remove(&(<Mapping>node.owner).core.ledger.books, node)
    (<Mapping>node.owner).state = STALE
    take_out(node.owner, &found.of)
    return 0


cdef int retire_unless_there(Node *node, void *arg) noexcept:
    if (<Search *>arg).h != NULL and is_there(node.owner, (<Search *>arg).h):
        return 0
    return retire_node(node, arg)


cdef int keep_owner(Node *node, void *arg) noexcept:
    cdef Found *found
    if (<Mapping>node.owner).owner is None:
        return 0
    found = note(<Search *>arg, &(<Search *>arg).kept)
    if found == NULL:
        return 1
    Py_INCREF((<Mapping>node.owner).owner)
    found.of.owner = <PyObject *>(<Mapping>node.owner).owner
    found.of.exported = (<Mapping>node.owner).exported
    return 0


cdef int let_all_go(Found *found) except -1:
    cdef Remains one
    cdef Found *rest
    while found != NULL:
        one, rest = found.of, found.next
        free(found)
        found = rest
        let_remains_go(&one)
    return 0


def sweep(Home home not None, uint64_t start, uint64_t last):
    """After something else unmapped in a range: handles that lost their memory become stale."""
    cdef Search search = Search(NULL, NULL, NULL, False)
    cdef bint inside
    if home.ledger.books.count == 0:
        return
    inside = home.gone is None and home.handle.born == forks and pass_in(&home.handle.gate)
    if inside:
        search.h = home.handle.h
    elif home.gone is None:
        home.check()
    lock(&home.ledger.books)
    visit(&home.ledger.books, start, last, retire_node, retire_unless_there, &search)
    unlock(&home.ledger.books)
    if inside:
        pass_out(&home.handle.gate)
    let_all_go(search.lost)
    if search.failed:
        raise MemoryError


def holders(Home home not None, uint64_t start, uint64_t last):
    """What keeps the memory behind a range alive: buffer exports and references of their own."""
    cdef Search search = Search(NULL, NULL, NULL, False)
    cdef Found *found
    lock(&home.ledger.books)
    visit(&home.ledger.books, start, last, retire_node, keep_owner, &search)
    unlock(&home.ledger.books)
    kept = []
    try:
        let_all_go(search.lost)
        found = search.kept
        while found != NULL:
            owner = <object>found.of.owner
            kept.append(memoryview(owner) if found.of.exported else owner)
            found = found.next
    finally:
        forget(search.kept)
    if search.failed:
        raise MemoryError
    return kept


cdef void forget(Found *found) noexcept:
    """Give the references of keep_owner() back; each owner is held by somebody else too, or dropped here."""
    cdef Found *rest
    while found != NULL:
        rest = found.next
        Py_DECREF(<object>found.of.owner)
        free(found)
        found = rest


def adopt(Home home not None, uint64_t iova, uint64_t length, uint32_t flags, list owners, made):
    """A handle for what a copy has just mapped: as many mappings as it was before, under one handle."""
    cdef iof_mapping_info info
    cdef uint64_t at = iova, last = iova + (length - 1)
    cdef list parts = []
    cdef Mapping whole
    while True:
        home.check()
        begin_on(home.handle)
        found = iof_ioas_mapping(home.handle.h, home.id, at, last, &info)
        end_on(home.handle)
        if found != 0:
            break
        whole = piece(home, info.iova, info.last, info.address, flags, owners, made)
        whole.file = (info.flags & IOF_MAPPING_FILE) != 0
        whole.enlist()
        parts.append(whole)
        if info.last >= last:
            break
        at = info.last + 1
    if len(parts) == 1:
        return parts[0]
    whole = piece(home, iova, last, parts[0].address if parts else 0, flags, owners, made)
    whole.parts, whole.state = tuple(parts), LIVE
    whole.file = len(parts) > 0 and (<Mapping>parts[0]).file
    return whole


cdef Mapping piece(Home home, uint64_t start, uint64_t last, uint64_t address, uint32_t flags, list owners, made):
    cdef Mapping m = Mapping.__new__(Mapping)
    m.core, m.owner, m.origin, m.flags = home, owners or None, made, flags
    m.at, m.size, m.base = start, last - start + 1, address
    m.node.start, m.node.last, m.node.owner = start, last, <PyObject *>m
    return m
