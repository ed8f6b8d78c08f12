# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine and the build: what a figure must be read with."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from iommufd_fast._version import __version__

HUGE_ROOT = Path("/sys/kernel/mm/hugepages")


def read(path: str | Path) -> str | None:
    """The first line of a file of /proc or /sys; None when it cannot be read."""
    try:
        return Path(path).read_text().strip().partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None


def _cpuinfo(key: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    match = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def meminfo(key: str) -> int | None:
    """Bytes of a line of /proc/meminfo."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    match = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def chosen(path: str) -> str | None:
    """The bracketed word of a sysfs list such as ``always [madvise] never``."""
    line = read(path)
    match = re.search(r"\[(\w+)\]", line) if line else None
    return match[1] if match else None


def huge_pools() -> dict[int, int]:
    """Free huge pages by size in bytes; only sizes the kernel offers."""
    pools = {}
    for pool in HUGE_ROOT.glob("hugepages-*kB"):
        free = read(pool / "free_hugepages")
        pools[int(pool.name[len("hugepages-") : -2]) * 1024] = int(free or 0)
    return dict(sorted(pools.items()))


def compiler() -> str | None:
    """The compiler of the C core, from the library's .comment section."""
    library = Path(__file__).parents[1] / "libiommufd_fast.so"
    try:
        found = re.findall(rb"(?:GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", library.read_bytes())
    except OSError:
        return None
    return found[-1].decode("ascii", "replace") if found else None


def build_kind() -> str:
    """``release``, or ``test`` for the configuration with all checks (whose figures mean nothing)."""
    library = Path(__file__).parents[1] / "libiommufd_fast.so"
    try:
        return "test" if b"__assert_fail" in library.read_bytes() else "release"
    except OSError:
        return "unknown"


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def virtual() -> bool:
    return "hypervisor" in (_cpuinfo("flags") or "").split()


def facts() -> dict[str, Any]:
    """Everything that a reader of the figures should know; None where this machine does not tell."""
    return {
        "cpu": _cpuinfo("model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "virtual_machine": virtual(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": meminfo("MemTotal"),
        "kernel": platform.release(),
        "page_size": os.sysconf("SC_PAGESIZE"),
        "thp": chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "thp_shmem": chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "hugetlb_free": {str(size): n for size, n in huge_pools().items()},
        "load_1min": round(os.getloadavg()[0], 2),
        "compiler": compiler(),
        "build": build_kind(),
        "iommufd_fast": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }
