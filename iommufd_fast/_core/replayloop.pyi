# SPDX-License-Identifier: Apache-2.0
from numpy import uint64
from numpy.typing import NDArray

from iommufd_fast._core.benchrig import Rig

def table(iovas: NDArray[uint64], addresses: NDArray[uint64], sizes: NDArray[uint64], tsc: bool) -> NDArray[uint64]: ...
def ioas(rig: Rig, iovas: NDArray[uint64], addresses: NDArray[uint64], sizes: NDArray[uint64]) -> NDArray[uint64]: ...
