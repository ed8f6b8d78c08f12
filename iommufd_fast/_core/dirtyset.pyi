# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core.commands import ContextHandle

def ranges(
    h: ContextHandle, hwpt: int, start: int, last: int, clear: bool, room: int
) -> tuple[NDArray[np.uint64], int | None] | int: ...
def mark(bitmap: NDArray[np.uint8], found: NDArray[np.uint64], start: int, shift: int) -> None: ...
