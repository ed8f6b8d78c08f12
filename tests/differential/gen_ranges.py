# SPDX-License-Identifier: Apache-2.0
"""Ranges and options of address spaces, and what the program does by itself."""

from __future__ import annotations

import struct

from .actions import action
from .gen_ioas import any_ioas
from .layout import DATA, FILE_MAP, PAGE, SCATTERED, SCATTERED_PAGES, SCRATCH, SINGLE
from .script import WITH_HUGE
from .world import World


@action(all=0.4, maps=1.5, devices=1)
def iova_ranges(w: World):
    if not (ioas := any_ioas(w)):
        return None
    n = w.rng.choice([0, 1, 2, 8, 8, 8, 8])
    return w.command("IOAS_IOVA_RANGES", ioas.context, ioas=ioas.id, n=n, ptr=SCRATCH + DATA)


def ranges(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<QQ", *p) for p in pairs)


@action(all=0.1, maps=1)
def allow_iovas(w: World):
    if not (ioas := any_ioas(w)):
        return None
    r = w.rng
    at, pairs = 0x10000000, []
    for _ in range(r.choice([0, 1, 1, 2, 3])):
        at += r.choice([0, 0, PAGE, 0x100000, 0x1234000])
        last = at + r.choice([PAGE, 4 * PAGE, 0x100000, 0x1000000]) - 1
        pairs.append((at, last))
        at = last + 1
    r.shuffle(pairs)
    data = ranges(*pairs)
    return w.command(
        "IOAS_ALLOW_IOVAS", ioas.context, [(DATA, data)] if data else [], ioas=ioas.id, n=len(pairs), ptr=SCRATCH + DATA
    )


@action(all=0.05, maps=0.6)
def add_reserved(w: World):
    if not (ioas := any_ioas(w)):
        return None
    start = w.rng.choice([0x60000000, 0x2000, 0x70000000, 0x11000, 0x40000000, 0]) + w.rng.choice([0, PAGE, 5])
    length = w.rng.choice([PAGE, 1, 0x100000, 3 * PAGE])
    return w.command("ADD_RESERVED", ioas.context, id=ioas.id, start=start, length=length)


@action(all=0.1, maps=0.8, vfio=0.5)
def huge_pages(w: World):
    if not (ioas := any_ioas(w)):
        return None
    op = w.rng.choice([0, 1])
    value = w.rng.choice([0, 1]) if not op else 0x77
    if op == 0 and value == 0 and ioas.mappings and ioas.domains and w.chance(0.8):
        value = 1
    step = w.command("OPTION", ioas.context, option=1, op=op, object=ioas.id, value=value)
    if op == 0 and (value or not (ioas.mappings and ioas.domains)):
        ioas.small = not value
    return step


@action(all=0.08, maps=0.3)
def rlimit_mode(w: World):
    return w.command("OPTION", w.rng.choice(w.fds), option=0, op=1, value=9)


@action(all=0.05, maps=0.2)
def change_process(w: World):
    return w.command("IOAS_CHANGE_PROCESS", w.rng.choice(w.fds))


@action(all=0.25)
def destroy(w: World):
    free = [t for t in w.things if t.alive and t.kind == "ioas" and not t.users]
    if not free or len(w.all("ioas")) < 2:
        return None
    ioas = w.rng.choice(free)
    step = w.command("DESTROY", ioas.context, id=ioas.id)
    w.end(ioas)
    if w.compat is ioas:
        w.compat = None
    return step


@action(all=0.1, maps=0.3)
def fill_memory(w: World):
    """The program writes to its own memory: devices see it, translations do not change."""
    at = w.rng.choice([SCATTERED + w.rng.randrange(SCATTERED_PAGES) * PAGE, SINGLE, SINGLE + 2 * PAGE, FILE_MAP])
    return w.step("fill", "fill", a=at, b=w.rng.choice([1, 64, 300]), c=w.rng.randrange(256))


@action(all=0.1)
def temporary_limit(w: World):
    limit = 65536 if w.low_limit else w.rng.choice([16, 100, 4096, 65536])
    if w.sequence.flags & WITH_HUGE:  # leaves would end where a kernel's chunks end
        limit = 65536
    w.low_limit = limit != 65536
    return w.command("SET_TEMP_MEMORY_LIMIT", w.rng.choice(w.fds), limit=limit)
