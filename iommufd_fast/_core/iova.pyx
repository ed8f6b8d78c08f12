# SPDX-License-Identifier: Apache-2.0
"""IovaSpace: choosing, holding and finding I/O virtual addresses, without anything else of the package."""
from libc.errno cimport ENOSPC
from libc.stdint cimport uint64_t
from libc.stdlib cimport free as c_free, malloc as c_malloc

from iommufd_fast._core.args cimport data, u64, u64_array
from iommufd_fast._core.capi_iova cimport *
from iommufd_fast._core.iovacore cimport SpaceCore

from collections import namedtuple

import numpy as np

from iommufd_fast._core._fail import fail

cdef enum:
    CHUNK = 64

IovaStats = namedtuple("IovaStats", "live entries leaves inner_nodes height index_bytes memory_bytes nodes_searched")
IovaStats.__doc__ = """What an `IovaSpace` holds.

``live`` ranges that are out; ``entries`` of the index (recycle: windows, reserved ranges and inserted ranges) in ``leaves``
and ``inner_nodes``, ``height`` levels; ``index_bytes`` in its nodes, ``memory_bytes`` altogether; ``nodes_searched``: nodes that
searches for holes have looked into since the space was made.
"""


cdef class IovaSpace(SpaceCore):
    """A space of I/O virtual addresses: which are used, which are reserved, and where the next range goes.

    Parameters
    ----------
    policy : {"recycle", "first_fit"}
        ``recycle`` rounds lengths up to powers of two (at least 4096) and hands out what was freed last, in a few nanoseconds.
        ``first_fit`` gives the lowest address that fits, by the rule of Linux's iommufd.
    granule : int
        Alignment of everything, a power of two up to 2 MiB. Lengths are rounded up to it.

    Notes
    -----
    Thread-safe; batches of a ``recycle`` space run side by side, each thread with magazines of its own. What lies in them is free for whoever asks, and
    for whoever needs it when the space is full. A forked child has the space as it was, but nobody else's batch goes on there. Ranges are ``(start, last)``, both inclusive; an address may reach 2**64-1. Automatic placement keeps away from the
    first and the last 4 KiB. Errors of the space are OSError with an errno: ENOSPC no room, EEXIST meets a used range, EINVAL
    meets a reserved one, EADDRINUSE, ENOENT nothing there, ENOMEM. A closed space raises ValueError.
    """

    def ranges(self):
        """The ranges that are not reserved, ascending: a list of (start, last)."""
        cdef size_t n = 16, i, there
        cdef iof_range *c
        while True:
            c = <iof_range *>c_malloc(n * sizeof(iof_range))
            if c == NULL:
                raise MemoryError()
            try:
                self.enter()
                there = iof_space_ranges(self.space, c, n)
                iof_lock_drop(&self.lock)
                if there <= n:
                    return [(c[i].start, c[i].last) for i in range(there)]
            finally:
                c_free(c)
            n = there

    def find(self, iova):
        """The range in use that covers `iova`, as (start, last), or None."""
        cdef uint64_t at = u64(iova, "iova")
        cdef iof_range r
        cdef bint there
        self.enter()
        there = self.look(at, &r)
        iof_lock_drop(&self.lock)
        return (r.start, r.last) if there else None

    def first_hole(self, length, *, align_like=0):
        """Where ``first_fit`` would put `length` bytes now, or None. Nothing is taken. Other arguments and errors as `alloc`'s."""
        cdef uint64_t n = u64(length, "length"), addr = u64(align_like, "align_like"), iova = 0
        cdef int rc
        self.enter()
        rc = self.place(n, addr, &iova)
        iof_lock_drop(&self.lock)
        if rc == -ENOSPC:
            return None
        if rc:
            fail(rc, f"first_hole of {n} bytes (granule {self.granule}, align_like 0x{addr:x})")
        return iova

    def used(self, start=0, last=0xffffffffffffffff):
        """Iterate over the ranges in use that meet ``[start, last]``, ascending. Each step looks anew: the space may change meanwhile."""
        cdef uint64_t at = u64(start, "start"), end = u64(last, "last")
        return self._used(at, end)

    def _used(self, uint64_t at, uint64_t end):
        cdef iof_range r
        cdef iof_range rest
        cdef bint there
        while at <= end:
            rest.start = at
            rest.last = end
            self.enter()
            there = self.first(rest, &r)
            iof_lock_drop(&self.lock)
            if not there:
                return
            yield r.start, r.last
            if r.last >= end:
                return
            at = r.last + 1

    def holes(self):
        """Iterate over the maximal ranges that are neither used nor reserved, ascending; recycle's idle slots count as holes."""
        for start, last in self.ranges():
            for first, end in self._used(start, last):
                if first > start:
                    yield start, first - 1
                start = end + 1
            if start <= last:
                yield start, last

    def __iter__(self):
        return self._used(0, 0xffffffffffffffff)

    def __len__(self):
        self.enter()
        n = self.live()
        iof_lock_drop(&self.lock)
        return n

    def __contains__(self, iova):
        return self.find(iova) is not None

    def __repr__(self):
        policy = "first_fit" if self.recycle == NULL else "recycle"
        try:
            return f"<IovaSpace {policy} granule={self.granule} live={len(self)}>"
        except ValueError:
            return "<IovaSpace closed>"

    def alloc_many(self, lengths, *, align_like=0):
        """Take one range per length: all, or none and an error. Runs without the GIL.

        Parameters
        ----------
        lengths : array_like of int, shape (n,)
        align_like : int, optional
            As for `alloc`, the same for all.

        Returns
        -------
        numpy.ndarray of uint64, shape (n,)
        """
        cdef uint64_t addr = u64(align_like, "align_like")
        wanted = u64_array(lengths, "lengths")
        out = np.empty(len(wanted), dtype=np.uint64)
        cdef const uint64_t *n = data(wanted)
        cdef uint64_t *iova = data(out)
        cdef Py_ssize_t i = 0, count = len(wanted)
        cdef int rc
        self.enter_batch()
        with nogil:
            rc = self.take_many(n, count, addr, iova, &i)
            self.leave_batch()
        if rc:
            fail(rc, f"alloc_many: lengths[{i}] is {n[i]}; nothing was taken")
        return out

    def free_many(self, iovas, lengths):
        """Give ranges back; a bad one does not stop the others, the error names the first. Runs without the GIL.

        Parameters
        ----------
        iovas, lengths : array_like of int, shape (n,)
        """
        where = u64_array(iovas, "iovas")
        sizes = u64_array(lengths, "lengths")
        if len(where) != len(sizes):
            raise ValueError(f"iovas has {len(where)} elements, lengths {len(sizes)}; they must be as many")
        cdef const uint64_t *at = data(where)
        cdef const uint64_t *n = data(sizes)
        cdef Py_ssize_t i, bad = -1, refused = 0, count = len(where)
        cdef int rc, first_rc = 0
        self.enter_batch()
        with nogil:
            for i in range(count):
                rc = self.give_one(at[i], n[i])
                if rc:
                    refused += 1
                    if bad < 0:
                        bad = i
                        first_rc = rc
            self.leave_batch()
        if refused:
            fail(first_rc, f"free_many: {refused} of {count} refused, the first iovas[{bad}] = 0x{at[bad]:x}")

    def find_many(self, iovas):
        """The ranges in use that cover each of `iovas`. Runs without the GIL.

        Parameters
        ----------
        iovas : array_like of int, shape (n,)

        Returns
        -------
        start, last : numpy.ndarray of uint64, shape (n,)
            1 and 0 where nothing covers the address.
        """
        cdef iof_index_entry e[CHUNK]
        where = u64_array(iovas, "iovas")
        starts = np.empty(len(where), dtype=np.uint64)
        lasts = np.empty(len(where), dtype=np.uint64)
        cdef const uint64_t *at = data(where)
        cdef uint64_t *start = data(starts)
        cdef uint64_t *last = data(lasts)
        cdef Py_ssize_t i = 0, k, n, count = len(where)
        self.enter()
        with nogil:
            while i < count:
                n = min(count - i, <Py_ssize_t>CHUNK)
                self.look_many(at + i, n, e)
                for k in range(n):
                    start[i + k] = e[k].range.start
                    last[i + k] = e[k].range.last
                i += n
            iof_lock_drop(&self.lock)
        return starts, lasts

    def stats(self):
        """An `IovaStats`."""
        cdef iof_index_stats_t st
        self.enter()
        iof_space_stats(self.space, &st)
        n = self.live()
        iof_lock_drop(&self.lock)
        return IovaStats(n, st.entries, st.leaves, st.inner_nodes, st.height, st.bytes, self.heap.live_bytes, st.visited)

    def is_valid(self):
        """Re-derive everything inside and compare; slow, for tests."""
        cdef bint ok
        self.enter(alone=True)
        with nogil:
            ok = iof_space_is_valid(self.space) and (self.magazines == NULL or iof_magazines_is_valid(self.magazines))
            iof_lock_drop(&self.lock)
        return ok
