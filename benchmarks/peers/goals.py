# SPDX-License-Identifier: Apache-2.0
"""What is compared with what, and the goal of each row. The one home of the project's performance goals.

A row names our case (``program:case`` of the JSON lines that benchmarks/c and `python.py` print), the peer's case
(``peer:case``, see `linux.py` and `installable.py`), and a bound. Cases that one bound does not fit stand in rows of
their own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """One row.

    Attributes
    ----------
    title : str
        What is measured, in words.
    ours, peer : str
        Where the figures come from; an empty `peer`: nobody to compare with.
    bound : float
        In `unit`.
    unit : str
        "ns" per operation, "B" per mapping, "ms"; "x": not slower than the peer times `bound`; "times": a ratio that
        our case gives, at least `bound`.
    note : str
        What is not comparable, a key of `NOTES`.
    """

    title: str
    ours: str
    peer: str
    bound: float
    unit: str = "ns"
    note: str = ""


NOTES = {
    "up": "the peer is a uniprocessor build without locked instructions; its clock steps by 256 ns (means are fine)",
    "pins": "the peer pins the memory, `trust` keeps the books only; its mock table has two entries per 4 KiB page",
    "linear": "the peer walks its ranges one by one to find a hole",
    "ioctl": "the peer's command is a cheap one of a pipe, with its struct packed; ours does the whole mapping",
    "vm": "on a kernel in QEMU (make peers KERNEL=PATH); the peer is the same proportion when the kernel chooses the "
    "IOVAs, from C",
    "stub": "the ioctl is a C function that only returns 0; what is timed is the whole map, with the choice of an IOVA",
    "growth": "growth of the process from 1 000 to 10^6 dense 4 KiB mappings, without Python handles",
}

# (our format, the peer's format and configuration): four levels each.
FORMATS = [("vtdss", "vtdss/cfg1"), ("amdv1", "amdv1/cfg0"), ("x86_64", "x86_64/cfg0"), ("riscv64", "riscv_64/cfg1")]


def spaced(n: int) -> str:
    """20 000"""
    return f"{n:,}".replace(",", " ")


def _table(ours: str, peer: str) -> list[Goal]:
    rows = [
        ("map 4K", "map_4k", "4K/map", 6),
        ("unmap 4K", "unmap_4k", "4K/unmap", 5),
        ("map 512 x 4K in one call", "map_512x4k", "512x4K/map", 90),
        ("unmap 512 x 4K in one call", "unmap_512x4k", "512x4K/unmap", 50),
        ("map 1 GiB by 4K", "map_1g_by_4k", "1G-by-4K/map", 45_000),
        ("unmap 1 GiB by 4K", "unmap_1g_by_4k", "1G-by-4K/unmap", 25_000),
        ("walk, warm", "walk_warm", "4K/walk", 5),
        ("walk, random in 1 GiB of 4K", "translate_random_1g", "random-walk-1G-4K/walk", 8),
    ]
    return [
        Goal(f"{ours}: {t}", f"pagetable:{ours}/{o}", f"pt:{peer}/{p}", bound, note="up") for t, o, p, bound in rows
    ]


def _alone(ours: str) -> list[Goal]:
    return [
        Goal(f"{ours}: walk, dependent, warm", f"pagetable:{ours}/translate_dependent", "", 8),
        Goal(f"{ours}: walk, batched random", f"pagetable:{ours}/translate_many_1g", "", 4),
    ]


TABLES = [g for ours, peer in FORMATS for g in _table(ours, peer)] + [g for ours, _ in FORMATS for g in _alone(ours)]

IOVA = [
    Goal("IOVA: alloc, recycled sizes", "iova:recycle/take", "iova:fast 1 alloc", 5, note="up"),
    Goal("IOVA: free, recycled sizes", "iova:recycle/give", "iova:fast 1 free", 5, note="up"),
    Goal(
        "IOVA: free + alloc, random, 10^6 live",
        "iova:first_fit/shuffled/churn/1000000",
        "iova:rbtree 1M churn",
        300,
        note="linear",
    ),
    Goal("IOVA: lookup, random, 10^6 live", "iova:find/shuffled/random/1000000", "iova:itree lookup", 150, note="up"),
    Goal(
        "IOVA: lookup, batched, 10^6 live", "iova:find/shuffled/find_many/1000000", "iova:itree lookup", 50, note="up"
    ),
]


def _ioas(live: int, peer: str, bounds: tuple[float, float], note: str) -> list[Goal]:
    return [
        Goal(
            f"IOAS: {op} 4K, trust, one domain, {spaced(live)} live",
            f"ioas:trust/domain/{live}/{op}_4k",
            peer and f"iommufd:{peer}/{op}",
            bound,
            note=note,
        )
        for op, bound in zip(("map", "unmap"), bounds, strict=True)
    ]


BIG, PINNED = "domains=1 live=0 length=268435456", "domains=1 live=0 length=4096"
PATH = [
    *_ioas(0, "domains=0 live=0 length=4096", (90, 80), "up"),
    *_ioas(20_000, "domains=1 live=20000 length=4096", (120, 120), "pins"),
    *_ioas(1_000_000, "", (400, 400), ""),
    Goal("IOAS: map 4K, probe", "ioas:probe/domain/0/map_4k", f"iommufd:{PINNED}/map", 600, note="up"),
    Goal(
        "IOAS: map 256 MiB by 4K", "ioas:trust/domain/0/map_256m_4k_leaves", f"iommufd:{BIG}/map", 30_000, note="pins"
    ),
    Goal(
        "IOAS: unmap 256 MiB by 4K",
        "ioas:trust/domain/0/unmap_256m_4k_leaves",
        f"iommufd:{BIG}/unmap",
        30_000,
        note="pins",
    ),
    Goal("memory per live mapping at 10^6", "ioas:rss/domain/1000000", "", 96, unit="B", note="growth"),
]

THREADS = [
    Goal("2 threads on two IOAS", "threads:own/auto/scaling", "", 1.9, unit="times"),
    Goal("2 threads on one IOAS, FIXED 2 MiB apart", "threads:shared/fixed/scaling", "", 1.5, unit="times"),
    Goal("2 threads on one IOAS, map_many of 64", "threads:shared/many/scaling", "", 1.5, unit="times"),
    Goal("2 threads on one IOAS, single automatic 4K", "threads:shared/auto/scaling", "", 0.8, unit="times"),
]

DRIVERS = [
    Goal(
        "kernel provider, C: map + unmap, 20 000 live over none",
        "kernel:c/own/flat",
        "kernel:c/kernel/flat",
        1.2,
        unit="times the cost",
        note="vm",
    ),
    Goal(
        "kernel provider, Python: map + unmap, 20 000 live over none",
        "kernel:python/own/flat",
        "",
        1.2,
        unit="times the cost",
        note="vm",
    ),
    Goal("address to IOVA, warm", "va:one/2m/warm", "", 5),
    Goal("address to IOVA, batched, warm", "va:many/2m/warm", "", 3),
    Goal("IOAS: map 4K, probe, inside a held region", "hold:held_region/probe/map_4k", "", 120),
    Goal("map_many of 64 with a domain, per entry", "memory:map_many/64", "", 60),
    Goal("DmaArena: take + give", "memory:arena/4k/take_give", "", 30),
    Goal("MapCache: hit", "memory:cache/hit/of_64", "", 40),
    Goal("8 GiB of 4K leaves, 2 threads against one", "parallel:8g_4k_leaves/scaling", "", 1.7, unit="times"),
]

SPARSE = [
    Goal("vtdss: the same, the first page of each 2 MiB", "pagetable:vtdss/translate_many_sparse", "", 15),
    Goal("vtdss: walk, batched, a page in each of 2^19", "pagetable:vtdss/translate_many_sparse_anywhere", "", 15),
    Goal("nested walk, batched random, x86-64 over VT-d", "nested:x86_64_over_vtdss/translate_many", "", 20),
    Goal("nested walk, batched random, ARM over ARM", "nested:arm_s1_over_arm_s2/translate_many", "", 20),
]

PYTHON = [
    Goal("Python: ioas.map(ndarray) over the C call", "python:map_over_c", "", 150),
    Goal("Python: ioas.map(ndarray) over the raw ioctl, stubbed kernel", "python:map_stubbed", "", 200, note="stub"),
    Goal("Python: map_many, trusted, per entry over C", "python:map_many_over_c", "", 10),
    Goal("Python: import, over NumPy's own", "python:import", "", 60, unit="ms"),
    Goal("Python: opening the engine", "python:open", "", 50_000),
]


def _others() -> list[Goal]:
    """No goals of the design, but what users would otherwise reach for: ours must be ahead."""
    rows = []
    for live in (1000, 20_000, 1_000_000):
        for op in ("insert", "find"):
            for peer in ("sortedcontainers", "intervaltree") if live <= 20_000 else ("sortedcontainers",):
                title = f"Python: {op}, {spaced(live)} ranges, IovaSpace against {peer}"
                rows.append(Goal(title, f"iova_space:{op}/{live}", f"{peer}:{op}/{live}", 1, unit="x"))
    for live in (20_000, 1_000_000):
        title = f"C: find, {spaced(live)} ranges, against GLib's GTree"
        rows.append(Goal(title, f"iova:find/shuffled/random/{live}", f"gtree:find/{live}", 1, unit="x"))
    rows.append(Goal("C: free + alloc, 10^6 live, against a walk of GTree", "iova:first_fit/shuffled/churn/1000000",
                     "gtree:allocate/1000000", 1, unit="x", note="linear"))  # fmt: skip
    rows.append(Goal("Python: ioas.map(ndarray) against struct.pack + fcntl.ioctl", "python:map",
                     "python:fcntl_ioctl", 1, unit="x", note="ioctl"))  # fmt: skip
    return rows


OTHERS = _others()
GOALS = [*TABLES, *SPARSE, *IOVA, *PATH, *DRIVERS, *THREADS, *PYTHON, *OTHERS]
