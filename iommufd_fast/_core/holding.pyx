# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Where an object's memory is, and the export that keeps it there.

An exact ndarray owns its memory or refers to who does, and refuses to resize while somebody refers to it: a
reference holds
it, which saves the 100 ns that NumPy takes for a buffer export. Everything else is held by an export (a bytearray
then refuses
to grow, a memoryview to be released).
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t, uintptr_t

cimport numpy as cnp

from iommufd_fast._core.dlpack import DlpackBuffer

cdef extern from "numpy/arrayobject.h":
    bint PyDataType_REFCHK(cnp.PyArray_Descr *dtype)

cnp.import_array()


class NoBuffer(TypeError):
    """The object has no buffer."""


cdef int hold(memory, bint writable, Py_buffer *view, bint *exported, uint64_t *base, uint64_t *size) except -1:
    """Hold an object's memory: the caller keeps a reference, and releases `view` when `exported` was set."""
    exported[0] = False
    if not cnp.PyArray_CheckExact(memory):
        export(memory, writable, view)
        exported[0] = True
        base[0], size[0] = <uintptr_t>view.buf, view.len
        return 0
    if not (cnp.PyArray_IS_C_CONTIGUOUS(memory) or cnp.PyArray_IS_F_CONTIGUOUS(memory)):
        raise ValueError("the ndarray is not contiguous; np.ascontiguousarray() makes a copy that is")
    if writable and not cnp.PyArray_ISWRITEABLE(memory):
        refuse_readonly(memory)
    if PyDataType_REFCHK(cnp.PyArray_DESCR(memory)):
        raise TypeError("the ndarray holds Python objects; a device could overwrite their addresses")
    base[0] = <uintptr_t>cnp.PyArray_DATA(memory)
    size[0] = cnp.PyArray_NBYTES(memory)
    return 0


cdef int release(Py_buffer *view, bint *exported) except -1:
    """Give an export back, if there is one. May run any Python code, which finds it given back."""
    cdef Py_buffer last
    cdef bint held
    move_export(view, exported, &last, &held)
    if held:
        PyBuffer_Release(&last)
    return 0


cdef int refuse_readonly(memory) except -1:
    raise ValueError(f"the {type(memory).__name__} is read-only; map it with access='r'")


cdef int export(memory, bint writable, Py_buffer *view) except -1:
    """PyObject_GetBuffer with errors that name the remedy."""
    try:
        PyObject_GetBuffer(memory, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        return 0
    except (BufferError, ValueError) as error:
        refused = error
    except TypeError:
        if hasattr(memory, "__dlpack__"):
            return export(DlpackBuffer(memory), writable, view)
        raise NoBuffer(f"cannot map {type(memory).__name__}: it is neither a buffer nor an address") from None
    with memoryview(memory) as look:
        if not look.contiguous:
            raise ValueError(f"the {type(memory).__name__} is not contiguous; copy it first") from None
        if writable and look.readonly:
            refuse_readonly(memory)
    raise refused
