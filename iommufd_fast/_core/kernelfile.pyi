# SPDX-License-Identifier: Apache-2.0
from typing import Final

from iommufd_fast._core.commands import ContextHandle, DeviceHandle
from iommufd_fast._core.machines import MachineHandle

CHOICES: Final[dict[str, int]]

def open_context(
    h: ContextHandle, where: str | int, iova: str, over: MachineHandle | None = None, null: bool = False
) -> int: ...
def open_device(h: DeviceHandle, context: ContextHandle, where: str | int, group: int | None, name: str) -> int: ...
def counts(h: ContextHandle, ioas: int) -> tuple[int, int, int, int] | int: ...
