# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, overflowcheck=False
"""A Rig: a machine with one soft device, bound and attached to one IOAS, all through the public C API.

The measuring loops (benchloop, replayloop) run on it; what they time is what a C program pays, with no Python
between two calls. Nothing here is on the path of the package's other users.
"""
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ticks cimport IOFB_TSC, iofb_monotonic, iofb_ticks

import numpy as np

from iommufd_fast._core._fail import fail

cdef extern from "iommufd_fast.h" nogil:
    enum:
        IOF_PRESET_INTEL
        IOF_PRESET_AMD
        IOF_PRESET_ARM
        IOF_PRESET_RISCV
        IOF_OPTION_HUGE_PAGES

_PRESETS = {"intel": IOF_PRESET_INTEL, "amd": IOF_PRESET_AMD, "arm": IOF_PRESET_ARM, "riscv": IOF_PRESET_RISCV}
_POLICIES = {"trust": IOF_POLICY_TRUST, "probe": IOF_POLICY_PROBE}


cdef uint64_t *u64(array, Py_ssize_t n) except NULL:
    """The data of a C-contiguous uint64 array of n elements."""
    if array.dtype != np.uint64 or array.ndim != 1 or not array.flags.c_contiguous or array.shape[0] != n:
        raise ValueError(f"expected a contiguous uint64 array of {n} elements, got {array.dtype} {array.shape}")
    return <uint64_t *><uintptr_t>(array.ctypes.data or 8)


def has_tsc():
    """Whether this build can read a time stamp counter."""
    return bool(IOFB_TSC)


def calibrate(bint tsc, int milliseconds=20):
    """Length of a tick and cost of an empty interval.

    Returns
    -------
    tuple of (float, ndarray)
        Nanoseconds per tick; 4096 empty intervals in ticks.
    """
    cdef uint64_t t0, t1, c0, c1, until
    cdef int i
    empty = np.empty(4096, np.uint64)
    cdef uint64_t *out = u64(empty, 4096)
    with nogil:
        for i in range(4096):
            t0 = iofb_ticks(tsc)
            t1 = iofb_ticks(tsc)
            out[i] = t1 - t0
        c0 = iofb_monotonic()
        t0 = iofb_ticks(tsc)
        until = c0 + <uint64_t>milliseconds * 1000000
        c1 = c0
        while c1 < until:
            c1 = iofb_monotonic()
        t1 = iofb_ticks(tsc)
    return (c1 - c0) / <double>(t1 - t0), empty


cdef class Rig:
    """One machine, one context, one attached soft device, one IOAS, driven through the C API.

    Parameters
    ----------
    preset : {"intel", "amd", "arm", "riscv"}
    policy : {"trust", "probe"}
        How mapped memory is held.
    huge_pages : bool
        False keeps every leaf at 4 KiB (IOMMU_OPTION_HUGE_PAGES off).
    tsc : bool
        Which clock the loops read.

    Not thread-safe. Ticks are returned as uint64 arrays, one element per call.
    """

    def __init__(self, preset="intel", policy="trust", huge_pages=True, tsc=False):
        cdef uint32_t one = 1
        cdef iof_machine_config cfg
        cdef int err
        if self.machine != NULL:
            raise RuntimeError("this rig is set up already")
        self.tsc = tsc and IOFB_TSC
        memset(&cfg, 0, sizeof(cfg))
        cfg.size = sizeof(cfg)
        cfg.preset = _PRESETS[preset]
        cfg.policy = _POLICIES[policy]
        cfg.groups = &one
        cfg.n_groups = 1
        err = iof_machine_create(&cfg, &self.machine)
        if err == 0:
            err = iof_engine_open(self.machine, &self.ctx)
        if err == 0:
            err = iof_engine_open_device(self.machine, 0, &self.dev)
        if err:
            fail(-err, f"open a {preset} machine")
        self._attach(huge_pages)

    cdef int _attach(self, bint huge_pages) except -1:
        cdef iof_cmd_bind bind
        cdef iof_cmd_ioas_alloc alloc
        cdef iof_cmd_option option
        cdef iof_cmd_attach attach
        cdef int err
        memset(&bind, 0, sizeof(bind))
        bind.argsz = sizeof(bind)
        bind.iommufd = iof_fileno(self.ctx)
        err = iof_ioctl(self.dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &bind)
        if err:
            fail(-err, "bind the soft device")
        memset(&alloc, 0, sizeof(alloc))
        alloc.size = sizeof(alloc)
        err = iof_ioctl(self.ctx, IOF_CMD_IOAS_ALLOC, &alloc)
        if err:
            fail(-err, "allocate an IOAS")
        self.ioas_id = alloc.out_ioas_id
        memset(&option, 0, sizeof(option))
        option.size = sizeof(option)
        option.option_id = IOF_OPTION_HUGE_PAGES
        option.object_id = self.ioas_id
        option.val64 = huge_pages
        err = iof_ioctl(self.ctx, IOF_CMD_OPTION, &option)
        if err:
            fail(-err, "set large pages")
        memset(&attach, 0, sizeof(attach))
        attach.argsz = sizeof(attach)
        attach.pt_id = self.ioas_id
        err = iof_ioctl(self.dev, IOF_CMD_DEVICE_ATTACH_PT, &attach)
        if err:
            fail(-err, "attach the soft device")
        self.hwpt_id = attach.pt_id
        return 0

    def __dealloc__(self):
        iof_close(self.dev)
        iof_close(self.ctx)
        if self.machine != NULL:
            iof_machine_put(self.machine)

    cdef int _map(self, iof_cmd_ioas_map *m, uint64_t address, uint64_t length) noexcept nogil:
        m.size = sizeof(m[0])
        m.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
        m.ioas_id = self.ioas_id
        m.user_va = address
        m.length = length
        return iof_ioctl(self.ctx, IOF_CMD_IOAS_MAP, m)

    cdef int _unmap(self, uint64_t iova, uint64_t length) noexcept nogil:
        cdef iof_cmd_ioas_unmap u
        u.size = sizeof(u)
        u.ioas_id = self.ioas_id
        u.iova = iova
        u.length = length
        return iof_ioctl(self.ctx, IOF_CMD_IOAS_UNMAP, &u)

    def fill(self, addresses, lengths):
        """Maps them all at once and leaves them live; returns their IOVAs (uint64)."""
        cdef Py_ssize_t n = len(addresses)
        cdef iof_map_many_args many
        cdef int err
        iovas = np.zeros(n, np.uint64)
        memset(&many, 0, sizeof(many))
        many.ioas_id = self.ioas_id
        many.flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE
        many.n = n
        many.addresses = u64(addresses, n)
        many.lengths = u64(lengths, n)
        many.iovas = u64(iovas, n)
        with nogil:
            err = iof_map_many(self.ctx, &many)
        if err:
            fail(-err, f"map entry {many.failed} of {n}")
        return iovas

    def unmap(self, uint64_t iova, uint64_t length):
        """Unmaps one range."""
        cdef int err = self._unmap(iova, length)
        if err:
            fail(-err, f"unmap {length} bytes at IOVA {iova:#x}")

    def translate(self, iovas):
        """Addresses (uint64) behind IOVAs; 2^64-1 is a hole."""
        cdef Py_ssize_t n = len(iovas)
        cdef int64_t found
        addresses = np.empty(n, np.uint64)
        cdef uint64_t *pi = u64(iovas, n)
        cdef uint64_t *pa = u64(addresses, n)
        with nogil:
            found = iof_translate(self.ctx, self.hwpt_id, n, pi, pa, NULL)
        if found < 0:
            fail(<int>-found, f"translate {n} IOVAs")
        return addresses

    def dma(self, uint64_t iova, buffer, bint write):
        """The soft device moves len(buffer) bytes: memory to buffer, or with `write` buffer to memory."""
        view = np.frombuffer(buffer, np.uint8)
        cdef iof_dma_segment segment
        cdef iof_dma_args d
        cdef int err
        memset(&d, 0, sizeof(d))
        segment.iova = iova
        segment.length = view.size
        d.op = IOF_DMA_WRITE if write else IOF_DMA_READ
        d.pasid = IOF_NO_PASID
        d.segments = &segment
        d.n_segments = 1
        d.buffer = <void *><uintptr_t>view.ctypes.data
        with nogil:
            err = iof_dma(self.dev, &d)
        if err:
            fail(-err, f"DMA of {view.size} bytes at IOVA {iova:#x}")

    @property
    def leaves(self):
        """Leaf entries of the page table by size: {bytes: count}."""
        cdef iof_hwpt_stats_out st
        cdef int err = iof_hwpt_stats(self.ctx, self.hwpt_id, &st)
        if err:
            fail(-err, f"read the stats of HWPT {self.hwpt_id}")
        return {1 << i: st.leaves[i] for i in range(64) if st.leaves[i]}
