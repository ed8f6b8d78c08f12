# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, overflowcheck=False
"""One thread's share of a round in which several map and unmap at once.

The GIL is not held, so that many Python threads may be in storm() together, on rigs of their own or all on one: a rig
is only read.
"""
from libc.errno cimport EILSEQ
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset
from iommufd_fast._core.benchrig cimport Rig, u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ticks cimport iofb_monotonic

import numpy as np

from iommufd_fast._core._fail import fail

cdef extern from * nogil:
    """
    #if defined(__x86_64__) || defined(__i386__)
    #define iofb_relax() _mm_pause()
    #else
    #define iofb_relax() __asm__ volatile("" : : : "memory")
    #endif
    """
    void iofb_relax()


cdef int _singles(Rig rig, uint64_t *addresses, uint64_t *iovas, Py_ssize_t n, uint64_t base) noexcept nogil:
    """Maps n pages, one call each, at `base` and after it if that is not 0; then unmaps them."""
    cdef iof_cmd_ioas_map m
    cdef Py_ssize_t i
    cdef int err = 0
    m.size = sizeof(m)
    m.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE | (IOF_MAP_FIXED_IOVA if base else 0)
    m.reserved = 0
    m.ioas_id = rig.ioas_id
    m.length = 4096
    for i in range(n):
        m.user_va = addresses[i]
        m.iova = base + <uint64_t>i * 4096
        err |= rig.door(rig.ctx, IOF_CMD_IOAS_MAP, &m)
        iovas[i] = m.iova
    for i in range(n):
        err |= rig._unmap(iovas[i], 4096)
    return err


cdef int _batches(Rig rig, uint64_t *addresses, uint64_t *lengths, uint64_t *iovas, Py_ssize_t n,
                  Py_ssize_t size) noexcept nogil:
    """The same in batches of `size`; n is a multiple of it."""
    cdef iof_map_many_args m
    cdef iof_unmap_many_args u
    cdef Py_ssize_t i = 0
    cdef int err = 0
    memset(&m, 0, sizeof(m))
    memset(&u, 0, sizeof(u))
    m.ioas_id = u.ioas_id = rig.ioas_id
    m.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
    m.n = u.n = size
    while i < n:
        m.addresses = addresses + i
        m.lengths = lengths + i
        m.iovas = iovas + i
        err |= iof_map_many(rig.ctx, &m)
        i += size
    i = 0
    while i < n:
        u.iovas = iovas + i
        u.lengths = lengths + i
        err |= 0 if iof_unmap_many(rig.ctx, &u) == size else -EILSEQ
        i += size
    return err


def storm(Rig rig, addresses, Py_ssize_t rounds, uint64_t start, uint64_t base=0, Py_ssize_t batch=0):
    """Maps a page at each address and unmaps them all, `rounds` times, from a moment on.

    Parameters
    ----------
    rig : Rig
    addresses : ndarray of uint64
        With `batch` a multiple of that many.
    rounds : int
    start : int
        When to begin, nanoseconds of CLOCK_MONOTONIC.
    base : int
        The IOVA of the first page, the others follow; 0: the engine chooses.
    batch : int
        Ranges of a call; 0: single calls.

    Returns
    -------
    tuple of int
        When the work began and ended, nanoseconds of CLOCK_MONOTONIC.

    Raises
    ------
    OSError
        A map or an unmap did something else than asked.
    """
    cdef Py_ssize_t n = len(addresses), done = 0
    cdef uint64_t began, ended
    cdef int err = 0
    if batch and n % batch:
        raise ValueError(f"{n} addresses are no whole number of batches of {batch}")
    found, sizes = np.zeros(n, np.uint64), np.full(n, 4096, np.uint64)
    cdef uint64_t *a = u64(addresses, n)
    cdef uint64_t *lengths = u64(sizes, n)
    cdef uint64_t *iovas = u64(found, n)
    with nogil:
        began = iofb_monotonic()
        while began < start:
            iofb_relax()
            began = iofb_monotonic()
        while done < rounds and not err:
            err = _batches(rig, a, lengths, iovas, n, batch) if batch else _singles(rig, a, iovas, n, base)
            done += 1
        ended = iofb_monotonic()
    if err:
        fail(EILSEQ, f"map and unmap {n} pages, round {done}")
    return began, ended
