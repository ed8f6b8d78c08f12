# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Memory of an object, held as an object."""
cimport numpy as cnp
from libc.stdint cimport uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.holding cimport hold, release

cnp.import_array()


cdef class Held:
    """Memory of an object, held."""

    def __dealloc__(self):
        release(&self.view, &self.exported)


cdef Held take_hold(memory, length, bint writable):
    """Memory as the arguments of map() say it."""
    cdef Held held = Held.__new__(Held)
    cdef uint64_t size
    if not cnp.PyArray_Check(memory) and (isinstance(memory, int) or hasattr(memory, "__index__")):
        if length is None:
            raise TypeError("an address needs a length")
        held.base = u64(memory, "address")
        held.size = u64(length, "length")
    else:
        hold(memory, writable, &held.view, &held.exported, &held.base, &held.size)
        held.owner = memory
        if length is not None:
            size = u64(length, "length")
            if size > held.size:
                raise ValueError(f"length {size:#x} is more than the {held.size:#x} bytes of the {type(memory).__name__}")
            held.size = size
    if held.size == 0:
        raise ValueError("cannot map 0 bytes: length must be at least 1")
    if held.size - 1 > <uint64_t>-1 - held.base:
        raise ValueError(f"address {held.base:#x} + length {held.size:#x} wraps around 2**64")
    return held
