# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast bench compare``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from iommufd_fast.cli.common import sentences

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_COLOURS = {"slower": "red", "faster": "green"}
_ORDER = ("slower", "faster", "too few rounds", "too short to measure", "same")


def _name(row: dict[str, Any]) -> str:
    from iommufd_fast.bench.matrix import Case

    return str(Case(**{name: row[name] for name in Case.__dataclass_fields__}))


def _summary(found: dict[str, Any]) -> str:
    counts = Counter(row["verdict"] for row in found["rows"])
    words = [f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict]] or ["no row is in both"]
    for letter in "ab":
        if found[f"only_{letter}"]:
            words.append(f"{found[f'only_{letter}']} only in {letter.upper()}")
    return ", ".join(words)


def _show(found: dict[str, Any], everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from iommufd_fast.report.units import percent_text, time_text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    rows = [row for row in found["rows"] if everything or row["verdict"] in _COLOURS]
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for head in ("case", "op", "A", "B", "change", "noise A", "noise B", "verdict"):
        shown.add_column(head, justify="left" if head in ("case", "op", "verdict") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda r: (_ORDER.index(r["verdict"]), -abs(r["change"] or 0))):
        change = "" if row["change"] is None else f"{row['change'] * 100:+.1f} %"
        times = (time_text(row["a"]), time_text(row["b"]), change)
        noises = (percent_text(row["a_noise"]), percent_text(row["b_noise"]))
        colour = _COLOURS.get(row["verdict"], "dim")
        shown.add_row(_name(row), row["op"], *times, *noises, f"[{colour}]{row['verdict']}[/]")
    if rows:
        console.print(shown)
    for line in found["differences"]:
        console.print(f"[yellow]note[/]  {line}", markup=True)
    console.print(_summary(found))


@click.command("compare", short_help="What changed between two results, and is it more than noise?")
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option(
    "--threshold", type=click.FloatRange(0, 1000), default=10, show_default=True, help="Smallest change, in percent."
)
@click.option("--all", "everything", is_flag=True, help="Show unchanged rows, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--fail", is_flag=True, help="Exit status 3 when something is slower; for CI.")
def command(a: Path, b: Path, threshold: float, everything: bool, as_json: bool, fail: bool) -> None:
    """Compare B with A, two files written by bench --json.

    A change counts when it reaches the threshold and the rounds of the two runs are told apart by a rank test,
    which errs once in 400 rows.
    """
    from iommufd_fast.bench.compare import compare
    from iommufd_fast.bench.schema import load

    with sentences():
        found = compare(load(a), load(b), threshold / 100)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _show(found, everything)
    if fail and any(row["verdict"] == "slower" for row in found["rows"]):
        raise SystemExit(3)
