# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def _show(facts: dict[str, Any], found: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from iommufd_fast.doctor import text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in text.lines(facts):
        table.add_row(name, Text(value))
    console.print(table)
    console.print()
    if not found:
        console.print("[green]Nothing to fix:[/] a device can be bound to /dev/iommu.")
        return
    console.print("[bold]To fix, the first thing first[/]")
    for line in text.advice(found):
        console.print(Text(line))


@click.command("doctor", short_help="What this machine has for real DMA, and the first thing to fix.")
@click.option("--json", "as_json", is_flag=True, help="Facts and findings as JSON.")
@click.option("--report", is_flag=True, help="As plain text to be sent with a question or a report.")
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("/"), hidden=True)
def command(as_json: bool, report: bool, root: Path) -> None:
    """Look at this machine's kernel, IOMMU, limits and devices: is there a /dev/iommu, could a device be bound to it,
    and what is the first thing to fix?

    Changes nothing. The exit status is 0 when a device can be bound, 3 when something stands in the way.
    """
    from iommufd_fast.doctor import facts, findings, text
    from iommufd_fast.doctor.host import Host

    known = facts.collect(Host(root))
    found = findings.findings(known)
    if as_json:
        click.echo(json.dumps(known | {"findings": [f.as_dict() for f in found]}, indent=2))
    elif report:
        click.echo(text.report(known, found), nl=False)
    else:
        _show(known, found)
    if any(f.stops for f in found):
        raise SystemExit(3)
