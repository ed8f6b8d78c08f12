# SPDX-License-Identifier: Apache-2.0
"""What is measured: cases, and the plan that lists them.

A plan is a star, not a cube: from a base case (one 4 KiB page of anonymous memory, nothing else live, one call at a
time) each axis is swept by itself. ``cross=True`` measures the whole product instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PATHS = ("c", "python")
PATTERNS = ("pair", "churn")
PRESETS = ("intel", "amd", "arm", "riscv")
POLICIES = ("trust", "probe", "mlock", "io_uring")
PROVIDERS = ("engine", "kernel")
IOVAS = ("own", "kernel")
PAGES = ("auto", "4K")


@dataclass(frozen=True)
class Case:
    """One point of the matrix.

    Attributes
    ----------
    preset : {"intel", "amd", "kernel"}
        The IOMMU that the engine imitates, or "kernel" where a kernel drives one.
    policy : {"trust", "probe", "mlock", "io_uring", "pin"}
        How the engine holds memory; a kernel pins it.
    path : {"c", "python"}
        iof_ioctl() (of a kernel iof_submit()) in a C loop, or the Python control plane.
    length : int
        Bytes of each mapping.
    live : int
        Other 4 KiB mappings in the IOAS meanwhile.
    batch : int
        Ranges per call; 1 is the single call.
    pattern : {"pair", "churn"}
        pair maps and unmaps the same slots again; churn unmaps a random live mapping and maps it again.
    page : {"auto", "4K"}
        The largest leaf that fits, or 4 KiB leaves only.
    memory : str
        Kind of memory behind the mapping.
    iova : {"own", "kernel"}
        Who chooses the IOVA of a single map: this library, or the kernel.
    """

    preset: str = "intel"
    policy: str = "trust"
    path: str = "c"
    live: int = 0
    page: str = "auto"
    memory: str = "anonymous"
    length: int = 4 * KIB
    batch: int = 1
    pattern: str = "pair"
    iova: str = "own"

    @property
    def place(self) -> tuple[str, str, str, int, str, str]:
        """Cases of one place share a context and its live mappings."""
        return (self.preset, self.policy, self.path, self.live, self.page, self.iova)

    @property
    def sensible(self) -> bool:
        """Churn is about the live mappings: single 4 KiB ones, of which there must be some. A kernel's choice of IOVAs
        is there to be seen beside ours: single calls from C will do."""
        if self.iova == "kernel" and (self.batch > 1 or self.pattern == "churn" or self.path == "python"):
            return False
        return self.pattern == "pair" or (self.live > 0 and self.batch == 1 and self.length == 4 * KIB)

    def __str__(self) -> str:
        parts = [self.preset, "C" if self.path == "c" else "Python", self.memory, size_text(self.length)]
        parts += [f"{self.live} live"] if self.live else []
        parts += [f"x{self.batch}"] if self.batch > 1 else []
        parts += [f"{self.page} leaves"] if self.page != "auto" else []
        parts += [self.policy] if self.policy not in ("trust", "pin") else []
        parts += ["kernel's IOVAs"] if self.iova == "kernel" else []
        return " ".join(parts + ([self.pattern] if self.pattern != "pair" else []))


@dataclass(frozen=True)
class Plan:
    """The axes of a run, and how long each case is measured."""

    presets: Sequence[str] = ("intel", "amd")
    policies: Sequence[str] = ("trust", "probe")
    paths: Sequence[str] = PATHS
    memory: Sequence[str] = ("anonymous", "thp", "memfd", "hugetlb")
    pages: Sequence[str] = PAGES
    lengths: Sequence[int] = (4 * KIB, 64 * KIB, 2 * MIB, 64 * MIB, 256 * MIB)
    batches: Sequence[int] = (1, 16, 64, 512)
    live: Sequence[int] = (0, 1_000, 20_000, 1_000_000)
    patterns: Sequence[str] = PATTERNS
    iovas: Sequence[str] = ("own",)
    provider: str = "engine"
    device: str = ""  # of a kernel: PCI address, vfio-dev name, or "mock"
    rounds: int = 7
    seconds: float = 0.3  # per case and round
    seed: int = 1
    limit: float = float("inf")  # seconds after which the remaining cases get two rounds each
    growth: int = 0  # live mappings up to which the curves of growth.py go; of the engine only
    cross: bool = False
    quick: bool = False
    cases: tuple[Case, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        made = sorted(
            {c for c in (self._cross() if self.cross else self._star()) if c.sensible}, key=lambda c: _rank(self, c)
        )
        object.__setattr__(self, "cases", tuple(made))

    def _base(self) -> Case:
        return Case(
            self.presets[0],
            self.policies[0],
            self.paths[0],
            self.live[0],
            self.pages[0],
            self.memory[0],
            self.lengths[0],
            iova=self.iovas[0],
        )

    def _star(self) -> Iterator[Case]:
        base = self._base()
        wide = max(self.lengths)
        big = 2 * MIB if 2 * MIB in self.lengths else wide
        for path in self.paths:
            at = replace(base, path=path, batch=self.batches[0])
            yield from (replace(at, live=n, pattern=p) for n in self.live for p in self.patterns)
            yield from (replace(at, live=n, iova=i) for n in self.live for i in self.iovas)
            yield from (replace(at, length=n, page=p) for n in self.lengths for p in self.pages)
            yield from (replace(at, length=n, memory=m) for m in self.memory for n in {base.length, big})
            yield from (
                replace(at, batch=n, live=v) for n in self.batches for v in {self.live[0], _near(self.live, 20_000)}
            )
            yield from (replace(at, policy=p, length=n) for p in self.policies for n in {base.length, big})
            yield from (replace(at, preset=p, length=n) for p in self.presets for n in {base.length, big})

    def _cross(self) -> Iterator[Case]:
        axes = (self.presets, self.policies, self.paths, self.live, self.pages, self.memory)
        return (Case(*c) for c in product(*axes, self.lengths, self.batches, self.patterns, self.iovas))


def _near(values: Sequence[int], wanted: int) -> int:
    return min(values, key=lambda v: abs(v - wanted))


def _rank(plan: Plan, case: Case) -> tuple[int, ...]:
    """Where a case stands in the order in which the plan names its axes."""
    axes = (
        (plan.presets, case.preset),
        (plan.policies, case.policy),
        (plan.paths, case.path),
        (plan.live, case.live),
        (plan.pages, case.page),
        (plan.iovas, case.iova),
        (plan.patterns, case.pattern),
        (plan.memory, case.memory),
        (plan.lengths, case.length),
        (plan.batches, case.batch),
    )
    return tuple(list(values).index(value) for values, value in axes)


def quick_plan(**changes: object) -> Plan:
    """What ends within a minute: one preset, one policy, fewer lengths, short rounds."""
    settings: dict[str, object] = {
        "presets": ("intel",),
        "policies": ("trust",),
        "lengths": (4 * KIB, 64 * KIB, 2 * MIB, 64 * MIB),
        "batches": (1, 64, 512),
        "rounds": 7,
        "seconds": 0.07,
        "limit": 35.0,
        "quick": True,
    }
    return Plan(**(settings | changes))  # type: ignore[arg-type]


KERNEL: dict[str, object] = {
    "provider": "kernel",
    "presets": ("kernel",),
    "policies": ("pin",),
    "iovas": IOVAS,
    "live": (0, 1_000, 5_000, 20_000),
    "lengths": (4 * KIB, 64 * KIB, 2 * MIB),
    "limit": float("inf"),
}
_MOCK_MOST = 16 * MIB  # the mock IOMMU has 2 GiB, and 64 mappings live at once


def kernel_plan(device: str, quick: bool = False, **changes: object) -> Plan:
    """The matrix of a kernel: memory is always pinned, a million live mappings would take minutes to make.

    Raises
    ------
    ValueError
        Lengths that the mock device's IOMMU has no room for.
    """
    made = KERNEL | {"device": device} | changes
    lengths: Any = made["lengths"]
    if device == "mock" and max(lengths) > _MOCK_MOST:
        raise ValueError(f"the mock device's IOMMU has 2 GiB, enough for lengths up to {size_text(_MOCK_MOST)}")
    return quick_plan(**made) if quick else Plan(**made)  # type: ignore[arg-type]


_UNITS = {"": 1, "B": 1, "K": KIB, "KIB": KIB, "M": MIB, "MIB": MIB, "G": GIB, "GIB": GIB}


def parse_size(text: str) -> int:
    """``4096``, ``4K``, ``2M``, ``1G`` (KiB, MiB, GiB) as bytes."""
    match = re.fullmatch(r"(\d{1,18})\s*([A-Za-z]{0,3})", text.strip(), re.ASCII)
    if not match or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write 4096, 4K, 2M or 1G")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_count(text: str) -> int:
    """``20000``, ``20_000``, ``20k`` or ``1m`` (thousands, millions) as a number."""
    match = re.fullmatch(r"(\d{1,12})([kKmM]?)", text.strip().replace("_", ""), re.ASCII)
    if not match:
        raise ValueError(f"{text!r} is not a count; write 20000, 20k or 1m")
    return int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]


def size_text(size: int) -> str:
    """The shortest exact way to write a size: 4K, 2M, 1G, or plain bytes."""
    for unit, factor in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def count_text(n: int) -> str:
    """1 000 000 as 1m, 20 000 as 20k; exact."""
    for unit, factor in (("m", 1_000_000), ("k", 1_000)):
        if n >= factor and n % factor == 0:
            return f"{n // factor}{unit}"
    return str(n)


def lists(text: str, parse: object) -> list[int]:
    """A comma-separated list through one of the parsers above, without repetitions."""
    values = [parse(part) for part in text.split(",") if part.strip()]  # type: ignore[operator]
    if not values:
        raise ValueError("an empty list")
    return list(dict.fromkeys(values))


def by_place(cases: Iterable[Case]) -> list[list[Case]]:
    """Cases that share a context, together."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.place, []).append(case)
    return list(groups.values())
