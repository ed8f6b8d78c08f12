# SPDX-License-Identifier: Apache-2.0
"""ForeignMemory: what table addresses mean, as a reader for the C walkers."""
from libc.stdint cimport uint8_t, uint64_t
from iommufd_fast._core.ptargs cimport *

cdef struct Segment:
    uint64_t base
    uint64_t size  # bytes
    const uint8_t *data

cdef struct Segments:
    Segment *at  # by ascending base
    size_t n

# One use of a callable: its exception is kept for when C has come back.
cdef class Call:
    cdef object function, error

cdef class ForeignMemory:
    cdef Segments segments
    cdef object function
    cdef tuple buffers
    cdef Call fill(self, iof_pt_memory *out)  # valid while self and the returned Call (or None) live
