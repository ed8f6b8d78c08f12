# SPDX-License-Identifier: Apache-2.0
"""SpaceShared: what threads share of an IovaSpace: its lock, its magazines, and what a fork does to them."""
from libc.stdint cimport uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi_iova cimport *

import os
import weakref

from iommufd_fast._core._fail import fail

cdef extern from "<sched.h>" nogil:
    int sched_yield()

_spaces = weakref.WeakSet()  # all that there are, for forks
_held = []  # those of them that are locked while this process forks


def _before_fork():
    _held.extend(_spaces)
    for space in _held:
        space._before_fork()


def _after_fork(child):
    while _held:
        _held.pop()._after_fork(child)


os.register_at_fork(before=_before_fork, after_in_parent=lambda: _after_fork(False), after_in_child=lambda: _after_fork(True))


cdef class SpaceShared:
    """The space in C, and who may be at it; see `IovaSpace`."""

    def __cinit__(self, *, str policy="recycle", granule=4096):
        cdef int rc
        if policy not in ("recycle", "first_fit"):
            raise ValueError(f"policy is {policy!r}; it must be 'recycle' or 'first_fit'")
        self.granule = u64(granule, "granule")
        if not iof_is_pow2(self.granule) or self.granule > IOF_SPACE_CAP:
            raise ValueError(f"granule is {self.granule}; it must be a power of two up to {IOF_SPACE_CAP}")
        self.shared = policy == "recycle"
        iof_alloc_init_heap(&self.heap)
        iof_lock_init(&self.lock, False)
        rc = iof_space_create(&self.heap, &self.space)
        if not rc and self.shared:
            rc = iof_recycle_create(&self.heap, self.space, self.granule, &self.recycle)
            if not rc:
                rc = iof_magazines_create(&self.heap, self.recycle, &self.lock, &self.magazines)
        if rc:
            fail(rc, "no memory for an IovaSpace")
        _spaces.add(self)

    def __dealloc__(self):
        iof_magazines_destroy(self.magazines)
        iof_recycle_destroy(self.recycle)
        iof_space_destroy(self.space)

    cdef void take_alone(self) noexcept nogil:
        iof_lock_take(&self.lock)
        while self.users:
            iof_lock_drop(&self.lock)
            sched_yield()
            iof_lock_take(&self.lock)

    cdef int enter(self, bint alone=False) except -1:
        if alone:
            with nogil:
                self.take_alone()
        elif not iof_lock_try(&self.lock):
            with nogil:
                iof_lock_take(&self.lock)
        if self.space == NULL:
            iof_lock_drop(&self.lock)
            raise ValueError("this IovaSpace is closed")
        return 0

    cdef int enter_batch(self) except -1:
        self.enter()
        self.users = self.users + 1
        iof_lock_drop(&self.lock)
        return 0

    cdef void leave_batch(self) noexcept nogil:
        iof_lock_take(&self.lock)
        self.users = self.users - 1
        iof_lock_drop(&self.lock)

    def close(self):
        """Free everything. Closing twice is allowed; any other call afterwards raises ValueError."""
        with nogil:
            self.take_alone()
        iof_magazines_destroy(self.magazines)
        iof_recycle_destroy(self.recycle)
        iof_space_destroy(self.space)
        self.magazines = NULL
        self.recycle = NULL
        self.space = NULL
        iof_lock_drop(&self.lock)

    def _before_fork(self):
        """Nobody else is in the midst of a change when this process forks."""
        with nogil:
            iof_lock_take(&self.lock)

    def _after_fork(self, bint child):
        if child:
            self.users = 0
            if self.magazines != NULL:
                iof_magazines_forked(self.magazines)
        iof_lock_drop(&self.lock)
