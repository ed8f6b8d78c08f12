# SPDX-License-Identifier: Apache-2.0
"""Invalidation, and what it did."""

from __future__ import annotations

import struct

from .actions import action
from .gen_viommu import SELFTEST
from .layout import DATA, SCRATCH
from .world import Hwpt, World


@action(nested=3, viommu=3)
def invalidate(w: World):
    nested = [h for h in w.all("hwpt") if h.nested]
    targets = [*nested, *w.all("viommu")]
    if not targets:
        return None
    t = w.rng.choice(targets)
    n = w.rng.choice([0, 1, 1, 2, 3])
    if isinstance(t, Hwpt):
        entries = [struct.pack("<II", *entry_of(w)) for _ in range(n)]
    else:
        ids = [*t.virt_ids] or [5]
        entries = []
        for _ in range(n):
            flags, index = entry_of(w)
            virt = w.rng.choice(ids) & 0xFFFFFFFF if w.chance(0.9) else 77
            entries.append(struct.pack("<III", flags, virt, index))
    length = 8 if isinstance(t, Hwpt) else 12
    if w.chance(0.1):
        length = w.rng.choice([4, 8, 12, 16])
        entries = [e[:length].ljust(length, b"\0") for e in entries]
    return w.command(
        "HWPT_INVALIDATE",
        t.context,
        [(DATA, b"".join(entries))] if entries else [],
        hwpt=t.id,
        ptr=SCRATCH + DATA,
        type=SELFTEST,
        len=length,
        n=n,
    )


def entry_of(w: World) -> tuple[int, int]:
    """Flags and index, sometimes one that is refused."""
    return w.rng.choice([0, 0, 0, 1, 1, 2 if w.chance(0.3) else 0]), w.rng.choice(
        [0, 1, 2, 3, 3, 4 if w.chance(0.3) else 0]
    )


@action(nested=2, viommu=0.5)
def check_iotlb(w: World):
    found = [h for h in w.all("hwpt") if h.nested]
    if not found:
        return None
    h = w.rng.choice(found)
    index = w.rng.randrange(4)
    w.command("MD_CHECK_IOTLB", h.context, id=h.id, index=index, value=0xBADBEEF)
    return w.command("MD_CHECK_IOTLB", h.context, id=h.id, index=index, value=0)


@action(viommu=2)
def check_cache(w: World):
    if not (d := w.some("device")):
        return None
    index = w.rng.randrange(4)
    w.command("DEV_CHECK_CACHE", d.context, id=d.device, index=index, value=0xBADDAD)
    return w.command("DEV_CHECK_CACHE", d.context, id=d.device, index=index, value=0)
