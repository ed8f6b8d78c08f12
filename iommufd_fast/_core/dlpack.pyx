# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Tensors of other libraries as buffers, by DLPack: in memory of this process, contiguous, not copied.

The capsule is consumed: its tensor belongs to the `DlpackBuffer` until the last view of that is gone.
"""
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_SetName
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef struct Tensor:
    void *data
    int32_t device_type, device_id
    int32_t ndim
    uint8_t code, bits
    uint16_t lanes
    int64_t *shape
    int64_t *strides
    uint64_t byte_offset

cdef struct Plain:
    Tensor tensor
    void *context
    void (*deleter)(Plain *self) noexcept

cdef struct Versioned:
    uint32_t major, minor
    void *context
    void (*deleter)(Versioned *self) noexcept
    uint64_t flags
    Tensor tensor

cdef tuple HOST = (1, 3, 11)  # kDLCPU, and pinned host memory: kDLCUDAHost, kDLROCMHost
cdef uint64_t READ_ONLY = 1
cdef uint64_t IS_COPIED = 2


cdef class DlpackBuffer:
    """One tensor, as a buffer."""

    cdef Plain *plain
    cdef Versioned *versioned
    cdef char *at
    cdef Py_ssize_t size
    cdef bint readonly

    def __cinit__(self, tensor):
        kind = type(tensor).__name__
        device = int(tensor.__dlpack_device__()[0])
        if device not in HOST:
            raise TypeError(f"the {kind} is on a device of DLPack type {device}; only memory of this process can be "
                            "mapped: copy it to the CPU first")
        self.consume(ask(tensor), kind)

    cdef int consume(self, capsule, str kind) except -1:
        cdef Tensor *t
        if PyCapsule_IsValid(capsule, "dltensor_versioned"):
            self.versioned = <Versioned *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
            if self.versioned.major > 1:
                major, self.versioned = self.versioned.major, NULL
                raise TypeError(f"the {kind} speaks DLPack {major}; 1 is the newest known here")
            PyCapsule_SetName(capsule, "used_dltensor_versioned")
            t = &self.versioned.tensor
            self.readonly = (self.versioned.flags & READ_ONLY) != 0
            if self.versioned.flags & IS_COPIED:
                raise ValueError(f"the {kind} gives out copies only; a device would write to one that nobody sees")
        else:
            self.plain = <Plain *>PyCapsule_GetPointer(capsule, "dltensor")
            PyCapsule_SetName(capsule, "used_dltensor")
            t = &self.plain.tensor
        if t.device_type not in HOST:
            raise TypeError(f"the {kind}'s tensor is on a device of DLPack type {t.device_type}")
        self.size = bytes_of(t, kind)
        self.at = <char *>t.data + t.byte_offset
        return 0

    def __dealloc__(self):
        if self.plain != NULL and self.plain.deleter != NULL:
            self.plain.deleter(self.plain)
        if self.versioned != NULL and self.versioned.deleter != NULL:
            self.versioned.deleter(self.versioned)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.size, self.readonly, flags)

    def __reduce__(self):
        raise TypeError("cannot pickle a DLPack tensor")


cdef ask(tensor):
    """The capsule, versioned if the producer knows how."""
    try:
        return tensor.__dlpack__(max_version=(1, 0), copy=False)
    except TypeError:  # from before DLPack 1.0
        return tensor.__dlpack__()


cdef object bytes_of(Tensor *t, str kind):
    """How many bytes there are, or ValueError when they are not in one piece."""
    cdef int i
    rows, columns, count = True, True, 1
    for i in range(t.ndim):
        if t.shape[i] < 0:
            raise ValueError(f"the {kind} has a negative dimension")
        count *= t.shape[i]
    if t.strides != NULL and count:
        step = 1
        for i in range(t.ndim - 1, -1, -1):
            rows = rows and (t.shape[i] == 1 or t.strides[i] == step)
            step *= t.shape[i]
        step = 1
        for i in range(t.ndim):
            columns = columns and (t.shape[i] == 1 or t.strides[i] == step)
            step *= t.shape[i]
    if not (rows or columns):
        raise ValueError(f"the {kind} is not contiguous; copy it first")
    size = (count * t.bits * t.lanes + 7) // 8
    if size > (1 << 63) - 1 or size and t.data == NULL:
        raise ValueError(f"the {kind} says that it has {size} bytes at address 0")
    return size
