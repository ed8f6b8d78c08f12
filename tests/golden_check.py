# SPDX-License-Identifier: Apache-2.0
"""Compare page tables with golden ones, built and walked by another implementation.

    python tests/golden_check.py DIR

DIR holds ``*.json.gz``, each a list of cases: a shape, map and unmap operations with their results, the tables after
them (runs of items), and IOVAs with the addresses they translate to. For every case:

* the operations run through our builder; each result must be the same errno or number of bytes;
* every walk must give the same address, from our builder's table and by a foreign walk over the golden tables;
* every table must be the same item for item, empty ones included, once table addresses are numbered in walk order.

Cases of one shape that follow each other in a file (the same ``case``, another ``seed``) were run one after the other
on one table, with all mappings removed in between: the empty tables of the earlier case are still there in the later.
So are ours.

The last line is ``N walks, M mismatches, T tables, D differing``. Exit status: 0 all the same, 1 not, 2 nothing to
compare.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from iommufd_fast._core.pagetable import PageTable

Table = tuple[int, int, np.ndarray]  # address, level, items
SHOWN = 20  # mismatches printed


def vtdss_is_table(items: np.ndarray) -> np.ndarray:
    return ((items & 3) != 0) & ((items & 0x80) == 0)


def amdv1_is_table(items: np.ndarray) -> np.ndarray:
    following = (items >> 9) & 7
    return ((items & 1) != 0) & (following != 0) & (following != 7)


def x86_64_is_table(items: np.ndarray) -> np.ndarray:
    return (items & 0x81) == 1


def riscv_is_table(items: np.ndarray) -> np.ndarray:
    return (items & 0xF) == 1


def arm_is_table(items: np.ndarray) -> np.ndarray:
    return (items & 3) == 3


# The name of the format here; which items above the lowest level are tables; where their address is and its shift.
FORMATS = {
    "vtdss": ("vtdss", vtdss_is_table, 0x000FFFFFFFFFF000, 0),
    "amdv1": ("amdv1", amdv1_is_table, 0x000FFFFFFFFFF000, 0),
    "x86_64": ("x86_64", x86_64_is_table, 0x000FFFFFFFFFF000, 0),
    "riscv_64": ("riscv64", riscv_is_table, 0x003FFFFFFFFFFC00, 2),
    "arm_lpae_s1": ("arm_s1", arm_is_table, 0x0000FFFFFFFFF000, 0),
    "arm_lpae_s2": ("arm_s2", arm_is_table, 0x0000FFFFFFFFF000, 0),
}


# Feature bits as arguments of PageTable; the others change no item.
FEATURES = {
    "vtdss": {7: "force_coherent", 8: "force_writeable"},
    "amdv1": {2: "growing_top", 8: "force_coherent"},
    "x86_64": {3: "sign_extend"},
    "riscv_64": {3: "sign_extend", 7: "napot"},
}


def is_arm(case: dict[str, Any]) -> bool:
    return case["format"].startswith("arm")


def shape(case: dict[str, Any]) -> dict[str, Any]:
    """The case's config as arguments of PageTable and of its over(), but for the top level."""
    config = case["config"]
    if is_arm(case):
        return {"va_bits": config["ias"], "oa_bits": config["oas"], "granule": config["granule"]}
    features = {name: bool(config["features"] & 1 << bit) for bit, name in FEATURES[case["format"]].items()}
    return {"va_bits": config["va_lg2"], "oa_bits": config["oa_lg2"], **features}


def levels_up(case: dict[str, Any], level: int) -> int:
    """A level counted from the leaves; ARM counts them from the top, 3 being the lowest."""
    return 3 - level if is_arm(case) else level


@dataclass
class Tally:
    walks: int = 0
    mismatches: int = 0
    tables: int = 0
    differing: int = 0

    def mismatch(self, text: str) -> None:
        self.mismatches += 1
        if self.mismatches <= SHOWN:
            print(f"  {text}")

    def differ(self, text: str) -> None:
        self.differing += 1
        if self.differing <= SHOWN:
            print(f"  {text}")

    def __str__(self) -> str:
        return f"{self.walks} walks, {self.mismatches} mismatches, {self.tables} tables, {self.differing} differing"


def number(text: str | int) -> int:
    return text if isinstance(text, int) else int(text, 0)


def build(case: dict[str, Any]) -> PageTable:
    """A table of the case's shape. AMD's starts with three levels, as the golden ones did."""
    top = 2 if case["format"] == "amdv1" else None
    sizes = case["config"]["pgsizes"] if is_arm(case) else None  # there the driver says them
    return PageTable(FORMATS[case["format"]][0], top_level=top, page_sizes=sizes, **shape(case))


def run(table: PageTable, operation: list[Any]) -> tuple[Any, Any]:
    """(what it gave, what it should give): an errno of a map, the bytes of an unmap."""
    kind, *values = operation
    values = [number(v) for v in values]
    if kind == "unmap":
        return table.unmap(values[0], values[1]), values[2]
    try:
        table.map(*values[:3], prot=values[3])
    except OSError as error:
        return -(error.errno or 0), values[4]
    return 0, values[4]


def golden_tables(case: dict[str, Any]) -> list[Table]:
    tables = []
    for entry in case["tables"]:
        items = np.zeros(entry["n"], np.uint64)
        for at, count, first, step in entry["runs"]:
            k = np.arange(count, dtype=np.uint64)
            items[at : at + count] = np.uint64(number(first)) + k * np.uint64(number(step))  # modulo 2^64
        tables.append((number(entry["addr"]), levels_up(case, entry["level"]), items))
    return tables


def numbered(tables: list[Table], kind: str) -> list[tuple[int, bytes]]:
    """(level, items) of each, with the number of the table in place of a table's address."""
    order = {address: i for i, (address, _, _) in enumerate(tables)}
    _, is_table, mask, shift = FORMATS[kind]
    field = np.uint64(mask)
    result = []
    for _, level, items in tables:
        items = items.copy()
        if level:
            for i in np.flatnonzero(is_table(items)):
                address = int(items[i] & field) << shift
                items[i] = (items[i] & ~field) | np.uint64(order.get(address, 0xFFFFFFFFF) << 12)
        result.append((level, items.tobytes()))
    return result


def compare_walks(case: dict[str, Any], table: PageTable, tables: list[Table], tally: Tally) -> None:
    foreign = PageTable.over(
        {address: items for address, _, items in tables},
        format=FORMATS[case["format"]][0],
        root=number(case["root"]),
        top_level=levels_up(case, case["top_level"]),
        **shape(case),
    )
    for iova, address in case["walks"]:
        iova, expected = number(iova), number(address)
        got = table.translate(iova) or 0, foreign.translate(iova) or 0
        tally.walks += 1
        if got != (expected, expected):
            tally.mismatch(f"walk {iova:#x}: built {got[0]:#x}, over the tables {got[1]:#x}, expected {expected:#x}")


def compare_case(case: dict[str, Any], table: PageTable, tally: Tally) -> dict[int, int]:
    """Returns what is mapped in the end: iova to length."""
    tables, live = golden_tables(case), {}
    if sum(table.page_sizes) != case["config"]["pgsizes"]:
        tally.mismatch(f"page sizes {sum(table.page_sizes):#x}, expected {case['config']['pgsizes']:#x}")
    for operation in case["ops"]:
        got, expected = run(table, operation)
        if got != expected:
            tally.mismatch(f"{operation}: {got}, expected {expected}")
        if operation[0] == "map" and not got:
            live[number(operation[1])] = number(operation[3])
        elif operation[0] == "unmap" and got:
            live.pop(number(operation[1]), None)
    if table.top_level != levels_up(case, case["top_level"]):
        tally.mismatch(f"top level {table.top_level}, expected {case['top_level']}")
    compare_walks(case, table, tables, tally)
    ours, theirs = numbered(table.tables(), case["format"]), numbered(tables, case["format"])
    tally.tables += len(theirs)
    for i, (one, other) in enumerate(zip_longest(ours, theirs)):
        if one != other:
            tally.differ(f"table {i} in walk order differs")
    return live


def check(cases: Iterable[tuple[str, dict[str, Any]]]) -> Tally:
    tally = Tally()
    skipped: dict[str, int] = {}
    before_shape, table, live = None, None, {}
    for name, case in cases:
        if case["format"] not in FORMATS:
            skipped[case["format"]] = skipped.get(case["format"], 0) + 1
            continue
        before = tally.mismatches + tally.differing
        for iova, length in live.items():
            table.unmap(iova, length)
        # ARM's cases each had a table of their own.
        if before_shape != (key := (case["format"], case.get("case"), case["config"])) or is_arm(case):
            before_shape, table = key, build(case)
        live = compare_case(case, table, tally)
        print(f"{name}: {'the same' if tally.mismatches + tally.differing == before else 'DIFFERENT'}")
    for name, count in sorted(skipped.items()):
        print(f"skipped: {count} cases of {name}, a format we do not have yet")
    return tally


def load(directory: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    for path in sorted(directory.glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            for case in json.load(file):
                yield f"{path.name} case {case.get('case')} seed {case.get('seed')}", case


def main(directory: str) -> int:
    tally = check(load(Path(directory)))
    print(tally)
    if not tally.walks:
        return 2
    return 1 if tally.mismatches or tally.differing else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
