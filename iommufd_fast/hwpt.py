# SPDX-License-Identifier: Apache-2.0
"""Hardware page tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iommufd_fast._core import batch
from iommufd_fast._handle import Owned
from iommufd_fast.errors import check, failed

if TYPE_CHECKING:
    from iommufd_fast.context import Iommufd
    from iommufd_fast.ioas import Ioas


@dataclass(frozen=True, slots=True)
class HwptStats:
    """Counters of a page table. `leaves`: how many entries of each size in bytes; `page_sizes`: a bit per size."""

    ioas_id: int
    automatic: bool
    endpoints: int
    format: int
    aperture: tuple[int, int]
    page_sizes: int
    leaves: dict[int, int]
    tables: int
    table_bytes: int


class Hwpt(Owned):
    """A page table fed by one IOAS: made by `Iommufd.hwpt`, or automatically when a device is attached to an IOAS.

    An automatic one belongs to the attachment: it goes with the last device, and close() leaves it alone.
    """

    _made_by = "context.hwpt(device, ioas) or device.attach(ioas)"
    context: Iommufd
    ioas: Ioas
    id: int
    automatic: bool
    _gone: bool

    def _what(self) -> str:
        return f"HWPT {self.id} of {self.context._h.name}"

    def _check(self) -> None:
        if self._gone:
            raise ValueError(f"{self._what()} is closed")
        self.context._h.check_open()

    @property
    def closed(self) -> bool:
        """Whether the page table is gone."""
        return self._gone or self.context.closed

    def translate(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """Translate IOVAs through this page table: uint64 addresses (2**64-1: nothing there) and uint8 prots."""
        self._check()
        found, addresses, prots = batch.translate(self.context._h, self.id, iovas)
        check(found, "translate", f"cannot translate in {self._what()}")
        return addresses, prots

    def stats(self) -> HwptStats:
        """Counters of this moment."""
        self._check()
        return HwptStats(**check(self.context._h.hwpt_stats(self.id), "stats", f"no stats of {self._what()}"))

    def close(self) -> None:
        """Destroy it, unless it is automatic. Again is fine.

        Raises
        ------
        Busy
            A device is attached to it.
        """
        if self.closed or self.automatic or self.context._h.forked:
            return
        err = self.context._h.destroy(self.id)
        if err < 0:
            users = [f"device {e.dev_id}" for e in self.context.endpoints if e.hwpt_id == self.id]
            holders = f" by {', '.join(users)}" if users else ""
            raise failed(err, "destroy", f"cannot destroy {self._what()}", holders=holders)
        self.context._lost(self)

    def _end(self, why: str) -> None:
        self._gone = True

    def __repr__(self) -> str:
        kind = "automatic" if self.automatic else "made explicitly"
        return f"<Hwpt {self.id}: of IOAS {self.ioas.id}, {kind}{', closed' if self.closed else ''}>"
