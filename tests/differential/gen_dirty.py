# SPDX-License-Identifier: Apache-2.0
"""Dirty tracking."""

from __future__ import annotations

from .actions import action
from .gen_devices import DIRTY
from .gen_ioas import maybe_reach
from .layout import DATA, MORE, PAGE, SCRATCH
from .world import World


def dirty_table(w: World):
    found = [h for h in w.all("hwpt") if h.flags & DIRTY and not h.nested and not h.huge]
    return w.rng.choice(found) if found else None


@action(dirty=3, all=0.05)
def set_dirty(w: World):
    if not (h := dirty_table(w)):
        return None
    h.dirty_on = w.chance(0.85)
    return w.command("HWPT_SET_DIRTY_TRACKING", h.context, flags=int(h.dirty_on), hwpt=h.id)


@action(dirty=6)
def make_dirty(w: World):
    h = dirty_table(w)
    if not h or not h.dirty_on or not h.ioas.mappings:
        return None
    m = w.rng.choice(h.ioas.mappings)
    page = w.rng.choice([2048, 2048, PAGE])
    length = min(m.length, 64 * page)
    length = max(page, length // page * page)
    bits = bytes(
        w.rng.getrandbits(8) & w.rng.choice([0xFF, w.rng.getrandbits(8)]) for _ in range((length // page + 7) // 8)
    )
    return w.command(
        "DIRTY",
        h.context,
        [(DATA, bits)],
        id=h.id,
        iova=m.iova,
        length=length,
        page=page,
        ptr=SCRATCH + DATA,
    )


@action(dirty=6, all=0.02)
def get_dirty(w: World):
    h = dirty_table(w)
    if not h or not h.ioas.mappings:
        return None
    m = w.rng.choice(h.ioas.mappings)
    page = w.rng.choice([2048, 2048, PAGE, 4 * PAGE])
    page = page if m.length % page == 0 and (not isinstance(m.iova, int) or m.iova % page == 0) else 2048
    length = maybe_reach(w, h.ioas, m) * w.rng.choice([1, 1, 1, 2])
    at = MORE + w.rng.choice([0, 0, 1, 7, 0xFF1, 0x800])
    clean = w.chance(0.8)
    return w.command(
        "HWPT_GET_DIRTY_BITMAP",
        h.context,
        [(at, bytes(min(length // page // 8 + 1, 256)))] if clean else [],
        hwpt=h.id,
        flags=w.rng.choice([0, 0, 1]),
        iova=m.iova,
        length=length,
        page=page,
        ptr=SCRATCH + at,
    )
