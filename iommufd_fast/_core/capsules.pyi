# SPDX-License-Identifier: Apache-2.0
from typing_extensions import CapsuleType

from iommufd_fast._core.channel import Handle
from iommufd_fast._core.machines import MachineHandle

def of_machine(machine: MachineHandle) -> CapsuleType: ...
def of_handle(handle: Handle) -> CapsuleType: ...
