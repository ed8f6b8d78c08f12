# SPDX-License-Identifier: Apache-2.0
"""ForeignMemory: memory that is not ours, in buffers or behind a callable, where foreign page tables lie."""
from libc.errno cimport EFAULT
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from iommufd_fast._core.ptargs cimport *

import numpy as np


cdef const uint8_t *segment_at(const Segments *s, uint64_t address, uint64_t bytes) noexcept nogil:
    """The segment's bytes at an address, or NULL unless all of them are there."""
    cdef size_t low = 0, high = s.n, mid
    while low < high:
        mid = low + (high - low) // 2
        if s.at[mid].base <= address:
            low = mid + 1
        else:
            high = mid
    if not low:
        return NULL
    low -= 1
    if address - s.at[low].base >= s.at[low].size or s.at[low].size - (address - s.at[low].base) < bytes:
        return NULL
    return s.at[low].data + (address - s.at[low].base)


cdef int read_segment(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    """One access: others may be writing."""
    cdef const uint8_t *at = segment_at(<const Segments *>ctx, address, 8)
    if at == NULL:
        return -EFAULT
    entry[0] = (<const uint64_t *>at)[0]
    return 0


cdef const uint64_t *at_segment(void *ctx, uint64_t address, uint64_t bytes) noexcept nogil:
    return <const uint64_t *>segment_at(<const Segments *>ctx, address, bytes)


cdef class Call:
    def __init__(self, function):
        self.function = function


cdef int read_call(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    with gil:
        return call_reader(<Call>ctx, address, entry)


cdef int call_reader(Call call, uint64_t address, uint64_t *entry) noexcept:
    try:
        item = call.function(address)
        if item is None:
            return -EFAULT
        entry[0] = pt_u64(item, "the item that the reader returned")
    except BaseException as e:
        call.error = e
        return -EFAULT
    return 0


cdef object bytes_of(object buffer):
    """A view of a buffer's bytes, never a copy."""
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    if not array.flags.c_contiguous:
        raise ValueError("a buffer must be contiguous")
    return array.reshape(-1).view(np.uint8)


cdef bint is_buffer(object memory):
    try:
        memoryview(memory)
    except TypeError:
        return False
    return True


cdef class ForeignMemory:
    """Where foreign tables lie; ForeignPageTable says what `memory` may be."""

    def __init__(self, memory):
        if self.segments.at != NULL or self.function is not None:
            raise TypeError("a ForeignMemory is initialised once")
        if callable(memory):
            self.function = memory
            return
        if hasattr(memory, "items"):
            memory = [(buffer, base) for base, buffer in memory.items()]
        elif is_buffer(memory):
            memory = [(memory, 0)]
        elif isinstance(memory, tuple) and len(memory) == 2 and hasattr(memory[1], "__index__"):
            memory = [memory]
        parts = sorted(((pt_u64(base, "base"), bytes_of(buffer)) for buffer, base in memory), key=lambda part: part[0])
        for (base, part), (after, _) in zip(parts, parts[1:]):
            if base + part.nbytes > after:
                raise ValueError(f"the buffers at {base:#x} and {after:#x} overlap")
        self.segments.at = <Segment *>malloc(max(1, len(parts)) * sizeof(Segment))
        if self.segments.at == NULL:
            raise MemoryError()
        for i, (base, part) in enumerate(parts):
            self.segments.at[i] = Segment(base, part.nbytes, <const uint8_t *>pt_data(part))
        self.segments.n = len(parts)
        self.buffers = tuple(part for _, part in parts)

    def __dealloc__(self):
        free(self.segments.at)

    cdef Call fill(self, iof_pt_memory *out):
        cdef Call call = None
        if self.function is None:
            out[0] = iof_pt_memory(read_segment, at_segment, &self.segments)
        else:
            call = Call(self.function)
            out[0] = iof_pt_memory(read_call, NULL, <void *>call)
        return call
