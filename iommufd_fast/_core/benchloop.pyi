# SPDX-License-Identifier: Apache-2.0
from numpy import uint64
from numpy.typing import NDArray

from iommufd_fast._core.benchrig import Rig

def pair(
    rig: Rig, addresses: NDArray[uint64], length: int, look_iovas: NDArray[uint64], look_addresses: NDArray[uint64]
) -> tuple[NDArray[uint64], NDArray[uint64], NDArray[uint64]]: ...
def churn(
    rig: Rig, live_iovas: NDArray[uint64], live_addresses: NDArray[uint64], order: NDArray[uint64], length: int
) -> tuple[NDArray[uint64], NDArray[uint64]]: ...
def burst(
    rig: Rig,
    addresses: NDArray[uint64],
    length: int,
    size: int,
    look_iovas: NDArray[uint64],
    look_addresses: NDArray[uint64],
) -> tuple[NDArray[uint64], NDArray[uint64], NDArray[uint64]]: ...
def batch(
    rig: Rig, addresses: NDArray[uint64], lengths: NDArray[uint64], size: int
) -> tuple[NDArray[uint64], NDArray[uint64], NDArray[uint64]]: ...
