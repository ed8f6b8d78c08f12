# SPDX-License-Identifier: Apache-2.0
"""Accesses (the mock's emulated devices), dma-bufs, descriptors, several contexts."""

from __future__ import annotations

from .actions import action
from .gen_ioas import maybe_reach
from .layout import MORE, PAGE, SCRATCH
from .world import Access, Dmabuf, World


@action(all=0.1, access=1.5, maps=0.3, viommu=0.1)
def create_access(w: World):
    if len(w.all("access")) > 2 or not (ioas := w.some("ioas")):
        return None
    pins = w.chance(0.7)
    step = w.command("CREATE_ACCESS", ioas.context, id=ioas.id, flags=int(pins))
    ioas.users += 1
    ioas.pinner |= pins
    return w.add(Access("access", w.out(step, "out_fd"), ioas.context, ioas=ioas, pins=pins))


def accessible(w: World, pins: bool) -> tuple | None:
    found = [(a, m) for a in w.all("access") for m in a.ioas.mappings if not m.dmabuf and (not pins or a.pins)]
    return w.rng.choice(found) if found else None


@action(access=5, all=0.05)
def access_pages(w: World):
    if not (found := accessible(w, True)):
        return None
    a, m = found
    if m.source % PAGE:
        return None
    pages = m.length // PAGE
    first = w.rng.randrange(pages) if pages and w.chance(0.5) else 0
    n = w.rng.choice([1, 1, 2, pages - first])
    length = min(max(n, 1) * PAGE, m.length - first * PAGE) or m.length
    if not first and w.chance(0.3):
        length = maybe_reach(w, a.ioas, m)
    shift = w.rng.choice([2048, 512, 1]) if w.chance(0.08) else 0
    write = w.chance(0.4) and m.flags & 2
    check = m.source + first * PAGE if w.chance(0.5) and m.source >= 0 else 0
    step = w.command(
        "ACCESS_PAGES",
        a.context,
        id=a.id,
        flags=int(bool(write)),
        iova=m.iova + first * PAGE + shift,
        length=max(1, length - shift),
        ptr=check,
    )
    a.items.append((w.out(step, "out_id"), m))
    return step


@action(access=3)
def destroy_pages(w: World):
    found = [a for a in w.all("access") if a.items]
    if not found:
        return None
    a = w.rng.choice(found)
    item = a.items.pop(w.rng.randrange(len(a.items)))
    return w.command("DESTROY_ACCESS_PAGES", a.context, id=a.id, item=item[0])


@action(access=5, files=3, all=0.1)
def access_rw(w: World):
    if not (found := accessible(w, False)):
        return None
    a, m = found
    write = bool(m.flags & 2) and (w.chance(0.5) or not m.flags & 4)
    whole = maybe_reach(w, a.ioas, m)
    length = min(whole, w.rng.choice([1, 8, 100, PAGE, PAGE + 3, 2 * PAGE]))
    offset = w.rng.randrange(whole - length + 1)
    data = bytes(w.rng.getrandbits(8) for _ in range(min(length, 64)))
    step = w.command(
        "ACCESS_RW",
        a.context,
        [(MORE, data)] if write else [],
        id=a.id,
        iova=m.iova + offset,
        length=length,
        ptr=SCRATCH + MORE,
        flags=int(write) | w.rng.choice([0, 0, 4]),
    )
    if write and m.source >= 0:
        w.step("peek", "peek", a=m.source + offset, b=min(length, 128))
    return step


@action(access=1)
def access_replace(w: World):
    if not (a := w.some("access")) or not (ioas := w.some("ioas", context=a.context)):
        return None
    step = w.command("ACCESS_REPLACE_IOAS", a.context, id=a.id, ioas=ioas.id)
    a.ioas.users -= 1
    ioas.users += 1
    ioas.pinner |= a.pins
    if a.ioas is not ioas:
        a.items.clear()
    a.ioas = ioas
    return step


@action(access=0.3, all=0.02)
def close_access(w: World):
    if not (a := w.some("access")):
        return None
    a.alive = False
    a.ioas.users -= 1
    return w.step("close", "close", fd=a.id)


# ---- dma-bufs ----


@action(files=1.5, all=0.02)
def dmabuf_get(w: World):
    if len(w.all("dmabuf")) > 2:
        return None
    pages = w.rng.choice([1, 2, 4, 16])
    step = w.command("DMABUF_GET", w.rng.choice(w.fds), length=pages * PAGE - w.rng.choice([0, 0, 5]), flags=0x80002)
    return w.add(Dmabuf("dmabuf", w.result(step), 0, pages=pages))


@action(files=0.8)
def dmabuf_revoke(w: World):
    if not (d := w.some("dmabuf")):
        return None
    d.revoked = w.chance(0.6)
    return w.command("DMABUF_REVOKE", w.rng.choice(w.fds), fd=d.id, revoked=int(d.revoked))


@action(files=0.2)
def close_dmabuf(w: World):
    if not (d := w.some("dmabuf")):
        return None
    d.alive = False
    return w.step("close", "close", fd=d.id)


# ---- descriptors ----


@action(all=0.02)
def second_context(w: World):
    if len(w.fds) > 2:
        return None
    step = w.step("open", "open")
    w.fds.append(w.result(step))
    return step


@action(all=0.02)
def duplicate(w: World):
    step = w.step("dup", "dup", fd=w.rng.choice(w.fds))
    if w.chance(0.5):
        return w.step("close", "close", fd=w.result(step))
    return step
