# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""PageHolder: one container of the C core (csrc/pages), the buffer it is about, and a ledger of what Python holds.

The ledger is what makes a release safe: the core takes it on trust that an interval is released as often as it was
held. An interval is noted after it is held and struck off before it is released, so the ledger never says more than
the core.
"""
import warnings

cimport cython
from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t

from iommufd_fast._core._fail import fail
from iommufd_fast._core._slots import choice, u64

_POLICIES = {"trust": IOF_HOLD_TRUST, "probe": IOF_HOLD_PROBE}
_ACCOUNTINGS = {"none": IOF_ACCOUNT_NONE, "user": IOF_ACCOUNT_USER, "process": IOF_ACCOUNT_PROCESS}
_ADDRESSES = ("va", "synthetic")


cdef class Memory:
    def __cinit__(self):
        iof_alloc_init_heap(&self.alloc)
        self.va.alloc = self.synthetic.alloc = &self.alloc
        self.synthetic.address_mode = IOF_ADDRESS_SYNTHETIC
        if iof_accounts_create(&self.alloc, &self.accounts):
            raise MemoryError
        if iof_identities_create(&self.alloc, &self.synthetic.identities):
            raise MemoryError

    def __dealloc__(self):
        iof_identities_destroy(self.synthetic.identities)
        iof_accounts_destroy(self.accounts)


cdef Memory _memory = Memory()


cdef class PageHolder:
    """What `PinnedPages` is built on; see there."""

    def __cinit__(self, source, *, writable=None, policy="trust", accounting="none", address="va"):
        cdef uint64_t start, length
        cdef int rc
        self.policy = choice("policy", policy, _POLICIES)
        self.accounting = choice("accounting", accounting, _ACCOUNTINGS)
        self.address_mode = choice("address", address, _ADDRESSES)
        self.ledger = {}
        self.shared = _memory
        self.memory = &self.shared.va if address == "va" else &self.shared.synthetic
        if isinstance(source, tuple):
            if len(source) != 2:
                raise TypeError(f"source is {source!r}; as a tuple it is (address, length)")
            start, length = u64("address", source[0]), u64("length", source[1])
            writable = writable is None or bool(writable)
        else:
            PyObject_GetBuffer(source, &self.view, PyBUF_STRIDED_RO)
            self.has_view = True
            if not PyBuffer_IsContiguous(&self.view, b"A"):
                raise ValueError("the buffer is not contiguous, so its pages are not one range (copy it)")
            if writable and self.view.readonly:
                raise ValueError("the buffer is read-only; writable=True needs one that is not")
            start, length = <uintptr_t>self.view.buf, <uint64_t>self.view.len
            writable = not self.view.readonly if writable is None else bool(writable)
        if not length:
            raise ValueError("length is 0; there must be at least one byte")
        rc = iof_account_of_caller(self.shared.accounts, _ACCOUNTINGS[accounting], &self.account)
        if not rc:
            rc = iof_pages_init_user(&self.pages, self.memory, start, length, writable, _POLICIES[policy], self.account)
        if rc:
            fail(rc, f"PinnedPages of {length} bytes at {start:#x}")
        self.ready = True

    def __del__(self):
        if self.ready and self.ledger:
            warnings.warn(f"{self!r} went away with intervals held; close() it", ResourceWarning, source=self)
        if self.ready:
            self.close()

    def __dealloc__(self):
        if self.has_view:
            PyBuffer_Release(&self.view)

    cdef int enter(self) except -1:
        with cython.critical_section(self):
            if not self.ready:
                raise ValueError("these PinnedPages are closed")
            self.busy += 1
        return 0

    cdef int leave(self) except -1:
        with cython.critical_section(self):
            self.busy -= 1
        return 0

    cdef int note(self, object key, int by) except -1:
        """Counts an interval up or down in the ledger; false when it is not there to be counted down."""
        with cython.critical_section(self):
            n = self.ledger.get(key, 0) + by
            if n > 0:
                self.ledger[key] = n
            elif n == 0:
                del self.ledger[key]
            return n >= 0

    def slots(self, first, last):
        cdef uint64_t f = u64("first", first), l = self.pages.npages - 1 if last is None else u64("last", last)
        if f > l or l >= self.pages.npages:
            raise ValueError(f"slots {f}..{l}: allowed are first <= last <= {self.pages.npages - 1}")
        return f, l

    def hold(self, first=0, last=None):
        """Hold slots first to last, both included; the last slot when `last` is None.

        Raises
        ------
        OSError
            EFAULT: a page is not there, or not writable, and none of the slots is held more than before. ENOMEM: no
            memory, or the account's limit.
        """
        cdef uint64_t f, l
        cdef int rc = 0
        key = self.slots(first, last)
        f, l = key
        self.enter()
        try:
            if not iof_pages_swap(&self.pages, f, l, IOF_PAGES_EMPTY, IOF_PAGES_WHOLE):
                with nogil:
                    rc = iof_pages_hold(&self.pages, self.memory, f, l)
            if rc:
                fail(rc, f"hold of slots {f}..{l} of {self!r}")
            self.note(key, 1)
        finally:
            self.leave()

    def release(self, first=0, last=None):
        """Release an interval that was held with the same first and last; ValueError when there is none."""
        cdef uint64_t f, l
        key = self.slots(first, last)
        f, l = key
        self.enter()
        try:
            if not self.note(key, -1):
                raise ValueError(f"slots {f}..{l} are not held as one interval")
            if not iof_pages_swap(&self.pages, f, l, IOF_PAGES_WHOLE, IOF_PAGES_EMPTY):
                with nogil:
                    iof_pages_release(&self.pages, self.memory, f, l)
        finally:
            self.leave()

    @property
    def address(self):
        """The virtual address of slot 0."""
        return self.pages.base

    @property
    def writable(self):
        """Whether a device may write."""
        return bool(self.pages.writable)

    @property
    def closed(self):
        """Whether `close` has been called."""
        return not self.ready

    def __len__(self):
        return self.pages.npages

    @property
    def pinned(self):
        """Slots that are pinned now."""
        cdef uint64_t n
        with nogil:
            n = iof_pages_pinned(&self.pages)
        return n

    def close(self):
        """Release every interval, then the buffer. A second time does nothing.

        Raises
        ------
        RuntimeError
            Another thread is inside a method.
        """
        cdef uint64_t f, l
        with cython.critical_section(self):
            if not self.ready:
                return
            if self.busy:
                raise RuntimeError(f"{self!r} is in use by another thread")
            self.ready = False
        for (f, l), n in self.ledger.items():
            for _ in range(n):
                with nogil:
                    iof_pages_release(&self.pages, self.memory, f, l)
        self.ledger.clear()
        iof_pages_fini(&self.pages, self.memory)
        if self.has_view:
            self.has_view = False
            PyBuffer_Release(&self.view)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __repr__(self):
        state = f"{self.pinned} pinned" if self.ready else "closed"
        return (f"<{type(self).__name__} {self.pages.npages} pages at {self.pages.base:#x}, {self.policy}, "
                f"{self.accounting}, {self.address_mode}: {state}>")
