# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, overflowcheck=False
"""A Rig on a kernel: a device of VFIO, or the mock device of a kernel with CONFIG_IOMMUFD_TEST.

The loops of benchloop run on it unchanged: what they time is iof_submit() of a context in
the kernel, or iof_ioctl() where the kernel is to choose the IOVAs.
"""
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset
from iommufd_fast._core.benchrig cimport Rig
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.ticks cimport IOFB_TSC

from iommufd_fast._core._fail import fail

cdef extern from "iommufd_fast_kernel.h" nogil:
    struct iof_kernel_config:
        pass

    int iof_kernel_open(const char *path, const iof_kernel_config *cfg, iof_handle **out)
    int iof_vfio_open(iof_handle *ctx, const char *name, iof_handle **out)
    int iof_submit(iof_handle *h, unsigned long cmd, void *arg)

# The one command of the mock device, as far as it is used here; csrc/preload/mock_priv.h has all of it.
cdef extern from *:
    """
    #include <stdint.h>
    #define IOFB_TEST 0x3ba0ul
    enum { IOFB_MOCK_DOMAIN = 2, IOFB_CHECK_MAP = 3, IOFB_MOCK_REPLACE = 10 };
    struct iofb_test {
        uint32_t size, op, id, reserved;
        union {
            struct { uint32_t out_device, out_hwpt, out_id; } domain;
            struct { uint32_t pt_id; } replace;
            struct { uint64_t iova, length, address; } check;
            uint64_t room[6];
        };
        uint64_t last;
    };
    """
    enum:
        IOFB_TEST
        IOFB_MOCK_DOMAIN
        IOFB_CHECK_MAP
        IOFB_MOCK_REPLACE
    struct iofb_domain:
        uint32_t out_device, out_hwpt, out_id
    struct iofb_replace:
        uint32_t pt_id
    struct iofb_check:
        uint64_t iova, length, address
    struct iofb_test:
        uint32_t size, op, id
        iofb_domain domain
        iofb_replace replace
        iofb_check check


cdef class KernelRig(Rig):
    """One context in the kernel, one IOAS, one attached device.

    Parameters
    ----------
    device : str
        PCI address, vfio-dev name, or "mock".
    choice : {"own", "kernel"}
        Who chooses the IOVA of a map: this library, or the kernel. fill() and batches are always ours.
    huge_pages, tsc : bool
        As for Rig.
    """
    cdef readonly bint mock

    def __init__(self, str device, str choice="own", bint huge_pages=True, bint tsc=False):
        cdef bytes name = device.encode()
        cdef int err
        if self.ctx != NULL:
            raise RuntimeError("this rig is set up already")
        self.tsc = tsc and IOFB_TSC
        if choice not in ("own", "kernel"):
            raise ValueError(f"choice is 'own' or 'kernel', not {choice!r}")
        self.door = iof_submit if choice == "own" else iof_ioctl
        self.mock = device == "mock"
        err = iof_kernel_open(NULL, NULL, &self.ctx)
        if err:
            fail(-err, "open /dev/iommu")
        if self.mock:
            self._space(huge_pages)
            self._attach_mock()
            return
        err = iof_vfio_open(self.ctx, name, &self.dev)
        if err:
            fail(-err, f"open the device {device}")
        self._bind()
        self._space(huge_pages)
        self._attach()

    cdef int _test(self, iofb_test *cmd, int op, uint32_t number) noexcept nogil:
        cmd.size, cmd.op, cmd.id = sizeof(cmd[0]), op, number
        return iof_ioctl(self.ctx, IOFB_TEST, cmd)

    cdef int _attach_mock(self) except -1:
        """The mock device gets a page table made by HWPT_ALLOC, because that is one the provider knows of."""
        cdef iofb_test cmd
        cdef iof_cmd_hwpt_alloc alloc
        cdef uint32_t device
        cdef int err
        memset(&cmd, 0, sizeof(cmd))
        err = self._test(&cmd, IOFB_MOCK_DOMAIN, self.ioas_id)
        if err:
            fail(-err, "make a mock device (the kernel needs CONFIG_IOMMUFD_TEST)")
        device = cmd.domain.out_device
        memset(&alloc, 0, sizeof(alloc))
        alloc.size, alloc.dev_id, alloc.pt_id = sizeof(alloc), cmd.domain.out_id, self.ioas_id
        err = iof_ioctl(self.ctx, IOF_CMD_HWPT_ALLOC, &alloc)
        if err:
            fail(-err, "allocate a page table for the mock device")
        self.hwpt_id = alloc.out_hwpt_id
        memset(&cmd, 0, sizeof(cmd))
        cmd.replace.pt_id = self.hwpt_id
        err = self._test(&cmd, IOFB_MOCK_REPLACE, device)
        if err:
            fail(-err, "attach the mock device")
        return 0

    def check(self, uint64_t iova, memory):
        """Raise unless the mock device's page table leads from `iova` to this memory, page by page."""
        cdef iofb_test cmd
        cdef int err
        memset(&cmd, 0, sizeof(cmd))
        cmd.check.iova, cmd.check.length = iova, memory.nbytes
        cmd.check.address = <uint64_t><uintptr_t>memory.ctypes.data
        with nogil:
            err = self._test(&cmd, IOFB_CHECK_MAP, self.hwpt_id)
        if err:
            fail(-err, f"find {memory.nbytes} bytes of memory at IOVA {iova:#x} in the mock device's page table")
