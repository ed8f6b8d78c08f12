# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast replay``."""

from __future__ import annotations

import json
from typing import Any

import click

from iommufd_fast.bench.matrix import PRESETS, size_text
from iommufd_fast.cli.common import sentences
from iommufd_fast.replay import samples
from iommufd_fast.report.units import time_text

_FLOORS = ("pagetable", "ioas")


def _replay(trace: str, floor: str, preset: str, skip_unknown: bool, repeat: int) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    from iommufd_fast.replay import plan
    from iommufd_fast.replay.run import ReplayError, replay
    from iommufd_fast.replay.trace import load

    made = plan.make(load(trace), skip_unknown=skip_unknown)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking every event", total=len(made.steps))
        try:
            return replay(
                made, floor, preset=preset, repeat=repeat, progress=lambda done, _: bar.update(task, completed=done)
            )
        except ReplayError as e:
            raise click.ClickException(str(e)) from e


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    leaves = ", ".join(f"{n:,} x {size_text(int(s))}".replace(",", " ") for s, n in found["leaves_at_peak"].items())
    facts = [
        ("trace", found["trace"]),
        ("into", found["target"] + (f", preset {found['preset']}" if found["floor"] == "ioas" else "")),
        (
            "events",
            f"{found['events']}: {found['maps']} maps, {found['unmaps']} unmaps, "
            f"{found['multi_map_unmaps']} of them over several maps",
        ),
        ("live", f"{found['live_peak']} mappings at the peak, {found['live_at_end']} at the end"),
        ("leaves", f"{leaves} at the peak"),
        ("checked", f"{found['checks']} translations before and after events, all as the trace says"),
    ]
    if found["other_lines"]:
        facts.append(("left out", f"{found['other_lines']} lines of other events"))
    if found["unknown_unmaps"]:
        facts.append(("left out", f"{found['unknown_unmaps']} unmaps of what was mapped before the recording"))
    for key, value in facts:
        console.print(f"[dim]{key:>8}[/]  {value}")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("time per", "count", "p50", "p90", "p99", "max", "mean"):
        shown.add_column(name, justify="left" if name == "time per" else "right")
    for kind, t in found["times_ns"].items():
        name = {"unmap_multi": "unmap of several"}.get(kind, kind)
        shown.add_row(
            name, str(t["n"] // found["repeat"]), *(time_text(t[k]) for k in ("p50", "p90", "p99", "max", "mean"))
        )
    console.print()
    console.print(shown)


def _samples() -> str:
    return "\n".join(f"    {name:<6}{text}" for name, (_, text) in samples.SAMPLES.items())


@click.command(
    "replay",
    short_help="Replay a recorded DMA trace and check every event.",
    epilog="\b\nTraces that come with the package:\n" + _samples(),
)
@click.argument("trace")
@click.option(
    "--floor", type=click.Choice(_FLOORS), default="ioas", show_default=True, help="What it is replayed into."
)
@click.option(
    "--preset", type=click.Choice(PRESETS), default="intel", show_default=True, help="IOMMU of the ioas floor."
)
@click.option("--skip-unknown", is_flag=True, help="Leave out unmaps of what was mapped before the recording.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=5, show_default=True, help="Times the trace is timed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(trace: str, floor: str, preset: str, skip_unknown: bool, repeat: int, as_json: bool) -> None:
    """Replay the events iommu:map and iommu:unmap of TRACE, and check the engine's state around every one of them.

    TRACE is the text of /sys/kernel/tracing/trace, plain or gzip, or the name of a sample; - reads standard input.

    \b
    --floor pagetable   iova, paddr and size into a VT-d page table
    --floor ioas        into an IOAS with a device: each physical page is a page of one
                        memfd, so contiguity survives; the device writes through each map
    """
    with sentences():
        path = str(samples.path(trace)) if trace in samples.SAMPLES else trace
        found = _replay(path, floor, preset, skip_unknown, repeat)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _show(found)
