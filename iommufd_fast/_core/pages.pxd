# SPDX-License-Identifier: Apache-2.0
"""PinnedPages for cimport; the C core's own names are in pageholder.pxd."""
from libc.stdint cimport uint64_t

from iommufd_fast._core.pageholder cimport PageHolder


cdef class PinnedPages(PageHolder):
    pass


cdef class Held:
    cdef readonly PinnedPages pages
    cdef readonly uint64_t first
    cdef readonly uint64_t last
