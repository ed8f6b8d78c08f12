# SPDX-License-Identifier: Apache-2.0
"""vIOMMUs and what hangs on them: vDEVICEs, event queues, HW queues, regions."""

from __future__ import annotations

import struct

from .actions import action
from .gen_devices import NEST_PARENT
from .layout import DATA, PAGE, SCRATCH, WINDOW
from .world import Hwpt, HwQueue, Vdevice, Veventq, Viommu, World

SELFTEST, SELFTEST_EVENT = 0xDEADBEEF, 0xBEEFBEEF


@action(viommu=2, nested=1, pasid=0.2)
def viommu_alloc(w: World):
    if not (device := w.some("device")) or len(w.all("viommu")) > 2:
        return None
    parents = [h for h in w.all("hwpt") if h.flags & NEST_PARENT and not h.nested and h.context == device.context]
    if not parents:
        return None
    parent = w.rng.choice(parents)
    fields, blobs = {}, []
    length = w.rng.choice([0, 8, 24, 24])
    if length:
        fields = {"len": length, "ptr": SCRATCH + DATA}
        blobs = [(DATA, struct.pack("<IIQQ", w.rng.getrandbits(32), 0, 0, 0)[:length])]
    step = w.command("VIOMMU_ALLOC", device.context, blobs, type=SELFTEST, dev=device.device, hwpt=parent.id, **fields)
    parent.users += 1
    v = w.add(Viommu("viommu", w.out(step, "out_id"), device.context, hwpt=parent, device=device))
    if length == 24:  # each such vIOMMU gets the lowest free offset
        with_region = [x for x in w.all("viommu") if x.region is not None and x.context == device.context]
        taken = {x.region for x in with_region}
        v.region = next(o for o in (PAGE * (1 + 2 * i) for i in range(9)) if o not in taken)
    return v


@action(viommu=3, nested=0.7, pasid=0.2)
def vdevice_alloc(w: World):
    free = [d for d in w.all("device") if not d.vdevice]
    if not free or not (v := w.some("viommu")):
        return None
    device = w.rng.choice(free)
    virt = w.rng.choice([0, 1, 2, 0x99, (1 << 64) - 1])
    if v.context != device.context or virt in v.virt_ids:
        return None
    step = w.command("VDEVICE_ALLOC", v.context, viommu=v.id, dev=device.device, virt=virt)
    device.vdevice = Vdevice("vdevice", w.out(step, "out_id"), v.context, viommu=v, device=device, virt=virt)
    v.users += 1
    v.virt_ids.add(virt)
    return w.add(device.vdevice)


@action(viommu=0.6)
def destroy_vdevice(w: World):
    if not (d := w.some("vdevice")):
        return None
    d.device.vdevice = None
    d.viommu.users -= 1
    d.viommu.virt_ids.discard(d.virt)
    w.end(d)
    return w.command("DESTROY", d.context, id=d.id)


@action(viommu=1.5)
def veventq_alloc(w: World):
    found = [v for v in w.all("viommu") if not v.veventq]
    if not found:
        return None
    v = w.rng.choice(found)
    depth = w.rng.choice([1, 2, 3, 10, 1 << 19])
    step = w.command("VEVENTQ_ALLOC", v.context, viommu=v.id, type=SELFTEST_EVENT, depth=depth)
    v.users += 1
    v.veventq = True
    return w.add(Veventq("veventq", w.out(step, "out_id"), v.context, viommu=v, fd=w.out(step, "out_fd")))


@action(viommu=5)
def trigger_event(w: World):
    found = [d for d in w.all("device") if isinstance(d.pt, Hwpt) and d.pt.viommu and d.vdevice and d.vdevice.virt]
    ready = [d for d in found if d.pt.viommu.veventq]
    device = w.rng.choice(ready) if ready else w.rng.choice(found) if found else w.some("device")
    if not device or (not ready and w.chance(0.6)):
        return None
    return w.command("TRIGGER_VEVENT", device.context, dev=device.device)


@action(viommu=4)
def read_events(w: World):
    if not (q := w.some("veventq", open=True)):
        return None
    w.step("poll", "poll", fd=q.fd, b=1)
    count = w.rng.choice([12, 12, 24, 36, 100, 8, 7, 0, 20])
    at = SCRATCH + DATA if w.chance(0.93) else SCRATCH + w.rng.choice([3 * PAGE, 5 * PAGE - 16, 5 * PAGE - 4])
    return w.step("read", "VEVENTQ_READ", fd=q.fd, a=at, b=count)


@action(viommu=0.3)
def close_veventq(w: World):
    if not (q := w.some("veventq", open=True)):
        return None
    q.open = False
    return w.step("close", "close", fd=q.fd)


@action(viommu=0.4)
def destroy_veventq(w: World):
    if not (q := w.some("veventq", open=False)):
        return None
    q.viommu.users -= 1
    q.viommu.veventq = False
    w.end(q)
    return w.command("DESTROY", q.context, id=q.id)


@action(viommu=0.4)
def destroy_viommu(w: World):
    found = [v for v in w.all("viommu") if not v.users and not v.mapped]
    if not found:
        return None
    v = w.rng.choice(found)
    v.hwpt.users -= 1
    w.end(v)
    return w.command("DESTROY", v.context, id=v.id)


@action(viommu=2)
def hw_queue(w: World):
    found = [(v, m) for v in w.all("viommu") if len(v.queues) < 2 for m in v.hwpt.ioas.mappings if m.flags & 4]
    found = [(v, m) for v, m in found if m.length >= PAGE and m.source % PAGE == 0 and m.source >= 0]
    if not found:
        return None
    v, m = w.rng.choice(found)
    index = len(v.queues)
    length = PAGE if w.chance(0.9) else m.length
    step = w.command("HW_QUEUE_ALLOC", v.context, viommu=v.id, type=SELFTEST, index=index, iova=m.iova, length=length)
    v.users += 1
    v.queues.append(index)
    m.pins += 1
    return w.add(HwQueue("hw_queue", w.out(step, "out_id"), v.context, viommu=v, index=index))


@action(viommu=0.7)
def destroy_hw_queue(w: World):
    found = [q for q in w.all("hw_queue") if q.index == len(q.viommu.queues) - 1 or w.chance(0.05)]
    if not found:
        return None
    q = w.rng.choice(found)
    if q.index == len(q.viommu.queues) - 1:
        q.viommu.queues.pop()
        q.viommu.users -= 1
        w.end(q)
    return w.command("DESTROY", q.context, id=q.id)


@action(viommu=1)
def map_region(w: World):
    found = [v for v in w.all("viommu") if v.region is not None]
    if not found:
        return None
    v = w.rng.choice(found)
    if v.mapped:
        v.mapped = False
        return w.step("munmap", "munmap", a=WINDOW + v.region, b=2 * PAGE)
    v.mapped = True
    prot, flags, length, offset = 3, 0x100011, 2 * PAGE, v.region  # MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_FIXED
    miss = w.rng.random()
    if miss < 0.1:
        flags = 0x100012  # private
    elif miss < 0.2:
        prot = 7
    elif miss < 0.3:
        length = w.rng.choice([PAGE, 3 * PAGE])
    elif miss < 0.4:
        offset += w.rng.choice([PAGE, 2 * PAGE, -PAGE, 1 << 40])
    if miss < 0.4:
        v.mapped = False
    step = w.step("mmap", "mmap", fd=v.context, a=WINDOW + v.region, b=length, c=prot | flags << 8, d=offset)
    if v.mapped:
        w.step("peek", "peek", a=WINDOW + v.region, b=64)
        if w.chance(0.5):
            w.step("fill", "fill", a=WINDOW + v.region, b=32, c=3)
    return step
