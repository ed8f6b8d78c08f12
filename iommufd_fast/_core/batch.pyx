# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Batches over NumPy uint64 arrays: map_many, copy_many, unmap_many, translate, leaves. The GIL is released around each."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

cimport numpy as cnp

from iommufd_fast._core.args cimport is_u64_array, u64, u64_values
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_memory cimport iof_copy_many, iof_copy_many_args
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.ledger cimport Home

import numpy as np

cnp.import_array()


cdef cnp.ndarray fresh(Py_ssize_t n, int dtype):
    """A new array of n zeros, by way of NumPy's C interface: a batch of a few entries notices what np.zeros() costs."""
    cdef cnp.npy_intp shape = n
    return <cnp.ndarray>cnp.PyArray_ZEROS(1, &shape, dtype, 0)


cdef cnp.ndarray unset(Py_ssize_t n):
    """uint64, and all of them are about to be written."""
    cdef cnp.npy_intp shape = n
    return <cnp.ndarray>cnp.PyArray_SimpleNew(1, &shape, cnp.NPY_UINT64)


cdef cnp.ndarray filled(Py_ssize_t n, uint64_t value):
    cdef cnp.ndarray out = unset(n)
    cdef uint64_t *at = <uint64_t *>cnp.PyArray_DATA(out)
    cdef Py_ssize_t i
    for i in range(n):
        at[i] = value
    return out


cdef cnp.ndarray as_array(values, str name, Py_ssize_t n):
    """A contiguous uint64 array of n entries (-1: any number); one integer stands for n equal ones."""
    cdef cnp.ndarray array
    if is_u64_array(values):
        array = <cnp.ndarray>values
    elif n >= 0 and not cnp.PyArray_Check(values) and hasattr(values, "__index__"):
        return filled(n, u64(values, name))
    else:
        array = u64_values(values, name)
    if 0 <= n != array.shape[0]:
        raise ValueError(f"{name} has {array.shape[0]} entries, expected {n}")
    return array


def map_many(Home ioas not None, uint32_t flags, int policy, addresses, lengths, iovas=None):
    """Map ranges, all or nothing. ValueError when the IOAS is closed.

    Returns
    -------
    tuple of (int, int, ndarray)
        0 or the negative errno, the entry that failed, and the IOVAs (of no meaning on an error).
    """
    cdef iof_map_many_args many
    cdef Handle h = ioas.handle
    cdef int err
    ioas.check()
    cdef cnp.ndarray a = as_array(addresses, "addresses", -1)
    cdef cnp.ndarray n = as_array(lengths, "lengths", a.shape[0])
    cdef cnp.ndarray out
    if iovas is None:
        out = unset(a.shape[0])
    else:
        out = np.array(as_array(iovas, "iovas", a.shape[0]))
        flags |= IOF_MAP_FIXED_IOVA
    many = iof_map_many_args(ioas.id, flags, <iof_policy>policy, a.shape[0], <const uint64_t *>cnp.PyArray_DATA(a),
                             <const uint64_t *>cnp.PyArray_DATA(n), <uint64_t *>cnp.PyArray_DATA(out), 0)
    h.enter()
    with nogil:
        err = iof_map_many(h.h, &many)
    h.leave()
    return err, many.failed, out


def copy_many(ContextHandle h not None, uint32_t dst, uint32_t src, uint32_t flags, iovas, lengths, places=None):
    """Copy ranges, all or nothing: (0 or the negative errno, the entry that failed, IOVAs in `dst`)."""
    cdef iof_copy_many_args many
    cdef int err
    cdef cnp.ndarray a = as_array(iovas, "iovas", -1)
    cdef cnp.ndarray n = as_array(lengths, "lengths", a.shape[0])
    cdef cnp.ndarray out
    if places is None:
        out = np.zeros(a.shape[0], np.uint64)
    else:
        out = np.array(as_array(places, "dst_iovas", a.shape[0]))
        flags |= IOF_MAP_FIXED_IOVA
    many = iof_copy_many_args(sizeof(many), dst, src, flags, a.shape[0], <const uint64_t *>cnp.PyArray_DATA(a),
                              <const uint64_t *>cnp.PyArray_DATA(n), <uint64_t *>cnp.PyArray_DATA(out), 0)
    h.enter()
    with nogil:
        err = iof_copy_many(h.h, &many)
    h.leave()
    return err, many.failed, out


def unmap_many(ContextHandle h not None, uint32_t ioas, iovas, lengths):
    """Unmap ranges and go on past errors: (how many went or a negative errno, int32 array of errnos)."""
    cdef iof_unmap_many_args many
    cdef int64_t done
    cdef cnp.ndarray a = as_array(iovas, "iovas", -1)
    cdef cnp.ndarray n = as_array(lengths, "lengths", a.shape[0])
    cdef cnp.ndarray errors = fresh(a.shape[0], cnp.NPY_INT32)
    many = iof_unmap_many_args(ioas, a.shape[0], <const uint64_t *>cnp.PyArray_DATA(a),
                               <const uint64_t *>cnp.PyArray_DATA(n), NULL, <int32_t *>cnp.PyArray_DATA(errors))
    h.enter()
    with nogil:
        done = iof_unmap_many(h.h, &many)
    h.leave()
    np.negative(errors, out=errors)
    return done, errors, a, n


def translate(ContextHandle h not None, uint32_t pt, iovas):
    """Translate IOVAs: (how many were found or a negative errno, uint64 addresses, uint8 prots)."""
    cdef int64_t found
    cdef cnp.ndarray a = as_array(iovas, "iovas", -1)
    cdef cnp.ndarray out = fresh(a.shape[0], cnp.NPY_UINT64)
    cdef cnp.ndarray prots = fresh(a.shape[0], cnp.NPY_UINT8)
    cdef size_t n = a.shape[0]
    cdef const uint64_t *at = <const uint64_t *>cnp.PyArray_DATA(a)
    cdef uint64_t *addresses = <uint64_t *>cnp.PyArray_DATA(out)
    cdef uint8_t *p = <uint8_t *>cnp.PyArray_DATA(prots)
    h.enter()
    with nogil:
        found = iof_translate(h.h, pt, n, at, addresses, p)
    h.leave()
    return found, out, prots


LEAF = np.dtype([("iova", np.uint64), ("address", np.uint64), ("size_lg2", np.uint8), ("prot", np.uint8)], align=True)


def leaves(ContextHandle h not None, uint32_t pt, uint64_t start, uint64_t last, size_t n):
    """The first n leaves that intersect a range: (how many or a negative errno, array of LEAF)."""
    cdef int64_t found
    cdef cnp.ndarray out = np.zeros(n, LEAF)
    cdef iof_leaf_info *at = <iof_leaf_info *>cnp.PyArray_DATA(out)
    h.enter()
    with nogil:
        found = iof_leaves(h.h, pt, start, last, n, at)
    h.leave()
    return found, out[:max(found, 0)]
