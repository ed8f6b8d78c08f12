# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast bench``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from iommufd_fast.bench import matrix, memory
from iommufd_fast.cli.common import ListOf, need, sentences

_SIZES = ListOf("SIZES", matrix.parse_size, low=1)
_COUNTS = ListOf("NUMBERS", matrix.parse_count)
_BATCHES = ListOf("NUMBERS", matrix.parse_count, low=1)
_AXES = ("presets", "paths", "memory", "pages", "lengths", "batches", "live", "policies", "patterns")


class _Count(click.ParamType):
    """One number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return matrix.parse_count(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


def _words(*words: str) -> ListOf:
    return ListOf(",".join(words), words=words)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """What was said on the command line, checked as far as it can be without a machine."""
    settings = {k: v for k, v in given.items() if v is not None}
    for length in settings.get("lengths", ()):
        if length % 4096:
            raise click.BadParameter(f"{length} is not a multiple of 4096", param_hint="--lengths")
    return settings


def _engine_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Growth curves belong to a whole run: who names an axis asks for that."""
    if any(axis in given for axis in _AXES):
        return given
    return {"growth": 10_000_000} | given


def _kernel_settings(device: str | None, kernel: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """The same for a kernel."""
    for name, option in (("presets", "--preset"), ("policies", "--policy"), ("growth", "--growth")):
        if name in given:
            raise click.UsageError(f"{option} is about the engine; a kernel pins memory, for the IOMMU that there is")
    if kernel is None and device is None:
        raise click.UsageError("--provider kernel needs --device: a PCI address, a vfio-dev name, or mock")
    return given | {"device": device or "mock"}


def _plan(quick: bool, settings: dict[str, Any], on_kernel: bool) -> matrix.Plan:
    if on_kernel:
        return matrix.kernel_plan(quick=quick, **settings)
    return matrix.quick_plan(**settings) if quick else matrix.Plan(**settings)


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what or "checking")

        yield progress


def _measure(plan: matrix.Plan) -> dict[str, Any]:
    from iommufd_fast.bench.paths import WrongAnswer
    from iommufd_fast.bench.run import run

    with _bar() as progress:
        try:
            return run(plan, progress)
        except WrongAnswer as e:
            raise click.ClickException(f"the engine gave a wrong answer, so there are no figures: {e}") from e


def _measure_in(kernel: Path, quick: bool, settings: dict[str, Any]) -> dict[str, Any]:
    """On a kernel in QEMU."""
    from iommufd_fast import vm
    from iommufd_fast.bench import guest

    with _bar() as progress:
        progress(0, 1, f"booting {kernel}")
        try:
            return guest.run_in(kernel, settings | {"quick": quick}, progress)
        except (vm.Missing, vm.GuestError) as e:
            raise click.ClickException(str(e)) from e


def show(document: dict[str, Any]) -> None:
    """The result as tables on standard output."""
    from rich.console import Console
    from rich.table import Table

    from iommufd_fast.report import table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=150)
    for key, value in table.machine_lines(document):
        console.print(f"[dim]{key:>12}[/]  {value}", markup=True)
    for path, title in (
        ("c", "C path: iof_ioctl() (of a kernel iof_submit()) on a prepared struct"),
        ("python", "Python path: the control plane"),
    ):
        shown = Table(
            title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
        )
        for name in table.head(document["results"]):
            shown.add_column(name, justify="left" if name in table.LEFT else "right", no_wrap=True)
        rows = list(table.rows(document["results"], path))
        for i, (cells, _) in enumerate(rows):
            shown.add_row(*cells, end_section=i + 1 < len(rows) and rows[i + 1][1])
        if rows:
            console.print()
            console.print(shown)
    for line in table.warnings(document):
        console.print(f"[yellow]note[/]  {line}")
    console.print(
        f"[dim]{len(document['results'])} rows in {document['seconds']:.1f} s; times per call, in batches per range[/]"
    )


def _stored(file: Path | None) -> dict[str, Any] | None:
    """What the peers cost, from a file; None: what comes with the package will do."""
    if file is None:
        return None
    from iommufd_fast.report import peers

    with sentences():
        return peers.load(file)


class _Group(click.Group):
    """Measures when it has no word after it; ``compare`` is loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["compare"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name != "compare":
            return None
        from iommufd_fast.cli import bench_compare

        return bench_compare.command


@click.group("bench", cls=_Group, invoke_without_command=True, short_help="Measure map, unmap and translate.")
@click.option("--quick", is_flag=True, help="A smaller matrix and shorter rounds: ends within a minute.")
@click.option(
    "--preset",
    "presets",
    type=_words(*matrix.PRESETS),
    help="IOMMUs to imitate.  [intel,amd; quick: intel; also arm,riscv]",
)
@click.option("--path", "paths", type=_words(*matrix.PATHS), help="Ways into the engine.  [both]")
@click.option("--memory", type=_words(*memory.KINDS), help="Kinds of memory.  [all that the machine has]")
@click.option(
    "--page-size", "pages", type=_words(*matrix.PAGES), help="auto: largest leaves that fit; 4K: none larger.  [both]"
)
@click.option("--lengths", type=_SIZES, help="Bytes per mapping.  [4K,64K,2M,64M,256M; quick: to 64M]")
@click.option("--batch", "batches", type=_BATCHES, help="Ranges per call; 1 is the single call.  [1,16,64,512]")
@click.option("--live", type=_COUNTS, help="4K mappings that exist meanwhile.  [0,1000,20000,1000000]")
@click.option(
    "--policy",
    "policies",
    type=_words(*matrix.POLICIES),
    help="How memory is held; what mlock and io_uring may hold: `iommufd-fast limits`.  [trust,probe; quick: trust]",
)
@click.option(
    "--pattern", "patterns", type=_words(*matrix.PATTERNS), help="pair: map, unmap; churn: a random live one anew."
)
@click.option("--cross", is_flag=True, help="The whole product of the axes instead of one axis at a time.")
@click.option(
    "--growth",
    type=_Count(),
    help="Growth curves up to so many live mappings; 0: none.  [10m; none when an axis is given]",
)
@click.option("--rounds", type=click.IntRange(1, 1000), help="Repetitions of each case.  [7]")
@click.option("--seconds", type=click.FloatRange(0.001, 60), help="Time per case and round.  [0.3; quick: 0.07]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Of the random choices.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JSON.")
@click.option(
    "--html", "html_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report, one file."
)
@click.option(
    "--peers",
    "peers_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A result of `make peers` for the report's growth curves, in place of the one that comes with the package.",
)
@click.option("--provider", type=click.Choice(matrix.PROVIDERS), default="engine", help="Whose work it is.  [engine]")
@click.option("--device", help="Of a kernel: PCI address, vfio-dev name, or mock; with --vm also edu.  [--vm: mock]")
@click.option(
    "--vm", "kernel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Boot this kernel in QEMU."
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of the result and stop.")
@click.pass_context
def command(
    ctx: click.Context,
    quick: bool,
    json_file: Path | None,
    html_file: Path | None,
    peers_file: Path | None,
    provider: str,
    device: str | None,
    kernel: Path | None,
    schema: bool,
    **given: Any,
) -> None:
    """Measure map, unmap and translate of the engine on real process memory.

    A soft device is bound and attached, so every mapping goes into one page table, and what a translation or the
    device's DMA sees is compared with the memory. Without options the whole matrix is swept, a few minutes; start
    with --quick.

    \b
    --provider kernel --device mock      this machine's /dev/iommu; or a device's address
    --vm bzImage                         the same on a kernel in QEMU; docs/vm.md says which
    compare A.json B.json                what changed, and whether it is more than noise

    Sizes are 4096, 4K, 2M, 1G; numbers 20000, 20k, 1m; lists have commas.
    """
    if ctx.invoked_subcommand:
        return
    if schema:
        from iommufd_fast.bench.schema import SCHEMA

        click.echo(json.dumps(SCHEMA, indent=2))
        return
    if html_file:
        need("matplotlib", "--html")  # before minutes are spent
    on_kernel = provider == "kernel" or kernel is not None
    settings = _settings(given | {"cross": given["cross"] or None})
    stored = _stored(peers_file)
    if on_kernel:
        settings = _kernel_settings(device, kernel, settings)
    elif device:
        raise click.UsageError("--device is a kernel's: say --provider kernel or --vm KERNEL as well")
    else:
        settings = _engine_settings(settings)
    with sentences():
        plan = _plan(quick, settings, on_kernel)
        document = _measure_in(kernel, quick, settings) if kernel else _measure(plan)
        show(document)
        if json_file:
            json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        if html_file:
            from iommufd_fast.report.html import write

            write(document, html_file, stored)
