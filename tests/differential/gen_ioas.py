# SPDX-License-Identifier: Apache-2.0
"""Address spaces: mapping, copying, unmapping."""

from __future__ import annotations

from .actions import action
from .layout import (
    FILE,
    FILE_MAP,
    HUGE,
    HUGE_SIZE,
    PAGE,
    SCATTERED,
    SCATTERED_PAGES,
    SINGLE,
)
from .script import WITH_HUGE
from .world import Ioas, Mapping, World

FIXED, WRITE, READ = 1, 2, 4
SLOT = 0x200000  # fixed IOVAs are chosen by slots of 2 MiB
FIRST_SLOT, SLOTS = 0x20000000 // SLOT, 96


@action(all=0.6, maps=3)
def ioas_alloc(w: World):
    if len(w.all("ioas")) > 4:
        return None
    fd = w.rng.choice(w.fds)
    step = w.command("IOAS_ALLOC", fd)
    return w.add(Ioas("ioas", w.out(step, "out_id"), fd))


def any_ioas(w: World):
    return w.some("ioas")


def alignment(ioas: Ioas) -> int:
    return PAGE if ioas.pinner or ioas.small else 2048 if ioas.domains else 1


def choose_source(w: World, ioas: Ioas) -> tuple[int, int, int]:
    """Address, length, and flags that it allows."""
    r = w.rng
    align = alignment(ioas)
    kind = r.random()
    if w.sequence.flags & WITH_HUGE and kind < 0.4:
        length = r.choice([HUGE_SIZE, HUGE_SIZE, HUGE_SIZE // 2, 4 * PAGE, 16 * PAGE, 64 * PAGE])
        offset = r.randrange(0, (HUGE_SIZE - length) // PAGE + 1) * PAGE if r.random() < 0.6 else 0
        return HUGE + r.choice([0, 2 * HUGE_SIZE]) + offset, length, READ | WRITE
    if kind < 0.5:
        which = r.choice([0, 0, 2, 4])
        return SINGLE + which * PAGE, PAGE, READ | (WRITE if which != 4 else 0)
    pages = r.choice([1, 1, 1, 2, 2, 3, 4, 5, 8, 16, 32])
    first = r.randrange(0, SCATTERED_PAGES - pages + 1)
    address, length = SCATTERED + first * PAGE, pages * PAGE
    if align < PAGE and r.random() < 0.3:
        unit = 2048 if align > 1 or r.random() < 0.5 else r.choice([1, 2, 8, 64, 512])
        cut = r.randrange(0, PAGE // unit) * unit
        address, length = address + cut, length - cut
        length = max(unit, length - r.randrange(0, PAGE // unit) * unit)
    return address, min(length, SCATTERED + SCATTERED_PAGES * PAGE - address), READ | WRITE


def choose_fixed(w: World, ioas: Ioas, length: int, source: int) -> int:
    """A fixed IOVA whose slot is free, nearly always; or the one right behind a mapping."""
    ends = [
        m.iova + m.length for m in ioas.mappings if isinstance(m.iova, int) and (m.iova + m.length - source) % PAGE == 0
    ]
    if ends and w.chance(0.3):
        return w.rng.choice(ends)
    free = [s for s in range(FIRST_SLOT, FIRST_SLOT + SLOTS) if s not in ioas.taken]
    slot = w.rng.choice(free) if free else FIRST_SLOT
    ioas.taken.add(slot)
    room = (SLOT - length) // PAGE
    iova = slot * SLOT + (w.rng.randrange(0, room + 1) * PAGE if room > 0 and w.chance(0.6) else 0)
    return iova + (source % PAGE if iova % SLOT + length + source % PAGE <= SLOT and w.chance(0.9) else 0)


def permission(w: World, allowed: int) -> int:
    return allowed & w.rng.choice([READ | WRITE, READ | WRITE, READ | WRITE, READ, READ, WRITE]) or READ


def fits(ioas: Ioas, iova, length: int, source: int) -> bool:
    """Would a default mock page table take it? An IOVA that the kernel chose without one starts below the aperture."""
    if ioas.domains:
        return True
    return isinstance(iova, int) and (iova | length | source) % 2048 == 0 and 1 << 24 <= iova < 1 << 31


@action(all=3, maps=8, vfio=2, account=6, dirty=4, access=4)
def ioas_map(w: World):
    if not (ioas := any_ioas(w)):
        return None
    source, length, allowed = choose_source(w, ioas)
    flags = permission(w, allowed)
    iova = w.rng.choice([0, 0, 0, 0x1234, 1])
    if w.chance(prefers_fixed(ioas)):
        flags |= FIXED
        iova = choose_fixed(w, ioas, length, source)
    step = w.command("IOAS_MAP", ioas.context, flags=flags, ioas=ioas.id, va=source, length=length, iova=iova)
    where = iova if flags & FIXED else w.out(step, "iova")
    ioas.mappings.append(Mapping(where, length, flags, source, fits=fits(ioas, where, length, source)))
    return step


def prefers_fixed(ioas: Ioas) -> float:
    return 0.5 if ioas.domains else 0.85


@action(all=0.5, files=6, access=1, maps=1)
def ioas_map_file(w: World):
    if not (ioas := any_ioas(w)):
        return None
    r = w.rng
    size = HUGE_SIZE if w.sequence.flags & WITH_HUGE else PAGE
    fd, is_dmabuf = FILE, False
    if (d := w.some("dmabuf")) and w.chance(0.5):
        fd, size, is_dmabuf = d.id, d.pages * PAGE, True
    length = min(size, r.choice([PAGE, PAGE, 2 * PAGE, 8 * PAGE, size]))
    start = r.randrange(0, (size - length) // PAGE + 1) * PAGE
    flags = permission(w, READ | WRITE)
    iova = 0
    if w.chance(prefers_fixed(ioas)):
        flags |= FIXED
        iova = choose_fixed(w, ioas, length, start)
    step = w.command(
        "IOAS_MAP_FILE", ioas.context, flags=flags, ioas=ioas.id, fd=fd, start=start, length=length, iova=iova
    )
    source = -1 if is_dmabuf else FILE_MAP + start
    where = iova if flags & FIXED else w.out(step, "iova")
    ok = fits(ioas, where, length, start)
    ioas.mappings.append(Mapping(where, length, flags, source, file=True, dmabuf=is_dmabuf, fits=ok))
    return step


def mapping(w: World, **wanted):
    """(IOAS, one of its mappings), or None."""
    found = [(i, m) for i in w.all("ioas") for m in i.mappings if all(getattr(m, k) == v for k, v in wanted.items())]
    return w.rng.choice(found) if found else None


def reach(ioas: Ioas, m: Mapping) -> int:
    """The length from where a mapping begins to where what lies behind it without a gap ends."""
    starts = {n.iova: n.length for n in ioas.mappings if isinstance(n.iova, int) and not n.dmabuf}
    at = m.iova
    while at in starts and starts[at] > 0:
        at += starts.pop(at)
    return at - m.iova if isinstance(at, int) else m.length


def maybe_reach(w: World, ioas: Ioas, m: Mapping) -> int:
    return reach(ioas, m) if isinstance(m.iova, int) and w.chance(0.4) else m.length


@action(all=1, maps=5, account=4)
def ioas_unmap(w: World):
    if not (found := mapping(w, pins=0)):
        return None
    ioas, m = found
    length = reach(ioas, m) if isinstance(m.iova, int) and w.chance(0.1) else m.length
    step = w.command("IOAS_UNMAP", ioas.context, ioas=ioas.id, iova=m.iova, length=length)
    gone = range(m.iova, m.iova + length) if length > m.length else ()
    ioas.mappings = [n for n in ioas.mappings if n is not m and not (isinstance(n.iova, int) and n.iova in gone)]
    return step


@action(all=0.15, maps=0.5)
def ioas_unmap_many(w: World):
    if not (ioas := any_ioas(w)) or not ioas.mappings or any(m.pins for m in ioas.mappings):
        return None
    if w.chance(0.5):
        step = w.command("IOAS_UNMAP", ioas.context, ioas=ioas.id, iova=0, length=(1 << 64) - 1)
        ioas.mappings.clear()
        ioas.taken.clear()
        return step
    first = (FIRST_SLOT + w.rng.randrange(0, SLOTS - 8)) * SLOT
    last = first + w.rng.randrange(1, 40) * SLOT
    step = w.command("IOAS_UNMAP", ioas.context, ioas=ioas.id, iova=first, length=last - first)
    ioas.mappings = [m for m in ioas.mappings if not isinstance(m.iova, int) or not first <= m.iova < last]
    ioas.taken = {s for s in ioas.taken if not first <= s * SLOT < last}
    return step


@action(all=0.6, maps=4, account=2, access=1.5)
def ioas_copy(w: World):
    if not (found := mapping(w, dmabuf=False)) or not (target := w.some("ioas", context=found[0].context)):
        return None
    ioas, m = found
    align = max(alignment(target), 1)
    length = whole = maybe_reach(w, ioas, m)
    offset = 0
    if whole > PAGE and w.chance(0.3):
        offset = w.rng.randrange(0, whole // PAGE) * PAGE
        length = min(whole - offset, w.rng.choice([PAGE, PAGE, 2 * PAGE]))
    if length % align:
        length = max(align, length // align * align)
    flags, iova = permission(w, m.flags if w.chance(0.92) else READ | WRITE), 0
    if w.chance(prefers_fixed(target)):
        flags |= FIXED
        iova = choose_fixed(w, target, length, 0 if m.source < 0 else m.source + offset)
    step = w.command(
        "IOAS_COPY",
        ioas.context,
        flags=flags,
        dst=target.id,
        src=ioas.id,
        length=length,
        dst_iova=iova,
        src_iova=m.iova + offset,
    )
    where = iova if flags & FIXED else w.out(step, "dst_iova")
    source = -1 if m.source < 0 else m.source + offset
    ok = fits(target, where, length, max(source, 0))
    target.mappings.append(Mapping(where, length, flags, source, file=m.file, dmabuf=m.dmabuf, fits=ok))
    return step
