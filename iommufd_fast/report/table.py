# SPDX-License-Identifier: Apache-2.0
"""Rows of the result table, for the terminal (rich) and for HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from iommufd_fast.bench.matrix import count_text, size_text

from .units import percent_text, rate_text, time_text

HEAD = (
    "op",
    "length",
    "memory",
    "live",
    "batch",
    "per call",
    "p50",
    "p90",
    "p99",
    "max",
    "mean",
    "throughput",
    "noise",
)
LEFT = ("op", "memory")  # the other columns are numbers, to the right


def remarks(result: dict[str, Any], preset: str) -> str:
    """What sets a case apart beyond its columns."""
    words = [result["preset"]] if result["preset"] != preset else []
    words += [f"{result['page']} leaves"] if result["page"] != "auto" else []
    words += [result["policy"]] if result["policy"] != "trust" else []
    words += ["churn"] if result["pattern"] != "pair" else []
    return ", ".join(words)


def row(result: dict[str, Any], preset: str) -> tuple[str, ...]:
    """One result as text, in the order of HEAD. Times of a batch are per range."""
    extra = remarks(result, preset)
    return (
        result["op"],
        size_text(result["length"]),
        result["memory"] + (f" ({extra})" if extra else ""),
        count_text(result["live"]),
        str(result["batch"]),
        *(time_text(result[k]) for k in ("per_call", "p50", "p90", "p99", "max", "mean")),
        rate_text(result["per_second"]),
        percent_text(result["noise"]),
    )


def rows(results: list[dict[str, Any]], path: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """(row, does a new case begin?) for one path, cases kept together."""
    preset = next(p for p in ("intel", "amd", "arm", "riscv", "") if not p or any(r["preset"] == p for r in results))
    last: tuple[Any, ...] = ()
    keys = ("preset", "policy", "live", "page", "memory", "length", "batch", "pattern")
    for result in results:
        if result["path"] == path:
            case = tuple(result[k] for k in keys)
            yield row(result, preset), case != last
            last = case


def machine_lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts to read the figures with."""
    m, clocks = document["machine"], document["clocks"]
    memory = f"{m['memory_bytes'] / 2**30:.1f} GiB" if m["memory_bytes"] else "unknown"
    huge = ", ".join(f"{n} x {size_text(int(s))}" for s, n in m["hugetlb_free"].items()) or "none offered"
    lines = [
        (
            "CPU",
            f"{m['cpu']}, {m['cpus']} usable{', virtual machine' if m['virtual_machine'] else ''}, {m['architecture']}",
        ),
        ("Memory", f"{memory}; transparent huge pages: {m['thp'] or 'unknown'}; free hugetlb pages: {huge}"),
        ("Kernel", f"Linux {m['kernel']}; governor: {m['governor'] or 'not readable'}; load {m['load_1min']:.2f}"),
        ("Build", f"iommufd_fast {m['iommufd_fast']} ({m['build']}), {m['compiler'] or 'compiler unknown'}"),
        ("Python", f"{m['python']}, NumPy {m['numpy']}"),
    ]
    for name, title in (("c", "C clock"), ("python", "Python clock")):
        c = clocks[name]
        lines.append(
            (
                title,
                f"{c['name']}; an empty interval costs {c['overhead_ns']:.1f} ns and is subtracted, "
                f"its steps are {c['resolution_ns']:.1f} ns",
            )
        )
    return lines


def warnings(document: dict[str, Any]) -> list[str]:
    """What a reader must know before believing a figure."""
    found = [f"not measured: {reason}" for reason in document["missing"]]
    if document["machine"]["build"] == "test":
        found.append("this is the test configuration, with all checks: its figures mean nothing")
    if document["machine"]["load_1min"] > 1:
        found.append(f"the machine was busy (load {document['machine']['load_1min']:.2f}) when the run began")
    noisy = [r for r in document["results"] if r["noise"] > 0.25]
    if noisy:
        found.append(
            f"{len(noisy)} of {len(document['results'])} rows have medians that differ by more than 25 % between rounds"
        )
    return found


METHOD = (
    "Each single call is timed by itself. The median cost of an empty interval is subtracted; max is what the "
    "scheduler and the hypervisor add.",
    "per call and throughput of single calls come from groups: 64 maps, then 64 translations, then 64 unmaps, one "
    "pair of clock readings around each 64, median of the groups. They resolve what is shorter than a step of the "
    "clock.",
    "Batched rows are map_many, translate and unmap_many; their times are per range. Churn has no groups: its per "
    "call is the median.",
    "Noise: largest minus smallest of the rounds' per call figures, over their median.",
    "Every translation is compared with the address that was mapped; each case also does a DMA round trip at both "
    "ends of a mapping, and at the end every live mapping is translated and compared.",
    "translate looks up a random one of the live mappings (with none: the one just made). churn unmaps a random "
    "live mapping and maps it again.",
)
