# SPDX-License-Identifier: Apache-2.0
"""The group of commands. A command's module is imported when it is called, so ``--help`` stays fast."""

from __future__ import annotations

from importlib import import_module

import click

from iommufd_fast._version import __version__

COMMANDS = {
    "bench": "Measure map, unmap and translate: table, JSON, HTML report.",
    "replay": "Replay a recorded DMA trace and check every event.",
    "report": "Make the HTML report or a picture from a JSON result.",
    "run": "Run a program with /dev/iommu served by an engine in its own process.",
    "walk": "Walk page tables in a memory dump.",
    "doctor": "What this machine has for real DMA, and the first thing to fix.",
    "limits": "Show how much memory may be pinned here, and how to raise that.",
    "info": "Show versions, the machine, and what this build has.",
}


class LazyGroup(click.Group):
    """Knows its commands by name; loads one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"iommufd_fast.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="iommufd-fast")
def cli() -> None:
    """I/O address spaces for userspace: measure them, replay traces into them.

    \b
    iommufd-fast bench --quick --html report.html     the main job, within a minute
    iommufd-fast replay trace.gz --floor ioas         a real workload's maps and unmaps
    """
