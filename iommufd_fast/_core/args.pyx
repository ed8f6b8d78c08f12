# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments, for the extension modules: integers and arrays of integers, nothing rounded, nothing wrapped."""
cimport numpy as cnp
from libc.stdint cimport uint64_t

from operator import index as as_index

import numpy as np

cdef extern from "Python.h":
    bint PyLong_CheckExact(object o) noexcept
    unsigned long long PyLong_AsUnsignedLongLong(object o) noexcept  # -1 and an error set, which is looked at below
    void *PyErr_Occurred() noexcept
    void PyErr_Clear() noexcept

cnp.import_array()


cdef uint64_t u64(object value, str name) except? 0xfffffffffffffffe:
    """An integer in [0, 2**64-1], or TypeError / ValueError that names the argument."""
    cdef uint64_t n
    if PyLong_CheckExact(value):
        n = PyLong_AsUnsignedLongLong(value)
        if n != <uint64_t>-1 or PyErr_Occurred() == NULL:
            return n
        PyErr_Clear()
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} ({value!r})")
    number = as_index(value)
    if not 0 <= number <= 0xffffffffffffffff:
        raise ValueError(f"{name} is {number}; it must be between 0 and 2**64-1")
    return number


cdef bint is_u64_array(object values) noexcept:
    """Is it what u64_array() would make of it? The flags tell, which is a tenth of the cost of asking NumPy to convert."""
    return (cnp.PyArray_CheckExact(values) and cnp.PyArray_NDIM(<cnp.ndarray>values) == 1 and
            cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.NPY_UINT64 and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>values))


cdef object u64_array(object values, str name):
    """A contiguous one-dimensional uint64 array; what is uint64 already is not copied."""
    if is_u64_array(values):
        return values
    a = np.asarray(values)
    if a.ndim != 1:
        raise ValueError(f"{name} has {a.ndim} dimensions; it must have one")
    if a.size and a.dtype.kind not in "ui":
        raise TypeError(f"{name} holds {a.dtype}; it must hold integers")
    if a.dtype.kind == "i" and a.size and a.min() < 0:
        raise ValueError(f"{name} holds {a.min()}; all must be between 0 and 2**64-1")
    return np.ascontiguousarray(a, dtype=np.uint64)


cdef object u64_values(object values, str name):
    """The same, and a list may hold integers of any size: NumPy would make floats of small and very large ones."""
    if isinstance(values, (list, tuple)):
        return np.fromiter([u64(v, f"{name}[{i}]") for i, v in enumerate(values)], np.uint64, len(values))
    return u64_array(values, name)


cdef uint64_t *data(object array) noexcept:
    return <uint64_t *>cnp.PyArray_DATA(<cnp.ndarray>array)
