# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast info``."""

from __future__ import annotations

import json
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from iommufd_fast.cli import INSTALL

MODULES = ("iova", "pagetable", "pages", "channel", "benchrig", "benchloop", "benchkernel", "replayloop")
EXTRAS = {"cli": ("click", "rich"), "bench": ("matplotlib", "pytest", "pytest_benchmark")}


def built() -> dict[str, str]:
    """Each extension module of the core: ``yes``, or why it cannot be used."""
    states = {}
    for name in MODULES:
        try:
            import_module(f"iommufd_fast._core.{name}")
            states[name] = "yes"
        except ImportError as e:
            states[name] = f"no: {e}"
    return states


def collect() -> dict[str, Any]:
    """All that the command shows."""
    from iommufd_fast._paths import get_include, get_library_dir
    from iommufd_fast.bench import machine, memory
    from iommufd_fast.bench.matrix import PRESETS
    from iommufd_fast.providers import DEV_IOMMU

    usable = os.access(DEV_IOMMU, os.R_OK | os.W_OK)

    def folder(get: Any) -> str | None:
        try:
            return str(get())
        except FileNotFoundError:
            return None

    return {
        "machine": machine.facts(),
        "presets": list(PRESETS),
        "providers": {
            "engine": "yes",
            "kernel": "yes" if usable else f"no {DEV_IOMMU} to open; iommufd-fast doctor",
        },
        "memory": {kind: memory.why_not(kind, 2 << 20) or "yes" for kind in memory.KINDS},
        "modules": built(),
        "extras": {
            name: "yes"
            if not (gone := [p for p in parts if find_spec(p) is None])
            else f"no: {', '.join(gone)} missing"
            for name, parts in EXTRAS.items()
        },
        "include": folder(get_include),
        "library": folder(get_library_dir),
    }


def _flat(found: dict[str, Any]) -> list[tuple[str, str]]:
    m = found["machine"]
    lines = [
        ("iommufd_fast", f"{m['iommufd_fast']} ({m['build']} build, {m['compiler'] or 'compiler unknown'})"),
        ("Python", f"{m['python']}, NumPy {m['numpy']}"),
        ("machine", f"{m['cpu']}, {m['cpus']} CPUs{', virtual' if m['virtual_machine'] else ''}, Linux {m['kernel']}"),
        ("huge pages", f"transparent: {m['thp'] or 'unknown'}, shared memory: {m['thp_shmem'] or 'unknown'}"),
        ("presets", ", ".join(found["presets"])),
    ]
    for title in ("providers", "memory", "modules", "extras"):
        states: dict[str, str] = found[title]
        good = [name for name, state in states.items() if state == "yes"]
        lines.append((title, ", ".join(good) or "none"))
        lines += [
            ("", f"{name}: {state.removeprefix(f'{name}: ')}") for name, state in states.items() if state != "yes"
        ]
    lines += [("C headers", found["include"] or "not built"), ("C library", found["library"] or "not built")]
    return lines


@click.command("info", short_help="Show versions, the machine, and what this build has.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Show versions, the machine, the presets, and what is built and what is not."""
    found = collect()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for key, value in _flat(found):
        click.echo(f"{key:>13}  {value}")
    if any(state != "yes" for state in found["extras"].values()):
        click.echo(f"\nAll extras: {INSTALL}")
