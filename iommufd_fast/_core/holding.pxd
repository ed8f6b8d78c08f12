# SPDX-License-Identifier: Apache-2.0
"""Where an object's memory is, and the export that keeps it there."""
from libc.stdint cimport uint64_t

cdef int hold(memory, bint writable, Py_buffer *view, bint *exported, uint64_t *base, uint64_t *size) except -1

cdef int release(Py_buffer *view, bint *exported) except -1
