# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast walk``: page tables in a memory dump."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

from iommufd_fast import vtd
from iommufd_fast._core._picture import Run, runs, size_name, svg
from iommufd_fast._core.pagetable import Fault, PageTable
from iommufd_fast._core.ptargs import FEATURES, FORMATS, Leaf
from iommufd_fast._core.ptforeign import ForeignPageTable
from iommufd_fast.cli.common import sentences

VTD = "vtd-root"  # not a format: what VT-d finds devices' tables by
SHOWN = 40  # rows of a list in text; JSON has all


class Number(click.ParamType):
    """An integer in any of Python's notations."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value, 0) if isinstance(value, str) else int(value)
        except ValueError:
            self.fail(f"{value!r} is not a number; 4096 and 0x1000 are", param, ctx)
        if not 0 <= number < 1 << 64:
            self.fail(f"{value} is outside 0 to 2**64-1", param, ctx)
        return number


def totals(found: Iterable[Run]) -> list[dict[str, Any]]:
    """Leaves and bytes per page size and permission."""
    sums: dict[tuple[int, str], int] = {}
    for run in found:
        sums[run.size, run.prot] = sums.get((run.size, run.prot), 0) + run.bytes
    return [
        {"size": size, "prot": prot, "leaves": total // size, "bytes": total}
        for (size, prot), total in sorted(sums.items())
    ]


def overlaps(found: Sequence[Run]) -> Iterator[dict[str, int]]:
    """Addresses that several IOVAs translate to: of each run, what it shares with the one that reached furthest."""
    furthest: Run | None = None
    for run in sorted(found, key=lambda run: (run.address, run.iova)):
        if furthest is not None and run.address < (end := furthest.address + furthest.bytes):
            shared = min(end, run.address + run.bytes) - run.address
            other = furthest.iova + (run.address - furthest.address)
            yield {"address": run.address, "bytes": shared, "iova": min(run.iova, other), "other": max(run.iova, other)}
        if furthest is None or run.address + run.bytes > furthest.address + furthest.bytes:
            furthest = run


def walk_of(table: ForeignPageTable, iova: int) -> dict[str, Any]:
    """One walk, level by level."""
    found = table.lookup(iova)
    steps = [step._asdict() for step in table.path(iova)]
    result: dict[str, Any] = {"iova": iova, "steps": steps}
    if isinstance(found, Fault):
        return result | {"fault": found._asdict(), "why": str(found)}
    return result | {"leaf": found._asdict(), "address": found.address + iova - found.iova}


def draw(walk: dict[str, Any]) -> Iterator[str]:
    """The walk as a person would draw it."""
    yield f"{walk['iova']:#x}"
    for depth, step in enumerate(walk["steps"]):
        indent = "   " * depth + "└─ "
        value = "not in the memory" if step["item"] is None else f"{step['item']:#018x}"
        yield f"{indent}level {step['level']}  [{step['entry']:#x}] = {value}"
    indent = "   " * len(walk["steps"]) + "└─ "
    if "why" in walk:
        yield f"{indent}{walk['why']}"
        return
    leaf = walk["leaf"]
    yield (
        f"{indent}{walk['address']:#x}  {leaf['prot'] or 'no access'}, in a leaf of {size_name(leaf['size'])}: "
        f"{leaf['iova']:#x} to {leaf['address']:#x}{', dirty' if leaf['dirty'] else ''}"
    )


def survey(table: ForeignPageTable, limit: int) -> dict[str, Any]:
    """Everything that is mapped, up to `limit` leaves and faults."""
    records = table.scan()
    faults: list[Fault] = []

    def leaves() -> Iterator[Leaf]:
        for record in islice(records, limit):
            if isinstance(record, Fault):
                faults.append(record)
            else:
                yield record

    found = list(runs(leaves()))
    return {
        "runs": found,
        "totals": totals(found),
        "overlaps": list(overlaps(found)),
        "faults": faults,
        "complete": next(records, None) is None,
    }


def listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"\n{title}"
        yield from (f"  {line}" for line in lines[:SHOWN])
        if len(lines) > SHOWN:
            yield f"  ... {len(lines) - SHOWN} more (--json has all)"


def tell(found: dict[str, Any], limit: int) -> Iterator[str]:
    """A survey in text."""
    if not found["runs"]:
        yield "nothing is mapped"
    yield from listed(
        "mapped",
        [
            f"{r.iova:#018x} - {r.end - 1:#018x}  to {r.address:#018x}  {r.prot or '-':2}  "
            f"{r.bytes // r.size} x {size_name(r.size)}"
            for r in found["runs"]
        ],
    )
    yield from listed(
        "totals",
        [
            f"{size_name(t['size']):>8}  {t['prot'] or '-':2}  {t['leaves']} leaves, {size_name(t['bytes'])}"
            for t in found["totals"]
        ],
    )
    yield from listed(
        "overlaps: addresses that two IOVAs reach",
        [f"{o['address']:#x} + {size_name(o['bytes'])}: {o['iova']:#x} and {o['other']:#x}" for o in found["overlaps"]],
    )
    yield from listed("faults", [f"{f.iova:#x} - {f.last:#x}: {f}" for f in found["faults"]])
    if not found["complete"]:
        yield f"\nstopped after {limit} leaves and faults (--limit)"


def as_json(found: dict[str, Any]) -> dict[str, Any]:
    return found | {
        "runs": [r._asdict() for r in found["runs"]],
        "faults": [f._asdict() | {"why": str(f)} for f in found["faults"]],
    }


def devices_of(memory: Any, base: int, register: int, json_: bool) -> str:
    """What VT-d's root table says of every device."""
    found = list(vtd.devices(vtd.reader(memory, base), register))
    if json_:
        return json.dumps([d._asdict() | {"name": vtd.name_of(d.device)} for d in found], indent=2)
    return "\n".join(map(str, found)) or "no device is set up"


def table_of_device(memory: Any, base: int, register: int, name: str) -> ForeignPageTable:
    found = vtd.device_table(vtd.reader(memory, base), register, vtd.number_of(name))
    if found is None:
        raise click.ClickException(f"nothing is set up for {name}; without --device, those that are set up are listed")
    return vtd.page_table((memory, base), found)


@click.command("walk", short_help="Walk page tables in a memory dump.")
@click.option("--format", "format_", required=True, type=click.Choice([*FORMATS, VTD]), help="Format of the tables.")
@click.option("--root", required=True, type=Number(), metavar="ADDRESS", help="Address of the top table, or RTADDR.")
@click.option("--device", metavar="BDF", help=f"With {VTD}: the device, as 00:1f.2; without, those that are set up.")
@click.option("--base", default=0, type=Number(), metavar="ADDRESS", help="Address of the dump's first byte; 0.")
@click.option("--va-bits", type=Number(), metavar="N", help="Width of an IOVA; the format's widest.")
@click.option("--oa-bits", type=Number(), metavar="N", help="Width of an address; the format's widest.")
@click.option("--top-level", type=Number(), metavar="N", help="Level of the top table; follows from --va-bits.")
@click.option("--granule", type=Number(), metavar="BYTES", help="ARM: 4096, 16384 or 65536.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    type=click.Choice(list(FEATURES)),
    metavar="NAME",
    help=f"May be repeated: {', '.join(FEATURES)}.",
)
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.option("--svg", "svg_", type=click.Path(dir_okay=False, path_type=Path), help="Draw the address space.")
@click.option("--limit", default=1_000_000, show_default=True, help="Stop a list after so many leaves.")
@click.argument("dump", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("iovas", nargs=-1, type=Number(), metavar="[IOVA]...")
def command(
    format_: str,
    root: int,
    base: int,
    device: str | None,
    features: tuple[str, ...],
    json_: bool,
    svg_: Path | None,
    limit: int,
    dump: Path,
    iovas: tuple[int, ...],
    **shape: int | None,
) -> None:
    """Walk the page tables in DUMP, a file with (part of) a machine's memory, such as QEMU's pmemsave writes.

    With IOVAs, each walk is drawn level by level; without, all that is mapped is listed, with totals, addresses
    that are mapped twice, and what is wrong with the tables.

    The format vtd-root starts from VT-d's Root Table Address register, given as --root: it lists devices, or walks
    the page table of --device.
    """
    with sentences():
        memory = np.memmap(dump, np.uint8, "r")
        config: dict[str, Any] = {**shape, **dict.fromkeys(features, True)}
        if device is not None and format_ != VTD:
            raise ValueError(f"--device goes with --format {VTD}, not with {format_}")
        if format_ == VTD and device is None:
            click.echo(devices_of(memory, base, root, json_))
            return
        if device is not None:
            table = table_of_device(memory, base, root, device)
        else:
            table = PageTable.over((memory, base), format=format_, root=root, **config)
        if svg_ is not None:
            svg_.write_text(svg(table.leaves(), f"{format_}, root {root:#x}, {dump.name}", limit))
        if iovas:
            walks = [walk_of(table, iova) for iova in iovas]
            lines = [json.dumps(walks, indent=2)] if json_ else ["\n".join(draw(walk)) for walk in walks]
        else:
            found = survey(table, limit)
            lines = [json.dumps(as_json(found), indent=2)] if json_ else list(tell(found, limit))
    for line in lines:
        click.echo(line)
