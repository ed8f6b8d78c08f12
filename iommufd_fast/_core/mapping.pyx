# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""Mapping one range, and what keeps its memory alive: the hot path of the control plane.

A Mapping *holds* its memory (a reference for an ndarray, a buffer export for everything else) from before the
engine maps it until after
the engine has unmapped it, whoever asked for that. It is LIVE, BUSY while one thread unmaps it, CLOSED by its own
unmap(), or STALE: unmapped by other means. Changes of state and ledger happen under the GIL with no Python code
between.

An object is mapped by whole pages, because page tables know nothing smaller: `at` and `size` are the object's bytes,
the node's range is what is mapped.

There is no Cython free list here: it keeps the "finalized" mark of an object that it hands out again, and then a
forgotten
mapping would not be unmapped. Python's own allocator is as good (6 ns).
"""
cimport cython
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.holding cimport release
from iommufd_fast._core.machines cimport fork_count

import time

from iommufd_fast._core.origins import leaked
from iommufd_fast.errors import NotFound, failed

cdef extern from "errno.h" nogil:
    enum:
        EAGAIN
        ENOENT

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
        release(&self.view, &self.exported)  # of one that never became live

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
        return self.state in (CLOSED, STALE) or self.stale and not any([not p.closed for p in self.parts or ()])

    @property
    def stale(self):
        """Whether it was unmapped by other means: a range, a batch, the raw door, its IOAS closed, or by C code."""
        if self.parts is not None:
            return self.state == LIVE and any([p.stale for p in self.parts])
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
        stale = self.parts is not None and self.stale
        self.finish()
        if stale or self.state == STALE:
            raise NotFound(ENOENT, f"{self!r} was unmapped by other means already; close() accepts that")

    def close(self):
        """Unmap, if it still is mapped. Idempotent; in a forked child it only lets the memory go."""
        if self.core is not None and self.core.handle.born != fork_count():
            self.let_go()
        else:
            self.finish()
        for part in self.parts or ():
            part.close()
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
        state = "stale" if self.parts is not None and self.stale else STATES[self.state]
        return (f"<Mapping {state}: IOVA {self.at:#x}+{self.size:#x} {self.access}{where}, "
                f"{kind} at {self.base:#x}>")

    def __del__(self):
        if self.state != LIVE:
            return
        if self.core.handle.born != fork_count():
            self.let_go()
            return
        text = repr(self)
        try:
            self.finish()
        except Exception as error:  # still mapped: memory that devices reach must never be freed
            text += f" ({error}; its memory is never freed)"
            if self.parts is None:
                self.core.ledger.remove(&self.node)
            Py_INCREF(self.owner)
            self.state, self.exported = CLOSED, False
        leaked(text, self.origin, self)

    cdef int let_go(self) except -1:
        """Drop the memory. Last step always: this may run any Python code."""
        owner, self.owner = self.owner, None
        release(&self.view, &self.exported)
        return 0

    cdef int enlist(self) except -1:
        """It is mapped: from now on it is LIVE. Its home may have gone while the GIL was released."""
        if self.core.gone is not None:
            self.let_go()
            raise ValueError(self.core.gone)
        self.state = LIVE
        self.core.ledger.add(&self.node)
        return 0

    cdef int finish(self) except -1:
        """Unmap if it is mapped: CLOSED or STALE afterwards."""
        cdef Mapping part
        cdef int err = 0
        if self.parts is not None and self.state == LIVE:
            for part in self.parts:
                part.finish()
            self.state = CLOSED
            self.let_go()
        elif self.state == LIVE or self.state == BUSY:
            err = self.take_down()
        if err != 0 and self.state != STALE:
            raise failed(err, "unmap", f"cannot unmap {self!r}")
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
    if m.state != LIVE or m.parts is not None and m.stale:
        raise ValueError(f"{m!r} is not live any more")
    m.core.check()
    return 0


cdef bint is_there(Mapping m) except -1:
    """Ask the engine whether the range is mapped as one, to the address that it was made for."""
    cdef iof_mapping_info info
    cdef Handle h = m.core.handle
    h.check()
    if iof_ioas_mapping(h.h, m.core.id, m.node.start, m.node.last, &info) != 0:
        return False
    return (info.iova == m.node.start and info.last == m.node.last
            and info.address == m.base - (m.at - m.node.start))


cdef int retire(Mapping m) except -1:
    """It was unmapped by other means: let the memory go."""
    if m.node.prev != NULL:
        m.core.ledger.remove(&m.node)
    m.state = STALE
    return m.let_go()
