# SPDX-License-Identifier: Apache-2.0
"""The way into a kernel: iof_submit() in a C loop, on a device of VFIO or the mock device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core import benchkernel

from .clock import Clock
from .cpath import CPath
from .matrix import Case
from .paths import WrongAnswer

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
