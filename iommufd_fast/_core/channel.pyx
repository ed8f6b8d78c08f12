# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=False
"""Machines and open files: what a C handle needs before Python may hold it.

Three things can happen to a C handle that Python must survive:

- *fork*: the child has a copy of the engine that nobody may touch (another thread may have held its locks). Every handle
  remembers how many forks this process had behind it when it was made; the count is raised in the child by
  pthread_atfork, so checking costs a comparison and no system call.
- *close while another thread is inside a call*: each call that gives up the GIL is counted in `users`; close() waits for
  the last of them, so that after it nothing of ours runs on the handle.
- *use after close*: `h` is NULL then, and check() says so.

The GIL guards all fields here.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free
from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t
from libc.string cimport memcpy

from iommufd_fast._core.capi cimport (
    iof_accounting, iof_addresses, iof_close, iof_engine_open, iof_engine_open_device, iof_fileno, iof_ioctl,
    iof_iotlb_drop_invalidations, iof_iotlb_stats, iof_iotlb_stats_out, iof_machine,
    iof_machine_config, iof_machine_create,
    iof_machine_device, iof_machine_device_at, iof_machine_device_count, iof_machine_group_count,
    iof_machine_is_valid, iof_machine_pins, iof_machine_plug, iof_machine_put, iof_policy, iof_preset)
from iommufd_fast._core.args cimport u64

import threading

from iommufd_fast.errors import forked

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil, void (*child)() noexcept nogil)

PRESETS = {"intel": 1, "amd": 2}
POLICIES = {"trust": 1, "probe": 2}
ADDRESSES = {"va": 0, "synthetic": 1}
ACCOUNTING = {"none": 0, "user": 1, "process": 2, "kernel": 3}

cdef unsigned long forks = 0


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
    """A reference to a C machine. Made by `create_machine`."""

    def __dealloc__(self):
        if self.m != NULL and self.born == forks:
            iof_machine_put(self.m)
        self.m = NULL

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self.name}: it belongs to its process; open one there")

    cdef int check(self) except -1:
        if self.born != forks:
            forked(self.name)
        if self.m == NULL:
            raise ValueError(f"{self.name} is closed")
        return 0

    @property
    def closed(self):
        return self.m == NULL

    @property
    def forked(self):
        """Whether this handle came here by fork()."""
        return self.born != forks

    def close(self):
        """Drop the reference. Open files keep the machine alive. In a forked child nothing is touched."""
        cdef iof_machine *m = self.m
        self.m = NULL
        if m != NULL and self.born == forks:
            iof_machine_put(m)

    def plug(self, int preset, group=None):
        cdef uint32_t index = 0
        cdef uint32_t into = UINT32_MAX if group is None else <uint32_t>as_u64(group, "group", UINT32_MAX - 1)
        self.check()
        cdef int err = iof_machine_plug(self.m, <iof_preset>preset, into, &index)
        if err < 0:
            return err
        return index

    def device(self, uint32_t index):
        """(index, group, preset number, name, open, bound), or a negative errno."""
        cdef iof_machine_device d
        self.check()
        cdef int err = iof_machine_device_at(self.m, index, &d)
        if err < 0:
            return err
        return (d.index, d.group, <int>d.preset, (<bytes>d.name).decode(), bool(d.open), bool(d.bound))

    def device_count(self):
        self.check()
        return iof_machine_device_count(self.m)

    def group_count(self):
        self.check()
        return iof_machine_group_count(self.m)

    def is_valid(self):
        self.check()
        return bool(iof_machine_is_valid(self.m))

    def pins(self, address):
        cdef uint64_t va = u64(address, "address")
        self.check()
        return iof_machine_pins(self.m, va)

    def iotlb(self):
        cdef iof_iotlb_stats_out s
        self.check()
        cdef int err = iof_iotlb_stats(self.m, &s)
        if err < 0:
            return err
        return (s.hits, s.misses, s.evictions, s.invalidations, s.dropped, s.entries, s.live)

    def drop_invalidations(self, bint drop):
        self.check()
        iof_iotlb_drop_invalidations(self.m, drop)


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
    return self


cdef class Handle:
    """An open file of a provider: a context or a device. Subclasses give it commands; `open_on` opens it."""

    def __cinit__(self):
        self.born = forks

    def __dealloc__(self):
        if self.h != NULL and self.born == forks:
            iof_close(self.h)
        self.h = NULL

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self.name}: it belongs to its process; open one there")

    def open_on(self, MachineHandle machine not None, device, str name):
        """Open the iommufd (device None) or a device's file on a machine: 0 or a negative errno."""
        cdef int err
        cdef uint32_t index = 0 if device is None else <uint32_t>as_u64(device, "device", UINT32_MAX - 1)
        machine.check()
        if self.h != NULL:
            raise ValueError(f"{self.name} is open already")
        self.machine = machine
        err = iof_engine_open(machine.m, &self.h) if device is None else iof_engine_open_device(
            machine.m, index, &self.h)
        if err < 0:
            self.h = NULL
            return err
        self.name = name if device is not None else f"{name} {iof_fileno(self.h)}"
        return 0

    cdef int check(self) except -1:
        if self.born != forks:
            forked(self.name)
        if self.h == NULL or self.drained is not None:
            raise ValueError(f"{self.name} is closed")
        return 0

    cdef int enter(self) except -1:
        """Before the GIL is released around a call on `h`."""
        self.check()
        self.users += 1
        return 0

    cdef int leave(self) except -1:
        self.users -= 1
        if self.users == 0 and self.drained is not None:
            self.drained.set()
        return 0

    @property
    def closed(self):
        return self.h == NULL or self.drained is not None

    @property
    def forked(self):
        """Whether this handle came here by fork()."""
        return self.born != forks

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    def fileno(self):
        self.check()
        return iof_fileno(self.h)

    def close(self):
        """Close once calls of other threads are done. Idempotent; in a forked child the engine is not touched."""
        cdef iof_handle *h
        if self.h == NULL or self.drained is not None:
            return
        if self.born != forks:
            self.h = NULL
            return
        if self.users:
            self.drained = threading.Event()
            self.drained.wait()
        h, self.h = self.h, NULL
        with nogil:
            iof_close(h)

    def ioctl(self, cmd, buffer=None):
        """The raw door: a command number and a writable buffer that holds its struct.

        The size that the struct's first word claims must lie inside the buffer: the engine would read on beyond it.
        """
        cdef unsigned long number = u64(cmd, "cmd")
        cdef Py_buffer view
        cdef uint32_t claimed = 0
        self.check()
        if buffer is None:
            return self.raw(number, NULL)
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            if view.len < 4:
                raise ValueError(f"the buffer has {view.len} bytes; a command's struct begins with its 32-bit size")
            memcpy(&claimed, view.buf, 4)
            if claimed > <size_t>view.len:
                raise ValueError(f"the struct says {claimed} bytes, but the buffer has {view.len}")
            return self.raw(number, view.buf)
        finally:
            PyBuffer_Release(&view)

    cdef int raw(self, unsigned long number, void *arg) except? -1:
        cdef int result
        self.enter()
        with nogil:
            result = iof_ioctl(self.h, number, arg)
        self.leave()
        return result
