# SPDX-License-Identifier: Apache-2.0
"""Facts and findings in words: lines for a table, and the report to be sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .devices import candidates, is_vfio, ready
from .findings import Finding

Facts = dict[str, Any]


def _size(limit: int | None) -> str:
    return "unlimited" if limit is None else f"{limit >> 10} KiB"


def _kernel(facts: Facts) -> str:
    kernel = facts["kernel"]
    words = " ".join(kernel["boot_options"])
    return f"Linux {kernel['release']}, {kernel['architecture']}" + (f"; booted with {words}" if words else "")


def _options(facts: Facts) -> str:
    kernel = facts["kernel"]
    if not kernel["config"]:
        return "not readable (no /proc/config.gz, nothing in /boot)"
    return (
        " ".join(f"{name}={value}" for name, value in kernel["options"].items() if value != "n") or "none that matter"
    )


def _not_set(facts: Facts) -> str:
    return " ".join(name for name, value in facts["kernel"]["options"].items() if value == "n")


def _iommu(facts: Facts) -> str:
    units = facts["iommu"]["units"]
    named = ", ".join(f"{name} ({unit['devices']} devices)" for name, unit in units.items())
    firmware = ", ".join(facts["iommu"]["firmware"]) or "none seen"
    return f"{named or 'none in use'}; firmware tables: {firmware}"


def _limits(facts: Facts) -> str:
    limits = facts["limits"]
    held = " ".join(limits["capabilities"]) or "none of interest"
    locked = (
        "unknown"
        if limits["memlock"] is None
        else f"{_size(limits['memlock'][0])} (hard {_size(limits['memlock'][1])})"
    )
    return f"locked memory {locked}; user {limits['uid']}; capabilities: {held}"


def _node(node: dict[str, Any]) -> str:
    if not node["exists"]:
        return f"{node['path']}: not there"
    return f"{node['path']}: {node['mode']} {node['owner']}, {'usable' if node['usable'] else 'NOT usable'}"


def _device(device: dict[str, Any]) -> str:
    parts = [device["address"], device["id"], f"class {device['class']}", f"driver {device['driver'] or 'none'}"]
    parts += [f"group {device['group'] or 'none'}"] + ([device["node"]] if device["node"] else [])
    return ", ".join(parts)


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def lines(facts: Facts) -> list[tuple[str, str]]:
    """(what, how it is) for a table; a second line of one thing has no first word."""
    machine = facts["machine"]
    kinds = [name for name in ("virtual_machine", "container") if machine[name]]
    ours = [_device(d) for d in ready(facts)]
    made = [
        ("machine", ", ".join([machine["cpu"] or "unknown CPU", *(k.replace("_", " ") for k in kinds)])),
        ("kernel", _kernel(facts)),
        ("options", _options(facts)),
        ("not set", _not_set(facts) or "–"),
        ("modules", ", ".join(f"{name} {state}" for name, state in facts["modules"].items())),
        ("IOMMU", _iommu(facts)),
        ("limits", _limits(facts)),
        *zip(["files"] + [""] * (len(facts["nodes"]) - 1), map(_node, facts["nodes"]), strict=True),
        *zip(["with VFIO"] + [""] * (max(len(ours), 1) - 1), ours or ["no device"], strict=True),
        ("candidates", _some([d["address"] for d in candidates(facts)])),
        ("groups", f"{len(facts['groups'])} IOMMU groups, {len(facts['devices'])} PCI devices"),
    ]
    return [*made, *([("auto", facts["auto"])] if "auto" in facts else [])]


def advice(found: Iterable[Finding]) -> list[str]:
    """The findings as lines, the first thing first."""
    made = []
    for number, finding in enumerate(found, 1):
        made.append(f"{number}. {finding.title}" + ("" if finding.stops else " (not everything needs it)"))
        made += [f"   {finding.why}", *(f"   -> {step}" for step in finding.fix)]
    return made


def report(facts: Facts, found: Sequence[Finding]) -> str:
    """Plain text for an issue or a mail: everything, nothing that names a person or a disk."""
    parts = [f"iommufd-fast doctor --report, version {facts['iommufd_fast']}, Python {facts['python']}", ""]
    parts += [f"{name:>11}  {value}" for name, value in lines(facts)]
    parts += ["", "IOMMU units"]
    parts += [f"  {name}: {unit}" for name, unit in facts["iommu"]["units"].items()] or ["  none"]
    parts += ["", "PCI devices with an IOMMU group, or of VFIO"]
    listed = [d for d in facts["devices"] if d["group"] or is_vfio(d["driver"])]
    parts += [f"  {_device(d)}" for d in listed] or ["  none"]
    parts += ["", "groups"]
    parts += [f"  {g['number']} ({g['type']}): {' '.join(g['devices'])}" for g in facts["groups"]] or ["  none"]
    log = facts["iommu"]["log"]
    parts += ["", "kernel's messages about it"]
    parts += ["  not readable; add what dmesg | grep -iE 'dmar|amd-vi|iommu|smmu' prints"] if log is None else []
    parts += [f"  {line}" for line in log or ()] or (["  none"] if log is not None else [])
    parts += ["", "to fix, the first thing first", *(f"  {line}" for line in advice(found))]
    return "\n".join(parts if found else [*parts, "  nothing: a device can be bound"]) + "\n"
