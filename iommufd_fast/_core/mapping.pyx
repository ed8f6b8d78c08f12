# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Mapping one range, and what keeps its memory alive: the hot path of the control plane.

A Mapping *holds* its memory (a reference for an ndarray, a buffer export for everything else) from before the engine
maps it until after the engine has unmapped it, whoever asked for that. It is LIVE, BUSY while one thread unmaps it,
CLOSED by its own unmap(), or STALE: unmapped by other means. State, memory and ledger change together, under the lock of
the ledger; the memory is dropped after that. `at`, `size`, `base` and the rest stay as they were when it became LIVE.

An object is mapped by whole pages, because page tables know nothing smaller: `at` and `size` are the object's bytes,
the node's range is what is mapped. Of a file nothing is held, since the engine does; `base` is the offset in it.

No Cython free list: it keeps the "finalized" mark of an object that it hands out again, and then a forgotten mapping
would not be unmapped. Python's own allocator is as good (6 ns).
"""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport Handle, begin_on, end_on
from iommufd_fast._core.holding cimport release
from iommufd_fast._core.ledger cimport add, leave, lock, remove, unlock
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.remains cimport Remains, held_by, is_there, let_remains_go, require_live, retire, take_out
from iommufd_fast._core.threads cimport pause, quick_in, quick_out

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
    """Memory that devices reach at `iova`. Made by `Ioas.map` and the like; a context manager, for any thread."""

    def __init__(self):
        raise TypeError("a Mapping is made by ioas.map(buffer)")

    def __dealloc__(self):
        # A visitor that wrote its state may still be at work. There is none of what the garbage collector took apart.
        if self.core is not None and self.core.ledger is not None:
            leave(&self.core.ledger.books, &self.node)
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
        """Address of the first byte in this process; None for a file."""
        return None if self.file else self.base

    @property
    def offset(self):
        """Where in its file the first byte is; None for memory."""
        return self.base if self.file else None

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
        return held_by(self)

    @property
    def closed(self):
        """Whether it is unmapped, by its own close() or otherwise."""
        return self.state in (CLOSED, STALE) or self.stale and not any([not p.closed for p in self.parts or ()])

    @property
    def stale(self):
        """Whether it was unmapped by other means: a range, a batch, the raw door, its IOAS closed, or by C code."""
        if self.parts is not None:
            return self.state == LIVE and any([p.stale for p in self.parts])
        if self.state == LIVE and self.core.handle.born == forks:
            begin_on(self.core.handle)
            there = is_there(<PyObject *>self, self.core.handle.h)
            end_on(self.core.handle)
            if not there:
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
        if self.core is not None and self.core.handle.born != forks:
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
        plain = "file" if self.file else "plain memory"
        owner = held_by(self)
        kind = plain if owner is None else type(owner).__name__
        where = "" if self.core is None else f" in IOAS {self.core.id}"
        state = "stale" if self.parts is not None and self.stale else STATES[self.state]
        return (f"<Mapping {state}: IOVA {self.at:#x}+{self.size:#x} {self.access}{where}, "
                f"{kind} at {self.base:#x}>")

    def __del__(self):
        if self.state != LIVE:
            return
        if self.core.handle.born != forks:
            self.let_go()
            return
        text = repr(self)
        try:
            self.finish()
        except Exception as error:  # still mapped: memory that devices reach must never be freed
            text += f" ({error}; its memory is never freed)"
            if self.parts is None:
                leave(&self.core.ledger.books, &self.node)
            Py_INCREF(self.owner)
            self.state, self.exported = CLOSED, False
        leaked(text, self.origin, self)

    cdef int let_go(self) except -1:
        """Drop the memory. Last step always: this may run any Python code."""
        cdef Remains remains
        lock(&self.core.ledger.books)
        take_out(<PyObject *>self, &remains)
        unlock(&self.core.ledger.books)
        return let_remains_go(&remains)

    cdef int enlist(self) except -1:
        """It is mapped: from now on it is LIVE. Its home may have gone meanwhile."""
        lock(&self.core.ledger.books)
        if self.core.gone is None:
            self.state = LIVE
            add(&self.core.ledger.books, &self.node)
        unlock(&self.core.ledger.books)
        if self.state == NEW:
            self.let_go()
            self.core.refuse()
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
        cdef iof_cmd_ioas_unmap c
        cdef State was
        cdef Remains remains
        cdef bint gone
        cdef int err
        while True:
            if self.core.handle.born != forks or not quick_in(&self.core.handle.gate):
                self.core.handle.refuse()
            lock(&self.core.ledger.books)
            was = self.state
            if was == LIVE:
                self.state = BUSY
                remove(&self.core.ledger.books, &self.node)
            unlock(&self.core.ledger.books)
            if was == LIVE:
                break
            quick_out(&self.core.handle.gate)
            if was != BUSY:
                return 0
            pause(10)  # another thread does it
        c = iof_cmd_ioas_unmap(sizeof(c), self.core.id, self.node.start, self.node.last - self.node.start + 1)
        err = iof_ioctl_nowait(self.core.handle.h, IOF_CMD_IOAS_UNMAP, &c)
        if err == -EAGAIN:
            err = self.core.handle.again(IOF_CMD_IOAS_UNMAP, &c, False)
        quick_out(&self.core.handle.gate)
        lock(&self.core.ledger.books)
        gone = err == 0 or err == -ENOENT
        if gone:
            self.state = STALE if err else CLOSED
            take_out(<PyObject *>self, &remains)
        else:
            self.state = LIVE
            add(&self.core.ledger.books, &self.node)
        unlock(&self.core.ledger.books)
        if gone:
            let_remains_go(&remains)
        return err
