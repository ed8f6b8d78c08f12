# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, overflowcheck=False
"""Measuring loops over a Rig's door (iof_ioctl(), of a kernel iof_submit()) and its batches.

Every function times single calls on prepared structs, returns clock ticks as uint64 arrays and checks what the
calls did: a translation that is not the address, or an unmap of another length, ends the loop with EILSEQ.
"""
from libc.errno cimport EILSEQ
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset
from iommufd_fast._core.benchrig cimport Rig, u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ticks cimport iofb_ticks

import numpy as np

from iommufd_fast._core._fail import fail


def pair(Rig rig, addresses, uint64_t length, look_iovas, look_addresses):
    """Maps each address, translates one IOVA, unmaps it again: three ticks arrays (map, translate, unmap).

    An element of `look_iovas` that is 0 asks for the IOVA just mapped; else it must translate to `look_addresses`.
    """
    cdef Py_ssize_t n = len(addresses), i = 0
    tm, tt, tu = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    cdef uint64_t *pm = u64(tm, n)
    cdef uint64_t *pt = u64(tt, n)
    cdef uint64_t *pu = u64(tu, n)
    cdef uint64_t *a = u64(addresses, n)
    cdef uint64_t *li = u64(look_iovas, n)
    cdef uint64_t *la = u64(look_addresses, n)
    cdef uint64_t t0, t1, t2, t3, t4, t5, iova, want
    cdef iof_cmd_ioas_map m
    cdef iof_cmd_ioas_unmap u
    cdef uint64_t got = 0
    cdef int err = 0
    memset(&m, 0, sizeof(m))
    m.size = sizeof(m)
    m.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
    u.size = sizeof(u)
    m.ioas_id = u.ioas_id = rig.ioas_id
    with nogil:
        for i in range(n):
            m.user_va = a[i]
            m.length = u.length = length
            t0 = iofb_ticks(rig.tsc)
            err = rig.door(rig.ctx, IOF_CMD_IOAS_MAP, &m)
            t1 = iofb_ticks(rig.tsc)
            if err:
                break
            u.iova = m.iova
            iova = li[i] if li[i] else m.iova
            want = la[i] if li[i] else a[i]
            t2 = iofb_ticks(rig.tsc)
            iof_translate(rig.ctx, rig.hwpt_id, 1, &iova, &got, NULL)
            t3 = iofb_ticks(rig.tsc)
            if got != want:
                err = -EILSEQ
                break
            t4 = iofb_ticks(rig.tsc)
            err = rig.door(rig.ctx, IOF_CMD_IOAS_UNMAP, &u)
            t5 = iofb_ticks(rig.tsc)
            if err or u.length != length:
                err = err or -EILSEQ
                break
            pm[i] = t1 - t0
            pt[i] = t3 - t2
            pu[i] = t5 - t4
    if err:
        fail(-err, f"measure call {i} on {length} bytes at {a[i]:#x}")
    return tm, tt, tu


def churn(Rig rig, live_iovas, live_addresses, order, uint64_t length):
    """Unmaps the live mapping order[i] and maps its address again, for each i: two ticks arrays (map, unmap).

    `live_iovas` is updated in place, so it stays the list of what is live.
    """
    cdef Py_ssize_t n = len(order), size = len(live_iovas), i = 0
    tm, tu = np.empty(n, np.uint64), np.empty(n, np.uint64)
    cdef uint64_t *pm = u64(tm, n)
    cdef uint64_t *pu = u64(tu, n)
    cdef uint64_t *iovas = u64(live_iovas, size)
    cdef uint64_t *addresses = u64(live_addresses, size)
    cdef uint64_t *pick = u64(order, n)
    cdef uint64_t t0, t1, t2, t3, j = 0
    cdef iof_cmd_ioas_map m
    cdef iof_cmd_ioas_unmap u
    cdef int err = 0
    if n and int(order.max()) >= size:
        raise IndexError(f"order names mapping {int(order.max())}, {size} are live")
    memset(&m, 0, sizeof(m))
    m.size = sizeof(m)
    m.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
    u.size = sizeof(u)
    m.ioas_id = u.ioas_id = rig.ioas_id
    with nogil:
        for i in range(n):
            j = pick[i]
            u.iova = iovas[j]
            m.user_va = addresses[j]
            m.length = u.length = length
            t0 = iofb_ticks(rig.tsc)
            err = rig.door(rig.ctx, IOF_CMD_IOAS_UNMAP, &u)
            t1 = iofb_ticks(rig.tsc)
            if err or u.length != length:
                err = err or -EILSEQ
                break
            t2 = iofb_ticks(rig.tsc)
            err = rig.door(rig.ctx, IOF_CMD_IOAS_MAP, &m)
            t3 = iofb_ticks(rig.tsc)
            if err:
                break
            iovas[j] = m.iova
            pu[i] = t1 - t0
            pm[i] = t3 - t2
    if err:
        fail(-err, f"churn step {i} at mapping {j}")
    return tm, tu


def burst(Rig rig, addresses, uint64_t length, Py_ssize_t size, look_iovas, look_addresses):
    """Throughput of independent calls: `size` maps, as many translations, as many unmaps, one pair of clock
    readings around each.

    `look_iovas` and `look_addresses` are as in pair(). Returns three ticks arrays (map, translate, unmap), one element
    per burst of `size` calls.
    """
    cdef Py_ssize_t total = len(addresses), n = total // size, i = 0, k
    tm, tt, tu = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    work, seen, wanted = np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(size, np.uint64)
    cdef uint64_t *pm = u64(tm, n)
    cdef uint64_t *pt = u64(tt, n)
    cdef uint64_t *pu = u64(tu, n)
    cdef uint64_t *iovas = u64(work, size)
    cdef uint64_t *got = u64(seen, size)
    cdef uint64_t *ask = u64(wanted, size)
    cdef uint64_t *a = u64(addresses, total)
    cdef uint64_t *li = u64(look_iovas, total)
    cdef uint64_t *la = u64(look_addresses, total)
    cdef uint64_t t0, t1, t2, t3, wrong = 0
    cdef iof_cmd_ioas_map m
    cdef int err = 0
    memset(&m, 0, sizeof(m))
    with nogil:
        for i in range(n):
            t0 = iofb_ticks(rig.tsc)
            for k in range(size):
                err |= rig._map(&m, a[i * size + k], length)
                iovas[k] = m.iova
            t1 = iofb_ticks(rig.tsc)
            pm[i] = t1 - t0
            for k in range(size):
                ask[k] = li[i * size + k] if li[i * size + k] else iovas[k]
            t1 = iofb_ticks(rig.tsc)
            for k in range(size):
                iof_translate(rig.ctx, rig.hwpt_id, 1, &ask[k], &got[k], NULL)
            t2 = iofb_ticks(rig.tsc)
            pt[i] = t2 - t1
            for k in range(size):
                wrong |= got[k] ^ (la[i * size + k] if li[i * size + k] else a[i * size + k])
            t2 = iofb_ticks(rig.tsc)
            for k in range(size):
                err |= rig._unmap(iovas[k], length)
            t3 = iofb_ticks(rig.tsc)
            pu[i] = t3 - t2
            if err or wrong:
                break
    if err or wrong:
        fail(-err if err else EILSEQ, f"burst {i} of {size} calls on {length} bytes")
    return tm, tt, tu


def batch(Rig rig, addresses, lengths, Py_ssize_t size):
    """map_many, translate, unmap_many of `size` ranges a call: three ticks arrays (map, translate, unmap), one
    element per batch."""
    cdef Py_ssize_t n = len(addresses) // size, i = 0, k
    tm, tt, tu = np.empty(n, np.uint64), np.empty(n, np.uint64), np.empty(n, np.uint64)
    work, seen = np.empty(size, np.uint64), np.empty(size, np.uint64)
    cdef uint64_t *pm = u64(tm, n)
    cdef uint64_t *pt = u64(tt, n)
    cdef uint64_t *pu = u64(tu, n)
    cdef uint64_t *iovas = u64(work, size)
    cdef uint64_t *got = u64(seen, size)
    cdef uint64_t *a = u64(addresses, len(addresses))
    cdef uint64_t *lens = u64(lengths, len(addresses))
    cdef uint64_t t0, t1, t2, t3, wrong = 0
    cdef iof_map_many_args mm
    cdef iof_unmap_many_args um
    cdef int64_t found, gone
    cdef int err = 0
    memset(&mm, 0, sizeof(mm))
    memset(&um, 0, sizeof(um))
    mm.ioas_id = um.ioas_id = rig.ioas_id
    mm.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
    mm.n = um.n = size
    mm.iovas = iovas
    um.iovas = iovas
    with nogil:
        for i in range(n):
            mm.addresses = a + i * size
            mm.lengths = um.lengths = lens + i * size
            t0 = iofb_ticks(rig.tsc)
            err = iof_map_many(rig.ctx, &mm)
            t1 = iofb_ticks(rig.tsc)
            if err:
                break
            found = iof_translate(rig.ctx, rig.hwpt_id, size, iovas, got, NULL)
            t2 = iofb_ticks(rig.tsc)
            gone = iof_unmap_many(rig.ctx, &um)
            t3 = iofb_ticks(rig.tsc)
            for k in range(size):
                wrong |= got[k] ^ a[i * size + k]
            if wrong or found != size or gone != size:
                err = -EILSEQ
                break
            pm[i] = t1 - t0
            pt[i] = t2 - t1
            pu[i] = t3 - t2
    if err:
        fail(-err, f"batch {i} of {size} ranges")
    return tm, tt, tu
