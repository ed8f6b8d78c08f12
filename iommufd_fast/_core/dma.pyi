# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

from typing_extensions import Buffer

from iommufd_fast._core.commands import DeviceHandle

def read(
    dev: DeviceHandle,
    where: int | Sequence[tuple[int, int]],
    length: int | None = None,
    pasid: int | None = None,
    wait: float | bool | None = False,
) -> bytes: ...
def read_into(
    dev: DeviceHandle,
    where: int | Sequence[tuple[int, int]],
    buffer: Buffer,
    pasid: int | None = None,
    wait: float | bool | None = False,
) -> None: ...
def write(
    dev: DeviceHandle,
    where: int | Sequence[tuple[int, int]],
    data: Buffer,
    pasid: int | None = None,
    wait: float | bool | None = False,
) -> None: ...
def fill(
    dev: DeviceHandle,
    iova: int,
    length: int,
    byte: int = 0,
    pasid: int | None = None,
    wait: float | bool | None = False,
) -> None: ...
def copy(
    dev: DeviceHandle, dst: int, src: int, length: int, pasid: int | None = None, wait: float | bool | None = False
) -> None: ...
