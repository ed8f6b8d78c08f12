# SPDX-License-Identifier: Apache-2.0
"""What can issue DMA, and where it ends up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One (device, PASID) of a context: it belongs to exactly one address space, or is blocked.

    Attributes
    ----------
    dev_id : int
        The device's id in its context.
    pasid : int or None
        None: the device's own requester id.
    hwpt_id, ioas_id : int or None
        The page table that translates its DMA and the IOAS that feeds it; None while blocked.
    device, group : int
        Indexes on the machine.
    """

    dev_id: int
    pasid: int | None
    hwpt_id: int | None
    ioas_id: int | None
    device: int
    group: int

    @property
    def blocked(self) -> bool:
        """Whether all DMA is refused."""
        return self.hwpt_id is None

    def __str__(self) -> str:
        pasid = "" if self.pasid is None else f" pasid {self.pasid}"
        where = "blocked" if self.blocked else f"hwpt {self.hwpt_id}, ioas {self.ioas_id}"
        return f"device {self.device}{pasid} (group {self.group}): {where}"


def endpoints_of(listed: list[tuple]) -> tuple[Endpoint, ...]:
    """Endpoints from the C core's list."""
    return tuple(Endpoint(d, p, h or None, i or None, device, group) for d, p, h, i, device, group in listed)
