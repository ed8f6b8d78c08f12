# SPDX-License-Identifier: Apache-2.0
from numpy import uint64
from numpy.typing import NDArray

from iommufd_fast._core.benchrig import Rig

def storm(
    rig: Rig, addresses: NDArray[uint64], rounds: int, start: int, base: int = 0, batch: int = 0
) -> tuple[int, int]: ...
