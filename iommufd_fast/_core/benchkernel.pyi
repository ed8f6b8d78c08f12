# SPDX-License-Identifier: Apache-2.0
from typing import Any

from iommufd_fast._core.benchrig import Rig

class KernelRig(Rig):
    mock: bool
    def __init__(self, device: str, choice: str = "own", huge_pages: bool = True, tsc: bool = False) -> None: ...
    def check(self, iova: int, memory: Any) -> None: ...
