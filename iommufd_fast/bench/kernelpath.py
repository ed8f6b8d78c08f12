# SPDX-License-Identifier: Apache-2.0
"""The ways into a kernel, on a device of VFIO or the mock device: iof_submit() in a C loop, and the control plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import iommufd_fast as iof
from iommufd_fast._core import benchkernel

from .clock import Clock
from .cpath import CPath
from .matrix import Case
from .paths import WrongAnswer
from .pypath import PythonPath

_PAGE = 4096
# The command of the mock device, for Python: a head, then what the operation takes.
_TEST, _MOCK_DOMAIN, _CHECK_MAP = 0x3BA0, 2, 3
_COMMAND = np.dtype([("size", "u4"), ("op", "u4"), ("id", "u4"), ("reserved", "u4"), ("words", "u4", 14)])


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


def _test(ctx: iof.Iommufd, op: int, number: int, *longs: int) -> NDArray[np.uint32]:
    """One command of the mock device: the words that it answers."""
    command = np.zeros((), _COMMAND)
    command["size"], command["op"], command["id"] = command.itemsize, op, number
    command["words"][: 2 * len(longs)] = np.array(longs, np.uint64).view(np.uint32)
    ctx.ioctl(_TEST, command.data)
    return command["words"]


class KernelPythonPath(PythonPath):
    """PythonPath on a kernel's context."""

    def __init__(self, case: Case, clock: Clock, device: str) -> None:
        self.clock, self.policy, self.table = clock, "probe", 0
        self.handles, self.slots, self.indexes, self.single = [], [], [], None
        self.ctx = iof.open("kernel", iova=case.iova)
        try:
            self.ioas = self.ctx.ioas()
            self.ioas.huge_pages = case.page == "auto"
            if device == "mock":
                self.table = int(_test(self.ctx, _MOCK_DOMAIN, self.ioas.id)[1])
            else:
                self.ctx.bind(iof.VfioDevice(device)).attach(self.ioas)
        except BaseException:
            self.ctx.close()
            raise

    def prove(self, iova: int, view: NDArray[np.uint8], offset: int, rng: np.random.Generator) -> None:
        """As KernelCPath does."""
        if not self.table:
            return
        at = offset & -_PAGE
        try:
            _test(self.ctx, _CHECK_MAP, self.table, iova + at, _PAGE, view.ctypes.data + at)
        except OSError as e:
            raise WrongAnswer(str(e)) from e

    def leaves(self) -> dict[int, int]:
        """None are shown by a kernel."""
        return {}

    def close(self) -> None:
        for mapping in self.handles:
            mapping.close()
        self.ctx.close()
