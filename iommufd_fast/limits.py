# SPDX-License-Identifier: Apache-2.0
"""How much memory may be locked or pinned here, how much is, and what to do when it is not enough."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from iommufd_fast.errors import IommufdError
from iommufd_fast.remedies import why_no_io_uring

_CAP_IPC_LOCK = 14
UNLIMITED = None


def _field(name: str, base: int = 10) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1], base)
    return 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What this process may hold, at one moment. Bytes; None: no limit.

    Attributes
    ----------
    soft, hard : int or None
        RLIMIT_MEMLOCK: what counts now, and how far the process may raise it by itself.
    exempt : bool
        The process has CAP_IPC_LOCK: the limit does not apply to it.
    locked, pinned : int
        By mlock (VmLck), and long-term (VmPin; io_uring's buffers are charged to the user besides).
    io_uring : str
        "yes", or why it cannot be used.
    hugepages : dict
        Free pages by size, for example ``{2097152: 0}``.
    """

    soft: int | None
    hard: int | None
    exempt: bool
    locked: int
    pinned: int
    io_uring: str
    hugepages: dict[int, int]

    def shortage(self, size: int) -> int:
        """By how many bytes the limit is too low to hold `size` more; 0: it is enough."""
        if self.exempt or self.soft is None:
            return 0
        return max(0, self.locked + size - self.soft)


def _bytes(value: int) -> int | None:
    return UNLIMITED if value == resource.RLIM_INFINITY else value


def _io_uring() -> str:
    from iommufd_fast.machine import Machine

    try:
        Machine(groups=(), policy="io_uring").close()
    except IommufdError as error:
        return why_no_io_uring(error.errno or 0)
    return "yes"


def _hugepages() -> dict[int, int]:
    free = {}
    for folder in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        size = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        free[size] = int((folder / "free_hugepages").read_text(encoding="ascii"))
    return free


def limits() -> Limits:
    """Ask the system."""
    soft, hard = (_bytes(value) for value in resource.getrlimit(resource.RLIMIT_MEMLOCK))
    exempt = bool(_field("CapEff", 16) >> _CAP_IPC_LOCK & 1)
    return Limits(soft, hard, exempt, _field("VmLck") << 10, _field("VmPin") << 10, _io_uring(), _hugepages())
