# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable

from typing_extensions import Buffer

from iommufd_fast._core.ioascore import IoasCore
from iommufd_fast._core.mapping import Mapping

def map_sg(
    ioas: IoasCore, entries: Iterable[Buffer | tuple[int, int]], iova: int | None, flags: int, trusted: bool | None
) -> Mapping: ...
