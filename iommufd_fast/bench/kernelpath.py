# SPDX-License-Identifier: Apache-2.0
"""The ways into a kernel: iof_submit() in a C loop, and the control plane, on a device of VFIO or the mock device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import iommufd_fast as iof
from iommufd_fast import uapi
from iommufd_fast._core import benchkernel

from .clock import Clock
from .cpath import CPath
from .matrix import Case
from .paths import WrongAnswer
from .pypath import PythonPath

_PAGE = 4096


class KernelCPath(CPath):
    """CPath on a kernel's context."""

    def __init__(self, case: Case, clock: Clock, device: str) -> None:
        self.clock = clock
        tsc = clock.name.startswith("time stamp")
        self.kernel = self.rig = benchkernel.KernelRig(device, case.iova, case.page == "auto", tsc)

    def prove(self, iova: int, view: NDArray[np.uint8], offset: int, rng: np.random.Generator) -> None:
        """The mock device's page table is compared with the memory; of a real device nobody but itself can tell."""
        if not self.kernel.mock:
            return
        at = offset & -_PAGE
        try:
            self.kernel.check(iova + at, view[at : at + _PAGE])
        except OSError as e:
            raise WrongAnswer(str(e)) from e

    def close(self) -> None:
        del self.kernel, self.rig


_MOCK = 0x3BA0  # the mock device's command
_DOMAIN, _CHECK, _REPLACE = 2, 3, 10
_TEST = np.dtype([("size", "u4"), ("op", "u4"), ("id", "u4"), ("reserved", "u4"), ("room", "u8", 6), ("last", "u8")])


class KernelPythonPath(PythonPath):
    """PythonPath on a kernel's context."""

    def __init__(self, case: Case, clock: Clock, device: str) -> None:
        self.clock, self.trusted = clock, False
        self.ctx = iof.open("kernel")
        self.handles, self.slots, self.indexes, self.single = [], [], [], None
        self.ioas = self.ctx.ioas()
        self.ioas.huge_pages = case.page == "auto"
        self.table = self._mock() if device == "mock" else 0
        if device != "mock":
            self.ctx.bind(iof.VfioDevice(device)).attach(self.ioas)

    def _test(self, op: int, number: int, *words: int) -> NDArray[np.uint32]:
        """The mock device's command; what came back as numbers of 32 bits."""
        cmd = np.zeros((), _TEST)
        cmd["size"], cmd["op"], cmd["id"] = cmd.itemsize, op, number
        cmd["room"][: len(words)] = words
        self.ctx.ioctl(_MOCK, cmd.data)
        back: NDArray[Any] = cmd["room"].reshape(-1)
        return back.view(np.uint32)

    def _mock(self) -> int:
        """A mock device at a page table that the provider knows of."""
        device, _, number = self._test(_DOMAIN, self.ioas.id)[:3].tolist()
        cmd = np.zeros((), uapi.HWPT_ALLOC)
        cmd["size"], cmd["dev_id"], cmd["pt_id"] = cmd.itemsize, number, self.ioas.id
        self.ctx.ioctl(uapi.Command.HWPT_ALLOC, cmd.data)
        self._test(_REPLACE, device, int(cmd["out_hwpt_id"]))
        return int(cmd["out_hwpt_id"])

    def prove(self, iova: int, view: NDArray[np.uint8], offset: int, rng: np.random.Generator) -> None:
        """As KernelCPath does it."""
        if not self.table:
            return
        at = offset & -_PAGE
        try:
            self._test(_CHECK, self.table, iova + at, _PAGE, int(view.ctypes.data) + at)
        except OSError as e:
            raise WrongAnswer(f"the mock device's page table does not lead to the memory at {at:#x}: {e}") from e

    def leaves(self) -> dict[int, int]:
        """A kernel does not tell."""
        return {}

    def close(self) -> None:
        for mapping in self.handles:
            mapping.close()
        self.ctx.close()
