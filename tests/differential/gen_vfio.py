# SPDX-License-Identifier: Apache-2.0
"""The VFIO container's commands on /dev/iommu, and the raw edges of the dispatch."""

from __future__ import annotations

from .actions import action
from .gen_ioas import choose_fixed, choose_source
from .layout import PAGE, SCRATCH
from .world import Mapping, World

API, EXTENSION, SET_IOMMU, DIRTY_PAGES = 0x3B64, 0x3B65, 0x3B66, 0x3B75


def plain(w: World, name: str, number: int, arg: int):
    return w.step("ioctl", name, fd=w.fds[0], a=arg, b=number)


@action(vfio=0.5, all=0.02)
def api_version(w: World):
    return plain(w, "VFIO_GET_API_VERSION", API, w.rng.choice([0, 1, SCRATCH]))


@action(vfio=1, all=0.03)
def check_extension(w: World):
    return plain(w, "VFIO_CHECK_EXTENSION", EXTENSION, w.rng.choice([1, 3, 4, 6, 8, 9, 10, 77]))


@action(vfio=0.8)
def set_iommu(w: World):
    kind = w.rng.choice([3, 3, 3, 1, 1]) if w.chance(0.85) else w.rng.choice([0, 2, 7, 8])
    if w.compat and kind == 1 and not (w.compat.mappings and w.compat.domains):
        w.compat.small = True
    return plain(w, "VFIO_SET_IOMMU", SET_IOMMU, kind)


@action(vfio=1, all=0.03)
def vfio_ioas(w: World):
    op = w.rng.choice([0, 0, 1, 1, 1, 2]) if w.compat else 1
    if op == 1:
        ioas = w.some("ioas", context=w.fds[0])
        if not ioas:
            return None
        w.compat = ioas
        return w.command("VFIO_IOAS", w.fds[0], ioas=ioas.id, op=1)
    if op == 2 and w.chance(0.5):
        op = 0
    if op == 2:
        w.compat = None
    return w.command("VFIO_IOAS", w.fds[0], op=op)


@action(vfio=5)
def vfio_map(w: World):
    if not w.compat or not w.compat.alive:
        return None
    source, length, allowed = choose_source(w, w.compat)
    flags = (w.rng.choice([3, 3, 1, 2]) & (3 if allowed & 2 else 1)) or 1
    iova = choose_fixed(w, w.compat, length, source)
    step = w.command("VFIO_MAP_DMA", w.fds[0], flags=flags, va=source, iova=iova, length=length)
    w.compat.mappings.append(Mapping(iova, length, flags << 1 & 4 | flags << 1 & 2 or 4, source))
    w.compat.mappings[-1].flags = (4 if flags & 1 else 0) | (2 if flags & 2 else 0)
    return step


@action(vfio=3)
def vfio_unmap(w: World):
    if not w.compat or not w.compat.alive:
        return None
    if w.chance(0.05):
        w.compat.mappings.clear()
        return w.command("VFIO_UNMAP_DMA", w.fds[0], flags=2)
    if not w.compat.mappings:
        return None
    m = w.rng.choice(w.compat.mappings)
    iova, length = m.iova, m.length
    cut = w.rng.random()
    if cut < 0.15 and length > PAGE:
        length = PAGE * w.rng.randrange(1, max(2, length // PAGE))
    elif cut < 0.25 and length > PAGE:
        iova, length = iova + PAGE, length - PAGE
    elif cut < 0.3:
        iova, length = 0x70000000, PAGE
    elif cut < 0.35:
        length += 0x100000
    if cut >= 0.3 or cut < 0.25:
        w.compat.mappings.remove(m)
    return w.command("VFIO_UNMAP_DMA", w.fds[0], flags=0, iova=iova, length=length)


@action(vfio=2)
def vfio_info(w: World):
    if not w.compat:
        return None
    size = w.rng.choice([16, 24, 30, 40, 52, 56, 60, 72, 88, 120, 120, 120, 500])
    step = w.command("VFIO_GET_INFO", w.fds[0], size=size)
    return step


@action(vfio=0.2)
def dirty_pages(w: World):
    return plain(w, "VFIO_DIRTY_PAGES", DIRTY_PAGES, SCRATCH)


@action(all=0.05)
def wrong_number(w: World):
    number = w.rng.choice(
        [0x3B95, 0x3B9F, 0x3BA1, 0x3B00, 0x3BFF, 0xC0003B81, 0x3A81, 0x40083B80, 0x3B67, 0x5401, 0x1003B85]
    )
    return w.step("ioctl", "unknown", fd=w.fds[0], a=w.rng.choice([SCRATCH, 0]), b=number)
