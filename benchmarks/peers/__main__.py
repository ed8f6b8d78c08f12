# SPDX-License-Identifier: Apache-2.0
"""Ours and the peers', alternately in one run: a table, JSON, the growth curves, and docs/performance.md.

make peers PEERS=DIR     DIR holds the kernel peer, `linux-peer`; without it those columns stay empty
make peers KERNEL=PATH   a bzImage to measure the kernel provider on, in QEMU; without it those rows are not met
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import curves  # noqa: E402
import installable  # noqa: E402
import kernel  # noqa: E402
import linux  # noqa: E402
import ours  # noqa: E402
import table  # noqa: E402
from figures import Figures  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from iommufd_fast.bench.machine import facts  # noqa: E402
from iommufd_fast.report import peers as stored  # noqa: E402
from iommufd_fast.vm import Missing, tools  # noqa: E402

START, END = "<!-- the table: make peers -->\n", "<!-- end of the table -->\n"


def steps(options: argparse.Namespace) -> Iterator[tuple[str, Iterator[tuple[str, float]]]]:
    """(what is under way, its figures), ours and the peer's in turn."""
    for turn in range(options.runs):
        of = f"{turn + 1} of {options.runs}"
        for part in linux.PARTS:
            for name, rounds in ours.BESIDE[part]:
                yield f"{name}, {of}", ours.program(options.binaries, name, rounds)
            if options.peers:
                yield f"Linux: {part}, {of}", linux.run(options.peers, part)
        yield f"Python, {of}", ours.python()
    for name, rounds in ours.ONCE:
        yield name, ours.program(options.binaries, name, rounds)
    yield "installable peers", installable.run(options.binaries.parent)


def measure(options: argparse.Namespace, console: Console) -> tuple[Figures, dict[str, Any] | None]:
    """All figures, and the document of the guest when a kernel was given."""
    figures, guest = Figures(), None

    def say(what: str) -> None:
        status.update(what)
        if not console.is_terminal:
            console.print(f"  {what}", highlight=False)

    with console.status("measuring") as status:
        for what, found in steps(options):
            say(what)
            figures.update(found)
        if options.kernel:
            say("the kernel provider, in QEMU")
            guest = kernel.measure(options.kernel)
            figures.update(kernel.figures(guest))
    return figures, guest


def unable(options: argparse.Namespace) -> str | None:
    """What is asked for and not there; told before minutes are spent."""
    if options.peers and not (options.peers / "linux-peer").exists():
        return f"there is no linux-peer in {options.peers}"
    try:
        if options.kernel:
            tools.find_qemu(), tools.find_busybox(), tools.check_kernel(options.kernel)
    except Missing as e:
        return str(e)
    return None


def show(rows: list[table.Row], console: Console) -> None:
    shown = Table(box=None, pad_edge=False)
    for i, head in enumerate(("case", "peer", "ours", "ratio", "goal", "", "note")):
        shown.add_column(head, justify="right" if 0 < i < 5 else "left", no_wrap=i > 0)
    for row in rows:
        style = {True: "", False: "bold red", None: "dim"}[row.met]
        shown.add_row(*table.cells(row), style=style)
    console.print(shown)


def write_page(page: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    whole = page.read_text()
    before, _, rest = whole.partition(START)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"{page} has lost its marks {START.strip()} and {END.strip()}")
    page.write_text(f"{before}{START}{text}{mark}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("binaries", type=Path, help="the folder of the compiled benchmarks/c")
    parser.add_argument("--peers", type=Path, help="the folder that has linux-peer")
    parser.add_argument("--kernel", type=Path, help="a bzImage, for the kernel provider (docs/vm.md)")
    parser.add_argument("--runs", type=int, default=3, help="alternate runs of each side, the best counts (default 3)")
    parser.add_argument("--json", type=Path, default=Path("peers.json"))
    parser.add_argument("--curves", type=Path, default=Path("peers.svg"), help="SVG or PNG")
    parser.add_argument("--ship", type=Path, help="where to leave what the package ships of the peers' figures")
    parser.add_argument("--page", type=Path, help="a page of the docs to bring up to date")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if problem := unable(options):
        parser.error(problem)
    machine, made = facts(), datetime.now(UTC).isoformat(timespec="seconds")
    figures, guest = measure(options, console)
    rows = table.rows_of(figures)
    show(rows, console)
    for case in [c for c in figures.all if c.startswith("missing:")]:
        console.print(f"not installed: {case.partition(':')[2]}")
    if not options.peers:
        console.print("the kernel peer was not given (make peers PEERS=DIR): its columns are empty")
    if not guest:
        console.print("no kernel was given (make peers KERNEL=PATH): the kernel provider was not measured")
    document = table.document(rows, figures, machine, made, options.runs, guest)
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.ship:
        options.ship.write_text(json.dumps(stored.reduced(document), indent=1) + "\n")
    curves.draw(figures, options.curves)
    if options.page:
        write_page(options.page, table.markdown(rows, machine, made, options.runs))
    console.print(f"{options.json}, {options.curves}")
    print(table.summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
