# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""HeldMemory regions: memory that is held before it is mapped piece by piece. `Machine.hold` is how they are made."""
cimport cython
from libc.stdint cimport uint64_t

cimport numpy as cnp

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport iof_policy
from iommufd_fast._core.capi_memory cimport *
from iommufd_fast._core.holding cimport hold, move_export, release
from iommufd_fast._core.machines cimport MachineHandle, forks

cnp.import_array()


cdef class HeldMemory:
    """Memory held until `release`. A context manager; a forgotten one is released when it is collected."""

    cdef iof_held *held
    cdef Py_buffer view
    cdef bint exported
    cdef unsigned long born
    cdef object owner
    cdef readonly uint64_t address, length
    cdef readonly str policy

    def __init__(self):
        raise TypeError("memory is held by machine.hold() or context.hold()")

    def __dealloc__(self):
        let_go(self.held, self.born)
        release(&self.view, &self.exported)

    @property
    def released(self):
        """Whether it is held no more."""
        return self.held == NULL

    def release(self):
        """Let the memory go; what is mapped of it stays held by its mapping. Again is fine."""
        cdef iof_held *held
        cdef Py_buffer view
        cdef bint exported
        with cython.critical_section(self):  # of several calls at once, one
            held, self.held = self.held, NULL
            owner, self.owner = self.owner, None
            move_export(&self.view, &self.exported, &view, &exported)
        let_go(held, self.born)
        release(&view, &exported)

    def __reduce__(self):
        raise TypeError(f"cannot pickle {self!r}: it belongs to its process")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    def __len__(self):
        return self.length

    def __repr__(self):
        state = "released" if self.held == NULL else "held"
        return f"<HeldMemory {self.length:#x} bytes at {self.address:#x}, {self.policy}, {state}>"


cdef void let_go(iof_held *held, unsigned long born) noexcept:
    if held != NULL and born == forks:  # a forked child has no locks, and must not touch the engine
        with nogil:
            iof_held_release(held)


def hold_memory(MachineHandle machine not None, memory, length, int policy, bint writable, str name):
    """Hold an object's memory, or an address: a HeldMemory, or (negative errno, address, length)."""
    cdef HeldMemory self = HeldMemory.__new__(HeldMemory)
    cdef iof_hold rq
    cdef int err
    machine.check_open()
    if not cnp.PyArray_Check(memory) and (isinstance(memory, int) or hasattr(memory, "__index__")):
        if length is None:
            raise TypeError("holding an address needs a length")
        self.address, self.length = u64(memory, "address"), u64(length, "length")
    else:
        hold(memory, writable, &self.view, &self.exported, &self.address, &self.length)
        self.owner = memory
        if length is not None:
            if u64(length, "length") > self.length:
                raise ValueError(f"length {length:#x} is more than the {self.length:#x} bytes of the "
                                 f"{type(memory).__name__}")
            self.length = u64(length, "length")
    if self.length == 0:
        raise ValueError("cannot hold 0 bytes: length must be at least 1")
    rq = iof_hold(sizeof(rq), self.address, self.length, <iof_policy>policy, writable)
    machine.enter()
    with nogil:
        err = iof_machine_hold(machine.m, &rq, &self.held)
    machine.leave()
    if err < 0:
        self.held = NULL
        return err, self.address, self.length
    self.born = forks
    self.policy = name
    return self
