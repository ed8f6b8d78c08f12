# SPDX-License-Identifier: Apache-2.0
"""Arguments of the page tables' Python surface: integers that never wrap, permissions, shapes, arrays; and Leaf."""
from libc.string cimport memset
cimport numpy as cnp

from collections import namedtuple
from operator import index

import numpy as np

cnp.import_array()

Leaf = namedtuple("Leaf", "iova address size prot level dirty item", module=__name__)
Leaf.__doc__ = 'First IOVA, its address, size in bytes, "r", "w" or "rw", level (0 is the lowest), dirty, the entry.'


class Fault(namedtuple("Fault", "reason iova last level table entry item stage fetch_level", module=__name__)):
    """Why and where a walk ended without a leaf; str() says it in a sentence."""

    __slots__ = ()

    def __str__(self):
        where = f"stage {self.stage}, " if self.stage == 2 else ""
        if self.reason == "outside":
            return f"{where}{self.iova:#x} is outside the table"
        where += f"level {self.level}, table {self.table:#x}, entry {(self.entry - self.table) // 8}"
        text = {
            "hole": "nothing is mapped",
            "memory": f"the entry's address {self.entry:#x} is not in the memory",
            "reserved": f"reserved bits, or a table or leaf where none can be: {self.item:#x}",
            "denied": f"the table of stage 1 at {self.iova:#x} may not be read",
            "loop": f"points to a table above itself: {self.item:#x}",
            "endless": "tables point to one another so often that no end is in sight; the rest was not looked at",
        }[self.reason]
        fetched = f" while stage 1 fetched level {self.fetch_level} at {self.iova:#x}" if self.fetch_level is not None else ""
        return f"{where}: {text}{fetched}"


_REASONS = (None, "hole", "outside", "memory", "reserved", "denied", "loop", "endless")

FORMATS = {"vtdss": IOF_PT_VTDSS, "amdv1": IOF_PT_AMDV1, "mock": IOF_PT_MOCK, "x86_64": IOF_PT_X86_64,
           "riscv64": IOF_PT_RISCV64, "riscv64_x4": IOF_PT_RISCV64_X4, "arm_s1": IOF_PT_ARM_S1, "arm_s2": IOF_PT_ARM_S2}
# Keyword arguments that are true or false.
FEATURES = {
    "growing_top": IOF_PT_GROWING_TOP,
    "force_coherent": IOF_PT_FORCE_COHERENT,
    "force_writeable": IOF_PT_FORCE_WRITEABLE,
    "sign_extend": IOF_PT_SIGN_EXTEND,
    "napot": IOF_PT_NAPOT,
    "pbmt": IOF_PT_PBMT,
    "hw_dirty": IOF_PT_HW_DIRTY,
    "contiguous": IOF_PT_CONTIGUOUS,
    "force_write_back": IOF_PT_FORCE_WRITE_BACK,
}
_DEFAULT_TOP = {"amdv1": 3, "mock": 2}
_PROTS = ("", "r", "w", "rw")


cdef uint64_t pt_u64(object value, str name) except? 1:
    """An integer argument of 0 to 2^64-1; nothing is rounded and nothing wraps."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{name} is {number}, outside 0 to 2**64-1")
    return number


cdef unsigned int pt_prot(object prot) except? 1:
    """ "r", "w" or "rw", or the numeric bits of enum iof_prot."""
    if isinstance(prot, str):
        if prot not in ("r", "w", "rw"):
            raise ValueError(f'prot is {prot!r}, not "r", "w" or "rw"')
        return _PROTS.index(prot)
    if (bits := pt_u64(prot, "prot")) > 31:
        raise ValueError(f"prot is {prot}, outside 0 to 31")
    return bits


cdef uint8_t small(object value, object default, str name, unsigned int most) except? 1:
    if value is None:
        return default
    if (number := pt_u64(value, name)) > most:
        raise ValueError(f"{name} is {value}, outside 0 to {most}")
    return number


cdef int pt_config(iof_pt_config *cfg, object format, object va_bits, object oa_bits, object top_level,
                   object granule, object features) except -1:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}, not one of {', '.join(map(repr, FORMATS))}")
    memset(cfg, 0, sizeof(cfg[0]))
    cfg.format = FORMATS[format]
    cfg.va_lg2 = small(va_bits, 0, "va_bits", 64)
    cfg.oa_lg2 = small(oa_bits, 0, "oa_bits", 64)
    cfg.top_level = small(top_level, _DEFAULT_TOP.get(format, 0), "top_level", 7)
    if granule is not None:
        if (size := pt_u64(granule, "granule")).bit_count() != 1:
            raise ValueError(f"granule is {granule}, which is not a power of two of bytes")
        if size != 4096 and (size not in (16384, 65536) or format not in ("arm_s1", "arm_s2")):
            raise ValueError(f"granule is {granule}; {format} has " +
                             ("4096, 16384 and 65536" if format.startswith("arm") else "no choice of granules"))
        cfg.granule_lg2 = 0 if format == "mock" else size.bit_length() - 1
    for name, value in features.items():
        if name not in FEATURES:
            raise TypeError(f"there is no argument {name!r}; features are {', '.join(FEATURES)}")
        if value:
            cfg.features |= FEATURES[name]
    return 0


cdef uint64_t pt_sizes(object sizes) except? 1:
    """A set of page sizes as the mask that C takes: an int is that mask already."""
    mask = 0
    if sizes is None:
        return 0
    if not hasattr(sizes, "__index__"):
        for size in sizes:
            if pt_u64(size, "page_sizes").bit_count() != 1:
                raise ValueError(f"page_sizes holds {size}, which is not a power of two")
            mask |= index(size)
        sizes = mask
    if not (mask := pt_u64(sizes, "page_sizes")):
        raise ValueError("page_sizes is empty")
    return mask


cdef object pt_leaf(const iof_pt_leaf *leaf):
    return Leaf(leaf.iova, leaf.address, 1 << <object>leaf.size_lg2, _PROTS[leaf.prot & 3], leaf.level, leaf.dirty,
                leaf.item)


cdef object pt_fault(const iof_pt_fault *fault, int stage, object fetch_level):
    return Fault(_REASONS[fault.reason], fault.iova, fault.last, fault.level, fault.table, fault.entry, fault.item, stage,
                 fetch_level)


cdef object pt_array(object values, str name, Py_ssize_t n):
    """Integers as a contiguous uint64 array of n (-1: any number); floats and negative numbers are refused."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions, must have one")
    if n >= 0 and array.shape[0] != n:
        raise ValueError(f"{name} has {array.shape[0]} elements, must have {n}")
    if array.dtype.kind == "O" or not array.size:
        return np.array([pt_u64(v, name) for v in array], np.uint64)
    if array.dtype.kind not in "ui":
        if isinstance(values, np.ndarray):
            raise TypeError(f"{name} must hold integers, not {array.dtype}")
        return np.array([pt_u64(v, name) for v in values], np.uint64)  # NumPy makes floats of integers beyond 2^63
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"{name} holds {array.min()}, outside 0 to 2**64-1")
    return np.ascontiguousarray(array, np.uint64)


cdef uint64_t *pt_data(object array) noexcept:
    return <uint64_t *>cnp.PyArray_DATA(<cnp.ndarray>array)
