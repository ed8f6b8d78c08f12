# SPDX-License-Identifier: Apache-2.0
"""Memory of an object, held as an object, for cimport."""
from libc.stdint cimport uint64_t

cdef class Held:
    cdef object owner
    cdef Py_buffer view
    cdef bint exported
    cdef uint64_t base, size

cdef Held take_hold(memory, length, bint writable)
