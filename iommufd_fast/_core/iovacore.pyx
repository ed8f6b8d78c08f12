# SPDX-License-Identifier: Apache-2.0
"""SpaceCore: the half of IovaSpace that changes one thing at a time.

Every method takes the space's own lock for as long as it runs in C. With the GIL held the lock is only tried; when another
thread has it, the GIL is released and only then does this one wait. Batches run without the GIL; those of a recycle space take from magazines of their
thread, without the lock.
"""
from libc.errno cimport EINVAL, ENOENT
from libc.stdint cimport uint64_t
from libc.stdlib cimport free as c_free, malloc as c_malloc

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi_iova cimport *
from iommufd_fast._core.iovashared cimport SpaceShared

from iommufd_fast._core._fail import fail

cdef uint64_t U64_MAX = 0xffffffffffffffff


cdef iof_range span(object start, object last) except *:
    cdef iof_range r
    r.start = u64(start, "start")
    r.last = u64(last, "last")
    if r.start > r.last:
        raise ValueError(f"start 0x{r.start:x} is above last 0x{r.last:x}; both belong to the range")
    return r


cdef class SpaceCore(SpaceShared):
    """One change at a time; see `IovaSpace`, which adds batches and iteration."""

    cdef int place(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil:
        cdef uint64_t size
        if not iof_align_up(length, self.granule, &size):
            size = U64_MAX  # refused as too long, with the errno for that
        return iof_space_place(self.space, addr, size, self.granule, iova)

    cdef int take(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil:
        cdef iof_range r
        cdef uint64_t size
        cdef int rc
        if self.recycle != NULL and not addr:
            return iof_magazines_take(self.magazines, length, iova)
        rc = self.place(length, addr, iova)
        if rc:
            return rc
        iof_align_up(length, self.granule, &size)
        iof_range_make(iova[0], size, &r)
        return iof_space_insert(self.space, r, 0)

    cdef int give(self, uint64_t iova, uint64_t length) noexcept nogil:
        cdef iof_index_entry e
        cdef iof_range r
        cdef uint64_t size
        cdef int rc = -ENOENT
        if self.recycle != NULL:
            rc = iof_magazines_give(self.magazines, iova, length)
        if rc != -ENOENT:
            return rc
        if not length or not iof_align_up(length, self.granule, &size) or iof_range_make(iova, size, &r):
            return -EINVAL
        if not iof_space_find(self.space, iova, &e) or e.value:
            return -ENOENT
        if e.range.start != r.start or e.range.last != r.last:
            return -ENOENT
        iof_space_remove(self.space, iova)
        return 0

    cdef int take_many(self, const uint64_t *n, Py_ssize_t count, uint64_t addr, uint64_t *iova, Py_ssize_t *failed) noexcept nogil:
        cdef bint locked = not self.shared or addr
        cdef Py_ssize_t i = 0, k
        cdef int rc = 0
        if locked:
            iof_lock_take(&self.lock)
        while i < count and not rc:
            rc = self.take(n[i], addr, &iova[i]) if locked else iof_magazine_take(self.magazines, n[i], &iova[i])
            i += not rc
        for k in range(i if rc else 0):
            if locked:
                self.give(iova[k], n[k])
            else:
                iof_magazine_give(self.magazines, iova[k], n[k])
        if locked:
            iof_lock_drop(&self.lock)
        failed[0] = i
        return rc

    cdef int give_one(self, uint64_t iova, uint64_t length) noexcept nogil:
        cdef int rc
        if self.shared and not iof_magazine_give(self.magazines, iova, length):
            return 0
        iof_lock_take(&self.lock)
        rc = self.give(iova, length)
        iof_lock_drop(&self.lock)
        return rc

    cdef bint look(self, uint64_t at, iof_range *out) noexcept nogil:
        cdef iof_index_entry e
        if self.recycle != NULL:
            return iof_magazines_find(self.magazines, at, out)
        if not iof_space_find(self.space, at, &e):
            return False
        out[0] = e.range
        return True

    cdef bint first(self, iof_range inside, iof_range *out) noexcept nogil:
        cdef iof_index_entry e
        if self.recycle != NULL:
            return iof_magazines_first(self.magazines, inside, out)
        if not iof_space_first(self.space, inside, &e):
            return False
        out[0] = e.range
        return True

    cdef void look_many(self, const uint64_t *at, size_t n, iof_index_entry *out) noexcept nogil:
        cdef size_t i
        if self.recycle == NULL:
            iof_space_find_entries(self.space, at, n, out)
            return
        for i in range(n):
            if not iof_magazines_find(self.magazines, at[i], &out[i].range):
                out[i].range.start = 1
                out[i].range.last = 0

    cdef uint64_t live(self) noexcept nogil:
        if self.recycle == NULL:
            return iof_space_areas(self.space)
        return iof_recycle_live(self.recycle) - iof_magazines_held(self.magazines)

    def alloc(self, length, *, align_like=0):
        """Take a range of `length` bytes and return its first address.

        Parameters
        ----------
        length : int
            Bytes, at least 1.
        align_like : int, optional
            The address of the memory to be mapped: the IOVA gets its alignment, up to 2 MiB, and ``first_fit`` decides where. 0: as aligned
            as the length.

        Raises
        ------
        OSError
            ENOSPC: no hole is large enough. EOVERFLOW: `length` is 0 or above 2**63-2. EINVAL: `align_like` is not a
            multiple of the granule. ENOMEM.
        """
        cdef uint64_t n = u64(length, "length"), addr = u64(align_like, "align_like"), iova = 0
        cdef int rc
        if not n:
            raise ValueError("length is 0; it must be at least 1")
        self.enter()
        rc = self.take(n, addr, &iova)
        iof_lock_drop(&self.lock)
        if rc:
            fail(rc, f"alloc of {n} bytes (granule {self.granule}, align_like 0x{addr:x})")
        return iova

    def free(self, iova, length):
        """Give a range back. `length` is the one it was taken with. ENOENT: no such range; EINVAL: free already."""
        cdef uint64_t at = u64(iova, "iova"), n = u64(length, "length")
        cdef int rc
        if not n:
            raise ValueError("length is 0; it must be the length the range was taken with")
        self.enter()
        rc = self.give(at, n)
        iof_lock_drop(&self.lock)
        if rc:
            fail(rc, f"free of {n} bytes at 0x{at:x}: no range that was taken so begins there")

    def insert(self, start, last):
        """Take exactly ``[start, last]``, on granule boundaries. EEXIST: meets a used range; EINVAL: meets a reserved one."""
        cdef iof_range r = span(start, last)
        cdef uint64_t low = self.granule - 1
        cdef int rc
        if r.start & low or r.last & low != low:
            raise ValueError(f"[0x{r.start:x}, 0x{r.last:x}] is not on boundaries of the granule {self.granule}")
        self.enter()
        rc = iof_space_insert(self.space, r, 0)
        iof_lock_drop(&self.lock)
        if rc:
            fail(rc, f"insert of [0x{r.start:x}, 0x{r.last:x}]")

    def reserve(self, start, last, owner=0):
        """Reserve ``[start, last]`` for `owner` (an integer); may overlap other reserved ranges. EADDRINUSE: meets used or allowed ones."""
        cdef iof_range r = span(start, last)
        cdef uint64_t who = u64(owner, "owner")
        cdef int rc
        self.enter()
        if self.recycle != NULL:
            iof_magazines_trim(self.magazines)  # windows that nobody uses are no reason to refuse
        rc = iof_space_reserve(self.space, r, who)
        iof_lock_drop(&self.lock)
        if rc:
            fail(rc, f"reserve of [0x{r.start:x}, 0x{r.last:x}]")

    def unreserve(self, owner=0):
        """Drop every reserved range of `owner`; the ranges of others stay."""
        cdef uint64_t who = u64(owner, "owner")
        self.enter()
        iof_space_unreserve(self.space, who)
        iof_lock_drop(&self.lock)

    def allow(self, ranges):
        """Confine automatic placement to `ranges`, a sequence of (start, last); an empty one lifts it. EINVAL: overlap; EADDRINUSE: reserved."""
        cdef size_t n, i
        cdef iof_range *c
        cdef int rc
        pairs = [(u64(start, "start"), u64(last, "last")) for start, last in ranges]
        n = len(pairs)
        c = <iof_range *>c_malloc((n + 1) * sizeof(iof_range))
        if c == NULL:
            raise MemoryError()
        try:
            for i in range(n):
                c[i].start, c[i].last = pairs[i]
            self.enter()
            rc = iof_space_allow(self.space, c, n)
            if not rc and self.recycle != NULL:
                iof_magazines_retire(self.magazines)
            iof_lock_drop(&self.lock)
        finally:
            c_free(c)
        if rc:
            fail(rc, f"allow of {n} ranges: each start below its last, no overlap, nothing reserved")

    def trim(self):
        """Give windows that nobody uses back to the space (recycle; first_fit has none)."""
        self.enter()
        if self.recycle != NULL:
            iof_magazines_trim(self.magazines)
        iof_lock_drop(&self.lock)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
