# SPDX-License-Identifier: Apache-2.0
"""PageTable for other Cython modules: lock(), c_map(), c_unmap(), c_translate() are declared in Table."""
from iommufd_fast._core.ptinspect cimport InspectableTable

cdef class PageTable(InspectableTable):
    pass
