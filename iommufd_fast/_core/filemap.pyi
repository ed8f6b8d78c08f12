# SPDX-License-Identifier: Apache-2.0
from iommufd_fast._core.ioascore import IoasCore
from iommufd_fast._core.mapping import Mapping

FILE: int

def map_file(ioas: IoasCore, fd: int, offset: int, length: int, iova: int | None, flags: int) -> Mapping: ...
