# SPDX-License-Identifier: Apache-2.0
"""Numbers for people: three digits and a unit."""

from __future__ import annotations


def _three(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def time_text(ns: float) -> str:
    """12.3 ns, 1.25 µs, 18.0 ms."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= factor * 0.9995:
            return f"{_three(ns / factor)} {unit}"
    return f"{_three(ns)} ns" if ns >= 0.005 else "0 ns"


def rate_text(per_second: float) -> str:
    """12.3 M/s."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if per_second >= factor * 0.9995:
            return f"{_three(per_second / factor)} {unit}/s"
    return f"{_three(per_second)} /s"


def speed_text(per_second: float) -> str:
    """12.3 GB/s (decimal)."""
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if per_second >= factor * 0.9995:
            return f"{_three(per_second / factor)} {unit}/s"
    return f"{per_second:.0f} B/s"


def percent_text(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.0995 else f"{share * 100:.1f} %"
