# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Pinned-page bookkeeping: `PinnedPages`, a buffer's pages and who holds which of them.

The counting is the C core's (csrc/pages), one container with its ledger is pageholder.pyx; here are batches over
NumPy arrays and what can be asked.
"""
from libc.stdint cimport uint64_t, uintptr_t

from iommufd_fast._core.pageholder cimport (
    PageHolder, iof_account_locked, iof_identities_is_valid, iof_identity_pins, iof_pages_address, iof_pages_covered,
    iof_pages_hold, iof_pages_holds, iof_pages_intervals, iof_pages_is_valid, iof_pages_release,
)

import numpy as np

from iommufd_fast._core._fail import fail
from iommufd_fast._core._slots import u64_array


cdef const uint64_t *_data(array) except? NULL:
    return <const uint64_t *><uintptr_t>array.ctypes.data


cdef class PinnedPages(PageHolder):
    """The pages behind a buffer or an address range, and the intervals of them that are held.

    The range is cut into *slots* of 4096 bytes, starting at the address rounded down. A slot is pinned once however
    many intervals cover it, and released when the last of them goes.

    Parameters
    ----------
    source : buffer or (int, int)
        A contiguous object with the buffer protocol, which is kept alive and exported until `close`, or (address,
        length in bytes) of memory that the caller looks after.
    writable : bool, optional
        Whether a device may write. By default what the buffer allows; True for an address.
    policy : {"trust", "probe"}
        "trust" does not look at the memory. "probe" touches pages when they are pinned (and writes each page's first
        byte back when `writable`); a page that is not there is an error.
    accounting : {"none", "user", "process"}
        Whose count of locked pages is charged, up to RLIMIT_MEMLOCK.
    address : {"va", "synthetic"}
        Device addresses are virtual addresses, or made from file and offset (or process and address), so that two
        mappings of the same page have the same. Looking those up reads /proc/self/maps: some 30 us for a hold that
        pins.

    Raises
    ------
    TypeError
        `source` is neither; an integer argument is no integer.
    ValueError
        An empty, non-contiguous or (with ``writable=True``) read-only buffer; an unknown word.
    OSError
        EOVERFLOW: the range passes 2^64.

    Notes
    -----
    Methods may be called from several threads. The GIL is released while the core works, except for the plain case of
    one hold of everything. All objects of a process share one table of accounts and one synthetic address space.
    """

    def held(self, first=0, last=None):
        """A context manager that holds first to last while it is entered."""
        return Held(self, *self.slots(first, last))

    def _intervals(self, first, last):
        """Two arrays of equal length, and all their intervals inside the container."""
        first, last = u64_array("first", first), u64_array("last", last)
        if first.shape != last.shape:
            raise ValueError(f"first has {first.size} elements, last has {last.size}; they must be as many")
        wrong = np.flatnonzero((first > last) | (last >= np.uint64(self.pages.npages)))
        if wrong.size:
            i = wrong[0]
            raise ValueError(f"interval {i} is {first[i]}..{last[i]}: "
                             f"allowed are first <= last <= {self.pages.npages - 1}")
        return first, last

    def hold_many(self, first, last):
        """Hold many intervals, all or none of them.

        Parameters
        ----------
        first, last : array_like of uint64, shape (n,)
            Slots, both ends included.

        Raises
        ------
        OSError
            As `hold`; the message and ``.index`` say which interval failed. Those before it have been released again.
        """
        first, last = self._intervals(first, last)
        cdef const uint64_t *f = _data(first)
        cdef const uint64_t *l = _data(last)
        cdef Py_ssize_t done = 0, undo, n = first.size
        cdef int rc = 0
        self.enter()
        try:
            with nogil:
                while done < n and not rc:
                    rc = iof_pages_hold(&self.pages, self.memory, f[done], l[done])
                    done += not rc
                if rc:
                    for undo in range(done):
                        iof_pages_release(&self.pages, self.memory, f[undo], l[undo])
            if rc:
                try:
                    fail(rc, f"hold_many: interval {done}, slots {first[done]}..{last[done]} of {self!r}; none held")
                except OSError as error:
                    error.index = done
                    raise
            for key in zip(first.tolist(), last.tolist()):
                self.note(key, 1)
        finally:
            self.leave()

    def release_many(self, first, last):
        """Release many intervals, each held before with the same ends.

        Raises
        ------
        ValueError
            One was not; the message names the first. None is released then.
        """
        first, last = self._intervals(first, last)
        cdef const uint64_t *f = _data(first)
        cdef const uint64_t *l = _data(last)
        cdef Py_ssize_t i = 0, n = first.size
        self.enter()
        try:
            keys = list(zip(first.tolist(), last.tolist()))
            while i < n and self.note(keys[i], -1):
                i += 1
            if i < n:
                for key in keys[:i]:
                    self.note(key, 1)
                raise ValueError(f"interval {i} (slots {first[i]}..{last[i]}) is not held; none was released")
            with nogil:
                for i in range(n):
                    iof_pages_release(&self.pages, self.memory, f[i], l[i])
        finally:
            self.leave()

    def runs(self, first=0, last=None):
        """Device addresses of held slots, as runs of contiguous ones.

        Returns
        -------
        addresses, npages : ndarray of uint64
            Of each run the device address of its first byte, and its length in pages.

        Raises
        ------
        ValueError
            One of the slots is not held.
        """
        cdef uint64_t f, l, at, end, n, start, got = 0
        cdef int rc
        f, l = self.slots(first, last)
        addresses, npages = [], []
        self.enter()
        try:
            with nogil:
                n = iof_pages_covered(&self.pages, f, l)
            if n != l - f + 1:
                raise ValueError(f"slot {f + n} is not held; it has a device address only while it is")
            with nogil:
                rc = iof_pages_hold(&self.pages, self.memory, f, l)  # nobody can take them away in between
            if rc:
                fail(rc, f"runs of slots {f}..{l} of {self!r}")
            at, end = f << 12, (l << 12) + 4095
            while True:
                with nogil:
                    start = iof_pages_address(&self.pages, self.memory, at, end - at + 1, &got)
                addresses.append(start)
                npages.append(got >> 12)
                if got > end - at:
                    break
                at += got
            with nogil:
                iof_pages_release(&self.pages, self.memory, f, l)
        finally:
            self.leave()
        return np.array(addresses, np.uint64), np.array(npages, np.uint64)

    def holds(self, slot):
        """How many intervals cover a slot."""
        cdef uint64_t n, s = self.slots(slot, slot)[0]
        with nogil:
            n = iof_pages_holds(&self.pages, s)
        return n

    def pins(self, slot):
        """How many `PinnedPages` have this held slot's page pinned. Only synthetic addresses can tell."""
        if self.memory.identities == NULL:
            raise ValueError("pins are counted per page with address='synthetic' only")
        cdef uint64_t n, address = self.runs(slot, slot)[0][0]
        with nogil:
            n = iof_identity_pins(self.memory.identities, address)
        return n

    def is_valid(self):
        """Re-derive every count and index from the others. For tests."""
        cdef bint ok
        cdef uint64_t n
        with nogil:
            n = iof_pages_intervals(&self.pages)
            ok = iof_pages_is_valid(&self.pages, self.memory)
            if ok and self.memory.identities != NULL:
                ok = iof_identities_is_valid(self.memory.identities)
        return ok and sum(self.ledger.values()) == n

    def stats(self):
        """A dict of counts: slots, pinned slots, intervals held, and pages charged to the account by everybody."""
        cdef uint64_t n
        with nogil:
            n = iof_pages_intervals(&self.pages)
        return {"npages": self.pages.npages, "pinned": self.pinned, "intervals": n,
                "charged": iof_account_locked(self.account)}


cdef class Held:
    """An interval of a `PinnedPages`, held while this is entered. Made by `PinnedPages.held`."""
    def __cinit__(self, PinnedPages pages not None, uint64_t first, uint64_t last):
        self.pages, self.first, self.last = pages, first, last

    def __enter__(self):
        self.pages.hold(self.first, self.last)
        return self

    def __exit__(self, *exc):
        self.pages.release(self.first, self.last)
