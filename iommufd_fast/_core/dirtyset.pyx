# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Reading dirty pages: closed ranges from the engine, exactly, and the same as a bitmap."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cimport numpy as cnp

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport *
from iommufd_fast._core.commands cimport ContextHandle

import numpy as np

cnp.import_array()


def ranges(ContextHandle h not None, uint32_t hwpt, uint64_t start, uint64_t last, bint clear, size_t room):
    """Dirty ranges, as many as there is room for.

    Returns
    -------
    tuple or int
        (uint64 array of shape (n, 2) with first and last addresses, where to go on or None), or a negative errno.
    """
    cdef cnp.ndarray out = np.empty((room, 2), np.uint64)
    cdef iof_dirty_args d = iof_dirty_args(hwpt, not clear, False, start, last, room,
                                           <iof_uapi_range *>cnp.PyArray_DATA(out))
    cdef int64_t found
    h.enter()
    with nogil:
        found = iof_dirty(h.h, &d)
    h.leave()
    if found < 0:
        return found
    return out[:found], d.start if d.more else None


cdef void set_bits(uint8_t *bits, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t a = first >> 3, b = last >> 3, i
    cdef int head = (0xff << (first & 7)) & 0xff, tail = 0xff >> (7 - (last & 7))
    if a == b:
        bits[a] |= <uint8_t>(head & tail)
        return
    bits[a] |= <uint8_t>head
    for i in range(a + 1, b):
        bits[i] = 0xff
    bits[b] |= <uint8_t>tail


def mark(cnp.ndarray bitmap not None, cnp.ndarray found not None, uint64_t start, int shift):
    """Set the bits of ranges that `ranges` gave: bit n stands for the page of 2**shift bytes at start + n pages."""
    cdef uint8_t *bits = <uint8_t *>cnp.PyArray_DATA(bitmap)
    cdef const uint64_t *pair
    cdef Py_ssize_t i
    if (bitmap.dtype != np.uint8 or found.dtype != np.uint64 or not cnp.PyArray_IS_C_CONTIGUOUS(bitmap)
            or not cnp.PyArray_IS_C_CONTIGUOUS(found)):
        raise TypeError("mark() takes a uint8 bitmap and a uint64 array of pairs, both contiguous")
    if found.shape[0] and (int(found[0, 0]) < start
                           or (int(found[-1, 1]) - start) >> shift >= 8 * bitmap.shape[0]):
        raise ValueError("a range lies outside the bitmap")
    pair = <const uint64_t *>cnp.PyArray_DATA(found)
    with nogil:
        for i in range(found.shape[0]):
            set_bits(bits, (pair[2 * i] - start) >> shift, (pair[2 * i + 1] - start) >> shift)
