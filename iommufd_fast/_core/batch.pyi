# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.typing import ArrayLike, NDArray

from iommufd_fast._core.commands import ContextHandle
from iommufd_fast._core.ledger import Home

LEAF: np.dtype[np.void]

def map_many(
    ioas: Home,
    flags: int,
    policy: int,
    addresses: ArrayLike,
    lengths: ArrayLike,
    iovas: ArrayLike | None = None,
) -> tuple[int, int, NDArray[np.uint64]]: ...
def copy_many(
    h: ContextHandle,
    dst: int,
    src: int,
    flags: int,
    iovas: ArrayLike,
    lengths: ArrayLike,
    places: ArrayLike | None = None,
) -> tuple[int, int, NDArray[np.uint64]]: ...
def unmap_many(
    h: ContextHandle, ioas: int, iovas: ArrayLike, lengths: ArrayLike
) -> tuple[int, NDArray[np.int32], NDArray[np.uint64], NDArray[np.uint64]]: ...
def translate(h: ContextHandle, pt: int, iovas: ArrayLike) -> tuple[int, NDArray[np.uint64], NDArray[np.uint8]]: ...
def leaves(h: ContextHandle, pt: int, start: int, last: int, n: int) -> tuple[int, NDArray[np.void]]: ...
