# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Machines, and how many forks lie behind this process.

The count is raised in the child by pthread_atfork, so that a handle finds out with a comparison and no system call
that it was
copied by fork().
"""
from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.threads cimport is_shut, open_gate, pass_in, pass_out, shut_gate, wait_until_empty

from iommufd_fast.errors import forked

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

PRESETS = {"intel": 1, "amd": 2, "arm": 3, "riscv": 4}
POLICIES = {"trust": 1, "probe": 2, "mlock": 3, "io_uring": 4}
ADDRESSES = {"va": 0, "synthetic": 1}
ACCOUNTING = {"none": 0, "user": 1, "process": 2, "kernel": 3}

forks = 0


cdef void in_child() noexcept nogil:
    global forks
    forks += 1


if pthread_atfork(NULL, NULL, in_child) != 0:
    raise MemoryError("pthread_atfork")


cdef unsigned long fork_count() noexcept nogil:
    return forks


def generation():
    """How many forks lie between this process and the one that imported the package."""
    return forks


def as_u64(value, str name, uint64_t most=0xffffffffffffffff):
    """Check an unsigned integer argument and return it as an int.

    Raises
    ------
    TypeError
        A float, a bool, or anything else without ``__index__``.
    ValueError
        Negative or greater than `most`.
    """
    cdef uint64_t number = u64(value, name)
    if number > most:
        raise ValueError(f"{name} must be in 0..{most:#x}, not {number:#x}")
    return number


cdef class MachineHandle:
    """A reference to a C machine. Made by `create_machine`. Calls pass its gate, so that close() drops it after the last."""

    def __cinit__(self):
        shut_gate(&self.gate)

    def __dealloc__(self):
        if self.m != NULL and self.born == forks:
            iof_machine_put(self.m)
        self.m = NULL

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self.name}: it belongs to its process; open one there")

    cdef int check(self) except -1:
        if self.born != forks:
            forked(self.name)
        if is_shut(&self.gate):
            raise ValueError(f"{self.name} is closed")
        return 0

    cdef int enter(self) except -1:
        """Before anything is done with `m`; leave() after it."""
        self.check()
        if not pass_in(&self.gate):
            raise ValueError(f"{self.name} is closed")
        return 0

    cdef int leave(self) except -1:
        pass_out(&self.gate)
        return 0

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    @property
    def closed(self):
        return is_shut(&self.gate)

    @property
    def forked(self):
        """Whether this handle came here by fork()."""
        return self.born != forks

    def close(self):
        """Drop the reference. Open files keep the machine alive. In a forked child nothing is touched."""
        cdef iof_machine *m
        if not shut_gate(&self.gate):
            return
        if self.born == forks:
            wait_until_empty(&self.gate)
        m, self.m = self.m, NULL
        if self.born == forks:
            iof_machine_put(m)

    def plug(self, int preset, group=None):
        cdef uint32_t index = 0
        cdef uint32_t into = UINT32_MAX if group is None else <uint32_t>as_u64(group, "group", UINT32_MAX - 1)
        cdef int err
        self.enter()
        err = iof_machine_plug(self.m, <iof_preset>preset, into, &index)
        self.leave()
        if err < 0:
            return err
        return index

    def device(self, uint32_t index):
        """(index, group, preset number, name, open, bound), or a negative errno."""
        cdef iof_machine_device d
        cdef int err
        self.enter()
        err = iof_machine_device_at(self.m, index, &d)
        self.leave()
        if err < 0:
            return err
        return (d.index, d.group, <int>d.preset, (<bytes>d.name).decode(), bool(d.open), bool(d.bound))

    def device_count(self):
        self.enter()
        n = iof_machine_device_count(self.m)
        self.leave()
        return n

    def group_count(self):
        self.enter()
        n = iof_machine_group_count(self.m)
        self.leave()
        return n

    def is_valid(self):
        self.enter()
        valid = iof_machine_is_valid(self.m)
        self.leave()
        return bool(valid)

    def pins(self, address):
        cdef uint64_t va = u64(address, "address")
        self.enter()
        n = iof_machine_pins(self.m, va)
        self.leave()
        return n

    def iotlb(self):
        cdef iof_iotlb_stats_out s
        cdef int err
        self.enter()
        err = iof_iotlb_stats(self.m, &s)
        self.leave()
        if err < 0:
            return err
        return (s.hits, s.misses, s.evictions, s.invalidations, s.dropped, s.entries, s.live)

    def drop_invalidations(self, bint drop):
        self.enter()
        iof_iotlb_drop_invalidations(self.m, drop)
        self.leave()


def create_machine(int preset, groups, int policy, int addresses, int accounting, str name, str policy_name):
    """Create a C machine: a MachineHandle, or a negative errno."""
    cdef iof_machine_config cfg
    cdef size_t i, n = len(groups)
    cdef uint32_t *counts = <uint32_t *>calloc(n + 1, sizeof(uint32_t))
    cdef MachineHandle self = MachineHandle.__new__(MachineHandle)
    if counts == NULL:
        raise MemoryError
    try:
        for i in range(n):
            counts[i] = groups[i]
        cfg = iof_machine_config(sizeof(cfg), <iof_preset>preset, counts, n, NULL, <iof_policy>policy,
                                 <iof_addresses>addresses, <iof_accounting>accounting)
        err = iof_machine_create(&cfg, &self.m)
    finally:
        free(counts)
    if err < 0:
        return err
    self.born = forks
    self.name = name
    self.policy = policy_name
    open_gate(&self.gate)
    return self
