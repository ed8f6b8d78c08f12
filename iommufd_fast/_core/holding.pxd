# SPDX-License-Identifier: Apache-2.0
"""Where an object's memory is, and the export that keeps it there."""
from libc.stdint cimport uint64_t
from libc.string cimport memset

cdef int hold(memory, bint writable, Py_buffer *view, bint *exported, uint64_t *base, uint64_t *size) except -1

cdef int release(Py_buffer *view, bint *exported) except -1


cdef inline void move_export(Py_buffer *view, bint *exported, Py_buffer *to, bint *to_exported) noexcept:
    """Nothing is left behind: the garbage collector looks at the view."""
    to_exported[0] = exported[0]
    if exported[0]:
        to[0], exported[0] = view[0], False
        memset(view, 0, sizeof(view[0]))
