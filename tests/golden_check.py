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
ADDRESS = np.uint64(0x000FFFFFFFFFF000)
SHOWN = 20  # mismatches printed


def vtdss_is_table(items: np.ndarray) -> np.ndarray:
    return ((items & 3) != 0) & ((items & 0x80) == 0)


def amdv1_is_table(items: np.ndarray) -> np.ndarray:
    following = (items >> 9) & 7
    return ((items & 1) != 0) & (following != 0) & (following != 7)


IS_TABLE = {"vtdss": vtdss_is_table, "amdv1": amdv1_is_table}


def features(case: dict[str, Any]) -> dict[str, bool]:
    """The case's feature bits as arguments of PageTable; the others change no item."""
    bits = case["config"]["features"]
    if case["format"] == "vtdss":
        return {"force_coherent": bool(bits & 1 << 7), "force_writeable": bool(bits & 1 << 8)}
    return {"growing_top": bool(bits & 1 << 2), "force_coherent": bool(bits & 1 << 8)}


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
    config = case["config"]
    top = 2 if case["format"] == "amdv1" else None
    return PageTable(
        case["format"], va_bits=config["va_lg2"], oa_bits=config["oa_lg2"], top_level=top, **features(case)
    )


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
        tables.append((number(entry["addr"]), entry["level"], items))
    return tables


def numbered(tables: list[Table], kind: str) -> list[tuple[int, bytes]]:
    """(level, items) of each, with the number of the table in place of a table's address."""
    order = {address: i for i, (address, _, _) in enumerate(tables)}
    result = []
    for _, level, items in tables:
        items = items.copy()
        if level:
            for i in np.flatnonzero(IS_TABLE[kind](items)):
                address = int(items[i] & ADDRESS)
                items[i] = (items[i] & ~ADDRESS) | np.uint64(order.get(address, 0xFFFFFFFFF) << 12)
        result.append((level, items.tobytes()))
    return result


def compare_walks(case: dict[str, Any], table: PageTable, tables: list[Table], tally: Tally) -> None:
    foreign = PageTable.over(
        {address: items for address, _, items in tables},
        format=case["format"],
        root=number(case["root"]),
        top_level=case["top_level"],
        va_bits=case["config"]["va_lg2"],
        oa_bits=case["config"]["oa_lg2"],
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
    if table.top_level != case["top_level"]:
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
    shape, table, live = None, None, {}
    for name, case in cases:
        if case["format"] not in IS_TABLE:
            skipped[case["format"]] = skipped.get(case["format"], 0) + 1
            continue
        before = tally.mismatches + tally.differing
        for iova, length in live.items():
            table.unmap(iova, length)
        if shape != (key := (case["format"], case.get("case"), case["config"])):
            shape, table = key, build(case)
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
