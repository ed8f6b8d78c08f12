# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Opening files of the kernel: /dev/iommu and VFIO devices. What is done with them is the same as for any handle."""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_kernel cimport *
from iommufd_fast._core.commands cimport ContextHandle, DeviceHandle
from iommufd_fast._core.machines cimport MachineHandle

import os

CHOICES = {"own": IOF_IOVA_OWN, "kernel": IOF_IOVA_KERNEL, "va": IOF_IOVA_VA}

cdef extern from "errno.h" nogil:
    enum:
        ENOTTY


cdef int null_open(void *data, const char *path) noexcept nogil:
    return 2147483646


cdef int null_close(void *data, int fd) noexcept nogil:
    return 0


cdef int null_ioctl(void *data, int fd, unsigned long cmd, void *arg) noexcept nogil:
    """A kernel that does nothing, successfully: what is left to be measured is ours."""
    if cmd == IOF_CMD_IOAS_ALLOC:
        (<iof_cmd_ioas_alloc *>arg).out_ioas_id = 1
    elif cmd == IOF_CMD_IOAS_IOVA_RANGES:
        (<iof_cmd_ioas_iova_ranges *>arg).num_iovas = 1
        (<iof_cmd_ioas_iova_ranges *>arg).out_iova_alignment = 4096
        (<iof_uapi_range *>(<iof_cmd_ioas_iova_ranges *>arg).allowed_iovas)[0] = iof_uapi_range(0, 0x7fffffffff)
    elif not (0x3b80 <= cmd < 0x3b95):
        return -ENOTTY
    return 0


def open_context(ContextHandle h not None, where, str iova, MachineHandle over=None, bint null=False):
    """Open /dev/iommu (a path or a descriptor, which is taken over): 0 or a negative errno.

    `over`: the machine whose engine stands in the kernel's place. `null`: one that does nothing does.
    """
    cdef iof_kernel_config cfg
    cdef iof_sys sys
    cdef bytes path
    cdef const char *named
    cdef iof_handle *made = NULL
    cdef int err
    cdef int fd = -1
    memset(&cfg, 0, sizeof(cfg))
    memset(&sys, 0, sizeof(sys))
    cfg.size, cfg.iova = sizeof(cfg), <iof_iova_choice><int>CHOICES[iova]
    if over is not None:
        over.enter()  # until the context is open
        iof_sys_over_engine(over.m, &sys)
        h.machine = over
    if null:
        sys.open, sys.close, sys.ioctl = null_open, null_close, null_ioctl
    if over is not None or null:
        cfg.sys = &sys
    try:
        if isinstance(where, int):
            fd = where
            err = iof_kernel_adopt(fd, &cfg, &made)
        else:
            path = os.fsencode(where)
            named = path
            with nogil:
                err = iof_kernel_open(named, &cfg, &made)
    finally:
        if over is not None:
            over.leave()
    h.h = made
    return h.opened(err, "context ")


def open_device(DeviceHandle h not None, ContextHandle context not None, where, group, str name):
    """Open a VFIO device by name or path, or take a descriptor over: 0 or a negative errno."""
    cdef bytes path
    cdef const char *named
    cdef iof_handle *made = NULL
    cdef int err
    cdef int fd = -1
    cdef int number = -1 if group is None else group
    context.check()
    if isinstance(where, int):
        fd = where
        context.enter()
        err = iof_vfio_adopt(context.h, fd, number, &made)
        context.leave()
    else:
        path = os.fsencode(where)
        named = path
        context.enter()
        with nogil:
            err = iof_vfio_open(context.h, named, &made)
        context.leave()
    h.h = made
    return h.opened(err, name)


def counts(ContextHandle h not None, uint32_t ioas):
    """How the IOVAs of an IOAS were found: (own, kernel, foreign, reread), or a negative errno."""
    cdef iof_kernel_counts_out c
    cdef int err
    h.enter()
    with nogil:
        err = iof_kernel_ioas_counts(h.h, ioas, &c)
    h.leave()
    if err < 0:
        return err
    return c.own, c.kernel, c.foreign, c.reread
