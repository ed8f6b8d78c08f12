# SPDX-License-Identifier: Apache-2.0
from typing import NamedTuple

FORMATS: dict[str, int]
FEATURES: dict[str, int]

class Leaf(NamedTuple):
    """First IOVA, its address, size in bytes, "r", "w" or "rw", level (0 is the lowest), dirty, the entry."""

    iova: int
    address: int
    size: int
    prot: str
    level: int
    dirty: bool
    item: int

class Fault(NamedTuple):
    """Why and where a walk ended without a leaf; str() says it in a sentence.

    reason: "hole", "outside" (the IOVA is not the table's), "memory" (the entry is not in the memory), "reserved" (bits
    that must be 0, or a table or leaf where none can be), "denied", "loop" or "endless" (the rest was not looked at).
    The level and address of the table, the address of the entry and what is in it. [iova, last] is what it concerns. In
    stage 2, iova is the address that stage 1 asked for, and fetch_level the level of the table that it was fetching,
    None for its result.
    """

    reason: str
    iova: int
    last: int
    level: int
    table: int
    entry: int
    item: int
    stage: int
    fetch_level: int | None
