# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments, for cimport."""
from libc.stdint cimport uint64_t

cdef uint64_t u64(object value, str name) except? 0xfffffffffffffffe
cdef bint is_u64_array(object values) noexcept
cdef object u64_array(object values, str name)
cdef object u64_values(object values, str name)
cdef uint64_t *data(object array) noexcept
