# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast report``."""

from __future__ import annotations

from pathlib import Path

import click

from iommufd_fast.cli.common import need, sentences

_IN = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)


@click.command("report", short_help="Make the HTML report or a picture from a JSON result.")
@click.argument("result", type=_IN)
@click.option("--html", "html_file", type=_OUT, help="Write the report, one file.")
@click.option("--peers", "peers_file", type=_IN, help="A result of `make peers` for the growth curves of the report.")
@click.option("--png", "png_file", type=_OUT, help="Write the four main plots as a picture.")
def command(result: Path, html_file: Path | None, peers_file: Path | None, png_file: Path | None) -> None:
    """Make the HTML report or a picture from RESULT, a file written by bench --json; without options print its
    table."""
    from iommufd_fast.bench.schema import load

    with sentences():
        document = load(result)
        if html_file or png_file:
            need("matplotlib", "a report")
        if html_file:
            from iommufd_fast.report import peers
            from iommufd_fast.report.html import write

            write(document, html_file, peers.load(peers_file) if peers_file else None)
        if png_file:
            from iommufd_fast.report.plots import save_overview

            save_overview(document, png_file)
        if not (html_file or png_file):
            from iommufd_fast.cli.bench import show

            show(document)
