# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""Mapping one range, and what keeps its memory alive: the hot path of the control plane.

A Mapping *holds* its memory (a reference for an ndarray, a buffer export for everything else) from before the engine maps it until after
the engine has unmapped it, whoever asked for that. It is LIVE, BUSY while one thread unmaps it, CLOSED by its own
unmap(), or STALE: unmapped by other means. Changes of state and ledger happen under the GIL with no Python code between.

An object is mapped by whole pages, because page tables know nothing smaller: `at` and `size` are the object's bytes,
the node's range is what is mapped.

There is no Cython free list here: it keeps the "finalized" mark of an object that it hands out again, and then a forgotten
mapping would not be unmapped. Python's own allocator is as good (6 ns).
"""
cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport Handle, fork_count
from iommufd_fast._core.ledger cimport Home

import time

from iommufd_fast._core.origins import leaked
from iommufd_fast.errors import NotFound, failed

cdef extern from "errno.h" nogil:
    enum:
        EAGAIN
        ENOENT

cdef enum:
    NEW, LIVE, BUSY, CLOSED, STALE
cdef tuple STATES = ("new", "live", "being unmapped", "closed", "stale")
cdef tuple ACCESS = ("", "", "w", "", "r", "", "rw", "")  # by IOF_MAP_READABLE | IOF_MAP_WRITEABLE


@cython.no_gc_clear
cdef class Mapping:
    """Memory that devices reach at `iova`. Made by `Ioas.map` and `Ioas.copy_to`; a context manager.

    Safe to use from several threads.
    """

    def __init__(self):
        raise TypeError("a Mapping is made by ioas.map(buffer)")

    def __dealloc__(self):
        if self.exported:  # it never became live
            PyBuffer_Release(&self.view)

    @property
    def ioas(self):
        """The Ioas it is mapped in."""
        return self.core

    @property
    def iova(self):
        """IOVA of the first byte."""
        return self.at

    @property
    def length(self):
        """Bytes of the memory that was asked for."""
        return self.size

    @property
    def address(self):
        """Address of the first byte in this process."""
        return self.base

    @property
    def access(self):
        """What devices may do: "r", "w" or "rw"."""
        return ACCESS[self.flags & 6]

    @property
    def range(self):
        """(start, last) of the IOVAs that are mapped: whole pages for objects."""
        return self.node.start, self.node.last

    @property
    def memory(self):
        """The object whose memory is mapped (None for plain addresses and after unmap)."""
        return self.owner

    @property
    def closed(self):
        """Whether it is unmapped, by its own close() or otherwise."""
        return self.state in (CLOSED, STALE) or self.stale

    @property
    def stale(self):
        """Whether it was unmapped by other means: a range, a batch, the raw door, its IOAS closed, or by C code."""
        if self.state == LIVE and not self.core.handle.forked and not is_there(self):
            retire(self)
        return self.state == STALE

    def translate(self, offset=0):
        """The address that the first page table of the IOAS gives for a byte of this mapping, or None."""
        cdef uint64_t where = u64(offset, "offset")
        if where >= self.size:
            raise ValueError(f"offset must be in 0..{self.size - 1}, not {where}")
        require_live(self)
        return self.core.translate_one(self.at + where)

    def unmap(self):
        """Unmap and let the memory go. Again is fine; one that is stale raises `NotFound`."""
        cdef int err
        if self.state == CLOSED or self.state == NEW:
            return
        if self.state == LIVE or self.state == BUSY:
            err = self.take_down()
            if err != 0 and self.state != STALE:
                raise failed(err, "unmap", f"cannot unmap {self!r}")
        if self.state == STALE:
            raise NotFound(ENOENT, f"{self!r} was unmapped by other means already; close() accepts that")

    def close(self):
        """Unmap, if it still is mapped. Idempotent; in a forked child it only lets the memory go."""
        if self.core is not None and self.core.handle.born != fork_count():
            self.let_go()
            self.state = CLOSED
            return
        if self.state == LIVE or self.state == BUSY:
            err = self.take_down()
            if err != 0 and self.state != STALE:
                raise failed(err, "unmap", f"cannot unmap {self!r}")
        if self.state == STALE:
            self.state = CLOSED

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self!r}: it belongs to its process; map there")

    def __enter__(self):
        require_live(self)
        return self

    def __exit__(self, *exc):
        self.close()

    def __len__(self):
        return self.size

    def __repr__(self):
        kind = "plain memory" if self.owner is None else type(self.owner).__name__
        where = "" if self.core is None else f" in IOAS {self.core.id}"
        state = STATES[self.state]
        return (f"<Mapping {state}: IOVA {self.at:#x}+{self.size:#x} {self.access}{where}, "
                f"{kind} at {self.base:#x}>")

    def __del__(self):
        cdef int err
        if self.state != LIVE:
            return
        if self.core.handle.born != fork_count():
            self.let_go()
            return
        text = repr(self)
        err = self.take_down()
        if err != 0 and self.state == LIVE:  # still mapped: memory that devices reach must never be freed
            self.core.ledger.remove(&self.node)
            self.state = CLOSED
            Py_INCREF(self.owner)
            self.exported = False
            text += f" (unmap failed with errno {-err}; its memory is never freed)"
        leaked(text, self.origin, self)

    cdef int let_go(self) except -1:
        """Drop the memory. Last step always: this may run any Python code."""
        cdef Py_buffer view
        owner, self.owner = self.owner, None
        if self.exported:
            view, self.exported = self.view, False
            memset(&self.view, 0, sizeof(view))
            PyBuffer_Release(&view)
        return 0

    cdef int enlist(self) except -1:
        """It is mapped: from now on it is LIVE. Its home may have gone while the GIL was released."""
        if self.core.gone is not None:
            self.let_go()
            raise ValueError(self.core.gone)
        self.state = LIVE
        self.core.ledger.add(&self.node)
        return 0

    cdef int take_down(self) except? -1:
        """Unmap in the engine: 0 or -errno. Afterwards CLOSED, STALE, or LIVE as before when it was refused."""
        cdef Handle h = self.core.handle
        cdef iof_cmd_ioas_unmap c
        cdef int err
        h.check()
        while self.state == BUSY:  # another thread does it
            time.sleep(10e-6)
        if self.state != LIVE:
            return 0
        self.state = BUSY
        self.core.ledger.remove(&self.node)
        c = iof_cmd_ioas_unmap(sizeof(c), self.core.id, self.node.start, self.node.last - self.node.start + 1)
        err = iof_ioctl_nowait(h.h, IOF_CMD_IOAS_UNMAP, &c)
        if err == -EAGAIN:
            err = h.raw(IOF_CMD_IOAS_UNMAP, &c)
        if err == 0:
            self.state = CLOSED
        elif err == -ENOENT:
            self.state = STALE
        else:
            self.state = LIVE
            self.core.ledger.add(&self.node)
            return err
        self.let_go()
        return err


cdef int require_live(Mapping m) except -1:
    if m.state != LIVE:
        raise ValueError(f"{m!r} is {STATES[m.state]}")
    m.core.check()
    return 0


cdef bint is_there(Mapping m) except -1:
    """Ask the engine whether all of the mapping's range is mapped, to the address it was made for."""
    cdef iof_mapping_info info
    cdef uint64_t at = m.node.start
    cdef Handle h = m.core.handle
    while True:
        h.check()
        if iof_ioas_mapping(h.h, m.core.id, at, m.node.last, &info) != 0 or info.iova > at or info.last > m.node.last:
            return False
        if at == m.node.start and info.address != m.base - (m.at - m.node.start):
            return False
        if info.last == m.node.last:
            return True
        at = info.last + 1


cdef int retire(Mapping m) except -1:
    """It was unmapped by other means, at least in part: unmap what is left of a copy's pieces, and let the memory go."""
    cdef Handle h = m.core.handle
    cdef iof_cmd_ioas_unmap c
    m.core.ledger.remove(&m.node)
    m.state = STALE
    if m.pieces:
        c = iof_cmd_ioas_unmap(sizeof(c), m.core.id, m.node.start, m.node.last - m.node.start + 1)
        h.raw(IOF_CMD_IOAS_UNMAP, &c)
    m.let_go()
    return 0


cdef int outlive(Mapping m) except -1:
    """Its address space is gone, and with it the mapping."""
    if m.state == LIVE:
        m.core.ledger.remove(&m.node)
        m.state = STALE
        m.let_go()
    return 0


def sweep(Home home not None, uint64_t start, uint64_t last):
    """After something else unmapped in a range: handles that lost their memory become stale."""
    cdef Mapping m
    cdef list evicted = []
    if home.ledger.count == 0:
        return
    found = home.ledger.collect(start, last, evicted)
    for m in evicted:  # not in the ledger any more: another mapping has their place
        m.state = STALE
        m.let_go()
    for m in found:
        if m.state == LIVE and (home.gone is not None or not is_there(m)):
            if home.gone is not None:
                outlive(m)
            else:
                retire(m)


def holders(Home home not None, uint64_t start, uint64_t last):
    """What keeps the memory behind a range alive: buffer exports and references of their own."""
    cdef Mapping m
    kept = []
    for m in home.ledger.collect(start, last, []):
        kept.append(memoryview(m.owner) if m.exported else m.owner)
    return [k for k in kept if k is not None]


def adopt(Home home not None, uint64_t iova, uint64_t length, uint64_t address, uint32_t flags, owner, made):
    """A handle for what a copy has just mapped; its source may have been several mappings."""
    cdef Mapping m = Mapping.__new__(Mapping)
    m.core, m.owner, m.origin, m.flags, m.pieces = home, owner or None, made, flags, True
    m.at, m.size, m.base = iova, length, address
    m.node.start, m.node.last, m.node.owner = iova, iova + (length - 1), <PyObject *>m
    m.enlist()
    return m
