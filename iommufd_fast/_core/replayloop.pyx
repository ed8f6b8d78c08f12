# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, overflowcheck=False
"""A whole trace through the engine in one C loop, each event timed by itself.

Events come as columns: iova, address, size; a size with the top bit set is an unmap of the rest. An unmap that
removes another number of bytes than its size ends the loop with EILSEQ.
"""
from libc.errno cimport EILSEQ
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from iommufd_fast._core.benchrig cimport Rig, u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ticks cimport iofb_ticks

import numpy as np

from iommufd_fast._core._fail import fail

cdef extern from "util/alloc.h" nogil:
    void iof_alloc_init_heap(iof_alloc *a)

cdef extern from "pagetable/pagetable.h" nogil:
    ctypedef enum iof_pt_format "enum iof_pt_format":
        IOF_PT_VTDSS
    enum: IOF_PROT_READ
    enum: IOF_PROT_WRITE
    struct iof_pt_config:
        iof_pt_format format
    struct iof_pt_gather:
        void *tables
    struct iof_pt:
        pass
    int iof_pt_create(const iof_pt_config *cfg, iof_alloc *a, iof_pt **out)
    void iof_pt_destroy(iof_pt *pt)
    int iof_pt_map(iof_pt *pt, uint64_t iova, uint64_t address, uint64_t length, unsigned prot, iof_pt_gather *g)
    uint64_t iof_pt_unmap(iof_pt *pt, uint64_t iova, uint64_t length, iof_pt_gather *g)
    void iof_pt_release(iof_pt *pt, iof_pt_gather *g)

cdef uint64_t UNMAP = 1ull << 63


def table(iovas, addresses, sizes, bint tsc):
    """Replays into a bare VT-d second-stage table: ticks per event (uint64)."""
    cdef Py_ssize_t n = len(iovas), i = 0
    ticks = np.empty(n, np.uint64)
    cdef uint64_t *out = u64(ticks, n)
    cdef uint64_t *pi = u64(iovas, n)
    cdef uint64_t *pa = u64(addresses, n)
    cdef uint64_t *ps = u64(sizes, n)
    cdef uint64_t t0, t1, size
    cdef iof_alloc alloc
    cdef iof_pt_config cfg
    cdef iof_pt_gather gather
    cdef iof_pt *pt = NULL
    cdef int err
    memset(&cfg, 0, sizeof(cfg))
    memset(&gather, 0, sizeof(gather))
    cfg.format = IOF_PT_VTDSS
    iof_alloc_init_heap(&alloc)
    err = iof_pt_create(&cfg, &alloc, &pt)
    if err:
        fail(-err, "create a page table")
    with nogil:
        for i in range(n):
            size = ps[i] & ~UNMAP
            t0 = iofb_ticks(tsc)
            if ps[i] & UNMAP:
                err = 0 if iof_pt_unmap(pt, pi[i], size, &gather) == size else -EILSEQ
                iof_pt_release(pt, &gather)
            else:
                err = iof_pt_map(pt, pi[i], pa[i], size, IOF_PROT_READ | IOF_PROT_WRITE, &gather)
                iof_pt_release(pt, &gather)
            t1 = iofb_ticks(tsc)
            if err:
                break
            out[i] = t1 - t0
        iof_pt_destroy(pt)
    if err:
        fail(-err, f"replay event {i}")
    return ticks


def ioas(Rig rig, iovas, addresses, sizes):
    """Replays into the rig's IOAS with FIXED maps: ticks per event (uint64). What the trace leaves mapped is
    unmapped at the end."""
    cdef Py_ssize_t n = len(iovas), i = 0
    ticks = np.empty(n, np.uint64)
    cdef uint64_t *out = u64(ticks, n)
    cdef uint64_t *pi = u64(iovas, n)
    cdef uint64_t *pa = u64(addresses, n)
    cdef uint64_t *ps = u64(sizes, n)
    cdef uint64_t t0, t1, size
    cdef iof_cmd_ioas_map m
    cdef iof_cmd_ioas_unmap u
    cdef int err = 0
    memset(&m, 0, sizeof(m))
    m.size = sizeof(m)
    m.flags = IOF_MAP_FIXED_IOVA | IOF_MAP_READABLE | IOF_MAP_WRITEABLE
    u.size = sizeof(u)
    m.ioas_id = u.ioas_id = rig.ioas_id
    with nogil:
        for i in range(n):
            size = ps[i] & ~UNMAP
            if ps[i] & UNMAP:
                u.iova = pi[i]
                u.length = size
                t0 = iofb_ticks(rig.tsc)
                err = iof_ioctl(rig.ctx, IOF_CMD_IOAS_UNMAP, &u)
                t1 = iofb_ticks(rig.tsc)
                if err == 0 and u.length != size:
                    err = -EILSEQ
            else:
                m.iova = pi[i]
                m.user_va = pa[i]
                m.length = size
                t0 = iofb_ticks(rig.tsc)
                err = iof_ioctl(rig.ctx, IOF_CMD_IOAS_MAP, &m)
                t1 = iofb_ticks(rig.tsc)
            if err:
                break
            out[i] = t1 - t0
        rig._unmap(0, ~<uint64_t>0)
    if err:
        fail(-err, f"replay event {i}")
    return ticks
