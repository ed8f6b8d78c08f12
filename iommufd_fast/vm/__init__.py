# SPDX-License-Identifier: Apache-2.0
"""A Linux kernel in QEMU, under emulation, that runs a command over this machine's own files.

``run(Guest(kernel), ["python3", "-c", "print(1)"])`` boots, runs, and brings output and exit status back;
``python -m iommufd_fast.vm KERNEL -- COMMAND`` does the same from a shell.
"""

from .channel import call
from .machine import EDU, EDU_MASK, Guest
from .qmp import Monitor, MonitorError
from .run import GuestError, Outcome, Running, run
from .tools import Missing

__all__ = [
    "EDU",
    "EDU_MASK",
    "Guest",
    "GuestError",
    "Missing",
    "Monitor",
    "MonitorError",
    "Outcome",
    "Running",
    "call",
    "run",
]
