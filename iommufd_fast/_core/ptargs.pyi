# SPDX-License-Identifier: Apache-2.0
from typing import NamedTuple

FORMATS: dict[str, int]
FEATURES: dict[str, int]

class Leaf(NamedTuple):
    """First IOVA, its address, size in bytes, "r", "w" or "rw", level (0 is the lowest), dirty."""

    iova: int
    address: int
    size: int
    prot: str
    level: int
    dirty: bool
