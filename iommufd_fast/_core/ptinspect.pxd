# SPDX-License-Identifier: Apache-2.0
"""InspectableTable: what looks at a whole page table."""
from libc.stdint cimport uint64_t
from iommufd_fast._core.ptargs cimport *
from iommufd_fast._core.ptcore cimport Table

cdef class InspectableTable(Table):
    cdef object next_leaf(self, uint64_t start, uint64_t last)
