# SPDX-License-Identifier: Apache-2.0
"""Sequences from a seed: a theme, what the theme needs, then actions by weight with near misses between them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from . import (
    gen_access,
    gen_devices,
    gen_dirty,
    gen_faults,
    gen_invalidate,
    gen_ioas,
    gen_pasid,
    gen_ranges,
    gen_rare,
    gen_vfio,
    gen_viommu,
)
from .actions import ACTIONS, THEMES
from .mutate import near_miss
from .script import WITH_HUGE, WITHOUT_IPC_LOCK, WITHOUT_RESOURCE, Sequence
from .world import World

STEPS = 90  # of a sequence, about
NEAR_MISSES = 0.42  # so many of the good steps have a bad one before them

MODULES = (
    gen_access,
    gen_devices,
    gen_dirty,
    gen_faults,
    gen_invalidate,
    gen_ioas,
    gen_pasid,
    gen_ranges,
    gen_rare,
    gen_vfio,
    gen_viommu,
)  # whose actions are registered by being imported


def prologue(w: World, theme: str) -> None:
    """What most of a theme's actions stand on."""
    gen_ioas.ioas_alloc(w)
    if theme == "vfio":
        gen_vfio.vfio_ioas(w)
    if theme == "access":
        gen_ioas.ioas_map(w)
        gen_access.create_access(w)
    if theme in ("nested", "viommu", "pasid", "dirty"):
        gen_ioas.ioas_map(w)
        for _ in range(3):
            gen_devices.mock_domain(w)
        for _ in range(3):
            gen_devices.hwpt_alloc(w)
    if theme == "nested":
        gen_faults.fault_queue(w)
    if theme == "viommu":
        gen_viommu.viommu_alloc(w)
        gen_viommu.vdevice_alloc(w)
        gen_devices.hwpt_nested(w)


def choose(w: World, theme: str) -> None:
    actions = list(ACTIONS)
    action = w.rng.choices(actions, [ACTIONS[a][theme] for a in actions])[0]
    before = len(w.sequence.steps)
    action(w)
    for step in w.sequence.steps[before:]:
        if w.chance(NEAR_MISSES):
            near_miss(w, step)


def sequence(seed: int, number: int) -> Sequence:
    """The same for the same two numbers, always."""
    rng = random.Random(f"{seed}/{number}")
    w = World(number, rng)
    theme = rng.choice(THEMES)
    if theme in ("dirty", "maps", "files", "viommu") and rng.random() < 0.3:
        w.sequence.flags |= WITH_HUGE
    if theme == "account" or (theme == "vfio" and rng.random() < 0.3):
        w.sequence.flags |= WITHOUT_IPC_LOCK
        w.sequence.memlock = rng.choice([0, 1, 4, 16, 64])  # pages
    if rng.random() < 0.1:
        w.sequence.flags |= WITHOUT_RESOURCE
    w.fds.append(w.result(w.step("open", "open")))
    if rng.random() < 0.15:
        mode = rng.choice([0, 1, 1, 2])
        w.command("OPTION", w.fds[0], option=0, op=0, value=mode)
    prologue(w, theme)
    while len(w.sequence.steps) < STEPS:
        choose(w, theme)
    w.step("digest", "digest")
    w.command("SET_TEMP_MEMORY_LIMIT", w.fds[0], limit=65536)
    for fd in reversed(w.fds):
        w.step("close", "close", fd=fd)
    return w.sequence


def sequences(seed: int, steps: int) -> Iterator[Sequence]:
    """As many as have `steps` steps together."""
    number = done = 0
    while done < steps:
        s = sequence(seed, number)
        number += 1
        done += len(s.steps)
        yield s
