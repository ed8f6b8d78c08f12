# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

from iommufd_fast._core.commands import ContextHandle
from iommufd_fast._core.mapping import Mapping

def map_parallel(
    h: ContextHandle,
    ioas: int,
    flags: int,
    policy: int,
    address: int,
    length: int,
    iova: int,
    threads: int,
    progress: Callable[[int, int], object] | None,
) -> tuple[int, int, int, BaseException | None]: ...
def replace(h: ContextHandle, ioas: int, flags: int, policy: int, iova: int, length: int, address: int) -> int: ...
def entries(h: ContextHandle, ioas: int) -> tuple[int, int, int, dict[int, int] | None, int] | int: ...
def trim(m: Mapping, inside: int, size: int) -> Mapping: ...
